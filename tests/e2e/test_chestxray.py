"""MedPerf's way of preparing chest X-rays: three steps, mounts of the site, an image not ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from proctor_command import Finished, processes_of, proctor_run

from foreign_kit import NAME, stand_in
from medperf_kit import published
from proctor.records.store import RecordStore
from proctor.runtime.artifacts import LocalArtifacts
from proctor.site.home import Home
from proctor.site.verify import verify
from proctor_steps.contract import tree_digest

pytestmark = pytest.mark.docker
IMAGE = "example/chestxray-prep:0.1"
PUBLISHED = "examples/chestxray_tutorial/data_preparator_workflow/workflow.yaml"
CLASSES = ["effusion", "mass", "nodule"]
CASES = {f"0000{n:02}_000": CLASSES[n % 2] for n in range(12)}  # nobody has a nodule

WORKFLOW = f"""
image: &IMAGE
  image: {IMAGE}
  type: container
parameters: &PARAMETERS
  parameters_file: {{mount_path: /mlcommons/volumes/parameters/parameters_file.yaml, type: file}}
prepared: &PREPARED
  images:
    mount_path: /mlcommons/volumes/data
    from: {{step: prepare, mount: output_path}}
  labels:
    mount_path: /mlcommons/volumes/labels
    from: {{step: prepare, mount: output_labels_path}}
steps:
  - id: prepare
    <<: *IMAGE
    command: prepare
    mounts:
      input_volumes:
        <<: *PARAMETERS
        data_path: {{mount_path: /mlcommons/volumes/raw_data, type: directory}}
        labels_path: {{mount_path: /mlcommons/volumes/raw_labels, type: directory}}
      output_volumes:
        output_path: {{mount_path: /mlcommons/volumes/data, type: directory}}
        output_labels_path: {{mount_path: /mlcommons/volumes/labels, type: directory}}
    next: sanity_check
  - id: sanity_check
    <<: *IMAGE
    command: sanity_check
    mounts:
      input_volumes: {{<<: [*PARAMETERS, *PREPARED]}}
    next: statistics
  - id: statistics
    <<: *IMAGE
    command: statistics
    mounts:
      input_volumes: {{<<: [*PARAMETERS, *PREPARED]}}
      output_volumes:
        statistics_file: {{mount_path: /mlcommons/volumes/statistics/statistics.yaml, type: file}}
    next: null
"""


@pytest.fixture(scope="module")
def image(docker_engine: Any) -> Iterator[str]:
    with stand_in(docker_engine) as id:
        yield id


@pytest.fixture
def site(home: Path) -> Path:
    """What a hospital has, beside its home."""
    folder = home.parent / "hospital"
    (folder / "scans").mkdir(parents=True)
    (folder / "labels").mkdir()
    for name in CASES:
        (folder / "scans" / f"{name}.png").write_bytes(f"picture of {name}".encode())
    rows = "".join(f"{name},{label}\n" for name, label in CASES.items())
    (folder / "labels" / "labels.csv").write_text(f"Image ID,Label\n{rows}")
    (folder / "parameters.yaml").write_text(json.dumps({"labels_list": CLASSES}))
    return folder


def run(home: Path, spec: Path, theirs: str, image: str, site: Path) -> Finished:
    """Two mounts by the profile, one for the run."""
    home.mkdir(exist_ok=True)
    profile = {
        "mounts": {"data_path": str(site / "scans"), "labels_path": str(site / "labels")},
        "images": {theirs: f"{NAME}@{image}"},
    }
    (home / "site.yaml").write_text(yaml.safe_dump(profile))
    flags = ("--runtime", "docker", "--mount", f"parameters_file={site / 'parameters.yaml'}")
    return proctor_run(home, str(spec), {}, *flags)


def check(done: Finished, theirs: str, image: str, site: Path) -> None:
    assert done.code == 0, done.output
    assert done.summary["state"] == "succeeded"
    assert {step["id"]: step["state"] for step in done.summary["steps"]} == dict.fromkeys(
        ("prepare", "sanity_check", "statistics"), "succeeded"
    )
    home = Home(done.home)
    (record,) = RecordStore(done.home).runs()
    line = record.last("result", "prepare")
    assert line is not None
    outputs: Any = line.data["outputs"]
    store = LocalArtifacts(done.home)
    for name in ("output_path", "output_labels_path"):
        place = store.path(outputs[name]["uri"])
        assert {path.stem for path in place.iterdir()} == set(CASES)
        assert outputs[name]["sha256"] == tree_digest(place)[0]
    last: Any = record.last("result", "statistics")
    made = json.loads(store.path(last.data["outputs"]["statistics_file"]["uri"]).read_text())
    assert made == {"num_cases": 12, "labels_count": {"effusion": 6, "mass": 6, "nodule": 0}}
    assert (line.data["image"], line.data["image_digest"]) == (theirs, image)
    assert line.data["local_image"] == f"{NAME}@{image}"
    assert record.header().data["mounts"] == {
        "data_path": str(site / "scans"), "labels_path": str(site / "labels"),
        "parameters_file": str(site / "parameters.yaml"),
    }  # fmt: skip
    assert {each.state for each in verify(home, record)} == {"good"}
    assert processes_of(done.home) == []


def test_a_workflow_of_its_shape(home: Path, image: str, site: Path, tmp_path: Path) -> None:
    spec = tmp_path / "chestxray.yaml"
    spec.write_text(WORKFLOW)
    unbound = proctor_run(home, str(spec), {}, "--runtime", "docker")
    assert unbound.code == 2
    for name, kind in (
        ("data_path", "directory"), ("labels_path", "directory"), ("parameters_file", "file"),
    ):  # fmt: skip
        assert f"give --mount {name}=/path/to/the/{kind} to `proctor run`" in unbound.output
    check(run(home, spec, IMAGE, image, site), IMAGE, image, site)


def test_wrong_data_ends_it_with_the_images_own_words(
    home: Path, image: str, site: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "chestxray.yaml"
    spec.write_text(WORKFLOW)
    (site / "scans" / "000003_000.png").unlink()
    done = run(home, spec, IMAGE, image, site)
    assert done.code == 1
    states = {step["id"]: step for step in done.summary["steps"]}
    assert states["prepare"]["state"] == "failed"
    assert "it ended with exit code 1; its last lines" in states["prepare"]["message"]
    assert "000003_000.png" in states["prepare"]["message"]
    assert states["sanity_check"]["state"] == "pending"


def test_the_published_workflow_runs_as_it_is(
    home: Path, image: str, site: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "published.yaml"
    spec.write_bytes(published(PUBLISHED))
    theirs = yaml.safe_load(spec.read_text())["steps"][0]["image"]
    check(run(home, spec, theirs, image, site), theirs, image, site)
