"""Family *accuracy*: the score, the log that it was made from, and the run behind both."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proctor_steps.contract import file_sha256
from proctor_steps.submission.check import files, strict
from proctor_steps.submission.check.asked import Target
from proctor_steps.submission.check.finding import Finding, Severity
from proctor_steps.submission.check.logs import damage
from proctor_steps.submission.check.result import Result
from proctor_steps.submission.check.scores import LARGEST_CUT, Reading

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODE = "AccuracyOnly"
_CUT_IT = "cut it with truncate_accuracy_log.py, which also writes the hash into accuracy.txt"


def findings(result: Result) -> Iterator[Finding]:
    """Everything about the accuracy run."""
    if result.endpoints:
        return
    log = result.accuracy
    if log.scan is None:
        yield result.tell.rejected(
            "accuracy_log", log.path, "is missing", "add the detail log of the accuracy run",
            stops=True,
        )  # fmt: skip
    else:
        yield from _run(result)
    yield from _score(result)
    yield from _entries(result)
    yield from _extra_files(result)


def _run(result: Result) -> Iterator[Finding]:
    log, tell = result.accuracy, result.tell
    broken = list(damage(log, tell, "accuracy"))
    yield from broken
    if log.scan is None or any(f.severity is Severity.REJECTED for f in broken):
        return
    told = set()
    for error in log.scan.errors[:3]:
        told.add("loadgen_errors")
        yield tell.rejected(
            "loadgen_errors", log.path, f"LoadGen logged an error: {error.text}",
            "mend what it names, and run the accuracy run again", error.line,
        )  # fmt: skip
    if not log.scan.errors:
        told.add("loadgen_errors")
    wanted = result.asked.samples(result.scenario) if result.asked else None
    key = "effective_accuracy_sample_count"
    key = key if key in log.scan.values else "qsl_reported_total_count"
    if wanted is not None and log.value(key) != wanted:
        told.add("dataset_size")
        yield tell.rejected(
            "dataset_size", log.path,
            f"{key} is {log.value(key)}; the benchmark's dataset has {wanted} samples",
            "run the accuracy run on the whole dataset", log.line(key),
        )  # fmt: skip
    loaded, asked = log.scan.counted.get("loaded_qsl_set", 0), log.number(key)
    if asked is not None and loaded < asked and log.value("effective_test_mode") == _MODE:
        yield tell.against(
            "accuracy_samples", log.path, f"the run loaded {loaded} samples of {asked:g}",
            "run the accuracy run again, on every sample", log.line("loaded_qsl_set"),
        )  # fmt: skip
    yield from strict.accuracy(result, told)


def _score(result: Result) -> Iterator[Finding]:
    text, tell, asked = result.score, result.tell, result.asked
    if text.absence and (text.absence != "empty" or not result.open):
        yield tell.rejected(
            "accuracy_txt", text.path, text.problem, "put what the accuracy script prints there",
            stops=text.absence not in ("missing", "empty"),
        )  # fmt: skip
    if text.absence not in ("", "empty") or asked is None:
        return
    targets = asked.targets(result.scenario)
    found = result.reading
    for target, said, line in found.unread:
        yield tell.rejected(
            "accuracy_txt", text.path, f"{target.metric} is {said!r}, which is no number",
            "put what the accuracy script prints there", line,
        )  # fmt: skip
    if not result.open and not text.absence:
        yield from _targets(result, found, targets)
    if result.open and not found.values:
        yield tell.against(
            "accuracy_reported", text.path, "no accuracy of the benchmark's metric is told",
            "an open result needs no target, but the accuracy that it reached",
        )  # fmt: skip
    yield from strict.score(
        result, {name: told.value for name, told in found.values.items()}, found.hash_line
    )
    yield from _hash(result, found)


def _targets(result: Result, found: Reading, targets: list[Target]) -> Iterator[Finding]:
    tell, path, rule = result.tell, result.score.path, "accuracy_target"
    for target, value, line in found.beyond:
        yield tell.rejected(
            rule, path, f"{target.metric} is {value:g}; it must be {target.words}",
            "submit what reaches the target, or submit to the open division", line,
        )  # fmt: skip
    for target in targets:
        if target.at_least is not None and target.metric not in found.values:
            yield tell.rejected(
                rule, path, f"{target.metric} is not told (no line matches {target.pattern})",
                "put the output of the benchmark's accuracy script there as it is",
            )  # fmt: skip
    if not found.hash:
        yield tell.rejected("accuracy_hash", path, "has no line hash=...", _CUT_IT)


def _entries(result: Result) -> Iterator[Finding]:
    """The accuracy log itself: there, and cut."""
    path, tell = result.entries, result.tell
    found = files.size(path)
    if found is None and not files.exists(path):
        yield tell.rejected("accuracy_entries", path, "is missing", "add the accuracy log, cut")
    elif found is None:
        yield tell.against("accuracy_entries", path, "is no file", "add the accuracy log, cut")
    elif found > LARGEST_CUT:
        yield tell.rejected(
            "accuracy_entries", path,
            f"is not cut: {found:,} bytes, at most {LARGEST_CUT:,} are taken", _CUT_IT,
        )  # fmt: skip
    elif found == 0:
        yield tell.against(
            "accuracy_entries", path, "is empty: the accuracy run answered nothing",
            "add the log of the accuracy run, cut",
        )  # fmt: skip


def _hash(result: Result, found: Reading) -> Iterator[Finding]:
    """The hash, recomputed where the log is whole."""
    tell = result.tell
    if not found.hash:
        return
    if not _SHA256.fullmatch(found.hash):
        yield tell.against(
            "accuracy_hash", result.score.path, f"hash={found.hash} is no sha256", _CUT_IT,
            found.hash_line,
        )  # fmt: skip
        return
    if not result.whole:
        return
    try:
        whole = file_sha256(result.entries)
    except OSError:
        return
    if whole != found.hash:
        yield tell.against(
            "accuracy_hash", result.score.path,
            f"the log beside it is whole, and its sha256 is {whole}, not what stands here",
            "score the log that is submitted, and cut it anew", found.hash_line,
        )  # fmt: skip


def _extra_files(result: Result) -> Iterator[Finding]:
    wanted = result.asked.rules.extra_files if result.asked else {}
    for folder, names in wanted.items():
        path = result.place.accuracy / folder
        stems = {name.split(".")[0] for name in files.names(path, "files")}
        missing = [name for name in names if name not in stems]
        if missing or not path.is_dir():
            listed = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            yield result.tell.rejected(
                "accuracy_extra_files", path,
                f"{len(missing)} of {len(names)} files that the round names are missing: {listed}",
                "add what the model made of these samples",
            )  # fmt: skip
