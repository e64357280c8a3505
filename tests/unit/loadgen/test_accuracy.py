"""The accuracy log read, every sample accounted for, and scored as the official scorer does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.accuracy import log
from proctor_steps.accuracy.score import STAGE
from proctor_steps.benchmarks import coco
from proctor_steps.contract import Result
from proctor_steps.stage import DataError

from .conftest import IMAGES, boxes_of, payload

RunStage = Callable[..., tuple[Result, Path]]
Entries = list[tuple[int, bytes]]


def write_log(folder: Path, entries: Entries) -> Path:
    """An accuracy log as LoadGen writes it."""
    folder.mkdir(exist_ok=True)
    lines = [
        f'{{ "seq_id" : {k}, "qsl_idx" : {i}, "data" : "{d.hex().upper()}" }}'
        for k, (i, d) in enumerate(entries)
    ]
    path = folder / log.NAME
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return path


def perfect(dataset: Path, shift: float = 0.0) -> Entries:
    """Payloads that find every box (moved by ``shift`` of its width)."""
    entries = []
    for index, image in enumerate(coco.read(dataset).images):
        rows = []
        for category, (x, y, w, h) in boxes_of(index):
            x += shift * w
            box = [y / image.height, x / image.width]
            box += [(y + h) / image.height, (x + w) / image.width]
            rows.append([index, *box, 0.9, category])
        entries.append((index, payload(rows).tobytes()))
    return entries


def score(run_stage: RunStage, tmp_path: Path, dataset: Path, entries: Entries) -> Any:
    write_log(tmp_path / "logs", entries)
    return run_stage(
        STAGE, {"benchmark": "digits"}, inputs={"logs": tmp_path / "logs", "dataset": dataset}
    )


def test_perfect_boxes_score_100(run_stage: RunStage, tmp_path: Path, dataset: Path) -> None:
    result, out = score(run_stage, tmp_path, dataset, perfect(dataset))
    assert result.status == "ok", result.message
    assert (out / "accuracy.txt").read_text() == "mAP=100.000%\n"
    said = json.loads((out / "accuracy.json").read_text())
    assert said["value"] == pytest.approx(1.0)
    assert said["samples"] == said["expected_samples"] == said["entries"] == IMAGES
    assert said["target"] is None
    assert said["met"] is None
    assert [(c["category"], c["name"], c["boxes_gt"]) for c in said["per_class"]] == [
        (3, "three", IMAGES - 1),
        (7, "seven", IMAGES - 1),
    ]
    examples = json.loads((out / "examples.json").read_text())
    assert examples[0]["file_name"].endswith(".png")
    assert examples[0]["detections"][0]["bbox"] == pytest.approx(
        examples[0]["ground_truth"][0]["bbox"], abs=0.02
    )
    assert [f.rule for f in result.findings] == ["accuracy_target"]
    assert {"pycocotools", "numpy"} <= set(result.versions)


def test_boxes_off_by_a_fifth_of_their_width(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    """Overlap (1-s)/(1+s) = 0.667: right at the thresholds .50 to .65, 4 of 10."""
    _, out = score(run_stage, tmp_path, dataset, perfect(dataset, shift=0.2))
    assert (out / "accuracy.txt").read_text() == "mAP=40.000%\n"
    assert json.loads((out / "accuracy.json").read_text())["map50"] == pytest.approx(1.0)


def test_a_model_that_finds_nothing_scores_0(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    _, out = score(run_stage, tmp_path, dataset, [(i, b"") for i in range(IMAGES)])
    assert (out / "accuracy.txt").read_text() == "mAP=0.000%\n"


def test_duplicates_count_once_and_order_does_not_matter(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    good = perfect(dataset)
    result, out = score(run_stage, tmp_path, dataset, [*good[::-1], (2, b""), (5, b"")])
    said = json.loads((out / "accuracy.json").read_text())
    assert said["duplicates"] == 2
    assert said["value"] == pytest.approx(1.0)
    assert result.metrics["accuracy"]["samples"] == IMAGES  # type: ignore[index, call-overload]


def test_missing_samples_are_listed(run_stage: RunStage, tmp_path: Path, dataset: Path) -> None:
    kept = [e for e in perfect(dataset) if e[0] not in (3, 11)]
    result, out = score(run_stage, tmp_path, dataset, kept)
    assert result.status == "data_error"
    assert "2 of 20 samples have no entry: 3, 11" in result.message
    assert not (out / "accuracy.txt").exists()


def bad(index: int, **changed: float) -> bytes:
    row: dict[str, float] = {"idx": index, "y1": 0, "x1": 0, "y2": 1, "x2": 1, "s": 1, "c": 3}
    return payload([list((row | changed).values())]).tobytes()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ((4, bad(4, s=float("nan"))), "sample 4: a box holds a value that is not finite"),
        ((4, bad(4, x2=float("inf"))), "sample 4: a box holds a value that is not finite"),
        ((4, bad(4, c=5)), "sample 4: category 5 is none"),
        ((4, bad(4, c=3.5)), "sample 4: category 3.5 is none"),
        ((4, bad(6)), "sample 4: a box says it belongs to sample 6"),
        ((4, b"\0" * 30), "sample 4: payload of 30 bytes is no whole number of boxes"),
        ((20, b""), "sample 20 out of range"),
        ((-1, b""), "sample -1 out of range"),
    ],
)
def test_payloads_that_cannot_be(
    entry: tuple[int, bytes], message: str, run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    others = [e for e in perfect(dataset) if e[0] != entry[0]]
    result, _ = score(run_stage, tmp_path, dataset, [*others, entry])
    assert result.status == "data_error"
    assert message in result.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "missing or empty"),
        (lambda t: t[: len(t) // 2], r"mlperf_log_accuracy\.json:\d+: no entry"),
        (lambda t: t.rstrip().rstrip("]"), "without its closing bracket"),
        (lambda t: t.replace('"qsl_idx" : 7', '"qsl_idx" : "7"'), ":9: qsl_idx or data"),
        (lambda t: t.replace('"data" : "', '"data" : "xyz', 1), "no hexadecimal"),
        (lambda t: t + "more\n", "after the end"),
    ],
)
def test_logs_that_were_damaged(
    change: Callable[[str], str], message: str, tmp_path: Path, dataset: Path
) -> None:
    path = write_log(tmp_path, perfect(dataset))
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        log.read(path, IMAGES)


def test_the_logs_of_a_performance_run_are_refused(
    run_stage: RunStage, tmp_path: Path, dataset: Path, model: Path
) -> None:
    from .conftest import loadgen_run

    ran = loadgen_run(
        tmp_path / "run", dataset, model, scenario="SingleStream", mode="performance",
        performance_seconds=0.2,
    )  # fmt: skip
    result, _ = run_stage(
        STAGE, {"benchmark": "digits"}, inputs={"logs": ran.logs, "dataset": dataset}
    )
    assert result.status == "data_error"
    assert "only an accuracy run can be scored" in result.message


def test_the_rounds_target_and_a_smaller_dataset_are_findings(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    write_log(tmp_path / "logs", [(i, b"") for i in range(IMAGES)])
    result, out = run_stage(
        STAGE, {"benchmark": "yolo"}, inputs={"logs": tmp_path / "logs", "dataset": dataset}
    )
    assert result.status == "ok", result.message
    assert {f.rule for f in result.findings} == {"accuracy_target", "dataset_size"}
    said = json.loads((out / "accuracy.json").read_text())
    assert said["target"] == pytest.approx(0.5073)
    assert said["met"] is False
    assert said["targets"]["yolo-99"]["met"] is False


def scored(run_stage: RunStage, tmp_path: Path, dataset: Path, **params: Any) -> Result:
    """The log of a yolo run that found nothing, scored."""
    write_log(tmp_path / "logs", [(i, b"") for i in range(IMAGES)])
    given = {"benchmark": "yolo", **params}
    inputs = {"logs": tmp_path / "logs", "dataset": dataset}
    result: Result = run_stage(STAGE, given, inputs=inputs)[0]
    return result


def test_a_missed_target_ends_the_run_where_it_is_to(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    result = scored(run_stage, tmp_path, dataset, target="yolo-99", stop=True)
    assert result.status == "data_error"
    assert "mAP is 0.00000, the round asks for 0.52866 (yolo-99)" in result.message
    assert "the round's dataset has 1525" in result.message


def test_without_a_target_the_dataset_alone_ends_the_run(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    result = scored(run_stage, tmp_path, dataset, stop=True)
    assert result.status == "data_error"
    assert "mAP" not in result.message
    assert "the round's dataset has 1525" in result.message


def test_a_rule_that_the_accuracy_run_missed_ends_the_run(
    run_stage: RunStage, tmp_path: Path, dataset: Path, model: Path
) -> None:
    from .conftest import loadgen_run

    ran = loadgen_run(tmp_path / "run", dataset, model, scenario="Offline", mode="accuracy")
    inputs = {"logs": ran.logs, "dataset": dataset}
    result, _ = run_stage(STAGE, {"benchmark": "digits", "stop": True}, inputs=inputs)
    assert result.status == "data_error"
    assert "digits must be a benchmark of round v6.1" in result.message


def test_a_target_that_the_round_does_not_have(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    result = scored(run_stage, tmp_path, dataset, target="yolo-90")
    assert result.status == "step_error"
    assert "under the name 'yolo-90'; known: yolo-95, yolo-99" in result.message


def test_only_one_line_is_printed(
    run_stage: RunStage, tmp_path: Path, dataset: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    score(run_stage, tmp_path, dataset, perfect(dataset))
    assert "Average Precision" not in capfd.readouterr().out
