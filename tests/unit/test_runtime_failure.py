import os
import re

import pytest

from proctor.runtime.base import State
from proctor.runtime.failure import (
    RESULT_LIMIT,
    BadResult,
    check_outputs,
    classify,
    read_progress,
    read_result,
)
from proctor_steps.contract import Output, Result, tree_digest

OK = Result(status="ok")
DATA = Result(status="data_error", message="image 3 is no JPEG")
STEP = Result(status="step_error", message="no such backend")


def ended(code=None, signal=None, oom=False):
    return State(phase="exited", exit_code=code, signal=signal, out_of_memory=oom)


GONE = State(phase="gone")


@pytest.mark.parametrize(
    ("state", "result", "asked", "kind", "words"),
    [
        (ended(0), OK, {}, None, ""),
        # who had succeeded before the request came has succeeded
        (ended(0), OK, {"cancelled": True}, None, ""),
        (ended(0), OK, {"deadline_passed": True}, None, ""),
        # one child was killed for memory, the step got over it
        (ended(0, oom=True), OK, {}, None, ""),
        (ended(65), DATA, {}, "data", "image 3 is no JPEG"),
        (ended(70), STEP, {}, "step", "no such backend"),
        (ended(signal=9, oom=True), None, {}, "out_of_memory", "resources.memory"),
        (ended(70, oom=True), STEP, {}, "out_of_memory", "no such backend"),
        (ended(signal=9), None, {}, "killed", "SIGKILL"),
        (ended(signal=15), None, {}, "killed", "SIGTERM"),
        (ended(signal=9), None, {"cancelled": True}, "cancelled", "on request"),
        (ended(signal=9), None, {"cancelled": True, "deadline_passed": True}, "deadline", "raise"),
        (ended(signal=11), None, {}, "step", "SIGSEGV"),
        (ended(signal=6), None, {"log_tail": ["boom", ""]}, "step", "boom"),
        (ended(signal=64), None, {}, "killed", ""),
        (GONE, None, {}, "engine", "was lost"),
        (GONE, OK, {}, "engine", "was lost"),
        (GONE, None, {"cancelled": True}, "cancelled", ""),
        (ended(0), None, {}, "step", "no result.json"),
        # an image that knows no result: its exit code is its word
        (ended(0), None, {"foreign": True}, None, ""),
        (ended(0), None, {"foreign": True, "cancelled": True}, "cancelled", ""),
        (ended(0), None, {"foreign": True, "deadline_passed": True}, "deadline", ""),
        (ended(0, oom=True), None, {"foreign": True}, "out_of_memory", "resources.memory"),
        (ended(2), None, {"foreign": True, "log_tail": ["a", "b"]}, "step", r"code 2.*a \| b$"),
        (ended(0), DATA, {"foreign": True}, "data", "JPEG"),
        (ended(0), BadResult("too large"), {"foreign": True}, "step", "unusable: too large"),
        (GONE, None, {"foreign": True}, "engine", "was lost"),
        (ended(127), None, {"log_tail": ["x", "not found"]}, "step", "127.*not found"),
        (ended(3), OK, {}, "step", "says ok, but it ended with exit code 3"),
        (ended(0), BadResult("too large"), {}, "step", "unusable: too large"),
        (ended(0), DATA, {}, "data", "JPEG"),
    ],
)
def test_whose_failure(state, result, asked, kind, words):
    failure = classify(state, result, **asked)
    assert (failure and failure.kind) == kind
    if failure:
        assert re.search(words, failure.message), failure.message


def test_a_running_attempt_is_not_judged():
    with pytest.raises(ValueError, match="running"):
        classify(State(phase="running"), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "object"),
        ('{"format": "proctor.result/2", "status": "ok"}', "format"),
        ('{"format": "proctor.result/1"}', "status"),
        ('{"status": "fine"}', "status"),
        ('{"status": "ok", "more": 1}', "more"),
        ('{"status": "ok", "message": "' + "x" * RESULT_LIMIT + '"}', "larger than"),
    ],
)
def test_a_result_that_cannot_be_used_says_why(tmp_path, text, words):
    (tmp_path / "result.json").write_text(text)
    found = read_result(tmp_path)
    assert isinstance(found, BadResult)
    assert words in found.problem


def test_a_result_is_not_read_through_a_link_or_a_pipe(tmp_path):
    (tmp_path / "elsewhere").write_text(OK.model_dump_json())
    (tmp_path / "result.json").symlink_to(tmp_path / "elsewhere")
    assert isinstance(read_result(tmp_path), BadResult)
    (tmp_path / "result.json").unlink()
    os.mkfifo(tmp_path / "result.json")
    assert "no plain file" in read_result(tmp_path).problem
    (tmp_path / "result.json").unlink()
    assert read_result(tmp_path) is None
    (tmp_path / "result.json").mkdir()
    assert isinstance(read_result(tmp_path), BadResult)


def test_a_broken_heartbeat_is_none(tmp_path):
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text("{")
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text('{"done": 2, "total": 5, "unit": "images"}')
    assert read_progress(tmp_path).done == 2


def result_with(root, **change):
    sha256, size = tree_digest(root)
    told = {"name": "made", "media_type": "inode/directory", "sha256": sha256, "bytes": size}
    return Result(status="ok", outputs=(Output(**{**told, **change}),))


def test_outputs_must_be_what_the_result_says(tmp_path):
    (tmp_path / "a").write_text("a")
    good, places = result_with(tmp_path), {"made": tmp_path}
    assert check_outputs(good, ["made"], places) == []
    assert "not in its result" in check_outputs(OK, ["made"], places)[0]
    assert "not asked for" in check_outputs(good, [], places)[0]
    assert (
        "has digest" in check_outputs(result_with(tmp_path, sha256="0" * 64), ["made"], places)[0]
    )
    (tmp_path / "b").symlink_to("/etc/passwd")
    assert "symbolic link" in check_outputs(good, ["made"], places)[0]
    assert check_outputs(good, ["made"], {"made": tmp_path / "none"}) != []
