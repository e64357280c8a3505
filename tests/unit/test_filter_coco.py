"""The licence filter: MLPerf's rule on real annotations, and what it says of other files."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor_steps.contract import tree_digest
from proctor_steps.dataset.coco import check_coco
from proctor_steps.dataset.filter_coco import STAGE, names_sha256, select
from proctor_steps.policy import licences as licence_terms
from proctor_steps.policy import mlperf
from proctor_steps.policy.answer import answer
from proctor_steps.policy.clauses import Asked
from proctor_steps.policy.metadata import read as read_metadata
from proctor_steps.policy.mlperf import allowed
from proctor_steps.policy.purposes import PURPOSES
from proctor_steps.stage import DataError

DEMO = Path(__file__).resolve().parent.parent.parent / "steps/proctor_steps/embedded/digits"
URLS = {
    1: "http://creativecommons.org/licenses/by-nc-sa/2.0/",
    2: "http://creativecommons.org/licenses/by-nc/2.0/",
    3: "http://creativecommons.org/licenses/by-nc-nd/2.0/",
    4: "http://creativecommons.org/licenses/by/2.0/",
    5: "http://creativecommons.org/licenses/by-sa/2.0/",
    6: "http://creativecommons.org/licenses/by-nd/2.0/",
    7: "http://flickr.com/commons/usage/",
    8: "http://www.usa.gov/copyright.shtml",
}
# Ids, names and order disagree, as they do in COCO.
IMAGES = [(30, "b.jpg", 4), (10, "c.jpg", 1), (20, "a.jpg", 6), (5, "d.jpg", 5)]


def coco() -> dict[str, Any]:
    box = {"bbox": [0, 0, 2.5, 2], "area": 5.0, "segmentation": []}
    return {
        "info": {"year": 2017},
        "licenses": [{"id": n, "url": url, "name": f"licence {n}"} for n, url in URLS.items()],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
        "images": [
            {"id": n, "file_name": name, "license": licence, "width": 4, "height": 3, "extra": "ü"}
            for n, name, licence in IMAGES
        ],
        "annotations": [
            {"id": 7, "image_id": 20, "category_id": 90, "iscrowd": 1, **box},
            {"id": 3, "image_id": 10, "category_id": 1, "iscrowd": 0, **box},
            {"id": 9, "image_id": 30, "category_id": 1, "iscrowd": 0, **box},
        ],
    }


@pytest.fixture
def dataset(tmp_path: Path) -> dict[str, Path]:
    """Inputs for the stage: images at some depth, and one annotation file."""
    inputs = {"images": tmp_path / "images", "annotations": tmp_path / "annotations"}
    (inputs["images"] / "deep" / "val").mkdir(parents=True)
    inputs["annotations"].mkdir()
    for _, name, _ in IMAGES:
        (inputs["images"] / "deep" / "val" / name).write_bytes(f"jpeg {name}".encode())
    (inputs["annotations"] / "some.json").write_text(json.dumps(coco()))
    return inputs


def test_real_annotations_of_all_5000_images(shared_data: Path) -> None:
    value = json.loads((shared_data / "coco" / "val2017_all5000_license_ids.json").read_bytes())
    licences = value["licenses"]
    images = [
        {"id": int(n), "license": licence, "file_name": f"{int(n):012}.jpg"}
        for n, licence in value["image_license"].items()
    ]
    kept = select(images, licences, "mlperf")
    assert (len(images), len(kept)) == (5000, 1525)
    assert [i["id"] for i in kept[:5]] == [397133, 252219, 174482, 403385, 6818]
    assert kept[539]["id"] == 560371
    assert names_sha256(str(i["file_name"]) for i in kept) == (
        "a20b307586f7dd3c930777bf0e344af109c392d77ddc15ba5dd6799ddbc97942"
    )
    assert select(images, licences, "all") == images


def test_real_images_are_filtered(shared_data: Path, run_stage: Any) -> None:
    folder = shared_data / "coco"
    inputs = {"images": folder / "val2017", "annotations": folder / "annotations"}
    result, out = run_stage(STAGE, {}, inputs=inputs)
    assert result.status == "ok", result.message
    whole = json.loads((folder / "annotations" / "instances_val2017.json").read_bytes())
    made = json.loads((out / "annotations" / "instances_val2017.json").read_bytes())
    ids = [i["id"] for i in whole["images"] if 4 <= i["license"] <= 8]
    assert len(ids) == 70 and [i["id"] for i in made["images"]] == ids
    assert made["annotations"] == [a for a in whole["annotations"] if a["image_id"] in ids]
    assert len(made["categories"]) == 80 and made["licenses"] == whole["licenses"]
    names = [i["file_name"] for i in made["images"]]
    assert sorted(p.name for p in (out / "val2017").iterdir()) == sorted(names)
    for name in names:
        assert (out / "val2017" / name).read_bytes() == (folder / "val2017" / name).read_bytes()


def test_order_boxes_and_the_rest_stay(dataset: dict[str, Path], run_stage: Any) -> None:
    result, out = run_stage(STAGE, {}, inputs=dataset)
    assert result.status == "ok" and result.findings == (), result.message
    made = json.loads((out / "annotations" / "instances_val2017.json").read_bytes())
    before = coco()
    kept = [before["images"][n] for n in (0, 2, 3)]  # d.jpg has no boxes and is kept
    boxes = [before["annotations"][n] for n in (0, 2)]  # the crowd is kept
    assert made == {**before, "images": kept, "annotations": boxes}
    assert list(made) == list(before)
    said = json.loads((out / "dataset.json").read_bytes())
    assert (said["total"], said["kept"], said["images"]) == (4, 3, "val2017")
    assert said["by_licence"]["6"] == {
        "name": "licence 6", "url": URLS[6], "total": 1, "kept": 1,
    }  # fmt: skip
    assert said["by_licence"]["1"]["kept"] == 0 and said["by_licence"]["8"]["total"] == 0
    assert said["sha256_of_names"] == names_sha256(["b.jpg", "a.jpg", "d.jpg"])
    assert result.metrics["dataset"] == {
        k: v for k, v in said.items() if k not in ("images", "annotations")
    }


def test_all_licences_are_kept_with_a_warning(dataset: dict[str, Path], run_stage: Any) -> None:
    result, out = run_stage(STAGE, {"licences": "all"}, inputs=dataset)
    assert len(list((out / "val2017").iterdir())) == 4
    assert [(f.rule, f.severity) for f in result.findings] == [("licence_filter", "warning")]


def test_without_licences_all_can_be_kept(dataset: dict[str, Path], run_stage: Any) -> None:
    value = coco()
    del value["licenses"]
    for image in value["images"]:
        del image["license"]
    (dataset["annotations"] / "some.json").write_text(json.dumps(value))
    result, out = run_stage(STAGE, {"licences": "all"}, inputs=dataset, attempt="1")
    assert result.status == "ok" and len(list((out / "val2017").iterdir())) == 4
    result, _ = run_stage(STAGE, {}, inputs=dataset, attempt="2")
    assert result.status == "data_error" and "licenses: missing" in result.message


# for a purpose

BENCHMARK = {"purpose": "commercial-benchmark", "date": "2026-01-15"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_demo_s_dataset_is_the_same_byte_for_byte(tmp_path: Path, run_stage: Any) -> None:
    """Stating the purpose adds its answer, and changes nothing."""
    with zipfile.ZipFile(DEMO / "scenes.zip") as archive:
        archive.extractall(tmp_path / "images")
    (tmp_path / "annotations").mkdir()
    shutil.copy(DEMO / "annotations.json", tmp_path / "annotations")
    inputs = {name: tmp_path / name for name in ("images", "annotations")}
    result, out = run_stage(STAGE, BENCHMARK, inputs=inputs)
    assert result.status == "ok", result.message
    assert tree_digest(out / "val2017") == (
        "2c87ca571dbb1829ea0a63b959142cec642b4a46d5867f4fd45368e71079ad0d", 167_642,
    )  # fmt: skip
    assert sha256(out / "annotations" / "instances_val2017.json") == (
        "e4d7829d53f50716aa7d3c2315140c34ed0afc4540cb709115b2ecde2f71fe0f"
    )
    assert sha256(out / "dataset.json") == (
        "cefdd95f79eb357800d665b7e9134ec7adf52e3d7afba4395862e4ca0ff20d65"
    )
    assert len(list((out / "val2017").iterdir())) == 72


def test_coco_s_dataset_is_the_same_byte_for_byte(shared_data: Path, run_stage: Any) -> None:
    folder = shared_data / "coco"
    inputs = {"images": folder / "val2017", "annotations": folder / "annotations"}
    result, out = run_stage(STAGE, BENCHMARK, inputs=inputs)
    assert result.status == "ok", result.message
    assert len(list((out / "val2017").iterdir())) == 70
    assert sha256(out / "annotations" / "instances_val2017.json") == (
        "f98cd19b9e1f0315d0f7414cb5a7cc28f0cddf9631bd107383da449cbd445d61"
    )
    assert sha256(out / "dataset.json") == (
        "f82759de8d30deae30d307380294dabd682bb644aea1d86d7762117d9e455a25"
    )
    said = json.loads((out / "usage.json").read_bytes())
    assert (said["verdict"], said["kept"], said["total"]) == ("filter", 70, 202)
    assert [(e["what"], [c["id"] for c in e["clauses"]]) for e in said["left_out"]] == [
        ("50 images", ["CC-BY-NC-SA-2.0"]),
        ("20 images", ["CC-BY-NC-2.0"]),
        ("62 images", ["CC-BY-NC-ND-2.0"]),
    ]


def test_without_a_purpose_nothing_is_said_of_it(dataset: dict[str, Path], run_stage: Any) -> None:
    result, out = run_stage(STAGE, {}, inputs=dataset)
    assert "usage" not in result.metrics and not (out / "usage.json").exists()


@pytest.mark.parametrize("purpose", ["research", "clinical-research", "education"])
def test_what_a_purpose_permits(purpose: str, dataset: dict[str, Path], run_stage: Any) -> None:
    params = {"purpose": purpose, "licences": "purpose"}
    result, out = run_stage(STAGE, params, inputs=dataset)
    assert len(list((out / "val2017").iterdir())) == 4
    # Which is not MLPerf's dataset.
    assert [(f.rule, f.severity) for f in result.findings] == [("licence_filter", "warning")]
    assert json.loads((out / "usage.json").read_bytes())["verdict"] == "permitted"


def test_for_a_commercial_benchmark_the_purpose_comes_to_mlperf_s_rule(
    dataset: dict[str, Path], run_stage: Any
) -> None:
    result, out = run_stage(STAGE, {**BENCHMARK, "licences": "purpose"}, inputs=dataset)
    assert {p.name for p in (out / "val2017").iterdir()} == {"b.jpg", "a.jpg", "d.jpg"}
    assert [(f.rule, f.where) for f in result.findings] == [
        ("usage_left_out", "some.json: $.licenses[0].url")
    ]


def test_all_for_a_purpose_that_not_all_permit(dataset: dict[str, Path], run_stage: Any) -> None:
    result, _ = run_stage(STAGE, {**BENCHMARK, "licences": "all"}, inputs=dataset)
    assert result.status == "data_error"
    assert "1 image: CC-BY-NC-SA-2.0" in result.message and "$.licenses[0].url" in result.message


def test_a_rule_by_purpose_needs_one(dataset: dict[str, Path], run_stage: Any) -> None:
    result, _ = run_stage(STAGE, {"licences": "purpose"}, inputs=dataset)
    assert result.status == "step_error" and "needs the parameter purpose" in result.message


@pytest.mark.parametrize("place", ["images", "annotations"])
def test_a_policy_beside_the_data_counts_too(
    place: str, dataset: dict[str, Path], run_stage: Any
) -> None:
    expired = {"@type": "Set", "permission": {"action": "use", "constraint": {
        "leftOperand": "dateTime", "operator": "lteq", "rightOperand": "2026-01-14"}}}  # fmt: skip
    (dataset[place] / "policy.json").write_text(json.dumps(expired))
    result, out = run_stage(STAGE, BENCHMARK, inputs=dataset, attempt="1")
    assert result.status == "data_error", result.message
    assert "policy.json: $.permission.constraint" in result.message
    assert list(out.iterdir()) == []
    result, _ = run_stage(STAGE, BENCHMARK | {"date": "2026-01-14"}, inputs=dataset, attempt="2")
    assert result.status == "ok", result.message


@given(st.lists(st.sampled_from([*URLS.values(), "", "CC0-1.0", "http://x/by-nd"]), max_size=9))
def test_what_is_told_is_what_is_done(urls: list[str]) -> None:
    licences = [{"id": n, "url": url} for n, url in enumerate(urls)]
    images = [{"id": n, "license": n, "file_name": f"{n}.jpg"} for n in range(len(urls))]
    whole = {"images": images, "licenses": licences, "annotations": []}
    found = read_metadata(whole, "x.json")
    assert found is not None
    for purpose in PURPOSES:
        for rule, clauses in (("mlperf", mlperf.clauses), ("purpose", licence_terms.clauses)):
            ask = Asked(purpose)
            kept = {str(image["file_name"]) for image in select(images, licences, rule, ask)}
            made = answer([found], ask, "x", clauses)
            out = {name for each in made.left_out if each.part for name in each.part.files}
            assert kept == {str(image["file_name"]) for image in images} - out


def test_inputs_are_not_changed(dataset: dict[str, Path], run_stage: Any) -> None:
    before = {p: p.read_bytes() for f in dataset.values() for p in f.rglob("*") if p.is_file()}
    run_stage(STAGE, {}, inputs=dataset)
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("url", "good"),
    [(url, n >= 4) for n, url in URLS.items()]
    + [
        ("HTTPS://CreativeCommons.org/licenses/BY/4.0/", True),
        ("https://creativecommons.org/licenses/by-nd/4.0/", True),
        ("https://www.flickr.com/commons/usage/", True),
        ("https://creativecommons.org/publicdomain/zero/1.0/", False),
        ("", False),
    ],
)
def test_the_rule_by_url(url: str, good: bool) -> None:
    assert allowed(url) is good


@given(st.lists(st.sampled_from(sorted(URLS)), max_size=40))
def test_what_is_kept_is_the_allowed_part_in_order(licences: list[int]) -> None:
    images = [{"id": n, "license": licence} for n, licence in enumerate(licences)]
    kept = select(images, [{"id": n, "url": url} for n, url in URLS.items()], "mlperf")
    assert kept == [image for image in images if image["license"] >= 4]


# what is wrong with the images


def test_missing_images_are_listed(dataset: dict[str, Path], run_stage: Any) -> None:
    for name in ("b.jpg", "d.jpg", "c.jpg"):  # c.jpg is filtered out, so it is not missed
        (dataset["images"] / "deep" / "val" / name).unlink()
    result, out = run_stage(STAGE, {}, inputs=dataset)
    assert result.status == "data_error"
    assert "2 of 3 image files missing: b.jpg, d.jpg\n" in result.message
    assert list(out.iterdir()) == []


def test_a_long_list_of_missing_images_is_cut_with_its_count(
    dataset: dict[str, Path], run_stage: Any
) -> None:
    value = coco()
    value["images"] += [
        {"id": 100 + n, "file_name": f"m{n:03}.jpg", "license": 4, "width": 1, "height": 1}
        for n in range(50)
    ]
    (dataset["annotations"] / "some.json").write_text(json.dumps(value))
    result, _ = run_stage(STAGE, {}, inputs=dataset)
    assert "50 of 53 image files missing: m000.jpg" in result.message
    assert "m019.jpg and 30 more" in result.message


def test_images_that_are_there_twice_or_empty(dataset: dict[str, Path], run_stage: Any) -> None:
    (dataset["images"] / "b.jpg").write_bytes(b"another")
    (dataset["images"] / "deep" / "val" / "a.jpg").write_bytes(b"")
    result, _ = run_stage(STAGE, {}, inputs=dataset)
    assert result.status == "data_error"
    assert "there more than once: b.jpg" in result.message and "empty: a.jpg" in result.message


def test_a_rule_that_keeps_nothing(dataset: dict[str, Path], run_stage: Any) -> None:
    value = coco()
    for image in value["images"]:
        image["license"] = 2
    (dataset["annotations"] / "some.json").write_text(json.dumps(value))
    result, _ = run_stage(STAGE, {}, inputs=dataset)
    assert result.status == "data_error" and "none of its 4 images" in result.message


# what is wrong with the annotations


def test_which_annotation_file(dataset: dict[str, Path], run_stage: Any) -> None:
    folder = dataset["annotations"]
    (folder / "captions.json").write_text("{}")
    result, _ = run_stage(STAGE, {}, inputs=dataset, attempt="1")
    assert result.status == "data_error"
    assert "2 JSON files: captions.json, some.json" in result.message
    (folder / "some.json").rename(folder / "instances_val2017.json")
    assert run_stage(STAGE, {}, inputs=dataset, attempt="2")[0].status == "ok"
    for path in folder.iterdir():
        path.unlink()
    result, _ = run_stage(STAGE, {}, inputs=dataset, attempt="3")
    assert result.status == "data_error" and "0 JSON files" in result.message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "some.json:1:1: not valid JSON"),
        (b'{"images": [\n  {"id": 1,]}', "some.json:2:12: not valid JSON"),
        (b'{"a": "\xff\xd8"}', "no JSON"),
        (b"[1, NaN]", "NaN"),
        (b"[" * 100_000, "some.json"),
        (b"1" * 5000, "some.json"),
        (b"[]", "the top is a list"),
        (b'"x"', "the top is a str"),
    ],
)
def test_files_that_are_no_json_objects(
    dataset: dict[str, Path], run_stage: Any, text: bytes, word: str
) -> None:
    (dataset["annotations"] / "some.json").write_bytes(text)
    result, out = run_stage(STAGE, {}, inputs=dataset)
    assert result.status == "data_error" and word in result.message, result.message
    assert list(out.iterdir()) == []


def put(key: str, index: int, field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(coco_: dict[str, Any]) -> None:
        coco_[key][index][field] = value

    return change


def drop(key: str, index: int, field: str) -> Callable[[dict[str, Any]], None]:
    def change(coco_: dict[str, Any]) -> None:
        del coco_[key][index][field]

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c.pop("licenses"), "licenses: missing"),
        (lambda c: c.pop("categories"), "categories: missing"),
        (lambda c: c.update(images={}), "images: a dict, a list was expected"),
        (lambda c: c.update(images=[]), "images: empty"),
        (lambda c: c["images"].append(7), "images[4]: a int, an object was expected"),
        (drop("images", 1, "id"), "images[1].id: missing"),
        (drop("images", 1, "license"), "images[1].license: missing"),
        (put("images", 0, "license", 99), "images[0].license: 99 is none of licenses"),
        (put("images", 0, "license", True), "images[0].license: True, a whole number"),
        (put("images", 0, "file_name", "../x.jpg"), "images[0].file_name: '../x.jpg', a plain"),
        (put("images", 0, "file_name", ".."), "images[0].file_name"),
        (put("images", 0, "file_name", "a\nb"), "images[0].file_name"),
        (put("images", 3, "file_name", "b.jpg"), "images[3].file_name: 'b.jpg' is images[0]'s"),
        (put("images", 3, "id", 30), "images[3].id: 30 is images[0]'s already"),
        (put("images", 0, "width", 0), "images[0].width: 0, a whole number above 0"),
        (put("images", 0, "height", "3"), "images[0].height: '3'"),
        (drop("annotations", 2, "bbox"), "annotations[2].bbox: missing"),
        (put("annotations", 0, "bbox", [1, 2, 3]), "annotations[0].bbox: [1, 2, 3]"),
        (put("annotations", 0, "bbox", [1, 2, -3, 4]), "annotations[0].bbox"),
        (put("annotations", 0, "bbox", [1, 2, 10**400, 4]), "annotations[0].bbox"),
        (put("annotations", 0, "iscrowd", 2), "annotations[0].iscrowd: 2, 0 or 1"),
        (put("annotations", 0, "area", None), "annotations[0].area: None, a number"),
        (put("annotations", 0, "image_id", 4), "annotations[0].image_id: 4 is none of images"),
        (put("annotations", 0, "category_id", 5), "annotations[0].category_id: 5 is none of"),
        (put("annotations", 0, "id", 3), "annotations[1].id: 3 is annotations[0]'s already"),
        (put("licenses", 0, "id", 2), "licenses[1].id: 2 is licenses[0]'s already"),
        (drop("licenses", 0, "url"), "licenses[0].url: missing"),
        (drop("categories", 0, "name"), "categories[0].name: missing"),
        (
            lambda c: c.update(annotations=[{"id": 1, "image_id": 30, "caption": "a man"}]),
            "captions_*.json",
        ),
    ],
)
def test_files_of_another_shape(change: Callable[[Any], Any], word: str) -> None:
    value = coco()
    change(value)
    with pytest.raises(DataError) as error:
        check_coco(value, "some.json")
    assert word in str(error.value) and "some.json" in str(error.value)


def test_many_problems_are_told_at_once_and_counted() -> None:
    value = coco()
    value["annotations"] = [{"id": n} for n in range(100)]
    with pytest.raises(DataError, match=r"annotations\[0\]\.image_id: missing(.|\n)*480 more"):
        check_coco(value, "some.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(["images", "annotations", "licenses", "categories"]), st.data())
def test_any_value_anywhere_is_taken_or_told(key: str, data: st.DataObject) -> None:
    value = copy.deepcopy(coco())
    entry = value[key][0]
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(JSON)
    try:
        check_coco(value, "some.json")
    except DataError as error:
        assert key in str(error) or "images" in str(error)
