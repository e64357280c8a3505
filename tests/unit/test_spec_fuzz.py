"""Whatever the bytes: a Pipeline, or SpecErrors with places."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor.plan.compile import compile
from proctor.plan.params import ParamErrors
from proctor.spec.errors import SpecErrors
from proctor.spec.load import load_pipeline, parse_pipeline
from proctor.spec.model import ParamSpec, Pipeline, Step, Submission

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = [
    *(ROOT / "pipeline_specs").glob("*.yaml"),
    *(ROOT / "tests" / "golden" / "specs").glob("*.yaml"),
    *(ROOT / "tests" / "golden" / "errors").glob("*.yaml"),
]
TEXTS = [path.read_bytes() for path in sorted(SAMPLES)]
PLACE = re.compile(r"[^\n]*:\d+:\d+: [^\n]+")

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "fuzz.yaml"


def survive(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    try:
        compile(load_pipeline(path))
    except ParamErrors:
        pass
    except SpecErrors as error:
        assert error.problems and error.pipeline_name
        assert all(PLACE.fullmatch(str(problem)) for problem in error.problems)


@quick
@given(raw=st.binary(max_size=200))
def test_any_bytes(place: Path, raw: bytes) -> None:
    survive(place, raw)


@quick
@given(raw=st.text(alphabet="abcdefid:-[]{}&*!<>|'\"#%@`, \n\t0123.", max_size=120))
def test_any_yaml_like_text(place: Path, raw: str) -> None:
    survive(place, raw.encode())


@quick
@given(
    base=st.sampled_from(TEXTS),
    edits=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 40), st.binary(max_size=12)), max_size=4
    ),
)
def test_any_edit_of_a_spec(place: Path, base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for at, cut, put in edits:
        at %= len(base) + 1
        base = base[:at] + put + base[at + cut :]
    survive(place, base)


_keys = sorted(
    {
        info.alias or name
        for m in (Pipeline, Step, ParamSpec, Submission)
        for name, info in m.model_fields.items()
    }
)
_leaf = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([*_keys, "a", "a.out", "${params.a}", "${matrix.a}", "1h", "", "choices"])
)  # fmt: skip
_names = st.sampled_from([*_keys, "a", "b", "from", "mount", "if", "else", "memory", "question"])
_values = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=6)
)


@settings(quick, max_examples=60)
@given(
    top=st.dictionaries(st.sampled_from(sorted(Pipeline.model_fields)), _values, max_size=5),
    steps=st.lists(st.dictionaries(st.sampled_from(_keys), _values, max_size=6), max_size=3),
)
def test_any_data_under_the_language_s_keys(top: dict[str, object], steps: list[object]) -> None:
    text = yaml.safe_dump({**top, "steps": steps}, allow_unicode=True)
    try:
        compile(parse_pipeline(text, "fuzz.yaml"))
    except (SpecErrors, ParamErrors) as error:
        assert error.problems


_words = st.sampled_from(
    ["yolo-99", "yolo", "bert-99", "gpt-oss-120b", "v6.1", "v4.0", "v9", "edge", "datacenter",
     "open", "closed", "SingleStream", "MultiStream", "Offline", "Server", "measured", "",
     "${params.p}", "${params.q}", "${params.x}", "${", "${params.p} x", "${submission.target}"]
)  # fmt: skip


@settings(quick, max_examples=300)
@given(
    words=st.fixed_dictionaries(
        dict.fromkeys(("benchmark", "round", "system_type", "division"), _words)
    ),
    more=st.fixed_dictionaries(
        {},
        optional={
            "scenarios": st.lists(_words, max_size=3) | _words,
            "infer": st.dictionaries(_words, _words, max_size=3),
        },
    ),
    axis=_words | st.sampled_from(["${submission.scenarios}", "${submission.compliance}"]),
)
def test_any_words_of_a_submission(
    words: dict[str, str], more: dict[str, object], axis: str
) -> None:
    params = {
        "p": {"type": "choice", "when": "build", "choices": ["edge", "closed"], "default": "edge"},
        "q": {"type": "choices", "when": "build", "choices": ["Offline"], "required": True},
    }
    steps = [
        {
            "id": "a",
            "image": "a/b",
            "command": "c",
            "matrix": {"x": axis},
            "outputs": {"o": "file"},
        },
        {"id": "b", "image": "a/b", "command": "c", "inputs": {"i": "a.o"}},
    ]
    spec = {"params": params, "submission": words | more, "steps": steps}
    try:
        compile(parse_pipeline(yaml.safe_dump(spec), "fuzz.yaml"), {"q": ["Offline"]})
    except SpecErrors as error:
        assert error.problems
