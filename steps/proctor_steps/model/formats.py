"""What a model file is, told by its content, and what goes in and out of it.

No model is run, and nothing of one is unpickled: a file from outside may hold anything.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import JsonValue

from proctor_steps.contract import Model
from proctor_steps.stage import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import onnx

Format = Literal["onnx", "openvino", "torchscript", "gguf", "tflite"]
_HEAD = 4096
_LARGEST_ONNX = 2**31  # bytes of a protobuf message
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<\?xml[^>]*>\s*<(html|error))", re.IGNORECASE)
_PRECISIONS = {
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16", "BOOL": "bool",
    "BOOLEAN": "bool", "I4": "int4", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U1": "uint1", "U4": "uint4", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "STRING": "string",
}  # fmt: skip


class Tensor(Model):
    """An input or output. A dimension is a size, a symbol's name, or None where it is open;
    ``shape`` is None where not even the rank is known. ``dtype``: numpy's word, or empty."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class Description:
    """A model: its main file, the files that belong to it, and its tensors.

    ``described`` is False where the format does not tell them without running it.
    """

    format: Format
    file: Path
    parts: tuple[Path, ...] = ()
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    described: bool = True

    def tensors(self) -> dict[str, JsonValue]:
        """Inputs and outputs as JSON."""
        return {
            "inputs": [t.model_dump(mode="json") for t in self.inputs],
            "outputs": [t.model_dump(mode="json") for t in self.outputs],
            "described": self.described,
        }


def guess(path: Path) -> Format | None:
    """The format of a file by its first bytes; ONNX, which has none, by its suffix."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"GGUF"):
        return "gguf"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"PK\x03\x04"):
        return "torchscript" if path.suffix != ".npz" and is_torch(path) else None
    if re.search(rb"<net[\s>]", head) and head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "openvino"
    return "onnx" if path.suffix.lower() in (".onnx", ".ort") else None


def describe(path: Path, kind: Format, root: Path) -> Description:
    """Read a model's description.

    Raises:
        DataError: it is not what it seems, damaged, or files that belong to it are missing.
    """
    where = path.relative_to(root).as_posix()
    if kind == "onnx":
        return _describe_onnx(path, where)
    if kind == "openvino":
        return _describe_openvino(path, where)
    if kind == "torchscript":
        _check_torchscript(path, where)
    return Description(kind, path, described=False)


def nature(path: Path) -> str:
    """In words, what a file that is no model seems to be."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "an empty file"
    if _PAGE.match(head.removeprefix(b"\xef\xbb\xbf")):
        return "a web page or an error message of a server"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file it points to"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive"
    if head.lstrip().startswith((b"{", b"[")):
        return "JSON"
    if head.startswith(b"\x80") and b"." in head:
        return "perhaps a pickle, which could run code when read"
    return "of no known format"


# TorchScript


def is_torch(path: Path) -> bool:
    """Whether a zip is one that torch wrote (a script, or a pickled checkpoint)."""
    return any(name.endswith("/data.pkl") for name in _members(path))


def _members(path: Path) -> Sequence[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return ()


def _check_torchscript(path: Path, where: str) -> None:
    if not any(re.fullmatch(r"[^/]+/constants\.pkl", name) for name in _members(path)):
        raise DataError(
            f"{where} is a pickled PyTorch checkpoint, not TorchScript: reading it could run any "
            "code, and it has no graph. Export the model (torch.jit.script, or ONNX) and give that"
        )


# OpenVINO IR


def _describe_openvino(path: Path, where: str) -> Description:
    weights = path.with_suffix(".bin")
    root = _parse_xml(path, where)
    if root.tag != "net" or root.find("layers") is None:
        raise DataError(f"{where} is XML but no OpenVINO IR (no <net> with <layers>)")
    if not weights.is_file():
        raise DataError(
            f"{where} is an OpenVINO IR without its weights: {weights.name} has to be beside it. "
            "Give the folder, an archive or a bucket's prefix that holds both"
        )
    _check_weights(root, weights, where)
    inputs = tuple(_parameters(root))
    outputs = tuple(_results(root))
    if not (inputs and outputs):
        raise DataError(f"{where} has no inputs or no outputs; export the model again")
    return Description("openvino", path, (weights,), inputs, outputs)


def _parse_xml(path: Path, where: str) -> Element:
    """Without entities or a DTD, which could blow up or read files."""
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        return cast("Element", parse(path, forbid_dtd=True).getroot())
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise DataError(
            f"{where} is damaged or no OpenVINO IR ({type(error).__name__}: {error}); fetch it anew"
        ) from error


def _layers(root: Element, kind: str) -> Iterator[Element]:
    """The layers of a type at the top: a loop's body has parameters of its own."""
    return (e for e in root.iterfind("layers/layer") if e.get("type") == kind)


def _check_weights(root: Element, weights: Path, where: str) -> None:
    """A cut-off .bin is found here rather than by a crash in the runtime."""
    ends = (
        int(data.get("offset", "0")) + int(data.get("size", "0"))
        for data in root.iterfind("layers/layer[@type='Const']/data")
        if data.get("offset", "0").isdecimal() and data.get("size", "0").isdecimal()
    )
    needed, size = max(ends, default=0), weights.stat().st_size
    if size < needed:
        raise DataError(
            f"{weights.name} has {size:,} bytes, {where} needs {needed:,}: it is cut off or "
            "belongs to another model; fetch both anew"
        )


def _parameters(root: Element) -> Iterator[Tensor]:
    for layer in _layers(root, "Parameter"):
        port = layer.find("output/port")
        if port is not None:
            yield _port(port, layer.get("name", ""))


def _results(root: Element) -> Iterator[Tensor]:
    """A result's name is that of the tensor which feeds it."""
    sources = {
        (edge.get("to-layer"), edge.get("to-port")): (edge.get("from-layer"), edge.get("from-port"))
        for edge in root.iterfind("edges/edge")
    }
    ports = {
        (layer.get("id"), port.get("id")): port
        for layer in root.iterfind("layers/layer")
        for port in layer.iterfind("output/port")
    }
    for layer in _layers(root, "Result"):
        port = layer.find("input/port")
        if port is None:
            continue
        source = ports.get(sources.get((layer.get("id"), port.get("id")), (None, None)), port)
        yield _port(source, layer.get("name", ""))


def _port(port: Element, fallback: str) -> Tensor:
    name = (port.get("names") or fallback).split(",")[0]
    sizes = [(dim.text or "").strip() for dim in port.iterfind("dim")]
    shape = tuple(int(size) if size.isdecimal() else None for size in sizes)
    precision = port.get("precision", "").upper()
    return Tensor(name=name, shape=shape, dtype=_PRECISIONS.get(precision, precision.lower()))


# ONNX


def _describe_onnx(path: Path, where: str) -> Description:
    model = _load_onnx(path, where)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_value(v) for v in graph.input if v.name not in weights)
    outputs = tuple(_value(v) for v in graph.output)
    parts = _external(model, path, where)
    return Description("onnx", path, parts, inputs, outputs)


def _load_onnx(path: Path, where: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    size = path.stat().st_size
    if size > _LARGEST_ONNX:
        raise DataError(
            f"{where} has {size:,} bytes; an ONNX file has 2 GiB at most, with larger weights in "
            "files beside it: check the URI, or export the model so"
        )
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise DataError(
            f"{where} is no ONNX model: it is {nature(path)} ({error}); check the URI, or fetch "
            "it anew"
        ) from error
    # Protobuf reads many things that are no model, an empty file among them.
    if not (model.ir_version and model.opset_import and model.graph.node and model.graph.output):
        raise DataError(f"{where} is no ONNX model: it is {nature(path)}; check the URI")
    return model


def _value(value: onnx.ValueInfoProto) -> Tensor:
    import onnx

    kind = value.type.tensor_type
    code = kind.elem_type
    dtype = onnx.TensorProto.DataType.Name(code).lower() if code else ""
    words = {"float": "float32", "double": "float64"}
    shape = tuple(_dimension(d) for d in kind.shape.dim) if kind.HasField("shape") else None
    return Tensor(name=value.name, shape=shape, dtype=words.get(dtype, dtype))


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _external(model: onnx.ModelProto, path: Path, where: str) -> tuple[Path, ...]:
    """The files beside the model that hold its large tensors."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    needed: dict[str, int] = {}
    for tensor in _tensors(model.graph):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            end = (info.offset or 0) + (info.length or 0)
            needed[info.location] = max(end, needed.get(info.location, 0))
    problems, parts = [], []
    for location, end in sorted(needed.items()):
        part = path.parent / location
        if location.startswith("/") or ".." in location.split("/") or "\\" in location:
            problems.append(f"{location!a} leads out of the model's folder")
        elif not part.is_file():
            problems.append(f"{location!a} is missing")
        elif part.stat().st_size < end:
            problems.append(f"{location!a} has {part.stat().st_size:,} bytes, {end:,} are needed")
        else:
            parts.append(part)
    if problems:
        listed = "; ".join(problems[:10])
        raise DataError(
            f"{where} keeps its weights in other files: {listed}. Give the folder, archive or "
            "bucket's prefix that holds all of them"
        )
    return tuple(parts)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a graph, those of its branches and loops too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)
