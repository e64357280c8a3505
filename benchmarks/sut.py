"""YOLO11n INT8 through LoadGen beside OpenVINO's own benchmark_app and beside a plain loop.

Ours is the whole stage ``loadgen run`` with its defaults: batch, inference, suppression and
payload are timed, reading and letterboxing are not (MLPerf's query sample library). benchmark_app
times inference alone, on the same letterboxed images as float32, set once per request. The plain
loop reads, letterboxes, infers and suppresses one image after the other.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, SHARED, Bench, NotHere, interval, ratio

_SECONDS = 15.0
_IMAGES = 8
_YOLO = SHARED / "yolo11n" / "yolo11n_int8_openvino_model"
_OFFLINE, _LOOP, _STREAM = 0.80, 1.5, 1.25


def measure(bench: Bench) -> None:
    """Offline and SingleStream, five cases in turn."""
    if not _YOLO.is_dir():
        raise NotHere(f"there is no {_YOLO}")
    seconds = bench.seconds or _SECONDS
    with tempfile.TemporaryDirectory(prefix="bench-sut-") as folder:
        place = _Place(Path(folder))
        place.prepare()
        found = bench.interleave(
            {
                "offline": lambda: place.loadgen("Offline", seconds),
                "throughput": lambda: place.app("throughput", seconds),
                "loop": lambda: place.loop(seconds),
                "stream": lambda: place.loadgen("SingleStream", seconds),
                "latency": lambda: place.app("latency", seconds),
            }
        )
        _rows(bench, found, place)


def _rows(bench: Bench, found: dict[str, list[float]], place: _Place) -> None:
    bench.row("Offline, images/s", interval(found["offline"]))
    bench.row("benchmark_app -hint throughput, images/s", interval(found["throughput"]))
    against = ratio(found["offline"], found["throughput"])
    wanted = f">= {_OFFLINE} (goal 0.90)"
    bench.row("  ours / benchmark_app", against, wanted, against.median >= _OFFLINE)
    bench.row("plain loop, images/s", interval(found["loop"]))
    against = ratio(found["offline"], found["loop"])
    bench.row("  ours / plain loop", against, f">= {_LOOP}", against.median >= _LOOP)
    bench.row("SingleStream, mean ms", interval(found["stream"]))
    bench.row("benchmark_app -hint latency, median ms", interval(found["latency"]))
    bench.row("suppression and payload, ms", interval(place.nms))
    floor = [a + b for a, b in zip(found["latency"], place.nms, strict=True)]
    against = ratio(found["stream"], floor)
    bench.row("  ours / (both)", against, f"<= {_STREAM}", against.median <= _STREAM)
    bench.row("peak resident memory Offline, MiB", place.peak_mib)
    bench.result["settings"] = place.settings
    for name, said in place.settings.items():
        bench.note(f"{name}: {', '.join(f'{key} {value}' for key, value in said.items())}")


class _Place:
    """Dataset, model and inputs in a temporary folder, and each case as one process there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset, self.model, self.inputs = (folder / n for n in ("dataset", "model", "inputs"))
        self.nms: list[float] = []
        self.peak_mib = 0.0
        self.settings: dict[str, dict[str, Any]] = {}

    def prepare(self) -> None:
        """The 70 images, the model with its model.json, some inputs for benchmark_app."""
        for path in (self.folder / "annotations", self.dataset, self.inputs):
            path.mkdir()
        coco = SHARED / "coco"
        shutil.copy(coco / "annotations" / "instances_val2017.json", self.folder / "annotations")
        shutil.copytree(_YOLO, self.model)
        (self.model / "model.json").write_text('{"format": "openvino", "file": "yolo11n.xml"}')
        given = ["--in", f"images={coco / 'val2017'}", "--in"]
        given += [f"annotations={self.folder / 'annotations'}", "--out", f"dataset={self.dataset}"]
        self._step("dataset", "filter-coco", *given)
        _, task = _bound(self.dataset, self.model)
        for index in range(_IMAGES):
            sample = task.preprocess(index, task.load(index))
            np.save(self.inputs / f"{index}.npy", sample[np.newaxis])

    def loadgen(self, scenario: str, seconds: float) -> float:
        """Our stage; images/s, or the mean latency in ms."""
        logs = self.folder / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        given = ["--benchmark", "yolo", "--backend", "openvino", "--mode", "performance"]
        given += ["--scenario", scenario, "--performance-seconds", str(seconds)]
        given += ["--in", f"dataset={self.dataset}", "--in", f"model={self.model}"]
        self._step("loadgen", "run", *given, "--out", f"logs={logs}")
        run = json.loads((logs / "run.json").read_text())
        sut = run["sut"]
        keys = ("batch", "workers", "threads", "streams")
        self.settings[scenario] = {key: sut.get(key) for key in keys} | sut.get("config", {})
        if scenario != "Offline":
            return float(run["latency_ns"]["mean"] / 1e6)
        self.peak_mib = max(self.peak_mib, sut["peak_rss_bytes"] / 2**20)
        return float(run["metric"]["value"])

    def app(self, hint: str, seconds: float) -> float:
        """benchmark_app; images/s for ``throughput``, the median latency in ms for ``latency``."""
        command = [str(Path(sys.executable).with_name("benchmark_app"))]
        command += ["-m", str(self.model / "yolo11n.xml"), "-d", "CPU", "-hint", hint]
        command += ["-t", str(max(1, round(seconds))), "-i", str(self.inputs), "-ip", "f32"]
        command += ["-report_type", "no_counters", "-json_stats", "-report_folder"]
        said = _output([*command, str(self.folder)])
        report = json.loads((self.folder / "benchmark_report.json").read_text())
        names = "NUM_STREAMS|INFERENCE_NUM_THREADS|INFERENCE_PRECISION_HINT"
        self.settings[f"benchmark_app {hint}"] = {
            "nireq": report["configuration_setup"]["number of parallel infer requests"],
            **dict(re.findall(rf"({names}): (.+)", said)),
        }
        results = report["execution_results"]
        return float(results["throughput" if hint == "throughput" else "latency (ms)"])

    def loop(self, seconds: float) -> float:
        """The plain loop; images/s. Keeps the median time of suppression and payload."""
        command = [sys.executable, "-m", "benchmarks.sut", str(self.dataset), str(self.model)]
        said = json.loads(_output([*command, str(seconds)]))
        self.nms.append(said["nms_ms"])
        return float(said["rate"])

    def _step(self, *words: str) -> None:
        _output([sys.executable, "-m", "proctor_steps", *words])


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def _bound(dataset: Path, model: Path) -> tuple[Callable[[Any], Any], Any]:
    """The model as OpenVINO compiles it when nobody says anything, and the task."""
    import openvino

    from proctor_steps import benchmarks
    from proctor_steps.sut import base

    backend = base.make("openvino")
    backend.load(model / "yolo11n.xml", threads=1)
    task = benchmarks.get("yolo").bind(dataset, backend.signature())
    return openvino.compile_model(str(model / "yolo11n.xml"), "CPU"), task


def _loop(dataset: Path, model: Path, seconds: float) -> dict[str, float]:
    infer, task = _bound(dataset, model)
    nms: list[float] = []
    infer(task.blank()[np.newaxis])
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        index = len(nms) % task.count
        sample = task.preprocess(index, task.load(index))
        output = infer(sample[np.newaxis])[0]
        inferred = time.perf_counter()
        task.payload(index, task.postprocess([output], [index])[0])
        nms.append(time.perf_counter() - inferred)
    rate = len(nms) / (time.perf_counter() - start)
    return {"rate": rate, "nms_ms": 1e3 * float(np.median(nms))}


if __name__ == "__main__":
    print(json.dumps(_loop(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))))
