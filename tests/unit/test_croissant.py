"""``croissant.json`` of a filtered dataset: taken by mlcroissant, and the same bytes each time."""

from __future__ import annotations

import csv
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.contract import Approval, Contract, Mount, file_sha256
from proctor_steps.dataset.filter_coco import STAGE
from proctor_steps.policy.usage import STAGE as POLICY_STAGE
from proctor_steps.stage import execute

DIGITS = Path(__file__).resolve().parents[2] / "steps" / "proctor_steps" / "embedded" / "digits"
FETCHED = {
    "kind": "http", "uri": "https://example.org/val2017.zip", "sha256": "5e" * 32, "bytes": 77,
    "files": 1, "etag": "abc", "listing": "",
}  # fmt: skip


@pytest.fixture
def demo(tmp_path: Path) -> dict[str, Path]:
    """The demo's data, as its fetching steps leave them."""
    inputs = {"images": tmp_path / "images", "annotations": tmp_path / "annotations"}
    with zipfile.ZipFile(DIGITS / "scenes.zip") as packed:
        packed.extractall(inputs["images"])
    inputs["annotations"].mkdir()
    text = (DIGITS / "annotations.json").read_bytes()
    (inputs["annotations"] / "annotations.json").write_bytes(text)
    return inputs


@pytest.fixture
def coco(shared_data: Path) -> dict[str, Path]:
    folder = shared_data / "coco"
    return {"images": folder / "val2017", "annotations": folder / "annotations"}


def made(run_stage: Any, inputs: dict[str, Path], **params: Any) -> tuple[Path, dict[str, Any]]:
    result, out = run_stage(STAGE, params, inputs=inputs)
    assert result.status == "ok", result.message
    return out, json.loads((out / "croissant.json").read_bytes())


def loaded(out: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """The dataset as mlcroissant takes it; an error, or a warning of any kind, fails the test."""
    import mlcroissant

    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(out / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert (issues.errors, issues.warnings, caplog.messages) == (set(), set(), [])
    assert dataset.metadata.ctx.is_v1_1()
    return dataset


def records(dataset: Any, name: str) -> list[dict[str, Any]]:
    plain = [
        {k.partition("/")[2]: v.decode() if isinstance(v, bytes) else v for k, v in record.items()}
        for record in dataset.records(name)
    ]
    return plain


def check_loaded(out: Path, dataset: Any, count: int) -> None:
    """What mlcroissant gives back is what the annotation file and the folder hold."""
    path = out / "annotations" / "instances_val2017.json"
    whole = json.loads(path.read_bytes())
    urls = {licence["id"]: licence["url"] for licence in whole["licenses"]}
    images = records(dataset, "images")
    assert len(images) == count == len(whole["images"])
    for index, (found, entry) in enumerate(zip(images, whole["images"], strict=True)):
        file = out / "val2017" / entry["file_name"]
        assert found["index"] == index
        assert [found[k] for k in ("id", "file_name", "width", "height", "license")] == [
            entry[k] for k in ("id", "file_name", "width", "height", "license")
        ]
        assert found["license_url"] == urls[entry["license"]]
        assert (found["sha256"], found["bytes"]) == (file_sha256(file), file.stat().st_size)
        assert found["content"].size == (entry["width"], entry["height"])
    boxes = records(dataset, "annotations")
    licence_of = {entry["id"]: urls[entry["license"]] for entry in whole["images"]}
    assert [(b["id"], b["image_id"], b["bbox"]) for b in boxes] == [
        (a["id"], a["image_id"], a["bbox"]) for a in whole["annotations"]
    ]
    assert all(b["image_license_url"] == licence_of[b["image_id"]] for b in boxes)
    assert len(records(dataset, "categories")) == len(whole["categories"])
    used = {entry["license"] for entry in whole["images"]}
    assert {r["id"]: r["url"] for r in records(dataset, "licences")} == {n: urls[n] for n in used}


def test_the_demo_s_dataset_is_taken_and_loaded_back(
    demo: dict[str, Path], run_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out, whole = made(run_stage, demo)
    check_loaded(out, loaded(out, caplog), 72)
    assert whole["datePublished"] == "2026-11-21" and len(whole["license"]) == 5


def test_real_images_are_taken_and_loaded_back(
    coco: dict[str, Path], run_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out, whole = made(run_stage, coco)
    check_loaded(out, loaded(out, caplog), 70)
    assert whole["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert whole["creator"]["name"] == "COCO Consortium"
    assert (whole["url"], whole["datePublished"]) == ("http://cocodataset.org", "2017-09-01")
    assert whole["citeAs"] == (
        "COCO Consortium. 2017. COCO 2017 Dataset. version 1.0. http://cocodataset.org"
    )


def test_mlcroissant_finds_a_changed_list_and_a_changed_annotation_file(
    demo: dict[str, Path], run_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out, _ = made(run_stage, demo)
    dataset = loaded(out, caplog)
    for name, record_set in (
        ("images.csv", "images"),
        ("annotations/instances_val2017.json", "annotations"),
    ):
        path = out / name
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        with pytest.raises(Exception, match=r"Hash of downloaded file|Download"):
            list(dataset.records(record_set))
        path.write_bytes(before)


def test_the_same_input_gives_the_same_bytes(demo: dict[str, Path], run_stage: Any) -> None:
    _, out = run_stage(STAGE, {}, inputs=demo, attempt="1")
    _, again = run_stage(STAGE, {}, inputs=demo, attempt="2")
    for name in ("croissant.json", "images.csv"):
        assert (out / name).read_bytes() == (again / name).read_bytes()


def test_files_are_named_with_size_and_digest(demo: dict[str, Path], run_stage: Any) -> None:
    out, whole = made(run_stage, demo)
    files = [each for each in whole["distribution"] if each["@type"] == "cr:FileObject"]
    assert {each["contentUrl"] for each in files} == {
        "annotations/instances_val2017.json", "images.csv",
    }  # fmt: skip
    for each in files:
        path = out / each["contentUrl"]
        assert each["sha256"] == file_sha256(path)
        assert each["contentSize"] == f"{path.stat().st_size} B"
    rows = list(csv.DictReader((out / "images.csv").open()))
    assert {row["file_name"] for row in rows} == {p.name for p in (out / "val2017").iterdir()}


def contract_of(out: Path, demo: dict[str, Path], **more: Any) -> Contract:
    approval = Approval(
        gate="look", decision="approved", by="ada", at="2026-01-01T00:00:00+00:00",
        answered_via="ui", evidence_reviewed=True, evidence_digest="e" * 64,
    )  # fmt: skip
    images = Mount(
        name="images", kind="input", path=str(demo["images"]), sha256="1a" * 32, fetched=FETCHED
    )
    boxes = Mount(
        name="annotations", kind="input", path=str(demo["annotations"]), sha256="2b" * 32,
        fetched={"uri": "file:///home/somebody/boxes.json", "sha256": "3c" * 32, "bytes": 5},
    )  # fmt: skip
    target = Mount(name="dataset", kind="output", path=str(out))
    return Contract(
        pipeline="p", run="secret-run", step="filter", mounts=(images, boxes, target),
        image="proctor/steps@sha256:" + "4d" * 32, approvals=(approval,), **more,
    )  # fmt: skip


def test_the_derivation_names_sources_step_image_and_people(
    demo: dict[str, Path], tmp_path: Path
) -> None:
    out, step = tmp_path / "out", tmp_path / "step"
    out.mkdir()
    step.mkdir()
    assert execute(STAGE, contract_of(out, demo, params={"licences": "mlperf"}), step) == 0
    text = (out / "croissant.json").read_text()
    whole = json.loads(text)
    images, boxes = whole["prov:wasDerivedFrom"]
    assert (images["sha256"], boxes["sha256"]) == ("1a" * 32, "2b" * 32)
    source = images["prov:wasDerivedFrom"]
    assert (source["sha256"], source["contentSize"]) == ("5e" * 32, "77 B")
    assert source["prov:atLocation"] == "https://example.org/val2017.zip"
    assert boxes["prov:wasDerivedFrom"]["prov:label"] == "boxes.json"
    activity = whole["prov:wasGeneratedBy"]
    assert activity["prov:label"] == "dataset filter-coco"
    assert activity["proctor:image"].endswith("4d" * 32)
    assert activity["proctor:parameters"] == {"licences": "mlperf"}
    assert [each["@id"] for each in activity["prov:used"]] == [images["@id"], boxes["@id"]]
    agents = activity["prov:wasAssociatedWith"]
    assert agents[0]["prov:label"].startswith("proctor_steps ") and agents[1]["prov:label"] == "ada"
    for private in ("somebody", "secret-run", str(tmp_path)):
        assert private not in text


def test_a_folder_that_was_fetched_as_it_is_stands_once(
    demo: dict[str, Path], tmp_path: Path
) -> None:
    out, step = tmp_path / "out", tmp_path / "step"
    out.mkdir()
    step.mkdir()
    given = contract_of(out, demo)
    same = given.mounts[0].model_copy(update={"fetched": {**FETCHED, "sha256": "1a" * 32}})
    execute(STAGE, given.model_copy(update={"mounts": (same, *given.mounts[1:])}), step)
    images = json.loads((out / "croissant.json").read_bytes())["prov:wasDerivedFrom"][0]
    assert "prov:wasDerivedFrom" not in images
    assert images["prov:atLocation"] == "https://example.org/val2017.zip"


def bent(demo: dict[str, Path], **info: Any) -> None:
    path = demo["annotations"] / "annotations.json"
    value = json.loads(path.read_bytes())
    value["info"] = info
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "info", [{}, {"date_created": "2017/13/45", "version": "first", "contributor": ["a"]}]
)
def test_what_nobody_told_is_left_out_and_said(
    demo: dict[str, Path], run_stage: Any, info: dict[str, Any], capsys: Any
) -> None:
    import mlcroissant

    bent(demo, **info)
    out, whole = made(run_stage, demo)
    left_out = {"url", "creator", "datePublished", "citeAs", "version"}
    assert not left_out & whole.keys()
    assert "croissant.json lacks url, version, creator" in capsys.readouterr().out
    issues = mlcroissant.Dataset(out / "croissant.json").metadata.ctx.issues
    assert not issues.errors and len(issues.warnings) == 3  # it only recommends what is missing


def test_a_dataset_without_licences_says_nothing_of_them(
    demo: dict[str, Path], run_stage: Any
) -> None:
    import mlcroissant

    path = demo["annotations"] / "annotations.json"
    value = json.loads(path.read_bytes())
    del value["licenses"]
    path.write_text(json.dumps(value))
    out, whole = made(run_stage, demo, licences="all")
    assert "license" not in whole
    dataset = mlcroissant.Dataset(out / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert "license" not in records(dataset, "images")[0]


def test_an_id_may_be_0(demo: dict[str, Path], run_stage: Any) -> None:
    path = demo["annotations"] / "annotations.json"
    value = json.loads(path.read_bytes())
    first = value["categories"][0]["id"]
    value["categories"][0]["id"] = 0
    for box in value["annotations"]:
        if box["category_id"] == first:
            box["category_id"] = 0
    path.write_text(json.dumps(value))
    _, whole = made(run_stage, demo)
    (kinds,) = (each for each in whole["recordSet"] if each["@id"] == "categories")
    assert kinds["data"][0]["categories/id"] == 0


POLICY = {
    "@context": {"rights": "http://www.w3.org/ns/odrl/2/"},
    "@type": "rights:Offer",
    "rights:prohibition": {
        "rights:action": {"@id": "rights:use"},
        "rights:constraint": {
            "rights:leftOperand": {"@id": "rights:purpose"},
            "rights:operator": {"@id": "rights:isA"},
            "rights:rightOperand": {"@id": "dpv:CommercialPurpose"},
        },
    },
}


def asked(out: Path, purpose: str, run_stage: Any) -> str:
    """What the metadata of the filtered dataset say of a purpose."""
    result, _ = run_stage(
        POLICY_STAGE, {"purpose": purpose}, inputs={"dataset": out}, attempt=purpose
    )
    return str(result.status)


def test_usage_terms_beside_the_inputs_hold_for_the_filtered_dataset(
    demo: dict[str, Path], run_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (demo["images"] / "policy.json").write_text(json.dumps(POLICY))
    out, whole = made(run_stage, demo)
    assert whole["usageInfo"][0]["@type"] == "rights:Offer"
    check_loaded(out, loaded(out, caplog), 72)
    assert asked(out, "commercial-benchmark", run_stage) == "data_error"
    assert asked(out, "research", run_stage) == "ok"


def test_the_licence_of_each_record_is_read_from_the_list(
    demo: dict[str, Path], run_stage: Any
) -> None:
    """The MLPerf rule leaves what anybody may use; with all licences, some images are not so."""
    out, _ = made(run_stage, demo)
    assert asked(out, "commercial-benchmark", run_stage) == "ok"
    result, every = run_stage(STAGE, {"licences": "all"}, inputs=demo, attempt="all")
    assert result.status == "ok"
    assert asked(every, "research", run_stage) == "ok"
    result, _ = run_stage(
        POLICY_STAGE, {"purpose": "commercial-benchmark"}, inputs={"dataset": every}, attempt="no"
    )
    assert result.status == "data_error" and "8 records of images" in result.message


def test_usage_terms_that_cannot_be_read_are_told(demo: dict[str, Path], run_stage: Any) -> None:
    (demo["images"] / "policy.json").write_text("{")
    result, out = run_stage(STAGE, {}, inputs=demo)
    assert [f.rule for f in result.findings] == ["usage_unread"]
    assert "usageInfo" not in json.loads((out / "croissant.json").read_bytes())


def test_what_a_purpose_permits_is_called_so(demo: dict[str, Path], run_stage: Any) -> None:
    _, whole = made(run_stage, demo, licences="purpose", purpose="research")
    assert whole["name"].endswith(", those that may be used for research")
