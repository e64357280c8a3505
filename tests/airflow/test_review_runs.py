"""A review in Airflow: it waits for files, says which, takes them, and sends a subject back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
from airflow_site import Site, Started
from test_subject_runs import child, script, starts

from proctor.records.store import RunRecord
from proctor.runtime.artifacts import LocalArtifacts

SPEC = """
    pipeline: {name}
    partition_def: {{from: ingest.scans, glob: "*/*/"}}
    steps:
      - {{id: ingest, image: proctor/steps, command: dataset fetch, outputs: {{scans: directory}}}}
      - id: segment
        image: proctor/steps
        command: selfcheck act
        partition: true
        inputs: {{scan: {{from: ingest.scans, per_subject: true}}}}
        outputs: {{mask: directory}}
      - id: correct
        title: Correct the masks
        partition: true
        review:
          instructions: Open each mask and correct it.
          files: ["*.nii.gz"]
          send_back_to: segment
        inputs: {{mask: segment.mask}}
        outputs: {{mask: directory}}
      - id: compare
        image: proctor/steps
        command: selfcheck act
        partition: true
        inputs: {{mask: correct.mask}}
        outputs: {{o: directory}}
      - {{id: gather, image: proctor/steps, command: selfcheck act, inputs: {{o: compare.o}}}}
"""
MASK = {"segment": {"outputs": {"mask": {"tumor.nii.gz": "automatic", "log.txt": "l"}}}}


def started(site: Site, name: str, *subjects: str) -> Started:
    site.fake.script(script(list(subjects)) | MASK)
    return site.start(name, SPEC.format(name=name))


def folder(run: Started, subject: str, again: str = "") -> Path:
    found = sorted((run.record.folder / "review" / "correct").glob(f"{subject}-*{again}"))
    return found[0] if found else Path("/nonexistent")


def finish(run: Started, place: Path, text: str) -> None:
    """As a person would: save the corrected file where it belongs, some seconds ago."""
    target = place / "finished" / "tumor.nii.gz"
    target.write_text(text)
    then = time.time() - 60
    os.utime(target, (then, then))


def page(site: Site, path: str) -> httpx.Response:
    client: Any = site.instance.client
    token = client._http.headers["Authorization"].removeprefix("Bearer ")
    return httpx.get(f"{site.instance.url}{path}", cookies={"_token": token})


def task(site: Site, part: RunRecord, id: str, round: int = 1) -> str:
    name, run_id = child(site, part, round)
    if site.instance.client.run_state(name, run_id) is None:
        return ""
    return str(site.instance.client.task_states(name, run_id)[id]["state"])


def test_a_person_finishes_the_files_of_each_subject(site: Site) -> None:
    run = started(site, "review", "r/1", "r/2")
    for subject in ("r/1", "r/2"):
        part = run.record.subject(subject)
        run.until(lambda part=part: task(site, part, "correct") == "deferred")
    first, second = folder(run, "r_1"), folder(run, "r_2")
    assert (first / "to-review" / "tumor.nii.gz").read_text() == "automatic"
    assert not (first / "to-review" / "log.txt").exists()
    log = site.instance.client.log(*child(site, run.record.subject("r/1")), "correct", 1)
    assert f"tumor.nii.gz: outstanding; put it into {first / 'finished' / 'tumor.nii.gz'}" in log
    answer = page(site, f"/proctor/review/review/{run.record.run}")
    assert answer.status_code == 200
    assert (
        "2 waiting for a person" in answer.text and "Open each mask and correct it." in answer.text
    )
    assert str(second / "finished" / "tumor.nii.gz") in answer.text
    assert httpx.get(f"{site.instance.url}/proctor/review/review/x").status_code == 401
    finish(run, first, "corrected 1")
    run.until(lambda: task(site, run.record.subject("r/1"), "correct") == "success")
    assert "1 waiting for a person" in page(site, f"/proctor/review/review/{run.record.run}").text
    finish(run, second, "corrected 2")
    assert run.ended() == "success"
    line = run.record.subject("r/1").last("result", "correct")
    assert line is not None
    uri = line.data["outputs"]["mask"]["uri"]  # type: ignore[index, call-overload]
    store = LocalArtifacts(site.instance.home.path)
    assert store.files(str(uri)) == ["tumor.nii.gz"]
    assert store.read(str(uri), "tumor.nii.gz") == b"corrected 1"
    assert starts(site, run, "compare") == ["r/1", "r/2"]


def test_a_person_sends_a_subject_back(site: Site) -> None:
    run = started(site, "sent-back", "s/1")
    part = run.record.subject("s/1")
    run.until(lambda: task(site, part, "correct") == "deferred")
    (folder(run, "s_1") / "SEND-BACK.txt").write_text("the brain mask is wrong")
    run.until(lambda: task(site, part, "correct", round=2) == "deferred")
    run.until(lambda: task(site, part, "compare") == "skipped")
    assert starts(site, run, "segment") == ["s/1", "s/1"]
    again = folder(run, "s_1", "-2")
    finish(run, again, "corrected")
    assert run.ended() == "success"
    rounds = [line.data for line in part.lines() if line.kind == "round"]
    assert len(rounds) == 1 and "the brain mask is wrong" in str(rounds[0]["reason"])
    assert starts(site, run, "compare") == ["s/1"]
