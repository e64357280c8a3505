"""A run measured against its round: each rule met or missed, with what was found.

The official checker looks at fewer things (it reads configured durations and passes runs that
LoadGen calls INVALID). Here every rule is checked on what was measured; the clause stands in the
rule's message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.compliance import audit
from proctor_steps.loadgen import log
from proctor_steps.loadgen.log import Detail, LoadgenRun, Percentile, Rule
from proctor_steps.rounds import BenchmarkRules, Figure, Round, Scenario, ScenarioRules
from proctor_steps.rounds.model import Latency
from proctor_steps.stage import DataError


@dataclass(frozen=True)
class Case:
    """A run's log and the rules it is measured against.

    ``test``: the compliance test that the run is of; ``logged_entries``: of its accuracy log, or
    why they cannot be read. ``interactive``: the result is submitted as Interactive, which LoadGen
    runs as Server.
    """

    detail: Detail
    round: Round
    name: str
    benchmark: BenchmarkRules | None
    logged_samples: int
    test: str = ""
    logged_entries: int | str = 0
    interactive: bool = False

    @property
    def model(self) -> str:
        """LoadGen's name for the benchmark."""
        return audit.model_of(self.round, self.name)

    @property
    def scenario(self) -> ScenarioRules:
        """What the round asks of every benchmark in this scenario."""
        return self.round.scenarios[self.detail.scenario]

    @property
    def submitted_as(self) -> Scenario:
        """The scenario of the result."""
        return "Interactive" if self.interactive else self.detail.scenario

    @property
    def limits(self) -> Latency | None:
        """The benchmark's bounds of latency in this scenario."""
        return self.benchmark.latency.get(self.submitted_as) if self.benchmark else None

    @property
    def in_round(self) -> bool:
        """Whether the round has this benchmark in this scenario."""
        return self.benchmark is not None and self.benchmark.has(self.detail.scenario)

    def percentile(self) -> Percentile | None:
        """The latency percentile that counts in the scenario, where the round's is known."""
        wanted = self.scenario.percentile.value
        return None if wanted is None else self.detail.percentile(wanted)


def judge(
    folder: Path, round_: Round, name: str, sut: dict[str, JsonValue], test: str = ""
) -> LoadgenRun:
    """The run whose logs lie in ``folder``, as data. ``test``: of which compliance test it is one.

    Raises:
        DataError: the logs are not those of a finished run.
    """
    detail = log.read(folder)
    logged = _logged(folder) if detail.mode == "accuracy" else 0
    case = Case(detail, round_, name, round_.benchmark(name), logged, test, _entries(folder, test))
    performance = detail.mode == "performance"
    rules = tuple(measure(case))
    return LoadgenRun(
        benchmark=name,
        round=round_.round,
        scenario=detail.scenario,
        mode=detail.mode,
        test=test,
        valid=detail.values["result_validity"] == "VALID" if performance else None,
        official=all(rule.met for rule in rules),
        scenario_in_round=case.in_round,
        samples=detail.samples if performance else logged,
        queries=detail.queries if performance else None,
        duration_s=detail.duration_s if performance else detail.elapsed_s,
        metric=detail.metric() if performance else None,
        latency_ns=detail.latency_ns() if performance else {},
        percentile=case.percentile() if performance else None,
        settings={kind: detail.settings(kind) for kind in ("requested", "effective")},
        rules=rules,
        loadgen_version=detail.version,
        errors=detail.errors,
        sut=sut,
    )


def measure(case: Case) -> Iterator[Rule]:
    """Each rule of a run, met or missed."""
    for check in _checks(case):
        yield from check(case)


def _logged(folder: Path) -> int:
    """Samples that the accuracy log holds, each counted once."""
    return len({index for index, _ in accuracy_log.entries(folder / accuracy_log.NAME)})


def _entries(folder: Path, test: str) -> int | str:
    """Entries that a compliance run logged (a sample may have several), or why none can be read."""
    path = folder / accuracy_log.NAME
    if not test or not path.is_file():
        return 0
    try:
        return sum(1 for _ in accuracy_log.entries(path))
    except DataError as error:
        return str(error)


_Check = Callable[[Case], Iterator[Rule]]


def _checks(case: Case) -> tuple[_Check, ...]:
    common: tuple[_Check, ...] = (
        _benchmark_in_round,
        _scenario_in_round,
        _loadgen_version,
        _seeds,
        _dataset_size,
        _audit if case.test else _no_audit,
        _not_capped,
        _errors,
    )
    if case.detail.mode == "accuracy":
        return (*common, _all_samples_logged)
    if case.test:
        common = (*common, _answers_logged)
        if audit.is_short(case.test, case.model):
            return common
    return (
        *common,
        _validity,
        _min_duration,
        _min_queries,
        _samples_per_query,
        _performance_samples,
        _equal_issue,
        _early_stopping,
        _percentile,
        _latency_bound,
        _token_latencies,
        _token_latency_bound,
    )


def _rule(name: str, met: bool | None, required: JsonValue, found: JsonValue, text: str) -> Rule:
    return Rule(rule=name, met=met, required=required, found=found, message=text)


def _unknown(name: str, figure: Figure[Any], found: JsonValue, text: str) -> Rule:
    """Not judged: the round's data do not have the figure."""
    return _rule(name, None, None, found, f"{text}, which is not known: {figure.why}")


def _benchmark_in_round(case: Case) -> Iterator[Rule]:
    known = sorted(case.round.benchmarks)
    text = f"{case.name} must be a benchmark of round {case.round.round}"
    yield _rule("benchmark_in_round", case.benchmark is not None, list(known), case.name, text)


def _scenario_in_round(case: Case) -> Iterator[Rule]:
    if case.benchmark is None:
        return
    known = sorted({s for kind in case.benchmark.scenarios for s in case.benchmark.allowed(kind)})
    text = f"the round must have {case.name} in the scenario {case.detail.scenario}"
    yield _rule("scenario_in_round", case.in_round, list(known), case.detail.scenario, text)


def _loadgen_version(case: Case) -> Iterator[Rule]:
    name, found, wanted = "loadgen_version", case.detail.version, case.round.loadgen_versions.value
    text = f"LoadGen must be a release with the settings of round {case.round.round}"
    if wanted is None:
        yield _unknown(name, case.round.loadgen_versions, found, text)
    else:
        yield _rule(name, found in wanted, list(wanted), found, text)


def _seeds(case: Case) -> Iterator[Rule]:
    for name, seed in case.round.seeds.items():
        found = case.detail.values.get(f"effective_{name}_rng_seed")
        text = f"the {name} seed must be the round's"
        if seed.value is None:
            yield _unknown(f"seed_{name}", seed, found, text)
        else:
            yield _rule(f"seed_{name}", found == seed.value, seed.value, found, text)


def _dataset_size(case: Case) -> Iterator[Rule]:
    if case.benchmark is None or (case.test and audit.rules(case.test).own_dataset):
        return
    size = case.benchmark.dataset_samples
    if case.detail.mode == "accuracy":  # some are scored on another set than they are timed on
        size = case.benchmark.logged_samples(case.submitted_as)
    found = case.detail.values.get("qsl_reported_total_count")
    text = "the run must use the benchmark's whole dataset"
    if size.value is None:
        yield _unknown("dataset_size", size, found, text)
    else:
        yield _rule("dataset_size", found == size.value, size.value, found, text)


def _no_audit(case: Case) -> Iterator[Rule]:
    keys = (
        "performance_issue_unique",
        "performance_issue_same",
        "accuracy_log_probability",
        "accuracy_log_sampling_target",
    )
    changed = {k: v for k in keys if (v := case.detail.values.get(f"effective_{k}"))}
    text = "no audit or test setting may be in effect"
    yield _rule("no_audit_settings", not changed, {}, changed, text)


def _audit(case: Case) -> Iterator[Rule]:
    wrong = audit.not_in_effect(case.test, case.model, case.detail.values)
    wanted = audit.rules(case.test).of(case.model).settings
    text = f"the settings of {case.test} must be in effect" + "".join(
        f"; {key} is {found}, not {wanted[key]}" for key, found in wrong.items()
    )
    yield _rule("audit_settings", not wrong, dict(wanted), wrong, text)


def _answers_logged(case: Case) -> Iterator[Rule]:
    wanted, found = audit.least_logged(case.test, case.model), case.logged_entries
    if wanted:
        text = f"{case.test} must log the answers to {wanted} sample(s) at least"
        met = isinstance(found, int) and found >= wanted
        text += "" if isinstance(found, int) else f"; {found}"
        yield _rule("answers_logged", met, wanted, found, text)


def _not_capped(case: Case) -> Iterator[Rule]:
    found = case.detail.values.get("effective_max_query_count", 0)
    text = "no max_query_count may end the run early"
    yield _rule("max_query_count", not found, 0, found, text)


def _errors(case: Case) -> Iterator[Rule]:
    found = max(len(case.detail.errors), int(case.detail.values.get("num_errors", 0)))
    text = "LoadGen must log no error" + "".join(f"; {e.strip()}" for e in case.detail.errors[:3])
    yield _rule("loadgen_errors", found == 0, 0, found, text)


def _all_samples_logged(case: Case) -> Iterator[Rule]:
    wanted = case.detail.values.get("qsl_reported_total_count")
    text = "an accuracy run must log every sample of the dataset"
    met = case.logged_samples == wanted
    yield _rule("accuracy_samples", met, wanted, case.logged_samples, text)


def _validity(case: Case) -> Iterator[Rule]:
    found = case.detail.values["result_validity"]
    reason = str(case.detail.values.get("result_invalid_reason", "")).strip()
    text = "LoadGen must call the run VALID" + (f"; it says: {reason}" if reason else "")
    yield _rule("result_validity", found == "VALID", "VALID", found, text)


def _min_duration(case: Case) -> Iterator[Rule]:
    minimum = (case.benchmark and case.benchmark.min_duration_s) or case.round.min_duration_s
    wanted, found = minimum.value, case.detail.duration_s
    if wanted is None:
        yield _unknown(
            "min_duration", minimum, found, "the run must last as long as the round asks"
        )
        return
    configured = float(case.detail.values.get("effective_min_duration_ms", 0)) / 1000
    met = (
        found >= wanted
        and configured >= wanted
        and bool(case.detail.values["result_min_duration_met"])
    )
    text = (
        f"the run must last {wanted:g} s (measured {found:.3f} s, configured {configured:g} s, "
        f"LoadGen: {'met' if case.detail.values['result_min_duration_met'] else 'not met'})"
    )
    if found < 0:
        text += "; the machine's clock was set back during the run"
    yield _rule("min_duration", met, wanted, found, text)


def _min_queries(case: Case) -> Iterator[Rule]:
    detail = case.detail
    least, found, what = case.scenario.min_query_count, detail.queries, "queries"
    if detail.scenario == "Offline":
        own = case.benchmark.offline_min_samples if case.benchmark else None
        least, found, what = own or least, detail.samples, "samples"
    wanted = least.value
    if wanted is None:
        yield _unknown("min_queries", least, found, f"the run must have the least number of {what}")
        return
    met = found >= wanted and bool(detail.values["result_min_queries_met"])
    text = f"the run must have at least {wanted} {what}"
    yield _rule("min_queries", met, wanted, found, text)


def _samples_per_query(case: Case) -> Iterator[Rule]:
    if case.detail.scenario == "Offline":
        return  # the query holds what the run holds, see min_queries
    wanted = case.scenario.samples_per_query.value
    found = case.detail.values.get("effective_samples_per_query")
    if wanted is None:
        text = "a query must hold the round's number of samples"
        yield _unknown("samples_per_query", case.scenario.samples_per_query, found, text)
        return
    text = f"a query must hold {wanted} sample(s)"
    yield _rule("samples_per_query", found == wanted, wanted, found, text)


def _performance_samples(case: Case) -> Iterator[Rule]:
    if case.benchmark is None:
        return
    wanted = case.benchmark.performance_samples.value
    found = int(case.detail.values.get("effective_performance_sample_count", 0))
    # LoadGen takes the setting without asking whether the dataset has as many.
    found = min(found, int(case.detail.values.get("qsl_reported_total_count", 0)))
    if wanted is None:
        text = "the round's number of different samples must be in memory"
        name = "performance_sample_count"
        yield _unknown(name, case.benchmark.performance_samples, found, text)
        return
    text = f"at least {wanted} different samples must be in memory"
    yield _rule("performance_sample_count", found >= wanted, wanted, found, text)


def _equal_issue(case: Case) -> Iterator[Rule]:
    """Samples that differ in length: each as often as any other, or their mix decides the result.

    A compliance test may set it otherwise.
    """
    asked = case.benchmark.equal_issue if case.benchmark else None
    key = "sample_concatenate_permutation"
    if not asked or not asked.value:
        return
    if case.test and key in audit.rules(case.test).of(case.model).settings:
        return
    found = bool(case.detail.values.get(f"effective_{key}"))
    yield _rule("equal_issue", found, True, found, f"each sample must be issued as often ({key})")


def _early_stopping(case: Case) -> Iterator[Rule]:
    if case.scenario.early_stopping.value is False:
        return
    found = bool(case.detail.values["early_stopping_met"])
    said = " ".join(str(case.detail.values.get("early_stopping_result", "")).split())
    text = "the early-stopping condition must be met" + (f"; LoadGen: {said}" if said else "")
    yield _rule("early_stopping", found, True, found, text)


def _percentile(case: Case) -> Iterator[Rule]:
    if case.detail.scenario == "Offline":
        return
    found = 100 * float(case.detail.values.get("effective_target_latency_percentile", 0))
    own = case.benchmark.percentile.get(case.detail.scenario) if case.benchmark else None
    figure = own or case.scenario.percentile
    wanted = figure.value
    if wanted is None:
        text = "the latency that counts must be the round's percentile"
        yield _unknown("percentile", figure, round(found, 6), text)
        return
    text = f"the latency that counts must be the {wanted:g}th percentile"
    yield _rule("percentile", abs(found - wanted) < 1e-6, wanted, round(found, 6), text)


def _latency_bound(case: Case) -> Iterator[Rule]:
    if case.detail.scenario != "Server" or _by_tokens(case):
        return
    bound_ns = float(case.detail.values.get("effective_target_latency_ns", 0))
    limit = case.limits.latency_ms if case.limits else None
    limit_ms = limit.value if limit else None
    found = case.percentile()
    found_ms = found.value_ns / 1e6 if found else None
    allowed_ms = bound_ns / 1e6 if limit_ms is None else min(limit_ms, bound_ns / 1e6)
    met = (
        found_ms is not None
        and found_ms <= allowed_ms
        and (limit_ms is None or bound_ns <= limit_ms * 1e6)
        and bool(case.detail.values.get("result_perf_constraints_met", True))
    )
    text = f"the {found.name if found else 'percentile'} of latency must be within the bound"
    if limit_ms is None:
        text += f"; the round sets none here, the run's own of {bound_ns / 1e6:g} ms is used"
    elif bound_ns > limit_ms * 1e6:
        text += f"; the run was set to {bound_ns / 1e6:g} ms, the round allows {limit_ms:g} ms"
    yield _rule("latency_bound", met, allowed_ms, found_ms, text)


def _by_tokens(case: Case) -> bool:
    """Whether it is tokens whose latencies are bounded; LoadGen then sets none for the query."""
    return bool(case.detail.values.get("effective_use_token_latencies")) or bool(
        case.detail.values.get("requested_use_token_latencies")
    )


def _token_latencies(case: Case) -> Iterator[Rule]:
    asked = case.benchmark.token_latencies if case.benchmark else None
    if asked and asked.value:
        text = "the latencies of tokens must be measured (use_token_latencies)"
        yield _rule("token_latencies", _by_tokens(case), True, _by_tokens(case), text)


def _token_latency_bound(case: Case) -> Iterator[Rule]:
    if case.detail.scenario != "Server" or case.limits is None:
        return
    for figure, key, what in (
        (case.limits.ttft_ms, "result_first_token_99.00_percentile_latency_ns", "first token"),
        (case.limits.tpot_ms, "result_time_per_output_token_99.00_percentile_ns", "further token"),
    ):
        limit = figure.value if figure else None
        if limit is None:
            continue
        found = case.detail.values.get(key)
        found_ms = found / 1e6 if found is not None else None
        met = found_ms is not None and found_ms <= limit
        text = f"the 99th percentile of the latency of a {what} must be within {limit:g} ms"
        yield _rule("token_latency_bound", met, limit, found_ms, text)
