"""A site under test, and a run on it."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2  # type: ignore[import-untyped]

from proctor.airflow.reuse import Wish, ask
from proctor.plan.compile import load_plan
from proctor.records.store import RunRecord
from proctor.records.summary import summarise
from proctor.runtime.fake import FakeRuntime
from proctor.site.instance import Instance
from proctor.site.runs import WatchedRun, new_run_id
from proctor_steps.contract import write_atomically


@dataclass
class Started:
    """A run under test."""

    site: Site
    watched: WatchedRun

    @property
    def record(self) -> RunRecord:
        return self.watched.record

    def state(self) -> str | None:
        return self.site.instance.client.run_state(self.record.pipeline, self.record.run)

    def tasks(self) -> dict[str, str]:
        states = self.site.instance.client.task_states(self.record.pipeline, self.record.run)
        return {id: ti["state"] for id, ti in states.items()}

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            if value := condition():
                return value
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s; tasks: {self.tasks()}")

    def ended(self, seconds: float = 90) -> str:
        ended = self.until(lambda: self.state() in ("success", "failed") and self.state(), seconds)
        assert isinstance(ended, str)
        for task, state in self.tasks().items():
            if state == "failed":  # pytest shows this where the test then fails
                print(f"--- {task}\n{self.log(task)[-2000:]}")
        return ended

    def until_task(self, task: str, *states: str, seconds: float = 60) -> None:
        self.until(lambda: self.tasks().get(task) in states, seconds)

    def summary(self) -> dict[str, Any]:
        return summarise(self.site.instance.home.records, self.record)

    def log(self, task: str, attempt: int = 1) -> str:
        client = self.site.instance.client
        return client.log(self.record.pipeline, self.record.run, task, attempt)


@dataclass
class Site:
    """An instance with the fake runtime, and a folder for specs."""

    instance: Instance
    folder: Path
    fake: FakeRuntime

    def write(self, name: str, text: str) -> Path:
        path = self.folder / f"{name}.yaml"
        # At once: Airflow reads it at any time, and half a spec is a broken one.
        write_atomically(path, textwrap.dedent(text).encode())
        return path

    def start(
        self,
        name: str,
        text: str,
        params: dict[str, Any] | None = None,
        *,
        reuse: bool = False,
    ) -> Started:
        """``reuse``: results of other tests' runs count. They share one home."""
        path = self.write(name, text)
        plan = load_plan(path)
        record = self.instance.home.records.run(plan.pipeline, new_run_id())
        watched = WatchedRun(self.instance, plan, record)
        if not reuse:
            ask(record, Wish(fresh=True))
        watched.start(params or {}, path, {})
        return Started(self, watched)


@contextmanager
def sql(instance: Instance) -> Iterator[Any]:
    """A cursor of Airflow's database, each statement committed; not named as Proctor's own are."""
    connection = psycopg2.connect(instance.postgres.addresses()[0].replace("+psycopg2", ""))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
