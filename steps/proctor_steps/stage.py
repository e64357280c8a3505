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
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from proctor_steps import __version__, contract
from proctor_steps.contract import Contract, Finding, Mount, Output, Progress, Result


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
    """Base of every stage's parameters: immutable, an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=StageParams)


@dataclass(frozen=True)
class Stage(Generic[P]):
    """A command ``python -m proctor_steps <name>``. ``inputs``, ``outputs``: name -> meaning."""

    name: str
    summary: str
    params: type[P]
    run: Callable[[P, StepIO], None]
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


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

    def output(self, name: str) -> Path:
        """The folder (made and empty) of an output."""
        for mount in self._mounts("output"):
            if mount.name == name:
                return Path(mount.path)
        raise StepError(f"no output {name!r} is mounted; give it in the spec's outputs or by --out")

    def optional(self, kind: str, name: str) -> Path | None:
        """Path of a mount that may be absent (``cache``, ``secret``, ``source``)."""
        return next((Path(m.path) for m in self._mounts(kind) if m.name == name), None)

    def find(self, rule: str, severity: str, message: str, where: str = "") -> None:
        """Add a finding (severity ``info``, ``warning`` or ``error``)."""
        finding = Finding.model_validate(
            {"rule": rule, "severity": severity, "message": message, "where": where}
        )
        self.findings.append(finding)
        self.say(f"{severity}: {message}" + (f" [{where}]" if where else ""))

    def say(self, text: str) -> None:
        """A line of the step's log."""
        print(text, flush=True)

    def progress(self, done: float, total: float = 0, unit: str = "", note: str = "") -> None:
        """Tell how far the work is; written at most once a second, so call it freely."""
        self._progress = Progress(done=done, total=total, unit=unit, note=note, at=_now())
        if time.monotonic() - self._written >= 1.0:
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
    except StepFailure as error:
        print(f"{error}", file=sys.stderr, flush=True)
        result, code = io.result(error.status, str(error)), error.exit_code
    except MemoryError:
        message = "the step ran out of memory; give it more (resources.memory) or less to do"
        result, code = io.result("step_error", message), contract.EXIT_STEP_ERROR
    except Exception as error:
        # Unforeseen: the traceback goes to the log for whoever mends it, the message to the record.
        traceback.print_exc()
        message = f"unexpected {type(error).__name__}: {error}"
        result, code = io.result("step_error", message), contract.EXIT_STEP_ERROR
    contract.dump(folder, contract.RESULT_FILE, result)
    return code


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
        return 0 if asked_help else 64
    stage = stages[name]()
    options = _parser(stage).parse_args(argv[2:])
    folder = os.environ.get(contract.STEP_DIR_VARIABLE)
    if folder:
        return execute(stage, contract.load_contract(Path(folder)), Path(folder))
    return _by_hand(stage, options)


def _by_hand(stage: Stage[Any], options: argparse.Namespace) -> int:
    """Without an orchestrator: the contract is made from the command line."""
    given = vars(options)
    params = {k: _value(v) for k, v in given.items() if k not in ("mount_in", "mount_out")}
    mounts = [_mount("input", text) for text in given["mount_in"]]
    mounts += [_mount("output", text) for text in given["mount_out"]]
    for mount in mounts:
        if mount.kind == "output":
            Path(mount.path).mkdir(parents=True, exist_ok=True)
    made = Contract(
        pipeline="by-hand",
        run="by-hand",
        step=stage.name.replace(" ", "-"),
        params={k: v for k, v in params.items() if v is not None},
        mounts=tuple(mounts),
    )
    with tempfile.TemporaryDirectory(prefix="proctor-step-") as folder:
        code = execute(stage, made, Path(folder))
        print((Path(folder) / contract.RESULT_FILE).read_text())
    return code


def _params(stage: Stage[P], contract_: Contract) -> P:
    try:
        return stage.params.model_validate(contract_.params)
    except ValidationError as error:
        problems = "\n".join(
            # The value stays out: it may be an address that holds a key.
            f"  {'.'.join(str(p) for p in e['loc'])}: {e['msg']}"
            for e in error.errors()
        )
        raise StepError(f"parameters of {stage.name!r} do not fit:\n{problems}") from error


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
    return parser


def _mount(kind: str, text: str) -> Mount:
    name, _, path = text.partition("=")
    name, _, cell = name.partition("/")
    if not (name and path):
        raise SystemExit(f"{text!r}: a mount is given as NAME=DIR or NAME/CELL=DIR")
    return Mount.model_validate(
        {"name": name, "kind": kind, "path": str(Path(path).resolve()), "cell": cell}
    )


def _value(text: str | None) -> JsonValue:
    """Options are JSON where they read as JSON (numbers, true, lists), else text."""
    if text is None:
        return None
    try:
        return json.loads(text)  # type: ignore[no-any-return]
    except json.JSONDecodeError:
        return text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
