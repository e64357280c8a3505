"""The Runtime protocol and the data that crosses it.

Everything is JSON-able, because a handle outlives the process that made it: it is stored, found
again after a crash, and passed to a trigger. Paths of this host appear only inside runtime/.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from proctor.plan.model import Resources
from proctor_steps.contract import Approval, Progress, Result
from proctor_steps.trouble import printable

# Labels of every container or process of ours; together they name one step of one run.
LABEL_HOME = "proctor.home"
LABEL_PIPELINE = "proctor.pipeline"
LABEL_RUN = "proctor.run"
LABEL_STEP = "proctor.step"
LABEL_ATTEMPT = "proctor.attempt"


class RuntimeModel(BaseModel):
    """Base of what crosses the protocol: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSource(RuntimeModel):
    """One read-only input and where a container sees it.

    Either an artifact (``uri``), or what the site binds to a logical mount (``host_path``).
    ``below``: only this file or folder of it. Or a directory or file that the steps of its run
    share, by its name (``shared``): that one can be written to. ``measured_in``: the other run's
    attempt that it is a measurement of, where it was taken over. ``sha256``, ``fetched``: as in the
    contract's mount, which they become.
    """

    name: str
    cell: str = ""
    uri: str = ""
    host_path: str = ""
    shared: str = ""
    type: Literal["directory", "file"] = "directory"
    mount_path: str
    below: str = ""
    measured_in: str = ""
    sha256: str = ""
    fetched: dict[str, JsonValue] = Field(default_factory=dict)


class OutputTarget(RuntimeModel):
    """One output and where a container sees it.

    ``shared``: the directory of that name which the steps of the run share; it is never published.
    """

    name: str
    mount_path: str
    type: Literal["directory", "file"] = "directory"
    shared: bool = False


class HostSource(RuntimeModel):
    """A ``file://`` parameter of the step that the site allowed: bound read-only.

    ``param`` is the step's own parameter; its value becomes the path that the step sees.
    """

    param: str
    host_path: str
    mount_path: str


class Listening(RuntimeModel):
    """What makes a service of a request: its port, and the path that tells when it is ready."""

    port: int
    ready: str = ""


class StartRequest(RuntimeModel):
    """All that a runtime needs to start one attempt of one step, or of one service.

    ``image``: as the spec names it; ``local_image``: what the site runs for it, if it says so.
    ``services``: those that a step uses, name -> the URL of their handle. ``listening``: this is a
    service; steps of its run reach it under ``step``, its name. ``partition``: the subject.
    ``deadline_seconds`` 0: none, for services only. ``lineage``: where all that it reads came
    from, for a step that stands behind a gate; empty for others. ``history``: the file of this host
    that tells what was measured before; "": it is not told.
    """

    pipeline: str
    run: str
    step: str
    attempt: int
    partition: str = ""
    image: str
    local_image: str = ""
    command: tuple[str, ...]
    params: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: tuple[InputSource, ...] = ()
    outputs: tuple[OutputTarget, ...] = ()
    sources: tuple[HostSource, ...] = ()
    cache: bool = False
    secrets: tuple[str, ...] = ()
    history: str = ""
    approvals: tuple[Approval, ...] = ()
    lineage: dict[str, JsonValue] = Field(default_factory=dict)
    network: bool = False
    services: dict[str, str] = Field(default_factory=dict)
    listening: Listening | None = None
    exclusive: bool = False
    resources: Resources = Resources()
    deadline_seconds: float = 3600.0
    seed: int = 0


class Handle(RuntimeModel):
    """Names one started attempt. ``id``: the container's id, or pid and start time.

    ``url``: where steps reach a service. ``deadline_at``: "" where there is none.
    ``deadline_uptime``: the deadline again, by the host's uptime; see runtime/deadline.py.
    """

    runtime: str
    id: str
    pipeline: str
    run: str
    step: str
    attempt: int
    folder: str
    image: str = ""
    local_image: str = ""
    image_digest: str = ""
    started_at: str = ""
    deadline_at: str = ""
    deadline_uptime: float = 0.0
    outputs: tuple[OutputTarget, ...] = ()
    url: str = ""


class State(RuntimeModel):
    """How an attempt stands. ``gone``: the engine knows it no more, and no exit was recorded."""

    phase: Literal["running", "exited", "gone"]
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    progress: Progress | None = None


class LogChunk(RuntimeModel):
    """Whole lines since ``since``, at most a few tens of KiB; ``next`` is the new position."""

    lines: tuple[str, ...]
    next: str


FailureKind = Literal["data", "step", "out_of_memory", "killed", "deadline", "cancelled", "engine"]


class Failure(RuntimeModel):
    """Why an attempt failed, in words for the reader. Only ``engine`` is worth a retry.

    The words may be the step's own: what would act on a terminal is spelled out.
    """

    kind: FailureKind
    message: Annotated[str, AfterValidator(printable)]


class Outcome(RuntimeModel):
    """What an ended attempt left. ``outputs``: name -> artifact URI, visible only on success."""

    failure: Failure | None = None
    result: Result | None = None
    outputs: dict[str, str] = Field(default_factory=dict)


class EngineError(Exception):
    """The engine, not the step, failed: it does not answer, or refused for a reason of its own."""


class RequestRefused(Exception):
    """The request cannot be run here at all (image missing, not the project's own, ...)."""


class Runtime(Protocol):
    """Starts attempts and finds them again. All methods block; none keeps state in memory.

    Every method may raise :class:`EngineError`.
    """

    name: str

    def describe(self) -> str:
        """What a user should know before choosing it, in one sentence."""

    def start(self, request: StartRequest) -> Handle:
        """Start an attempt; returns as soon as it runs.

        Raises:
            RequestRefused: it cannot be run here, whatever one retries.
        """

    def find(self, pipeline: str, run: str, step: str, attempt: int | None = None) -> Handle | None:
        """The newest attempt of a step that this runtime still knows, running or ended."""

    def ours(self) -> list[Handle]:
        """All attempts of this home that it still knows: what a launcher cleans up after."""

    def poll(self, handle: Handle) -> State:
        """How it stands."""

    def pid(self, handle: Handle) -> int | None:
        """The process whose end is the attempt's, while it lives and where this host shows it."""

    def logs(self, handle: Handle, since: str = "") -> LogChunk:
        """The lines written since a position ("" is the beginning)."""

    def tail(self, handle: Handle, lines: int = 20) -> tuple[str, ...]:
        """The last lines of its log."""

    def ready(self, handle: Handle) -> bool:
        """Whether a service that runs can be used now; blocks for a few seconds at most."""

    def stop(self, handle: Handle, grace_seconds: float = 10.0) -> None:
        """End it: SIGTERM, then SIGKILL. Nothing to do where it has ended or is gone."""

    def collect(self, handle: Handle) -> Outcome:
        """Judge an ended attempt and, if it succeeded, make its outputs visible by one rename.

        May be called again after a crash in the middle; it then gives the same outcome.
        """

    def remove(self, handle: Handle) -> None:
        """Forget it: remove container and the attempt's scratch. After the record is written."""

    def sweep(self) -> list[str]:
        """Remove what this home has left in the engine that is no attempt's; a line for each."""

    def containers_running(self) -> int | None:
        """How many containers its engine runs, whoever's; ``None`` where it has no engine."""

    def fingerprint(self) -> dict[str, Any]:
        """What of this host and engine shapes a measurement (CPU model, kernel, versions)."""

    def identity(self, image: str, local: str = "") -> str:
        """What the image is here: its digest or, for processes, that of code and packages.

        ``local``: the ``name@sha256:...`` that the site runs for it.

        Raises:
            RequestRefused: no such image here; the message says how to get it.
        """
