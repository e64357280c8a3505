"""What is measured is what is scored: the bytes of a sample are the same in both modes.

LoadGen itself logs the payloads, in a performance run by its sampling of accuracy (as compliance
tests ask for it); the system under test does not know which mode it is in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.benchmarks.detection import CONFIDENCE
from proctor_steps.loadgen.child import Job, Outcome

from .conftest import IMAGES, make_model

# The LoadGen process as it is, but for LoadGen's own switch that logs answers.
_LOGGING = """
import sys
from proctor_steps.benchmarks import detection
from proctor_steps.loadgen import child, settings
detection.CONFIDENCE = {confidence}
made = settings.make
def logging(*given):
    test = made(*given)
    test.accuracy_log_sampling_target = 1 << 40
    return test
settings.make = logging
child.main(sys.argv)
"""


def payloads(
    folder: Path, dataset: Path, model: Path, confidence: float = CONFIDENCE, **given: Any
) -> dict[int, set[str]]:
    """Every payload of every sample that LoadGen saw, as hexadecimal text."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    job = Job(
        **{
            "benchmark": "digits", "backend": "onnxruntime", "endpoint": None, "round": "v6.1",
            "performance_seconds": 0.25, "threads": 2, "workers": None, "target_qps": 300.0,
            "expected_latency_ms": 1.0, "server_target_latency_ms": None, "min_query_count": 1,
        } | given,
        dataset=dataset, model=model, logs=logs, pulse=folder / "pulse",
        outcome=folder / "outcome.json", parent=os.getpid(),
    )  # fmt: skip
    path = folder / "job.json"
    path.write_text(job.model_dump_json())
    script = _LOGGING.format(confidence=confidence)
    done = subprocess.run([sys.executable, "-c", script, str(path)], timeout=100)
    assert done.returncode == 0
    outcome = Outcome.model_validate_json(job.outcome.read_bytes())
    assert outcome.status == "ok", outcome.message
    found: dict[int, set[str]] = defaultdict(set)
    for index, text in accuracy_log.entries(logs / accuracy_log.NAME):
        found[index].add(text)
    return found


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
def test_both_modes_answer_with_the_same_bytes(
    scenario: str, batch: int, dataset: Path, model: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"scenario": scenario, "batch": batch}
    scored = payloads(tmp_path / "accuracy", dataset, model, mode="accuracy", **given)
    timed = payloads(tmp_path / "performance", dataset, model, mode="performance", **given)
    assert set(scored) == set(range(IMAGES))
    assert {len(texts) for texts in scored.values()} == {1}
    assert len(set.union(*scored.values())) == IMAGES
    assert len(timed) > IMAGES / 2
    assert timed == {index: scored[index] for index in timed}


def test_another_threshold_when_timed_would_be_seen(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"scenario": "Offline", "batch": 1}
    scored = payloads(tmp_path / "accuracy", dataset, model, mode="accuracy", **given)
    timed = payloads(tmp_path / "timed", dataset, model, 0.4, mode="performance", **given)
    assert timed != {index: scored[index] for index in timed}


def test_a_model_of_a_fixed_batch_answers_with_the_same_bytes(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    fixed = make_model(tmp_path / "model", batch=4)
    given: dict[str, Any] = {"scenario": "MultiStream", "batch": 0}
    one = payloads(tmp_path / "one", dataset, model, mode="accuracy", **given)
    four = payloads(tmp_path / "four", dataset, fixed, mode="performance", **given)
    assert four == {index: one[index] for index in four}
