"""The first task of a run: what it settles before anything starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from proctor.airflow.begin import BeginOperator
from proctor.airflow.schedule import Starts
from proctor.plan.model import Input, Plan, PlanStep
from proctor.site import mounts
from proctor.site.home import HOME_VARIABLE, Home

DATA = Input(name="data_path", mount_path="/raw", bound="data_path")
PLAN = Plan(
    pipeline="p", steps=(PlanStep(id="s", step="s", image="proctor/steps", inputs=(DATA,)),)
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    monkeypatch.setenv(HOME_VARIABLE, str(made.path))
    return made


def begin(run: str) -> None:
    operator = BeginOperator(task_id="begin", plan=PLAN, starts=Starts())
    operator.execute({"dag_run": SimpleNamespace(run_id=run, conf={})})


def test_no_run_begins_before_every_mount_is_bound(home: Home, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="give --mount data_path="):
        begin("r")
    record = home.records.run("p", "r")
    assert not record.exists()
    (home.path / "site.yaml").write_text("mount: {}\n")
    with pytest.raises(AirflowFailException, match="did you mean 'mounts'"):
        begin("r")
    (home.path / "site.yaml").unlink()
    mounts.keep(record, {"data_path": str(tmp_path / "scans")})
    (tmp_path / "scans").mkdir()
    begin("r")
    assert record.header().data["mounts"] == {"data_path": str(tmp_path / "scans")}
