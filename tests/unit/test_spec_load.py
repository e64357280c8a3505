"""What a spec means: anchors, merges, templates, MedPerf's keys, positions."""

from __future__ import annotations

from pathlib import Path

import pytest

from proctor.spec.errors import SpecErrors
from proctor.spec.load import load_pipeline, parse_pipeline
from proctor.spec.model import Pipeline

SPECS = Path(__file__).resolve().parent.parent / "golden" / "specs"


def parse(text: str) -> Pipeline:
    return parse_pipeline(text, "test.yaml")


def one_step(rest: str) -> Pipeline:
    return parse(f"steps:\n  - id: a\n    image: example/a\n    command: run\n    {rest}\n")


def test_anchors_merges_and_templates() -> None:
    pipeline = parse(
        """
common: &common {image: example/a, command: run, network: true}
more: &more {network: false, cache: true}
steps:
  - {id: a, <<: *common, network: false}
  - {<<: [*common, *more], id: b}
"""
    )
    a, b = pipeline.steps
    assert (a.image, a.network, a.cache) == ("example/a", False, False)
    assert (b.image, b.network, b.cache) == ("example/a", True, True)


def test_an_unknown_key_without_anchor_is_no_template() -> None:
    with pytest.raises(SpecErrors, match=r"test.yaml:1:1: unknown key 'stepps'"):
        parse("stepps: [1]\nsteps: [{id: a, image: a, command: c}]")


def test_a_template_of_an_inner_anchor() -> None:
    parse("all: {one: &one {image: a, command: c}}\nsteps: [{id: a, <<: *one}]")


def test_an_alias_used_as_the_steps() -> None:
    pipeline = parse("x: &x [{id: a, image: a, command: c}]\nsteps: *x")
    assert pipeline.steps[0].id == "a"
    assert pipeline.where("steps", 0, "id").line == 1


def test_positions() -> None:
    pipeline = one_step("inputs: {}\n    outputs:\n      logs: directory")
    assert str(pipeline.where_key("steps", 0, "outputs", "logs")) == "test.yaml:7:7"
    assert str(pipeline.where("steps", 0, "outputs", "logs")) == "test.yaml:7:13"
    assert str(pipeline.where("steps", 0, "outputs", "gone", "deep")) == "test.yaml:7:7"
    assert str(pipeline.where("steps", 5)) == "test.yaml:2:3"


def test_name_defaults_to_the_file() -> None:
    assert parse("steps: [{id: a, image: a, command: c}]").pipeline == "test"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400),
     ("1d", 86400), ("'1h 30m'", 5400)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert one_step(f"deadline: {text}").steps[0].deadline == seconds


@pytest.mark.parametrize("text", ["soon", "1x", "h", "1h30", "true", "-1", "[1]", "''"])
def test_no_durations(text: str) -> None:
    with pytest.raises(SpecErrors, match=r"test\.yaml:5:15"):
        one_step(f"deadline: {text}")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("1k", 1000), ("512MiB", 512 * 2**20), ("4GiB", 4 * 2**30), ("2GB", 2 * 10**9),
     ("1.5GiB", 3 * 2**29), ("3g", 3 * 10**9)],
)  # fmt: skip
def test_memory(text: str, size: int) -> None:
    assert one_step(f"resources: {{memory: {text}}}").steps[0].resources.memory == size


@pytest.mark.parametrize("text", ["lots", "1ib", "0", "-1", "true", "1.5", "1GiBB"])
def test_no_memory(text: str) -> None:
    with pytest.raises(SpecErrors):
        one_step(f"resources: {{memory: {text}}}")


def test_commands_split_like_a_shell() -> None:
    pipeline = parse("steps: [{id: a, image: a, command: \"run 'two words' x\"}]")
    assert pipeline.steps[0].command == ("run", "two words", "x")


def test_yaml_words() -> None:
    pipeline = one_step("params: {a: yes, b: 'yes', c: 017, d: 2026-01-01, e: ~, f: 1.5, g: 0x1f}")
    expected = {"a": True, "b": "yes", "c": 15, "d": "2026-01-01", "e": None, "f": 1.5, "g": 31}
    assert pipeline.steps[0].params == expected


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfsteps: [{id: a, image: a, command: c}]")
    assert load_pipeline(path).steps[0].id == "a"


def test_medperf_loop() -> None:
    pipeline = load_pipeline(SPECS / "medperf-loop.yaml")
    assert pipeline.pipeline == "medperf-loop"
    steps = {step.id: step for step in pipeline.steps}
    assert steps["extract"].partition and steps["extract"].limit == 2
    assert steps["extract"].image == "example/prep:1.0"
    assert steps["look"].next.targets == ("confirm", "back", "look")
    assert steps["confirm"].is_approval
    source = steps["back"].mounts.input_volumes["look_input"].source
    assert source is not None and (source.step, source.output) == ("look", "output_path")
    (warning,) = pipeline.warnings
    assert "'on_error' has no effect" in str(warning)


def test_a_back_edge_without_condition_is_a_cycle() -> None:
    text = (SPECS / "medperf-loop.yaml").read_text()
    plain = text.replace("        - {condition: mask_changed, target: back}\n", "")
    with pytest.raises(SpecErrors, match="the steps form a cycle: "):
        parse_pipeline(plain, "loop.yaml")


def test_warnings_of_unused_parameters() -> None:
    pipeline = parse("params: {x: {type: string}}\nsteps: [{id: a, image: a, command: c}]")
    assert [warning.text for warning in pipeline.warnings] == ["the parameter 'x' is never used"]


def test_the_model_is_immutable() -> None:
    pipeline = one_step("seed: 1")
    with pytest.raises(ValueError, match="frozen"):
        pipeline.title = "other"  # type: ignore[misc]
