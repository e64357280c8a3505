"""``python -m benchmarks.mapped_launcher HOME SPEC...``: ``proctor up`` with one more DAG file.

The folder ``dags`` beside the home is Airflow's DAG folder instead of the shipped one. Steps run on
the fake runtime: they do nothing, and all that stands around them is real.
"""

from __future__ import annotations

import sys
from pathlib import Path

from proctor.cli import main
from proctor.shipped import shipped
from proctor.site import settings

if __name__ == "__main__":
    home, *specs = sys.argv[1:]
    dags = Path(home).parent / "dags"
    settings.shipped = lambda name: dags if name == "dags" else shipped(name)  # type: ignore[attr-defined]
    sys.argv = ["proctor", "up", *specs, "--home", home, "--runtime", "fake"]
    main()
