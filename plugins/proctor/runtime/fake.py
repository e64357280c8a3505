"""A runtime that runs nothing: for tests of whatever stands above the protocol.

It keeps its state in files, so its handles survive processes like any other's, and acts as
``<home>/fake.json`` says::

    {"steps": {"fetch": {"seconds": 0.2, "log": ["one"], "outputs": {"dataset": {"a.txt": "A"}}},
               "score.*": {"attempts": [{"outcome": "engine"}, {"outcome": "ok"}]}}}

A step that the script does not name succeeds at once, with one small file in each output. Keys of
a step: see :class:`FakeStep`. Names are shell patterns, of a subject's step ``step@subject``, too;
the first that fits counts.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue

from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.attempt import Attempt, deadline, now, stamp
from proctor.runtime.base import (
    EngineError,
    Handle,
    LogChunk,
    Outcome,
    OutputTarget,
    RequestRefused,
    RuntimeModel,
    StartRequest,
    State,
)
from proctor.runtime.collect import STOP_FILE, note_stop, settle
from proctor.runtime.failure import read_progress
from proctor.runtime.host import own_image
from proctor.runtime.logfile import read_log, tail
from proctor_steps import contract
from proctor_steps.contract import Finding, Output, Progress, Result, tree_digest

SCRIPT_FILE = "fake.json"
STARTS_FILE = "fake-starts.jsonl"
_FAKE_FILE = "fake.json"
_FAILED_FILE = "fake-failed.json"


class FakeStep(RuntimeModel):
    """How one step behaves.

    ``outcome``: ``ok``, a result's own failure (``data_error``, ``step_error``), an end from
    outside (``out_of_memory``, ``killed``, ``gone``), no result at all (``no_result``), ``hang``
    (runs until it is stopped), or a refusal at the start: ``refused``, ``engine``.
    ``seconds``: how long it runs. ``outputs``: output -> file -> text. ``attempts``: what differs
    at the first, second, ... attempt; the last entry counts for all that follow. A service with
    outcome ``ok`` runs until it is stopped, and is ready after ``ready_after`` seconds.
    """

    outcome: Literal[
        "ok", "data_error", "step_error", "out_of_memory", "killed", "gone", "no_result",
        "hang", "refused", "engine",
    ] = "ok"  # fmt: skip
    message: str = ""
    seconds: float = 0.0
    ready_after: float = 0.0
    log: tuple[str, ...] = ()
    outputs: dict[str, dict[str, str]] = Field(default_factory=dict)
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    attempts: tuple[dict[str, Any], ...] = ()


class FakeScript(RuntimeModel):
    """``fake.json``. ``identities``: image -> what :meth:`FakeRuntime.identity` answers."""

    steps: dict[str, FakeStep] = Field(default_factory=dict)
    identities: dict[str, str] = Field(default_factory=dict)
    fingerprint: dict[str, JsonValue] = Field(default_factory=dict)


class FakeRuntime:
    """A :class:`~proctor.runtime.base.Runtime` that acts as its script says."""

    name = "fake"

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.store = LocalArtifacts(self.home)

    def describe(self) -> str:
        """What a user should know before choosing it."""
        return "nothing is run: steps act as fake.json says; for tests only"

    def script(self, steps: Mapping[str, Any], **more: Any) -> None:
        """Write ``fake.json``: how steps started from now on behave."""
        made = FakeScript.model_validate({"steps": steps, **more})
        self.home.mkdir(parents=True, exist_ok=True)
        contract.dump(self.home, SCRIPT_FILE, made)

    def starts(self, step: str | None = None) -> list[dict[str, Any]]:
        """The requests that were started, oldest first."""
        try:
            lines = (self.home / STARTS_FILE).read_text().splitlines()
        except FileNotFoundError:
            return []
        requests: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [r for r in requests if step is None or r["step"] == step]

    def start(self, request: StartRequest) -> Handle:
        """See :class:`~proctor.runtime.base.Runtime`."""
        act = self._act(request)
        if act.outcome == "refused":
            raise RequestRefused(act.message or f"image {request.image!r} is refused")
        if act.outcome == "engine":
            self._fail(request)
            raise EngineError(act.message or "the engine does not answer")
        attempt = Attempt.of(self.home, request)
        with attempt.lock():
            if attempt.read(_FAKE_FILE) is None:
                attempt.prepare(request, self.store, container=False, listen=_listen(request))
                attempt.log.write_text("".join(f"{line}\n" for line in act.log))
                begun = {"started_at": stamp(now()), "act": act.model_dump(mode="json")}
                attempt.write(_FAKE_FILE, begun)
                self._count(request)
        return self._handle(attempt)

    def find(self, pipeline: str, run: str, step: str, attempt: int | None = None) -> Handle | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        found = Attempt.newest(self.home, pipeline, run, step, attempt, _was_started)
        return None if found is None else self._handle(found)

    def ours(self) -> list[Handle]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return [self._handle(attempt) for attempt in Attempt.all(self.home, _was_started)]

    def poll(self, handle: Handle) -> State:
        """See :class:`~proctor.runtime.base.Runtime`."""
        attempt = Attempt.of(self.home, handle)
        begun = attempt.read(_FAKE_FILE)
        if begun is None:
            return State(phase="gone")
        act = FakeStep.model_validate(begun["act"])
        if attempt.read(STOP_FILE) is not None:
            return State(phase="exited", signal=15)
        elapsed = _age(begun)
        stays = act.outcome == "hang" or (act.outcome == "ok" and attempt.request().listening)
        if stays or elapsed < act.seconds:
            progress = Progress(done=elapsed, total=act.seconds, unit="s")
            return State(phase="running", progress=progress)
        return self._ended(attempt, act)

    def pid(self, handle: Handle) -> int | None:
        """See :class:`~proctor.runtime.base.Runtime`. Nothing runs, so there is none."""
        return None

    def logs(self, handle: Handle, since: str = "") -> LogChunk:
        """See :class:`~proctor.runtime.base.Runtime`."""
        ended = self.poll(handle).phase != "running"
        return read_log(Attempt.of(self.home, handle).log, since, ended=ended)

    def tail(self, handle: Handle, lines: int = 20) -> tuple[str, ...]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return tail(Attempt.of(self.home, handle).log, lines)

    def ready(self, handle: Handle) -> bool:
        """See :class:`~proctor.runtime.base.Runtime`."""
        begun = Attempt.of(self.home, handle).read(_FAKE_FILE)
        if begun is None or self.poll(handle).phase != "running":
            return False
        return _age(begun) >= FakeStep.model_validate(begun["act"]).ready_after

    def stop(self, handle: Handle, grace_seconds: float = 10.0) -> None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        if self.poll(handle).phase == "running":
            note_stop(Attempt.of(self.home, handle), grace_seconds)

    def collect(self, handle: Handle) -> Outcome:
        """See :class:`~proctor.runtime.base.Runtime`."""
        attempt = Attempt.of(self.home, handle)
        state, foreign = self.poll(handle), own_image(handle.image) is None
        said = tail(attempt.log)
        return settle(attempt, self.store, handle, state, log_tail=said, foreign=foreign)

    def remove(self, handle: Handle) -> None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        Attempt.of(self.home, handle).remove(self.store)

    def sweep(self) -> list[str]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return []

    def containers_running(self) -> int | None:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """See :class:`~proctor.runtime.base.Runtime`."""
        return {"runtime": self.name, **self._script().fingerprint}

    def identity(self, image: str, local: str = "") -> str:
        """See :class:`~proctor.runtime.base.Runtime`."""
        name = local or image
        return self._script().identities.get(name, f"fake:{name}")

    def _script(self) -> FakeScript:
        try:
            return FakeScript.model_validate_json((self.home / SCRIPT_FILE).read_bytes())
        except FileNotFoundError:
            return FakeScript()

    def _act(self, request: StartRequest) -> FakeStep:
        steps = self._script().steps.items()
        names = (request.step, f"{request.step}@{request.partition}")
        fits = (s for pattern, s in steps if any(fnmatchcase(name, pattern) for name in names))
        base = next(fits, FakeStep())
        if not base.attempts:
            return base
        number = request.attempt + self._failed(request)
        change = base.attempts[min(number, len(base.attempts)) - 1]
        return FakeStep.model_validate({**base.model_dump(), **change, "attempts": ()})

    def _failed(self, request: StartRequest) -> int:
        """How often the engine has failed to start this attempt: it keeps its number."""
        told = Attempt.of(self.home, request).read(_FAILED_FILE) or {}
        return int(told.get("times", 0))

    def _fail(self, request: StartRequest) -> None:
        attempt = Attempt.of(self.home, request)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        attempt.write(_FAILED_FILE, {"times": self._failed(request) + 1})

    def _count(self, request: StartRequest) -> None:
        with (self.home / STARTS_FILE).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(request.model_dump_json() + "\n")

    def _ended(self, attempt: Attempt, act: FakeStep) -> State:
        if act.outcome == "gone":
            return State(phase="gone")
        if act.outcome in ("killed", "out_of_memory"):
            oom = act.outcome == "out_of_memory"
            return State(phase="exited", signal=9, out_of_memory=oom)
        if act.outcome == "no_result":
            return State(phase="exited", exit_code=0)
        code = {"data_error": contract.EXIT_DATA_ERROR, "step_error": contract.EXIT_STEP_ERROR}
        self._write_result(attempt, act)
        progress = read_progress(attempt.step_dir)
        return State(phase="exited", exit_code=code.get(act.outcome, 0), progress=progress)

    def _write_result(self, attempt: Attempt, act: FakeStep) -> None:
        if (attempt.step_dir / contract.RESULT_FILE).exists():
            return
        ok = act.outcome == "ok"
        outputs = (
            [self._fill(attempt, output, act) for output in attempt.request().outputs] if ok else []
        )
        made = Result(
            status="ok" if ok else "data_error" if act.outcome == "data_error" else "step_error",
            message=act.message,
            outputs=tuple(outputs),
            metrics=act.metrics,
            findings=act.findings,
        )
        contract.dump(attempt.step_dir, contract.RESULT_FILE, made)

    def _fill(self, attempt: Attempt, output: OutputTarget, act: FakeStep) -> Output:
        name = output.name
        root = self.store.staged(attempt.name, name)
        if output.shared:
            root = self.store.shared(attempt.name.pipeline, attempt.name.run, name)
        files = act.outputs.get(name, {"fake.txt": f"{attempt.name.step}/{name}\n"})
        for file, text in files.items():
            path = root if output.type == "file" else root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        sha256, size = tree_digest(root)
        return Output(name=name, media_type="inode/directory", sha256=sha256, bytes=size)

    def _handle(self, attempt: Attempt) -> Handle:
        request = attempt.request()
        begun = attempt.read(_FAKE_FILE) or {}
        started = datetime.fromisoformat(begun["started_at"])
        return Handle(
            runtime=self.name,
            id=f"fake:{attempt.name.folders().as_posix()}",
            pipeline=request.pipeline,
            run=request.run,
            step=request.step,
            attempt=request.attempt,
            folder=str(attempt.folder),
            image=request.image,
            local_image=request.local_image,
            image_digest=self.identity(request.image, request.local_image),
            started_at=stamp(started),
            deadline_at=deadline(started, request.deadline_seconds),
            outputs=request.outputs,
            url=f"http://{_listen(request)}" if request.listening else "",
        )


def _age(begun: Mapping[str, Any]) -> float:
    return (now() - datetime.fromisoformat(begun["started_at"])).total_seconds()


def _listen(request: StartRequest) -> str:
    return f"{request.step}:{request.listening.port}" if request.listening else ""


def _was_started(attempt: Attempt) -> bool:
    return (attempt.folder / _FAKE_FILE).exists()
