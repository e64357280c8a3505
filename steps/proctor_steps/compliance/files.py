"""The folder ``TESTxx`` of a submission, as the official checker wants it.

::

    TESTxx/
        verify_accuracy.txt | verify_performance.txt | verify_output_len.txt
        performance/run_1/mlperf_log_{summary,detail}.txt
        accuracy/mlperf_log_accuracy.json          cut, but TEST06's: 100 answers
        accuracy/accuracy.txt                      TEST01: score and sha256 of the whole log
        accuracy/{baseline,compliance}_accuracy.txt    TEST01, where the answers differ
"""

from __future__ import annotations

import shutil
from pathlib import Path

from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.compliance.verdict import Check, Verification
from proctor_steps.loadgen import log
from proctor_steps.submission import archive

_WHOLE = ("TEST06",)
# The official checker takes this anywhere in a text for the verdict.
_PASS, _NO_PASS = "TEST PASS", "TEST-PASS"


def write(folder: Path, found: Verification, logs: Path) -> None:
    """Fill ``folder`` with what there is; a log that is missing is left out."""
    run = folder / "performance" / "run_1"
    run.mkdir(parents=True)
    for name in (log.SUMMARY, log.DETAIL):
        if (logs / name).is_file():
            shutil.copyfile(logs / name, run / name)
    for check in found.checks:
        (folder / check.file).write_text(text(found, check), encoding="utf-8")
    if any(check.name != "performance" for check in found.checks):
        _answers(folder / "accuracy", found, logs / accuracy_log.NAME)


def text(found: Verification, check: Check) -> str:
    """What a check says, its figures, what the run itself misses, and the verdict last."""
    said = [f"{found.test}, {check.name.replace('_', ' ')}: {found.benchmark} {found.scenario}"]
    said += [f"{check.verdict}: {check.reason}", ""]
    said += [f"{name}: {value}" for name, value in check.figures.items()]
    said += [f"{doubt.severity}: {doubt.message}" for doubt in check.doubts]
    said += [f"the run misses a rule: {r.message}" for r in found.rules if r.met is False]
    lines = [" ".join(line.split()).replace(_PASS, _NO_PASS) for line in said]
    return "".join(line + "\n" for line in [*lines, "", *check.lines])


def _answers(folder: Path, found: Verification, whole: Path) -> None:
    if not whole.is_file():
        return
    folder.mkdir()
    if found.test in _WHOLE:
        shutil.copyfile(whole, folder / whole.name)
        return
    sha256 = archive.truncate_accuracy_log(whole, folder / whole.name)
    if found.test != "TEST01":
        return
    figures = next(check.figures for check in found.checks if check.name == "accuracy")
    lines = {name: figures.get(f"{name}_accuracy") for name in ("baseline", "compliance")}
    for name, line in lines.items():
        if line:
            (folder / f"{name}_accuracy.txt").write_text(f"{line}\n", encoding="utf-8")
    score = f"{lines['compliance']}\n\n" if lines["compliance"] else ""
    (folder / "accuracy.txt").write_text(f"{score}hash={sha256}\n", encoding="utf-8")
