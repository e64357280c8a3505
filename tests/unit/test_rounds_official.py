"""The rounds' data against the official checker's own tables and LoadGen's mlperf.conf.

They are read from a checkout of mlcommons/inference that PROCTOR_INFERENCE names. Whatever is
stated of the checker or of mlperf.conf in ``rounds/*.yaml`` must stand there, and the reverse.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from proctor_steps import rounds
from proctor_steps.rounds import BenchmarkRules, Figure, Round
from proctor_steps.rounds.figure import same

MS = 1_000_000
ROUNDS = ("v5.1", "v6.0", "v6.1")
KINDS = ("edge", "datacenter", "datacenter,edge")


@pytest.fixture(scope="session")
def checkout() -> Path:
    named = os.environ.get("PROCTOR_INFERENCE")
    if not named:
        pytest.skip("PROCTOR_INFERENCE names no checkout of mlcommons/inference")
    return Path(named)


@pytest.fixture(scope="session")
def constants(checkout: Path) -> Any:
    path = checkout / "tools/submission/submission_checker/constants.py"
    spec = importlib.util.spec_from_file_location("official_constants", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkers(figure: Figure[Any] | None) -> Any:
    return None if figure is None else figure.by("checker")


def entries(round_: Round) -> Iterator[tuple[str, BenchmarkRules]]:
    """Folder name and rules, of the benchmarks that the checker takes for some type of system."""
    for rules in round_.benchmarks.values():
        if any(checkers(figure) for figure in rules.scenarios.values()):
            yield from ((name, rules) for name in rules.accuracy)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    pairs = {key: (ours.get(key), theirs.get(key)) for key in {**ours, **theirs}}
    return {key: pair for key, pair in pairs.items() if not same(*pair)}


@pytest.mark.parametrize("name", ROUNDS)
def test_the_checker_has_the_same_benchmarks(name: str, constants: Any) -> None:
    assert {entry for entry, _ in entries(rounds.load(name))} == set(
        constants.MODEL_CONFIG[name]["models"]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROUNDS)
def test_the_checkers_scenarios(name: str, kind: str, constants: Any) -> None:
    table = constants.MODEL_CONFIG[name]
    suffix = kind.replace(",", "-")
    required, optional = (table[f"{word}-scenarios-{suffix}"] for word in ("required", "optional"))
    theirs = {}
    for entry in table["models"]:
        found = {(scenario,) for scenario in required.get(entry, ())}
        # The checker wants one of its optional scenarios, which are always these two.
        if entry in optional:
            assert set(optional[entry]) == {"Server", "Interactive"}
            found |= {("Server", "Interactive")}
        theirs[entry] = found
    ours = {
        entry: set(checkers(rules.scenarios.get(kind)) or ())
        for entry, rules in entries(rounds.load(name))
    }
    assert differences(ours, theirs) == {}


@pytest.mark.parametrize("side", ["at_least", "at_most"])
@pytest.mark.parametrize("name", ROUNDS)
def test_the_checkers_accuracy(name: str, side: str, constants: Any) -> None:
    table = constants.MODEL_CONFIG[name]
    official = table["accuracy-target" if side == "at_least" else "accuracy-upper-limit"]
    ours, theirs = {}, {}
    for entry, rules in entries(rounds.load(name)):
        for scenario in ("Offline", "Server", "Interactive"):
            pairs = official.get(entry, ())
            if isinstance(pairs, dict):
                pairs = pairs[scenario]
            for metric, value in zip(pairs[::2], pairs[1::2], strict=True):
                theirs[f"{entry} {scenario} {metric}"] = float(value)
            for metric, bound in rules.bounds(entry, scenario).items():
                if (value := checkers(getattr(bound, side))) is not None:
                    ours[f"{entry} {scenario} {metric}"] = value
    assert differences(ours, theirs) == {}


@pytest.mark.parametrize("name", ROUNDS)
def test_the_checkers_sample_counts(name: str, constants: Any) -> None:
    table = constants.MODEL_CONFIG[name]
    ours, theirs = {}, {}
    for entry, rules in entries(rounds.load(name)):
        ours[f"{entry} dataset"] = checkers(rules.dataset_samples)
        ours[f"{entry} performance"] = checkers(rules.performance_samples)
        ours[f"{entry} offline"] = checkers(rules.offline_min_samples)
        theirs[f"{entry} dataset"] = table["dataset-size"][entry]
        theirs[f"{entry} performance"] = table["performance-sample-count"][entry]
        # Its minimum for PointPainting belongs to a scenario that the benchmark does not have.
        if entry != "pointpainting":
            theirs[f"{entry} offline"] = constants.OFFLINE_MIN_SPQ_SINCE_V4.get(entry)
        for scenario in ("Offline", "Interactive"):
            logged = table["accuracy-sample-count"].get(entry, table["dataset-size"][entry])
            theirs[f"{entry} {scenario} logged"] = (
                logged[scenario] if isinstance(logged, dict) else logged
            )
            ours[f"{entry} {scenario} logged"] = checkers(rules.logged_samples(scenario))
    assert differences(ours, theirs) == {}


@pytest.mark.parametrize("name", ROUNDS)
def test_the_checkers_latency_limits(name: str, constants: Any) -> None:
    table = constants.MODEL_CONFIG[name]
    ours, theirs = {}, {}
    for entry, rules in entries(rounds.load(name)):
        has = {s for f in rules.scenarios.values() for each in checkers(f) or () for s in each}
        for scenario in has & {"Server", "Interactive"}:
            where = f"{entry} {scenario}"
            limit = table["latency-constraint"].get(entry, {}).get(scenario)
            tokens = constants.LLM_LATENCY_LIMITS.get(entry, {}).get(scenario, {})
            theirs |= {f"{where} {word}": ns / MS for word, ns in tokens.items()}
            if limit is not None:
                theirs[f"{where} query"] = limit / MS
            found = rules.latency.get(scenario)
            if found is None:
                continue
            stated = {"query": found.latency_ms, "ttft": found.ttft_ms, "tpot": found.tpot_ms}
            ours |= {f"{where} {w}": v for w, f in stated.items() if (v := checkers(f)) is not None}
    assert differences(ours, theirs) == {}


@pytest.mark.parametrize("name", ROUNDS)
def test_the_checkers_compliance_tests(name: str, constants: Any) -> None:
    table = constants.MODEL_CONFIG[name]
    tests = [key for key in table if key.startswith("models_TEST")]
    theirs = {
        entry: {key.removeprefix("models_") for key in tests if entry in table[key]}
        for entry in table["models"]
    }
    ours = {entry: set(checkers(rules.compliance)) for entry, rules in entries(rounds.load(name))}
    assert differences(ours, theirs) == {}


@pytest.mark.parametrize("name", ROUNDS)
def test_the_checkers_reported_figures_and_files(name: str, constants: Any) -> None:
    round_ = rounds.load(name)
    changed = constants.RESULT_FIELD_BENCHMARK_OVERWRITE[name]
    for scenario, key in constants.RESULT_FIELD_NEW[name].items():
        plain = round_.scenarios[scenario].reported
        assert plain is not None and plain.key == key
        for entry, rules in entries(round_):
            reported = rules.reported.get(scenario, plain)
            if scenario != "Interactive":
                assert reported.key == changed.get(entry, {}).get(scenario, key), entry
            unit = constants.SPECIAL_UNIT_DICT.get(entry, {}).get(scenario)
            # Whisper's tokens are summarised as samples.
            if rules.has(scenario) and entry != "whisper":
                assert reported.unit == (unit or constants.UNIT_DICT[scenario]), (entry, scenario)
    files = constants.REQUIRED_ACC_BENCHMARK
    for entry, rules in entries(round_):
        wanted = files.get(entry, {}).get(name, {})
        assert rules.extra_files == {kind: tuple(names) for kind, names in wanted.items()}, entry


@pytest.mark.parametrize("name", ROUNDS)
def test_the_rest_of_the_checkers_tables(name: str, constants: Any) -> None:
    round_, table = rounds.load(name), constants.MODEL_CONFIG[name]
    seeds = {f"{seed}_rng_seed": checkers(figure) for seed, figure in round_.seeds.items()}
    assert seeds == table["seeds"]
    assert round_.aliases == table["model_mapping"]
    assert checkers(round_.min_duration_s) == constants.TEST_DURATION_MS / 1000
    patterns = constants.ACC_PATTERN
    assert {n: m.pattern for n, m in round_.metrics.items()} == {
        n: patterns[n] for n in round_.metrics
    }
    used = {
        metric
        for rules in round_.benchmarks.values()
        for b in rules.accuracy.values()
        for metric in b
    }
    assert used == set(round_.metrics)
    if name == "v6.1":
        endpoints = {entry for entry, rules in entries(round_) if rules.endpoints}
        assert endpoints == set(constants.ENDPOINTS_ALLOWED_MODELS)


def read_conf(path: Path) -> dict[str, float]:
    lines = [line.partition("=") for line in path.read_text().splitlines() if line[:1] != "#"]
    return {
        key.strip(): float(value) if "." in value else int(value)
        for key, _, value in lines
        if value
    }


def conf(figure: Figure[Any] | None) -> Any:
    return None if figure is None else figure.by("mlperf.conf")


@pytest.fixture(scope="session")
def settings(checkout: Path) -> dict[str, float]:
    return read_conf(checkout / "loadgen/mlperf.conf")


@pytest.fixture(scope="session")
def round_(settings: dict[str, float]) -> Round:
    """The round that the checkout's mlperf.conf is of."""
    for name in ROUNDS:
        found = rounds.load(name)
        if found.seeds.qsl.value == settings["*.*.qsl_rng_seed"]:
            return found
    pytest.skip("the checkout's mlperf.conf is of no known round")


def test_the_configurations_scenarios(round_: Round, settings: dict[str, float]) -> None:
    for scenario in ("SingleStream", "MultiStream", "Server", "Offline"):
        rules, key = round_.scenarios[scenario], f"*.{scenario}"
        assert settings[f"{key}.target_latency_percentile"] == conf(rules.percentile)
        assert settings[f"{key}.min_duration"] == conf(round_.min_duration_s) * 1000
        least = settings.get(f"{key}.min_query_count")
        assert least is None or least == conf(rules.min_query_count)
    for seed, figure in round_.seeds.items():
        assert settings[f"*.*.{seed}_rng_seed"] == conf(figure)


def test_the_configurations_benchmarks(round_: Round, settings: dict[str, float]) -> None:
    ours, theirs = {}, {}
    for name, rules in round_.benchmarks.items():
        for scenario in {"Server", "Interactive", "Offline", "SingleStream"}:
            key = conf(rules.key(scenario))
            if key is None or not rules.has(scenario):
                continue
            loadgen = "Server" if scenario == "Interactive" else scenario
            latency = rules.latency.get(scenario)
            figures = {
                f"{key}.*.performance_sample_count_override": conf(rules.performance_samples),
                f"{key}.*.accuracy_sample_count_override": conf(rules.accuracy_samples),
                f"{key}.*.use_token_latencies": conf(rules.token_latencies),
                f"{key}.*.sample_concatenate_permutation": conf(rules.equal_issue),
                f"{key}.{loadgen}.target_latency_percentile": conf(rules.percentile.get(scenario)),
            }
            if latency is not None:
                figures |= {
                    f"{key}.Server.target_latency": conf(latency.latency_ms),
                    f"{key}.Server.ttft_latency": conf(latency.ttft_ms),
                    f"{key}.Server.tpot_latency": conf(latency.tpot_ms),
                }
            if scenario == "Offline":
                figures[f"{key}.Offline.min_query_count"] = conf(rules.offline_min_samples)
            ours |= {f"{name}: {k}": float(v) for k, v in figures.items() if v is not None}
            theirs |= {
                f"{name}: {k}": v
                for k in figures
                if (v := settings.get(k)) is not None and not k.endswith("target_latency")
            }
            if latency is not None and latency.latency_ms is not None and not latency.ttft_ms:
                k = f"{key}.Server.target_latency"
                theirs |= {f"{name}: {k}": settings[k]} if k in settings else {}
    # 0 stands for the whole set.
    theirs["3d-unet: 3d-unet.*.performance_sample_count_override"] = 43
    assert differences(ours, theirs) == {}
