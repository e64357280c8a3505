"""user.conf and LoadGen's settings, and the check that LoadGen took what was written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proctor_steps.loadgen.log import Mode
from proctor_steps.rounds import BenchmarkRules, LoadgenScenario
from proctor_steps.stage import StepError

USER_CONF = "user.conf"
# LoadGen looks for audit.config in the working folder by default; a stray one would change the
# run silently. A path that does not exist is ignored.
NO_AUDIT = "no-audit.config"
_POSITIVE = re.compile(r"(?=.*[1-9])\d{1,18}(\.\d{1,18})?")
_FIELDS = {
    "min_duration": ("min_duration_ms", 1.0),
    "min_query_count": ("min_query_count", 1.0),
    "performance_sample_count_override": ("performance_sample_count_override", 1.0),
}
_TARGETS: dict[str, dict[str, tuple[str, float]]] = {
    "SingleStream": {"target_latency": ("single_stream_expected_latency_ns", 1e6)},
    "MultiStream": {"target_latency": ("multi_stream_expected_latency_ns", 1e6)},
    "Server": {
        "target_latency": ("server_target_latency_ns", 1e6),
        "target_qps": ("server_target_qps", 1.0),
        "max_async_queries": ("server_max_async_queries", 1.0),
    },
    "Offline": {"target_qps": ("offline_expected_qps", 1.0)},
}


@dataclass(frozen=True)
class Wanted:
    """What user.conf says. Latencies in ms; ``None`` leaves LoadGen's own value.

    ``max_async_queries``: Server ends early, INVALID, where more are outstanding.
    """

    min_duration_s: float | None = None
    min_query_count: int | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    performance_samples: int | None = None
    max_async_queries: int | None = None

    def lines(self) -> dict[str, float]:
        """Key -> value, in user.conf's names and units."""
        pairs = {
            "min_duration": None if self.min_duration_s is None else self.min_duration_s * 1000,
            "min_query_count": self.min_query_count,
            "target_qps": self.target_qps,
            "target_latency": self.target_latency_ms,
            "performance_sample_count_override": self.performance_samples,
            "max_async_queries": self.max_async_queries,
        }
        return {key: value for key, value in pairs.items() if value is not None}


# Server's latency limit where neither the round nor the user sets one.
_SERVER_LATENCY_MS = 100.0
# Early stopping at the 99th percentile needs 459 queries even when none is late. Only a run much
# shorter than the rules want would issue fewer; it goes on until it has these.
SERVER_QUERIES = 600


def min_queries(
    rules: BenchmarkRules | None, scenario: LoadgenScenario, mode: Mode, given: int
) -> int | None:
    """The minimum that user.conf must set: LoadGen has none of its own for some benchmarks."""
    if given:
        return given
    if rules and scenario == "Offline" and mode == "performance":
        return rules.offline_min_samples.value if rules.offline_min_samples else None
    if scenario == "Server" and mode == "performance":
        return SERVER_QUERIES
    return None


def server_limit_ms(rules: BenchmarkRules | None, given: float | None) -> float:
    """Server's latency limit: the user's, else the round's, else one of no meaning."""
    limit = rules.limit_ms("Server") if rules else None
    return given or limit or _SERVER_LATENCY_MS


def write_user_conf(path: Path, key: str, scenario: LoadgenScenario, wanted: Wanted) -> None:
    """Write user.conf. Blanks around ``=`` are not optional: without them a line has no effect."""
    lines = [f"# {key}, {scenario}: what differs from LoadGen's embedded mlperf.conf"]
    lines += [f"{key}.{scenario}.{k} = {_number(v)}" for k, v in wanted.lines().items()]
    path.write_text("".join(line + "\n" for line in lines), encoding="ascii")


def read_expected(path: Path, key: str, scenario: LoadgenScenario) -> Wanted:
    """What a tuned user.conf says of the system: ``target_qps`` and ``target_latency``.

    Raises:
        StepError: it cannot be read, or says anything else; all such lines at once.
    """
    found: dict[str, float] = {}
    wrong: list[str] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, value = (part.strip() for part in line.partition(" = "))
        field = name.removeprefix(f"{key}.{scenario}.")
        if field not in ("target_qps", "target_latency") or not _POSITIVE.fullmatch(value):
            wrong.append(f"  {path.name}:{number}: {line.strip()[:100]}")
            continue
        found[field] = float(value)
    if wrong:
        raise StepError(
            f"{path} is no tuning of {key} {scenario}: wanted are lines "
            f"`{key}.{scenario}.target_qps = 12.5`, or target_latency in ms; these are not:\n"
            + "\n".join(wrong)
        )
    return Wanted(target_qps=found.get("target_qps"), target_latency_ms=found.get("target_latency"))


def make(
    loadgen: Any, conf: Path, key: str, scenario: LoadgenScenario, mode: Mode, wanted: Wanted
) -> Any:
    """LoadGen's TestSettings. Once per process: a second FromConfig loses the embedded settings.

    Raises:
        StepError: LoadGen did not take user.conf, or not all of it.
    """
    settings = loadgen.TestSettings()
    code = settings.FromConfig(str(conf), key, scenario)
    if code != 0:
        raise StepError(f"LoadGen does not take {conf.name}: FromConfig returned {code}")
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    names = {"accuracy": "AccuracyOnly", "performance": "PerformanceOnly"}
    settings.mode = getattr(loadgen.TestMode, names[mode])
    _check(settings, scenario, wanted)
    return settings


def log_settings(loadgen: Any, folder: Path) -> Any:
    """Logs into ``folder``, without the trace, which would halve the query rate."""
    output = loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    made = loadgen.LogSettings()
    made.log_output = output
    made.enable_trace = False
    return made


def _check(settings: Any, scenario: LoadgenScenario, wanted: Wanted) -> None:
    fields = _FIELDS | _TARGETS[scenario]
    for key, value in wanted.lines().items():
        field, factor = fields[key]
        found = getattr(settings, field)
        # LoadGen keeps whole units.
        if abs(found - value * factor) > max(1.0, 1e-6 * value * factor):
            raise StepError(
                f"LoadGen did not take {key} = {_number(value)} from user.conf: {field} is {found}"
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise StepError(
            f"{path} cannot be read ({error}); give the output of loadgen tune"
        ) from error


def _number(value: float) -> str:
    """Without exponent: LoadGen's reader stops at the ``e``."""
    return str(int(value)) if float(value).is_integer() else f"{value:.6f}"
