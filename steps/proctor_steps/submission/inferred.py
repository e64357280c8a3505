"""Scenarios that an edge system infers from another one instead of measuring them.

As the rules want it (inference_rules.adoc, edge benchmarks), an inferred result is a copy of the
folder that it is inferred from, under the inferred scenario's name; the figure follows from the
logs: MultiStream is 8 times the single-stream latency, Offline the rate of one stream.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proctor_steps.stage import DataError

README = "README.md"


def add(folder: Path, inferred: Mapping[Any, str]) -> None:
    """Make the folders of the inferred scenarios in ``folder``, the benchmark's of one system.

    Args:
        folder: holds a folder for each scenario that was measured.
        inferred: scenario -> the measured one that it is inferred from.

    Raises:
        DataError: a scenario was measured as well, or the one to infer from was not packaged.
    """
    for scenario, source in inferred.items():
        if (folder / scenario).exists():
            raise DataError(f"{scenario} was measured: it is not to be inferred from {source}")
        if not (folder / source).is_dir():
            raise DataError(f"{scenario} cannot be inferred: {source} is not in the package")
    for scenario, source in inferred.items():
        shutil.copytree(folder / source, folder / scenario)
        readme = folder / scenario / README
        text = readme.read_text(encoding="utf-8")
        note = f"{scenario} is inferred from {source}: this folder is a copy of that one.\n\n"
        readme.write_text(note + text, encoding="utf-8")
