"""The nonce of a login link: good once, for a minute, for who knows it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proctor.site.home import Home
from proctor.site.instance import _login_link
from proctor.ui import login
from proctor.ui.login import take_nonce


@pytest.fixture
def link(tmp_path: Path) -> Callable[[], str]:
    home = Home(tmp_path)
    home.create()
    return lambda: _login_link(home, "http://127.0.0.1:1", "ada").rpartition("#")[2]


def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_it_is_good_once(tmp_path: Path, link: Callable[[], str]) -> None:
    nonce = link()
    assert (keys(tmp_path) / "login.json").stat().st_mode & 0o777 == 0o600
    assert take_nonce(keys(tmp_path), "") == take_nonce(keys(tmp_path), nonce[:-1]) == ""
    assert take_nonce(keys(tmp_path), nonce) == "ada"
    assert take_nonce(keys(tmp_path), nonce) == ""


def test_a_new_one_ends_the_one_before(tmp_path: Path, link: Callable[[], str]) -> None:
    old, new = link(), link()
    assert take_nonce(keys(tmp_path), old) == ""
    assert take_nonce(keys(tmp_path), new) == "ada"


def test_it_is_good_for_a_minute(
    tmp_path: Path, link: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nonce = link()
    made = json.loads((keys(tmp_path) / "login.json").read_text())["made_at"]
    monkeypatch.setattr(login.time, "time", lambda: made + login.VALID_SECONDS + 0.1)
    assert take_nonce(keys(tmp_path), nonce) == ""
    monkeypatch.setattr(login.time, "time", lambda: made + login.VALID_SECONDS - 1)
    assert take_nonce(keys(tmp_path), nonce) == "ada"


def test_of_many_who_use_it_at_once_one_gets_in(tmp_path: Path, link: Callable[[], str]) -> None:
    def take(nonce: str, taken: list[str], start: threading.Barrier) -> None:
        start.wait()
        taken.append(take_nonce(keys(tmp_path), nonce))

    for _ in range(20):
        nonce, taken = link(), list[str]()
        start = threading.Barrier(8)

        threads = [threading.Thread(target=take, args=(nonce, taken, start)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == [""] * 7 + ["ada"]


@pytest.mark.parametrize("guess", ["ä", "\ud800", "x" * 10**6, "\0", "null"])
def test_whatever_is_guessed_uses_none_up(
    tmp_path: Path, link: Callable[[], str], guess: str
) -> None:
    nonce = link()
    assert take_nonce(keys(tmp_path), guess) == ""
    assert take_nonce(keys(tmp_path), nonce) == "ada"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"nonce": "", "made_at": 0}'])
def test_a_file_that_is_none_lets_nobody_in(tmp_path: Path, content: str) -> None:
    Home(tmp_path).create()
    path = keys(tmp_path) / "login.json"
    path.write_text(content)
    for given in ("", "x"):
        assert take_nonce(keys(tmp_path), given) == ""
