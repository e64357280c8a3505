"""``python -m benchmarks [NAME...] [--runs N] [--seconds S] [--out DIR] [--with NAME=DIR]``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.harness import Bench, NotHere

# Name -> runs by default. Each is a module with ``measure(bench)``; its docstring is the title.
BENCHMARKS = {
    "sut": 7,
    "null_model": 7,
    "scoring": 5,
    "compile": 7,
    "chain": 5,
    "quiet": 1,
    "marks": 24,
    "disturbance": 10,
    "drift": 0,
    "keeping": 5,
    "endpoint": 5,
    "hashing": 5,
    "subjects": 3,
    "submission_check": 5,
    "tuning": 10,
    "tuning_yolo": 10,
    "many_subjects": 1,
}


def main() -> int:
    """Run the benchmarks that were named; list them where none was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="all, or of " + ", ".join(BENCHMARKS)
    )
    parser.add_argument("--runs", type=int, default=0, help="rounds of each; 0: each one's own")
    parser.add_argument(
        "--seconds", type=float, default=0, help="length of a run, where it has one"
    )
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"), help="for the JSON")
    parser.add_argument("--with", dest="checkouts", action="append", default=[], metavar="NAME=DIR")
    asked = parser.parse_args()
    names = list(BENCHMARKS) if asked.names == ["all"] else asked.names
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if not names:
        for name in BENCHMARKS:
            print(f"{name:12} {_title(name)}")
        return 0
    checkouts = dict(pair.split("=", 1) for pair in asked.checkouts)
    missing = 0
    for name in names:
        bench = Bench(
            name,
            asked.runs or BENCHMARKS[name],
            asked.out,
            asked.seconds,
            {key: Path(value) for key, value in checkouts.items()},
        )
        try:
            import_module(f"benchmarks.{name}").measure(bench)
        except NotHere as reason:
            print(f"{name}: not measured: {reason}", file=sys.stderr)
            missing += 1
            continue
        except KeyboardInterrupt:
            bench.note("ended by hand before all was measured")
            bench.finish(_title(name))
            return 130
        bench.finish(_title(name))
    return 1 if missing else 0


def _title(name: str) -> str:
    return (import_module(f"benchmarks.{name}").__doc__ or name).splitlines()[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
