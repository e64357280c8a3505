import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proctor.runtime import processes, selfcheck
from proctor.runtime.base import HostSource, OutputTarget, RequestRefused
from proctor.runtime.process import ProcessRuntime
from proctor.runtime.selfcheck import Bench


@pytest.fixture
def bench(tmp_path):
    made = Bench(ProcessRuntime(tmp_path / "home"), tmp_path / "home")
    yield made
    made.clean()


@pytest.mark.parametrize("check", selfcheck.CHECKS, ids=lambda c: c.__name__)
def test_selfcheck(bench, check):
    check(bench)


def test_only_the_projects_own_images_are_run(bench):
    for image in ("alpine", "proctor/nosuch", "evil/proctor/steps", "proctor/steps:other"):
        with pytest.raises(RequestRefused, match="not one of the project's own"):
            bench.start("refused", image=image)


def test_the_launchers_credentials_are_not_inherited(bench, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("http_proxy", "http://user:password@proxy:1")
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    outcome = bench.finish(bench.start("env", network=True))
    seen = outcome.result.metrics["seen"]["environment"]
    assert "AWS_SECRET_ACCESS_KEY" not in seen
    assert "http_proxy" not in seen and "https_proxy" in seen
    assert "PROCTOR_STEP_DIR" in seen and "PYTHONHASHSEED" in seen


def test_a_source_is_seen_under_its_own_path(bench, tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.txt").write_text("given")
    source = HostSource(
        param="source", host_path=str(tmp_path / "given"), mount_path="/proctor/source/source"
    )
    outcome = bench.finish(bench.start("source", {"source": "file:///x"}, sources=(source,)))
    seen = outcome.result.metrics["seen"]
    assert seen["source"] == {"a.txt": "given"} == seen["inputs"]["source/source"]


def test_a_missing_source_is_refused(bench, tmp_path):
    source = HostSource(param="uri", host_path=str(tmp_path / "nothing"), mount_path="/x")
    with pytest.raises(RequestRefused, match="'uri': there is no file or folder"):
        bench.start("nothing", sources=(source,))


def test_a_missing_input_is_refused(bench):
    uri = "artifact:selfcheck/r/s/1/o"
    given = [{"name": "x", "uri": uri, "mount_path": "/proctor/in/x"}]
    with pytest.raises(RequestRefused, match="no such artifact"):
        bench.start("nothing", inputs=given)


def test_secrets_are_passed_and_leave_no_copy(bench):
    folder = bench.home / "secrets"
    folder.mkdir(parents=True)
    (folder / "s3").write_text("key")
    (folder / "s3").chmod(0o644)
    with pytest.raises(RequestRefused, match=r"mode 0644, others may read it; chmod 600"):
        bench.start("secret", secrets=("s3",))
    (folder / "s3").chmod(0o600)
    handle = bench.start("secret", secrets=("s3",))
    outcome = bench.finish(handle)
    assert outcome.result.metrics["seen"]["inputs"]["secret/s3"] == "key"
    assert not (Path(handle.folder) / "secrets").exists()
    with pytest.raises(RequestRefused, match="cannot read"):
        bench.start("no-secret", secrets=("other",))


def test_the_shim_keeps_the_deadline_alone(bench):
    act = {"children": 1, "ignore_term": True, "seconds": 600}
    handle = bench.start("alone", act, deadline_seconds=4)
    stop = Path(handle.folder) / "stop.json"
    stop.write_text(json.dumps({"grace_seconds": 0.2, "at": handle.deadline_at}))
    state = bench.wait(handle)
    assert state.signal == signal.SIGKILL
    assert bench.runtime.collect(handle).failure.kind == "deadline"
    assert not selfcheck.living(handle)


def test_a_killed_shim_takes_its_step_along_and_is_the_engines_failure(bench):
    handle = bench.start("shimless", {"say": ["ready"], "children": 2, "seconds": 600})
    bench.wait_for_line(handle, "ready")
    child = json.loads((Path(handle.folder) / "shim.json").read_text())["child"]
    os.kill(processes.living_pid(handle.id), signal.SIGKILL)
    end = time.monotonic() + 10
    while bench.runtime.poll(handle).phase == "running" and time.monotonic() < end:
        time.sleep(0.05)
    assert bench.runtime.poll(handle).phase == "gone"
    while processes.entry(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes.entry(child) is None, "the step outlives its shim"
    assert bench.runtime.collect(handle).failure.kind == "engine"
    assert not selfcheck.living(handle)


def test_a_kill_from_outside_is_told(bench):
    handle = bench.start("killed", {"say": ["ready"], "seconds": 600})
    bench.wait_for_line(handle, "ready")
    child = json.loads((Path(handle.folder) / "shim.json").read_text())["child"]
    os.kill(child, signal.SIGKILL)
    failure = bench.finish(handle).failure
    assert failure.kind == "killed" and "SIGKILL" in failure.message


def test_children_left_behind_are_ended(bench):
    handle = bench.start("litter", {"children": 3})
    assert bench.finish(handle).failure is None
    assert not selfcheck.living(handle)


def test_a_recycled_pid_is_not_taken_for_ours():
    other = subprocess.Popen(["sleep", "30"])
    try:
        identity = processes.identify(other.pid)
        assert processes.living_pid(identity) == other.pid
        pid, started, boot = identity.split(":")
        assert processes.living_pid(f"{pid}:{int(started) - 1}:{boot}") is None
        assert processes.living_pid(f"{pid}:{started}:another-boot") is None
    finally:
        other.kill()
        other.wait()
    assert processes.living_pid(identity) is None


def test_a_zombie_is_not_alive():
    other = subprocess.Popen(["true"])
    end = time.monotonic() + 5
    while processes.entry(other.pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert processes.entry(other.pid) is None
    other.wait()


def test_an_unknown_stage_is_the_steps_failure(bench):
    failure = bench.finish(bench.start("typo", command=("no", "stage"))).failure
    assert failure.kind == "step" and "wrote no result.json" in failure.message


def test_a_broken_result_is_named(bench):
    handle = bench.start("broken", {"say": ["ready"], "seconds": 1})
    state = bench.wait(handle)
    assert state.exit_code == 0
    (Path(handle.folder) / "step" / "result.json").write_text('{"format": "other/1"}')
    failure = bench.runtime.collect(handle).failure
    assert failure.kind == "step" and "format" in failure.message


def test_identity_names_code_and_versions(bench):
    first = bench.runtime.identity("proctor/steps")
    assert first.startswith("process:")
    assert first == bench.runtime.identity("proctor/steps:latest")
    assert first != bench.runtime.identity("proctor/sut-onnxruntime")
    with pytest.raises(RequestRefused):
        bench.runtime.identity("alpine")


def test_names_that_leave_the_home_are_refused(bench):
    for step in ("../x", "..", "a/b", ".hidden", "", "a\0b"):
        with pytest.raises(RequestRefused, match="cannot name an artifact"):
            bench.start(step)
    with pytest.raises(RequestRefused):
        bench.start("out", outputs=(OutputTarget(name="../up", mount_path="/x"),))


def test_published_outputs_are_not_written_again(bench):
    handle = bench.start("once", {"files": {"made": {"a": "1"}}}, outputs=selfcheck.OUT)
    bench.finish(handle)
    bench.runtime.remove(handle)
    with pytest.raises(RequestRefused, match="published"):
        bench.start("once", outputs=selfcheck.OUT)


def test_when_a_process_began():
    before = datetime.now(UTC)
    other = subprocess.Popen(["sleep", "30"])
    try:
        began = processes.started_at(other.pid)
        assert abs((began - before).total_seconds()) < 1.0
    finally:
        other.kill()
        other.wait()
    assert processes.started_at(other.pid) is None


def test_two_starters_make_one_process(bench):
    request = bench.request("race", {"seconds": 1})
    with ThreadPoolExecutor(4) as pool:
        handles = list(pool.map(bench.runtime.start, [request] * 4))
    bench.started.append(handles[0])
    assert len({handle.id for handle in handles}) == 1
    own = [p for p in selfcheck.living(handles[0]) if b"selfcheck" in cmdline(p)]
    assert len(own) == 1
    assert bench.finish(handles[0]).failure is None


def cmdline(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()
