"""Which failures Airflow tries again: what this host or its engine may have got over by then.

A fault of ours would only fail three times more, and a person would read of it 15 seconds later.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRuntimeError

from proctor.airflow.evidence import StepRefused
from proctor.records.store import RecordError
from proctor.runtime.base import EngineError, RequestRefused
from proctor.site.home import HomeError

# A disk that is full, failing or not to be written to: the launcher stops the run, which goes on
# when that is mended.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES)


@contextlib.contextmanager
def faults_told(log: Any) -> Iterator[None]:
    """Raise what comes out of a task's code so that Airflow does the right thing with it.

    Raises:
        AirflowException: the engine, the disk, the database or Airflow itself failed; worth another
            try.
        AirflowFailException: anything else; final.
    """
    try:
        yield
    except (AirflowException, AirflowRuntimeError, EOFError, ConnectionError):
        raise  # has the right kind, or is Airflow's own connection
    except EngineError as error:
        raise AirflowException(f"the engine failed: {error}") from error
    except psycopg2.OperationalError as error:
        raise AirflowException(f"Airflow's database does not answer: {error}") from error
    except (StepRefused, RecordError, RequestRefused, HomeError) as refused:
        raise AirflowFailException(str(refused)) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        words = f"this machine failed: {place}{error.strerror or error}"
        kind = AirflowException if error.errno in _OF_THE_DISK else AirflowFailException
        raise kind(words) from error
    except Exception as error:
        log.exception("a fault of Proctor's own; please report it with these lines")
        raise AirflowFailException(
            f"a fault of Proctor's own ({type(error).__name__}: {error}); it is not tried again"
        ) from error
