"""LoadGen's logs cut off, edited, of another dataset; and what is scored and reported of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import hostile_data as data
import numpy as np
import pytest
from hostile_kit import DATA, Programs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor_steps import rounds
from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.loadgen import log as detail_log
from proctor_steps.loadgen import rules
from proctor_steps.stage import DataError

ACCURACY, DETAIL = accuracy_log.NAME, detail_log.DETAIL
_FEW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])


def _without_a_sample(path: Path) -> None:
    path.write_text(
        "".join(x for x in path.read_text().splitlines(True) if '"qsl_idx" : 2' not in x)
    )


def _of_more_samples(path: Path) -> None:
    path.write_text(path.read_text().replace('"qsl_idx" : 2', '"qsl_idx" : 4711'))


def _no_hexadecimal(path: Path) -> None:
    path.write_text(path.read_text().replace('"data" : "', '"data" : "xyz'))


def _half_a_box(path: Path) -> None:
    path.write_text(path.read_text().replace('"data" : "', '"data" : "0000'))


def _nan(path: Path) -> None:
    box = np.array([[np.nan] * 7], "<f4").tobytes().hex()
    path.write_text(path.read_text().replace('"data" : "', f'"data" : "{box}', 1))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _nested(path: Path) -> None:
    path.write_text("[\n" + "[" * 100_000 + "\n]\n")


def _no_text(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 50)


# what is done to the accuracy log, and what the scorer says
LOGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (_cut, f"{ACCURACY}:"),
    "empty": (_empty, f"{ACCURACY} is missing or empty"),
    "a sample missing": (_without_a_sample, "1 of 4 samples have no entry: 2"),
    "of another dataset": (_of_more_samples, "sample 4711 out of range: the dataset has 4 samples"),
    "no hexadecimal": (_no_hexadecimal, "payload is no hexadecimal"),
    "half a box": (_half_a_box, "is no whole number of boxes"),
    "boxes of NaN": (_nan, "not finite (NaN or inf)"),
    "100,000 brackets": (_nested, f"{ACCURACY}:2: no entry of an accuracy log"),
    "no text": (_no_text, f"{ACCURACY}:1"),
}


@pytest.mark.parametrize("name", LOGS)
def test_an_accuracy_log(
    programs: Programs, good_dataset: Path, good_logs: Path, name: str
) -> None:
    spoil, phrase = LOGS[name]
    logs = shutil.copytree(good_logs, programs.root / "logs")
    spoil(logs / ACCURACY)
    inputs = {"logs": logs, "dataset": good_dataset}
    said = programs.stage("accuracy score", {"benchmark": "digits"}, inputs)
    said.refuses(phrase, code=DATA)


def test_after_a_bad_log_the_same_folder_takes_a_good_score(
    programs: Programs, good_dataset: Path, good_logs: Path
) -> None:
    logs, out = shutil.copytree(good_logs, programs.root / "logs"), programs.root / "score"
    _cut(logs / ACCURACY)
    for offered, good in ((logs, False), (good_logs, True)):
        inputs = {"logs": offered, "dataset": good_dataset}
        said = programs.stage("accuracy score", {"benchmark": "digits"}, inputs, out)
        said.succeeds() if good else said.refuses(ACCURACY, code=DATA)


@pytest.mark.parametrize("text", ["{", "[]", '{"mode": "accuracy"}', "[" * 100_000])
def test_the_run_beside_the_log(
    programs: Programs, good_dataset: Path, good_logs: Path, text: str
) -> None:
    logs = shutil.copytree(good_logs, programs.root / "logs")
    (logs / "run.json").write_text(text)
    inputs = {"logs": logs, "dataset": good_dataset}
    said = programs.stage("accuracy score", {"benchmark": "digits"}, inputs)
    said.refuses("run.json beside the log is not what a run writes", code=DATA)


def test_of_a_dataset_with_other_categories(programs: Programs, good_logs: Path) -> None:
    other = data.dataset(programs.root / "other")
    path = other / "annotations" / "instances_val2017.json"
    value = json.loads(path.read_bytes())
    value["categories"], value["annotations"] = [{"id": 5, "name": "five"}], []
    path.write_text(json.dumps(value))
    inputs = {"logs": good_logs, "dataset": other}
    said = programs.stage("accuracy score", {"benchmark": "digits"}, inputs)
    said.refuses("category 3 is none of the dataset's", code=DATA)


# what is put for a line's value, by key; each is a thing that LoadGen does not write
EDITED = {
    "effective_scenario": ["Offline"],
    "effective_test_mode": {"a": 1},
    "loadgen_version": None,
    "num_errors": "many",
    "power_end": "yesterday",
    "qsl_reported_total_count": 1e400,
}


@pytest.mark.parametrize("key", EDITED)
def test_an_edited_detail_log_names_the_key(good_logs: Path, tmp_path: Path, key: str) -> None:
    logs = shutil.copytree(good_logs, tmp_path / "logs")
    line = {"key": key, "value": EDITED[key], "metadata": {}, "time_ms": 1.0}
    with (logs / DETAIL).open("a") as file:
        file.write(":::MLLOG " + json.dumps(line) + "\n")
    with pytest.raises(DataError, match=rf"{key} is .*, which LoadGen does not write"):
        judge(logs)


def test_a_clock_that_was_set_back_is_said(good_logs: Path, tmp_path: Path) -> None:
    """A duration by the machine's clock may be negative: a rule missed, and why."""
    logs = shutil.copytree(good_logs, tmp_path / "logs")
    values = {
        "effective_test_mode": "PerformanceOnly",
        "result_validity": "VALID",
        "result_min_duration_met": True,
        "result_min_queries_met": True,
        "early_stopping_met": True,
        "result_query_count": 1,
        "num_errors": 0,
        "power_begin": "11-22-2026 10:00:00.000",
        "power_end": "11-22-2026 09:00:00.000",
    }
    with (logs / DETAIL).open("a") as file:
        for key, value in values.items():
            line = {"key": key, "value": value, "metadata": {}, "time_ms": 1.0}
            file.write(":::MLLOG " + json.dumps(line) + "\n")
    rule = next(r for r in judge(logs).rules if r.rule == "min_duration")
    assert rule.met is False
    assert rule.message.endswith("; the machine's clock was set back during the run")


@_FEW
@given(cut=st.floats(0, 1), put=st.binary(max_size=12), file=st.sampled_from([ACCURACY, DETAIL]))
def test_any_damage_is_judged_or_told(
    good_logs: Path, tmp_path_factory: pytest.TempPathFactory, cut: float, put: bytes, file: str
) -> None:
    logs = tmp_path_factory.mktemp("fuzz") / "logs"
    shutil.copytree(good_logs, logs)
    raw = (logs / file).read_bytes()
    at = int(cut * len(raw))
    (logs / file).write_bytes(raw[:at] + put + raw[at + len(put) :])
    told(lambda: judge(logs))
    told(lambda: accuracy_log.read(logs / ACCURACY, 4))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@_FEW
@given(data=st.data())
def test_any_value_under_any_key_is_judged_or_told(
    good_logs: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    logs = tmp_path_factory.mktemp("fuzz") / "logs"
    shutil.copytree(good_logs, logs)
    lines = (logs / DETAIL).read_text().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    entry = json.loads(lines[number].removeprefix(":::MLLOG "))
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(_JSON)
    lines[number] = ":::MLLOG " + json.dumps(entry)
    (logs / DETAIL).write_text("\n".join(lines) + "\n")
    told(lambda: judge(logs))


@_FEW
@given(
    lines=st.lists(st.binary(max_size=30) | _JSON.map(lambda v: json.dumps(v).encode()), max_size=5)
)
def test_any_lines_are_an_accuracy_log_or_told(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / ACCURACY
    path.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")
    told(lambda: accuracy_log.read(path, 2))


# what is put into the reports' inputs: the file, its content, what is said
EVIDENCE = {
    "latencies cut off": ("performance", "latencies.npy", b"\x93NUMPY\x01\x00v\x00{", "latencies"),
    "latencies of text": ("performance", "latencies.npy", b"1 2 3\n", "no list of latencies"),
    "a run of brackets": ("performance", "run.json", b"[" * 100_000, "not JSON"),
    "a run that is a list": ("performance", "run.json", b"[]", "holds a list, not an object"),
    "a score of text": ("accuracy", "accuracy.json", b'{"metric": 5}', "metric: Input should be"),
    "examples of nothing": ("accuracy", "examples.json", b'[{"width": 0}]', "does not fit"),
    "no annotations": ("dataset", "annotations/instances_val2017.json", b"{", "no COCO file"),
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_report_of_damaged_evidence(
    programs: Programs, good_dataset: Path, good_logs: Path, good_score: Path, name: str
) -> None:
    where, file, content, phrase = EVIDENCE[name]
    folders = {
        "performance": _performance(shutil.copytree(good_logs, programs.root / "performance")),
        "dataset": shutil.copytree(good_dataset, programs.root / "dataset"),
        "accuracy": shutil.copytree(good_score, programs.root / "accuracy"),
    }
    (folders[where] / file).write_bytes(content)
    said = programs.stage("report html", {}, folders)
    said.refuses(phrase, code=DATA)


def _performance(logs: Path) -> Path:
    """Accuracy logs that pass for those of a performance run."""
    run = json.loads((logs / "run.json").read_bytes())
    (logs / "run.json").write_text(json.dumps({**run, "mode": "performance", "valid": True}))
    np.save(logs / "latencies.npy", np.arange(10, 20))
    return logs


def judge(logs: Path) -> detail_log.LoadgenRun:
    return rules.judge(logs, rounds.load("v6.1"), "digits", {})


def told(call: Callable[[], object]) -> None:
    """It answers, or says in a sentence why not."""
    try:
        call()
    except DataError as error:
        assert str(error)
