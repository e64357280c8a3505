"""What makes two steps the same, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from proctor.plan.identity import identity_parts
from proctor.plan.model import Input, PlannedOutput, PlanStep, Resources, Source

STEP = PlanStep(
    id="score.Offline",
    step="score",
    cell="Offline",
    image="proctor/steps",
    inputs=(Input(name="logs", mount_path="/in", sources=(Source(step="a", output="logs"),)),),
    outputs=(PlannedOutput(name="score", mount_path="/out"),),
)
SAME: dict[str, Any] = {
    "command": ("accuracy", "score"),
    "image_identity": "sha256:1",
    "params": {"round": "v6.1", "benchmark": "yolo"},
    "input_digests": {"logs": "aa"},
}


def test_the_same() -> None:
    reordered = {**SAME, "params": dict(reversed(list(SAME["params"].items())))}
    assert identity_parts(STEP, **SAME) == identity_parts(STEP, **reordered)
    renamed = STEP.model_copy(update={"title": "Other", "deadline_seconds": 7.0, "id": "other"})
    assert identity_parts(STEP, **SAME) == identity_parts(renamed, **SAME)


@pytest.mark.parametrize(
    "other",
    [
        {"command": ("accuracy", "score", "--fast")},
        {"image_identity": "process:1"},
        {"params": {"round": "v6.0", "benchmark": "yolo"}},
        {"input_digests": {"logs": "ab"}},
        {"input_digests": {"logs/Offline": "aa"}},
        {"approvals": ("dd",)},
        {"source_versions": {"uri": "etag"}},
    ],
)
def test_what_is_given_counts(other: dict[str, Any]) -> None:
    assert identity_parts(STEP, **SAME) != identity_parts(STEP, **{**SAME, **other})


@pytest.mark.parametrize(
    "update",
    [
        {"seed": 7},
        {"outputs": ()},
        {"outputs": (PlannedOutput(name="score", mount_path="/elsewhere"),)},
        {"inputs": (STEP.inputs[0].model_copy(update={"mount_path": "/elsewhere"}),)},
        {"required_approvals": ("gate",)},
    ],
)
def test_what_the_plan_says_counts(update: dict[str, Any]) -> None:
    assert identity_parts(STEP, **SAME) != identity_parts(STEP.model_copy(update=update), **SAME)


def test_a_measurement_belongs_to_its_host() -> None:
    measuring = STEP.model_copy(update={"reuse": "within_run", "exclusive": True})
    here = identity_parts(measuring, **SAME, host_fingerprint={"cpu": "a"})
    assert here == identity_parts(measuring, **SAME, host_fingerprint={"cpu": "a"})
    assert here != identity_parts(measuring, **SAME, host_fingerprint={"cpu": "b"})
    smaller = measuring.model_copy(update={"resources": Resources(cpus=1)})
    assert here != identity_parts(smaller, **SAME, host_fingerprint={"cpu": "a"})
    with pytest.raises(ValueError, match="needs the host's fingerprint"):
        identity_parts(measuring, **SAME)


def test_other_steps_do_not() -> None:
    assert identity_parts(STEP, **SAME) == identity_parts(
        STEP, **SAME, host_fingerprint={"cpu": "b"}
    )
