"""The runs that a submission has to make, and what is told where there is none such."""

from __future__ import annotations

from typing import Any

import pytest

from proctor_steps.rounds.required import NotPossible, Runs, Wish, required

YOLO = {"benchmark": "yolo-99", "round": "v6.1", "system_type": "edge", "division": "closed"}
GPT = YOLO | {"benchmark": "gpt-oss-120b", "system_type": "datacenter"}
THREE = ("SingleStream", "MultiStream", "Offline")


def runs(**changed: Any) -> Runs:
    return required(Wish(**(YOLO | changed)))


def misfits(**changed: Any) -> dict[str, str]:
    with pytest.raises(NotPossible) as caught:
        runs(**changed)
    return {m.key: f"{m.message}; {m.remedy}" for m in caught.value.misfits}


def test_closed_has_exactly_what_the_round_requires() -> None:
    assert runs() == Runs("yolo", THREE, {}, ("TEST01",), "yolo-99")
    assert runs(division="network") == runs()
    assert runs(benchmark="resnet").compliance == ("TEST01", "TEST04")
    assert runs(benchmark="bert-99.9").scenarios == ("SingleStream", "Offline")
    assert runs(benchmark="whisper", system_type="datacenter").scenarios == ("Offline",)


@pytest.mark.parametrize("kind", ["datacenter,edge", "edge,datacenter"])
def test_a_system_of_both_types(kind: str) -> None:
    assert runs(benchmark="resnet", system_type=kind).scenarios == (*THREE, "Server")


def test_open_lifts_target_tests_and_scenarios() -> None:
    assert runs(division="open") == Runs("yolo", THREE, {}, (), "")
    assert runs(division="open", scenarios=["Server"]).scenarios == ("Server",)
    assert "scenarios" in misfits(division="open", scenarios=["Sever"])


def test_an_edge_system_infers_what_it_says() -> None:
    inferred = {"MultiStream": "SingleStream", "Offline": "SingleStream"}
    assert runs(infer=inferred) == Runs("yolo", THREE[:1], inferred, ("TEST01",), "yolo-99")
    assert runs(infer={"Offline": "MultiStream"}).scenarios == THREE[:2]
    assert runs(infer={"MultiStream": "measured"}) == runs()
    named = runs(scenarios=["SingleStream", "MultiStream"], infer={"Offline": "MultiStream"})
    assert named.scenarios == THREE[:2]


@pytest.mark.parametrize(
    ("infer", "told"),
    [
        ({"MultiStream": "Offline"}, "cannot be inferred from Offline; only from SingleStream"),
        ({"SingleStream": "MultiStream"}, "SingleStream cannot be inferred from MultiStream; meas"),
        ({"Server": "SingleStream"}, "Server is no scenario of this submission"),
        (
            {"Offline": "MultiStream", "MultiStream": "SingleStream"},
            "Offline would be inferred from MultiStream, which is not measured",
        ),
    ],
)
def test_what_cannot_be_inferred(infer: dict[str, str], told: str) -> None:
    assert told in misfits(infer=infer)["infer"]


def test_a_datacenter_system_infers_nothing() -> None:
    told = misfits(**GPT, scenarios=["Offline", "Server"], infer={"Offline": "SingleStream"})
    assert "nothing is inferred for datacenter systems" in told["infer"]


def test_one_of_two_has_to_be_chosen() -> None:
    assert "asks for Server or Interactive; name" in misfits(**GPT)["scenarios"]
    assert required(Wish(**GPT, scenarios=["Offline", "Server"])).scenarios == ("Offline", "Server")
    told = misfits(**GPT, scenarios=["Server"])["scenarios"]
    assert "the closed division asks for Offline as well" in told


def test_a_scenario_that_the_round_does_not_have() -> None:
    told = misfits(scenarios=[*THREE, "Server"])["scenarios"]
    assert "v6.1 has no yolo-99 in the scenario 'Server'; known: SingleStream" in told


def test_every_wrong_word_is_told_at_once() -> None:
    told = misfits(benchmark="yolo-9", system_type="edg", division="closd")
    assert "did you mean 'yolo-99'" in told["benchmark"]
    assert "did you mean 'edge'" in told["system_type"]
    assert "did you mean 'closed'" in told["division"]
    assert "did you mean 'v6.1'" in misfits(round="v6.11")["round"]


def test_a_benchmark_that_such_systems_do_not_have() -> None:
    told = misfits(system_type="datacenter")["system_type"]
    assert told == (
        "v6.1 has no yolo-99 for datacenter systems; it has it for: edge; datacenter,edge"
    )


def test_the_name_without_its_accuracy_is_not_submitted() -> None:
    assert "write yolo-95 or yolo-99" in misfits(benchmark="yolo")["benchmark"]


def test_a_round_that_does_not_say_what_it_asks_for() -> None:
    told = misfits(benchmark="bert-99", round="v4.0")["round"]
    assert "not known: the page names the types of system" in told
    tests = misfits(benchmark="pointpainting", round="v6.1")
    assert "its compliance tests are not known" in tests["round"]
