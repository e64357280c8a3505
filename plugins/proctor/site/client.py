"""The part of Airflow's REST API that the launcher needs; lists are followed to their last page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

_WITH_HEARTBEAT = ("scheduler", "triggerer", "dag_processor")


class AirflowUnavailable(Exception):
    """Airflow did not answer as it should; the message says to what."""


class AirflowClient:
    """A logged-in user's view of one Airflow."""

    def __init__(self, base: str, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._http = httpx.Client(base_url=base, timeout=30, trust_env=False)

    def wait_until_ready(
        self,
        seconds: float,
        still_alive: Callable[[], None],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """Log in and ``prepare`` as soon as it answers; ``still_alive`` raises if that is in vain.

        Raises:
            AirflowUnavailable: no answer in time.
        """
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            still_alive()
            try:
                self._login()
                prepare()
                return
            except (httpx.HTTPError, AirflowUnavailable):
                time.sleep(0.3)
        raise AirflowUnavailable(f"Airflow's API did not answer within {seconds:g} s")

    def silent(self) -> list[str]:
        """The components whose heartbeats Airflow misses; the API server where it says nothing."""
        try:
            answer = self._http.get("/api/v2/monitor/health", timeout=5)
            told = answer.json()
            names = {name: name.replace("_", "-") for name in _WITH_HEARTBEAT}
            return [names[n] for n in names if (told.get(n) or {}).get("status") != "healthy"]
        except (httpx.HTTPError, ValueError, AttributeError):
            return ["api-server"]

    def ensure_pool(self, name: str, slots: int) -> None:
        """Have a pool whose slots deferred tasks keep."""
        body = {
            "name": name,
            "slots": slots,
            "include_deferred": True,
            "description": "One host: every step takes a slot, an exclusive step all",
        }
        if self._send("GET", f"/pools/{name}", ok=(200, 404)).status_code == 404:
            self._send("POST", "/pools", json=body)
        else:
            self._send("PATCH", f"/pools/{name}", json=body)

    def has_dag(self, dag_id: str, tasks: set[str]) -> bool:
        """Whether the newest version of a DAG is parsed and holds exactly these tasks."""
        if self._send("GET", f"/dags/{dag_id}", ok=(200, 404)).status_code == 404:
            return False
        found = self._send("GET", f"/dags/{dag_id}/tasks", ok=(200, 404))
        if found.status_code == 404:
            return False
        return {task["task_id"] for task in found.json()["tasks"]} == tasks

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        # 409: an earlier request came through whose answer did not come back.
        self._send("POST", f"/dags/{dag_id}/dagRuns", json=body, ok=(200, 201, 409))

    def unfinished(self) -> list[tuple[str, str]]:
        """DAG and run id of every run that has not ended."""
        path = "/dags/~/dagRuns?state=running&state=queued"
        return [(run["dag_id"], run["dag_run_id"]) for run in self._pages(path, "dag_runs")]

    def ended(self, since: str) -> list[dict[str, Any]]:
        """Every run that has ended at a time (ISO 8601) or later, the earliest first."""
        path = "/dags/~/dagRuns?state=success&state=failed&order_by=end_date&end_date_gte="
        return list(self._pages(path + quote(since), "dag_runs"))

    def give_up(self, dag_id: str, run_id: str) -> None:
        """Set a run to failed, which ends its tasks."""
        self._send("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """A run's state; ``None`` where Airflow knows no such run."""
        answer = self._send("GET", f"/dags/{dag_id}/dagRuns/{run_id}", ok=(200, 404))
        return None if answer.status_code == 404 else str(answer.json()["state"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """What Airflow knows of a run: its state and times."""
        return dict(self._send("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json())

    def task_states(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Every task instance of a run, by task id."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return {ti["task_id"]: ti for ti in self._pages(path, "task_instances")}

    def open_questions(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Gates of a run that wait for an answer."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/hitlDetails?response_received=false"
        waiting = []
        for detail in self._pages(path, "hitl_details"):
            if detail["task_instance"]["state"] in ("awaiting_input", "deferred"):
                waiting.append(detail)
        return waiting

    def answer(
        self, dag_id: str, run_id: str, task: str, option: str, form: Mapping[str, Any]
    ) -> None:
        """Answer a gate."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/-1/hitlDetails"
        self._send("PATCH", path, json={"chosen_options": [option], "params_input": dict(form)})

    def set_password(self, user: str, password: str) -> bool:
        """Give a user of the FAB auth manager another password; whether it knows that user."""
        path = f"/users/{quote(user, safe='')}?update_mask=password"
        body = {"password": password}
        answer = self._send("PATCH", path, ok=(200, 404), root="/auth/fab/v1", json=body)
        return answer.status_code == 200

    def dag(self, dag_id: str) -> dict[str, Any]:
        """A DAG's details."""
        return dict(self._send("GET", f"/dags/{dag_id}/details").json())

    def clear(
        self, dag_id: str, run_id: str, tasks: Sequence[str], downstream: bool = True
    ) -> None:
        """Let tasks of a run, and what follows them, run again."""
        body = {
            "dry_run": False,
            "only_failed": False,
            "reset_dag_runs": True,
            "dag_run_id": run_id,
            "task_ids": list(tasks),
            "include_downstream": downstream,
        }
        self._send("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def set_task_state(self, dag_id: str, run_id: str, task: str, state: str) -> None:
        """Set a task's state by hand, as the UI can."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}"
        self._send("PATCH", path, json={"new_state": state})

    def log(self, dag_id: str, run_id: str, task: str, attempt: int) -> str:
        """A task's log as text, exceptions by their messages."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}"
        content = self._send("GET", path, headers={"Accept": "application/json"}).json()["content"]
        return "\n".join(_log_line(x) for x in content)

    def _pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        offset = 0
        join = "&" if "?" in path else "?"
        while True:
            page = self._send("GET", f"{path}{join}limit=100&offset={offset}").json()
            yield from page[key]
            offset += len(page[key])
            if not page[key] or offset >= page["total_entries"]:
                return

    def _send(
        self,
        method: str,
        path: str,
        ok: tuple[int, ...] = (),
        root: str = "/api/v2",
        **kwargs: Any,
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, root + path, **kwargs)
            if answer.status_code == 401:
                self._login()
                answer = self._http.request(method, root + path, **kwargs)
        except httpx.HTTPError as error:
            raise AirflowUnavailable(f"Airflow's API does not answer: {error}") from error
        if answer.status_code not in (ok or (200, 201)):
            raise AirflowUnavailable(
                f"{method} {path} answered {answer.status_code}: {answer.text[:500]}"
            )
        return answer

    def _login(self) -> None:
        body = {"username": self._user, "password": self._password}
        answer = self._http.post("/auth/token", json=body)
        if answer.status_code != 201:
            raise AirflowUnavailable(f"login answered {answer.status_code}")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _log_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    errors = entry.get("error_detail") or []
    words = [f"{e.get('exc_type')}: {e.get('exc_value')}" for e in errors if isinstance(e, dict)]
    return "\n".join([str(entry.get("event", "")), *words])
