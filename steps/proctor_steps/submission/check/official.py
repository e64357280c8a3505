"""The official checker as a second opinion: run as it is, and what it says as findings.

It is a part of mlcommons/inference (``tools/submission/submission_checker``), of which the user
names a checkout. It is given the tree and a deadline; what it does wrong is told as its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from proctor_steps.stage import DataError, StepError
from proctor_steps.submission.check.finding import Finding, Scope, Severity

_MODULE = "submission_checker"
_FOLDERS = ("tools/submission", ".")
_LINE = re.compile(r"\[?[^\]\[]*?(?P<file>\w+)\.py:\d+ (?P<level>[A-Z]+)\] (?P<text>.*)")
_RESULT = re.compile(r"(?P<no>No)?Results (?P<path>.+?)(?: [-\d.einfa]+)?$")
_TOLD = ("ERROR", "CRITICAL")
_UNMET = "accuracy not met"  # the one warning for which a result is refused
# What it says about a result besides the reason.
_NOISE = ("Some ", "NoResults ", "SUMMARY", "Execution occurred")
_KINDS = ("results", "measurements", "compliance", "systems")
_LONGEST_TAIL = 60  # lines of a traceback


@dataclass(frozen=True)
class Opinion:
    """What the official checker made of a tree.

    ``passed``, ``failed``: results that it named so. ``crash``: the last line of its traceback, or
    that it was stopped; then it judged nothing. ``seconds``: wall time.
    """

    passed: frozenset[Scope] = frozenset()
    failed: frozenset[Scope] = frozenset()
    findings: tuple[Finding, ...] = ()
    crash: str = ""
    seconds: float = 0.0

    def passes(self, result: Scope) -> bool | None:
        """Whether it takes a result of the tree; ``None`` where it came to no verdict.

        One whose figure is 0 it names in neither list, and counts with the failed ones.
        """
        return None if self.crash else result in self.passed


def ask(
    checkout: Path, root: Path, round_: str, submitter: str | None, deadline_s: float
) -> Opinion:
    """Run the checker of a checkout on a tree.

    Raises:
        DataError: there is no checker in the checkout.
        StepError: it does not start: a package that it needs is missing, or it has no such round.
    """
    home = find(checkout)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="proctor-official-") as scratch:
        command = [sys.executable, "-m", f"{_MODULE}.main", "--input", str(root.resolve())]
        command += ["--version", round_, "--csv", str(Path(scratch) / "summary.csv")]
        command += ["--submitter", submitter] if submitter else []
        said = Path(scratch) / "said.txt"
        with said.open("w") as out:
            code = _run(command, home, out, deadline_s)
        with said.open(encoding="utf-8", errors="replace") as lines:
            heard = _listen(lines, root.resolve())
    if code is None:
        crash = f"stopped after {deadline_s:g} s: the deadline"
        return Opinion(findings=(*heard.findings, _crash(crash, heard)), crash=crash)
    if heard.refusal and not heard.passed and not heard.findings:
        raise StepError(f"the official checker does not start: {heard.refusal}")
    seconds = time.monotonic() - start
    if heard.finished:
        # It complains of results as well that it takes in the end (accuracy in the open division).
        told = tuple(f for f in heard.findings if f.scope not in heard.passed)
        return Opinion(frozenset(heard.passed), frozenset(heard.failed), told, "", seconds)
    crash = heard.tail[-1].strip() if heard.tail else f"ended with code {code} and no summary"
    return Opinion(findings=(*heard.findings, _crash(crash, heard)), crash=crash, seconds=seconds)


def find(checkout: Path) -> Path:
    """The folder of a checkout, or of an unpacked archive of one, that the checker is run in.

    Raises:
        DataError: there is none.
    """
    for top in (checkout, *sorted(p for p in checkout.glob("*") if p.is_dir())):
        for folder in _FOLDERS:
            if (top / folder / _MODULE / "main.py").is_file():
                return (top / folder).resolve()
    raise DataError(
        f"{checkout}: there is no {_FOLDERS[0]}/{_MODULE}/main.py in it; name a checkout of "
        "mlcommons/inference"
    )


def _run(command: list[str], home: Path, out: TextIO, deadline_s: float) -> int | None:
    """The exit code; ``None`` where the deadline ended it."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    with subprocess.Popen(
        command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            return process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@dataclass
class _Heard:
    """What it said so far."""

    passed: set[Scope] = field(default_factory=set)
    failed: set[Scope] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    finished: bool = False
    refusal: str = ""
    last: str = ""  # path of the tree that it spoke of
    tail: list[str] = field(default_factory=list)


def _listen(lines: Iterable[str], root: Path) -> _Heard:
    heard = _Heard()
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            _unformatted(line, heard)
            continue
        heard.tail.clear()
        text = match["text"].rstrip()
        heard.last = _path(text, root) or heard.last
        if "SUMMARY: " in text:
            heard.finished = True
        elif (result := _RESULT.match(text)) and str(root) in result["path"]:
            kind = heard.failed if result["no"] else heard.passed
            kind.add(scope_of(_path(result["path"], root))[:5])
        elif match["level"] in _TOLD or _UNMET in text:
            heard.findings += _finding(match["file"], text, root)
    return heard


def _unformatted(line: str, heard: _Heard) -> None:
    """A line without the logger's head: of a traceback, or of a program that did not start."""
    if line.startswith("Traceback"):
        heard.tail.clear()
    if line.startswith(("ModuleNotFoundError", "ImportError")) or "error: argument" in line:
        heard.refusal = line.strip()
    if line.strip():
        heard.tail.append(line.rstrip())
        del heard.tail[:-_LONGEST_TAIL]


def _finding(file: str, text: str, root: Path) -> list[Finding]:
    if text.startswith(_NOISE) or not text.strip():
        return []
    path = _path(text, root)
    message, advice = text.replace(f"{root}/", ""), "see what Proctor says of the same place"
    scope = scope_of(path)
    return [Finding(Severity.REJECTED, f"official_{file}", path, message, advice, scope)]


def _path(text: str, root: Path) -> str:
    """The first path of the tree in a text, relative; empty where there is none."""
    _, found, rest = text.partition(f"{root}/")
    return re.split(r"[\s,'\"\])]", rest, maxsplit=1)[0].rstrip(".:/") if found else ""


def scope_of(path: str) -> Scope:
    """What a path in a tree is about: ``closed/S/results/y/b/Offline/...`` -> closed, S, y, ..."""
    parts = path.split("/")
    if len(parts) < 3 or parts[2] not in _KINDS:
        return tuple(parts[:2])
    if parts[2] == "systems":
        return (*parts[:2], *(part.removesuffix(".json") for part in parts[3:4]))
    return (*parts[:2], *parts[3:6])


def _crash(text: str, heard: _Heard) -> Finding:
    """Its own failure. It is no fault of the tree's, though something there set it off."""
    return Finding(
        Severity.REJECTED, "official_crash", heard.last,
        f"the official checker ended without a verdict: {text}",
        "see what Proctor says of this place; the checker judges nothing until that is mended",
    )  # fmt: skip
