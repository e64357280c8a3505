"""What an instance tells its own process goes with it."""

from __future__ import annotations

import os

import pytest

from proctor.site.instance import _in_environment


def test_the_environment_is_as_before_once_the_instance_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROCTOR_HOME", "mine")
    monkeypatch.delenv("PROCTOR_DATABASE", raising=False)
    theirs = {"PROCTOR_HOME": "theirs", "PROCTOR_DATABASE": "one"}
    with pytest.raises(RuntimeError), _in_environment(theirs):
        assert {name: os.environ[name] for name in theirs} == theirs
        raise RuntimeError
    assert os.environ["PROCTOR_HOME"] == "mine"
    assert "PROCTOR_DATABASE" not in os.environ
