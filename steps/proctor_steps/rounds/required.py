"""The runs that a submission has to make: its round, benchmark, system type and division as data.

What the divisions ask for (inference_rules.adoc, constraints of the closed and relaxed constraints
of the open division): closed and network need every required scenario, the accuracy target and the
compliance tests; open lifts all three. Edge systems may infer a scenario from another one instead
of measuring it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from proctor_steps.rounds import UnknownName, load, nearest
from proctor_steps.rounds.model import BenchmarkRules, Round, Scenarios, SystemType, Test

Division = Literal["closed", "open", "network"]
DIVISIONS: tuple[Division, ...] = get_args(Division)
SYSTEM_TYPES: tuple[SystemType, ...] = get_args(SystemType)
MEASURED = "measured"  # in ``infer``: the scenario is not inferred
# Measured -> what an edge system may infer from it.
INFERABLE = {"SingleStream": ("MultiStream", "Offline"), "MultiStream": ("Offline",)}


@dataclass(frozen=True)
class Wish:
    """What is to be submitted, as someone wrote it.

    ``benchmark``: an official folder name. ``scenarios``: those to submit; empty: all that are
    required. ``infer``: scenario -> the measured one that it is inferred from, or ``measured``.
    """

    benchmark: str
    round: str
    system_type: str
    division: str
    scenarios: Sequence[str] = ()
    infer: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runs:
    """What has to be run.

    ``model``: the benchmark's name without its accuracy (``yolo`` for ``yolo-99``). ``scenarios``
    are measured, each in accuracy and performance mode, and once more for each of ``compliance``;
    ``inferred`` are not. ``target``: the folder name whose accuracy target must be met; empty where
    the division has none.
    """

    model: str
    scenarios: tuple[str, ...]
    inferred: dict[str, str]
    compliance: tuple[Test, ...]
    target: str


@dataclass(frozen=True)
class Misfit:
    """What does not go: the key of the wish, what is wrong with it, and what is possible."""

    key: str
    message: str
    remedy: str = ""


class NotPossible(Exception):
    """There is no such submission; ``misfits`` hold every reason."""

    def __init__(self, misfits: Sequence[Misfit]) -> None:
        self.misfits = tuple(misfits)
        super().__init__("; ".join(misfit.message for misfit in misfits))


def required(wish: Wish) -> Runs:
    """The runs of a submission.

    Raises:
        NotPossible: the round has no such submission, or cannot say what it asks for.
    """
    misfits = list(_words(wish))
    round_ = _round(wish, misfits)
    rules = _benchmark(wish, round_, misfits) if round_ else None
    if round_ is None or rules is None or misfits:
        raise NotPossible(misfits)
    wanted = _wanted(wish, rules)
    lifted = wish.division == "open"
    inferred = {to: of for to, of in wish.infer.items() if of != MEASURED}
    named = tuple(dict.fromkeys([*wish.scenarios, *inferred])) if wish.scenarios else ()
    misfits += _named(wish, round_, wanted, named)
    submitted = named or tuple(one_of[0] for one_of in wanted)
    misfits += _inferred(wish, inferred, submitted)
    tests = rules.compliance
    if tests.value is None and not lifted:
        misfits.append(Misfit("round", f"its compliance tests are not known: {tests.why}"))
    if misfits:
        raise NotPossible(misfits)
    return Runs(
        model=str(round_.name(wish.benchmark)),
        scenarios=tuple(each for each in submitted if each not in inferred),
        inferred=inferred,
        compliance=() if lifted else tests.value or (),
        target="" if lifted else wish.benchmark,
    )


def _words(wish: Wish) -> Iterator[Misfit]:
    for key, value, known in (
        ("division", wish.division, DIVISIONS),
        ("system_type", _type(wish), SYSTEM_TYPES),
    ):
        if value not in known:
            yield Misfit(key, f"{value!r} is no {key}", nearest(value, known))


def _type(wish: Wish) -> str:
    """Both orders of ``datacenter,edge`` mean the same."""
    return "datacenter,edge" if wish.system_type == "edge,datacenter" else wish.system_type


def _round(wish: Wish, misfits: list[Misfit]) -> Round | None:
    try:
        return load(wish.round)
    except UnknownName as error:
        misfits.append(Misfit("round", error.what, error.remedy))
        return None


def _benchmark(wish: Wish, round_: Round, misfits: list[Misfit]) -> BenchmarkRules | None:
    rules = round_.benchmark(wish.benchmark)
    folders = [folder for each in round_.benchmarks.values() for folder in each.accuracy]
    if rules is None:
        message = f"{round_.round} has no benchmark {wish.benchmark!r}"
        misfits.append(Misfit("benchmark", message, nearest(wish.benchmark, folders)))
        return None
    if wish.benchmark not in rules.accuracy:
        message = f"no result is submitted under the name {wish.benchmark!r}"
        misfits.append(Misfit("benchmark", message, f"write {' or '.join(rules.accuracy)}"))
    if _type(wish) in SYSTEM_TYPES:
        misfits.extend(_for_type(wish, round_, rules))
    return rules


def _for_type(wish: Wish, round_: Round, rules: BenchmarkRules) -> Iterator[Misfit]:
    figure = next((f for kind, f in rules.scenarios.items() if kind == _type(wish)), None)
    if figure is not None and figure.value is None:
        yield Misfit("round", f"what it asks for is not known: {figure.why}", "take another round")
    elif figure is None or not figure.value:
        possible = [kind for kind, f in rules.scenarios.items() if f.value]
        message = f"{round_.round} has no {wish.benchmark} for {wish.system_type} systems"
        yield Misfit("system_type", message, f"it has it for: {'; '.join(possible)}")


def _wanted(wish: Wish, rules: BenchmarkRules) -> Scenarios:
    kind = next(kind for kind in SYSTEM_TYPES if kind == _type(wish))
    return rules.required(kind)


def _named(wish: Wish, round_: Round, wanted: Scenarios, named: Sequence[str]) -> Iterator[Misfit]:
    """Whether the scenarios that were named, if any were, are possible and enough."""
    lifted = wish.division == "open"
    possible = list(round_.scenarios) if lifted else [s for one_of in wanted for s in one_of]
    for scenario in named:
        if scenario not in possible:
            message = f"{round_.round} has no {wish.benchmark} in the scenario {scenario!r}"
            yield Misfit("scenarios", message, nearest(scenario, possible))
    if lifted and named:
        return
    for one_of in wanted:
        if not named and len(one_of) > 1:
            message = f"the round asks for {' or '.join(one_of)}"
            yield Misfit("scenarios", message, "name the scenarios to run")
        elif named and not set(one_of) & set(named):
            message = f"the {wish.division} division asks for {' or '.join(one_of)} as well"
            yield Misfit("scenarios", message, "add it, or leave 'scenarios' out")


def _inferred(
    wish: Wish, inferred: Mapping[str, str], submitted: Sequence[str]
) -> Iterator[Misfit]:
    if inferred and "edge" not in _type(wish):
        message = f"nothing is inferred for {wish.system_type} systems"
        yield Misfit("infer", message, "only edge systems may; measure every scenario")
        return
    for scenario, source in inferred.items():
        sources = [of for of, targets in INFERABLE.items() if scenario in targets]
        if scenario not in submitted:
            message = f"{scenario} is no scenario of this submission"
            yield Misfit("infer", message, nearest(scenario, submitted))
        elif source not in sources:
            message = f"{scenario} cannot be inferred from {source}"
            remedy = f"only from {' or '.join(sources)}" if sources else "measure it"
            yield Misfit("infer", message, remedy)
        elif source not in submitted or source in inferred:
            message = f"{scenario} would be inferred from {source}, which is not measured"
            yield Misfit("infer", message, f"measure {source}")
