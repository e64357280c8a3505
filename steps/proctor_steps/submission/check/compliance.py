"""Family *compliance*: the tests that a closed result has to pass, and what they leave behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from proctor_steps.compliance import audit, speed
from proctor_steps.compliance.verdict import Case, Check
from proctor_steps.loadgen import log as loadgen_log
from proctor_steps.loadgen.log import DETAIL, SUMMARY
from proctor_steps.stage import DataError
from proctor_steps.submission.check import files, performance
from proctor_steps.submission.check.asked import Target
from proctor_steps.submission.check.finding import Finding
from proctor_steps.submission.check.result import Log, Result, Run
from proctor_steps.submission.check.scores import as_float

PASS = "TEST PASS"  # noqa: S105 (what the verification scripts write)
TOLERATED = ("mlperf_log_accuracy.json", "mlperf_log_trace.json", "results.json", ".gitkeep")
_FALLBACK = {
    "mlperf_log_accuracy.json",
    "accuracy.txt",
    "baseline_accuracy.txt",
    "compliance_accuracy.txt",
}
_VERIFY = {"TEST09": "verify_output_len.txt"}
_WITH_RUN = ("TEST01", "TEST04")
_WITHOUT_VERDICT = ("TEST04",)  # of accuracy
_LINES_OF_TEST06 = (
    ("First token check pass: True", "First token check pass: Skipped"),
    ("EOS check pass: True",),
    ("Sample length check pass: True",),
)
_SPEED: dict[str, Callable[[Case], Check]] = {"TEST01": speed.same, "TEST04": speed.not_faster}
_RUN_IT = "run the test, verify it with the round's script, and add what both leave"


def findings(result: Result) -> Iterator[Finding]:
    """Everything about the compliance tests of a closed or network result."""
    if result.open or result.endpoints or result.asked is None:
        return
    for test in result.asked.tests:
        folder = result.place.compliance / test
        if not files.exists(folder):
            yield result.tell.rejected("compliance_test", folder, f"{test} is missing", _RUN_IT)
            continue
        if test not in _WITHOUT_VERDICT:
            yield from _verdict(result, test, folder)
        if test in _WITH_RUN:
            yield from _run(result, test, folder)


def _verdict(result: Result, test: str, folder: Path) -> Iterator[Finding]:
    """The verification's verdict of what the run answered."""
    path, rule, tell = folder / _VERIFY.get(test, "verify_accuracy.txt"), _rule(test), result.tell
    text = files.text(path)
    if text.absence and text.absence != "empty":
        stops = text.absence != "missing" and test not in ("TEST07", "TEST09")
        yield tell.rejected(rule, path, text.problem, _RUN_IT, stops=stops)
        return
    lines = [line.strip() for line in text.lines]
    if test == "TEST06":
        for wanted in _LINES_OF_TEST06:
            if not set(wanted) & set(lines):
                text_ = f"does not say {' or '.join(repr(line) for line in wanted)}"
                yield tell.rejected(rule, path, text_, "find out why the test fails; " + _RUN_IT)
    elif test == "TEST01":
        if PASS not in lines:
            yield from _fallback(result, folder)
    elif PASS not in (lines if test == "TEST08" else text.content):
        yield tell.rejected(rule, path, f"does not say {PASS!r}", "find out why the test fails")


def _rule(test: str) -> str:
    return test.lower()


def _fallback(result: Result, folder: Path) -> Iterator[Finding]:
    """TEST01 without equal answers: the accuracy of the logged ones against the same samples'."""
    accuracy, tell, rule = folder / "accuracy", result.tell, "test01"
    failed = f"{folder.name} did not pass, and the non-deterministic way"
    advice = "find out why the answers differ between the runs"
    if not files.exists(accuracy):
        path = folder / "verify_accuracy.txt"
        yield tell.rejected(rule, path, f"{failed} has no folder accuracy/", advice)
        return
    wrong = mismatch(accuracy, _FALLBACK, ())
    if wrong:
        yield tell.rejected(rule, accuracy, f"{failed} has not the right files: {wrong}", advice)
        return
    assert result.asked is not None  # noqa: S101 (only such results come here)
    targets = [t for t in result.asked.targets(result.scenario) if t.at_least is not None]
    before = _values(accuracy / "baseline_accuracy.txt", targets)
    after = _values(accuracy / "compliance_accuracy.txt", targets)
    for target in targets:
        one, other = before.get(target.metric), after.get(target.metric)
        if not one or not other:
            text = f"{failed} tells no {target.metric} in both files"
            yield tell.rejected(rule, accuracy, text, advice)
            return
        allowed, delta = _delta_percent(result, target.metric), abs(1 - one / other) * 100
        if not delta <= allowed:
            text = f"{failed} is {delta:.3g} % apart in {target.metric}; {allowed:g} % is allowed"
            yield tell.rejected(rule, accuracy, text, advice)
            return


def _values(path: Path, targets: list[Target]) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in files.text(path).lines:
        for target in targets:
            if match := re.match(target.pattern, line):
                found[target.metric] = as_float(match[1]) or 0.0
    return found


def _delta_percent(result: Result, metric: str) -> float:
    """How far the two accuracies may be apart. Source: the checker."""
    assert result.asked is not None  # noqa: S101
    if result.asked.name == "stable-diffusion-xl":
        return {"FID_SCORE": 2.0}.get(metric, 1.0)
    return 0.1 if "99.9" in result.asked.name else 1.0


def _run(result: Result, test: str, folder: Path) -> Iterator[Finding]:
    """The verdict of how fast the run was, and the run itself."""
    tell, rule = result.tell, _rule(test)
    path, log = folder / "verify_performance.txt", result.tests[test]
    text = files.text(path)
    if text.absence and text.absence != "empty":
        yield tell.rejected(rule, path, text.problem, _RUN_IT)
    elif PASS not in text.content:
        advice = "find out why the test is faster; were others at work, run both again without them"
        yield tell.rejected(rule, path, f"does not say {PASS!r}", advice)
    if log.scan is None:
        yield tell.rejected(rule, log.path, "is missing", _RUN_IT)
        return
    wrong = mismatch(log.folder, {SUMMARY, DETAIL}, TOLERATED)
    if wrong:
        yield tell.rejected(
            rule, log.folder, f"has not the files that are wanted: {wrong}",
            "leave the logs alone there",
        )  # fmt: skip
    yield from performance.judge(Run(result, log, test))
    yield from _same_system(result, test, log)
    if PASS in text.content:
        yield from _speed(result, test, log, path)


def _speed(result: Result, test: str, log: Log, path: Path) -> Iterator[Finding]:
    """The verdict on how fast the run was, once more, from both logs themselves."""
    check = _SPEED[test]
    valid = all(run.value("result_validity") == "VALID" for run in (result.performance, log))
    if not valid or result.asked is None:
        return  # told by the rules of a run
    model = audit.model_of(result.asked.round, result.asked.name)
    try:
        found = check(
            Case(
                test="TEST04" if test == "TEST04" else "TEST01",
                benchmark=result.asked.name, round=result.asked.round, model=model,
                detail=loadgen_log.read(log.folder), logs=log.folder,
                performance=result.performance.folder, accuracy=None, dataset=None, score=None,
                dtype="byte", eos_token_id=0, score_pattern="", delta_percent=1.0,
            )
        )  # fmt: skip
    except DataError:
        return  # what is wrong with a log is told where it is
    if found.verdict == "fail":
        yield result.tell.against(
            f"{_rule(test)}_speed", path, f"says {PASS!r}, but by the logs {found.reason}",
            "verify the test with the logs that are submitted",
        )  # fmt: skip


def mismatch(folder: Path, wanted: set[str], tolerated: tuple[str, ...]) -> str:
    """Which files are missing or too many; empty where none are."""
    found = set(files.names(folder, "files"))
    always = set(TOLERATED[1:])
    missing = sorted(wanted - found)
    extra = sorted(found - wanted - set(tolerated) - always)
    told = [f"{name} is missing" for name in missing] + [f"{name} is too many" for name in extra]
    return ", ".join(told[:8])


def _same_system(result: Result, test: str, log: Log) -> Iterator[Finding]:
    """The test must be of what the result is of."""
    for key in ("sut_name", "qsl_name", "effective_scenario", "qsl_reported_total_count"):
        own, other = result.performance.value(key), log.value(key)
        if own is not None and other is not None and own != other:
            yield result.tell.against(
                f"{_rule(test)}_of_another", log.path,
                f"{key} is {other!r}; the result's own log says {own!r}",
                "run the test with the system and the settings of the result", log.line(key),
            )  # fmt: skip
