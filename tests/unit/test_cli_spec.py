"""proctor check, plan and schema, as a person calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proctor.cli import app

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_check_of_a_shipped_pipeline() -> None:
    done = call("check", "demo", "yolo-coco")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["demo: ok, 24 steps", "yolo-coco: ok, 45 steps"]


def test_check_goes_on_after_a_broken_spec() -> None:
    broken = str(GOLDEN / "errors" / "cycle.yaml")
    done = call("check", broken, "demo")
    assert done.exit_code == 2
    assert "cycle.yaml:6:21: the steps form a cycle" in done.stderr
    assert f"{broken}: 2 problems" in done.stderr
    assert "demo: ok" in done.stdout


def test_check_shows_warnings() -> None:
    done = call("check", str(GOLDEN / "specs" / "medperf-line.yaml"))
    assert done.exit_code == 0
    assert "'on_error' has no effect" in done.stderr


@pytest.mark.parametrize("name", ["dmo", "absent.yaml", "absent/demo"])
def test_a_spec_that_is_not_there(name: str) -> None:
    done = call("check", name)
    assert done.exit_code == 2
    assert (
        "is neither a file nor a shipped pipeline" in done.stderr or "no such file" in done.stderr
    )


def test_plan_as_json() -> None:
    done = call("plan", "demo", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["pipeline"] == "demo"


def test_plan_with_settings() -> None:
    spec = str(GOLDEN / "specs" / "matrix.yaml")
    done = call("plan", spec, "--json", "--set", "sizes=2", "--set", "scenarios=Server")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["build_params"] == {"sizes": ["2"], "tag": "latest"}
    bad = call("plan", spec, "--set", "sizes=3")
    assert bad.exit_code == 2 and "sizes: it must be one of its choices" in bad.stderr


def test_plan_for_people() -> None:
    done = call("plan", "demo", "--set", "scenarios=Offline")
    assert done.exit_code == 0
    assert "performance.Server  (not selected)" in done.stdout
    assert "performance.Offline  (not" not in done.stdout
    assert "only with the approval of approve" in done.stdout


def test_plan_of_a_spec_with_required_parameters() -> None:
    done = call("plan", "yolo-coco")
    assert done.exit_code == 0
    assert "images_uri = (required)" in done.stdout


@pytest.mark.parametrize("setting", ["scenarios", "=x"])
def test_a_setting_that_is_none(setting: str) -> None:
    done = call("plan", "demo", "--set", setting)
    assert done.exit_code == 2 and "NAME=VALUE" in done.stderr


def test_unknown_settings_of_both_kinds() -> None:
    done = call("plan", "demo", "--set", "scenarois=Offline", "--set", "performance_seconds=0")
    assert done.exit_code == 2
    assert "did you mean 'scenarios'?" in done.stderr
    assert "performance_seconds: it must be at least 1" in done.stderr


def test_schema() -> None:
    assert json.loads(call("schema").stdout)["title"] == "A Proctor pipeline"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, proctor.cli;"
        "heavy = {'airflow', 'docker', 'numpy', 'yaml'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
