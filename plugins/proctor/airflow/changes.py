"""Told by the database that something changed, so that nobody has to ask it over and over.

Airflow's components ask every fraction of a second whether there is something to do. That makes
either a slow chain of short steps or a machine that is never quiet. Here the database tells:
triggers on a few of Airflow's tables send a notification (``NOTIFY``) when a transaction that
changed a state commits, and who waits for it sleeps until then. A listener that lost its
connection falls back to asking.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg2  # type: ignore[import-untyped]

# Notified when a task, a run, a trigger or a question changes its state, or an asset has an event.
TASKS = "proctor_tasks"
# Notified when somebody asks the DAG processor for something.
PARSING = "proctor_parsing"

# (table, the columns whose change counts, channel). Rows that come or go count in any case.
_WATCHED = (
    ("task_instance", "state", TASKS),
    ("dag_run", "state", TASKS),
    ("trigger", "", TASKS),
    ("hitl_detail", "responded_at", TASKS),
    ("asset_dag_run_queue", "", TASKS),
    ("dag_priority_parsing_request", "", PARSING),
    ("callback", "", PARSING),
)
# Told with each change of a state: "table: from > to"; nothing stands for no state.
_FUNCTION = """
    CREATE OR REPLACE FUNCTION proctor_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        told text := '';
    BEGIN
        IF TG_OP = 'UPDATE' AND TG_ARGV[1] = 'state' THEN
            told := concat(TG_TABLE_NAME, ': ', OLD.state, ' > ', NEW.state);
        END IF;
        PERFORM pg_notify(TG_ARGV[0], told);
        RETURN NULL;
    END $$
"""
# What the scheduler itself does, or has no more to do with: no decision follows from it.
DECIDED = frozenset(
    {
        "task_instance:  > scheduled",
        "task_instance: scheduled > queued",
        "task_instance: queued > running",
        "dag_run: queued > running",
    }
)
# Without its database, or with nothing to listen to, a listener is back at asking this often.
ASK_SECONDS = 0.2
_RECONNECT_SECONDS = 5.0
# What no change tells of (a retry that is due, a row that a crash left) is looked for this often:
# soon after a change, as it may have led there, and seldom where all has been still for a while.
SOON_SECONDS = 5.0
STILL_SECONDS = 30.0
SELDOM_SECONDS = 20.0


def install(url: str) -> None:
    """Have the database tell; after each migration, and harmless when done before."""
    with connected(url) as cursor:
        cursor.execute(_FUNCTION)
        for table, columns, channel in _WATCHED:
            update = f" OR UPDATE OF {columns}" if columns else ""
            cursor.execute(
                f"CREATE OR REPLACE TRIGGER proctor_notify AFTER INSERT OR DELETE{update} "
                f"ON {table} FOR EACH ROW EXECUTE FUNCTION proctor_notify('{channel}', '{columns}')"
            )


def remove(url: str) -> None:
    """Take it back: a migration must find Airflow's tables as Airflow made them."""
    with connected(url) as cursor:
        cursor.execute("SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'proctor_notify'")
        # One table at a time: whoever locks several can deadlock with Airflow's components.
        for (table,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER IF EXISTS proctor_notify ON {table}")
        cursor.execute("DROP FUNCTION IF EXISTS proctor_notify")


class Changes:
    """What has changed on some channels; one for each process that waits.

    It is connected at the first wait, so that children forked before do not share its socket.
    ``ignored``: what is told with changes that do not count.
    """

    def __init__(self, url: str, *channels: str, ignored: frozenset[str] = frozenset()) -> None:
        self._url, self._channels, self._ignored = url, channels, ignored
        self._connection: Any = None
        self._connect_again = 0.0
        self._fresh = False
        # Whether something changed until the last wait ended; not only a descriptor was readable.
        self.told = True

    @classmethod
    def of_airflow(cls, *channels: str, ignored: frozenset[str] = frozenset()) -> Changes:
        """Those of the database that this component's environment names."""
        url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        return cls(url, *channels, ignored=ignored)

    def wait(self, seconds: float, *others: int) -> bool:
        """Sleep until a change, until a descriptor of ``others`` is readable, or the time is over.

        True: look now. It may be so without a change, as when the connection was made only now
        and what happened before is not known.
        """
        self.told = True
        if self._connection is None and not self._connect():
            _readable(others, min(seconds, ASK_SECONDS))
            return True
        if self._fresh:
            self._fresh = False
            return True
        end = time.monotonic() + seconds
        try:
            while True:
                ours, left = self._connection.fileno(), end - time.monotonic()
                ready = _readable([ours, *others], left)
                self.told = self._heard()
                if self.told or any(each != ours for each in ready):
                    return True
                if not ready:
                    return False
        except psycopg2.Error:
            self._connection, self.told = None, True
            return True

    def _connect(self) -> bool:
        if time.monotonic() < self._connect_again:
            return False
        self._connect_again = time.monotonic() + _RECONNECT_SECONDS
        try:
            self._connection = _open(self._url)
            with self._connection.cursor() as cursor:
                for channel in self._channels:
                    cursor.execute(f"LISTEN {channel}")
        except psycopg2.Error:
            self._connection = None
            return False
        self._fresh = True
        return True

    def _heard(self) -> bool:
        self._connection.poll()
        told = any(each.payload not in self._ignored for each in self._connection.notifies)
        self._connection.notifies.clear()
        return told


class Due:
    """Whether a loop's turn has to ask the database. All times in seconds."""

    def __init__(self) -> None:
        self._told = self._asked = float("-inf")

    def now(self, told: bool) -> bool:
        """``told``: something changed since the last turn. The first turn is due."""
        now = time.monotonic()
        if told or self._told < 0:
            self._told = now
        pause = SOON_SECONDS if now - self._told < STILL_SECONDS else SELDOM_SECONDS
        due = told or now - self._asked >= pause
        if due:
            self._asked = now
        return due


def _readable(descriptors: Sequence[int], seconds: float) -> list[int]:
    # Not select(): its descriptors end at 1024.
    waiting = select.poll()
    for each in descriptors:
        waiting.register(each, select.POLLIN)
    return [fd for fd, _ in waiting.poll(max(0.0, seconds) * 1000)]


def _open(url: str) -> Any:
    connection = psycopg2.connect(url.replace("+psycopg2", ""), application_name="proctor changes")
    connection.autocommit = True
    return connection


@contextlib.contextmanager
def connected(url: str) -> Iterator[Any]:
    """A cursor of Airflow's database, each statement committed."""
    connection = _open(url)
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
