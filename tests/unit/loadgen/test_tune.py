"""Real LoadGen runs of the stage ``loadgen tune``, and ``loadgen run`` with what it found."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endpoint_kit import Proxy, served
from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.loadgen import run, tune
from proctor_steps.loadgen.probe import Goal
from proctor_steps.loadgen.tuning import Tuning
from proctor_steps.stage import Stage, execute

# The server behind the proxy answers one request at a time, and takes so long for each.
SERVICE_S = 0.01


def stage(
    which: Stage[Any], folder: Path, inputs: dict[str, Path], url: str = "", **params: Any
) -> tuple[Result, Path]:
    """Run a stage from a contract, as the orchestrator does; its result and its one output."""
    (name,) = which.outputs
    out = folder / name
    out.mkdir(parents=True)
    mounts = [Mount(name=key, kind="input", path=str(path)) for key, path in inputs.items()]
    mounts.append(Mount(name=name, kind="output", path=str(out)))
    given = {"benchmark": "digits"} | params
    given |= {"sut": "endpoint"} if url else {"backend": "onnxruntime", "threads": 1}
    services = {"slow": url} if url else {}
    made = Contract(
        pipeline="p", run="r", step="s", params=given, mounts=tuple(mounts), services=services,
        deadline_seconds=200,
    )  # fmt: skip
    execute(which, made, folder)
    result = load_result(folder)
    assert result is not None
    return result, out


def found(out: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((out / "tuning.json").read_text())
    return made


@pytest.fixture(scope="module")
def slow(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A system of known capacity: 100 requests a second, no more."""
    turn = threading.Lock()

    def wait(number: int) -> str:
        with turn:
            time.sleep(SERVICE_S)
        return "pass"

    with (
        served(tmp_path_factory.mktemp("server") / "step", model) as server,
        Proxy(server.url, wait) as proxy,
    ):
        yield proxy.url


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Offline"])
def test_what_is_expected_is_what_the_run_finds(
    scenario: str, dataset: Path, slow: str, tmp_path: Path
) -> None:
    inputs = {"dataset": dataset}
    seconds = {"performance_seconds": 3}
    result, out = stage(tune.STAGE, tmp_path / "tune", inputs, slow, scenario=scenario, **seconds)
    assert result.status == "ok", result.message
    tuned = found(out)
    assert tuned["certain"] and tuned["ended"] == "found" and len(tuned["trials"]) >= 3
    inputs["tuning"] = out
    result, logs = stage(
        run.STAGE, tmp_path / "run", inputs, slow, scenario=scenario, mode="performance", **seconds
    )
    assert result.status == "ok", result.message
    measured: Any = result.metrics["loadgen"]
    assert measured["duration_s"] >= 3
    assert measured["sut"]["calibrated"] is None
    assert "calibrated_again" not in {finding.rule for finding in result.findings}
    if scenario == "Offline":
        ratio = tuned["target_qps"] / measured["metric"]["value"]
    else:
        ratio = measured["duration_s"] * 1e3 / measured["queries"] / tuned["target_latency_ms"]
    # Twice as fast and LoadGen would have run out of queries; the machine may have been busier.
    assert 0.5 < ratio < 5
    lines = (out / "user.conf").read_text().splitlines()[1:]
    assert [line.rpartition(" = ")[0] for line in lines] == [
        f"digits.{scenario}.target_{'qps' if scenario == 'Offline' else 'latency'}"
    ]
    assert set(lines) <= set((logs / "user.conf").read_text().splitlines())


def test_server_finds_a_rate_below_the_capacity(dataset: Path, slow: str, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "scenario": "Server", "server_target_latency_ms": 500, "performance_seconds": 5,
    }  # fmt: skip
    result, out = stage(
        tune.STAGE, tmp_path / "tune", {"dataset": dataset}, slow,
        budget_seconds=150, resolution=0.3, **common,  # a quiet machine needs a third of it
    )  # fmt: skip
    assert result.status == "ok", result.message
    tuned = found(out)
    assert tuned["took_s"] < 170
    assert 3 < tuned["target_qps"] < 1 / SERVICE_S
    assert tuned["limit_ms"] == 500 and tuned["scenario_in_round"] is False
    rules_told = {finding.rule for finding in result.findings}
    assert "scenario_in_round" in rules_told
    assert ("tuning_no_room" in rules_told) == (tuned["room"] == 0)
    assert any(probe["verdict"] == "misses" for probe in tuned["probes"])
    for probe in tuned["probes"]:
        if probe["qps"] > 1.3 / SERVICE_S:
            assert probe["verdict"] == "misses" and probe["cut_short"]
        assert probe["low"] <= probe["share"] <= probe["high"]
    assert result.metrics["tuning"] == tuned
    result, _ = stage(
        run.STAGE, tmp_path / "run", {"dataset": dataset, "tuning": out}, slow,
        mode="performance", **common,
    )  # fmt: skip
    assert result.status == "ok", result.message
    measured: Any = result.metrics["loadgen"]
    effective = measured["settings"]["effective"]
    assert effective["target_qps"] == pytest.approx(tuned["target_qps"], abs=1e-4)
    assert effective["max_async_queries"] == 0
    assert "tuned_otherwise" not in {finding.rule for finding in result.findings}
    rules = {rule["rule"]: rule["met"] for rule in measured["rules"]}
    assert rules["seed_schedule"] is True


@pytest.mark.parametrize(
    ("qps", "seconds", "room", "told"),
    [
        (10.0, 60, 0, "from 66 s on it allows one, in 600 s 42"),
        (12.0, 60, 1, ""),
        (0.5, 60, 0, "from 1324 s on it allows one, in 2648 s 5"),
    ],
)
def test_a_run_that_may_have_no_late_query_is_told_of(
    qps: float, seconds: float, room: int, told: str
) -> None:
    goal = Goal(seconds, 0.99, 250, 459, 0.05, 1e4)
    assert goal.room(qps) == room
    tuned = Tuning(
        benchmark="yolo", round="v6.1", scenario="Server", scenario_in_round=False,
        performance_seconds=seconds, percentile=99, target_qps=qps, room=room, ended="found",
        certain=True, budget_s=900, took_s=600,
    )  # fmt: skip
    words = tune.no_room(tuned)
    assert words.endswith(told) if told else not words


@pytest.mark.parametrize("chance", [0.4, 0.96, None])
def test_a_rate_that_promises_too_little_is_told_of(chance: float | None) -> None:
    tuned = Tuning(
        benchmark="yolo", round="v6.1", scenario="Server", scenario_in_round=False,
        performance_seconds=60, percentile=99, target_qps=10, noise=0.08, chance=chance,
        ended="found", certain=True, budget_s=900, took_s=600,
    )  # fmt: skip
    words = tune.unsteady(tuned)
    assert bool(words) == (chance == 0.4)
    assert not words or ("8.0% from run to run" in words and "a probability of 40%" in words)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_chance_is_told_where_one_worker_answers(
    workers: int, dataset: Path, model: Path, tmp_path: Path
) -> None:
    result, out = stage(
        tune.STAGE, tmp_path, {"dataset": dataset, "model": model}, scenario="Server",
        server_target_latency_ms=500, performance_seconds=2, highest_qps=100, workers=workers,
        budget_seconds=150,
    )  # fmt: skip
    assert result.status == "ok", result.message
    assert (found(out)["chance"] is None) == (workers == 2)
    unsteady = "tuning_unsteady" in {finding.rule for finding in result.findings}
    assert unsteady == bool(tune.unsteady(Tuning(**found(out))))


def test_a_limit_that_no_rate_meets(dataset: Path, slow: str, tmp_path: Path) -> None:
    result, out = stage(
        tune.STAGE, tmp_path, {"dataset": dataset}, slow,
        scenario="Server", server_target_latency_ms=5, performance_seconds=6,
    )  # fmt: skip
    assert result.status == "step_error"
    assert "more than the limit of 5 ms" in result.message
    assert "server_target_latency_ms" in result.message
    assert not list(out.iterdir())


def test_a_budget_of_nothing_leaves_it_to_the_calibration(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    inputs = {"dataset": dataset, "model": model}
    result, out = stage(
        tune.STAGE, tmp_path / "tune", inputs, scenario="SingleStream", budget_seconds=0
    )
    assert result.status == "ok", result.message
    assert found(out)["ended"] == "off"
    result, _ = stage(
        run.STAGE, tmp_path / "run", inputs | {"tuning": out}, scenario="SingleStream",
        mode="performance", performance_seconds=0.5,
    )  # fmt: skip
    assert result.status == "ok", result.message
    measured: Any = result.metrics["loadgen"]
    assert measured["sut"]["calibrated"] is not None


def test_too_few_queries_for_any_verdict(dataset: Path, model: Path, tmp_path: Path) -> None:
    result, _ = stage(
        tune.STAGE, tmp_path, {"dataset": dataset, "model": model}, scenario="Server",
        min_query_count=300,
    )  # fmt: skip
    assert result.status == "step_error"
    assert "min_query_count 300 is too small" in result.message


def test_a_budget_too_small(dataset: Path, model: Path, tmp_path: Path) -> None:
    inputs = {"dataset": dataset, "model": model}
    for scenario in ("Server", "Offline"):
        result, _ = stage(
            tune.STAGE, tmp_path / scenario, inputs, scenario=scenario, budget_seconds=0.5
        )
        assert result.status == "step_error"
        assert "does not hold a single" in result.message


@pytest.mark.parametrize(
    ("conf", "params", "message"),
    [
        ("digits.Offline.target_qps = 5\n", {}, r"user.conf:1: digits.Offline.target_qps = 5"),
        ("digits.Server.target_qps=5\n*.Server.min_duration = 1\n", {}, r"(?s)conf:1.*conf:2"),
        ("digits.Server.target_qps = 0\n", {}, "user.conf:1"),
        ("digits.Server.target_qps = 1e9\n", {}, "user.conf:1"),
        ("digits.Server.target_qps = ৫\n", {}, "cannot be read"),
        (None, {}, "cannot be read"),
        (
            "digits.Server.target_qps = 5\ndigits.Server.target_latency = 250\n",
            {"server_target_latency_ms": 100},
            "tuned for a limit of 250 ms",
        ),
    ],
)
def test_a_tuning_that_does_not_fit(
    conf: str | None,
    params: dict[str, Any],
    message: str,
    dataset: Path,
    model: Path,
    tmp_path: Path,
) -> None:
    import re

    tuning = tmp_path / "tuning"
    tuning.mkdir()
    if conf is not None:
        (tuning / "user.conf").write_text(conf)
    inputs = {"dataset": dataset, "model": model, "tuning": tuning}
    result, _ = stage(
        run.STAGE, tmp_path / "run", inputs, scenario="Server", mode="performance", **params
    )
    assert result.status == "step_error"
    assert re.search(message, result.message), result.message


def test_what_the_user_says_comes_before_the_tuning(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    tuning = tmp_path / "tuning"
    tuning.mkdir()
    (tuning / "user.conf").write_text("# by hand\n\ndigits.Offline.target_qps = 5\n")
    (tuning / "tuning.json").write_text('{"sut": {"backend": "openvino", "threads": 1}}')
    result, _ = stage(
        run.STAGE, tmp_path / "run", {"dataset": dataset, "model": model, "tuning": tuning},
        scenario="Offline", mode="performance", performance_seconds=0.3, target_qps=9,
    )  # fmt: skip
    assert result.status == "ok", result.message
    measured: Any = result.metrics["loadgen"]
    assert measured["settings"]["effective"]["target_qps"] == 9
    told = {finding.rule: finding.message for finding in result.findings}
    assert "backend openvino, not onnxruntime" in told["tuned_otherwise"]
