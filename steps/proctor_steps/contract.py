"""What a step is given and what it must write: the one module that both sides share.

A step finds everything it needs in one folder, named by the environment variable
``PROCTOR_STEP_DIR``: the orchestrator puts ``contract.json`` there before the start; the step
writes ``progress.json`` while it works (its heartbeat) and ``result.json`` as its last act.
Each file is written beside its name and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

STEP_DIR_VARIABLE = "PROCTOR_STEP_DIR"
CONTRACT_FILE = "contract.json"
PROGRESS_FILE = "progress.json"
RESULT_FILE = "result.json"
# Given to a step that stands behind a gate: where all that it reads came from (lineage.py).
LINEAGE_FILE = "lineage.json"
# Of a step that says which subjects there are: in its output `subjects`, a JSON list of names.
SUBJECTS_FILE = "subjects.json"
# What a spec's data are used for (`purpose:`); proctor_steps.policy says what that means.
Purpose = Literal["commercial-benchmark", "research", "clinical-research", "education"]
CONTRACT_FORMAT = "proctor.contract/1"
RESULT_FORMAT = "proctor.result/1"

# Exit codes of a step (sysexits.h: EX_DATAERR, EX_SOFTWARE). result.json is the authority; the
# code is for people and for steps that died before they could write it.
EXIT_OK = 0
EXIT_DATA_ERROR = 65
EXIT_STEP_ERROR = 70


class Model(BaseModel):
    """Base of every contract: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Mount(Model):
    """One place that the step may read or write.

    ``kind``: ``input`` (read-only, another step's output), ``output`` (to be filled),
    ``source`` (read-only, a ``file://`` parameter that the site allowed), ``cache`` (kept between
    runs, for downloads), ``secret`` (read-only file) or ``history`` (read-only file, see
    :mod:`proctor_steps.history`). ``cell`` tells the members of a fan-in
    apart: an input that comes from a matrix step has one mount per cell, for example
    ``SingleStream``, one from a step that ran per subject has one per subject; otherwise it is
    empty. ``measured_in``: ``pipeline/run/step/attempt`` of another run, where the input is a
    measurement that was taken over from it. ``artifact``, ``sha256``: what an input is called and
    its digest, as the record has them. ``fetched``: what the step that fetched an input told of its
    source (its metrics' ``source``).
    """

    name: str
    kind: Literal["input", "output", "source", "cache", "secret", "history"]
    path: str
    cell: str = ""
    measured_in: str = ""
    artifact: str = ""
    sha256: str = ""
    fetched: dict[str, JsonValue] = Field(default_factory=dict)


class Approval(Model):
    """An answer given at a gate, as the steps behind it may print it.

    ``decision`` ``kept``: the run goes on, and nothing was approved: the baseline stays as it was,
    and what differs from it is an open finding.
    """

    gate: str
    decision: Literal["approved", "rejected", "kept"]
    by: str
    at: str
    answered_via: Literal["ui", "api", "cli", "cli-yes"]
    evidence_reviewed: bool
    evidence_digest: str
    comment: str = ""


class Contract(Model):
    """``contract.json``. ``deadline_seconds`` counts from the start of the step.

    ``partition``: the subject, for a step that runs once for each.
    ``services``: the services that a step uses, name -> base URL (``http://detector:8000``).
    ``listen``: for a service itself, ``host:port`` where it is to listen; it writes no
    ``result.json`` and runs until SIGTERM.
    ``image``: the container image that it runs in, ``name@sha256:…`` with the digest that the
    engine knows it by; empty where there is no container.
    """

    format: Literal["proctor.contract/1"] = "proctor.contract/1"
    pipeline: str
    run: str
    step: str
    partition: str = ""
    attempt: int = 1
    params: dict[str, JsonValue] = Field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()
    deadline_seconds: float = 3600.0
    seed: int = 0
    approvals: tuple[Approval, ...] = ()
    services: dict[str, str] = Field(default_factory=dict)
    listen: str = ""
    image: str = ""


class Output(Model):
    """One output as the step left it. ``sha256`` of a folder is :func:`tree_digest`."""

    name: str
    media_type: str
    sha256: str
    bytes: int


class Finding(Model):
    """Something a person should know: a rule missed, a sample lost, a fallback taken.

    ``rule`` is a short stable name (``min_duration``); ``where`` names the file or figure.
    """

    rule: str
    severity: Literal["info", "warning", "error"]
    message: str
    where: str = ""


class Progress(Model):
    """How far the step is. ``done`` and ``total`` in ``unit``; ``total`` 0 where unknown."""

    done: float = 0
    total: float = 0
    unit: str = ""
    note: str = ""
    at: str = ""


class Result(Model):
    """``result.json``.

    ``metrics`` holds JSON figures. Four keys have a meaning for the orchestrator's summary:
    ``loadgen`` (a LoadGen run as data: scenario, mode, valid, ..., and ``disturbed``: why the
    machine was not quiet, a list of texts; absent or ``null`` where nobody looked), ``accuracy``
    (metric, value, samples), ``compliance`` and ``drift``.
    """

    format: Literal["proctor.result/1"] = "proctor.result/1"
    status: Literal["ok", "data_error", "step_error"]
    message: str = ""
    outputs: tuple[Output, ...] = ()
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    progress: Progress = Progress()
    versions: dict[str, str] = Field(default_factory=dict)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that a reader, or a crash, sees the old content or the new, no part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value that digests are taken of: sorted keys, no blanks, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """sha256 of :func:`canonical_json`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def brief(text: str) -> str:
    """A text as people can tell it from another: of a sha256 the first 12 digits do."""
    digits = text.removeprefix("sha256:")
    is_digest = len(digits) == 64 and not set(digits) - set("0123456789abcdef")
    return digits[:12] if is_digest else text


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_each(paths: Sequence[Path]) -> Iterable[str]:
    return (file_sha256(path) for path in paths)


def tree_digest(
    root: Path, hashed: Callable[[Sequence[Path]], Iterable[str]] = _sha256_of_each
) -> tuple[str, int]:
    """Digest and size in bytes of a file or a folder.

    A folder's digest is that of its sorted ``[relative path, sha256]`` list: names and contents
    count, times and modes do not. Links are not followed; one is an error, as it could point
    anywhere. ``hashed`` gives the sha256 of each file, in order.

    Raises:
        ValueError: the tree holds a symbolic link or something that is no plain file.
    """
    if root.is_file() and not root.is_symlink():
        return next(iter(hashed([root]))), root.stat().st_size
    files: list[Path] = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise ValueError(f"{name} is a symbolic link; a step's output must hold plain files")
        if path.is_dir():
            continue
        if not path.is_file():
            raise ValueError(f"{name} is no plain file")
        files.append(path)
    names = [path.relative_to(root).as_posix() for path in files]
    size = sum(path.stat().st_size for path in files)
    return digest(list(zip(names, hashed(files), strict=True))), size


def load_contract(folder: Path) -> Contract:
    """Read ``contract.json`` of a step's folder."""
    return Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())


def load_result(folder: Path) -> Result | None:
    """Read ``result.json`` of a step's folder; ``None`` where the step wrote none."""
    path = folder / RESULT_FILE
    return Result.model_validate_json(path.read_bytes()) if path.is_file() else None


def dump(folder: Path, name: str, model: BaseModel | Mapping[str, Any]) -> None:
    """Write a contract, progress or result into a step's folder, atomically."""
    text = (
        model.model_dump_json(indent=1)
        if isinstance(model, BaseModel)
        else json.dumps(model, indent=1, sort_keys=True)
    )
    write_atomically(folder / name, text.encode() + b"\n")
