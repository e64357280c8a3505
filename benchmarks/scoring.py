"""Scoring 450,000 boxes on 5,000 images, beside mlcommons/inference's accuracy-coco.py.

Ours is the whole step ``accuracy score``, theirs the whole script, each as a process with the same
Python and pycocotools. ``--with inference=DIR`` names a checkout of theirs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.cost import Cost, cost
from benchmarks.harness import Bench, NotHere, interval, ratio

IMAGES, EACH = 5000, 90
SCRIPT = "vision/classification_and_detection/tools/accuracy-coco.py"
# The script prints three decimals of a per cent; this has pycocotools say all of them as well.
_SAY_ALL = """
import runpy, sys
from pycocotools.cocoeval import COCOeval
short = COCOeval.summarize
def summarize(self):
    short(self)
    print("exactly", repr(float(self.stats[0])))
COCOeval.summarize = summarize
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def measure(bench: Bench) -> None:
    """Time, peak memory and mAP of both, in turn."""
    script = bench.checkout("inference").resolve() / SCRIPT
    if not script.is_file():
        raise NotHere(f"there is no {script}; name a checkout of mlcommons/inference")
    with tempfile.TemporaryDirectory(prefix="proctor-scoring-") as name:
        folder = Path(name)
        cost([sys.executable, "-m", "benchmarks.scoring_data", folder, str(IMAGES), str(EACH)])
        bench.say(f"{IMAGES} images, {IMAGES * EACH} boxes")
        costs: dict[str, list[Cost]] = {"ours": [], "theirs": []}
        found: dict[str, float] = {}

        def ours() -> float:
            done, found["ours"] = _ours(folder, len(costs["ours"]))
            costs["ours"].append(done)
            return done.seconds

        def theirs() -> float:
            done, found["theirs"] = _theirs(folder, script)
            costs["theirs"].append(done)
            return done.seconds

        bench.interleave({"ours": ours, "theirs": theirs})
    _tell(bench, costs, found)


def _ours(folder: Path, number: int) -> tuple[Cost, float]:
    out = folder / f"score-{number}"
    mounts = [f"logs={folder}/logs", f"dataset={folder}/dataset"]
    done = cost(
        [sys.executable, "-m", "proctor_steps", "accuracy", "score", "--benchmark", "yolo"]
        + [word for mount in mounts for word in ("--in", mount)]
        + ["--out", f"score={out}"]
    )
    return done, json.loads((out / "accuracy.json").read_text())["value"]


def _theirs(folder: Path, script: Path) -> tuple[Cost, float]:
    log = folder / "logs" / "mlperf_log_accuracy.json"
    options: list[str | Path] = ["--mlperf-accuracy-file", log, "--coco-dir", folder / "dataset"]
    options += ["--output-file", folder / "results.json"]
    done = cost([sys.executable, "-c", _SAY_ALL, script, *options])
    said = next(line for line in done.out.splitlines() if line.startswith("exactly "))
    return done, float(said.split()[1])


def _tell(bench: Bench, costs: dict[str, list[Cost]], found: dict[str, float]) -> None:
    for what, unit in (("seconds", "s"), ("cpu", "CPU s"), ("memory", "MiB peak")):
        each = {name: [getattr(c, what) for c in done] for name, done in costs.items()}
        for name, values in each.items():
            bench.row(f"{name}, {unit}", interval(values))
        both = ratio(each["ours"], each["theirs"])
        if what == "cpu":
            bench.row("ours / theirs, CPU", both)
        else:
            label = {"seconds": "time", "memory": "peak memory"}[what]
            bench.row(f"ours / theirs, {label}", both, "at most 0.5", both.median <= 0.5)
    for name, value in found.items():
        bench.row(f"{name}, mAP", f"{value:.12f}")
    apart = abs(found["ours"] - found["theirs"])
    bench.row("mAP, difference", apart, "at most 1e-6", apart <= 1e-6)
    bench.note(
        "annotations and boxes are made up, as frequent as COCO val2017's; LoadGen wrote the log"
    )
    bench.note(
        "theirs evaluates three more area ranges and two more limits, which no round asks for"
    )
