"""The fast reader of detail logs: it says what a JSON parser says, and nothing ends it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proctor_steps.loadgen.scan import Scan, scan

HEAD = '"time_ms": 12.5, "namespace": "mlperf::logging", "event_type": "POINT_IN_TIME", '
TAIL = '"is_warning": false, "file": "logging.cc", "line_no": 7, "pid": 8, "tid": 9}}'


def line(key: str, value: Any, *, error: bool = False) -> str:
    """A line in the very shape of LoadGen's."""
    said = f'"metadata": {{"is_error": {str(error).lower()}, {TAIL}'
    written = json.dumps(value, separators=(",", ":"))
    return f':::MLLOG {{"key": {json.dumps(key)}, "value": {written}, {HEAD}{said}\n'


def read(folder: Path, content: str | bytes) -> Scan:
    """The scan of a log with this content."""
    path = folder / "log.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return scan(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.text(min_size=1), VALUES, st.booleans()), max_size=8))
def test_what_a_json_parser_reads(entries: list[tuple[str, Any, bool]]) -> None:
    text = "".join(line(key, value, error=error) for key, value, error in entries)
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), text)
    assert found.problems == []
    assert found.values == {key: value for key, value, _ in entries}
    assert len(found.errors) == sum(error for *_, error in entries)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300))
def test_no_bytes_end_it(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), line("a", 1).encode() + data)
    assert found.values.get("a") == 1


def test_long_lists_are_counted_and_not_kept(tmp_path: Path) -> None:
    found = read(tmp_path, line("loaded_qsl_set", list(range(5000))) * 2 + line("b", 2))
    assert found.problems == []
    assert found.counted == {"loaded_qsl_set": 10_000}
    assert found.values == {"loaded_qsl_set": None, "b": 2}
    assert found.lines == {"loaded_qsl_set": 2, "b": 3}


def test_a_long_list_that_is_none_is_found(tmp_path: Path) -> None:
    good = line("loaded_qsl_set", list(range(5000)))
    for spoilt in (
        good.replace("100,", "100,,"),
        good.replace("[0,", "[,0,"),
        good.replace(",4999]", ",4999,]"),
        good.replace("100,", "1x0,"),
        good[: len(good) // 2] + "\n",
    ):
        assert spoilt != good
        assert [problem.line for problem in read(tmp_path, spoilt).problems] == [1]


def test_a_key_with_two_values_keeps_both(tmp_path: Path) -> None:
    found = read(tmp_path, line("x", 1) + line("x", 1) + line("y", 1) + line("x", 2) + line("y", 1))
    assert (found.values["x"], found.first) == (2, {"x": 1})


def test_lines_that_are_none(tmp_path: Path) -> None:
    data = line("a", 1).encode() + b"warming up\n" + b":::MLLOG {}\n" + b"\xff\n"
    found = read(tmp_path, data)
    assert [(p.line, p.marked) for p in found.problems] == [(2, False), (3, True), (4, True)]
    assert found.values == {"a": 1}


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none"):
        assert [(p.line, p.marked) for p in scan(path).problems] == [(0, True)]
