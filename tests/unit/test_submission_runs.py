"""What a submission's pipeline hands to its package: the official name, and what is inferred; and
what is looked at before anything is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidence_kit import Kit
from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.report import verdict
from proctor_steps.report.evidence import Evidence, gather
from proctor_steps.stage import StepIO, execute
from proctor_steps.submission import package, preflight

PARAMS = {
    "submitter": "Example",
    "division": "closed",
    "system_name": "box-1",
    "benchmark": "yolo",
}
NAMES = {"runs": "accuracy_logs", "accuracy": "scores"}
STATED = {"retraining": "no", "weight_data_types": "fp32", "weight_transformations": "none"}


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


def packed(kit: Kit, **params: Any) -> tuple[Result, Path]:
    result, out = kit.run(package.STAGE, "package", {**PARAMS, **params}, NAMES)
    division = params.get("division", "closed")
    return result, out / "tree" / division / "Example" / "results" / "box-1"


# --- the package ---------------------------------------------------------------------------------


def test_the_name_that_was_asked_for_is_the_folder(kit: Kit) -> None:
    kit.fill()
    assert [p.name for p in packed(kit)[1].iterdir()] == ["yolo-99"]
    result, home = packed(kit, submit_as="yolo-95")
    assert [p.name for p in home.iterdir()] == ["yolo-95"]
    assert "accuracy_target" not in {f.rule for f in result.findings}


def test_a_target_that_was_missed_is_told_under_its_name(kit: Kit) -> None:
    kit.fill()
    kit.score("Offline", value=0.515)
    result, home = packed(kit, submit_as="yolo-99")
    assert [p.name for p in home.iterdir()] == ["yolo-99"]
    told = next(f.message for f in result.findings if f.rule == "accuracy_target")
    assert "51.50 %" in told
    assert "yolo-99" in told


def test_a_name_that_the_benchmark_does_not_have_is_refused(kit: Kit) -> None:
    result, _ = packed(kit.fill(), submit_as="../elsewhere")
    assert result.status == "step_error"
    assert "yolo is not submitted as '../elsewhere' in v6.1; its names: yolo-95" in result.message


def test_an_inferred_scenario_is_a_copy_that_says_so(kit: Kit) -> None:
    result, home = packed(
        kit.fill(("SingleStream",)),
        inferred={"MultiStream": "SingleStream", "Offline": "SingleStream"},
    )
    assert result.status == "ok", result.message
    scenarios = {path.name: path for path in (home / "yolo-99").iterdir()}
    assert set(scenarios) == {"SingleStream", "MultiStream", "Offline"}
    for name in ("MultiStream", "Offline"):
        for path in scenarios["SingleStream"].rglob("*"):
            copy = scenarios[name] / path.relative_to(scenarios["SingleStream"])
            if path.is_file() and path.name != "README.md":
                assert copy.read_bytes() == path.read_bytes()
        text = (scenarios[name] / "README.md").read_text()
        assert text.startswith(f"{name} is inferred from SingleStream")
    figures = result.metrics["package"]
    assert isinstance(figures, dict)
    assert figures["scenarios"] == ["SingleStream", "MultiStream", "Offline"]


@pytest.mark.parametrize(
    ("measured", "inferred", "told"),
    [
        (("SingleStream",), {"Offline": "MultiStream"}, "MultiStream is not in the package"),
        (("SingleStream", "Offline"), {"Offline": "SingleStream"}, "Offline was measured"),
        (("SingleStream",), {"Server": "SingleStream"}, "inferred"),
    ],
)
def test_what_cannot_be_inferred_is_refused(
    measured: tuple[str, ...], inferred: dict[str, str], told: str, kit: Kit
) -> None:
    result, _ = packed(kit.fill(measured), inferred=inferred)
    assert result.status != "ok"
    assert told in result.message


def test_an_open_package_may_hold_a_scenario_that_the_round_does_not_have(kit: Kit) -> None:
    result, home = packed(kit.fill(("Server",)), division="open")
    assert result.status == "ok", result.message
    assert [path.name for path in (home / "yolo-99").iterdir()] == ["Server"]


def test_what_is_inferred_is_not_missing(kit: Kit) -> None:
    inferred = {"MultiStream": "SingleStream", "Offline": "SingleStream"}
    result, _ = packed(kit.fill(("SingleStream",)), inferred=inferred)
    assert "not_a_valid_result" not in {f.rule for f in result.findings}
    result, _ = packed(kit, inferred={"Offline": "SingleStream"})
    assert "not_a_valid_result" in {f.rule for f in result.findings}


@pytest.mark.parametrize(("division", "valid"), [("closed", False), ("open", True)])
def test_the_open_division_lifts_accuracy_and_scenarios(
    division: str, valid: bool, kit: Kit
) -> None:
    kit.fill(("SingleStream",))
    kit.score("SingleStream", value=0.4, met=False)
    found = gather_from(kit)
    judged = verdict.judge(found, "yolo", "v6.1", verdict.Asked(division))
    assert judged.valid is valid
    severity = "info" if valid else "error"
    told = {f.rule: f.severity for f in judged.findings}
    assert told["accuracy_target"] == told["required_scenarios"] == severity


def gather_from(kit: Kit) -> Evidence:
    mounts = tuple(kit.mounts)
    made = Contract(pipeline="p", run="r", step="s", params={}, mounts=mounts)
    return gather(StepIO(made, kit.root))


# --- before anything is measured -----------------------------------------------------------------


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Result]:
    """The stage over a COCO folder of two images and a described model."""
    dataset, model, step = (tmp_path / name for name in ("dataset", "model", "step"))
    (dataset / "annotations").mkdir(parents=True)
    (dataset / "val2017").mkdir()
    images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in (1, 2)]
    for image in images:
        (dataset / "val2017" / str(image["file_name"])).write_bytes(b"")
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    (dataset / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    model.mkdir()
    about = {"format": "onnx", "file": "net.onnx", "inputs": [{"name": "x", "dtype": "float32"}]}
    (model / "model.json").write_text(json.dumps(about))

    def run(text: str | None = None, **params: Any) -> Result:
        if text is not None:
            (model / "model.json").write_text(text)
        shutil.rmtree(step, ignore_errors=True)
        step.mkdir()
        given = {"benchmark": "yolo", "submit_as": "yolo-99", "measurements": STATED, **params}
        mounts = (
            Mount(name="dataset", kind="input", path=str(dataset)),
            Mount(name="model", kind="input", path=str(model)),
        )
        made = Contract(pipeline="p", run="r", step="s", params=given, mounts=mounts)
        execute(preflight.STAGE, made, step)
        result = load_result(step)
        assert result is not None
        return result

    return run


def test_everything_that_stands_in_the_way_is_told_before_the_runs(
    look: Callable[..., Result],
) -> None:
    result = look(measurements={"retraining": "no"})
    assert result.status == "data_error"
    assert "the dataset has 2 samples, the round asks for 1525" in result.message
    assert "weight_data_types, weight_transformations" in result.message


def test_trying_out_goes_on_and_tells(look: Callable[..., Result]) -> None:
    result = look(stop=False)
    assert result.status == "ok", result.message
    assert {f.rule for f in result.findings} == {"dataset_size"}


def test_what_the_description_of_the_system_lacks_is_told_before_the_runs(
    look: Callable[..., Result], tmp_path: Path
) -> None:
    result = look(stop=False, submitter="Ours", system={"cooling": "air", "coling": "air"})
    told = [f.message for f in result.findings if f.rule == "system_description"]
    assert any("nothing is known of" in text and "status" in text for text in told)
    assert not any("cooling," in text for text in told)
    file = tmp_path / "system.json"
    file.write_text(json.dumps({"submitter": "Theirs", "status": "someday"}))
    result = look(submitter="Ours", system_uri=f"file://{file}")
    assert result.status == "data_error"
    assert "submitter is 'Theirs' there" in result.message
    assert "status 'someday' is none of" in result.message
    file.write_text("{")
    assert "not JSON" in look(submitter="Ours", system_uri=f"file://{file}").message


def test_nothing_in_the_way(look: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proctor_steps.benchmarks.detection.Detection.samples", lambda *_: 1525)
    result = look()
    assert result.status == "ok", result.message
    assert result.findings == ()


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"submit_as": "yolo"}, "yolo is submitted as yolo-95 or yolo-99: say which"),
        ({"submit_as": "bert-99"}, "bert-99 is no result of the benchmark yolo"),
        ({"submit_as": "yollo-99"}, "did you mean 'yolo-99'"),
        ({"round": "v6.2"}, "there is no round 'v6.2'"),
        ({"text": "[]"}, "model.json of the model is missing or not readable"),
        ({"text": "{"}, "model.json of the model is missing or not readable"),
    ],
)
def test_what_is_no_submission_is_told(
    params: dict[str, Any], told: str, look: Callable[..., Result]
) -> None:
    result = look(**params)
    assert result.status != "ok"
    assert told in result.message
