"""One thing wrong at a time in a faultless submission, and what the validator must say of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submission_kit import (
    BENCHMARK,
    DESCRIPTION,
    DETAIL,
    PREFIX,
    RESULTS,
    SINGLE,
    SUBMISSION,
    SUMMARY,
    SYSTEM,
    edit,
    edit_json,
    with_duration,
    with_value,
    write,
)

Change = Callable[[Path], Any]

RUN = f"{SINGLE}/performance/run_1"
MULTI = f"{RESULTS}/MultiStream/performance/run_1"
OFFLINE = f"{RESULTS}/Offline/performance/run_1"
ACCURACY = f"{SINGLE}/accuracy"
SCORE = f"{ACCURACY}/accuracy.txt"
ENTRIES = f"{ACCURACY}/mlperf_log_accuracy.json"
TEST01 = f"{SINGLE}/TEST01"
REJECTED, AGAINST, ADVICE = "rejected", "against", "advice"


@dataclass(frozen=True)
class Mutation:
    """``change`` makes it; the validator then finds ``rule`` at ``path`` with ``severity``."""

    name: str
    change: Change
    severity: str
    rule: str
    path: str


def gone(path: str) -> Change:
    """Take a file or folder away."""

    def change(root: Path) -> None:
        target = root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return change


def becomes(path: str, content: str | bytes) -> Change:
    """Give a file another content."""
    data = content.encode() if isinstance(content, str) else content

    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return change


def cut(path: str, share: float = 0.5) -> Change:
    """Leave the first part of a file, which ends within a line."""

    def change(root: Path) -> None:
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(len(data) * share)].rstrip())

    return change


def folder_instead(path: str) -> Change:
    """Put a folder in a file's place."""

    def change(root: Path) -> None:
        (root / path).unlink()
        (root / path).mkdir()

    return change


def copied(source: str, target: str) -> Change:
    """Copy a file or folder within the tree, over what is there."""

    def change(root: Path) -> None:
        one, other = root / source, root / target
        if one.is_dir():
            shutil.copytree(one, other, dirs_exist_ok=True)
        else:
            shutil.copyfile(one, other)

    return change


def moved(source: str, target: str) -> Change:
    """Rename a file or folder."""
    return lambda root: (root / source).rename(root / target)


def logged(path: str, **values: Any) -> Change:
    """Other values in a detail log."""

    def change(root: Path) -> None:
        for key, value in values.items():
            edit(root / path, lambda log, k=key, v=value: with_value(log, k, v))

    return change


def described(**fields: Any) -> Change:
    """Other fields of the system's description."""
    return lambda root: edit_json(root / DESCRIPTION, fields)


def line(path: str, text: str) -> Change:
    """Append a line to a file."""
    return lambda root: edit(root / path, lambda old: old + text + "\n")


def linked(path: str) -> Change:
    """Put a symbolic link to a copy outside the submission in a file's place."""

    def change(root: Path) -> None:
        (root / path).rename(root / "elsewhere")
        (root / path).symlink_to(root / "elsewhere")

    return change


def swapped(root: Path) -> None:
    """The logs of the performance and of the accuracy run, one in the other's place."""
    one, other = root / RUN / DETAIL, root / ACCURACY / DETAIL
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def as_yolo_95(root: Path) -> None:
    """The whole benchmark once more, under its easier target's name."""
    shutil.copytree(root / RESULTS, (root / RESULTS).with_name("yolo-95"))


def another_system(root: Path) -> None:
    """A second system, of which nothing was measured."""
    same_system(root)
    edit_json(root / SUBMISSION / "systems" / "second.json", {"host_processor_model_name": "x"})


def same_system(root: Path) -> None:
    """The system once more, under another name."""
    shutil.copytree(root / RESULTS, root / SUBMISSION / "results" / "second" / BENCHMARK)
    shutil.copyfile(root / DESCRIPTION, root / SUBMISSION / "systems" / "second.json")


def error_line(path: str) -> Change:
    """A line that LoadGen marked as an error."""
    entry = {"key": "error_runtime", "value": "Attempted to complete a sample twice.",
             "time_ms": 1.0, "metadata": {"is_error": True, "is_warning": False}}  # fmt: skip
    return line(path, PREFIX + json.dumps(entry))


def uncut(root: Path, entries: int = 1525) -> None:
    """A whole accuracy log, of so many samples."""
    lines = [json.dumps({"seq_id": i, "qsl_idx": i, "data": "00" * 28}) for i in range(entries)]
    write(root / ENTRIES, "[\n" + ",\n".join(lines) + "\n]\n")


def non_utf8_name(root: Path) -> None:
    """A name that is no UTF-8, as another system's archive may leave it."""
    target = os.fsencode(root / SINGLE) + b"/n\xf6tes.txt"
    with open(target, "w") as file:  # noqa: PTH123 (the name is bytes)
        file.write("x")


def non_utf8_system(root: Path) -> None:
    """The whole system has such a name."""
    submission = os.fsencode(root / SUBMISSION)
    for folder, suffix in ((b"results", b""), (b"systems", b".json")):
        before = b"/".join((submission, folder, os.fsencode(SYSTEM) + suffix))
        os.rename(before, before.replace(b"one-server", b"s\xf6rver"))  # noqa: PTH104 (bytes)


def both(*changes: Change) -> Change:
    """Several changes."""
    return lambda root: [change(root) for change in changes]


def m(name: str, change: Change, severity: str, rule: str, path: str) -> Mutation:
    """Short for the table."""
    return Mutation(name, change, severity, rule, path)


_JSON = f"{SINGLE}/measurements.json"
_FILES = [
    m("system description missing", gone(DESCRIPTION), REJECTED, "system_description", DESCRIPTION),
    m("system description empty", becomes(DESCRIPTION, ""), REJECTED, "system_description",
      DESCRIPTION),
    m("system description truncated", cut(DESCRIPTION), REJECTED, "system_description",
      DESCRIPTION),
    m("system description a list", becomes(DESCRIPTION, "[1]"), REJECTED, "system_description",
      DESCRIPTION),
    m("system description not UTF-8", becomes(DESCRIPTION, b'{"submitter": "M\xfcller"}'), REJECTED,
      "system_description", DESCRIPTION),
    m("system description a folder", folder_instead(DESCRIPTION), REJECTED, "system_description",
      DESCRIPTION),
    m("measurements.json missing", gone(_JSON), REJECTED, "measurements", _JSON),
    m("measurements.json empty", becomes(_JSON, ""), REJECTED, "measurements", _JSON),
    m("measurements.json truncated", cut(_JSON), REJECTED, "measurements", _JSON),
    m("measurements.json a number", becomes(_JSON, "7"), REJECTED, "measurements", _JSON),
    m("measurements.json deeply nested", becomes(_JSON, "[" * 100_000), REJECTED, "measurements",
      _JSON),
    m("measurements.json without retraining", lambda r: edit_json(r / _JSON, {"retraining": ...}),
      REJECTED, "measurements_field", _JSON),
    m("measurements.json: retraining false", lambda r: edit_json(r / _JSON, {"retraining": False}),
      REJECTED, "measurements_field", _JSON),
    m("user.conf missing", gone(f"{SINGLE}/user.conf"), REJECTED, "measurements_file",
      f"{SINGLE}/user.conf"),
    m("user.conf empty", becomes(f"{SINGLE}/user.conf", ""), REJECTED, "measurements_file",
      f"{SINGLE}/user.conf"),
    m("README.md missing", gone(f"{SINGLE}/README.md"), REJECTED, "measurements_file",
      f"{SINGLE}/README.md"),
    m("src missing", gone(f"{SUBMISSION}/src"), REJECTED, "source", f"{SUBMISSION}/src"),
    m("src empty", both(gone(f"{SUBMISSION}/src/{BENCHMARK}")), AGAINST, "source",
      f"{SUBMISSION}/src"),
    m("calibration.md missing", gone(f"{SUBMISSION}/documentation"), AGAINST, "calibration",
      SUBMISSION),
    m("results missing", gone(f"{SUBMISSION}/results"), REJECTED, "results",
      f"{SUBMISSION}/results"),
]  # fmt: skip
_LOGS = [
    m("performance log missing", gone(f"{RUN}/{DETAIL}"), REJECTED, "performance_log",
      f"{RUN}/{DETAIL}"),
    m("performance log empty", becomes(f"{RUN}/{DETAIL}", ""), REJECTED, "detail_log",
      f"{RUN}/{DETAIL}"),
    m("performance log truncated", cut(f"{RUN}/{DETAIL}"), REJECTED, "detail_log",
      f"{RUN}/{DETAIL}"),
    m("performance log not a log", becomes(f"{RUN}/{DETAIL}", "hello\n"), REJECTED, "detail_log",
      f"{RUN}/{DETAIL}"),
    m("performance log with binary bytes", lambda r: (r / RUN / DETAIL).write_bytes(
        (r / RUN / DETAIL).read_bytes() + b"\xff\xfe\n"), REJECTED, "detail_log",
      f"{RUN}/{DETAIL}"),
    m("performance log with a line of another program", line(f"{RUN}/{DETAIL}", "warming up"),
      AGAINST, "detail_log", f"{RUN}/{DETAIL}"),
    m("performance folder missing", gone(f"{SINGLE}/performance"), REJECTED, "performance_log",
      f"{RUN}/{DETAIL}"),
    m("summary missing", gone(f"{RUN}/{SUMMARY}"), AGAINST, "summary", f"{RUN}/{SUMMARY}"),
    m("summary of another run (stale)", copied(f"{TEST01}/performance/run_1/{SUMMARY}",
      f"{RUN}/{SUMMARY}"), AGAINST, "summary_stale", f"{RUN}/{SUMMARY}"),
    m("two runs in one log", lambda r: edit(r / RUN / DETAIL,
      lambda log: log + (r / TEST01 / "performance/run_1" / DETAIL).read_text()), AGAINST,
      "detail_log_twice", f"{RUN}/{DETAIL}"),
    m("accuracy log missing", gone(f"{ACCURACY}/{DETAIL}"), REJECTED, "accuracy_log",
      f"{ACCURACY}/{DETAIL}"),
    m("accuracy log truncated", cut(f"{ACCURACY}/{DETAIL}"), REJECTED, "detail_log",
      f"{ACCURACY}/{DETAIL}"),
    m("accuracy folder missing", gone(ACCURACY), REJECTED, "accuracy_log", f"{ACCURACY}/{DETAIL}"),
    m("both logs missing", both(gone(f"{RUN}/{DETAIL}"), gone(f"{ACCURACY}/{DETAIL}")), REJECTED,
      "performance_log", f"{RUN}/{DETAIL}"),
    m("both logs of Offline missing", both(gone(f"{OFFLINE}/{DETAIL}"),
      gone(f"{RESULTS}/Offline/accuracy/{DETAIL}")), REJECTED, "performance_log",
      f"{OFFLINE}/{DETAIL}"),
    m("performance and accuracy log swapped", swapped, REJECTED, "metric", f"{RUN}/{DETAIL}"),
    m("accuracy log is a performance run's", copied(f"{RUN}/{DETAIL}", f"{ACCURACY}/{DETAIL}"),
      AGAINST, "mode", f"{ACCURACY}/{DETAIL}"),
    m("error line in the accuracy log", error_line(f"{ACCURACY}/{DETAIL}"), REJECTED,
      "loadgen_errors", f"{ACCURACY}/{DETAIL}"),
    m("error line in the performance log", error_line(f"{RUN}/{DETAIL}"), AGAINST,
      "loadgen_errors", f"{RUN}/{DETAIL}"),
]  # fmt: skip
_RUNS = [
    m("seed of another round", logged(f"{RUN}/{DETAIL}", effective_qsl_rng_seed=1), REJECTED,
      "seed_qsl", f"{RUN}/{DETAIL}"),
    m("schedule seed missing", logged(f"{RUN}/{DETAIL}", effective_schedule_rng_seed=None),
      REJECTED, "seed_schedule", f"{RUN}/{DETAIL}"),
    m("run INVALID", logged(f"{RUN}/{DETAIL}", result_validity="INVALID"), AGAINST,
      "result_validity", f"{RUN}/{DETAIL}"),
    m("run set to 60 s", logged(f"{RUN}/{DETAIL}", effective_min_duration_ms=60_000), REJECTED,
      "min_duration", f"{RUN}/{DETAIL}"),
    m("run set to 600 s, lasted 3", lambda r: edit(r / RUN / DETAIL,
      lambda log: with_duration(log, 3_000)), AGAINST, "min_duration", f"{RUN}/{DETAIL}"),
    m("clock set back during the run", lambda r: edit(r / RUN / DETAIL,
      lambda log: with_duration(log, -5_000)), AGAINST, "min_duration", f"{RUN}/{DETAIL}"),
    m("early stopping not met", logged(f"{MULTI}/{DETAIL}", early_stopping_met=False), REJECTED,
      "early_stopping", f"{MULTI}/{DETAIL}"),
    m("MultiStream of too few queries", logged(f"{MULTI}/{DETAIL}", result_query_count=300),
      AGAINST, "min_queries", f"{MULTI}/{DETAIL}"),
    m("MultiStream with 4 samples a query", logged(f"{MULTI}/{DETAIL}",
      effective_samples_per_query=4), AGAINST, "samples_per_query", f"{MULTI}/{DETAIL}"),
    m("Offline query too small", logged(f"{OFFLINE}/{DETAIL}", effective_samples_per_query=660),
      REJECTED, "min_queries", f"{OFFLINE}/{DETAIL}"),
    m("too few samples in memory", logged(f"{RUN}/{DETAIL}", effective_performance_sample_count=32),
      REJECTED, "performance_sample_count", f"{RUN}/{DETAIL}"),
    m("a figure as text", logged(f"{RUN}/{DETAIL}", effective_performance_sample_count="64"),
      REJECTED, "performance_sample_count", f"{RUN}/{DETAIL}"),
    m("the 50th percentile counted", logged(f"{RUN}/{DETAIL}",
      effective_target_latency_percentile=0.5), AGAINST, "percentile", f"{RUN}/{DETAIL}"),
    m("scenario of another folder", copied(f"{OFFLINE}/{DETAIL}", f"{RUN}/{DETAIL}"), REJECTED,
      "scenario", f"{RUN}/{DETAIL}"),
    m("scenario unknown", logged(f"{RUN}/{DETAIL}", effective_scenario="Sometimes"), REJECTED,
      "scenario", f"{RUN}/{DETAIL}"),
    m("the figure is 0", logged(f"{RUN}/{DETAIL}", early_stopping_latency_ss=0), REJECTED, "metric",
      f"{RUN}/{DETAIL}"),
    m("TEST01's run as the result", both(
      copied(f"{TEST01}/performance/run_1", RUN)), AGAINST, "no_audit_settings",
      f"{RUN}/{DETAIL}"),
    m("run ended by max_query_count", logged(f"{RUN}/{DETAIL}", effective_max_query_count=100),
      ADVICE, "max_query_count", f"{RUN}/{DETAIL}"),
    m("accuracy run on half the dataset", logged(f"{ACCURACY}/{DETAIL}",
      effective_accuracy_sample_count=762, qsl_reported_total_count=762), REJECTED,
      "dataset_size", f"{ACCURACY}/{DETAIL}"),
    m("accuracy run of a smaller dataset, set to its full size", logged(f"{ACCURACY}/{DETAIL}",
      qsl_reported_total_count=762), AGAINST, "dataset_size", f"{ACCURACY}/{DETAIL}"),
    m("performance run on half the dataset", logged(f"{RUN}/{DETAIL}",
      qsl_reported_total_count=762), AGAINST, "dataset_size", f"{RUN}/{DETAIL}"),
    m("accuracy run of another system", logged(f"{ACCURACY}/{DETAIL}", sut_name="another"), AGAINST,
      "accuracy_of_another_sut_name", f"{ACCURACY}/{DETAIL}"),
    m("accuracy run in another scenario", copied(f"{RESULTS}/Offline/accuracy/{DETAIL}",
      f"{ACCURACY}/{DETAIL}"), AGAINST, "accuracy_of_another_scenario", f"{ACCURACY}/{DETAIL}"),
    m("accuracy run with another LoadGen", logged(f"{ACCURACY}/{DETAIL}",
      loadgen_version="6.0.16 @ 0000000000"), ADVICE, "accuracy_of_another_loadgen_version",
      f"{ACCURACY}/{DETAIL}"),
    m("accuracy run with other seeds", logged(f"{ACCURACY}/{DETAIL}", effective_qsl_rng_seed=0),
      ADVICE, "seed_qsl", f"{ACCURACY}/{DETAIL}"),
]  # fmt: skip
_SCORES = [
    m("accuracy.txt missing", gone(SCORE), REJECTED, "accuracy_txt", SCORE),
    m("accuracy.txt empty", becomes(SCORE, ""), REJECTED, "accuracy_txt", SCORE),
    m("accuracy.txt not UTF-8", becomes(SCORE, b"mAP=53.1\xff\n"), REJECTED, "accuracy_txt", SCORE),
    m("accuracy below the target", lambda r: edit(r / SCORE, lambda t: t.replace("53.1", "52.8")),
      REJECTED, "accuracy_target", SCORE),
    m("accuracy is no number", lambda r: edit(r / SCORE, lambda t: t.replace("53.103", "5.3.1")),
      REJECTED, "accuracy_txt", SCORE),
    m("metric not told", becomes(SCORE, f"AP=0.531\nhash={'a' * 64}\n"), REJECTED,
      "accuracy_target", SCORE),
    m("hash missing", becomes(SCORE, "mAP=53.103%\n"), REJECTED, "accuracy_hash", SCORE),
    m("hash is none", becomes(SCORE, "mAP=53.103%\nhash=abc\n"), AGAINST, "accuracy_hash", SCORE),
    m("hash of another log", both(lambda r: uncut(r), becomes(
      SCORE, f"mAP=53.103%\nhash={'0' * 64}\n")), AGAINST, "accuracy_hash", SCORE),
    m("accuracy entries missing", gone(ENTRIES), REJECTED, "accuracy_entries", ENTRIES),
    m("accuracy entries empty", becomes(ENTRIES, ""), AGAINST, "accuracy_entries", ENTRIES),
    m("accuracy entries not cut", lambda r: uncut(r), REJECTED, "accuracy_entries", ENTRIES),
    m("samples missing from the accuracy log", lambda r: uncut(r, 1500), AGAINST,
      "accuracy_samples", f"{ACCURACY}/{DETAIL}"),
]  # fmt: skip
_TESTS = [
    m("TEST01 missing", gone(TEST01), REJECTED, "compliance_test", TEST01),
    m("TEST01 failed", both(becomes(f"{TEST01}/verify_accuracy.txt", "TEST FAIL\n")), REJECTED,
      "test01", f"{TEST01}/verify_accuracy.txt"),
    m("TEST01 failed in performance", becomes(f"{TEST01}/verify_performance.txt", "TEST FAIL\n"),
      REJECTED, "test01", f"{TEST01}/verify_performance.txt"),
    m("verify_accuracy.txt missing", gone(f"{TEST01}/verify_accuracy.txt"), REJECTED, "test01",
      f"{TEST01}/verify_accuracy.txt"),
    m("verify_performance.txt missing", gone(f"{TEST01}/verify_performance.txt"), REJECTED,
      "test01", f"{TEST01}/verify_performance.txt"),
    m("TEST01's log missing", gone(f"{TEST01}/performance/run_1/{DETAIL}"), REJECTED, "test01",
      f"{TEST01}/performance/run_1/{DETAIL}"),
    m("TEST01's summary missing", gone(f"{TEST01}/performance/run_1/{SUMMARY}"), REJECTED, "test01",
      f"{TEST01}/performance/run_1"),
    m("a file too many in TEST01", becomes(f"{TEST01}/performance/run_1/notes.txt", "x"), REJECTED,
      "test01", f"{TEST01}/performance/run_1"),
    m("TEST01's run short", logged(f"{TEST01}/performance/run_1/{DETAIL}",
      effective_min_duration_ms=1000), REJECTED, "min_duration",
      f"{TEST01}/performance/run_1/{DETAIL}"),
    m("TEST01 of another system", logged(f"{TEST01}/performance/run_1/{DETAIL}", sut_name="other"),
      AGAINST, "test01_of_another", f"{TEST01}/performance/run_1/{DETAIL}"),
    m("TEST01 slower than it says", logged(f"{TEST01}/performance/run_1/{DETAIL}",
      early_stopping_latency_ss=90_000_000), AGAINST, "test01_speed",
      f"{TEST01}/verify_performance.txt"),
    m("TEST01 without its settings", copied(RUN, f"{TEST01}/performance/run_1"), AGAINST,
      "audit_settings", f"{TEST01}/performance/run_1/{DETAIL}"),
    m("TEST01's run INVALID", logged(f"{TEST01}/performance/run_1/{DETAIL}",
      result_validity="INVALID"), AGAINST, "result_validity",
      f"{TEST01}/performance/run_1/{DETAIL}"),
    m("TEST01 without equal answers, accuracies apart", both(
      becomes(f"{TEST01}/verify_accuracy.txt", "TEST FAIL\n"),
      *(becomes(f"{TEST01}/accuracy/{name}", text) for name, text in (
        ("mlperf_log_accuracy.json", "[]"), ("accuracy.txt", "x"),
        ("baseline_accuracy.txt", "mAP=53.1\n"), ("compliance_accuracy.txt", "mAP=50.0\n")))),
      REJECTED, "test01", f"{TEST01}/accuracy"),
]  # fmt: skip
_SYSTEM = [
    m("a field missing", described(cooling=...), REJECTED, "system_field", DESCRIPTION),
    m("a field empty", described(framework=""), REJECTED, "system_field", DESCRIPTION),
    m("accelerators_per_node is 0", described(accelerators_per_node=0), REJECTED, "system_field",
      DESCRIPTION),
    m("accelerators_per_node is N/A", described(accelerators_per_node="N/A"), REJECTED,
      "system_field", DESCRIPTION),
    m("number_of_nodes is two", described(number_of_nodes="two"), REJECTED, "system_field",
      DESCRIPTION),
    m("number_of_nodes is a list", described(number_of_nodes=[1]), REJECTED, "system_field",
      DESCRIPTION),
    m("host_processor_core_count is text", described(host_processor_core_count="16 + 8"), ADVICE,
      "system_field", DESCRIPTION),
    m("status unknown", described(status="soon"), REJECTED, "system_field", DESCRIPTION),
    m("status a number", described(status=1), REJECTED, "system_field", DESCRIPTION),
    m("system_type unknown", described(system_type="laptop"), REJECTED, "system_type", DESCRIPTION),
    m("system_type null", described(system_type=None), REJECTED, "system_type", DESCRIPTION),
    m("a datacenter system", described(system_type="datacenter"), REJECTED, "benchmark_in_round",
      RESULTS),
    m("another submitter's description", described(submitter="Other"), REJECTED, "system_field",
      DESCRIPTION),
    m("division open in a closed folder", described(division="open"), REJECTED, "system_field",
      DESCRIPTION),
    m("is_network true in closed", described(is_network="true"), REJECTED, "system_field",
      DESCRIPTION),
    m("is_network a boolean", described(is_network=True), REJECTED, "system_field", DESCRIPTION),
    m("sw_notes a list", described(sw_notes=["x"]), REJECTED, "system_field", DESCRIPTION),
]  # fmt: skip
_NAMES = [
    m("a scenario missing", gone(f"{RESULTS}/Offline"), REJECTED, "scenario_missing", RESULTS),
    m("a scenario too many", copied(SINGLE, f"{RESULTS}/Server"), REJECTED, "scenario_in_round",
      f"{RESULTS}/Server"),
    m("a folder that is no scenario", becomes(f"{RESULTS}/notes/x.txt", "x"), REJECTED,
      "scenario_name", f"{RESULTS}/notes"),
    m("scenario in lower case", moved(SINGLE, f"{RESULTS}/singlestream"), ADVICE, "scenario_name",
      f"{RESULTS}/singlestream"),
    m("scenario in upper case", moved(SINGLE, f"{RESULTS}/SINGLESTREAM"), REJECTED,
      "scenario_name", f"{RESULTS}/SINGLESTREAM"),
    m("benchmark unknown", moved(RESULTS, f"{SUBMISSION}/results/{SYSTEM}/yolo-97"), REJECTED,
      "benchmark_in_round", f"{SUBMISSION}/results/{SYSTEM}/yolo-97"),
    m("benchmark without scenarios", lambda r: (r / RESULTS).with_name("resnet").mkdir(), AGAINST,
      "results", f"{SUBMISSION}/results/{SYSTEM}/resnet"),
    m("run_2 beside run_1", copied(RUN, f"{SINGLE}/performance/run_2"), ADVICE, "stray",
      f"{SINGLE}/performance/run_2"),
    m("yolo-99 copied as yolo-95", as_yolo_95, ADVICE, "copy",
      f"{SUBMISSION}/results/{SYSTEM}/yolo-99/SingleStream/performance/run_1/{DETAIL}"),
    m("stray folder below results", becomes(f"{SUBMISSION}/results/old/x.txt", "x"), REJECTED,
      "system_description", f"{SUBMISSION}/systems/old.json"),
    m("stray folder beside the submitters", becomes("closed/notes/x.txt", "x"), REJECTED,
      "results", "closed/notes/results"),
    m("stray folder beside the divisions", becomes("old/x.txt", "x"), ADVICE, "stray", "old"),
    m("stray folder in a result", becomes(f"{SINGLE}/old/x.txt", "x"), ADVICE, "stray",
      f"{SINGLE}/old"),
    m("a system without results", copied(DESCRIPTION, f"{SUBMISSION}/systems/other.json"), ADVICE,
      "system_unused", f"{SUBMISSION}/systems/other.json"),
    m("no division", moved("closed", "Closed"), REJECTED, "divisions", "."),
    m("symbolic link", linked(f"{SINGLE}/README.md"), AGAINST, "symlink", f"{SINGLE}/README.md"),
    m("symbolic link to nothing", lambda r: (r / SINGLE / "lost").symlink_to("nowhere"), AGAINST,
      "symlink", f"{SINGLE}/lost"),
    m("symbolic link to the folder above", lambda r: (r / SINGLE / "again").symlink_to(r / RESULTS),
      AGAINST, "symlink", f"{SINGLE}/again"),
    m("symbolic link to itself", lambda r: (r / SINGLE / "self").symlink_to(r / SINGLE / "self"),
      AGAINST, "symlink", f"{SINGLE}/self"),
    m("a pipe for a log", both(gone(f"{RUN}/{SUMMARY}"), lambda r: os.mkfifo(r / RUN / SUMMARY)),
      AGAINST, "summary", f"{RUN}/{SUMMARY}"),
    m("a file of 60 MB", lambda r: os.truncate(_new(r / SUBMISSION / "src/w.bin"), 60 * 2**20),
      AGAINST, "file_size", f"{SUBMISSION}/src/w.bin"),
    m("a log of 60 MB", lambda r: edit(r / RUN / DETAIL, lambda log: log + _long_line()), AGAINST,
      "file_size", f"{RUN}/{DETAIL}"),
    m("name with a dot before", becomes(f"{SINGLE}/.hidden", "x"), AGAINST, "dot_file",
      f"{SINGLE}/.hidden"),
    m("name with a blank", becomes(f"{SINGLE}/my notes.txt", "x"), AGAINST, "blank_in_name",
      f"{SINGLE}/my notes.txt"),
    m("name in other letters", becomes(f"{SINGLE}/備考.txt", "x"), ADVICE, "file_name",
      f"{SINGLE}/備考.txt"),
    m("name that is no UTF-8", non_utf8_name, ADVICE, "file_name", f"{SINGLE}/n\\udcf6tes.txt"),
    m("a system's name that is no UTF-8", non_utf8_system, REJECTED, "name_not_text",
      f"{SUBMISSION}/results/s\\udcf6rver/{BENCHMARK}/SingleStream"),
    m("power folder without files", lambda r: (r / SINGLE / "performance/power").mkdir(), REJECTED,
      "power_files", f"{SINGLE}/performance/power"),
    m("power plate that is no YAML", becomes(f"{SUBMISSION}/systems/{SYSTEM}_power.yaml", "a: [1"),
      REJECTED, "power_plate", f"{SUBMISSION}/systems/{SYSTEM}_power.yaml"),
    m("logs of another system", another_system, AGAINST, "copy_of_another_system",
      f"{SUBMISSION}/results/second/{BENCHMARK}/SingleStream/performance/run_1/{DETAIL}"),
    m("a system under two names", same_system, ADVICE, "system_named_twice",
      f"{SUBMISSION}/results/second/{BENCHMARK}/SingleStream/performance/run_1/{DETAIL}"),
    m("power samples without power folder", becomes(f"{RUN}/spl.txt", "Time,x\n"), ADVICE, "power",
      f"{RUN}/spl.txt"),
]  # fmt: skip


def _new(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _long_line() -> str:
    numbers = ",".join(["1234567"] * (60 * 2**20 // 8))
    entry = {"key": "loaded_qsl_set", "value": 0, "time_ms": 1.0, "metadata": {"is_error": False}}
    text = json.dumps(entry).replace('"value": 0', f'"value": [{numbers}]')
    return f"{PREFIX}{text}\n"


MUTATIONS = [*_FILES, *_LOGS, *_RUNS, *_SCORES, *_TESTS, *_SYSTEM, *_NAMES]
