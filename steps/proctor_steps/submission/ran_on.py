"""The system that a run's results were measured on, described from the run and its machine."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

import proctor_steps
from proctor_steps import rounds
from proctor_steps.report.evidence import Evidence
from proctor_steps.stage import DataError, StepIO
from proctor_steps.submission import machine, system
from proctor_steps.submission.facts import Fact


def said_by_package(
    submitter: str, division: str, system_name: str, benchmark: str, round_: str
) -> dict[str, JsonValue]:
    """The fields that the package itself says; the type where the benchmark has systems of one."""
    said: dict[str, JsonValue] = {
        "division": division,
        "submitter": submitter,
        "system_name": system_name,
    }
    rules = rounds.load(round_).benchmark(benchmark)
    kinds = {kind for kind in rules.scenarios if "," not in kind} if rules is not None else ()
    if len(kinds) == 1:
        said["system_type"] = next(iter(kinds))
    return said


def describe(
    stated: Mapping[str, JsonValue],
    package: Mapping[str, JsonValue],
    found: Evidence,
    io: StepIO,
) -> dict[str, JsonValue]:
    """The fields; what is wrong with them or not known becomes findings.

    ``package``: what the package itself says of submitter, division, system.

    Raises:
        DataError: another submitter or division is stated than the package's.
    """
    if wrong := system.others(stated, package):
        raise DataError(wrong)
    runs = found.performance.values()
    known = dict(package) | {"other_software_stack": _software(found)}
    frameworks = {_framework(run.sut) for run in runs if run.sut.get("backend")}
    known["framework"] = ", ".join(sorted(frameworks))
    described = system.describe(stated, known, _machine(found, io))
    for problem in described.problems:
        io.find("system_description", "warning", f"{problem}; {system.GIVE_IT}", "systems")
    io.metrics["system_sources"] = dict(described.sources)
    return described.fields


def _framework(sut: dict[str, JsonValue]) -> str:
    """What ran the model, and the server that it stood behind."""
    name = f"{sut['backend']} {sut.get('version', '')}".strip()
    endpoint = sut.get("endpoint")
    behind = isinstance(endpoint, dict) and endpoint.get("server")
    return f"{name} behind {behind} (HTTP)" if behind else name


def _software(found: Evidence) -> str:
    """LoadGen, this program, and the container images that measured, each by its digest."""
    runs = found.performance.values()
    parts = [f"LoadGen {v}" for v in sorted({r.loadgen_version for r in runs}) if v]
    parts.append(f"Proctor {proctor_steps.__version__}")
    images = sorted({str(r.sut["image"]) for r in runs if r.sut.get("image")})
    return ", ".join([*parts, *(f"container image {image}" for image in images)])


def _machine(found: Evidence, io: StepIO) -> dict[str, Fact]:
    """What this machine tells, where it is the one that was measured.

    The step that asks has no accelerator of its own; whether the runs had one, they say.
    """
    ends = [r.sut["endpoint"] for r in found.performance.values() if r.sut.get("endpoint")]
    if any(not isinstance(end, dict) or end.get("same_host") is not True for end in ends):
        text = "a server on another host was measured: this machine says nothing of it"
        io.find("system_elsewhere", "info", text, "systems")
        return {}
    facts = machine.discover().facts
    shown = any(map(machine.is_accelerator, facts))
    # What a server beside the run was given, nobody says; nor did runs of earlier versions.
    if not ends and all(run.sut.get("devices") == [] for run in found.performance.values()):
        why = "the runs were given no accelerator"
    elif shown or any(run.sut.get("devices") for run in found.performance.values()):
        return facts
    else:
        why = "this machine shows none"
    return machine.without_accelerators(facts) | system.no_accelerators(why)
