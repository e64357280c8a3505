"""Which failures of a task's code Airflow is told to try again."""

from __future__ import annotations

import errno
import logging

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from proctor.airflow.faults import faults_told
from proctor.records.store import RecordError
from proctor.runtime.base import EngineError, RequestRefused


def told(error: BaseException) -> BaseException:
    with pytest.raises(BaseException) as raised, faults_told(logging.getLogger("test")):
        raise error
    return raised.value


def test_the_engine_and_a_full_disk_are_tried_again() -> None:
    full, closed = (OSError(n, "no room", "/home/x") for n in (errno.ENOSPC, errno.EACCES))
    for error in (EngineError("does not answer"), closed, full):
        again = told(error)
        assert isinstance(again, AirflowException)
        assert not isinstance(again, AirflowFailException)
    assert "/home/x: no room" in str(again)


def test_nothing_else_is() -> None:
    final = (
        KeyError("x"),
        RecordError("cut"),
        RequestRefused("no image"),
        IsADirectoryError(errno.EISDIR, "no file"),
    )
    for error in final:
        assert isinstance(told(error), AirflowFailException)
    assert "a fault of Proctor's own (KeyError" in str(told(KeyError("x")))


def test_what_is_no_failure_passes_through() -> None:
    for error in (AirflowSkipException("not selected"), KeyboardInterrupt()):
        assert told(error) is error
