"""The environment that Airflow's components run with: explicit, local, quiet."""

from __future__ import annotations

import getpass
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from proctor.runtime import host
from proctor.shipped import shipped
from proctor.site.home import (
    COORDINATOR_VARIABLE,
    DATABASE_VARIABLE,
    HOME_VARIABLE,
    RUNTIME_VARIABLE,
    SCHEDULES_VARIABLE,
    SLOTS_VARIABLE,
    Home,
)

if TYPE_CHECKING:
    from proctor.site.profile import Profile

# Passed on to the components; nothing else of the launcher's environment is.
_INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ"),
    *("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
)
# Makes and migrates the tables of a coordinator, with Airflow's own.
SITES_TABLES = "proctor.airflow.site_tables.SitesTables"

# What a role of the profile is with Airflow's simple auth manager, which has no approvers.
SIMPLE_ROLES = {"viewer": "viewer", "operator": "user", "admin": "admin"}


def user_name() -> str:
    """The launching user's name, as approvals show it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def roles(home: Home) -> dict[str, str]:
    """Who may log in, and as what: the owner as administrator, and whom the profile names."""
    return {**home.profile().users, user_name(): "admin"}


@dataclass(frozen=True)
class Credentials:
    """Random, made once per home, kept in files 0600."""

    password: str
    jwt_secret: str
    fernet_key: str
    api_secret: str

    def password_of(self, user: str) -> str:
        """A user's password: nobody types it, a login link stands for it."""
        if user == user_name():
            return self.password
        made = hmac.digest(self.api_secret.encode(), f"password of {user}".encode(), "sha256")
        return made.hex()

    @classmethod
    def of(cls, home: Home) -> Credentials:
        """Those of the home; made at first use."""
        path = home.path / "keys" / "instance.json"
        if not path.exists():
            made = {
                "password": secrets.token_urlsafe(24),
                "jwt_secret": secrets.token_urlsafe(48),
                "fernet_key": Fernet.generate_key().decode(),
                "api_secret": secrets.token_urlsafe(32),
            }
            write_secret(path, json.dumps(made))
        return cls(**json.loads(path.read_text()))


def _no_proxy(given: str) -> str:
    return ",".join([*(name for name in given.split(",") if name), "127.0.0.1", "localhost"])


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    scratch.replace(path)


def _simple(home: Home, credentials: Credentials) -> dict[str, str]:
    """Airflow's own auth manager, for one person and whom she lets in."""
    passwords = home.path / "airflow" / "passwords.json"
    users = roles(home)
    write_secret(passwords, json.dumps({name: credentials.password_of(name) for name in users}))
    return {
        "CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            f"{name}:{SIMPLE_ROLES[role]}" for name, role in users.items()
        ),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def _fab(profile: Profile) -> dict[str, str]:
    """The one for a shared server (ui/logins.py)."""
    return {
        "CORE__AUTH_MANAGER": "proctor.ui.logins.ProctorAuthManager",
        # How long a right that was taken away may still be used.
        "FAB__CACHE_TTL": "5",
        "FAB__COOKIE_SAMESITE": "Strict",
        "FAB__COOKIE_SECURE": str(bool(profile.address)),
    }


def environment(
    home: Home, runtime: str, port: int, databases: tuple[str, str], *, schedules: bool = False
) -> dict[str, str]:
    """The environment of every component. ``schedules``: whether pipelines start by themselves."""
    credentials = Credentials.of(home)
    airflow = home.path / "airflow"
    profile = home.profile()
    (airflow / "plugins").mkdir(exist_ok=True)
    settings = {
        "CORE__DAGS_FOLDER": str(shipped("dags")),
        "CORE__PLUGINS_FOLDER": str(airflow / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "proctor.airflow.executor.WakingExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "16",
        "CORE__FERNET_KEY": credentials.fernet_key,
        **(_fab(profile) if profile.auth == "fab" else _simple(home, credentials)),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": databases[0],
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": databases[1],
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": profile.address or f"http://127.0.0.1:{port}",
        "API__SECRET_KEY": credentials.api_secret,
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": credentials.jwt_secret,
        "LOGGING__BASE_LOG_FOLDER": str(airflow / "logs"),
        # The scheduler sleeps in the executor's turn, until the database tells of a change.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0",
        # Who is taken for dead when. A busy machine may be late by seconds; a component that was
        # started again finds what its predecessor left after these times (docs/operating.md).
        "SCHEDULER__JOB_HEARTBEAT_SEC": "5",
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "5",
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
        "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
        "TRIGGERER__JOB_HEARTBEAT_SEC": "5",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
        # A task outlives an API server that is started again: 40 s and more, not three failures.
        "WORKERS__MAX_FAILED_HEARTBEATS": "100",
        "WORKERS__EXECUTION_API_RETRIES": "15",
        "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "5",
        # Where the DAG could not be read for a moment, or an edited spec lost the task.
        "WORKERS__MISSING_DAG_RETRY_DELAY": "5",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        # The DAG file is read again when a spec changes (site/component.py), else hardly ever.
        # So what was read counts, however soon after the last time.
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "300",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # A supervisor may notice its task's end this many seconds late. Until then the executor
        # takes a task that was resumed meanwhile for the one that ended, and fails it.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    if home.profile().sites is not None:
        settings["DATABASE__EXTERNAL_DB_MANAGERS"] = SITES_TABLES
    result = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # For steps that may use the network; Airflow's own calls stay on this host.
    result |= host.proxy_variables() | host.certificate_variables()
    result["NO_PROXY"] = result["no_proxy"] = _no_proxy(result.get("no_proxy", ""))
    result |= {f"AIRFLOW__{key}": value for key, value in settings.items()}
    return result | {
        "AIRFLOW_HOME": str(airflow),
        HOME_VARIABLE: str(home.path),
        RUNTIME_VARIABLE: runtime,
        SLOTS_VARIABLE: str(os.cpu_count() or 1),
        SCHEDULES_VARIABLE: "1" if schedules else "",
        DATABASE_VARIABLE: databases[0],
        COORDINATOR_VARIABLE: "1" if home.profile().sites is not None else "",
        "PYTHONUNBUFFERED": "1",
    }
