"""How often a run at the rate that load tuning found is VALID, and at 1.15 times the rate.

The demo's detector with a limit of 100 ms, as Server run of the open division (tuning_yolo: a
larger model). The rate is found by ``loadgen tune``; the runs that try it out are others, each in a
process of its own, those at the rate and those above it in turn. Where too many above it are VALID,
the curve over the rate follows. ``--seconds``: the length that is tuned for and of each run (at
low rates it is longer, as it has 600 queries at least), ``--runs``: runs at each rate. An hour at
most where the rate is above ten queries a second, two where it is four.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks.endpoint import Place, step
from benchmarks.harness import Bench
from proctor_steps.loadgen import log

_SECONDS = 60.0
# Seconds of the whole search, in lengths of a run, and at least.
_BUDGET, _LEAST_BUDGET = 15, 300
_ABOVE = 1.15
_CURVE = (1.3, 1.6, 2.0)


def measure(bench: Bench) -> None:
    """Tune and try out."""
    with tempfile.TemporaryDirectory(prefix="bench-tuning-") as folder:
        place = Place(Path(folder))
        tried(bench, "digits", "onnxruntime", 100, *place.digits(), place.folder)


def tried(
    bench: Bench, name: str, backend: str, limit_ms: float, data: Path, model: Path, folder: Path
) -> None:
    """Tune one model's Server scenario and try out the rate; the files go to the folder."""
    seconds = bench.seconds or _SECONDS
    _tried(bench, _Case(name, backend, limit_ms, data, model, seconds, folder))
    bench.note(
        f"runs of {seconds:g} s, {bench.runs} at each rate; the limit is the runs' own, as the "
        "round has no Server scenario for it; intervals: exact binomial, 95 %"
    )


class _Case:
    """One model: tuned once, run at rates."""

    def __init__(
        self,
        name: str,
        backend: str,
        limit_ms: float,
        data: Path,
        model: Path,
        seconds: float,
        folder: Path,
    ) -> None:
        self.name, self.limit_ms, self.seconds, self._folder = name, limit_ms, seconds, folder
        self._common = ["--benchmark", name, "--backend", backend, "--scenario", "Server"]
        self._common += ["--server-target-latency-ms", str(limit_ms)]
        self._common += ["--performance-seconds", str(seconds)]
        self._common += ["--in", f"dataset={data}", "--in", f"model={model}"]
        self._tuning = folder / f"tuning-{name}"
        self.runs: list[dict[str, object]] = []

    def tune(self) -> dict[str, Any]:
        """``tuning.json``."""
        budget = ["--budget-seconds", str(max(_LEAST_BUDGET, _BUDGET * self.seconds))]
        step("loadgen", "tune", *self._common, *budget, "--out", f"tuning={self._tuning}")
        found: dict[str, Any] = json.loads((self._tuning / "tuning.json").read_text())
        return found

    def valid(self, qps: float | None = None) -> float:
        """One run, at the tuned rate where none is given: 1 if LoadGen calls it VALID, else 0."""
        logs = self._folder / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        rate = ["--target-qps", str(qps)] if qps else ["--in", f"tuning={self._tuning}"]
        step(
            "loadgen", "run", "--mode", "performance", *self._common, *rate, "--out", f"logs={logs}"
        )
        run = json.loads((logs / "run.json").read_text())
        told = {key: run[key] for key in ("valid", "queries", "duration_s")}
        told |= {"qps": run["settings"]["effective"]["target_qps"], "late": log.read(logs).late}
        told |= {"p99_ms": run["latency_ns"]["p99"] / 1e6, "service_ms": run["sut"]["service_ms"]}
        told |= {"disturbed": run["disturbed"], "others": run["machine"]["others"]}
        self.runs.append(told)
        return float(run["valid"])


def _tried(bench: Bench, case: _Case) -> None:
    try:
        found = case.tune()
    except RuntimeError as error:
        bench.row(f"{case.name}, no rate found", str(error).strip().splitlines()[-1])
        return
    bench.result.setdefault("tunings", {})[case.name] = found
    bench.result["tried"] = case.runs
    qps = float(found["target_qps"])
    bench.row(f"{case.name}, limit {case.limit_ms:g} ms: rate found, queries/s", qps)
    told = f"{found['took_s']:.0f} ({len(found['probes'])} probes; {found['ended']})"
    bench.row("  seconds spent tuning", told)
    bench.say(f"{case.name}: {qps:.4g} queries/s, found in {told}")
    bench.row("  the speed varied by, margin", f"{found['noise']:.2%}, {found['margin']:.2%}")
    bench.row("  VALID with a probability of, as it told", found["chance"])
    values = bench.interleave(
        {
            f"{case.name}, at the rate": case.valid,
            f"{case.name}, {_ABOVE} times": partial(case.valid, _ABOVE * qps),
        }
    )
    at, above = ([int(v) for v in found_] for found_ in values.values())
    disturbed = sum(bool(run["disturbed"]) for run in case.runs)
    bench.row("  of all these, disturbed by something else", f"{disturbed} of {len(case.runs)}")
    bench.row("  VALID at the rate", _share(at), ">= 9 of 10", sum(at) >= 0.9 * len(at))
    few = sum(above) <= 0.1 * len(above)
    bench.row(f"  VALID at {_ABOVE} times the rate", _share(above), "<= 1 of 10, or the curve", few)
    if few:
        return
    curve = {f"{case.name}, {times} times": partial(case.valid, times * qps) for times in _CURVE}
    for name, seen in bench.interleave(curve).items():
        bench.row(f"  VALID at {name.partition(', ')[2]} the rate", _share([int(v) for v in seen]))


def _share(valid: list[int]) -> str:
    ends = binomtest(sum(valid), len(valid)).proportion_ci(0.95, method="exact")
    return f"{sum(valid)} of {len(valid)} [{ends.low:.2f}, {ends.high:.2f}]"
