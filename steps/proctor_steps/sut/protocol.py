"""The Open Inference Protocol (KServe v2, REST) as both sides of an endpoint speak it.

Tensors travel as JSON or, by the binary tensor data extension, as bytes behind the JSON, whose
length the header ``Inference-Header-Content-Length`` tells. Whatever comes from the other side is
checked here; what does not fit is a :class:`ProtocolError` whose message names it.

Source: https://github.com/kserve/open-inference-protocol and Triton's binary data extension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from proctor_steps.benchmarks.base import Array, Signature, Tensor

JSON_LENGTH = "Inference-Header-Content-Length"
EXTENSION = "binary_tensor_data"
SIZE, BINARY, ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
# Where a tensor begins in memory: what vector units like, and some libraries ask for.
_ALIGNMENT = 64
_SHOWN = 200
_DTYPES = {
    "BOOL": "bool",
    **{f"{kind}{bits}": f"{kind.lower()}{bits}"
       for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}  # fmt: skip
_DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
# What numbers of JSON may become which: nothing is rounded, cut off or made from text.
_JSON_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}


class ProtocolError(ValueError):
    """What came does not follow the protocol, or does not fit the model."""


class _Said(BaseModel):
    """Base of what others send: nothing is converted, and what is not known here may be there."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class WireTensor(_Said):
    """A tensor of a request or reply; its data are in ``data`` or behind the JSON."""

    name: str
    datatype: str
    shape: list[Annotated[int, Field(ge=0)]]
    parameters: dict[str, JsonValue] = {}
    data: list[Any] | None = None


class Wanted(_Said):
    """An output that a request asks for."""

    name: str
    parameters: dict[str, JsonValue] = {}


class InferRequest(_Said):
    """The JSON of a request."""

    id: str | None = None
    parameters: dict[str, JsonValue] = {}
    inputs: list[WireTensor]
    outputs: list[Wanted] | None = None


class InferReply(_Said):
    """The JSON of a reply."""

    outputs: list[WireTensor]


class TensorMetadata(_Said):
    """An input or output as a model's metadata tell it; a free dimension is -1."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Said):
    """``GET /v2/models/NAME``. ``properties``: what a server likes to tell beyond it."""

    name: str
    versions: list[str] = []
    platform: str = ""
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str] = {}

    def signature(self) -> Signature:
        """Inputs and outputs as backends tell theirs.

        Raises:
            ProtocolError: a datatype that numpy has not.
        """
        return Signature(tuple(map(_tensor, self.inputs)), tuple(map(_tensor, self.outputs)))


class ServerMetadata(_Said):
    """``GET /v2``."""

    name: str
    version: str = ""
    extensions: list[str] | None = None

    @property
    def binary(self) -> bool:
        """Whether tensors may travel as bytes. Who lists no extensions at all is trusted to have
        this one; who lists others has it not."""
        return self.extensions is None or EXTENSION in self.extensions


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], text: bytes | memoryview) -> M:
    """Read JSON.

    Raises:
        ProtocolError: it is no JSON, or not the one that is expected; the first three reasons.
    """
    try:
        return model.model_validate_json(bytes(text))
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"]
            for e in error.errors(include_url=False, include_input=False)[:3]
        ]
        raise ProtocolError("; ".join(told)) from error


def datatype(dtype: str) -> str:
    """The protocol's word for numpy's.

    Raises:
        ProtocolError: it has none.
    """
    if dtype not in _DATATYPES:
        raise ProtocolError(f"a tensor of {dtype or 'unknown type'} cannot be sent")
    return _DATATYPES[dtype]


def metadata(tensor: Tensor) -> dict[str, JsonValue]:
    """A tensor as a model's metadata tell it."""
    shape: list[JsonValue] = [-1 if size is None else size for size in tensor.shape]
    return {"name": tensor.name, "datatype": datatype(tensor.dtype), "shape": shape}


def buffer(size: int, json_length: int) -> memoryview:
    """Room for a body, so placed that what follows the JSON is aligned in memory."""
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -(room.ctypes.data + json_length) % _ALIGNMENT
    return room.data[start : start + size]


def json_length(header: str | None, size: int) -> int:
    """Length of the JSON in a body of ``size`` bytes, as the header tells it; all without one.

    Raises:
        ProtocolError: the header is no number, or more than there is.
    """
    if header is None:
        return size
    if not (header.isascii() and header.isdecimal()) or len(header) > 18 or int(header) > size:
        raise ProtocolError(
            f"{JSON_LENGTH} is {header[:40]!r}; wanted is a number of at most {size}, the body's "
            "length in bytes"
        )
    return int(header)


def unpack(tensors: Sequence[WireTensor], tail: memoryview) -> dict[str, Array]:
    """The tensors by name; those that travelled as bytes lie in ``tail`` and are not copied.

    Raises:
        ProtocolError: sizes, types or data that do not fit together.
    """
    found: dict[str, Array] = {}
    used = 0
    for said in tensors:
        if said.name in found:
            raise ProtocolError(f"tensor {said.name[:_SHOWN]!r} is there twice")
        size = said.parameters.get(SIZE)
        if size is None:
            found[said.name] = _from_json(said)
        else:
            found[said.name] = _from_bytes(said, size, tail[used:])
            used += found[said.name].nbytes
    if used != len(tail):
        raise ProtocolError(f"{len(tail) - used} bytes follow that belong to no tensor")
    return found


def fit(arrays: Mapping[str, Array], tensors: Sequence[Tensor], side: str) -> list[Array]:
    """The arrays in the model's order.

    Raises:
        ProtocolError: one is missing, too many, or of another type or shape than the model's.
    """
    names = [tensor.name for tensor in tensors]
    if wrong := sorted(set(names) ^ set(arrays)):
        what = "is missing" if wrong[0] in names else "is none of them"
        raise ProtocolError(
            f"the model's {side}s are {', '.join(names)}; {wrong[0][:_SHOWN]!r} {what}"
        )
    for tensor in tensors:
        _check(arrays[tensor.name], tensor, side)
    return [arrays[name] for name in names]


def wire(name: str, array: Array, binary: bool) -> dict[str, JsonValue]:
    """A tensor of a request or reply; as ``binary`` its bytes are to follow the JSON.

    Raises:
        ProtocolError: numpy's type is none of the protocol's.
    """
    said: dict[str, JsonValue] = {
        "name": name,
        "datatype": datatype(array.dtype.name),
        "shape": list(array.shape),
    }
    if binary:
        return {**said, "parameters": {SIZE: array.nbytes}}
    return {**said, "data": array.ravel().tolist()}


def _tensor(said: TensorMetadata) -> Tensor:
    shape = tuple(None if size < 0 else size for size in said.shape)
    return Tensor(said.name, shape, _dtype(said.name, said.datatype))


def _dtype(name: str, said: str) -> str:
    if said not in _DTYPES:
        raise ProtocolError(
            f"tensor {name[:_SHOWN]!r} has the datatype {said[:40]!r}; known: {', '.join(_DTYPES)}"
        )
    return _DTYPES[said]


def _from_bytes(said: WireTensor, size: JsonValue, tail: memoryview) -> Array:
    name, dtype = said.name[:_SHOWN], np.dtype(_dtype(said.name, said.datatype))
    if said.data is not None:
        raise ProtocolError(f"tensor {name!r} has both data and {SIZE}")
    count = math.prod(said.shape)
    if type(size) is not int or size != count * dtype.itemsize:
        raise ProtocolError(
            f"tensor {name!r}: {SIZE} is {str(size)[:40]}; {said.datatype} of shape "
            f"{str(said.shape)[:_SHOWN]} has {count * dtype.itemsize} bytes"
        )
    if size > len(tail):
        raise ProtocolError(f"tensor {name!r} has {size} bytes, {len(tail)} are left in the body")
    array = np.frombuffer(tail, dtype, count).reshape(said.shape)
    return array if array.flags.aligned else array.copy()


def _from_json(said: WireTensor) -> Array:
    name, dtype = said.name[:_SHOWN], np.dtype(_dtype(said.name, said.datatype))
    if said.data is None:
        raise ProtocolError(f"tensor {name!r} has neither data nor {SIZE}")
    try:
        array = np.asarray(said.data)
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"tensor {name!r}: data are no regular array: {error}") from error
    if array.size and array.dtype.kind not in _JSON_KINDS[dtype.kind]:
        raise ProtocolError(f"tensor {name!r}: data do not read as {said.datatype}")
    if array.size != math.prod(said.shape):
        raise ProtocolError(
            f"tensor {name!r} has {array.size} values, its shape {str(said.shape)[:_SHOWN]} "
            f"wants {math.prod(said.shape)}"
        )
    if array.size and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise ProtocolError(f"tensor {name!r}: a value is out of {said.datatype}'s range")
    return array.astype(dtype).reshape(said.shape)


def _check(array: Array, tensor: Tensor, side: str) -> None:
    wanted = tensor.shape
    fits = array.ndim == len(wanted) and all(
        want is None or want == size for want, size in zip(wanted, array.shape, strict=True)
    )
    if array.dtype.name != tensor.dtype or not fits or 0 in array.shape:
        shown = "x".join("?" if size is None else str(size) for size in wanted)
        raise ProtocolError(
            f"{side} {tensor.name!r} came as {datatype(array.dtype.name)} of shape "
            f"{'x'.join(map(str, array.shape)) or 'none'}; the model's is "
            f"{datatype(tensor.dtype)} of {shown}"
        )
