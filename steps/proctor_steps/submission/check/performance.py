"""Family *performance*: what a performance run set, and what it measured.

The official checker reads settings; every one of its tests stands here in its own terms, and what
it lets pass is then measured by the rules of a run (:mod:`proctor_steps.loadgen.rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from proctor_steps.submission.check import files, strict
from proctor_steps.submission.check.asked import SCENARIOS, checker, scenario_of
from proctor_steps.submission.check.finding import Finding, Severity
from proctor_steps.submission.check.logs import damage
from proctor_steps.submission.check.result import Log, Result, Run
from proctor_steps.submission.check.scores import as_float

_RERUN = "run the performance run again with LoadGen and the round's settings"
_NETWORK_SUT = "Network SUT"
# Folder and log of scenarios that may differ, on edge systems.
_INFERRED = {
    ("singlestream", "multistream"),
    ("multistream", "offline"),
    ("singlestream", "offline"),
}
_INFERRED_FROM = "early_stopping_latency_ms"  # MultiStream's figure, in a SingleStream log
_WITHOUT_DURATION = "e2e-rag"  # a single pass over the dataset, however long it takes


def findings(result: Result) -> Iterator[Finding]:
    """Everything about the result's own performance run."""
    log = result.performance
    if log.scan is None:
        yield from _no_log(result, log)
        return
    yield from judge(Run(result, log))


def _no_log(result: Result, log: Log) -> Iterator[Finding]:
    taken = result.asked is not None and result.asked.rules.endpoints
    if taken and result.endpoints and files.size(result.place.folder / "config.yaml"):
        yield result.tell.advice(
            "not_judged", result.place.folder,
            "was measured by MLPerf Endpoints, not LoadGen; such results are not judged here",
            "have the official checker judge it",
        )  # fmt: skip
        return
    # Without both logs the checker looks for those of MLPerf Endpoints, in its own way.
    stops = not result.endpoints or result.scenario not in ("SingleStream", "Interactive")
    yield result.tell.rejected(
        "performance_log", log.path, "is missing", "add the detail log of the performance run",
        stops=stops,
    )  # fmt: skip


def judge(run: Run) -> Iterator[Finding]:
    """One performance run, the result's own or a compliance test's."""
    tell, log = run.result.tell, run.log
    broken = list(damage(log, tell, "performance"))
    yield from broken
    if any(f.severity is Severity.REJECTED for f in broken):
        return
    told = [finding for check in _CHECKS for finding in check(run)]
    yield from told
    yield from strict.performance(run, {finding.rule for finding in told})


_Check = Callable[[Run], Iterator[Finding]]


def _number(run: Run, key: str, rule: str) -> Iterator[Finding]:
    """The finding where a setting that is compared is not told, or is no number."""
    if run.log.number(key) is None:
        yield run.result.tell.rejected(
            rule, run.log.path, _untold(run.log, key), _RERUN, run.log.line(key)
        )


def _untold(log: Log, key: str) -> str:
    value = log.value(key)
    return f"does not tell {key}" if value is None else f"{key} is {value!r}, which is no number"


def _sample_count(run: Run) -> Iterator[Finding]:
    asked, key = run.result.asked, "effective_performance_sample_count"
    wanted = checker(asked.rules.performance_samples) if asked else None
    if wanted is None:
        return
    rule = "performance_sample_count"
    yield from _number(run, key, rule)
    found = run.log.number(key)
    if found is not None and found < wanted:
        yield run.result.tell.rejected(
            rule, run.log.path,
            f"{found:g} different samples were in memory; the benchmark wants at least {wanted}",
            "set performance_sample_count_override, or let mlperf.conf set it", run.log.line(key),
        )  # fmt: skip


def _seeds(run: Run) -> Iterator[Finding]:
    for name, figure in run.result.system.round.seeds.items():
        key = f"effective_{name}_rng_seed"
        wanted, found = checker(figure), run.log.value(key)
        if wanted is not None and found != wanted:
            yield run.result.tell.rejected(
                f"seed_{name}", run.log.path,
                f"the {name} seed is {found}; that of {run.result.system.round.round} is {wanted}",
                "run again with the round's mlperf.conf (another round's LoadGen has others)",
                run.log.line(key),
            )  # fmt: skip


def _early_stopping(run: Run) -> Iterator[Finding]:
    if run.log.value("effective_scenario") not in ("SingleStream", "MultiStream", "Server"):
        return
    if not run.log.value("early_stopping_met"):
        said = " ".join(str(run.log.value("early_stopping_result") or "").split())
        yield run.result.tell.rejected(
            "early_stopping", run.log.path,
            "the early-stopping condition was not met" + (f"; LoadGen: {said}" if said else ""),
            "run longer, or at a lower load", run.log.line("early_stopping_met"),
        )  # fmt: skip


def _latency_bound(run: Run) -> Iterator[Finding]:
    """The bound that the run was set to; in what the checker takes for no latency scenario, p99."""
    asked, ran = run.result.asked, run.log.value("effective_scenario")
    if asked is None:
        return
    early = ran in ("SingleStream", "MultiStream", "Server")
    scenario = scenario_of(ran) if early else run.result.scenario
    limit = asked.latency_ns(scenario, "latency_ms")
    if limit is None:
        return
    key = "effective_target_latency_ns" if early else "result_99.00_percentile_latency_ns"
    yield from _number(run, key, "latency_bound")
    found = run.log.number(key)
    if found is not None and found > limit:
        yield run.result.tell.rejected(
            "latency_bound", run.log.path,
            f"{key} is {found / 1e6:g} ms; the bound is {limit / 1e6:g} ms",
            "set target_latency to the benchmark's bound, and find the load that meets it",
            run.log.line(key),
        )  # fmt: skip


def _queries(run: Run) -> Iterator[Finding]:
    if run.log.value("effective_scenario") != "Offline" or run.result.asked is None:
        return
    yield from _number(run, "effective_min_query_count", "min_queries")
    if (run.log.number("effective_min_query_count") or 1) < 1:
        yield run.result.tell.rejected(
            "min_queries", run.log.path, "min_query_count is below 1", _RERUN,
            run.log.line("effective_min_query_count"),
        )  # fmt: skip
    key, wanted = "effective_samples_per_query", checker(run.result.asked.rules.offline_min_samples)
    yield from _number(run, key, "min_queries")
    found = run.log.number(key)
    closed = run.result.place.division == "closed"
    if closed and wanted is not None and found is not None and found < wanted:
        yield run.result.tell.rejected(
            "min_queries", run.log.path,
            f"the Offline query held {found:g} samples; the benchmark wants at least {wanted}",
            "set min_query_count in user.conf, or a higher target_qps", run.log.line(key),
        )  # fmt: skip


def _duration(run: Run) -> Iterator[Finding]:
    asked, key = run.result.asked, "effective_min_duration_ms"
    if asked is None or asked.name.startswith(_WITHOUT_DURATION):
        return
    wanted = checker(run.result.system.round.min_duration_s)
    yield from _number(run, key, "min_duration")
    found = run.log.number(key)
    if wanted is not None and found is not None and found < wanted * 1000:
        yield run.result.tell.rejected(
            "min_duration", run.log.path,
            f"the run was set to last {found / 1000:g} s; the round wants {wanted:g} s",
            "remove min_duration from user.conf, and run again", run.log.line(key),
        )  # fmt: skip


def _network(run: Run) -> Iterator[Finding]:
    described = run.result.system.described.fields or {}
    name, flag = run.log.value("sut_name"), described.get("is_network")
    if isinstance(flag, str) and flag.lower() == "true" and _NETWORK_SUT not in str(name):
        yield run.result.tell.rejected(
            "network_sut_name", run.log.path,
            f"the SUT is named {name!r}; over a network its name must hold {_NETWORK_SUT!r}",
            "name the QDL so, and run again", run.log.line("sut_name"),
        )  # fmt: skip


def _tokens(run: Run) -> Iterator[Finding]:
    asked, log, tell = run.result.asked, run.log, run.result.tell
    if asked is None or not asked.tokens:
        return
    if not log.value("requested_use_token_latencies"):
        yield tell.rejected(
            "token_latencies", log.path, "the latencies of tokens were not measured",
            "set use_token_latencies = 1 (mlperf.conf does so for this benchmark)",
            log.line("requested_use_token_latencies"),
        )  # fmt: skip
        return
    if log.value("effective_scenario") != "Server":
        return
    # LoadGen says Server for Interactive as well, and so the checker takes Server's bounds.
    for what, key in (
        ("ttft_ms", "result_first_token_99.00_percentile_latency_ns"),
        ("tpot_ms", "result_time_per_output_token_99.00_percentile_ns"),
    ):
        yield from _number(run, key, "token_latency_bound")
        found, limit = log.number(key), asked.latency_ns("Server", what)
        if found is not None and limit is not None and not found < limit:
            yield tell.rejected(
                "token_latency_bound", log.path,
                f"{key} is {found / 1e6:g} ms; it must be below {limit / 1e6:g} ms",
                "run again at a lower load", log.line(key),
            )  # fmt: skip


def _inferred(run: Run) -> Iterator[Finding]:
    ran, named = run.log.value("effective_scenario"), run.result.place.scenario
    if not isinstance(ran, str) or ran not in SCENARIOS.values():
        yield run.result.tell.rejected(
            "scenario", run.log.path,
            f"effective_scenario is {ran!r}, which is no scenario of LoadGen's", _RERUN,
            run.log.line("effective_scenario"),
        )  # fmt: skip
        return
    pair = (ran.lower(), named.lower())
    if pair[0] == pair[1] or pair == ("server", "interactive"):
        return
    why = ""
    if pair not in _INFERRED:
        why = f"no result of {named} may be inferred from it"
    elif not run.result.system.is_edge:
        why = "only on edge systems may results be inferred"
    if why:
        yield run.result.tell.rejected(
            "scenario", run.log.path, f"the log is of {ran}, the folder is {named}; {why}",
            "put the log where it belongs", run.log.line("effective_scenario"),
        )  # fmt: skip


def _metric(run: Run) -> Iterator[Finding]:
    ran = run.log.value("effective_scenario")
    if run.result.asked is None or ran not in SCENARIOS.values():
        return
    for key in metric_keys(run.result, run.log):
        found = as_float(run.log.value(key))
        # A test's own figure counts nowhere; what a figure is inferred from does.
        if found is None or (found == 0 and (not run.test or key == _INFERRED_FROM)):
            what = "is 0" if found == 0 else "is not told"
            yield run.result.tell.rejected(
                "metric", run.log.path, f"the result's figure, {key}, {what}",
                "give the log of a performance run that finished, with enough queries",
                run.log.line(key),
            )  # fmt: skip


def metric_keys(result: Result, log: Log) -> list[str]:
    """The keys that the result's figure is computed from; each must be there."""
    ran = log.value("effective_scenario")
    base = result.system.round.scenarios[ran].reported
    own = result.asked.reported_key(ran) if result.asked else None
    keys = [base.key if base else None, own]
    inferred = {
        ("SingleStream", "offline"): "result_qps_without_loadgen_overhead",
        ("MultiStream", "offline"): "result_mean_query_latency_ns",
        ("SingleStream", "multistream"): _INFERRED_FROM,
    }
    keys.append(inferred.get((ran, result.place.scenario.lower())))
    return [key for key in dict.fromkeys(keys) if key]


_CHECKS: tuple[_Check, ...] = (
    _sample_count,
    _seeds,
    _early_stopping,
    _latency_bound,
    _queries,
    _duration,
    _network,
    _tokens,
    _inferred,
    _metric,
)
