"""One home's services as a whole: PostgreSQL, Airflow's components, the login link."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from proctor.airflow import changes
from proctor.airflow.cleanup import remove_orphans, stop_running
from proctor.airflow.instance import POOL, slots
from proctor.federation.migrations import MIGRATIONS
from proctor.runtime.choose import make
from proctor.site import door
from proctor.site.client import AirflowClient, AirflowUnavailable
from proctor.site.home import PROFILE_FILE, Home
from proctor.site.ports import PortTaken, reserved_port
from proctor.site.postgres import Postgres, tune
from proctor.site.processes import ComponentFailed, Components, end_leftovers
from proctor.site.profile import fab_version
from proctor.site.settings import Credentials, environment, roles, user_name, write_secret
from proctor.site.watchdog import Watchdog
from proctor.spec.errors import did_you_mean
from proctor_steps.contract import file_sha256

_T = TypeVar("_T")

START_SECONDS = 180.0
# Kept free for database, record and logs, so that all of it can be stopped in good order.
ROOM_BYTES = 64 << 20


class InstanceBusy(Exception):
    """Another launcher holds this home."""


@dataclass
class Instance:
    """The services of a home, running."""

    home: Home
    runtime: str
    url: str
    """Its address in people's browsers: on loopback, or a proxy's."""
    client: AirflowClient
    postgres: Postgres
    components: Components
    changes: changes.Changes
    watchdog: Watchdog

    def supervise(self) -> list[str]:
        """Restart what has died or hangs; the names. Call it every second or so.

        Raises:
            ComponentFailed: a component dies again and again, or the disk is about to be full.
        """
        _check_home(self.home)
        restarted = self.revive()
        for name in self.watchdog.hung():
            self.components.restart(name)
            restarted.append(name)
        return restarted

    def revive(self) -> list[str]:
        """Restart what has died; the names."""
        restarted = []
        if not self.postgres.alive():
            self.postgres.start()
            restarted.append("postgres")
        return restarted + self.components.restart_dead()

    def patiently(self, ask: Callable[[], _T]) -> _T:
        """What Airflow answers, asked again while something that died is started anew."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            self.supervise()
            try:
                return ask()
            except AirflowUnavailable:
                if time.monotonic() > give_up:
                    raise
            time.sleep(1)

    def login_link(self) -> str:
        """A link that logs the owner in, once, within a minute."""
        return _login_link(self.home, self.url, user_name())


def client_of(home: Home) -> AirflowClient:
    """A client of the instance that another process runs on this home.

    Raises:
        LookupError: none runs.
    """
    return AirflowClient(told_of(home)["own"], user_name(), Credentials.of(home).password)


def told_of(home: Home) -> dict[str, Any]:
    """What the instance that another process runs on this home tells of itself.

    Raises:
        LookupError: none runs.
    """
    try:
        return dict(json.loads((home.path / "airflow" / "url.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise LookupError(f"no proctor runs on {home.path}; start one with: proctor up") from error


def new_login_link(home: Home, user: str) -> str:
    """A login link for the instance that another process runs on this home.

    Raises:
        LookupError: none runs, or nobody of that name may log in.
    """
    check_user(home, user)
    return _login_link(home, told_of(home)["url"], user)


def check_user(home: Home, user: str) -> None:
    """Whether the profile lets somebody of that name in.

    Raises:
        LookupError: it does not.
    """
    known = roles(home)
    if user not in known:
        raise LookupError(
            f"{user!r} may not log in here; {did_you_mean(user, known)} Add who is missing to "
            f"`users` in {home.path / PROFILE_FILE}"
        )


def _login_link(home: Home, url: str, user: str) -> str:
    # The secret stands in the fragment, which a browser sends to nobody.
    nonce = secrets.token_urlsafe(32)
    path = home.path / "keys" / "login.json"
    write_secret(path, json.dumps({"nonce": nonce, "made_at": time.time(), "user": user}))
    return f"{url}/proctor/launch/#{nonce}"


@contextlib.contextmanager
def running(
    home: Home, runtime: str, say: TextIO, *, schedules: bool = False
) -> Iterator[Instance]:
    """Start the services of a home; stop them all on the way out, however that comes.

    ``schedules``: whether pipelines start by themselves meanwhile.

    Raises:
        InstanceBusy: another launcher holds this home.
        PortTaken: the profile names a port that another program has.
        AirflowUnavailable, ComponentFailed: it does not come up; the message names a log.
    """
    home.create()
    _check_home(home)
    profile = home.profile()
    if problem := door.door_problem(home):
        raise ComponentFailed(f"sites cannot report here: {problem}")
    with (
        only_launcher(home),
        reserved_port(profile.port) as port,
        contextlib.ExitStack() as while_it_runs,
    ):
        airflow = home.path / "airflow"
        if ended := end_leftovers(airflow):
            print(f"ended what an earlier launcher left: {', '.join(ended)}", file=say)
        for line in remove_orphans(home, make(runtime, home.path)):
            print(line, file=say)
        postgres = Postgres(home.path / "postgres")
        components: Components | None = None
        try:
            postgres.start()
            tune(home.path / "postgres")
            settings = environment(home, runtime, port, postgres.addresses(), schedules=schedules)
            database = postgres.addresses()[0]
            _migrate(airflow, settings, database)
            changes.install(database)
            components = Components(airflow, settings, _beside(home), proxied=bool(profile.address))
            components.start()
            while_it_runs.enter_context(
                _in_environment({k: v for k, v in settings.items() if k.startswith("PROCTOR_")})
            )
            own = f"http://127.0.0.1:{port}"
            url = profile.address or own
            client = AirflowClient(own, user_name(), Credentials.of(home).password)
            listener = changes.Changes(database, changes.TASKS)
            watchdog = Watchdog(client.silent)
            instance = Instance(
                home, runtime, url, client, postgres, components, listener, watchdog
            )
            client.wait_until_ready(
                START_SECONDS,
                lambda: _all_alive(instance),
                lambda: client.ensure_pool(POOL, slots()),
            )
            told = {"url": url, "own": own, "pid": os.getpid(), "schedules": schedules}
            write_secret(airflow / "url.json", json.dumps(told))
            yield instance
        finally:
            # A second Ctrl-C must not leave half of it running.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            (airflow / "url.json").unlink(missing_ok=True)
            (home.path / "keys" / "login.json").unlink(missing_ok=True)
            try:
                if components is not None:
                    components.stop()
                    for line in stop_running(home, runtime):
                        print(line, file=say)
            finally:
                postgres.stop()


@contextlib.contextmanager
def _in_environment(ours: Mapping[str, str]) -> Iterator[None]:
    """Code that tasks and launcher share reads these; after, they are as they were before."""
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _beside(home: Home) -> dict[str, tuple[str, ...]]:
    """What runs beside Airflow: the door of a coordinator."""
    sites = home.profile().sites
    return {door.NAME: (door.NAME,)} if sites and sites.listen else {}


def _check_home(home: Home) -> None:
    """Stop in good order while that can still be written down.

    A database that finds no room for its log ends at once, and what it knew is locked in.
    """
    free = shutil.disk_usage(home.path).free
    if free < ROOM_BYTES:
        raise ComponentFailed(
            f"only {free >> 20} MiB are free on the disk of {home.path}, {ROOM_BYTES >> 20} are "
            "needed; make room, then the same command goes on where the run was"
        )
    inside = [path for path in home.path.iterdir() if path.is_dir() and path.name != "postgres"]
    for path in (home.path, *sorted(inside)):
        if not os.access(path, os.W_OK | os.X_OK):
            raise ComponentFailed(
                f"{path} cannot be written to any more; mend its owner, its rights or its disk, "
                "then the same command goes on where the run was"
            )


def _all_alive(instance: Instance) -> None:
    for name in instance.revive():
        print(f"{name} died while starting; started again", file=sys.stderr)


@contextlib.contextmanager
def only_launcher(home: Home) -> Iterator[None]:
    """Hold the home.

    Raises:
        InstanceBusy: another launcher does.
    """
    with (home.path / "launcher.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InstanceBusy(
                f"another proctor (process {lock.read().strip() or '?'}) uses the home "
                f"{home.path}; stop it first, or give --home another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _migrate(airflow: Path, settings: dict[str, str], database: str) -> None:
    """Bring the database to this Airflow's version; skipped where that was done before.

    Tables of logins are the FAB provider's, where it is installed.
    """
    import airflow as installed

    marker = airflow / "migrated"
    ours = settings.get("AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS", "")
    wanted = f"{installed.__version__} fab {fab_version()} {_database_of(airflow)}"
    if ours:
        wanted += f" {ours} {','.join(MIGRATIONS)}"
    if marker.is_file() and marker.read_text() == wanted:
        return
    changes.remove(database)
    log = airflow / "migrate.log"
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=settings,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=airflow,
        )
    if done.returncode:
        raise AirflowUnavailable(f"the database could not be prepared; see {log}")
    marker.write_text(wanted)


def _database_of(airflow: Path) -> str:
    """What tells one database cluster from another: made anew, it needs migrating again."""
    control = airflow.parent / "postgres" / "PG_VERSION"
    return f"{file_sha256(control)[:8]} {control.stat().st_ctime_ns}"


__all__ = ["ComponentFailed", "Instance", "InstanceBusy", "PortTaken", "running"]
