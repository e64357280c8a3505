"""How a stage is declared, started from a contract or by hand, and how its result is written.

A stage is one module with a ``STAGE``::

    class Params(StageParams):
        uri: str = Field(description="where the files are")

    def run(params: Params, io: StepIO) -> None: ...

    STAGE = Stage("dataset fetch", "Download a dataset.", Params, run, outputs={"dataset": "..."})

The same ``Params`` model checks the contract's parameters and gives the command line its options.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, TextIO, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from proctor_steps import __version__, contract, trouble
from proctor_steps.contract import Contract, Finding, Mount, Output, Progress, Result

_USAGE = 64  # exit code (sysexits.h: EX_USAGE)
OUT_OF_MEMORY = "the step ran out of memory; give it more (resources.memory) or less work"
_LONGEST = 4000  # characters of a message, which may repeat what it was given


BY_HAND = "by-hand"  # the pipeline of a stage that nobody orchestrates


class StepFailure(Exception):
    """A failure that was foreseen: its message is for a person, so there is no traceback."""

    status: str = "step_error"
    exit_code = contract.EXIT_STEP_ERROR


class DataError(StepFailure):
    """The data, not the step, is wrong: what, where, and what to do about it."""

    status = "data_error"
    exit_code = contract.EXIT_DATA_ERROR


class StepError(StepFailure):
    """The step could not do its work for a reason that is not the data's."""


class StageParams(BaseModel):
    """Base of every stage's parameters: immutable; an unknown one, NaN or inf is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


P = TypeVar("P", bound=StageParams)


@dataclass(frozen=True)
class Stage(Generic[P]):
    """A command ``python -m proctor_steps <name>``. ``inputs``, ``outputs``: name -> meaning.

    ``services``: what a service is to the stage; empty for one that uses none.
    """

    name: str
    summary: str
    params: type[P]
    run: Callable[[P, StepIO], None]
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    services: str = ""


@dataclass
class StepIO:
    """The world as a stage sees it: its mounts, its heartbeat, and what it has to say."""

    contract: Contract
    folder: Path
    metrics: dict[str, JsonValue] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    media_types: dict[str, str] = field(default_factory=dict)
    _progress: Progress = field(default_factory=Progress)
    _written: float = 0.0

    def input(self, name: str) -> Path:
        """Path of an input that has exactly one source."""
        cells = self.inputs(name)
        if len(cells) != 1:
            raise StepError(f"input {name!r} has {len(cells)} sources, this stage wants one")
        return next(iter(cells.values()))

    def inputs(self, name: str) -> dict[str, Path]:
        """All sources of an input, by cell (``""`` for an input without cells); may be empty."""
        return {m.cell: Path(m.path) for m in self._mounts("input") if m.name == name}

    def measured_in(self, name: str) -> dict[str, str]:
        """Of the sources of an input that are measurements of another run: which, by cell."""
        mounts = [m for m in self._mounts("input") if m.name == name and m.measured_in]
        return {m.cell: m.measured_in for m in mounts}

    def output(self, name: str) -> Path:
        """The folder (made and empty) of an output."""
        for mount in self._mounts("output"):
            if mount.name == name:
                return Path(mount.path)
        raise StepError(f"no output {name!r} is mounted; give it in the spec's outputs or by --out")

    def optional(self, kind: str, name: str) -> Path | None:
        """Path of a mount that may be absent (``cache``, ``secret``, ``source``)."""
        return next((Path(m.path) for m in self._mounts(kind) if m.name == name), None)

    def places(self) -> dict[str, Path]:
        """The folders that the step writes to, by what a person calls them."""
        written = [m for m in self.contract.mounts if m.kind in ("output", "cache")]
        found = {f"{m.kind} {m.name!r}": Path(m.path) for m in written}
        return {**found, "scratch": Path(tempfile.gettempdir()), "the step's folder": self.folder}

    def find(self, rule: str, severity: str, message: str, where: str = "") -> None:
        """Add a finding (severity ``info``, ``warning`` or ``error``)."""
        finding = Finding.model_validate(
            {"rule": rule, "severity": severity, "message": message, "where": where}
        )
        self.findings.append(finding)
        self.say(f"{severity}: {message}" + (f" [{where}]" if where else ""))

    def say(self, text: str) -> None:
        """A line of the step's log. One that cannot be written does not end the step."""
        _print(text, sys.stdout)

    def progress(self, done: float, total: float = 0, unit: str = "", note: str = "") -> None:
        """Tell how far the work is; written at most once a second, so call it freely."""
        self._progress = Progress(done=done, total=total, unit=unit, note=note, at=_now())
        if time.monotonic() - self._written >= 1.0:
            with contextlib.suppress(OSError):  # it is only a heartbeat
                contract.dump(self.folder, contract.PROGRESS_FILE, self._progress)
            self._written = time.monotonic()

    def result(self, status: str, message: str = "") -> Result:
        """The result so far; the outputs are digested when the status is ``ok``."""
        outputs = [self._digest(m) for m in self._mounts("output")] if status == "ok" else []
        return Result.model_validate(
            {
                "status": status,
                "message": message,
                "outputs": outputs,
                "metrics": self.metrics,
                "findings": self.findings,
                "progress": self._progress,
                "versions": {
                    "proctor_steps": __version__,
                    "python": platform.python_version(),
                    **self.versions,
                },
            }
        )

    def _digest(self, mount: Mount) -> Output:
        sha256, size = contract.tree_digest(Path(mount.path))
        media_type = self.media_types.get(mount.name, "inode/directory")
        return Output(name=mount.name, media_type=media_type, sha256=sha256, bytes=size)

    def _mounts(self, kind: str) -> list[Mount]:
        return [m for m in self.contract.mounts if m.kind == kind]


def execute(stage: Stage[Any], contract_: Contract, folder: Path) -> int:
    """Run a stage against a contract, write ``result.json`` into ``folder``; the exit code."""
    io = StepIO(contract_, folder)
    try:
        stage.run(_params(stage, contract_), io)
        result, code = io.result("ok"), contract.EXIT_OK
    except Exception as error:
        failure = _failure(error, io)
        message = _cut(str(failure))
        _print(message, sys.stderr)
        result, code = io.result(failure.status, message), failure.exit_code
    try:
        contract.dump(folder, contract.RESULT_FILE, result)
    except OSError as error:
        _print(f"the step's result is lost: {_failure(error, io)}", sys.stderr)
        return contract.EXIT_STEP_ERROR
    return code


def _failure(error: Exception, io: StepIO) -> StepFailure:
    """What ended the stage, in words; one that nobody foresaw leaves its traceback in the log."""
    if isinstance(error, StepFailure):
        return error
    if isinstance(error, MemoryError):
        return StepError(OUT_OF_MEMORY)
    if isinstance(error, OSError) and (told := trouble.explain(error, io.places())):
        return StepError(told)
    _print("".join(traceback.format_exception(error)), sys.stderr)
    return StepError(f"unexpected {type(error).__name__}: {error}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters)"


def _print(text: str, stream: TextIO | None) -> None:
    """Write a line where it can be written: a full disk or a closed pipe must not end the step."""
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # What could not be written would be tried again, with a traceback, at the very end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def main(stages: Mapping[str, Callable[[], Stage[Any]]], argv: Sequence[str]) -> int:
    """``python -m proctor_steps``: ``stages``: ``"dataset fetch"`` -> what imports it."""
    name = " ".join(argv[:2])
    if name not in stages:
        known = "\n".join(f"  {stage}" for stage in stages)
        asked_help = not argv or argv[0] in ("-h", "--help")
        print(
            f"usage: python -m proctor_steps STAGE [options]\n\nstages:\n{known}\n\n"
            "Each answers --help. Under Proctor, parameters and paths come from the contract in "
            f"${contract.STEP_DIR_VARIABLE}.",
            file=sys.stdout if asked_help else sys.stderr,
        )
        return 0 if asked_help else _USAGE
    stage = stages[name]()
    options = _parser(stage).parse_args(argv[2:])
    folder = os.environ.get(contract.STEP_DIR_VARIABLE)
    try:
        return _by_contract(stage, Path(folder)) if folder else _by_hand(stage, options)
    except _Unusable as error:
        _print(str(error), sys.stderr)
    except OSError as error:
        _print(f"{name} cannot be started: {error.strerror}: {error.filename}", sys.stderr)
    return _USAGE


class _Unusable(Exception):
    """The stage was not started: its contract or its mounts cannot be used."""


def _by_contract(stage: Stage[Any], folder: Path) -> int:
    path = folder / contract.CONTRACT_FILE
    try:
        made = contract.load_contract(folder)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValidationError as error:
        problem = "is no contract that this version reads:\n" + listed(error)
    else:
        return execute(stage, made, folder)
    raise _Unusable(
        f"{path} {problem}\nThe orchestrator writes it, and sets ${contract.STEP_DIR_VARIABLE}; to "
        "run the stage by hand, unset that variable and see --help"
    )


def _by_hand(stage: Stage[Any], options: argparse.Namespace) -> int:
    """Without an orchestrator: the contract is made from the command line."""
    fields = stage.params.model_fields
    given = {k: v for k, v in vars(options).items() if k in fields and v is not None}
    mounts = [_mount("input", text, stage.inputs) for text in options.mount_in]
    mounts += [_mount("output", text, stage.outputs) for text in options.mount_out]
    made = Contract(
        pipeline=BY_HAND,
        run=BY_HAND,
        step=stage.name.replace(" ", "-"),
        params={k: _value(v, fields[k].annotation) for k, v in given.items()},
        mounts=tuple(mounts),
        services=dict(_service(text) for text in options.service_at),
    )
    outputs = [Path(mount.path) for mount in mounts if mount.kind == "output"]
    for path in outputs:
        _make(path)
    with tempfile.TemporaryDirectory(prefix="proctor-step-") as folder:
        code = execute(stage, made, Path(folder))
        if code:
            _empty(outputs)
        result = Path(folder) / contract.RESULT_FILE
        if result.is_file():
            _print(result.read_text(), sys.stdout)
    return code


def _make(path: Path) -> None:
    """Make an output folder; what a failed step leaves is removed, so it has to be its own."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        left = _visible(path)
    except OSError as error:
        raise _Unusable(
            f"--out: the folder {path} cannot be made ({error.strerror}); give another one"
        ) from error
    if left:
        names = ", ".join(p.name for p in left[:5])
        raise _Unusable(f"--out: the folder {path} is not empty ({names}); give a new one")


def _empty(outputs: Sequence[Path]) -> None:
    """As under the orchestrator, nothing of a failed step is to be seen. What is hidden stays: a
    fetch that broke off is continued from it."""
    for path in (path for output in outputs for path in _visible(output)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _params(stage: Stage[P], contract_: Contract) -> P:
    try:
        return stage.params.model_validate(contract_.params)
    except ValidationError as error:
        raise StepError(f"parameters of {stage.name!r} do not fit:\n{listed(error)}") from error


def listed(error: ValidationError) -> str:
    """A line for each problem. The values stay out: one may be an address that holds a key."""
    return "\n".join(
        f"  {'.'.join(str(p) for p in e['loc']) or 'the file'}: {e['msg']}" for e in error.errors()
    )


def _parser(stage: Stage[Any]) -> argparse.ArgumentParser:
    mounts = [f"  --in {name}[/CELL]=DIR   {text}" for name, text in stage.inputs.items()]
    mounts += [f"  --out {name}=DIR   {text}" for name, text in stage.outputs.items()]
    parser = argparse.ArgumentParser(
        prog=f"python -m proctor_steps {stage.name}",
        description=stage.summary,
        epilog="mounts:\n" + "\n".join(mounts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, info in stage.params.model_fields.items():
        value = info.get_default(call_default_factory=True, validated_data={})
        default = "required" if info.is_required() else f"default: {value!r}"
        text = f"{info.description or ''} ({default})".strip().replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, help=text, metavar="VALUE")
    parser.add_argument("--in", dest="mount_in", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--out", dest="mount_out", action="append", default=[], metavar="NAME=DIR")
    if stage.services:
        parser.add_argument(
            "--service-at",
            action="append",
            default=[],
            metavar="NAME=URL",
            help=stage.services,
        )
    else:
        parser.set_defaults(service_at=[])
    return parser


def _mount(kind: str, text: str, known: Mapping[str, str]) -> Mount:
    option = "--in" if kind == "input" else "--out"
    name, _, path = text.partition("=")
    name, _, cell = name.partition("/")
    if not (name and path):
        raise _Unusable(f"{option} {text!r}: write NAME=DIR or NAME/CELL=DIR")
    if name not in known:
        names = ", ".join(known) or "none"
        raise _Unusable(f"{option} {text!r}: this stage has no such {kind}; it has: {names}")
    if kind == "input" and not Path(path).is_dir():
        raise _Unusable(f"{option} {text!r}: there is no folder {Path(path).absolute()}")
    return Mount.model_validate(
        {"name": name, "kind": kind, "path": str(Path(path).resolve()), "cell": cell}
    )


def _service(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not (name and url):
        raise _Unusable(f"--service-at {text!r}: write NAME=URL")
    return name, url


def _value(text: str, kind: Any) -> JsonValue:
    """Options are JSON where they read as JSON (numbers, true, lists), and text where text is
    wanted, or it reads as nothing else."""
    if kind is str or get_origin(kind) is Literal:
        return text
    try:
        return json.loads(text)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        return text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
