"""The real model on real images, in real containers, fetched over http and from S3."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from proctor_command import Finished, processes_of, proctor_run

import yolo_reference
from proctor_steps.contract import file_sha256

pytestmark = [pytest.mark.docker, pytest.mark.data]

KEPT = 70  # images that the licence rule keeps
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")


def check(done: Finished, scenarios: tuple[str, ...], docker_engine: object, data: Path) -> None:
    assert done.code == 0, done.output
    assert done.summary["runtime"] == "docker"
    accuracy = done.accuracy()
    assert set(accuracy) == set(scenarios)
    for scenario, row in accuracy.items():
        assert row["samples"] == row["expected_samples"] == KEPT, scenario
        yolo_reference.check(data, row["value"])
    for scenario, result in done.results("performance").items():
        assert result["metrics"]["official"] is False, scenario
    assert (done.folder / "submission.tar.gz").is_file()
    assert processes_of(done.home) == []
    ours = docker_engine.containers.list(  # type: ignore[attr-defined]
        all=True, filters={"label": f"proctor.run={done.summary['run']}"}
    )
    assert ours == []


def test_over_http_in_every_scenario_and_again_only_what_changed(
    home: Path, http_server: str, yolo_archives: Path, shared_data: Path, docker_engine: object
) -> None:
    sources = {
        "images": "val2017.zip", "annotations": "instances_val2017.json", "model": "yolo11n.zip",
    }  # fmt: skip
    settings = {
        **{f"{name}_uri": f"{http_server}/{file}" for name, file in sources.items()},
        **{f"{name}_sha256": file_sha256(yolo_archives / f) for name, f in sources.items()},
        "scenarios": ",".join(SCENARIOS),
        "performance_seconds": 2,
        "min_query_count": 20,
    }
    done = proctor_run(home, "yolo-coco", settings, "--runtime", "docker", "--yes")
    check(done, SCENARIOS, docker_engine, shared_data)

    settings["performance_seconds"] = 3
    began = time.time()
    again = proctor_run(home, "yolo-coco", settings, "--runtime", "docker", "--yes")
    check(again, SCENARIOS, docker_engine, shared_data)
    behind = {"evidence", "package", "check", "report"}
    # What is tuned for is the length of the run.
    measured = {f"{step}.{scenario}" for step in ("tune", "performance") for scenario in SCENARIOS}
    assert containers_made(docker_engine, again, began) == measured | behind
    assert again.accuracy() == done.accuracy()

    began = time.time()
    flags = ("--runtime", "docker", "--yes", "--reuse-measurements", done.summary["run"])
    settings["performance_seconds"] = 2
    third = proctor_run(home, "yolo-coco", settings, *flags)
    assert third.code == 0, third.output
    assert containers_made(docker_engine, third, began) == behind
    report = (third.folder / "report.html").read_text()
    for scenario in SCENARIOS:
        of = f"yolo-coco/{done.summary['run']}/performance.{scenario}/1"
        assert of in third.output
        assert f"measured in {of}" in report


def containers_made(docker_engine: object, done: Finished, since: float) -> set[str]:
    """The steps of a run for which the engine made containers."""
    events = docker_engine.events(  # type: ignore[attr-defined]
        since=int(since), until=int(time.time()) + 1, decode=True,
        filters={"event": "create", "label": f"proctor.run={done.summary['run']}"},
    )  # fmt: skip
    return {event["Actor"]["Attributes"]["proctor.step"] for event in events}


def test_over_s3(home: Path, s3_server: str, shared_data: Path, docker_engine: object) -> None:
    import boto3

    keys = {"aws_access_key_id": "proctor", "aws_secret_access_key": "not-so-secret-4711"}
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="coco")
    sources = {
        "val2017": sorted((shared_data / "coco" / "val2017").iterdir()),
        "annotations": [shared_data / "coco" / "annotations" / "instances_val2017.json"],
        "model": sorted((shared_data / "yolo11n" / "yolo11n_int8_openvino_model").iterdir()),
    }
    for prefix, files in sources.items():
        for file in files:
            client.upload_file(str(file), "coco", f"{prefix}/{file.name}")
    secret = home / "secrets" / "s3"
    secret.parent.mkdir(parents=True)
    secret.write_text("[default]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()))
    secret.chmod(0o600)
    settings = {
        "images_uri": "s3://coco/val2017/",
        "annotations_uri": "s3://coco/annotations/instances_val2017.json",
        "model_uri": "s3://coco/model/",
        "s3_endpoint": s3_server,
        "scenarios": "Offline",
        "performance_seconds": 2,
        "min_query_count": 20,
    }
    done = proctor_run(home, "yolo-coco", settings, "--runtime", "docker", "--yes")
    check(done, ("Offline",), docker_engine, shared_data)
    written = [p for p in home.rglob("*") if p.is_file() and "postgres" not in p.parts]
    leaks = [p for p in written if b"not-so-secret-4711" in p.read_bytes() and p != secret]
    assert leaks == []
