"""``model fetch``: bring a model to where the next steps find it, and say what it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, JsonValue

from proctor_steps.contract import file_sha256, write_atomically
from proctor_steps.model.formats import Description, Format, describe, guess, is_torch, nature
from proctor_steps.stage import DataError, Stage, StepIO
from proctor_steps.transport.obtain import FetchParams, obtain

MODEL_FILE = "model.json"
_SHOWN = 20


class Params(FetchParams):
    """Parameters of ``model fetch``."""

    file: str = Field(
        default="", description="which file is the model, where the source holds several"
    )


def run(params: Params, io: StepIO) -> None:
    """Fetch into the output ``model`` and describe it in ``model.json``."""
    out = io.output("model")
    obtain(params, out, io, keep_packed=is_torch)
    # One that came along describes the model where it came from; this one describes it here.
    (out / MODEL_FILE).unlink(missing_ok=True)
    path, kind = _choose(out, params.file)
    described = describe(path, kind, out)
    if not described.described:
        io.find(
            "model_tensors",
            "info",
            f"the inputs and outputs of a {kind} model are not known without running it",
            path.relative_to(out).as_posix(),
        )
    summary = _summary(described, out)
    write_atomically(out / MODEL_FILE, json.dumps(summary, indent=1).encode() + b"\n")
    io.metrics["model"] = summary
    io.say(f"{summary['file']}: {kind}, {summary['bytes']:,} bytes")


def _choose(root: Path, wanted: str) -> tuple[Path, Format]:
    """The model's main file and its format."""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    if wanted:
        path = next((p for p in files if p.relative_to(root).as_posix() == wanted), None)
        if path is None:
            raise DataError(f"file: there is no {wanted!a}; there are: {_listed(files, root)}")
        return path, guess(path) or "onnx"
    if len(files) == 1:
        return files[0], guess(files[0]) or _maybe_onnx(files[0])
    found = [(p, kind) for p in files if (kind := guess(p))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"no model among the files fetched: {_listed(files, root)}. Known formats: "
                        "ONNX, OpenVINO IR, TorchScript, TFLite, GGUF")  # fmt: skip
    listed = _listed([p for p, _ in found], root)
    raise DataError(f"{len(found)} models were fetched: {listed}. Name one by the parameter 'file'")


def _maybe_onnx(path: Path) -> Format:
    """A lone file without a known start is ONNX if anything; its reader has the last word."""
    if path.suffix.lower() in ("", ".pb", ".bin", ".model"):
        return "onnx"
    raise DataError(
        f"{path.name} is no model: it is {nature(path)}. Known formats: ONNX, "
        "OpenVINO IR, TorchScript, TFLite, GGUF. Check the URI"
    )


def _listed(files: Sequence[Path], root: Path) -> str:
    names = [p.relative_to(root).as_posix() for p in files]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _summary(model: Description, root: Path) -> dict[str, JsonValue]:
    parts: list[JsonValue] = [_file(p, root) for p in (model.file, *model.parts)]
    return {"format": model.format, **_file(model.file, root), "files": parts, **model.tensors()}


def _file(path: Path, root: Path) -> dict[str, JsonValue]:
    name = path.relative_to(root).as_posix()
    return {"file": name, "sha256": file_sha256(path), "bytes": path.stat().st_size}


STAGE = Stage(
    "model fetch",
    "Fetch a model (a file, folder, archive or bucket's prefix) and describe it in model.json.",
    Params,
    run,
    outputs={"model": f"the model's files and {MODEL_FILE}"},
)
