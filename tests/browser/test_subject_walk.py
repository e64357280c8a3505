"""An operator's walk: one subject of three fails, its file is mended, its step alone is cleared."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from airflow_ui import PATIENCE_MS, Visitor, until
from playwright.sync_api import Browser, expect

from medperf_kit import NAME, stand_in, write_site
from proctor.airflow.dag import task_ids
from proctor.airflow.subjects import run_id
from proctor.plan.compile import load_plan
from proctor.records.store import RunRecord
from proctor.site.home import Home
from proctor.site.instance import Instance, running

pytestmark = pytest.mark.docker
IMAGE = "example/brain-prep-walk:1"
SUBJECTS = ["A01/2019.01.01", "B02/2019.02.01", "C03/2019.03.01"]
BROKEN = SUBJECTS[1]
SPEC = f"""
pipeline: walk
title: Prepare brain scans
partition_def: {{type: function, function_name: subject_definition.list_subjects}}
base: &STEP
  type: container
  image: {IMAGE}
from_list: &LIST {{step: list, mount: output_path}}
steps:
  - id: list
    <<: *STEP
    title: List the scans
    command: make_csv
    partition: true
    mounts:
      input_volumes: {{data_path: {{mount_path: /workspace/input_data, type: directory}}}}
      output_volumes: {{output_path: {{mount_path: /workspace/data, type: directory}}}}
    next: convert
  - id: convert
    <<: *STEP
    title: Convert to NIfTI
    command: convert_nifti
    partition: true
    mounts:
      input_volumes:
        in: {{mount_path: /workspace/data, type: directory, from: *LIST}}
      output_volumes:
        output_path: {{mount_path: /workspace/data, type: directory}}
        metadata_path: {{mount_path: /workspace/metadata, type: directory}}
    next: gather
  - {{id: gather, type: dummy, title: All subjects are there, next: null}}
"""
# Where its screenshots go, for a person to look at; nowhere unless named.
PICTURES = os.environ.get("PROCTOR_PICTURES")


@pytest.fixture
def instance(docker_engine: Any, steps_image: None, chromium: str) -> Iterator[Instance]:
    folder = Path(tempfile.mkdtemp(prefix="proctor-walk-"))
    folder.chmod(0o711)
    before = dict(os.environ)
    home = Home(folder / ".proctor")
    home.create()
    (folder / "walk.yaml").write_text(SPEC)
    site = write_site(folder, SUBJECTS)
    try:
        with stand_in(docker_engine) as id:
            profile = {
                "images": {IMAGE: f"{NAME}@{id}"},
                "mounts": {name: str(path) for name, path in site.items()},
            }
            (home.path / "site.yaml").write_text(yaml.safe_dump(profile))
            home.register("walk", folder / "walk.yaml", {})
            with running(home, "docker", sys.stderr) as started:
                yield started
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def picture(visitor: Visitor, name: str) -> None:
    if PICTURES:
        visitor.page.wait_for_timeout(1500)
        visitor.page.screenshot(path=str(Path(PICTURES) / f"walk-{name}.png"))


def test_one_subject_is_mended_and_cleared_alone(
    instance: Instance, chromium_browser: Browser
) -> None:
    plan = load_plan(instance.home.pipelines()["walk"].spec)
    client, raw = instance.client, instance.home.path.parent / "input" / BROKEN / "t1c" / "scan.dcm"
    raw.write_bytes(b"")
    for name, wanted in task_ids(plan).items():
        until(lambda name=name, wanted=wanted: client.has_dag(name, wanted), 120, name)
    client.trigger("walk", "r1", {})
    record = instance.home.records.run("walk", "r1")
    runs = {name: run_id(record.subject(name), 1) for name in SUBJECTS}

    def state(name: str) -> str | None:
        return client.run_state("walk.subjects-1", runs[name])

    until(lambda: state(BROKEN) == "failed", 180, "the failure")
    others = [name for name in SUBJECTS if name != BROKEN]
    until(lambda: all(state(name) == "success" for name in others), 180, "the other subjects")
    assert client.run_state("walk", "r1") == "running"

    expect.set_options(timeout=PATIENCE_MS)
    visitor = Visitor.of(chromium_browser, instance).log_in(instance)
    page = visitor.page
    page.goto(f"{instance.url}/dags/walk.subjects-1/runs")
    expect(page.get_by_text("failed", exact=False).first).to_be_visible()
    picture(visitor, "1-subjects")
    page.goto(f"{instance.url}/dags/walk.subjects-1/runs/{quote(runs[BROKEN], safe='')}/tasks/list")
    expect(page.get_by_text(f"{BROKEN}/t1c/scan.dcm: is empty").first).to_be_visible()
    picture(visitor, "2-log-names-the-file")

    raw.write_text("mended")
    page.keyboard.press("Shift+C")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    picture(visitor, "3-clear")
    dialog.get_by_role("button", name=re.compile("Confirm|Clear")).last.click()
    until(lambda: client.run_state("walk", "r1") == "success", 180, "the end of the run")
    page.goto(f"{instance.url}/dags/walk/runs/r1")
    expect(page.get_by_text("success", exact=False).first).to_be_visible()
    picture(visitor, "4-done")
    assert attempts(record, BROKEN) == {"list": 2, "convert": 1}
    for name in others:
        assert attempts(record, name) == {"list": 1, "convert": 1}


def attempts(record: RunRecord, subject: str) -> dict[str, int]:
    lines = [x for x in record.subject(subject).lines() if x.kind == "attempt"]
    return {step: max(x.attempt for x in lines if x.step == step) for step in ("list", "convert")}
