"""The docker runtime against a real engine; what it did is read from the engine and the kernel."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from proctor.runtime import engine as engine_module
from proctor.runtime import images, processes, selfcheck
from proctor.runtime.attempt import Attempt
from proctor.runtime.base import EngineError, HostSource, InputSource, OutputTarget, RequestRefused
from proctor.runtime.container import UNPRIVILEGED, container_name
from proctor.runtime.docker import DockerRuntime
from proctor.runtime.ending import end_of
from proctor.runtime.selfcheck import OUT, Bench
from proctor_steps.contract import load_contract

pytestmark = pytest.mark.docker
GIB = 1024**3


@pytest.fixture(scope="module")
def engine(docker_engine):
    images.build(["steps"])
    return docker_engine


@pytest.fixture
def bench(engine, tmp_path):
    images.build(["steps"], lambda line: None)
    made = Bench(DockerRuntime(tmp_path / "home"), tmp_path / "home")
    yield made
    made.clean()
    left = engine.containers.list(all=True, filters={"label": f"proctor.home={made.home}"})
    assert left == []


def seen(outcome):
    assert outcome.failure is None, outcome.failure
    return outcome.result.metrics["seen"]


@pytest.mark.parametrize("check", selfcheck.CHECKS, ids=lambda c: c.__name__)
def test_selfcheck(bench, check):
    check(bench)


def test_a_container_is_locked_up(bench, engine):
    handle = bench.start("locked", {"look": ["/", "/opt/venv", "/etc", "/tmp", "/proctor/step"]})
    found = seen(bench.finish(handle))
    assert found["writable"] == ["/tmp", "/proctor/step"]
    assert found["interfaces"] == ["lo"]
    assert found["uid"] == (os.getuid() or UNPRIVILEGED)
    told = engine.containers.get(handle.id).attrs["HostConfig"]
    assert told["CapDrop"] == ["ALL"]
    assert told["ReadonlyRootfs"] and not told["Privileged"]
    assert told["SecurityOpt"] == ["no-new-privileges"]
    assert told["Memory"] == told["MemorySwap"] == 4 * GIB
    assert told["PidsLimit"] > 0
    assert told["NanoCpus"] == told["CpuQuota"] == 0 and told["CpusetCpus"] == ""
    assert told["LogConfig"]["Config"]["max-size"]


def test_the_history_cannot_be_written_to(bench, engine, tmp_path):
    (tmp_path / "history.json").write_text("{}")
    handle = bench.start("told", {"look": ["/proctor/history"]}, history=f"{tmp_path}/history.json")
    assert seen(bench.finish(handle))["writable"] == []
    (mount,) = [
        each
        for each in engine.containers.get(handle.id).attrs["Mounts"]
        if each["Destination"] == "/proctor/history/history.json"
    ]
    assert mount["RW"] is False


def test_the_network_is_there_only_when_asked_for(bench):
    found = seen(bench.finish(bench.start("online", network=True)))
    assert "eth0" in found["interfaces"]


def test_an_online_step_trusts_what_its_host_trusts(bench, monkeypatch, tmp_path):
    (tmp_path / "ca.pem").write_text("certificate")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    monkeypatch.setenv("http_proxy", "http://user:password@proxy:1")
    act = {"source": "file:///proctor/certificates.pem"}
    found = seen(bench.finish(bench.start("trusting", act, network=True)))
    assert found["source"] == "certificate"
    assert {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "https_proxy"} <= set(found["environment"])
    assert "http_proxy" not in found["environment"]
    offline = seen(bench.finish(bench.start("offline")))
    assert "SSL_CERT_FILE" not in offline["environment"]


def test_credentials_of_the_launcher_stay_outside(bench, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = seen(bench.finish(bench.start("env")))
    assert "AWS_SECRET_ACCESS_KEY" not in found["environment"]


def test_cpu_limits(bench, engine):
    def host_config(step, **more):
        handle = bench.start(step, **more)
        bench.finish(handle)
        return engine.containers.get(handle.id).attrs["HostConfig"]

    limited = host_config("limited", resources={"cpus": 0.5})
    assert limited["NanoCpus"] == 500_000_000
    alone = host_config("alone", resources={"cpus": 1}, exclusive=True)
    assert alone["NanoCpus"] == alone["CpuQuota"] == 0
    assert alone["CpusetCpus"] == str(min(os.sched_getaffinity(0)))


def test_the_kernel_gives_what_measures_whole_processors_and_no_quota(bench):
    """Not what was asked of the engine, but what the process got."""
    cpu = str(min(os.sched_getaffinity(0)))
    alone = bench.start(
        "alone", {"seconds": 600}, exclusive=True, resources={"cpus": 1}, deadline_seconds=900
    )
    limited = bench.start("limited", {"seconds": 600}, resources={"cpus": 0.5})
    pids = [bench.runtime.pid(handle) for handle in (alone, limited)]
    allowed = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    assert f"Cpus_allowed_list:\t{cpu}\n" in allowed[0]
    assert f"Cpus_allowed_list:\t{cpu}\n" not in allowed[1] or len(os.sched_getaffinity(0)) == 1
    assert [_quota(pid) for pid in pids] == [None, 0.5]


def _quota(pid):
    """Processors that the kernel lets a process use in the mean; None: no quota."""
    for line in processes.cgroup(pid).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers and (found := Path(f"/sys/fs/cgroup{path}/cpu.max")).is_file():
            quota, period = found.read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        if "cpu" in controllers.split(","):
            folder = Path(f"/sys/fs/cgroup/{controllers}{path}")
            folder = folder if folder.is_dir() else Path(f"/sys/fs/cgroup/cpu{path}")
            quota = int((folder / "cpu.cfs_quota_us").read_text())
            return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
    raise AssertionError("no cgroup of the cpu controller")


def test_the_kernel_tells_of_the_end_of_a_container(bench, engine):
    handle = bench.start("ends", {"seconds": 600})
    assert bench.runtime.pid(handle) == engine.containers.get(handle.id).attrs["State"]["Pid"]
    end = end_of(bench.runtime, handle)
    assert end is not None
    assert not end.wait(0.2)
    engine.containers.get(handle.id).kill()
    assert end.wait(60)
    bench.wait(handle)  # the engine learns of it a little later
    assert bench.runtime.pid(handle) is None
    assert end_of(bench.runtime, handle) is None


def test_a_number_of_another_machine_is_not_taken_for_the_containers(bench, monkeypatch):
    """As with an engine in a virtual machine, whose processes have numbers of their own there."""
    handle = bench.start("elsewhere", {"seconds": 600})
    monkeypatch.setattr(processes, "cgroup", lambda pid: "0::/user.slice/session-1.scope\n")
    assert bench.runtime.pid(handle) is None


def test_everybodys_running_containers_are_counted(bench, engine):
    handle = bench.start("counted", {"seconds": 600})
    # Others may use the engine meanwhile.
    assert bench.runtime.containers_running() >= 1
    assert handle.id in [each.id for each in engine.containers.list()]


def test_mounts_are_read_only_or_not(bench, tmp_path):
    first = bench.finish(bench.start("first", {"files": {"made": {"a": "1"}}}, outputs=OUT))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "b").write_text("2")
    look = ["/proctor/in/x", "/proctor/source/source", "/proctor/out/made", "/proctor/cache"]
    handle = bench.start(
        "second",
        {"look": look, "source": "file:///anything"},
        inputs=(InputSource(name="x", uri=first.outputs["made"], mount_path=look[0]),),
        sources=(
            HostSource(param="source", host_path=str(tmp_path / "given"), mount_path=look[1]),
        ),
        outputs=OUT,
        cache=True,
    )
    found = seen(bench.finish(handle))
    assert found["writable"] == look[2:]
    assert found["source"] == {"b": "2"} == found["inputs"]["source/source"]
    assert found["inputs"]["input/x"] == {"a": "1"}


def test_secrets(bench):
    folder = bench.home / "secrets"
    folder.mkdir(parents=True)
    (folder / "s3").touch(mode=0o600)
    (folder / "s3").write_text("key")
    handle = bench.start("secret", {"look": ["/proctor/secrets"]}, secrets=("s3",))
    found = seen(bench.finish(handle))
    assert found["inputs"]["secret/s3"] == "key" and found["writable"] == []
    assert not (Path(handle.folder) / "secrets").exists()
    (folder / "s3").chmod(0o640)
    with pytest.raises(RequestRefused, match="chmod 600"):
        bench.start("secret2", secrets=("s3",))


def test_out_of_memory_is_told(bench):
    handle = bench.start("greedy", {"allocate_mb": 400}, resources={"memory": 128 * 1024**2})
    state = bench.wait(handle)
    assert state.out_of_memory
    failure = bench.runtime.collect(handle).failure
    assert failure.kind == "out_of_memory" and "resources.memory" in failure.message


def test_a_kill_from_outside_is_told(bench, engine):
    handle = bench.start("killed", {"say": ["ready"], "seconds": 600})
    bench.wait_for_line(handle, "ready")
    engine.containers.get(handle.id).kill("SIGKILL")
    failure = bench.finish(handle).failure
    assert failure.kind == "killed" and "SIGKILL" in failure.message


def test_a_vanished_container_is_the_engines_failure(bench, engine):
    handle = bench.start("gone", {"seconds": 600})
    engine.containers.get(handle.id).remove(force=True)
    assert bench.runtime.poll(handle).phase == "gone"
    assert bench.runtime.logs(handle).lines == ()
    bench.runtime.stop(handle)
    assert bench.runtime.collect(handle).failure.kind == "engine"


def test_a_step_hears_sigterm(bench):
    handle = bench.start("polite", {"say": ["ready"], "seconds": 600})
    bench.wait_for_line(handle, "ready")
    begun = time.monotonic()
    bench.runtime.stop(handle, grace_seconds=60)
    assert time.monotonic() - begun < 30
    assert bench.runtime.collect(handle).failure.kind == "cancelled"


def test_the_container_keeps_its_deadline_where_nobody_waits(bench, monkeypatch):
    monkeypatch.setattr("proctor.runtime.container._LATE_SECONDS", 0)
    handle = bench.start("alone", {"seconds": 600}, deadline_seconds=1)
    assert bench.finish(handle).failure.kind == "deadline"


def test_two_starters_make_one_container(bench, engine):
    request = bench.request("race", {"seconds": 1})
    handles = []
    threads = [
        threading.Thread(target=lambda: handles.append(bench.runtime.start(request)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.started.append(handles[0])
    assert len(handles) == 4 and len({handle.id for handle in handles}) == 1
    since = int(time.time()) - 60
    events = engine.events(
        since=since, until=int(time.time()) + 1, decode=True,
        filters={"label": f"proctor.home={bench.home}", "event": "create"},
    )  # fmt: skip
    assert len(list(events)) == 1


def test_one_created_and_not_started_is_taken_up(bench, engine):
    request = bench.request("half")
    runtime = bench.runtime
    attempt = Attempt.of(runtime.home, request)
    with attempt.lock():
        created = runtime._create(attempt, request, runtime._image_id("proctor/steps"))
    assert runtime.find("selfcheck", bench.run, "half") is None
    handle = runtime.start(request)
    bench.started.append(handle)
    assert handle.id == created.id
    assert bench.finish(handle).failure is None


def test_names_are_the_same_for_every_starter(bench):
    first = Attempt.of(bench.home, bench.request("a.b"))
    other = Attempt.of(bench.home, bench.request("a-b"))
    assert container_name(first) == container_name(first)
    assert container_name(first) != container_name(other)


def test_what_cannot_run_is_refused_and_leaves_nothing(bench, engine):
    with pytest.raises(RequestRefused, match="not here; pull or build it"):
        bench.start("noimage", image="nowhere/nothing:1")
    with pytest.raises(RequestRefused, match="no such artifact"):
        source = InputSource(name="x", uri="artifact:a/b/c/1/d", mount_path="/proctor/in/x")
        bench.start("noinput", inputs=(source,))
    if not engine.info()["Runtimes"].get("nvidia"):
        with pytest.raises(RequestRefused, match="device driver"):
            bench.start("nogpu", resources={"gpus": 1})
    bad = (OutputTarget(name="a", mount_path="relative"),)
    with pytest.raises(RequestRefused):
        bench.start("badmount", outputs=bad)


def test_a_missing_command_is_the_steps_failure(bench, engine):
    base = engine.images.get("proctor/steps:latest").id
    handle = bench.start("nocommand", image=base, command=("no-such-command",))
    failure = bench.finish(handle).failure
    assert failure.kind == "step" and "no-such-command" in failure.message


def test_another_image_gets_its_command_as_written(bench, engine):
    base = engine.images.get("proctor/steps:latest").id
    script = "echo hello from $PROCTOR_STEP_DIR; exit 3"
    handle = bench.start("foreign", image=base, command=("sh", "-c", script))
    failure = bench.finish(handle).failure
    assert failure.kind == "step" and "exit code 3" in failure.message
    assert bench.runtime.logs(handle).lines == ("hello from /proctor/step",)


def test_logs_are_neither_lost_nor_repeated_while_they_grow(bench, engine):
    base = engine.images.get("proctor/steps:latest").id
    script = (
        "i=0; while [ $i -lt 3000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done;"
        "head -c 100000 /dev/zero | tr '\\0' x; echo; printf last"
    )
    handle = bench.start("flood", image=base, command=("sh", "-c", script))
    lines, since = [], ""
    while True:
        ended = bench.runtime.poll(handle).phase != "running"
        chunk = bench.runtime.logs(handle, since)
        lines += chunk.lines
        if ended and chunk.next == since:
            break
        since = chunk.next
    assert [x for x in lines if x.startswith("out ")] == [f"out {i}" for i in range(3000)]
    assert [x for x in lines if x.startswith("err ")] == [f"err {i}" for i in range(3000)]
    assert sum(x.count("x") for x in lines) == 100000
    assert lines[-1] == "last"


def test_an_engine_that_does_not_answer_is_an_engine_error(bench, monkeypatch, tmp_path):
    handle = bench.start("alive", {"seconds": 1})
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    engine_module._client.cache_clear()
    try:
        for call in (bench.runtime.poll, bench.runtime.logs, bench.runtime.stop):
            with pytest.raises(EngineError, match="no Docker engine answers"):
                call(handle)
        with pytest.raises(EngineError):
            bench.start("dead")
    finally:
        monkeypatch.undo()
        engine_module._client.cache_clear()
    assert bench.finish(handle).failure is None


def test_identity_is_the_images_digest(bench, engine):
    identity = bench.runtime.identity("proctor/steps")
    assert identity == engine.images.get(images.tag_of("steps")).id
    assert identity.startswith("sha256:")
    handle = bench.start("told")
    bench.finish(handle)
    told = load_contract(Path(handle.folder) / "step").image
    assert told == f"proctor/steps@{identity}", "and so a step can say what it ran in"
    assert bench.runtime.fingerprint() == bench.runtime.fingerprint()
    assert bench.runtime.fingerprint()["engine"]["ServerVersion"]


def test_a_killed_step_process_is_told_from_a_stop(bench):
    handle = bench.start("inside", {"say": ["ready"], "seconds": 600})
    bench.wait_for_line(handle, "ready")
    inside = [p for p in selfcheck.living(handle) if b"proctor_steps" in cmdline(p)]
    os.kill(max(inside), signal.SIGSEGV)
    failure = bench.finish(handle).failure
    assert failure.kind == "step" and "SIGSEGV" in failure.message


def cmdline(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()
