"""A data site's one command, from the example data to a catalogue that its person agreed to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from proctor_command import _environment, interrupt, processes_of, wait_for_line

from proctor.records.store import RecordStore
from proctor.site.client import AirflowClient
from proctor.site.home import Home
from proctor.site.settings import Credentials, user_name

pytestmark = pytest.mark.docker
BROKEN = "data/subject-05"


def proctor(*words: str) -> list[str]:
    return [sys.executable, "-c", "from proctor.cli import main; main()", *words]


def start(folder: Path) -> Any:
    words = ["site", "run", "site-inventory"]
    words += ["--data", str(folder / "data"), "--output", str(folder / "out")]
    return subprocess.Popen(
        proctor(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=_environment(), start_new_session=True,
    )  # fmt: skip


def approve(home: Home, run: str) -> None:
    url = json.loads((home.path / "airflow" / "url.json").read_text())["url"]
    client = AirflowClient(url, user_name(), Credentials.of(home).password)
    time.sleep(3)  # as a person would; Airflow may still hold the task that asked
    form = {"evidence_reviewed": True, "comment": "complete"}
    client.answer("site-inventory", run, "complete", "Approve", form)


def attempts(home: Home) -> dict[str, int]:
    """How often each subject's inventory was run, in all runs."""
    found: dict[str, int] = {}
    for record in RecordStore(home.path).runs():
        for part in record.subjects():
            made = {x.attempt for x in part.lines() if x.kind == "attempt" and x.data.get("handle")}
            found[part.partition] = found.get(part.partition, 0) + len(made)
    return found


def test_one_command_names_what_is_wrong_goes_on_and_asks(home: Path, steps_image: None) -> None:
    folder = home.parent / "site"
    laid_out = subprocess.run(
        proctor("site", "example", str(folder)), capture_output=True, text=True
    )
    assert laid_out.returncode == 0, laid_out.stderr
    assert f"--data {folder / 'data'} --output {folder / 'out'}" in laid_out.stdout
    (picture, *_) = sorted((folder / BROKEN).iterdir())
    whole = picture.read_bytes()
    picture.write_bytes(whole[:-50])

    output, _ = (first := start(folder)).communicate(timeout=400)
    assert first.returncode == 1, output
    assert "1 of 12 subjects failed (subject-05)" in output
    (failed,) = RecordStore(folder / "out" / ".proctor").runs()
    told = failed.subject("subject-05").last("result", "inventory")
    assert told is not None and f"{picture.name}: {picture.name} cannot be decoded" in str(
        told.data
    )

    picture.write_bytes(whole)
    second = start(folder)
    wait_for_line(second, "complete waits for an answer")
    code, _ = interrupt(second, signal.SIGTERM)  # the lid is closed
    assert code == 130
    third = start(folder)
    wait_for_line(third, "complete waits for an answer")
    here = Home(folder / "out" / ".proctor")
    run = next(r.run for r in RecordStore(here.path).runs() if r.run != failed.run)
    approve(here, run)
    output, _ = third.communicate(timeout=120)
    assert third.returncode == 0, output
    made = json.loads((folder / "out" / "site-inventory" / "catalogue.json").read_text())
    assert (made["subjects"], made["files"]) == (12, 96)
    # Only what was mended ran again.
    assert attempts(here) == {f"subject-{n:02}": 2 if n == 5 else 1 for n in range(1, 13)}
    assert processes_of(folder) == []
