"""Plans: golden JSON, cells, fan-in, selection, approvals, order, speed.

PROCTOR_GOLDEN=write writes the plans anew; read the difference before committing it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proctor.plan.compile import compile, load_plan
from proctor.plan.model import Plan, selected
from proctor.plan.params import ParamErrors
from proctor.spec.errors import SpecErrors
from proctor.spec.load import parse_pipeline

ROOT = Path(__file__).resolve().parent.parent.parent
SPECS = ROOT / "tests" / "golden" / "specs"
PLANS = ROOT / "tests" / "golden" / "plans"
GOLDEN = [
    ROOT / "pipeline_specs" / "demo.yaml",
    ROOT / "pipeline_specs" / "yolo-coco.yaml",
    ROOT / "pipeline_specs" / "yolo-submission.yaml",
    SPECS / "matrix.yaml",
    SPECS / "medperf-line.yaml",
    SPECS / "services.yaml",
    SPECS / "subjects.yaml",
    SPECS / "loop.yaml",
    SPECS / "review.yaml",
    SPECS / "medperf-loop.yaml",
    SPECS / "submission.yaml",
]


def plan_of(text: str, **build: object) -> Plan:
    return compile(parse_pipeline(text, "test.yaml"), build)  # type: ignore[arg-type]


def step(id: str, rest: str = "") -> str:
    return f"  - {{id: {id}, image: a/b, command: run, outputs: {{out: directory}}{rest}}}\n"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    plan = load_plan(path)
    text = plan.model_dump_json(indent=1) + "\n"
    golden = PLANS / f"{path.stem}.json"
    if os.environ.get("PROCTOR_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()
    assert Plan.model_validate_json(text) == plan


def test_the_same_bytes_in_another_process() -> None:
    """Also under another hash seed: no set's order may reach the plan."""
    code = (
        "import sys; from pathlib import Path; from proctor.plan.compile import load_plan;"
        "sys.stdout.write(load_plan(Path(sys.argv[1])).digest)"
    )
    path = SPECS / "matrix.yaml"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == load_plan(path).digest


def test_the_place_of_the_file_does_not_count(tmp_path: Path) -> None:
    copy = tmp_path / "other-name.yaml"
    copy.write_bytes((ROOT / "pipeline_specs" / "demo.yaml").read_bytes())
    assert load_plan(copy).digest == load_plan(ROOT / "pipeline_specs" / "demo.yaml").digest


def test_cells_of_a_run_parameter_are_selected() -> None:
    plan = load_plan(SPECS / "matrix.yaml")
    measure = plan.step("measure.Server-4")
    assert measure.title == "Server at 4"
    assert measure.command == ("measure", "--scenario", "Server")
    assert measure.params["size"] == "4"
    assert measure.params["all"] == "${params.scenarios}"
    assert [(s.param, s.value) for s in measure.select] == [("scenarios", "Server")]
    assert not selected(measure, {"scenarios": ["Offline"]})
    assert selected(plan.step("measure.Offline-1"), {"scenarios": ["Offline"]})


def test_a_build_parameter_gives_just_its_cells() -> None:
    plan = load_plan(SPECS / "matrix.yaml", {"sizes": ["2"], "tag": "v2"})
    measures = [s.id for s in plan.steps if s.step == "measure"]
    assert measures == ["measure.Offline-2", "measure.Server-2"]
    assert plan.step("measure.Server-2").image == "example/sut:v2"
    assert plan.build_params == {"sizes": ["2"], "tag": "v2"}
    assert plan.digest != load_plan(SPECS / "matrix.yaml").digest


def test_build_parameters_are_checked() -> None:
    with pytest.raises(ParamErrors) as caught:
        load_plan(SPECS / "matrix.yaml", {"sizes": ["3"], "tga": "x", "scenarios": ["Offline"]})
    text = "\n".join(caught.value.problems)
    assert "tga: there is no such parameter; did you mean 'tag'?" in text
    assert "scenarios: there is no such parameter" in text
    assert "sizes: it must be one of its choices, this is '3'" in text


def test_an_input_comes_from_the_same_cell() -> None:
    plan = load_plan(SPECS / "matrix.yaml")
    (joined,) = plan.step("only-offline.Offline").inputs
    assert [s.step for s in joined.sources] == ["per-scenario.Offline"]
    assert not joined.fan_in


def test_fan_in_over_the_axes_that_the_reader_lacks() -> None:
    plan = load_plan(SPECS / "matrix.yaml")
    (logs,) = plan.step("per-scenario.Server").inputs
    assert logs.fan_in
    assert [(s.step, s.cell) for s in logs.sources] == [
        ("measure.Server-1", "1"),
        ("measure.Server-4", "4"),
    ]
    whole = {item.name: item for item in plan.step("all").inputs}
    assert [s.cell for s in whole["logs"].sources] == [
        "Server-1", "Server-4", "Offline-1", "Offline-4",
    ]  # fmt: skip
    assert whole["logs"].mount_path == "/proctor/in/logs"


def test_selection_follows_an_input_without_substitute() -> None:
    plan = load_plan(SPECS / "matrix.yaml")
    only = plan.step("only-offline.Offline")
    assert [(s.param, s.value) for s in only.select] == [("scenarios", "Offline")]
    assert plan.step("all").select == ()


def test_every_approval_among_the_ancestors_is_required() -> None:
    plan = load_plan(SPECS / "matrix.yaml")
    assert plan.step("all").required_approvals == ()
    assert plan.step("second-gate").required_approvals == ("gate",)
    assert plan.step("publish").required_approvals == ("gate", "second-gate")
    gate = plan.step("gate").gate
    assert gate is not None and gate.timeout_seconds == 5400 and gate.approvers == ("ada",)
    assert [(s.step, s.output) for s in gate.evidence] == [("all", "page")]


def test_what_measures_and_what_was_approved_stays_in_its_run() -> None:
    plan = load_plan(SPECS / "matrix.yaml")
    assert plan.step("measure.Offline-1").reuse == "within_run"
    assert plan.step("publish").reuse == "within_run"
    assert plan.step("gate").reuse == "never"
    assert plan.step("all").reuse == "across_runs"


def test_every_step_stands_behind_its_upstreams() -> None:
    for path in GOLDEN:
        seen: set[str] = set()
        for planned in load_plan(path).steps:
            assert set(planned.upstream) <= seen
            seen.add(planned.id)


def test_references_are_filled_in_at_every_depth() -> None:
    params = "params: {size: {type: string, when: build, default: s}, run: {type: string}}\n"
    inner = "{deep: [{x: '${matrix.c}/${params.size}', y: '${params.run}', z: 1}]}"
    plan = plan_of(params + "steps:\n" + step("a", f", matrix: {{c: [k]}}, params: {inner}"))
    assert plan.step("a.k").params == {"deep": [{"x": "k/s", "y": "${params.run}", "z": 1}]}


def test_order_is_by_id_where_it_is_free() -> None:
    plan = plan_of("steps:\n" + step("c") + step("a", ", after: c") + step("b"))
    assert [s.id for s in plan.steps] == ["b", "c", "a"]


def test_medperf_line() -> None:
    plan = load_plan(SPECS / "medperf-line.yaml")
    check = plan.step("check")
    assert check.upstream == ("prepare",)
    assert [(i.name, i.mount_path) for i in check.inputs] == [
        ("data_path", "/mlcommons/volumes/data"),
        ("labels_path", "/mlcommons/volumes/labels"),
    ]
    assert plan.step("agree").upstream == ("check",)
    statistics = plan.step("statistics")
    assert statistics.required_approvals == ("agree",)
    assert statistics.outputs[0].type == "file"


def test_medperf_loop_shares_its_directories() -> None:
    plan = load_plan(SPECS / "medperf-loop.yaml")
    extract = plan.step("extract")
    assert extract.shares and extract.reuse == "never" and extract.partition == "subjects-1"
    assert [(i.shared, i.mount_path) for i in extract.inputs] == [("output_path", "/prep/data")]
    assert [(o.name, o.shared) for o in extract.outputs] == [("output_path", True)]


def test_two_steps_of_one_name() -> None:
    pipeline = "steps:\n" + step("a", ", matrix: {x: [1-2], y: [3]}") + step("b")
    assert [s.id for s in plan_of(pipeline).steps] == ["a.1-2-3", "b"]
    with pytest.raises(SpecErrors, match="two cells of 'a' would have the same name"):
        plan_of("steps:\n" + step("a", ", matrix: {x: [1, 1-2], y: [2-3, '3']}"))


def test_too_many_cells() -> None:
    axis = "[" + ", ".join(str(n) for n in range(40)) + "]"
    with pytest.raises(SpecErrors, match="over 1,000 cells"):
        plan_of("steps:\n" + step("a", f", matrix: {{x: {axis}, y: {axis}}}"))
    many = "".join(step(f"s{n}", f", matrix: {{x: {axis}}}") for n in range(130))
    with pytest.raises(SpecErrors, match="over 5,000 steps"):
        plan_of(f"steps:\n{many}")


def test_a_chain_of_a_thousand_steps() -> None:
    """Correct and without recursion; how long it takes is printed, never asserted closely."""
    chain = "".join(
        step(f"s{n:04}", f", inputs: {{x: s{n - 1:04}.out}}" * (n > 0)) for n in range(1000)
    )
    begun = time.perf_counter()
    plan = plan_of(f"steps:\n{chain}")
    print(f"1,000 steps: {time.perf_counter() - begun:.3f} s")
    assert [s.id for s in plan.steps] == [f"s{n:04}" for n in range(1000)]
    assert plan.step("s0999").upstream == ("s0998",)


def test_a_cycle_of_a_thousand_steps() -> None:
    ring = "".join(step(f"s{n}", f", after: s{(n + 1) % 1000}") for n in range(1000))
    with pytest.raises(SpecErrors, match="the steps form a cycle"):
        plan_of(f"steps:\n{ring}")


def test_a_submission_gives_axes_and_values() -> None:
    plan = load_plan(SPECS / "submission.yaml")
    assert [s.id for s in plan.steps if s.step == "audit"] == [
        "audit.MultiStream-TEST01",
        "audit.MultiStream-TEST04",
        "audit.SingleStream-TEST01",
        "audit.SingleStream-TEST04",
    ]
    accuracy = plan.step("accuracy.SingleStream")
    assert accuracy.title == "resnet as SingleStream"
    assert accuracy.command == ("run", "resnet")
    assert accuracy.params == {
        "target": "resnet",
        "note": "of ['SingleStream', 'MultiStream']",
    }
    assert plan.step("package").params == {
        "inferred": {"Offline": "MultiStream"},
        "tests": ["TEST01", "TEST04"],
        "round": "v6.1",
        "system_type": "edge",
        "division": "closed",
    }


def test_what_an_open_submission_does_not_ask_for_is_no_step() -> None:
    plan = load_plan(SPECS / "submission.yaml", {"division": "open"})
    assert {s.step for s in plan.steps} == {"accuracy", "approve", "package"}
    assert [item.name for item in plan.step("package").inputs] == ["logs"]
    assert plan.step("accuracy.SingleStream").params["target"] == ""
    gate = plan.step("approve").gate
    assert gate is not None
    assert {source.step for source in gate.evidence} == {
        "accuracy.MultiStream", "accuracy.SingleStream",
    }  # fmt: skip


def test_an_open_submission_may_have_any_scenarios() -> None:
    build = {
        "benchmark": "yolo-99", "division": "open", "scenarios": ["Server"], "offline": "measured",
    }  # fmt: skip
    plan = load_plan(SPECS / "submission.yaml", build)
    assert [s.id for s in plan.steps if s.step == "accuracy"] == ["accuracy.Server"]


def test_build_values_that_make_no_submission_are_told_with_their_place() -> None:
    build = {"scenarios": ["SingleStream", "Server"], "offline": "measured"}
    with pytest.raises(SpecErrors) as caught:
        load_plan(SPECS / "submission.yaml", build)
    told = [str(problem).partition("submission.yaml:")[2] for problem in caught.value.problems]
    assert told == [
        "13:14: the closed division asks for MultiStream as well; add it, or leave 'scenarios' out",
        "13:14: the closed division asks for Offline as well; add it, or leave 'scenarios' out",
        "13:14: v6.1 has no resnet in the scenario 'Server'; known: SingleStream, MultiStream, "
        "Offline",
    ]
