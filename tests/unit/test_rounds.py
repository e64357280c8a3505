"""The rounds' data: complete, strict, and agreeing with the LoadGen that is installed."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from pydantic import ValidationError

from proctor_steps import rounds
from proctor_steps.rounds import Round
from proctor_steps.stage import StepError


def test_v6_1_has_yolo_as_the_round_published_it() -> None:
    round_ = rounds.load("v6.1")
    yolo = round_.benchmark("yolo")
    assert yolo is not None
    assert yolo is round_.benchmark("yolo-99")
    assert round_.targets("yolo", "mAP") == {"yolo-95": 0.50730, "yolo-99": 0.52866}
    assert round_.targets("yolo-99", "mAP") == {"yolo-99": 0.52866}
    assert yolo.dataset_samples.value == 1525
    assert yolo.performance_samples.value == 64
    assert yolo.offline_min_samples is not None
    assert yolo.offline_min_samples.stated == {"policy": 1525, "checker": 1525}
    assert yolo.has("Offline")
    assert not yolo.has("Server")


def test_the_demo_is_no_benchmark_of_the_round() -> None:
    assert rounds.load("v6.1").benchmark("digits") is None


def test_the_installed_loadgen_is_one_of_the_rounds() -> None:
    versions = rounds.load("v6.1").loadgen_versions.value
    assert versions is not None
    assert version("mlcommons-loadgen") in versions


def test_an_unknown_round_names_those_there_are() -> None:
    with pytest.raises(StepError, match=r"no round 'v0\.5'; known: .*v6\.1"):
        rounds.load("v0.5")


def test_a_misspelt_key_in_a_rounds_data_is_an_error() -> None:
    data = rounds.load("v6.1").model_dump(mode="json")
    Round.model_validate(data)
    data["benchmarks"]["yolo"]["dataset_size"] = 1525
    with pytest.raises(ValidationError, match="dataset_size"):
        Round.model_validate(data)


def test_every_round_loads() -> None:
    for name in rounds.names():
        assert rounds.load(name).round == name
