"""``model fetch``: formats told by content and described without running anything."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from proctor_steps.contract import file_sha256
from proctor_steps.model.fetch import STAGE
from proctor_steps.model.formats import describe
from proctor_steps.stage import DataError


def onnx_model() -> onnx.ModelProto:
    """y = x + w, with a symbolic batch; ``w`` is listed as an input too, as old exporters do."""
    w = helper.make_tensor("w", TensorProto.FLOAT, [4], np.ones(4, np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, None, 4]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [w],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


IR = """<?xml version="1.0"?>
<net name="m" version="11"><layers>
 <layer id="0" name="in" type="Parameter"><data shape="?,3" element_type="f16"/>
  <output><port id="0" precision="FP16" names="images,alias"><dim>-1</dim><dim>3</dim></port>
  </output></layer>
 <layer id="1" name="w" type="Const"><data element_type="f32" offset="4" size="8"/></layer>
 <layer id="2" name="loop" type="Loop"><body><layers>
  <layer id="0" name="inner" type="Parameter"><output><port id="0" precision="I64"/></output>
  </layer></layers></body>
  <output><port id="3" precision="I64" names="boxes"><dim>1</dim></port></output></layer>
 <layer id="3" name="res" type="Result">
  <input><port id="0" precision="I64"><dim>1</dim></port></input></layer>
</layers><edges><edge from-layer="2" from-port="3" to-layer="3" to-port="0"/></edges></net>"""


def torch_zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


TORCHSCRIPT = torch_zip("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version")
CHECKPOINT = torch_zip("m/data.pkl", "m/data/0", "m/version")


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def model_json(out: Path) -> dict[str, Any]:
    found = json.loads((out / "model.json").read_bytes())
    assert isinstance(found, dict)
    return found


def test_onnx_is_described(tmp_path: Path, run_stage: Any) -> None:
    source = put(tmp_path / "s", {"a.onnx": onnx_model().SerializeToString()}) / "a.onnx"
    result, out = run_stage(STAGE, {"uri": f"file://{source}", "sha256": file_sha256(source)})
    assert result.status == "ok", result.message
    said = model_json(out)
    assert said == {
        "format": "onnx",
        "file": "a.onnx",
        "sha256": file_sha256(source),
        "bytes": source.stat().st_size,
        "files": [
            {"file": "a.onnx", "sha256": file_sha256(source), "bytes": source.stat().st_size}
        ],
        "inputs": [{"name": "x", "shape": ["batch", 3, None, 4], "dtype": "float32"}],
        "outputs": [{"name": "y", "shape": None, "dtype": "float32"}],
        "described": True,
    }
    assert result.metrics["model"] == said and (out / "a.onnx").read_bytes() == source.read_bytes()


def test_onnx_without_a_suffix_is_known_by_its_content(tmp_path: Path, run_stage: Any) -> None:
    put(tmp_path / "s", {"model": onnx_model().SerializeToString()})
    result, out = run_stage(STAGE, {"uri": f"file://{tmp_path}/s/model"})
    assert result.status == "ok" and model_json(out)["format"] == "onnx", result.message


def test_the_shipped_detector(run_stage: Any) -> None:
    result, out = run_stage(STAGE, {"uri": "embedded:digits/detector.onnx"})
    assert result.status == "ok", result.message
    said = model_json(out)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(out / said["file"]))
    assert [i["name"] for i in said["inputs"]] == [i.name for i in session.get_inputs()]
    assert [i["shape"] for i in said["inputs"]] == [i.shape for i in session.get_inputs()]
    assert [o["name"] for o in said["outputs"]] == [o.name for o in session.get_outputs()]


def external(location: str, length: int = 16) -> bytes:
    model = onnx_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


def test_onnx_with_weights_beside_it(tmp_path: Path, run_stage: Any) -> None:
    files = {"a.onnx": external("w.data"), "w.data": bytes(16)}
    folder = put(tmp_path / "s", files)
    result, out = run_stage(STAGE, {"uri": f"file://{folder}"}, attempt="1")
    assert result.status == "ok", result.message
    assert [f["file"] for f in model_json(out)["files"]] == ["a.onnx", "w.data"]
    (folder / "w.data").write_bytes(bytes(15))
    result, _ = run_stage(STAGE, {"uri": f"file://{folder}"}, attempt="2")
    assert result.status == "data_error" and "15 bytes, 16 are needed" in result.message
    (folder / "w.data").unlink()
    result, _ = run_stage(STAGE, {"uri": f"file://{folder}"}, attempt="3")
    assert result.status == "data_error" and "'w.data' is missing" in result.message


@pytest.mark.parametrize("location", ["../w.data", "/etc/passwd", "a/../../w.data", "..\\w"])
def test_onnx_with_weights_outside(tmp_path: Path, location: str) -> None:
    put(tmp_path, {"w.data": bytes(16), "m/a.onnx": external(location)})
    with pytest.raises(DataError, match="leads out of"):
        describe(tmp_path / "m" / "a.onnx", "onnx", tmp_path / "m")


def test_openvino_is_described(tmp_path: Path, run_stage: Any) -> None:
    folder = put(tmp_path / "s", {"m.xml": IR.encode(), "m.bin": bytes(12), "metadata.yaml": b"x"})
    result, out = run_stage(STAGE, {"uri": f"file://{folder}"}, attempt="1")
    assert result.status == "ok", result.message
    said = model_json(out)
    assert (said["format"], said["file"]) == ("openvino", "m.xml")
    assert said["inputs"] == [{"name": "images", "shape": [None, 3], "dtype": "float16"}]
    assert said["outputs"] == [{"name": "boxes", "shape": [1], "dtype": "int64"}]
    assert [f["file"] for f in said["files"]] == ["m.xml", "m.bin"]
    (folder / "m.bin").write_bytes(bytes(11))
    result, _ = run_stage(STAGE, {"uri": f"file://{folder}"}, attempt="2")
    assert result.status == "data_error" and "has 11 bytes, m.xml needs 12" in result.message
    (folder / "m.bin").unlink()
    result, _ = run_stage(STAGE, {"uri": f"file://{folder}"}, attempt="3")
    assert result.status == "data_error" and "m.bin has to be beside it" in result.message


def test_the_real_yolo(shared_data: Path, run_stage: Any) -> None:
    folder = shared_data / "yolo11n" / "yolo11n_int8_openvino_model"
    result, out = run_stage(STAGE, {"uri": f"file://{folder}"})
    assert result.status == "ok", result.message
    said = model_json(out)
    assert said["file"] == "yolo11n.xml"
    assert [(t["shape"], t["dtype"]) for t in said["inputs"]] == [([1, 3, 640, 640], "float32")]
    assert [(t["shape"], t["dtype"]) for t in said["outputs"]] == [([1, 84, 8400], "float32")]


def test_the_real_tflite_models(shared_data: Path, run_stage: Any) -> None:
    path = shared_data / "mlperf-tiny" / "models" / "kws_ref_model.tflite"
    result, out = run_stage(STAGE, {"uri": f"file://{path}"})
    assert result.status == "ok", result.message
    said = model_json(out)
    assert (said["format"], said["described"], said["inputs"]) == ("tflite", False, [])
    assert [(f.rule, f.severity) for f in result.findings] == [("model_tensors", "info")]


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("m.torchscript", TORCHSCRIPT, "torchscript"),
        ("m.pt", TORCHSCRIPT, "torchscript"),
        ("m", TORCHSCRIPT, "torchscript"),
        ("m.zip", TORCHSCRIPT, "torchscript"),
        ("m.onnx", TORCHSCRIPT, "torchscript"),
        ("m.gguf", b"GGUF\x03\0\0\0" + bytes(64), "gguf"),
        ("m.bin", b"\x1c\0\0\0TFL3" + bytes(64), "tflite"),
    ],
)
def test_formats_are_told_by_content(
    tmp_path: Path, run_stage: Any, name: str, data: bytes, kind: str
) -> None:
    put(tmp_path / "s", {name: data})
    result, out = run_stage(STAGE, {"uri": f"file://{tmp_path}/s/{name}"})
    assert result.status == "ok", result.message
    assert model_json(out)["format"] == kind and (out / name).read_bytes() == data


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path, run_stage: Any) -> None:
    data = pickle.dumps(Evil(tmp_path / "ran"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", data)
        archive.writestr("m/constants.pkl", data)
    for n, content in enumerate((data, buffer.getvalue())):
        put(tmp_path / "s", {"m.pt": content})
        run_stage(STAGE, {"uri": f"file://{tmp_path}/s/m.pt"}, attempt=str(n))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("m.onnx", b"<!DOCTYPE html><html>404</html>", "a web page"),
        ("m.xml", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
        ("m.onnx", b"", "an empty file"),
        ("m.onnx", b'{"error": "no"}', "JSON"),
        ("m.onnx", b"version https://git-lfs.github.com/spec/v1\noid x", "Git LFS pointer"),
        ("m.onnx", onnx_model().SerializeToString()[:-20], "no ONNX model"),
        ("m.pt", CHECKPOINT, "not TorchScript"),
        ("m.pt", pickle.dumps({"a": 1}), "pickle"),
        ("m.h5", b"\x89HDF\r\n", "no known format"),
        ("m.xml", b"<net><nothing/></net>", "no OpenVINO IR"),
        ("m.xml", IR[:400].encode(), "damaged or no OpenVINO IR"),
        ("m.xml", b'<!DOCTYPE net [<!ENTITY a "b">]><net>&a;</net>', "damaged or no OpenVINO IR"),
    ],
)
def test_what_is_no_model(
    tmp_path: Path, run_stage: Any, name: str, data: bytes, word: str
) -> None:
    put(tmp_path / "s", {name: data})
    result, _ = run_stage(STAGE, {"uri": f"file://{tmp_path}/s/{name}"})
    assert result.status == "data_error" and word in result.message, result.message


def test_which_of_several_models(tmp_path: Path, run_stage: Any) -> None:
    data = onnx_model().SerializeToString()
    folder = put(tmp_path / "s", {"a.onnx": data, "sub/b.onnx": data, "readme.md": b"x"})
    uri = f"file://{folder}"
    result, _ = run_stage(STAGE, {"uri": uri}, attempt="1")
    assert result.status == "data_error"
    assert "2 models" in result.message and "a.onnx, sub/b.onnx" in result.message
    result, out = run_stage(STAGE, {"uri": uri, "file": "sub/b.onnx"}, attempt="2")
    assert result.status == "ok" and model_json(out)["file"] == "sub/b.onnx"
    result, _ = run_stage(STAGE, {"uri": uri, "file": "../s/a.onnx"}, attempt="3")
    assert result.status == "data_error" and "there is no" in result.message


def test_a_folder_without_a_model(tmp_path: Path, run_stage: Any) -> None:
    folder = put(tmp_path / "s", {"readme.md": b"x", "labels.txt": b"y"})
    result, _ = run_stage(STAGE, {"uri": f"file://{folder}"})
    assert result.status == "data_error" and "labels.txt, readme.md" in result.message


def test_the_output_of_an_earlier_fetch_can_be_fetched(tmp_path: Path, run_stage: Any) -> None:
    put(tmp_path / "s", {"a.onnx": onnx_model().SerializeToString()})
    _, first = run_stage(STAGE, {"uri": f"file://{tmp_path}/s"}, attempt="1")
    result, second = run_stage(STAGE, {"uri": f"file://{first}"}, attempt="2")
    assert result.status == "ok" and model_json(second) == model_json(first)


def test_a_zip_of_a_model_is_unpacked(tmp_path: Path, run_stage: Any) -> None:
    with zipfile.ZipFile(tmp_path / "ir.zip", "w") as archive:
        archive.writestr("m/m.xml", IR)
        archive.writestr("m/m.bin", bytes(12))
    result, out = run_stage(STAGE, {"uri": f"file://{tmp_path}/ir.zip"})
    assert result.status == "ok" and model_json(out)["file"] == "m/m.xml"


def test_an_ir_without_inputs(tmp_path: Path) -> None:
    put(tmp_path, {"m.xml": IR.replace('"Parameter"', '"Other"').encode(), "m.bin": bytes(12)})
    with pytest.raises(DataError, match="no inputs or no outputs"):
        describe(tmp_path / "m.xml", "openvino", tmp_path)


def test_weights_in_a_branch_are_looked_for(tmp_path: Path) -> None:
    model = onnx_model()
    inner = onnx.ModelProto.FromString(external("w.data")).graph
    node = model.graph.node.add(op_type="If", input=["c"], output=["z"])
    node.attribute.append(helper.make_attribute("then_branch", inner))
    put(tmp_path, {"a.onnx": model.SerializeToString()})
    with pytest.raises(DataError, match=r"'w\.data' is missing"):
        describe(tmp_path / "a.onnx", "onnx", tmp_path)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_files_are_described_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Never a traceback, whatever is flipped or cut."""
    kind = data.draw(st.sampled_from(["onnx", "openvino"]))
    whole = onnx_model().SerializeToString() if kind == "onnx" else IR.encode()
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, max(0, len(broken) - 1)), max_size=3)):
        broken[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
    path = tmp_path / ("m.onnx" if kind == "onnx" else "m.xml")
    path.write_bytes(broken)
    (tmp_path / "m.bin").write_bytes(bytes(12))
    try:
        describe(path, kind, tmp_path)  # type: ignore[arg-type]
    except DataError as error:
        assert path.name in str(error) or "m.bin" in str(error)
