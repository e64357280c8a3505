"""``python -m benchmarks.fake_launcher HOME SPEC``: ``proctor up`` whose steps do nothing.

Steps run on the fake runtime, and all that stands around them is real. A folder ``dags`` beside the
home is Airflow's DAG folder instead of the shipped one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from proctor.cli import main
from proctor.shipped import shipped
from proctor.site import settings


def command(home: Path, spec: Path) -> list[str]:
    """What starts it."""
    return [sys.executable, "-m", "benchmarks.fake_launcher", str(home), str(spec)]


if __name__ == "__main__":
    home, *specs = sys.argv[1:]
    dags = Path(home).parent / "dags"
    if dags.is_dir():
        settings.shipped = lambda name: dags if name == "dags" else shipped(name)  # type: ignore[attr-defined]
    sys.argv = ["proctor", "up", *specs, "--home", home, "--runtime", "fake"]
    main()
