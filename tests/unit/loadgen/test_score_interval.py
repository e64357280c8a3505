"""The interval of a mAP: each resample is what pycocotools makes of the images drawn."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from proctor_steps.accuracy import coco_eval, resample
from proctor_steps.accuracy.score import STAGE
from proctor_steps.benchmarks import coco

from .test_accuracy import RunStage, perfect, write_log
from .test_coco_eval import IMAGES, Answers, annotate, answers_of, official


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Answers]:
    random = np.random.default_rng(5)
    root = tmp_path / "dataset"
    annotate(root, random)
    return root, answers_of(root, random)


def repeated(whole: COCOeval, drawn: np.ndarray) -> float:
    """mAP that COCOeval accumulates when each image stands there as often as it was drawn."""
    part = COCOeval(whole.cocoGt, whole.cocoDt, "bbox")
    part.params, part._paramsEval = whole.params, whole._paramsEval
    params, images = whole.params, len(whole.params.imgIds)
    shape = (len(params.catIds), len(params.areaRng), images)
    each = np.array(whole.evalImgs, object).reshape(shape)
    part.evalImgs = each[:, :, np.repeat(np.arange(images), drawn)].ravel().tolist()
    # accumulate() counts by the number of images, not by their ids.
    kept = params.imgIds, part._paramsEval.imgIds
    params.imgIds = part._paramsEval.imgIds = list(range(int(drawn.sum())))
    with contextlib.redirect_stdout(io.StringIO()):
        part.accumulate()
    params.imgIds, part._paramsEval.imgIds = kept
    found = part.eval["precision"][..., 0, -1]
    return float(found[found > -1].mean())


def all_different(answers: Answers) -> Answers:
    """Of equal scores the order is arbitrary, and another one where an image is repeated."""
    random, made = np.random.default_rng(1), []
    for index, data in answers:
        rows = np.frombuffer(data, np.float32).reshape(-1, 7).copy()
        rows[:, 5] = random.permutation(len(rows)) / 1e3 + (index + 1) / 1e5
        made.append((index, rows.tobytes()))
    return made


def test_each_resample_is_pycocotools_own(case: tuple[Path, Answers], tmp_path: Path) -> None:
    root, answers = case
    whole = official(root, all_different(answers), tmp_path)
    place = {id_: number for number, id_ in enumerate(whole.params.imgIds)}
    images = len(place)
    per_category = np.array(whole.evalImgs, object).reshape(len(whole.params.catIds), 4, images)
    compared = [
        resample.Compared.of(each, place)
        for each in per_category[:, 0]
        if any(part is not None for part in each)
    ]
    random = np.random.default_rng(0)
    for _ in range(25):
        drawn = random.multinomial(images, np.full(images, 1 / images))
        found = [each.precision(drawn, whole.params.recThrs) for each in compared]
        mine = float(np.mean([value for value in found if value is not None]))
        assert mine == pytest.approx(repeated(whole, drawn), abs=1e-12)


def test_the_interval_holds_the_score_and_depends_on_the_seed_alone(
    case: tuple[Path, Answers], run_stage: RunStage, tmp_path: Path
) -> None:
    root, answers = case
    write_log(tmp_path / "logs", answers)
    inputs = {"logs": tmp_path / "logs", "dataset": root}
    said = []
    for _ in range(2):
        result, out = run_stage(STAGE, {"benchmark": "digits"}, inputs=inputs)
        assert result.status == "ok", result.message
        said.append(json.loads((out / "accuracy.json").read_text()))
        assert result.metrics["accuracy"]["low"] == said[-1]["low"]
    assert said[0] == said[1]
    assert said[0]["low"] < said[0]["value"] < said[0]["high"]
    words = f"centred bootstrap over {IMAGES} images, 500 resamples, seed 0"
    assert said[0]["interval_method"] == words
    truth = coco_eval.read_truth(root)
    images = [image.id for image in coco.read(root).images]
    rows = np.zeros((0, 4), np.float32)
    nothing = coco_eval.Found(np.zeros(0, int), rows, np.zeros(0), np.zeros(0, int))
    assert coco_eval.evaluate(truth, nothing, images).interval is None
    zero = coco_eval.evaluate(truth, nothing, images, seed=1).interval
    assert zero is not None
    assert (zero.low, zero.high) == (0, 0)


def test_of_too_few_samples_there_is_none(
    run_stage: RunStage, tmp_path: Path, dataset: Path
) -> None:
    entries = perfect(dataset)
    assert len(entries) < resample.FEWEST_IMAGES
    write_log(tmp_path / "logs", entries)
    inputs = {"logs": tmp_path / "logs", "dataset": dataset}
    result, _ = run_stage(STAGE, {"benchmark": "digits"}, inputs=inputs)
    accuracy = result.metrics["accuracy"]
    assert accuracy["low"] is accuracy["high"] is None
    assert accuracy["interval_method"] == f"none: {len(entries)} samples are too few, 30 at least"


def test_an_interval_covers_what_more_images_would_say(tmp_path: Path) -> None:
    """Half of the images say roughly what all do: the interval is neither tight nor wide."""
    random = np.random.default_rng(9)
    annotate(tmp_path, random)
    dataset, truth = coco.read(tmp_path), coco_eval.read_truth(tmp_path)
    answers = answers_of(tmp_path, random)
    from proctor_steps.accuracy.coco_map import score

    ids = [id_ for id_, _ in dataset.categories]
    whole = score(answers, dataset, ids).value
    inside = 0
    for seed in range(4):
        half = sorted(random.permutation(IMAGES)[: IMAGES // 2])
        part = score([answers[k] for k in half], dataset, ids, seed=seed)
        assert part.low is not None
        assert part.high is not None
        assert 0.02 < part.high - part.low < 0.5
        inside += part.low <= whole <= part.high
    assert inside >= 3
    assert truth.of_image
