"""Malformed specs and the exact text that each gives.

PROCTOR_GOLDEN=write writes the texts anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proctor.plan.compile import compile
from proctor.spec.errors import Position, Problem, SpecErrors, did_you_mean
from proctor.spec.load import load_pipeline, parse_pipeline

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "errors"
MALFORMED = sorted(path.name for path in GOLDEN.glob("*.yaml"))


def errors_of(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(SpecErrors) as caught:
        compile(load_pipeline(Path(name)))
    return "".join(f"{problem}\n" for problem in caught.value.problems)


@pytest.mark.parametrize("name", MALFORMED)
def test_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = errors_of(name, monkeypatch)
    expected = GOLDEN / name.replace(".yaml", ".txt")
    if os.environ.get("PROCTOR_GOLDEN") == "write":
        expected.write_text(text)
    assert text == expected.read_text()


def test_golden_has_no_orphans() -> None:
    texts = {path.stem for path in GOLDEN.glob("*.txt")}
    assert texts == {Path(name).stem for name in MALFORMED}
    assert len(MALFORMED) >= 15


def test_ten_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"steps:\n" + b"  - {id: a, image: b, command: c}\n" * 300_000)
    with pytest.raises(SpecErrors) as caught:
        load_pipeline(path)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{path}:1:1: the file has 10.2 MB, a spec has at most 1 MB")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match="there is no such file"):
        load_pipeline(tmp_path / "absent.yaml")
    with pytest.raises(SpecErrors, match="this is a folder"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("depth", [100, 200_000])
def test_deep_nesting_does_not_end_the_interpreter(depth: int) -> None:
    with pytest.raises(SpecErrors, match="nesting is deeper than 40"):
        parse_pipeline("steps: " + "[" * depth, "deep.yaml")


def test_nesting_by_aliases() -> None:
    lines = ["a0: &a0 x"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)]
    with pytest.raises(SpecErrors, match="nesting is over 80"):
        parse_pipeline("\n".join(lines), "deep.yaml")


def test_merge_bomb() -> None:
    keys = ", ".join(f"k{n}: {n}" for n in range(1000))
    merges = ", ".join(["*a"] * 1000)
    with pytest.raises(SpecErrors, match="over 100,000 values"):
        parse_pipeline(f"a: &a {{{keys}}}\nsteps: [{{<<: [{merges}]}}]\n", "bomb.yaml")


def test_a_thousand_problems_are_cut_short() -> None:
    steps = "".join(
        f"  - {{id: s{n}, image: a/b, command: c, after: [x{n}]}}\n" for n in range(1000)
    )
    with pytest.raises(SpecErrors) as caught:
        parse_pipeline(f"steps:\n{steps}", "many.yaml")
    assert len(caught.value.problems) == 100
    unknown = "".join(f"  - {{id: s{n}, image: a/b, command: c, k{n}: 1}}\n" for n in range(1000))
    with pytest.raises(SpecErrors) as caught:
        parse_pipeline(f"steps:\n{unknown}", "many.yaml")
    assert len(caught.value.problems) == 100


def test_problems_of_two_kinds_are_cut_short_too() -> None:
    wrong = "".join(
        f"  - {{id: s{n}, image: a/b, command: c, k{n}: 1, after: [x]}}\n" for n in range(100)
    )
    with pytest.raises(SpecErrors) as caught:
        parse_pipeline(f"steps:\n{wrong}", "many.yaml")
    assert len(caught.value.problems) == 101
    assert str(caught.value.problems[-1]).endswith("100 or more problems follow")


def test_many_small_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proctor.spec.nodes.MAX_VALUES", 1000)
    with pytest.raises(SpecErrors, match="over 1,000 values; data does not belong in a spec"):
        parse_pipeline("steps: [" + "a," * 4000 + "]", "large.yaml")


def test_a_long_problem_is_cut_short() -> None:
    name = "n" * 5000
    with pytest.raises(SpecErrors) as caught:
        parse_pipeline(f"steps: [{{id: a, image: a/b, command: c, after: {name}}}]", "long.yaml")
    assert len(str(caught.value)) < 700


def test_no_escape_sequence_reaches_a_terminal() -> None:
    text = 'steps: [{id: "a\\e[31m\\n", image: a, command: c, after: ["a\\e[31m\\n"]}]'
    with pytest.raises(SpecErrors) as caught:
        parse_pipeline(text, "escape.yaml")
    assert all(str(problem).isprintable() for problem in caught.value.problems)
    assert "cycle" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match="the file cannot be read: "):
        load_pipeline(tmp_path / ("n" * 300))


def test_a_command_of_a_page() -> None:
    with pytest.raises(SpecErrors, match="longer than 10,000 characters"):
        parse_pipeline(f"steps: [{{id: a, image: a, command: {'a' * 10_001}}}]", "long.yaml")


def test_numbers_that_no_machine_holds() -> None:
    text = "steps: [{id: a, image: a/b, command: c, params: {x: %s}}]"
    for number in ("9" * 30, "9" * 5000, "0x" + "f" * 5000, "1.0e+999", "!!int ''", "!!float ''"):
        with pytest.raises(SpecErrors, match="not a number that can be used"):
            parse_pipeline(text % number, "n.yaml")
    parse_pipeline(text % 2**62, "n.yaml")


def test_a_long_duration_is_cheap() -> None:
    text = "steps: [{id: a, image: a/b, command: c, deadline: '%s'}]" % ("1" * 500_000)
    with pytest.raises(SpecErrors, match="is no duration"):
        parse_pipeline(text, "n.yaml")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pipeline: named\nsteps: 3", "named"),
        ("pipeline: [1]\nsteps: 3", "file"),
        ("steps: [", "file"),
        ("pipeline: ''\nsteps: 3", "file"),
        ("pipeline: kept\nsteps: !x", "kept"),
    ],
)
def test_broken_pipelines_keep_their_name(text: str, name: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        parse_pipeline(text, "folder/file.yaml")
    assert caught.value.pipeline_name == name


def test_the_value_of_a_secret_is_not_shown() -> None:
    text = "steps: [{id: a, image: a/b, command: c, secrets: ['hunter2/+=']}]"
    with pytest.raises(SpecErrors) as caught:
        parse_pipeline(text, "s.yaml")
    assert "hunter2" not in str(caught.value)


def test_problem_text() -> None:
    problem = Problem(Position("a.yaml", 3, 7), "this is wrong", "do that")
    assert str(problem) == "a.yaml:3:7: this is wrong; do that"
    assert Problem(Position("a.yaml"), "wrong").text == "wrong"


def test_did_you_mean() -> None:
    assert did_you_mean("inptus", ["inputs", "outputs"]) == "did you mean 'inputs'?"
    assert did_you_mean("puts", ["inputs", "outputs"]) == "did you mean 'inputs' or 'outputs'?"
    assert did_you_mean("x", ["inputs"]) == "known: inputs"
    assert did_you_mean("ID", ["id"]) == "did you mean 'id'?"
    assert did_you_mean("x", []) == "there are none"
    assert did_you_mean("x", [f"name{n}" for n in range(20)]).endswith(", ...")
