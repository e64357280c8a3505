"""What records, metadata and comparison cost a run, as a share of it.

The pipeline ``revalidation`` is run once, its steps as processes. Then what Proctor did beside the
measuring is done again by itself, ``runs`` times, on what that run left: its record written line by
line, its outputs' digests made, its dataset described, its provenance told, its figures compared.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from benchmarks.cost import cost
from benchmarks.harness import Bench, interval, timed
from benchmarks.site import folder
from proctor.airflow.past import told
from proctor.airflow.provenance import provenance
from proctor.records.model import Line
from proctor.records.store import RunRecord
from proctor.runtime.artifacts import LocalArtifacts
from proctor.site.home import Home
from proctor_steps.accuracy import coco_eval, score
from proctor_steps.contract import tree_digest
from proctor_steps.dataset import croissant, filter_coco
from proctor_steps.stage import Stage
from proctor_steps.stage import main as run_stage

PIPELINE = "revalidation"
SECONDS = 20.0
ROUND_SECONDS = 600.0  # of a performance run that a round asks for


def measure(bench: Bench) -> None:
    """One run; then its upkeep, again and again."""
    seconds = bench.seconds or SECONDS
    with folder() as scratch:
        home = Home(scratch / "home")
        bench.say(f"one run of {PIPELINE}, {seconds:g} s for each performance run")
        _run(home, seconds)
        (record,) = home.records.runs()
        done = Done(home, record, scratch)
        bench.say("what Proctor did beside it, again")
        values = {words: [again() for _ in range(bench.runs)] for words, again in _parts(done)}
        values["judge the drift: the whole step"] = done.seconds("judge")
    bench.result |= {"values": values, "wall": done.wall, "record_lines": len(done.lines)}
    measured = len(done.seconds("performance"))
    long = done.wall + (ROUND_SECONDS - seconds) * measured
    takes = {words: interval(found).median for words, found in values.items()}
    for words, took in {**takes, "all of it": sum(takes.values())}.items():
        shares = f"{took / done.wall:.2%} of the run, {took / long:.3%} of a long one"
        bench.row(words, f"{took:.3f} s, {shares}")
    bench.note(
        f"The run took {done.wall:.0f} s, with {measured} performance runs of {seconds:g} s. A "
        f"long one is the same with {ROUND_SECONDS:g} s each, reckoned: {long:.0f} s. The look at "
        "the machine before and after each performance run is a figure of `marks`."
    )


def _run(home: Home, seconds: float) -> None:
    home.create()
    words = ["run", PIPELINE, "--home", str(home.path), "--runtime", "process", "--yes"]
    sets = ["--set", f"performance_seconds={seconds:g}"]
    cost([sys.executable, "-c", "from proctor.cli import main; main()", *words, *sets])


@dataclass(frozen=True)
class Done:
    """A run that has ended, in its home."""

    home: Home
    record: RunRecord
    scratch: Path

    @cached_property
    def lines(self) -> list[Line]:
        """Every line of the record."""
        return self.record.lines()

    @property
    def wall(self) -> float:
        """Seconds from the first line to the last."""
        return _at(self.lines[-1].at) - _at(self.lines[0].at)

    def results(self, step: str) -> list[Line]:
        """The results of a step, of all its scenarios."""
        found = [line for line in self.lines if line.kind == "result"]
        return [line for line in found if line.step.partition(".")[0] == step]

    def seconds(self, step: str) -> list[float]:
        """What each took, from its start to its result."""
        return [_at(r.at) - _at(str(r.data["started_at"])) for r in self.results(step)]

    def output(self, step: str, name: str) -> Path:
        """Where an output of a step lies."""
        (line, *_) = self.results(step)
        return self._paths(line)[name]

    def outputs(self) -> list[Path]:
        """Every output of the run."""
        return [p for r in self.lines if r.kind == "result" for p in self._paths(r).values()]

    def _paths(self, line: Line) -> dict[str, Path]:
        store, outputs = LocalArtifacts(self.home.path), cast("Any", line.data.get("outputs") or {})
        return {name: store.path(told["uri"]) for name, told in outputs.items()}


def _parts(done: Done) -> Iterator[tuple[str, Callable[[], float]]]:
    yield "write the record: every line, with fsync", lambda: _record(done)
    yield (
        "digest all outputs",
        lambda: timed(lambda: [tree_digest(path) for path in done.outputs()]),
    )
    yield "describe the dataset (Croissant)", lambda: _croissant(done)
    yield "interval of the accuracy, of all scenarios", lambda: _interval(done)
    yield "make the history for the judge", lambda: timed(lambda: _history(done))
    yield (
        "make the provenance document",
        lambda: timed(lambda: json.dumps(provenance(done.home, done.record))),
    )


def _record(done: Done) -> float:
    name = f"again-{time.monotonic_ns()}"
    again = done.home.records.run("again", name)

    def write() -> None:
        for line in done.lines:
            again.append(line.kind, step=line.step, identity=line.identity, data=line.data)

    return timed(write)


def _croissant(done: Done) -> float:
    """As a part of the step that filters the dataset."""
    inputs = {"images": "fetch-images", "annotations": "fetch-annotations"}
    words = [f"{name}={done.output(step, 'dataset')}" for name, step in inputs.items()]
    return _within(
        filter_coco.STAGE, done, words, "dataset", {"purpose": "research"}, (croissant, "write")
    )


def _interval(done: Done) -> float:
    """As a part of the step that scores; each scenario has as many samples."""
    logs, dataset = done.output("accuracy", "logs"), done.output("filter", "dataset")
    words = [f"logs={logs}", f"dataset={dataset}"]
    one = _within(
        score.STAGE, done, words, "score", {"benchmark": "digits"}, (coco_eval, "interval")
    )
    return one * len(done.results("score"))


def _history(done: Done) -> bytes:
    plan = done.home.records.plan(done.lines[0].plan_digest)
    return told(done.home, done.record, plan.step("judge"), 99)


def _within(
    stage: Stage[Any],
    done: Done,
    inputs: Sequence[str],
    output: str,
    params: Mapping[str, str],
    part: tuple[Any, str],
) -> float:
    """Seconds that a function takes while a stage is done again by hand."""
    module, name = part
    real, took = getattr(module, name), [0.0]

    def clocked(*given: Any, **more: Any) -> Any:
        start = time.perf_counter()
        try:
            return real(*given, **more)
        finally:
            took[0] += time.perf_counter() - start

    place = done.scratch / f"again-{time.monotonic_ns()}"
    options = [word for each in inputs for word in ("--in", each)] + ["--out", f"{output}={place}"]
    options += [word for key, value in params.items() for word in (f"--{key}", value)]
    setattr(module, name, clocked)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = run_stage({stage.name: lambda: stage}, [*stage.name.split(), *options])
    finally:
        setattr(module, name, real)
        shutil.rmtree(place, ignore_errors=True)
    if code:
        raise RuntimeError(f"{stage.name} ended with {code}")
    return took[0]


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
