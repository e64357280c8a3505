"""The model behind HTTP beside the same model in LoadGen's process: what the way there costs.

Transport alone: a model that does next to nothing, called through the client and in the process,
with tensors as small as can be and as large as YOLO11n's. Whole: LoadGen's SingleStream over the
demo's detector and over YOLO11n, its median latency. The server has the in-process run's backend,
threads and streams, on the same host, so that both share its processors.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.harness import ROOT, SHARED, Bench, Interval, interval, ratio
from proctor_steps.sut import base
from proctor_steps.sut.base import Backend
from proctor_steps.sut.endpoint_backend import Endpoint, Service

_SECONDS = 10.0
_CALLS = 200
_YOLO = SHARED / "yolo11n" / "yolo11n_int8_openvino_model"
# Name -> input and output of the model that does nothing.
_NULL = {
    "8x8 pixels": ((1, 3, 8, 8), (1, 6, 40)),
    "640x640 pixels": ((1, 3, 640, 640), (1, 84, 8400)),
}


def measure(bench: Bench) -> None:
    """Transport alone, then whole runs; the real model where its files are."""
    seconds = bench.seconds or _SECONDS
    with tempfile.TemporaryDirectory(prefix="bench-endpoint-") as folder:
        place = Place(Path(folder))
        for name, (there, back) in _NULL.items():
            _transport(bench, place, name, there, back)
        _whole(bench, place, "digits", "onnxruntime", *place.digits(), seconds)
        if _YOLO.is_dir():
            _whole(bench, place, "yolo", "openvino", *place.yolo(), seconds)
        else:
            bench.note(f"YOLO11n was not measured: there is no {_YOLO}")


def _transport(
    bench: Bench, place: Place, name: str, there: Sequence[int], back: Sequence[int]
) -> None:
    model = place.null(there, back)
    local = base.make("onnxruntime")
    local.load(base.locate(model, local.formats), threads=1)
    batch = np.zeros(there, np.float32)
    with _served(model, "onnxruntime", "--threads", "1") as url:
        remote = Endpoint(
            Service(
                name="bench", url=url, model="model", connect_seconds=5, timeout_seconds=30,
                retries=0, same_host=True,
            )
        )  # fmt: skip
        remote.load(Path("model"), 1)
        found = bench.interleave(
            {
                f"null {name}, in-process": lambda: _calls(local, batch),
                f"null {name}, endpoint": lambda: _calls(remote, batch),
            }
        )
    near, far = found.values()
    size = (batch.nbytes + 4 * int(np.prod(back))) / 1e6
    bench.row(f"transport, {name} ({size:.1f} MB there and back), ms", _more(far, near))


def _whole(
    bench: Bench, place: Place, name: str, backend: str, data: Path, model: Path, seconds: float
) -> None:
    common = ["--benchmark", name, "--scenario", "SingleStream", "--mode", "performance"]
    common += ["--performance-seconds", str(seconds), "--in", f"dataset={data}"]
    local = ["--backend", backend, "--in", f"model={model}"]
    with _served(model, backend) as url:
        remote = ["--sut", "endpoint", "--service-at", f"bench={url}"]
        found = bench.interleave(
            {
                f"{name}, in-process": lambda: place.median(*common, *local),
                f"{name}, endpoint": lambda: place.median(*common, *remote),
            }
        )
    near, far = found.values()
    bench.row(f"{name} ({backend}), in-process, median ms", interval(near))
    bench.row(f"{name} ({backend}), endpoint, median ms", interval(far))
    bench.row("  more per query, ms", _more(far, near))
    bench.row("  endpoint / in-process", ratio(far, near))


def _more(far: Sequence[float], near: Sequence[float]) -> Interval:
    return interval([a - b for a, b in zip(far, near, strict=True)])


def _calls(backend: Backend, batch: np.ndarray) -> float:
    """Median milliseconds of a call."""
    taken = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        backend.infer(batch)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e3


class Place:
    """Datasets and models in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def null(self, there: Sequence[int], back: Sequence[int]) -> Path:
        """A model that gives the first value it gets, in the shape wanted."""
        folder = self.folder / f"null-{there[-1]}"
        folder.mkdir()
        constants = {"zero": [0], "flat": [-1], "shape": list(back)}
        nodes = [
            helper.make_node("Reshape", ["images", "flat"], ["all"]),
            helper.make_node("Gather", ["all", "zero"], ["one"]),
            helper.make_node("Expand", ["one", "shape"], ["output0"]),
        ]
        images, output = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in (("images", there), ("output0", back))
        )
        weights = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items()]
        graph = helper.make_graph(nodes, "null", [images], [output], weights)
        opset = [helper.make_opsetid("", 17)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.save(made, str(folder / "null.onnx"))
        return folder

    def digits(self) -> tuple[Path, Path]:
        """The demo's scenes and detector."""
        images = self._made("dataset", "fetch", "--uri", "embedded:digits/scenes.zip")
        boxes = self._made("dataset", "fetch", "--uri", "embedded:digits/annotations.json")
        model = self._made("model", "fetch", "--uri", "embedded:digits/detector.onnx")
        return self._filtered(images, boxes), model

    def yolo(self) -> tuple[Path, Path]:
        """The 70 images that the licence rule keeps, YOLO11n INT8."""
        coco, boxes = SHARED / "coco", self.folder / "coco-annotations"
        boxes.mkdir()
        shutil.copy(coco / "annotations" / "instances_val2017.json", boxes)
        model = self.folder / "yolo11n"
        shutil.copytree(_YOLO, model)
        (model / "model.json").write_text('{"format": "openvino", "file": "yolo11n.xml"}')
        return self._filtered(coco / "val2017", boxes), model

    def median(self, *given: str) -> float:
        """``loadgen run``; its median latency in milliseconds."""
        logs = self.folder / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        step("loadgen", "run", *given, "--out", f"logs={logs}")
        run = json.loads((logs / "run.json").read_text())
        return float(run["latency_ns"]["p50"]) / 1e6

    def _filtered(self, images: Path, boxes: Path) -> Path:
        given = ["--in", f"images={images}", "--in", f"annotations={boxes}"]
        return self._made("dataset", "filter-coco", *given)

    def _made(self, *words: str) -> Path:
        out = Path(tempfile.mkdtemp(dir=self.folder))
        step(*words, "--out", f"{words[0]}={out}")
        return out


def step(*words: str) -> None:
    """A stage by hand, in a process of its own.

    Raises:
        RuntimeError: it failed; the end of what it said.
    """
    command = [sys.executable, "-m", "proctor_steps", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:2])} failed:\n{done.stderr[-2000:]}")


@contextmanager
def _served(model: Path, backend: str, *given: str) -> Iterator[str]:
    """``sut serve`` on a free port; its URL."""
    command = [sys.executable, "-u", "-m", "proctor_steps", "sut", "serve", "--backend", backend]
    command += ["--port", "0", "--in", f"model={model}", *given]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        line = next((x for x in server.stdout if x.startswith("serving ")), "")
        url = line.partition(" at ")[2].partition("/v2")[0]
        if not url:
            raise RuntimeError(f"the server of {model} did not start")
        yield url
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait()
