"""Every fault of the table, each over a run of its own; what is asserted comes from outside.

The engine's events tell what ran, when, and how it ended; `proctor runs verify` reads every digest
again; the process table, the sockets and the engine tell what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import docker
import psutil
from faults_kit import (
    BACKEND,
    COMPONENTS,
    HERE,
    POSTGRES,
    Command,
    EngineEvents,
    Target,
    killed,
    until,
)

from engine_kit import Engine
from proctor.runtime import images
from proctor.site.home import Home

SPEC = HERE / "table.yaml"
# About how long the run takes where nothing dies; moments are drawn from it.
RUN_SECONDS = 40.0
# A component that dies again and again within a minute is given up, and a task has four tries.
APART_SECONDS = 6.0
KILLS_OF_STEPS = 2
MOST_STARTS = 12
_NOBODY = 65534


@dataclass
class Found:
    """What became of a run: everything that is wrong, in words; empty where nothing is."""

    starts: int = 0
    strokes: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Scene:
    """A home with its command, and the launcher that runs now."""

    target: Target
    command: Command
    rng: random.Random
    process: psutil.Popen = None
    starts: int = 0
    # When an engine was killed: what ran then has no end in its events.
    engine_deaths: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.process = self.command.start()
        self.starts += 1

    def up(self) -> None:
        """Wait until the run has begun, or goes on."""
        url = self.target.home / "airflow" / "url.json"
        until(lambda: url.exists() or self.over(), 180, "the instance is up")

    def over(self) -> bool:
        return self.process.poll() is not None

    def sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.over():
            time.sleep(0.1)

    def finish(self, seconds: float = 400) -> None:
        """Until it has ended well; the same command again where it has not."""
        while True:
            code = self.process.wait(seconds)
            if code == 0 or self.starts >= MOST_STARTS:
                return
            self.start()

    def moments(self, number: int) -> list[float]:
        """Pauses before each of so many strokes."""
        at = sorted(self.rng.uniform(1, RUN_SECONDS) for _ in range(number))
        pauses = [b - a for a, b in zip([0.0, *at], at, strict=False)]
        return [pauses[0], *(max(p, APART_SECONDS) for p in pauses[1:])]


@contextmanager
def scene(rng: random.Random, engine: Engine | None = None) -> Iterator[Scene]:
    """A home of its own; what a failed run left is cleared away."""
    folder = Path(tempfile.mkdtemp(prefix="proctor-faults-"))
    folder.chmod(0o711)
    address = engine.address if engine else ""
    events = EngineEvents(folder / "home", folder / "events.jsonl", address)
    client = partial(docker.DockerClient, address) if engine else docker.from_env
    target = Target(folder / "home", events, engine=client)
    env = {"DOCKER_HOST": address} if engine else {}
    made = Scene(target, Command(target.home, spec=SPEC, env=env), rng)
    try:
        yield made
    finally:
        if made.process and not made.over():
            made.process.kill()
            made.process.wait(60)
        target.clear_away()
        events.close()
        subprocess.run(["umount", "-l", str(target.home)], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def check(made: Scene) -> Found:
    """Everything that is wrong after a run."""
    found, target = Found(made.starts), made.target
    if made.process.returncode != 0 or made.command.summary["state"] != "succeeded":
        found.wrong.append(f"not finished: {made.command.output.read_text()[-1500:]}")
    _check_containers(made, found)
    for record in Home(target.home).records.runs():
        verify = [sys.executable, "-c", "from proctor.cli import main; main()", "runs", "verify"]
        words = [*verify, record.run, "--home", str(target.home)]
        told = subprocess.run(words, capture_output=True, text=True, check=False)
        if told.returncode:
            found.wrong.append(f"does not verify: {told.stdout[-1500:]}")
    try:
        target.nothing_is_left()
    except AssertionError as left:
        found.wrong.append(f"left behind: {left} {target.containers()}")
    return found


def _check_containers(made: Scene, found: Found) -> None:
    """By the engine's events: no step runs again that ended well, and none beside itself."""
    until(lambda: _settled(made.target), 15, "the engine's last events")
    running: dict[tuple[str, str], dict[str, float]] = {}
    done: set[tuple[str, str]] = set()
    for event in sorted(made.target.events.all(), key=lambda e: e["timeNano"]):
        named = event["Actor"]["Attributes"]
        # The subject, if any, and the step: in whichever run of the home, as the same command may
        # have begun another.
        step = (named["proctor.run"].partition("~")[2], named["proctor.step"])
        now, id = event["timeNano"] / 1e9, event["Actor"]["ID"]
        mine = running.setdefault(step, {})
        # What ran when the engine was killed died with it, and nothing tells of that.
        for other, began in list(mine.items()):
            if any(began <= death <= now for death in made.engine_deaths):
                del mine[other]
        if event["Action"] == "start":
            if step in done:
                found.wrong.append(f"{step} ran again although it had ended well")
            if mine:
                found.wrong.append(f"{step} ran twice at once")
            mine[id] = now
        elif event["Action"] == "die":
            mine.pop(id, None)
            if named.get("exitCode") == "0":
                done.add(step)


def _settled(target: Target) -> bool:
    events = target.events.all()
    made = {e["Actor"]["ID"] for e in events if e["Action"] == "create"}
    gone = {e["Actor"]["ID"] for e in events if e["Action"] == "destroy"}
    return made <= gone


def runs_of(
    rng: random.Random,
    strokes: int,
    strike: Callable[[Scene], bool],
    prepare: Callable[[Scene], None] = lambda made: None,
    at_most: int | None = None,
    engine: Engine | None = None,
) -> list[Found]:
    """So many strokes, over as many runs as it takes.

    ``strike``: says whether there was still something to hit. ``at_most``: in one run.
    """
    results, left = [], strokes
    while left > 0:
        with scene(rng, engine) as made:
            prepare(made)
            made.start()
            hit = 0
            for pause in made.moments(min(left, at_most or left)):
                made.up()
                made.sleep(pause)
                if made.over() or not strike(made):
                    break
                hit += 1
            made.finish()
            results.append(found := check(made))
        found.strokes = hit
        if not hit:
            found.wrong.append("the run was over before anything struck")
            break
        left -= hit
    return results


def component(name: str) -> Callable[[random.Random, int], list[Found]]:
    """One of Airflow's components, or of PostgreSQL; the launcher starts it again."""

    def strike(made: Scene) -> bool:
        made.target.strike(name)
        return True

    return partial(runs_of, strike=strike)


def launcher(rng: random.Random, strokes: int) -> list[Found]:
    """Each time the same command goes on."""

    def strike(made: Scene) -> bool:
        killed(made.process)
        made.process.wait()
        made.start()
        return True

    return runs_of(rng, strokes, strike)


def of_steps(
    find: Callable[[Target], psutil.Process | None],
) -> Callable[[random.Random, int], list[Found]]:
    """Whatever runs only now and then; a task has four tries, so not too often in one run."""

    def strike(made: Scene) -> bool:
        while not made.over():
            if process := find(made.target):
                killed(process)
                return True
            time.sleep(0.05)
        return False

    return partial(runs_of, strike=strike, at_most=KILLS_OF_STEPS)


def container(target: Target) -> psutil.Process | None:
    """The first process of whichever container of the run's runs now."""
    label = f"proctor.home={target.home}"
    for each in target.engine().containers.list(filters={"label": label}):
        pid = target.engine().api.inspect_container(each.id)["State"]["Pid"]
        if pid:
            return psutil.Process(pid)
    return None


def engine(rng: random.Random, strokes: int) -> list[Found]:
    """A dockerd of its own dies; its containers die with it, and their steps run again."""
    own = Engine()
    client = own.start()

    def strike(made: Scene) -> bool:
        made.engine_deaths.append(time.time())
        own.end(signal.SIGKILL)
        made.sleep(2)
        own.start()
        return True

    try:
        _load_image(client, own.folder)
        return runs_of(rng, strokes, strike, at_most=KILLS_OF_STEPS, engine=own)
    finally:
        own.remove()


def _load_image(client: docker.DockerClient, folder: Path) -> None:
    tags = [images.tag_of("steps"), "proctor/steps:latest"]
    archive = folder / "steps.tar"
    with archive.open("wb") as file:
        subprocess.run(["docker", "save", *tags], stdout=file, check=True)
    with archive.open("rb") as file:
        client.images.load(file)
    archive.unlink()


def full_disk(rng: random.Random, strokes: int) -> list[Found]:
    """A small disk fills up at a random moment; the run stops, and room lets it go on."""

    def prepare(made: Scene) -> None:
        home = made.target.home
        home.mkdir()
        small = ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "tmpfs", str(home)]
        subprocess.run(small, check=True)

    def strike(made: Scene) -> bool:
        filler = made.target.home / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * (1 << 20))
        made.process.wait(120)
        filler.unlink()
        made.start()
        return True

    return runs_of(rng, strokes, strike, prepare)


def read_only(rng: random.Random, strokes: int) -> list[Found]:
    """As somebody who is not root: the folder of outputs cannot be written to for a while."""

    def prepare(made: Scene) -> None:
        home = made.target.home
        home.mkdir()
        for path in (home.parent, home):
            os.chown(path, _NOBODY, _NOBODY)
        made.command.prefix = _as_nobody(Path("/var/run/docker.sock").stat().st_gid)
        told = {"HOME": str(home.parent), "USER": "nobody", "LOGNAME": "nobody"}
        made.command.env |= told

    def strike(made: Scene) -> bool:
        outputs = made.target.home / "artifacts"
        until(lambda: outputs.exists() or made.over(), 60)
        outputs.chmod(0o555)
        made.process.wait(120)
        outputs.chmod(0o755)
        made.start()
        return True

    return runs_of(rng, strokes, strike, prepare)


def clock(rng: random.Random, strokes: int) -> list[Found]:
    """libfaketime alone: the clock of launcher, components and tasks jumps by hours, both ways."""
    library = next(Path("/usr/lib").rglob("libfaketimeMT.so.1"))

    def jump(made: Scene) -> Path:
        return made.target.home.parent / "clock"

    def prepare(made: Scene) -> None:
        jump(made).write_text("+0\n")
        # Its clock_nanosleep, which time.sleep takes, fails or never ends; select does not use it.
        (jump(made).parent / "sitecustomize.py").write_text(
            "import select, time\n"
            "time.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
        )
        made.command.env |= {
            "PYTHONPATH": str(jump(made).parent),
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(jump(made)),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }
        # The launcher hands nothing of its environment on but what it knows.
        names = tuple(made.command.env)
        made.command.prelude = (
            f"from proctor.site import settings; settings._INHERITED += {names!r}; "
        )

    def strike(made: Scene) -> bool:
        jump(made).write_text(f"{rng.choice([-1, 1]) * rng.randrange(600, 7200):+d}\n")
        return True

    return runs_of(rng, strokes, strike, prepare)


def _as_nobody(group: int) -> list[str]:
    """Words before a command that is to run as somebody without rights, but for the engine.

    Where the interpreter lies in a folder closed to others, a mount namespace opens just that.
    """
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", f"--groups={group}"]
    base = Path(sys.base_prefix)
    closed = [path for path in base.parents if not path.stat().st_mode & 0o001]
    if not closed:
        return drop
    aside = tempfile.mkdtemp(prefix="proctor-python-")
    script = (
        'set -e; mkdir -p "$2"; mount --bind "$1" "$2"; mount -t tmpfs -o mode=755 tmpfs "$3"; '
        'mkdir -p "$1"; mount --bind "$2" "$1"; umount -l "$2"; rmdir "$2"; shift 3; exec "$@"'
    )
    return ["unshare", "-m", "sh", "-c", script, "sh", str(base), aside, str(closed[-1]), *drop]


def network(rng: random.Random, strokes: int) -> list[Found]:
    """The server of a download breaks off at random bytes, so many times."""
    with scene(rng) as made, _Server(rng, strokes) as server:
        made.command.settings = {"uri": server.url}
        made.command.env |= {"NO_PROXY": server.host, "no_proxy": server.host}
        made.start()
        made.finish()
        found = check(made)
        found.strokes = server.broke
        if server.broke != strokes:
            found.wrong.append(f"the download broke off {server.broke} times, not {strokes}")
        if server.sent > 1.5 * server.SIZE:
            found.wrong.append(f"{server.sent} bytes were sent for {server.SIZE}")
        return [found]


class _Server:
    """Serves one file, slowly, and breaks off; a request goes on where it asks to."""

    SIZE = 24 << 20

    def __init__(self, rng: random.Random, breaks: int) -> None:
        self.host = _bridge()
        self.body = rng.randbytes(self.SIZE)
        self.ends = sorted(rng.randrange(1, self.SIZE) for _ in range(breaks))
        self.sent = self.broke = 0
        self.listening = socket.create_server((self.host, 0))
        self.url = f"http://{self.host}:{self.listening.getsockname()[1]}/data.bin"

    def __enter__(self) -> _Server:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with connection:
                try:
                    self._answer(connection)
                except OSError:
                    continue

    def _answer(self, connection: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked and (data := connection.recv(65536)):
            asked += data
        lines = asked.decode("latin-1").splitlines()
        ranges = [x.split("=")[1] for x in lines if x.lower().startswith("range:")]
        begin = int(ranges[0].split("-")[0]) if ranges else 0
        head = ["HTTP/1.1 206 Partial Content" if ranges else "HTTP/1.1 200 OK"]
        head += [f"Content-Length: {self.SIZE - begin}", 'ETag: "one"', "Accept-Ranges: bytes"]
        if ranges:
            head.append(f"Content-Range: bytes {begin}-{self.SIZE - 1}/{self.SIZE}")
        connection.sendall(("\r\n".join([*head, "Connection: close"]) + "\r\n\r\n").encode())
        if lines and lines[0].startswith("HEAD"):
            return
        stop = self.ends.pop(0) if self.ends else self.SIZE
        for at in range(begin, max(stop, begin), 1 << 16):
            piece = self.body[at : min(at + (1 << 16), stop)]
            connection.sendall(piece)
            self.sent += len(piece)
            time.sleep(0.005)
        if stop < self.SIZE:
            self.broke += 1


def _bridge() -> str:
    """The address under which containers reach this host."""
    network = docker.from_env().networks.get("bridge")
    return str(network.attrs["IPAM"]["Config"][0].get("Gateway") or "172.17.0.1")


SCENARIOS: dict[str, Callable[[random.Random, int], list[Found]]] = {
    "launcher": launcher,
    **{name: component(name) for name in (*COMPONENTS, POSTGRES, BACKEND)},
    "task": of_steps(lambda target: target.task()),
    "task's supervisor": of_steps(lambda target: target.worker()),
    "step container": of_steps(container),
    "dockerd (its own)": engine,
    "disk full": full_disk,
    "outputs read-only, not root": read_only,
    "clock jumps": clock,
    "network drops in a download": network,
}


def as_json(found: list[Found]) -> str:
    """For the raw output of a table."""
    return json.dumps([asdict(each) for each in found])
