"""The rounds' data: complete, strict, and agreeing with the LoadGen that is installed."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from proctor_steps import rounds
from proctor_steps.cli import rounds_app
from proctor_steps.rounds import Figure, Round
from proctor_steps.rounds.show import figures

# Folder name: edge, datacenter (what the checker wants; "-" is not allowed), what the accuracy has
# to reach by the checker, performance samples, accuracy samples, samples in the Offline query.
V6_1 = """
yolo-95             | SS MS Off  | -             | mAP 50.730           | 64     | 1525   | 1525
yolo-99             | SS MS Off  | -             | mAP 52.866           | 64     | 1525   | 1525
resnet              | SS MS Off  | -             | acc 75.6954          | 1024   | 50000  | 24576
bert-99             | SS Off     | -             | F1 89.96526          | 10833  | 10833  | 10833
bert-99.9           | SS Off     | -             | F1 90.783126         | 10833  | 10833  | 10833
3d-unet-99          | SS Off     | Off           | DICE 0.853083        | 43     | 43     | 43
3d-unet-99.9        | SS Off     | Off           | DICE 0.8608383       | 43     | 43     | 43
stable-diffusion-xl | SS Off     | -             | FID_SCORE 23.01085758 | 5000  | 5000   | 5000
whisper             | Off        | Off           | ACCURACY 96.953571   | 1633   | 1633   | 1633
llama3.1-8b         | -          | Off Srv|Int   | ROUGE1 38.391408     | 13368  | 13368  | 13368
llama3.1-8b-edge    | SS Off     | -             | ROUGE1 38.6694       | 5000   | 5000   | 5000
rgat                | -          | Off           | acc 0.721314         | 788379 | 788379 | 788379
gpt-oss-120b        | -          | Off Srv|Int   | exact_match 82.2987  | 6396   | 4395   | 6396
qwen3-vl-235b-a22b  | -          | Off Srv|Int   | F1_HIERARCHICAL 0.782397 | 48289 | 48289 | 48289
wan-2.2-t2v-a14b    | -          | Off SS        | vbench_score 69.7752 | 50     | 248    | 50
dlrm-v3             | -          | Srv Off       | DLRM_ACC 0.69581349  | 349823 | 349823 | 349823
deepseek-r1         | -          | Off Srv|Int   | exact_match 80.544618 | 4388  | 4388   | 4388
llama2-70b-99.9     | -          | Off Srv|Int   | ROUGE1 44.3867688    | 24576  | 24576  | 24576
qwen3.6-27b         | SS         | -             | mAP 85.3677          | 995    | 995    | -
e2e-rag-qna         | -          | Off           | E2E_ACCURACY 33.95   | 824    | 824    | 824
e2e-rag-db          | -          | Off           | E2E_ACCURACY 98      | 2515   | 2515   | 2515
"""
SHORT = {
    "SingleStream": "SS",
    "MultiStream": "MS",
    "Offline": "Off",
    "Server": "Srv",
    "Interactive": "Int",
}


def by_checker(figure: Figure[int] | None) -> str:
    value = figure.by("checker") if figure else None
    return "-" if value is None else str(value)


def line_of(round_: Round, name: str, metric: str) -> list[str]:
    """The folder's line of the table, from the data."""
    rules = rounds.find(round_, name)
    found = []
    for kind in ("edge", "datacenter"):
        figure = rules.scenarios.get(kind)
        wanted = (figure.by("checker") if figure else None) or ()
        found.append(" ".join("|".join(SHORT[s] for s in one_of) for one_of in wanted) or "-")
    bound = rules.bounds(name, "Offline")[metric].at_least
    assert bound is not None
    found.append(f"{metric} {bound.by('checker')}")
    counts = (rules.performance_samples, rules.logged_samples("Offline"), rules.offline_min_samples)
    return found + [by_checker(each) for each in counts]


def test_v6_1_is_as_published() -> None:
    round_ = rounds.load("v6.1")
    for line in V6_1.strip().splitlines():
        name, *wanted = (cell.strip() for cell in line.replace("|Int", "/Int").split("|"))
        metric, target = wanted[2].split()
        wanted = [cell.replace("/Int", "|Int") for cell in wanted]
        wanted[2] = f"{metric} {float(target)}"
        assert line_of(round_, name, metric) == wanted, name


def test_yolo_is_submitted_under_two_names() -> None:
    round_ = rounds.load("v6.1")
    yolo = round_.benchmark("yolo")
    assert yolo is not None
    assert yolo is round_.benchmark("yolo-99")
    assert round_.targets("yolo", "mAP") == {"yolo-95": 0.50730, "yolo-99": 0.52866}
    assert round_.targets("yolo-99", "mAP") == {"yolo-99": 0.52866}
    assert round_.targets("yolo", "acc") == {}
    assert yolo.has("Offline")
    assert not yolo.has("Server")


def test_an_alias_finds_its_benchmark() -> None:
    round_ = rounds.load("v6.1")
    assert round_.benchmark("resnet50") is round_.benchmark("resnet")
    assert round_.benchmark("digits") is None


@pytest.mark.parametrize(
    ("name", "path", "policy", "checker", "in_force"),
    [
        ("gpt-oss-120b", "latency.Interactive.tpot_ms", 20, 15, 20),
        ("dlrm-v3", "latency.Server.latency_ms", 80, 60000, 80),
        ("dlrm-v3", "performance_samples", 34996, 349823, 34996),
        ("qwen3.6-27b", "accuracy.qwen3.6-27b.mAP.at_least", 83.64, 85.3677, 83.64),
        ("rgat", "accuracy.rgat.acc.at_least", 72.1314, 0.721314, 72.1314),
        ("3d-unet", "performance_samples", 42, 43, 43),
    ],
)
def test_a_disputed_figure_holds_what_each_source_says(
    name: str, path: str, policy: float, checker: float, in_force: float
) -> None:
    found = {".".join(p): f for p, f in figures(rounds.find(rounds.load("v6.1"), name))}
    figure = found[path]
    assert (figure.by("policy"), figure.by("checker")) == (policy, checker)
    assert figure.value == in_force
    assert figure.disputed
    assert figure.why


def test_the_checkers_wrong_direction_is_no_rule() -> None:
    error = rounds.find(rounds.load("v6.1"), "dlrm-v3").accuracy["dlrm-v3"]["DLRM_NE"]
    assert error.at_least is not None
    assert error.at_least.by("checker") == 0.86600313
    assert error.at_least.value is None
    assert error.met(0.8) is None


def test_within_two_bounds() -> None:
    round_ = rounds.load("v6.1")
    score = round_.benchmarks["stable-diffusion-xl"].accuracy["stable-diffusion-xl"]["FID_SCORE"]
    assert [score.met(value) for value in (23.0, 23.5, 24.0)] == [False, True, False]


def test_interactive_differs_where_the_round_says_so() -> None:
    rules = rounds.find(rounds.load("v6.1"), "qwen3-vl-235b-a22b")
    name = "qwen3-vl-235b-a22b"
    assert rules.logged_samples("Interactive").value == 8000
    assert rules.logged_samples("Server").value == 48289
    bound = rules.bounds(name, "Interactive")["F1_HIERARCHICAL"].at_least
    assert bound is not None
    assert bound.value == 0.779922
    assert rules.key("Interactive").value is None
    assert rules.key("Server").value == name


def test_the_installed_loadgen_is_one_of_the_rounds() -> None:
    versions = rounds.load("v6.1").loadgen_versions.value
    assert versions is not None
    assert version("mlcommons-loadgen") in versions


@pytest.mark.parametrize("name", rounds.names())
def test_every_round_says_where_its_figures_stand(name: str) -> None:
    round_ = rounds.load(name)
    assert round_.round == name
    found = list(figures(round_))
    assert {source for _, figure in found for source in figure.stated} == set(round_.sources)
    assert all(figure.why for _, figure in found if figure.value is None)


def test_v4_0_has_only_what_its_page_publishes() -> None:
    round_ = rounds.load("v4.0")
    assert round_.status == "published page only"
    assert set(round_.benchmarks) == {
        "resnet", "retinanet", "3d-unet", "bert", "gpt-j", "llama2-70b", "mixtral-8x7b", "dlrm-v2",
        "stable-diffusion-xl",
    }  # fmt: skip
    assert round_.benchmarks["bert"].limit_ms("Server") == 130
    assert round_.benchmarks["3d-unet"].dataset_samples.value == 42
    assert round_.seeds.qsl.value is None
    assert "page" in round_.seeds.qsl.why


def written(**changed: object) -> str:
    """v6.1 with one figure of yolo written otherwise."""
    path = Path(rounds.__path__[0], "v6.1.yaml")
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["benchmarks"]["yolo"] |= changed
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dataset_size": 1525}, "dataset_size"),
        ({"dataset_samples": None}, "valid integer"),
        ({"dataset_samples": {}}, "valid integer|stated"),
        ({"dataset_samples": {"somewhere": 1525}}, "somewhere"),
        ({"dataset_samples": {"checker": 1525, "remark": "x"}}, "remark"),
        ({"dataset_samples": {"unknown": ""}}, "needs its reason"),
        ({"dataset_samples": {"unknown": "no one says", "checker": 5}}, "checker"),
        ({"dataset_samples": {"policy": 1, "checker": 2}}, "the sources disagree"),
        ({"dataset_samples": {"policy": 1, "in_force": "checker"}}, "does not state"),
        ({"dataset_samples": {"policy": 1, "in_force": "none"}}, "needs its reason"),
        ({"scenarios": {"edge": ["Multistream"]}}, "MultiStream"),
        ({"scenarios": {"mobile": ["Offline"]}}, "datacenter"),
        ({"accuracy": {}}, "at least 1 item"),
        ({"compliance": ["TEST05"]}, "TEST01"),
    ],
)
def test_what_is_misspelt_or_stands_nowhere_is_an_error(
    changed: dict[str, object], told: str
) -> None:
    rounds.parse(written())
    with pytest.raises(ValidationError, match=told):
        rounds.parse(written(**changed))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(rounds_app, arguments)
    return result.exit_code, result.output


def test_the_terminal_lists_the_rounds() -> None:
    code, text = run("list")
    assert code == 0
    assert all(name in text for name in rounds.names())
    assert "published page only" in text
    assert [each["round"] for each in json.loads(run("list", "--json")[1])] == rounds.names()


@pytest.mark.parametrize("name", rounds.names())
def test_the_terminal_shows_a_round(name: str) -> None:
    code, text = run("show", name)
    assert code == 0
    folders = [f for rules in rounds.load(name).benchmarks.values() for f in rules.accuracy]
    assert all(folder in text for folder in folders)
    assert Round.model_validate_json(run("show", name, "--json")[1]) == rounds.load(name)


def test_the_terminal_shows_a_benchmark_with_its_sources() -> None:
    code, text = run("show", "v6.1", "gpt-oss-120b")
    assert code == 0
    line = next(line for line in text.splitlines() if "Interactive tpot_ms" in line)
    assert "20" in line
    assert "policy" in line
    assert "mlperf.conf: 15, checker: 15" in line
    assert "yolo-95" not in run("show", "v6.1", "yolo-99")[1]
    both = run("show", "v6.1", "yolo")[1]
    assert "yolo-95" in both
    assert "yolo-99" in both


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "v6.2"), "there is no round 'v6.2'; did you mean 'v6.1' or 'v6.0'? known: v4.0"),
        (("show", "v6.1", "Yolo99"), "v6.1 has no benchmark 'Yolo99'; did you mean 'yolo-99'"),
        (("show", "v6.1", "xyz"), "v6.1 has no benchmark 'xyz'; known: yolo,"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(arguments: tuple[str, ...], told: str) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert told in text
