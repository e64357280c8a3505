"""Values of a run: defaults, text of the command line, all problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import JsonValue

from proctor.plan.compile import compile
from proctor.plan.model import RUN_DATE, Param, Plan, resolve
from proctor.plan.params import ParamErrors, check_params, split_params
from proctor.records.store import RunRecord
from proctor.spec.load import parse_pipeline

PIPELINE = parse_pipeline(
    """
params:
  images_uri: {type: uri, required: true, help: the pictures}
  note: {type: string}
  backend: {type: choice, choices: [torch, openvino], default: openvino}
  scenarios: {type: choices, choices: [SingleStream, Offline, Server], default: [Offline]}
  seconds: {type: number, default: 600, minimum: 1, maximum: 1000}
  threads: {type: integer, default: 0}
  fast: {type: boolean, default: false}
  size: {type: choice, when: build, choices: [s, m], default: s}
steps: [{id: a, image: a, command: c}]
""",
    "test.yaml",
)
PLAN: Plan = compile(PIPELINE)
GIVEN: dict[str, JsonValue] = {"images_uri": "s3://bucket/val"}


def problems(given: dict[str, JsonValue]) -> list[str]:
    with pytest.raises(ParamErrors) as caught:
        check_params(PLAN, GIVEN | given)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


def test_defaults() -> None:
    assert check_params(PLAN, GIVEN) == {
        "images_uri": "s3://bucket/val",
        "note": "",
        "backend": "openvino",
        "scenarios": ["Offline"],
        "seconds": 600,
        "threads": 0,
        "fast": False,
    }


def test_a_list_may_be_empty_where_its_default_is() -> None:
    text = """
params: {tests: {type: choices, choices: [TEST01, TEST04], default: []}}
steps: [{id: a, image: a, command: c, matrix: {test: "${params.tests}"}}]
"""
    plan = compile(parse_pipeline(text, "test.yaml"))
    assert check_params(plan, {}) == {"tests": []}
    assert check_params(plan, {"tests": ""}) == {"tests": []}
    assert check_params(plan, {"tests": ["TEST04"]}) == {"tests": ["TEST04"]}


def test_text_of_the_command_line() -> None:
    given: dict[str, JsonValue] = {
        "scenarios": "SingleStream, Offline",
        "seconds": "1.5",
        "threads": "4",
        "fast": "true",
        "note": "12",
    }
    found = check_params(PLAN, GIVEN | given)
    assert found["scenarios"] == ["SingleStream", "Offline"]
    assert (found["seconds"], found["threads"], found["fast"]) == (1.5, 4, True)
    assert found["note"] == "12"


def test_values_of_a_form() -> None:
    found = check_params(PLAN, GIVEN | {"scenarios": ["Server"], "seconds": 8, "fast": True})
    assert (found["scenarios"], found["seconds"], found["fast"]) == (["Server"], 8, True)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"scenarois": "Offline"}, "scenarois: there is no such parameter; did you mean"),
        ({"size": "m"}, "size: it is a build parameter, settled when the plan was made"),
        ({"scenarios": "Ofline"}, "scenarios: it must be one of its choices, this is 'Ofline';"),
        ({"scenarios": ""}, "scenarios: it is an empty list; choose one at least of"),
        ({"scenarios": "Offline,Offline"}, "scenarios: it names a choice twice"),
        ({"scenarios": {"a": 1}}, "scenarios: it must be a list"),
        ({"scenarios": [1]}, "scenarios: it must be one of its choices, this is 1"),
        ({"backend": "tf"}, "backend: it must be one of its choices, this is 'tf'"),
        ({"seconds": "soon"}, "seconds: it must be a number, this is 'soon'"),
        ({"seconds": "nan"}, "seconds: it must be a number"),
        ({"seconds": "0.5"}, "seconds: it must be at least 1, this is 0.5"),
        ({"seconds": 1001}, "seconds: it must be at most 1000"),
        ({"seconds": True}, "seconds: it must be a number, this is True"),
        ({"threads": "1.5"}, "threads: it must be a whole number"),
        ({"fast": "perhaps"}, "fast: it must be true or false"),
        ({"fast": 1}, "fast: it must be true or false"),
        ({"note": 12}, "note: it must be text, this is 12"),
        ({"images_uri": "/data/coco"}, "for a file of this machine write file:///data/coco"),
        ({"images_uri": "coco.zip"}, "images_uri: it must be a URI"),
        ({"images_uri": ""}, "images_uri: it is empty"),
        ({"images_uri": None}, "images_uri: it must be text"),
    ],
)
def test_what_does_not_fit(given: dict[str, JsonValue], text: str) -> None:
    (problem,) = problems(given)
    assert text in problem


def test_all_at_once() -> None:
    with pytest.raises(ParamErrors) as caught:
        check_params(PLAN, {"backend": "tf", "seconds": "x", "other": 1})
    found = caught.value.problems
    assert len(found) == 4
    assert any("images_uri: a value is required (the pictures)" in text for text in found)


def test_build_and_run_values_are_told_apart() -> None:
    build, run = split_params(PIPELINE, {"size": "m", "seconds": "8", "unknown": "x"})
    assert (build, run) == ({"size": "m"}, {"seconds": "8", "unknown": "x"})


def test_a_uri_with_a_password_is_refused_and_not_repeated() -> None:
    plan = Plan(pipeline="p", params=(Param(name="uri", type="uri"),), steps=())
    with pytest.raises(ParamErrors, match="no user name or password") as caught:
        check_params(plan, {"uri": "https://ada:hunter2@example.org/x.zip"})
    assert "hunter2" not in str(caught.value)


def test_a_run_s_purpose_is_settled_with_the_plan_and_its_date_when_it_starts() -> None:
    text = """
purpose: research
steps:
  - id: a
    image: a
    command: c
    params: {of: "${run.purpose}", on: "${run.date}", said: "on ${run.date} for ${run.purpose}"}
"""
    plan = compile(parse_pipeline(text, "test.yaml"))
    assert plan.purpose == "research"
    params: dict[str, JsonValue] = dict(plan.step("a").params)
    assert params["of"] == "research"
    assert resolve(params, {RUN_DATE: "2026-01-15"}) == {
        "of": "research", "on": "2026-01-15", "said": "on 2026-01-15 for research",
    }  # fmt: skip


def test_a_run_s_date_is_the_day_its_record_began(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "run", "p", "r")
    line = record.append("header", data={"params": {"note": "x"}})
    assert record.values() == {"note": "x", RUN_DATE: line.at[:10]}
    part = record.subject("one")
    part.append("header", data={"params": {"note": "x"}, "subject": "one"})
    assert part.values() == record.values()
