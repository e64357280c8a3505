"""MedPerf's functions in a container: found, called, and what is wrong with them in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proctor_steps.contract import Contract, Mount
from proctor_steps.medperf import conditions, subjects
from proctor_steps.stage import DataError, StepIO

MODULE = """
import os


def visits(state):
    root = state.host_input_data_path
    found = [f"{a}/{b}" for a in os.listdir(root) for b in os.listdir(os.path.join(root, a))]
    print("looked at", len(found))
    return found


def finalized(state):
    place = os.path.join(state.host_output_data_path, state.running_subject, "finalized")
    return len(os.listdir(place)) == 1


def number(state):
    return 7


def nobody(state):
    return []
"""


@pytest.fixture
def io(tmp_path: Path) -> StepIO:
    for name in ("additional_files", "data_path/p1/t1", "data_path/p2/t1", "output_path", "out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "additional_files" / "rules.py").write_text(MODULE)
    (tmp_path / "additional_files" / "broken.py").write_text("def f(:\n")
    names = ("additional_files", "data_path", "output_path")
    mounts = [Mount(name=name, kind="input", path=str(tmp_path / name)) for name in names]
    mounts.append(Mount(name="subjects", kind="output", path=str(tmp_path / "out")))
    made = Contract(pipeline="p", run="r", step="s", partition="p1/t1", mounts=tuple(mounts))
    return StepIO(made, tmp_path)


def test_subjects_are_what_the_function_gives(io: StepIO) -> None:
    subjects.run(subjects.Params(function="rules.visits"), io)
    assert json.loads((io.output("subjects") / "subjects.json").read_text()) == ["p1/t1", "p2/t1"]


def test_conditions_are_asked_up_to_the_first_that_holds(io: StepIO) -> None:
    place = Path(io.contract.mounts[2].path) / "p1" / "t1" / "finalized"
    place.mkdir(parents=True)
    asked = conditions.Params(functions=("rules.finalized", "rules.number", "rules.visits"))
    conditions.run(asked, io)
    assert io.metrics["holds"] == {"rules.finalized": False, "rules.number": True}
    (place / "mask.nii.gz").write_text("m")
    conditions.run(asked, io)
    assert io.metrics["holds"] == {"rules.finalized": True}


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("rules.visit", r"has no function 'visit'; did you mean 'visits'\?"),
        ("rule.visits", r"has no rule.py; did you mean 'rules'\?"),
        ("visits", "write module.function"),
        ("broken.f", r"broken.py cannot be loaded at broken.py:1: SyntaxError"),
        ("rules.number", "gives int, not a list of texts"),
        ("rules.nobody", "finds no subject"),
        ("rules.finalized", r"failed at rules.py:\d+: FileNotFoundError"),
    ],
)
def test_what_is_wrong_is_told(io: StepIO, function: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        subjects.run(subjects.Params(function=function), io)


def test_without_the_files_there_is_no_function(io: StepIO) -> None:
    bare = StepIO(io.contract.model_copy(update={"mounts": ()}), io.folder)
    with pytest.raises(DataError, match="no 'additional_files' are mounted"):
        subjects.run(subjects.Params(function="rules.visits"), bare)
