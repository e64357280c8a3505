"""Finds a function of a workflow's author, and gives it what MedPerf's runner would.

The modules lie in the mount ``additional_files``. A function gets a stand-in for MedPerf's
``PipelineState``, whose paths are those of the mounts in this container, not of the host.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from proctor_steps.stage import DataError, StepIO

FILES = "additional_files"


class PipelineState:
    """What a function is given. A mount that the workflow does not have is ``None``."""

    def __init__(self, mounts: dict[str, Path], subject: str) -> None:
        def path(name: str) -> str | None:
            return str(mounts[name]) if name in mounts else None

        self.running_subject = subject or None
        self.airflow_kwargs: dict[str, Any] = {}
        self.host_input_data_path = path("data_path")
        self.host_output_data_path = path("output_path")
        self.host_labels_path = path("labels_path")
        self.host_output_labels_path = path("output_labels_path")


def state(io: StepIO) -> PipelineState:
    """The state of the subject that the step runs for, by the step's mounts."""
    mounts = {mount.name: Path(mount.path) for mount in io.contract.mounts}
    return PipelineState(mounts, io.contract.partition)


def call(io: StepIO, name: str) -> Any:
    """What ``module.function`` answers; what it prints goes to the step's log.

    Raises:
        DataError: there is no such function, or it fails; with its place.
    """
    function = find(_files(io), name)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return function(state(io))
    except Exception as error:
        place = _place(error)
        raise DataError(f"{name} failed{place}: {type(error).__name__}: {error}") from error


def find(files: Path, name: str) -> Callable[[PipelineState], Any]:
    """The function of a name like ``conditions.annotation_done``.

    Raises:
        DataError: there is none; a near miss is named.
    """
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise DataError(f"{name!r} names no function; write module.function")
    module = _module(files, module_name, name)
    found = getattr(module, function_name, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    known = [each for each in vars(module) if callable(getattr(module, each))]
    own = [each for each in known if not each.startswith("_")]
    hint = _did_you_mean(function_name, own) or f"it has {', '.join(sorted(own)) or 'none'}"
    raise DataError(f"{name}: {module_name}.py has no function {function_name!r}; {hint}")


def _files(io: StepIO) -> Path:
    for mount in io.contract.mounts:
        if mount.name == FILES:
            return Path(mount.path)
    raise DataError(f"no {FILES!r} are mounted, which hold the workflow's functions")


def _module(files: Path, module_name: str, name: str) -> ModuleType:
    path = files / f"{module_name.replace('.', '/')}.py"
    if not path.is_file():
        known = [p.relative_to(files).with_suffix("").as_posix() for p in files.rglob("*.py")]
        known = [each.replace("/", ".") for each in known]
        shown = ", ".join(sorted(known)) or "no module at all"
        hint = _did_you_mean(module_name, known) or f"there is {shown}"
        raise DataError(f"{name}: {FILES} has no {module_name}.py; {hint}")
    with _on_path(files):
        try:
            return importlib.import_module(module_name)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            message = f"{name}: {module_name}.py cannot be loaded{_place(error)}: {what}"
            raise DataError(message) from error


@contextlib.contextmanager
def _on_path(files: Path) -> Iterator[None]:
    sys.path.insert(0, str(files))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(files))


def _place(error: BaseException) -> str:
    """Where in the author's code it came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "proctor_steps" not in frame.filename]
    own = [frame for frame in own if not frame.filename.startswith("<")]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def _did_you_mean(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""
