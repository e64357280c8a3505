"""The table of faults: ``python tests/faults/table.py [MOMENTS] [--seed N] [--only NAME...]``.

Each fault strikes at so many random moments of runs of table.yaml; then the same command is given
until the run has ended. Prints the table, one line of raw output for each fault before it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("", "faults", "e2e")]

from scenarios import SCENARIOS, Found, as_json  # noqa: E402

from proctor.runtime import images  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("moments", type=int, nargs="?", default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", nargs="*", default=list(SCENARIOS), metavar="NAME")
    asked = parser.parse_args()
    images.build(["steps"])
    print(f"{asked.moments} moments for each fault, seed {asked.seed}")
    rows, bad = [], 0
    for name in asked.only:
        began = time.monotonic()
        try:
            found = SCENARIOS[name](random.Random(f"{asked.seed} {name}"), asked.moments)
        except Exception:
            found = [Found(wrong=[traceback.format_exc()])]
        seconds = time.monotonic() - began
        print(f"{name}: {as_json(found)}", flush=True)
        good = sum(not each.wrong for each in found)
        bad += len(found) - good
        strokes, starts = (sum(getattr(f, n) for f in found) for n in ("strokes", "starts"))
        cells = [name, strokes, len(found), starts, f"{good} of {len(found)}", f"{seconds:.0f}"]
        rows.append(_row(cells))
    head = ["Fault", "strokes", "runs", "starts of the command", "all well", "s"]
    print("\n".join(["", _row(head), _row(["---"] * len(head)), *rows]))
    return 1 if bad else 0


def _row(cells: list[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
