"""MedPerf's way of preparing data over many subjects: one command, a person who reviews, files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from proctor_command import Finished, proctor_run

from medperf_kit import NAME, Reviewer, published, stand_in, write_site
from proctor.records.store import RecordStore

pytestmark = pytest.mark.docker
SUBJECTS = [
    f"P{number:02}/2019.0{number % 9 + 1}.0{visit}" for number in range(10) for visit in (1, 2)
]
MENDED = {SUBJECTS[3], SUBJECTS[11]}
IMAGE = "example/brain-prep:1"
# The published workflow for brain tumours, where a checkout of mlcommons/medperf is at hand.
PUBLISHED = "examples/RANO/data_preparator_workflow/workflow_dev.yaml"


def volume(place: str, source: str = "", output: str = "output_path") -> dict[str, Any]:
    more = {"from": {"step": source, "mount": output}} if source else {}
    return {"mount_path": f"/workspace/{place}", "type": "directory", **more}


def step(
    id: str, command: str, following: Any, inputs: dict[str, Any], *outputs: str, **more: Any
) -> dict[str, Any]:
    places = {"output_path": "data", "output_labels_path": "labels", "metadata_path": "metadata"}
    mounts = {
        "input_volumes": inputs,
        "output_volumes": {name: volume(places[name]) for name in outputs},
    }
    made = {"id": id, "type": "container", "image": IMAGE, "command": command, "mounts": mounts}
    return made | {"next": following, **more}


def workflow() -> dict[str, Any]:
    """Setup, steps for each subject with a review and a way back, an approval, the rest."""
    raw = {"data_path": volume("input_data")}
    data, both = ("output_path",), ("output_path", "output_labels_path")
    each: dict[str, Any] = {"partition": True}

    def after(*sources: tuple[str, str]) -> dict[str, Any]:
        place = {"output_path": "data", "output_labels_path": "labels", "metadata_path": "metadata"}
        return {f"{s}_{o}": volume(place[o], s, o) for s, o in sources}

    review = {
        "if": [
            {"condition": "annotation_done", "target": "compare"},
            {"condition": "brain_mask_changed", "target": "roll_back"},
        ],
        "else": "review",
        "wait": 3,
    }
    reviewed = after(("review", "output_path"), ("review", "output_labels_path"))
    gathered = after(("voxels", "output_path"), ("voxels", "output_labels_path"))
    moved = after(
        ("move", "output_path"), ("move", "output_labels_path"), ("convert", "metadata_path")
    )
    parameters = {"mount_path": "/workspace/parameters.yaml", "type": "file"}
    done = after(("consolidate", "output_path"), ("consolidate", "output_labels_path"))
    last = after(("consolidate", "output_path"))
    return {
        "steps": [
            step("setup", "initial_setup", "list", raw, *data),
            step("list", "make_csv", "convert", raw, *data, **each),
            step("convert", "convert_nifti", "brain", after(("list", "output_path")),
                 "output_path", "metadata_path", **each),
            step("brain", "extract_brain", "tumor", after(("convert", "output_path")), *data,
                 **each, limit=2),
            step("tumor", "extract_tumor", "review", after(("brain", "output_path")), *data,
                 **each),
            step("review", "prepare_for_manual_review", review, after(("tumor", "output_path")),
                 *both, **each),
            step("roll_back", "rollback_to_brain_extract", "brain", reviewed, *both, **each),
            step("compare", "segmentation_comparison", "voxels", reviewed, *both, **each),
            step("voxels", "calculate_changed_voxels", "confirm",
                 after(("compare", "output_path"), ("compare", "output_labels_path")), *both),
            {"id": "confirm", "type": "manual_approval", "next": "move"},
            step("move", "move_labeled_files", "consolidate", gathered, *both),
            step("consolidate", "consolidation_stage", "check",
                 {**moved, "parameters_file": parameters}, *both, "metadata_path"),
            step("check", "sanity_check", "metrics", done),
            step("metrics", "metrics", None, last, "metadata_path", "output_labels_path"),
        ],
        "conditions": [
            {"id": name, "type": "function", "function_name": f"conditions.{name}"}
            for name in ("annotation_done", "brain_mask_changed")
        ],
        "partition_def": {
            "type": "function",
            "function_name": "subject_definition.list_subjects",
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def image(docker_engine: Any) -> Iterator[str]:
    with stand_in(docker_engine) as id:
        yield id


def run(home: Path, spec: Path, image: str, theirs: str, site: dict[str, Path]) -> Finished:
    home.mkdir(exist_ok=True)
    profile = {
        "images": {theirs: f"{NAME}@{image}"},
        "mounts": {name: str(path) for name, path in site.items()},
    }
    (home / "site.yaml").write_text(yaml.safe_dump(profile))
    person = Reviewer(home / "runs", MENDED)
    person.start()
    try:
        return proctor_run(home, str(spec), {}, "--runtime", "docker", "--yes", seconds=2400)
    finally:
        person.over.set()


def check(done: Finished) -> None:
    assert done.code == 0, done.output
    assert done.summary["state"] == "succeeded"
    shared = done.folder / "shared"
    data, labels = shared / "output_path", shared / "output_labels_path"
    splits = (data / "splits.csv").read_text().split()
    assert sorted(splits) == sorted(f"{name},train" for name in SUBJECTS)
    # The published workflow has a file of its own at statistics.yaml, which is no shared one.
    statistics = shared / "metadata_path" / "statistics.yml"
    assert statistics.read_text() == f"cases: {len(SUBJECTS)}\n"
    for name in SUBJECTS:
        made = (labels / name / "final_seg.nii.gz").read_text()
        brain = "corrected" if name in MENDED else "automatic"
        assert made == f"tumor of {name} in {brain} brain"
    (record,) = RecordStore(done.home).runs()
    for name in SUBJECTS:
        lines = record.subject(name).lines()
        assert len([x for x in lines if x.kind == "round"]) == (1 if name in MENDED else 0)
    report = yaml.safe_load((done.folder / "report.yaml").read_text())
    assert report["execution_status"] == "done"
    assert set(report["progress"].values()) == {100.0}


def test_twenty_subjects_with_review_way_back_and_confirmation(
    home: Path, image: str, tmp_path: Path
) -> None:
    spec = tmp_path / "brain-prep.yaml"
    spec.write_text(yaml.safe_dump(workflow(), sort_keys=False))
    check(run(home, spec, image, IMAGE, write_site(home.parent / "site", SUBJECTS)))


def test_the_published_workflow_runs_as_it_is(home: Path, image: str, tmp_path: Path) -> None:
    spec = tmp_path / "published.yaml"
    spec.write_bytes(published(PUBLISHED))
    theirs = yaml.safe_load(spec.read_text())["steps"][0]["image"]
    check(run(home, spec, image, theirs, write_site(home.parent / "site", SUBJECTS)))
