"""Models that are none, of another shape, damaged, or that answer with what is no number."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import hostile_data as data
import numpy as np
import pytest
from hostile_kit import DATA, Programs
from onnx import TensorProto

from proctor_steps.model.formats import describe
from proctor_steps.stage import DataError

NAN, INF = float("nan"), float("inf")
_BOX_OF_NAN = np.full((1, 6, 12), 0.5, np.float32)
_BOX_OF_NAN[:, 0] = NAN

# what data.model is told, and what is said when LoadGen is to run it
BAD = {
    "NaN scores": ({"output": NAN}, "NaN outputs: the model's scores"),
    "infinite scores": ({"output": INF}, "NaN outputs: the model's scores"),
    "NaN coordinates": ({"output": _BOX_OF_NAN}, "NaN outputs: the model's coordinates"),
    "a class too many": ({"shape": (1, 7, 12)}, "wanted is (1, 6, candidates)"),
    "no candidates' dimension": ({"shape": (1, 6)}, "wanted is (1, 6, candidates)"),
    "whole numbers": ({"dtype": np.int64, "output": 1}, "the model's output is int64"),
    "float16 taken": ({"taken_type": TensorProto.FLOAT16}, "is float16; wanted is float32"),
    "grey taken": ({"taken": (1, 1, 32, 32)}, "is 1x1x32x32; wanted is Nx3xHxW"),
    "no pictures taken": ({"taken": (1, 8)}, "wanted is Nx3xHxW"),
    "a huge input": ({"taken": (1, 3, 100_000, 100_000)}, "export the model with a smaller input"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_model_that_no_detector_is(programs: Programs, good_dataset: Path, name: str) -> None:
    how, phrase = BAD[name]
    made = data.model(programs.root / "model", **how)  # type: ignore[arg-type]
    inputs = {"dataset": good_dataset, "model": made}
    programs.stage("loadgen run", data.OFFLINE, inputs).refuses(phrase, code=DATA)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _text(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>")


FILES = {
    "cut off": (_cut, "model.onnx"),
    "a web page": (_text, "it is a web page or an error message of a server"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_no_model_is(programs: Programs, good_model: Path, name: str) -> None:
    spoil, phrase = FILES[name]
    made = shutil.copytree(good_model, programs.root / "model")
    spoil(made / "model.onnx")
    out = programs.root / "out"
    uri = f"file://{made}/model.onnx"
    programs.stage("model fetch", {"uri": uri}, out=out).refuses(phrase, code=DATA)
    good = {"uri": f"file://{good_model}/model.onnx"}
    programs.stage("model fetch", good, out=out).succeeds()


def test_three_gigabytes_are_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # a hole, no bytes on the disk
    with pytest.raises(DataError, match="an ONNX file has 2 GiB at most"):
        describe(path, "onnx", tmp_path)


@pytest.mark.parametrize("spoil", [_cut, _text], ids=["cut off", "a web page"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_backend_is_given_such_a_file(
    programs: Programs,
    good_dataset: Path,
    good_model: Path,
    backend: str,
    spoil: Callable[[Path], None],
) -> None:
    made = shutil.copytree(good_model, programs.root / "model")
    spoil(made / "model.onnx")
    said = programs.stage(
        "loadgen run",
        data.OFFLINE | {"backend": backend},
        {"dataset": good_dataset, "model": made},
    )
    said.refuses("cannot read model.onnx", code=DATA)
