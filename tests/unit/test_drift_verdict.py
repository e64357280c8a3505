"""Steady, drifted, undecided, no baseline, disturbed: each verdict, and what it is made from."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

import drift_kit as kit
from proctor_steps.contract import digest
from proctor_steps.drift import limits
from proctor_steps.drift.judge import judge_history
from proctor_steps.drift.settings import SETTINGS
from proctor_steps.drift.verdict import DriftVerdict, FigureVerdict
from proctor_steps.history import Figure, History, Measured, Series


def judged(*series: Series) -> DriftVerdict:
    return judge_history(kit.history(*series))


def figure(verdict: DriftVerdict, name: str = "latency_p90", series: int = 0) -> FigureVerdict:
    return next(f for f in verdict.series[series].figures if f.figure == name)


# --- the sequential rule -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "state"),
    [
        ([1.0], "steady"),
        ([1.02], "steady"),
        ([1.5], "undecided"),  # one run is never enough, however far away
        ([0.6], "undecided"),
        ([1.2, 1.2], "drifted"),
        ([0.8, 0.8], "drifted"),  # better is not what was accepted, either
        ([1.2, 1.0], "undecided"),
        ([1.2, 0.8], "undecided"),
        ([1.2, 1.0, 1.2], "drifted"),
        ([1.2, 1.0, 1.0], "steady"),
        ([1.2, 1.0, 0.8], "steady"),
        ([1.0, 1.2], "undecided"),
    ],
)
def test_up_to_three_runs_decide(now: list[float], state: str) -> None:
    verdict = judged(kit.stream(now))
    assert verdict.state == state
    assert verdict.runs == len(now)
    assert bool(verdict.findings) == (state in ("drifted", "undecided"))


def test_a_finding_tells_size_interval_confidence_runs_and_direction() -> None:
    verdict = judged(kit.stream([1.2, 1.21]))
    (finding,) = verdict.findings
    assert finding.direction == "worse"
    assert finding.runs == 2
    assert finding.size == pytest.approx(0.2, abs=0.02)
    assert finding.interval is not None
    assert finding.interval[0] < finding.size < finding.interval[1]
    assert finding.confidence is not None
    assert finding.confidence > 0.99
    assert "digits SingleStream: latency p90: +2" in finding.message
    assert "(worse)" in finding.message
    better = judged(kit.stream([0.8, 0.8])).findings[0]
    assert (better.direction, better.size and better.size < 0) == ("better", True)


def test_more_throughput_is_better_and_less_is_worse() -> None:
    assert judged(kit.offline([0.8, 0.8])).findings[0].direction == "worse"
    assert judged(kit.offline([1.25, 1.25])).findings[0].direction == "better"


def test_a_small_change_is_not_told_however_certain() -> None:
    quiet = kit.scattered(20, noise=1e-5)
    sure = replace(SETTINGS, usual_noise=1e-4)
    small = kit.history(kit.stream([1.015, 1.015], quiet))
    assert judge_history(small, sure).state == "steady"
    assert judge_history(kit.history(kit.stream([1.025, 1.025], quiet)), sure).state == "drifted"


# --- the reference -------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", range(4))
def test_with_few_sessions_only_a_documented_size_counts(earlier: int) -> None:
    history = kit.scattered(earlier)
    assert SETTINGS.few == 5
    small = judged(kit.stream([1.15, 1.15], history))
    assert small.state == "steady"
    assert figure(small).limits is None
    large = judged(kit.stream([1.25, 1.25], history))
    assert large.state == "drifted"
    (finding,) = large.findings
    assert finding.confidence is None
    assert finding.interval is None
    assert f"too few sessions for limits ({earlier + 1})" in finding.message
    assert "confidence unknown" in finding.message


def test_from_five_sessions_on_there_are_limits() -> None:
    found = figure(judged(kit.stream([1.0], kit.scattered(4))))
    assert found.sessions == 5
    assert found.limits is not None
    assert found.warning is not None
    assert found.limits[0] < found.warning[0] < 1e6 < found.warning[1] < found.limits[1]


def test_limits_are_those_at_which_the_verdict_turns() -> None:
    found = figure(judged(kit.stream([1.0])))
    assert found.limits is not None and found.warning is not None
    for edge, inside, outside in (
        (found.limits[1] / 1e6, "undecided", "drifted"),
        (found.warning[1] / 1e6, "steady", "undecided"),
    ):
        assert judged(kit.stream([edge * 0.9999] * 2)).state == inside
        assert judged(kit.stream([edge * 1.0001] * 2)).state == outside


def test_a_noisier_history_has_wider_limits_and_a_longer_one_narrower() -> None:
    def width(count: int, noise: float) -> float:
        found = figure(judged(kit.stream([1.0], kit.scattered(count, noise)))).limits
        assert found is not None
        return found[1] / found[0]

    assert width(15, 0.005) < width(15, 0.02) < width(15, 0.08)
    assert width(19, 0.005) < width(8, 0.005) < width(4, 0.005)


def test_an_odd_run_in_the_history_hardly_moves_the_limits() -> None:
    plain = kit.scattered(15)
    odd = [*plain[:7], 3.0, *plain[8:]]
    clean, robust = figure(judged(kit.stream([1.0], plain))), figure(judged(kit.stream([1.0], odd)))
    assert clean.limits and robust.limits
    assert robust.limits[1] < 1.1 * clean.limits[1]


def test_runs_of_one_session_count_once() -> None:
    again = [
        kit.measured(i, kit.latency(x), step=f"performance-{k}")
        for i, x in enumerate(kit.scattered(6), 1)
        for k in range(3)
    ]
    assert figure(judged(kit.stream([1.0], again))).sessions == 7


def test_limits_stay_as_the_first_sessions_made_them() -> None:
    """A figure that creeps away takes its limits with it only for so long."""
    first = kit.scattered(19)
    creeping = [x * (1 + 0.01 * i) for i, x in enumerate(kit.scattered(15, seed=1))]
    before = figure(judged(kit.stream([1.0], first)))
    after = figure(judged(kit.stream([1.0], [*first, *creeping])))
    assert before.limits == after.limits
    assert judged(kit.stream([1.16, 1.16], [*first, *creeping])).state == "drifted"


def test_a_drift_that_was_left_open_does_not_become_the_reference() -> None:
    left_open = [
        kit.measured(20 + i, kit.latency(1.3), step=f"performance-{k}")
        for i in range(8)
        for k in (1, 2)
    ]
    plain = [kit.measured(i, kit.latency(x)) for i, x in enumerate(kit.scattered(8), 1)]
    verdict = judged(kit.stream([1.3, 1.3], [*plain, *left_open]))
    assert verdict.state == "drifted"
    assert figure(verdict).sessions == 9
    assert verdict.series[0].last_steady_of == "revalidation/r8/performance/1"


def test_disturbed_and_invalid_runs_and_those_before_the_baseline_make_no_limits() -> None:
    bad = [
        kit.measured(21, kit.latency(2.0), disturbed=("another process used a core",)),
        kit.measured(22, kit.latency(2.0), valid=False),
    ]
    before = [kit.measured(i, kit.latency(5.0)) for i in range(1, 6)]
    baseline = kit.measured(8, kit.latency(1.0))
    since = [kit.measured(9 + i, kit.latency(x)) for i, x in enumerate(kit.scattered(6))]
    verdict = judged(kit.stream([1.0], [*before, *since, *bad], baseline))
    assert figure(verdict).sessions == 7
    assert figure(verdict).centre == pytest.approx(1e6, rel=0.02)


def test_where_no_run_was_ever_valid_all_count() -> None:
    history = [kit.measured(i, kit.latency(x), valid=False) for i, x in enumerate(kit.scattered(6))]
    baseline = kit.measured(0, kit.latency(1.0), valid=False, step="other")
    series = kit.stream([1.0], history[1:], baseline, valid=False)
    assert figure(judged(series)).sessions == 6
    assert judged(series).state == "steady"


def test_autocorrelated_sessions_make_wider_limits() -> None:
    plain = np.asarray(kit.scattered(20, seed=2))
    slow = np.exp(np.sort(np.log(plain)))  # the same values, each like its neighbours
    of_plain = limits.reference(list(plain), SETTINGS)
    of_slow = limits.reference(list(slow), SETTINGS)
    assert of_slow.autocorrelation > of_plain.autocorrelation
    assert of_slow.scale is not None and of_plain.scale is not None
    assert of_slow.scale > of_plain.scale


def test_autocorrelation_of_a_short_history_is_not_told_too_small() -> None:
    settings = replace(SETTINGS, least_autocorrelation=-0.9)
    random, true = np.random.default_rng(8), 0.6
    ours, plain = [], []
    for _ in range(400):
        made = random.standard_normal(111)
        for place in range(1, len(made)):
            made[place] = true * made[place - 1] + np.sqrt(1 - true**2) * made[place]
        values = made[-11:]
        ours.append(limits.autocorrelation(values, settings))
        plain.append(stats.spearmanr(values[:-1], values[1:]).statistic)
    assert abs(np.mean(ours) - true) < 0.5 * abs(np.mean(plain) - true)


def test_the_usual_noise_never_makes_limits_narrower_than_the_history_does() -> None:
    values = kit.scattered(7, noise=0.1, seed=4)
    found = limits.reference(values, SETTINGS)
    mad = stats.median_abs_deviation(np.log(values), scale="normal")
    assert found.scale is not None and mad > SETTINGS.usual_noise
    assert found.scale > mad


def test_scale_and_chance_are_scipy_s() -> None:
    values = kit.scattered(7, seed=4)
    found = limits.reference(values, SETTINGS)
    logs = np.log(values)
    mad = stats.median_abs_deviation(logs, scale="normal")
    weight, freedom = SETTINGS.usual_weight, 6 * SETTINGS.scale_weight
    pooled = (weight * SETTINGS.usual_noise**2 + freedom * mad**2) / (weight + freedom)
    few = 7 * 0.7 / 1.3
    assert found.scale == pytest.approx(math.sqrt(pooled * (1 + math.pi / 2 / few)))
    changed = limits.change([math.exp(found.centre + 0.1)], found)
    assert found.scale is not None
    ratio = 0.1 / found.scale
    assert changed.chance == pytest.approx(2 * stats.t.sf(ratio, weight + freedom))


# --- several figures and scenarios ---------------------------------------------------------------


def test_more_figures_together_have_wider_limits() -> None:
    alone, both = judged(kit.stream([1.0])), judged(kit.stream([1.0]), kit.offline([1.0]))
    assert (alone.family, both.family) == (1, 2)
    one, two = figure(alone).limits, figure(both).limits
    assert one and two
    assert two[1] > one[1]


def test_one_scenario_that_drifted_is_enough() -> None:
    verdict = judged(kit.stream([1.2, 1.2]), kit.offline([1.0, 1.0]))
    assert verdict.state == "drifted"
    assert [each.state for each in verdict.series] == ["drifted", "steady"]
    assert {f.series for f in verdict.findings} == {"digits SingleStream"}


def test_only_the_figures_that_count_decide() -> None:
    runs = [
        kit.measured(i, kit.latency(x), kit.latency(x, "p999"))
        for i, x in enumerate(kit.scattered(9), 1)
    ]
    now = [
        kit.measured("now", kit.latency(1.0), kit.latency(2.0, "p999"), step=f"p-{k}")
        for k in (1, 2)
    ]
    base = kit.measured(0, kit.latency(1.0), kit.latency(1.0, "p999"))
    verdict = judged(kit.stream(now, runs, base))
    assert verdict.state == "steady"
    assert figure(verdict, "latency_p999").decision == "drifted"
    assert verdict.findings == ()


def test_a_scenario_that_was_not_measured_is_left_out() -> None:
    verdict = judged(kit.stream([1.0]), kit.offline([]))
    assert [each.scenario for each in verdict.series] == ["SingleStream"]


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="no result of this run"):
        judged(kit.stream([]))
    with pytest.raises(ValueError, match="no result of this run"):
        judged()


# --- no baseline, disturbed ----------------------------------------------------------------------


def test_without_a_baseline_nothing_is_compared() -> None:
    verdict = judged(kit.stream([1.0], baseline=None))
    assert verdict.state == "no_baseline"
    assert figure(verdict).decision == "not judged"
    assert verdict.findings == ()


def test_disturbed_runs_are_not_judged() -> None:
    why = {"disturbed": ("another process used 98 % of a core",)}
    verdict = judged(kit.stream([1.5], **why))
    assert verdict.state == "disturbed"
    assert verdict.series[0].disturbed == why["disturbed"]
    assert verdict.findings == ()
    assert judged(kit.stream([1.5], baseline=None, **why)).state == "disturbed"
    quiet = kit.measured("now", kit.latency(1.0), step="performance-2")
    loud = kit.measured("now", kit.latency(1.9), **why)
    assert judged(kit.stream([loud, quiet])).state == "steady"
    worse = kit.measured("now", kit.latency(1.5), step="performance-2")
    again = judged(kit.stream([loud, worse]))
    assert (again.state, again.runs) == ("undecided", 1)


def test_where_nobody_looked_a_run_counts() -> None:
    assert judged(kit.stream([1.2, 1.2], disturbed=None)).state == "drifted"


# --- figures that are no numbers, or not there ---------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_a_figure_that_is_no_positive_number_is_missing(value: float) -> None:
    broken = Figure(name="latency_p90", value=value, unit="ns", better="lower")
    runs = [kit.measured("now", broken, step=f"p-{k}") for k in range(3)]
    for count, state in ((1, "undecided"), (2, "undecided"), (3, "drifted")):
        verdict = judged(kit.stream(runs[:count]))
        assert verdict.state == state
        assert verdict.findings[0].rule == "missing_figure"
        DriftVerdict.model_validate_json(verdict.model_dump_json())


def test_a_history_with_broken_figures_is_used_as_far_as_it_goes() -> None:
    broken = Figure(name="latency_p90", value=math.nan, unit="ns")
    runs = [kit.measured(i, kit.latency(x)) for i, x in enumerate(kit.scattered(8), 1)]
    verdict = judged(kit.stream([1.0], [*runs, kit.measured(20, broken), kit.measured(21)]))
    assert figure(verdict).sessions == 9


def test_a_figure_that_the_baseline_lacks_is_not_judged() -> None:
    now = kit.measured("now", kit.latency(1.0), kit.latency(1.0, "p99"))
    verdict = judged(kit.stream([now]))
    assert verdict.state == "steady"
    assert figure(verdict, "latency_p99").reason == "the baseline has no such figure"


def test_runs_that_are_no_longer_valid_are_a_change() -> None:
    one, two = (judged(kit.stream([1.0] * n, valid=False)) for n in (1, 2))
    assert (one.state, two.state) == ("undecided", "drifted")
    assert two.findings[0].rule == "validity"
    first = kit.measured("now", kit.latency(1.0), valid=False)
    second = kit.measured("now", kit.latency(1.0), step="performance-2")
    assert judged(kit.stream([first, second])).state == "steady"


# --- accuracy ------------------------------------------------------------------------------------


def scored(then: Figure, now: Figure, logs: tuple[str, str] = ("a", "b")) -> DriftVerdict:
    baseline = kit.measured(0, kit.latency(1.0), then, output_sha256=logs[0])
    runs = [
        kit.measured("now", kit.latency(1.0)),
        kit.measured("now", now, step="score", output_sha256=logs[1], disturbed=None),
    ]
    return judged(kit.stream(runs, baseline=baseline))


def test_of_the_same_logs_the_accuracy_must_be_the_very_same() -> None:
    wide = (0.1, 0.9)
    same = scored(kit.accuracy(0.5, *wide), kit.accuracy(0.5, *wide), ("a", "a"))
    assert same.state == "steady"
    assert figure(same, "accuracy").reason == "the same logs, the same figure"
    other = scored(kit.accuracy(0.5, *wide), kit.accuracy(0.5 + 1e-9, *wide), ("a", "a"))
    assert other.state == "drifted"
    assert other.findings[0].rule == "scorer_changed"
    assert scored(kit.accuracy(0.5), kit.accuracy(0.5 + 1e-9), ("", "")).state == "steady"


@pytest.mark.parametrize(
    ("now", "state", "direction"),
    [(0.60, "steady", "better"), (0.40, "drifted", "worse"), (0.75, "drifted", "better")],
)
def test_of_other_logs_the_interval_decides(now: float, state: str, direction: str) -> None:
    verdict = scored(kit.accuracy(0.58, 0.54, 0.62), kit.accuracy(now, now - 0.04, now + 0.04))
    assert verdict.state == state
    found = figure(verdict, "accuracy")
    assert found.direction == direction
    assert found.interval is not None
    if state == "drifted":
        assert [f.rule for f in verdict.findings] == ["accuracy"]
        assert verdict.findings[0].runs == 1


def test_without_an_interval_a_documented_size_decides() -> None:
    assert scored(kit.accuracy(0.50), kit.accuracy(0.497)).state == "steady"
    worse = scored(kit.accuracy(0.50), kit.accuracy(0.49))
    assert worse.state == "drifted"
    assert worse.findings[0].confidence is None
    zero = scored(kit.accuracy(1.0, 1.0, 1.0), kit.accuracy(0.9, 0.9, 0.9))
    assert zero.state == "drifted"  # an interval without a width is none
    assert scored(kit.accuracy(0.0), kit.accuracy(0.1)).state == "drifted"
    assert scored(kit.accuracy(math.nan), kit.accuracy(0.1)).state == "steady"
    assert scored(kit.accuracy(0.1), kit.accuracy(math.nan)).state == "steady"


def test_accuracy_is_judged_on_a_disturbed_machine_too() -> None:
    baseline = kit.measured(0, kit.latency(1.0), kit.accuracy(0.5, 0.49, 0.51))
    runs = [
        kit.measured("now", kit.latency(1.0), disturbed=("hot",)),
        kit.measured("now", kit.accuracy(0.3, 0.29, 0.31), step="score", disturbed=None),
    ]
    assert judged(kit.stream(runs, baseline=baseline)).state == "drifted"
    both = kit.measured("now", kit.latency(1.0), kit.accuracy(0.3, 0.29, 0.31), disturbed=("hot",))
    verdict = judged(kit.stream([both], baseline=baseline))
    assert verdict.state == "drifted"
    assert {f.figure: f.decision for f in verdict.series[0].figures if f.primary} == {
        "latency_p90": "not judged", "accuracy": "drifted",
    }  # fmt: skip


def test_an_accuracy_that_was_not_measured_is_said() -> None:
    baseline = kit.measured(0, kit.latency(1.0), kit.accuracy(0.5, 0.49, 0.51))
    verdict = judged(kit.stream([1.0], baseline=baseline))
    assert verdict.state == "steady"
    found = figure(verdict, "accuracy")
    assert (found.decision, found.reason) == ("not judged", "not measured in this run")


def test_series_of_one_scenario_are_told_apart() -> None:
    plain = kit.stream([1.0])
    other = kit.stream([1.5, 1.5]).model_copy(update={"backend": "torch"})
    verdict = judged(plain.model_copy(update={"backend": "openvino"}), other)
    assert [s.name for s in verdict.series] == [
        "digits SingleStream openvino", "digits SingleStream torch",
    ]  # fmt: skip
    assert {f.series for f in verdict.findings} == {"digits SingleStream torch"}


# --- what differs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"packages_onnxruntime": "1.21.0"},
        {"image_performance": "proctor/sut-onnxruntime@sha256:bb"},
        {"inputs_model": "sha256:m2"},
        {"inputs_dataset": "sha256:d2"},
        {"parameters_threads": "1"},
        {"settings_effective_min_duration_ms": "10000"},
        {"host_kernel": "6.9.0"},
        {"host_governor": "powersave"},
        {"host_driver": "550.1"},
    ],
)
def test_what_changed_is_named(change: dict[str, str]) -> None:
    verdict = judged(kit.stream([1.2, 1.2], made_by=kit.made(**change)))
    ((key, value),) = change.items()
    kind, _, name = key.partition("_")
    (found,) = verdict.findings[0].differs
    assert (found.kind, found.name, found.now) == (kind, name, value)
    assert found.baseline == found.last_steady == kit.MADE[kind][name]
    assert (found.since, found.varied) == ("last_steady", False)
    assert f"{kind} {name}: {found.baseline} → {value}" in verdict.findings[0].message


def test_a_digest_is_told_as_short_as_people_need_it() -> None:
    made = kit.made(inputs_model="sha256:" + "ab" * 32)
    message = judged(kit.stream([1.2, 1.2], made_by=made)).findings[0].message
    assert message.endswith("→ abababababab")


def test_what_is_new_or_gone_is_named() -> None:
    more = kit.made() | {"devices": {"gpu": "H100"}}
    less = {kind: said for kind, said in kit.made().items() if kind != "host"}
    (new,) = judged(kit.stream([1.2, 1.2], made_by=more)).findings[0].differs
    assert (new.kind, new.baseline, new.now) == ("devices", None, "H100")
    gone = judged(kit.stream([1.2, 1.2], made_by=less)).findings[0].differs
    assert {each.name for each in gone} == set(kit.MADE["host"])
    assert all(each.now is None for each in gone)


def test_where_nothing_differs_that_is_said() -> None:
    (finding,) = judged(kit.stream([1.2, 1.2])).findings
    assert finding.differs == ()
    assert finding.message.endswith("What differs: nothing that was recorded")


def test_the_most_telling_comes_first() -> None:
    """A package that is new today, before a kernel that steady runs had already, and before what
    is another one every time."""
    history = [
        kit.measured(
            i,
            kit.latency(x),
            made_by=kit.made(host_kernel="6.9.0" if i > 5 else "6.8.0", inputs_dataset=f"d{i}"),
        )
        for i, x in enumerate(kit.scattered(9), 1)
    ]
    now = kit.made(
        packages_onnxruntime="1.21.0",
        image_performance="sha256:cc",
        host_kernel="6.9.0",
        inputs_dataset="d99",
    )
    found = judged(kit.stream([1.2, 1.2], history, made_by=now)).findings[0].differs
    assert [each.name for each in found] == ["onnxruntime", "performance", "dataset", "kernel"]
    assert [each.since for each in found] == ["last_steady"] * 3 + ["baseline"]
    assert [each.varied for each in found] == [False, False, True, True]


def test_what_tuning_found_is_no_cause_before_others() -> None:
    now = kit.made(host_kernel="6.9.0", inputs_tuning="t2", settings_target_qps="80")
    found = judged(kit.stream([1.2, 1.2], made_by=now)).findings[0].differs
    assert [each.name for each in found] == ["kernel", "tuning", "target_qps"]


# --- settings, and everything at once ------------------------------------------------------------


def test_the_docs_tell_every_setting_and_its_value() -> None:
    text = (Path(__file__).parents[2] / "docs" / "revalidation.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]*) ?\|", text, re.MULTILINE))
    values = {name: value for name, value in vars(SETTINGS).items() if name != "primary"}
    assert rows.pop("primary") == ""
    assert {name: float(value) for name, value in rows.items()} == values
    told = {**vars(SETTINGS), "primary": {k: list(v) for k, v in SETTINGS.primary.items()}}
    assert f"`{digest(told)[:16]}`" in text  # those that the evaluation was made with
    for scenario, names in SETTINGS.primary.items():
        assert f"{scenario} " + ", ".join(f"`{name}`" for name in names) in text


def test_settings_are_frozen_and_told() -> None:
    with pytest.raises(FrozenInstanceError):
        SETTINGS.alarm = 0.5  # type: ignore[misc]
    told = judged(kit.stream([1.0])).settings
    assert told["alarm"] == 0.01
    assert told["primary"]["Offline"] == ["throughput"]  # type: ignore[index,call-overload]


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0.5, 2.0)
TEXTS = st.text(max_size=6) | st.sampled_from(["p/r/s/1", "2026-01-01T00:00:00Z", "p/now/s/1"])
FIGURES = st.builds(
    Figure,
    name=st.sampled_from(["latency_p90", "throughput", "accuracy", "other"]),
    value=NUMBERS,
    unit=st.sampled_from(["ns", "", "samples/s", "fraction"]),
    better=st.sampled_from(["higher", "lower", ""]),
    low=st.none() | NUMBERS,
    high=st.none() | NUMBERS,
)
RUNS = st.builds(
    Measured,
    of=TEXTS,
    at=TEXTS,
    valid=st.none() | st.booleans(),
    disturbed=st.none() | st.lists(st.text(max_size=3), max_size=1).map(tuple),
    figures=st.lists(FIGURES, max_size=4).map(tuple),
    made_by=st.dictionaries(
        st.sampled_from(["image", "host", "x"]), st.dictionaries(TEXTS, TEXTS, max_size=2)
    ),
    output_sha256=st.sampled_from(["", "a", "b"]),
)
SERIES = st.builds(
    Series,
    benchmark=TEXTS,
    scenario=st.sampled_from(["SingleStream", "Offline", "Server", "?", ""]),
    system=TEXTS,
    baseline=st.none() | RUNS,
    history=st.lists(RUNS, max_size=9).map(tuple),
    now=st.lists(RUNS, max_size=4).map(tuple),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SERIES, max_size=3).map(lambda found: History(series=tuple(found))))
def test_no_history_makes_it_crash(history: History) -> None:
    try:
        verdict = judge_history(history)
    except ValueError as error:
        assert "no result of this run" in str(error)
        return
    assert DriftVerdict.model_validate_json(verdict.model_dump_json()) == verdict
