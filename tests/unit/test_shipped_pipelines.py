"""Every container step of a shipped pipeline fits the stage that it runs, checked by the stages'
own models: a renamed parameter, input or output fails here, not half an hour into a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import JsonValue

from proctor.plan.compile import load_plan
from proctor.plan.model import RUN_DATE, Plan, PlanStep, resolve
from proctor.plan.params import check_params
from proctor.shipped import find_spec, shipped
from proctor.spec.load import load_pipeline
from proctor_steps.__main__ import STAGES

NAMES = (
    "demo",
    "demo-endpoint",
    "revalidation",
    "site-inventory",
    "yolo-coco",
    "yolo-submission",
)
WHOLE = ("demo", "yolo-coco")  # from data to package
IMAGES = {
    f"proctor/{name}" for name in ("steps", "drift", "sut-onnxruntime", "sut-openvino", "sut-torch")
}
COCO: dict[str, JsonValue] = {
    "images_uri": "https://example.org/val2017.zip",
    "annotations_uri": "s3://coco/annotations/",
    "model_uri": "file:///models/yolo",
}
GIVEN: dict[str, dict[str, JsonValue]] = {
    "demo": {},
    "demo-endpoint": {},
    "revalidation": {},
    "site-inventory": {},
    "yolo-coco": COCO,
    "yolo-submission": COCO,
}
PLANS = {name: load_plan(find_spec(name)) for name in NAMES}
STEPS = [
    pytest.param(plan, step, id=f"{name}:{step.id}")
    for name, plan in PLANS.items()
    for step in plan.steps
    if step.kind == "container"
]


def test_all_shipped_pipelines_are_tested() -> None:
    assert {path.stem for path in shipped("pipeline_specs").glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_warnings(name: str) -> None:
    assert load_pipeline(find_spec(name)).warnings == ()


@pytest.mark.parametrize(("plan", "step"), STEPS)
def test_step_fits_its_stage(plan: Plan, step: PlanStep) -> None:
    stage = STAGES[" ".join(step.command)]()
    values = check_params(plan, GIVEN[plan.pipeline]) | {RUN_DATE: "2026-01-15"}
    stage.params.model_validate(resolve(dict(step.params), values))
    assert {item.name for item in step.inputs} <= set(stage.inputs)
    assert {item.name for item in step.outputs} == set(stage.outputs)
    assert resolve(step.image, values) in IMAGES


@pytest.mark.parametrize(("plan", "step"), STEPS)
def test_inputs_that_no_stage_can_do_without(plan: Plan, step: PlanStep) -> None:
    stage = STAGES[" ".join(step.command)]()
    needed = {name for name, text in stage.inputs.items() if "(optional)" not in text}
    if step.params.get("sut") == "endpoint":
        assert step.services
        needed -= {"model"}  # which is the service's
    assert needed <= {item.name for item in step.inputs}


def test_the_service_fits_its_stage() -> None:
    plan = PLANS["demo-endpoint"]
    (service,) = plan.services
    stage = STAGES[" ".join(service.command)]()
    values = check_params(plan, {})
    stage.params.model_validate(resolve(dict(service.params), values))
    assert {item.name for item in service.inputs} == set(stage.inputs)
    assert resolve(service.image, values) in IMAGES
    assert service.ready == "/v2/health/ready"


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"site-inventory"}))
def test_what_filters_is_told_the_purpose_and_the_day(name: str) -> None:
    plan = PLANS[name]
    assert plan.purpose == "commercial-benchmark"
    params = {"purpose": "commercial-benchmark", "date": "${run.date}"}
    assert plan.step("filter").params == params  # and so by MLPerf's rule, the default


@pytest.mark.parametrize("name", WHOLE)
def test_both_have_the_same_shape(name: str) -> None:
    # The demo is to be through in minutes: it runs no compliance tests, and uploads nothing.
    shared = {s.id for s in PLANS["demo"].steps}
    assert [s.id for s in PLANS[name].steps if s.id in shared] == [
        s.id for s in PLANS["demo"].steps
    ]
    package = PLANS[name].step("package")
    assert package.required_approvals == ("approve",)
    assert package.publish[0] == "package/submission.tar.gz"
    assert "report/report.html" in PLANS[name].step("report").publish


@pytest.mark.parametrize("name", NAMES)
def test_what_measures_runs_alone_and_stays_in_its_run(name: str) -> None:
    for step in PLANS[name].steps:
        if step.command in (("loadgen", "run"), ("loadgen", "tune")):
            assert step.exclusive and not step.network
            assert step.reuse == "within_run" or step.params["mode"] == "accuracy"


@pytest.mark.parametrize("name", ["yolo-coco", "yolo-submission"])
def test_an_upload_stands_behind_the_validator_s_report(name: str) -> None:
    plan = PLANS[name]
    gate, upload = plan.step("approve-upload"), plan.step("upload")
    assert gate.gate is not None
    assert [(e.step, e.output) for e in gate.gate.evidence] == [
        ("check", "check"),
        ("package", "package"),  # its results.html is what a person sees there
    ]
    assert upload.required_approvals == ("approve", "approve-upload")
    assert (upload.secrets, upload.network) == (("s3",), True)
    decision = plan.step("next-check").decision
    assert decision is not None
    # Where the gate is left out, no approval is wanted: so the upload has to be left out with it.
    assert [branch.targets for branch in decision.branches] == [
        ("approve-upload", "upload"),
        ("no-upload",),
    ]
    assert {param.name: param.default for param in plan.params}["upload_uri"] in (None, "")


@pytest.mark.parametrize("name", WHOLE)
def test_tuning_is_off_until_asked_for_and_is_of_the_run_to_come(name: str) -> None:
    plan = PLANS[name]
    assert {p.name: p.default for p in plan.params}["tune_seconds"] == 0
    for step in plan.steps:
        if step.command == ("loadgen", "tune"):
            performance = plan.step(step.id.replace("tune", "performance"))
            (taken,) = [item for item in performance.inputs if item.name == "tuning"]
            assert [source.step for source in taken.sources] == [step.id]
            same = set(step.params) - {"budget_seconds"}
            assert {k: step.params[k] for k in same} == {k: performance.params[k] for k in same}


def test_the_demo_s_data_is_there() -> None:
    folder = Path(__file__).resolve().parent.parent.parent / "steps/proctor_steps/embedded"
    for param in PLANS["demo"].params:
        if param.type == "uri":
            name = str(param.default).removeprefix("embedded:")
            assert (folder / name).is_file()


def test_yolo_coco_needs_its_sources() -> None:
    params = {param.name: param for param in PLANS["yolo-coco"].params}
    for name in ("images", "annotations", "model"):
        assert params[f"{name}_uri"].required
        assert params[f"{name}_sha256"].default == ""
    assert params["performance_seconds"].default == 600
    assert params["backend"].choices == ("openvino", "onnxruntime", "torch")


def test_a_submission_fails_early() -> None:
    """No long run begins before the fields and the accuracy of every scenario are known."""
    plan = PLANS["yolo-submission"]
    scenarios = ("SingleStream", "MultiStream", "Offline")
    assert all("preflight" in plan.ancestors(f"accuracy.{scenario}") for scenario in scenarios)
    for scenario in scenarios:
        known = plan.ancestors(f"performance.{scenario}")
        assert {f"score.{each}" for each in scenarios} <= known
        assert plan.step(f"score.{scenario}").params["target"] == "yolo-99"


def test_a_submission_has_exactly_the_runs_of_its_round() -> None:
    def runs(**build: JsonValue) -> set[str]:
        plan = load_plan(find_spec("yolo-submission"), build)
        return {s.id for s in plan.steps if s.step in ("accuracy", "performance")}

    both = {
        f"{mode}.{scenario}"
        for mode in ("accuracy", "performance")
        for scenario in ("SingleStream", "MultiStream", "Offline")
    }
    assert runs() == both
    assert runs(division="open") == both
    assert runs(multistream="SingleStream") == {id for id in both if "Multi" not in id}
    assert runs(multistream="SingleStream", offline="SingleStream") == {
        id for id in both if "Single" in id
    }


def test_a_submission_has_exactly_the_compliance_tests_of_its_division() -> None:
    def tests(**build: JsonValue) -> set[str]:
        plan = load_plan(find_spec("yolo-submission"), build)
        return {s.id for s in plan.steps if s.step in ("compliance", "verify")}

    assert tests() == {
        f"{step}.{scenario}-TEST01"
        for step in ("compliance", "verify")
        for scenario in ("SingleStream", "MultiStream", "Offline")
    }
    assert tests(multistream="SingleStream", offline="SingleStream") == {
        "compliance.SingleStream-TEST01", "verify.SingleStream-TEST01",
    }  # fmt: skip
    assert tests(division="open") == set()


def test_compliance_is_run_where_it_is_asked_for() -> None:
    plan = PLANS["yolo-coco"]
    cells = [s for s in plan.steps if s.command in (("loadgen", "run"), ("compliance", "verify"))]
    tests = {s.id for s in cells if "test" in s.params}
    assert len(tests) == 2 * 4 * 2
    assert {"compliance.SingleStream-TEST01", "verify.Offline-TEST04"} <= tests
    verify = plan.step("verify.Offline-TEST01")
    sources = {i.name: [source.step for source in i.sources] for i in verify.inputs}
    assert sources["logs"] == ["compliance.Offline-TEST01"]
    assert sources["performance"] == ["performance.Offline"]
    assert check_params(plan, GIVEN["yolo-coco"])["compliance"] == []
