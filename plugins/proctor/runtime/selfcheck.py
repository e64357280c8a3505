"""Checks that every runtime must pass: for the tests, and for a user's own machine.

Each check is a plain function that takes a :class:`Bench`, raises ``AssertionError`` (or a
runtime's own error) where the runtime breaks the protocol, and cleans up behind itself. What was
observed counts, the process table and the files, not what the runtime says of itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.base import Handle, InputSource, Listening, OutputTarget
from proctor.runtime.bench import PATIENCE, Bench, expect
from proctor.runtime.choose import choose
from proctor.runtime.fake import FakeRuntime
from proctor_steps.history import HISTORY_FILE

OUT = (OutputTarget(name="made", mount_path="/proctor/out/made"),)


def check_success(bench: Bench) -> None:
    """A step that succeeds: found, logged, collected twice alike, outputs visible and immutable."""
    files = {"made": {"a.txt": "A", "sub/b.txt": "äöü ☃"}}
    handle = bench.start("success", {"files": files, "seconds": 0.3}, outputs=OUT)
    found = bench.runtime.find("selfcheck", bench.run, "success")
    expect(found == handle, f"find gives {found}, start gave {handle}")
    store = LocalArtifacts(bench.home)
    uri = f"artifact:selfcheck/{bench.run}/success/1/made"
    visible_early = bool(_files(store, uri)) and bench.runtime.poll(handle).phase == "running"
    expect(not visible_early, "an output is visible while the step runs")
    state = bench.wait(handle)
    expect((state.phase, state.exit_code) == ("exited", 0), f"ended as {state}")
    outcome = bench.runtime.collect(handle)
    expect(outcome.failure is None, f"failed: {outcome.failure}")
    expect(outcome.outputs == {"made": uri}, f"outputs are {outcome.outputs}")
    expect(bench.runtime.collect(handle) == outcome, "collecting again gives another outcome")
    expect(_files(store, uri) == ["a.txt", "sub/b.txt"], f"files are {_files(store, uri)}")
    expect(store.read(uri, "sub/b.txt").decode() == "äöü ☃", "content has changed")
    for path in [store.path(uri), *store.path(uri).rglob("*")]:
        expect(not path.stat().st_mode & 0o222, f"{path.name} is still writable")
    bench.runtime.remove(handle)
    expect(bench.runtime.find("selfcheck", bench.run, "success") is None, "found after remove")
    expect(_files(store, uri) == ["a.txt", "sub/b.txt"], "remove took the artifact away")


def check_start_twice(bench: Bench) -> None:
    """The same attempt started twice is one attempt; find gives the newest."""
    first = bench.start("twice", {"seconds": 2})
    second = bench.start("twice", {"seconds": 2})
    expect(first == second, f"a second start gave another handle: {second}")
    newer = bench.start("twice", {"seconds": 0}, attempt=2)
    ours = [handle for handle in bench.runtime.ours() if handle.run == bench.run]
    expect(len(ours) == 2 and first in ours and newer in ours, f"ours gives {ours}")
    expect(bench.runtime.find("selfcheck", bench.run, "twice") == newer, "find gives the older")
    older = bench.runtime.find("selfcheck", bench.run, "twice", 1)
    expect(older == first, f"find of attempt 1 gives {older}")
    expect(bench.runtime.find("selfcheck", "no-such-run", "twice") is None, "found what is not")


def check_inputs(bench: Bench) -> None:
    """What one step left, another reads; a fan-in's cells lie apart."""
    uris = {}
    for cell in ("Offline", "Server"):
        files = {"made": {"cell.txt": f"of {cell} ☃"}}
        handle = bench.start(f"cell.{cell}", {"files": files}, outputs=OUT)
        uris[cell] = bench.finish(handle).outputs["made"]
    sources = [
        InputSource(name="all", cell=c, uri=u, mount_path=f"/proctor/in/all/{c}")
        for c, u in uris.items()
    ]
    outcome = bench.finish(bench.start("fan-in", inputs=tuple(sources)))
    expect(outcome.failure is None and outcome.result is not None, f"failed: {outcome.failure}")
    if bench.script is None and outcome.result is not None:
        seen: Any = outcome.result.metrics["seen"]
        told = {c: seen["inputs"][f"input/all/{c}"] for c in uris}
        wanted = {c: {"cell.txt": f"of {c} ☃"} for c in uris}
        expect(told == wanted, f"the step saw {told}")


def check_bound(bench: Bench) -> None:
    """What a site binds to a logical mount, a folder or a file, is read as any input."""
    folder, file = bench.home / "bound" / "scans", bench.home / "bound" / "parameters.yaml"
    folder.mkdir(parents=True)
    (folder / "scan.txt").write_text("ä scan")
    file.write_text("size: 3")
    sources = [
        InputSource(name="scans", host_path=str(folder), mount_path="/raw/scans"),
        InputSource(name="file", host_path=str(file), mount_path="/raw/parameters.yaml"),
    ]
    outcome = bench.finish(bench.start("bound", inputs=tuple(sources)))
    expect(outcome.failure is None and outcome.result is not None, f"failed: {outcome.failure}")
    if bench.script is None and outcome.result is not None:
        seen: Any = outcome.result.metrics["seen"]
        told = {name: seen["inputs"][f"input/{name}"] for name in ("scans", "file")}
        wanted = {"scans": {"scan.txt": "ä scan"}, "file": "size: 3"}
        expect(told == wanted, f"the step saw {told}")


def check_history(bench: Bench) -> None:
    """What was measured before is read as it was written, through a mount of its own kind."""
    file = bench.home / "told" / HISTORY_FILE
    file.parent.mkdir(parents=True)
    file.write_text('{"series": []}')
    outcome = bench.finish(bench.start("history", history=str(file)))
    expect(outcome.failure is None and outcome.result is not None, f"failed: {outcome.failure}")
    if bench.script is None and outcome.result is not None:
        seen: Any = outcome.result.metrics["seen"]
        told = seen["inputs"].get("history/history")
        expect(told == '{"series": []}', f"the step saw {told}")


def check_failures(bench: Bench) -> None:
    """Failures of data and step are told apart; none publishes anything."""
    for act, kind in (
        ({"end": "data_error"}, "data"),
        ({"end": "step_error"}, "step"),
        ({"end": "no_result"}, "step"),
    ):
        step = f"fails-{act['end']}"
        outcome = bench.finish(bench.start(step, act, outputs=OUT))
        found = outcome.failure.kind if outcome.failure else None
        expect(found == kind, f"{step} is judged {found}: {outcome.failure}")
        uri = f"artifact:selfcheck/{bench.run}/{step}/1/made"
        expect(not outcome.outputs, f"{step} has outputs")
        expect(not _files(LocalArtifacts(bench.home), uri), f"{step} published something")


def check_changed_output(bench: Bench) -> None:
    """An output that no longer has the digest of the result fails the step."""
    if bench.script is not None:
        return
    act = {"files": {"made": {"a.txt": "A"}}, "end": "spoil"}
    failure = bench.finish(bench.start("spoilt", act, outputs=OUT)).failure
    expect(failure is not None and failure.kind == "step", f"judged {failure}")
    expect(failure is not None and "digest" in failure.message, f"says {failure}")


def check_crash(bench: Bench) -> None:
    """A crash is the step's own, and its result is not missed silently."""
    if bench.script is not None:
        return
    failure = bench.finish(bench.start("crash", {"end": "crash"})).failure
    expect(failure is not None and failure.kind == "step", f"judged {failure}")
    expect(failure is not None and "SIGSEGV" in failure.message, f"says {failure}")


def check_logs(bench: Bench) -> None:
    """Many lines arrive once, in order, in bounded pieces; unicode survives."""
    count = 0 if bench.script is not None else 5000
    said = ["first ☃", "", "third äöü 日本語"]
    handle = bench.start("logs", {"say": said, "spam_lines": count})
    bench.wait(handle)
    lines, pieces = bench.lines(handle)
    expect(lines[:3] == said, f"the first lines are {lines[:3]}")
    wanted = [f"line {n:06d} " + "x" * 80 for n in range(count)]
    expect(lines[3 : 3 + count] == wanted, f"{len(lines)} lines came, some lost or out of order")
    expect(count == 0 or pieces > 3, f"{count} lines came in {pieces} pieces")


def check_stop(bench: Bench) -> None:
    """Stop ends the step and its children, even unwilling ones; stopping twice is fine."""
    act = {"say": ["ready"], "children": 2, "ignore_term": True, "seconds": 600}
    handle = bench.start("stopped", act)
    with _none_left(bench, handle):
        bench.wait_for_line(handle, "ready")
        expect(bench.runtime.poll(handle).phase == "running", "it does not run")
        expect(bench.script is not None or len(living(handle)) >= 3, "its children are not seen")
        begun = time.monotonic()
        bench.runtime.stop(handle, grace_seconds=1.0)
        expect(time.monotonic() - begun < 20, "stop took longer than its grace")
    expect(bench.runtime.poll(handle).phase != "running", "it runs after stop")
    bench.runtime.stop(handle)
    failure = bench.runtime.collect(handle).failure
    expect(failure is not None and failure.kind == "cancelled", f"judged {failure}")


def check_deadline(bench: Bench) -> None:
    """A stop at the deadline is judged as one."""
    handle = bench.start("late", {"say": ["ready"], "seconds": 600}, deadline_seconds=1.5)
    end = time.monotonic() + 2.0
    while time.monotonic() < end and bench.runtime.poll(handle).phase == "running":
        time.sleep(0.05)
    bench.runtime.stop(handle, grace_seconds=1.0)
    failure = bench.finish(handle).failure
    expect(failure is not None and failure.kind == "deadline", f"judged {failure}")


def check_reattach(bench: Bench) -> None:
    """A step outlives who started it, and is found, watched and collected by another process."""
    act = {"files": {"made": {"a.txt": "A"}}, "seconds": 2.0, "say": ["hello"]}
    request = bench.request("orphan", act, outputs=OUT)
    command = [sys.executable, "-c", _STARTER, bench.runtime.name, str(bench.home)]
    done = subprocess.run(
        command, input=request.model_dump_json(), capture_output=True, text=True, check=False
    )
    expect(done.returncode == -9, f"the starter did not die as meant: {done.stderr[-2000:]}")
    handle = bench.runtime.find("selfcheck", bench.run, "orphan")
    expect(handle is not None, "not found after its starter was killed")
    if handle is not None:
        bench.started.append(handle)
        expect(handle == Handle.model_validate_json(done.stdout), "another handle was found")
        expect(bench.runtime.poll(handle).phase == "running", "it died with its starter")
        bench.wait_for_line(handle, "hello")
        expect(bench.finish(handle).failure is None, "it failed")


_STARTER = """
import os, signal, sys
from pathlib import Path
from proctor.runtime.base import StartRequest
from proctor.runtime.choose import make
runtime = make(sys.argv[1], Path(sys.argv[2]))
handle = runtime.start(StartRequest.model_validate_json(sys.stdin.read()))
print(handle.model_dump_json(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def check_service(bench: Bench) -> None:
    """A service: ready when it says so, found by another, reached by a step, stopped for good."""
    act = {"text": "äöü ☃", "ready_after": 1.0}
    listening = Listening(port=8000, ready="/ready")
    more: dict[str, Any] = {"command": ("selfcheck", "serve"), "deadline_seconds": 0}
    handle = bench.start("echo", act, listening=listening, **more)
    expect(not handle.deadline_at, f"a service has the deadline {handle.deadline_at}")
    expect(bench.runtime.find("selfcheck", bench.run, "echo") == handle, "another one is found")
    expect(not bench.runtime.ready(handle), "it is ready before it says so")
    end = time.monotonic() + PATIENCE
    while not bench.runtime.ready(handle):
        expect(bench.runtime.poll(handle).phase == "running", f"it ended: {_said(bench, handle)}")
        expect(time.monotonic() < end, f"it is not ready after {PATIENCE} s")
        time.sleep(0.05)
    outcome = bench.finish(bench.start("asks", services={"echo": handle.url}))
    expect(outcome.failure is None and outcome.result is not None, f"failed: {outcome.failure}")
    if bench.script is None and outcome.result is not None:
        seen: Any = outcome.result.metrics["seen"]
        expect(seen["services"] == {"echo": "äöü ☃"}, f"the step was told {seen['services']}")
    with _none_left(bench, handle):
        bench.runtime.stop(handle, grace_seconds=1.0)
    expect(not bench.runtime.ready(handle), "it is ready after its stop")
    bench.runtime.remove(handle)
    expect(bench.runtime.find("selfcheck", bench.run, "echo") is None, "found after remove")
    bench.clean()
    expect(bench.runtime.sweep() == [], "something of it was left")


def _said(bench: Bench, handle: Handle) -> str:
    return " | ".join(bench.runtime.tail(handle))


CHECKS: tuple[Callable[[Bench], None], ...] = (
    check_success,
    check_start_twice,
    check_inputs,
    check_bound,
    check_history,
    check_failures,
    check_changed_output,
    check_crash,
    check_logs,
    check_stop,
    check_deadline,
    check_reattach,
    check_service,
)


def run_all(bench: Bench, say: Callable[[str], None] = print) -> bool:
    """Run every check and say how each went; whether all passed."""
    passed = True
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        begun = time.monotonic()
        try:
            check(bench)
            say(f"ok      {name} ({time.monotonic() - begun:.1f} s)")
        except Exception as error:
            passed = False
            say(f"FAILED  {name}: {type(error).__name__}: {error}")
        finally:
            bench.clean()
    return passed


def check_runtime(kind: str, say: Callable[[str], None] = print) -> bool:
    """Check a runtime of this machine, in a home of its own; whether it passed.

    Raises:
        EngineError, RequestRefused: it cannot be had here at all.
    """
    with tempfile.TemporaryDirectory(prefix="proctor-selfcheck-") as folder:
        runtime, reason = choose(kind, Path(folder), ["proctor/steps"], say)
        say(f"{runtime.name}: {reason}")
        script = fake_script(runtime) if isinstance(runtime, FakeRuntime) else None
        return run_all(Bench(runtime, Path(folder), script=script), say)


def fake_script(runtime: FakeRuntime) -> Callable[[str, dict[str, Any]], None]:
    """Tells a fake runtime's script what the stage would do."""
    steps: dict[str, dict[str, Any]] = {}

    def tell(step: str, act: dict[str, Any]) -> None:
        told = {"log": act.get("say", []), "seconds": act.get("seconds", 0)}
        told |= {"outcome": act.get("end", "ok"), "outputs": act.get("files", {})}
        told["ready_after"] = act.get("ready_after", 0)
        steps[step] = told
        runtime.script(json.loads(json.dumps(steps)))

    return tell


@contextmanager
def _none_left(bench: Bench, handle: Handle) -> Iterator[None]:
    """Nothing of the step may be in the process table afterwards, though there was something."""
    yield
    left = living(handle) if bench.script is None else []
    expect(not left, f"processes {left} are left")


def living(handle: Handle) -> list[int]:
    """Living processes of a step: by their environment or, in a container, by their cgroup."""
    marker = f"PROCTOR_STEP_DIR={handle.folder}/step".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
                ours = marker in (entry / "environ").read_bytes().split(b"\0")
                contained = handle.id in (entry / "cgroup").read_text()
            except OSError:
                continue
            if (ours or contained) and state not in "ZX":
                found.append(int(entry.name))
    return found


def _files(store: LocalArtifacts, uri: str) -> list[str]:
    try:
        return store.files(uri)
    except ValueError:
        return []
