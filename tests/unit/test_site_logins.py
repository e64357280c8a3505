"""What the profile says of logins, as Airflow is told it; the port that it names."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proctor.cli import app
from proctor.site.home import Home
from proctor.site.ports import PortTaken, reserved_port
from proctor.site.settings import environment, user_name


def told(tmp_path: Path, profile: str) -> dict[str, str]:
    home = Home(tmp_path)
    home.create()
    (tmp_path / "site.yaml").write_text(profile)
    made = environment(home, "fake", 4711, ("sync", "async"))
    return {key.removeprefix("AIRFLOW__"): value for key, value in made.items()}


def test_one_person_has_the_simple_auth_manager(tmp_path: Path) -> None:
    made = told(tmp_path, "users: {olaf: operator, vera: viewer}\n")
    assert made["CORE__AUTH_MANAGER"].endswith("SimpleAuthManager")
    listed = f"olaf:user,vera:viewer,{user_name()}:admin"
    assert made["CORE__SIMPLE_AUTH_MANAGER_USERS"] == listed
    assert made["API__BASE_URL"] == "http://127.0.0.1:4711"
    passwords = tmp_path / "airflow" / "passwords.json"
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(passwords.read_text())) == {"olaf", "vera", user_name()}


def test_a_shared_server_has_fab_and_its_proxys_address(tmp_path: Path) -> None:
    made = told(tmp_path, "auth: fab\nusers: {ada: approver}\naddress: https://p.example.org\n")
    assert made["CORE__AUTH_MANAGER"] == "proctor.ui.logins.ProctorAuthManager"
    assert not [key for key in made if "SIMPLE" in key]
    assert (made["API__BASE_URL"], made["FAB__COOKIE_SECURE"]) == ("https://p.example.org", "True")
    assert (made["API__HOST"], made["API__PORT"]) == ("127.0.0.1", "4711")
    assert made["CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:4711/execution/"


def test_a_named_port_is_had_or_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        refused = pytest.raises(PortTaken, match=f"port {taken} of 127.0.0.1 cannot be had")
        with refused, reserved_port(taken):
            pass
    with reserved_port(taken) as port:
        assert port == taken


@pytest.mark.parametrize(
    ("profile", "name", "words"),
    [
        ("{}\n", "ada", "says no `auth: fab`, so nobody logs in by a password"),
        ("auth: fab\n", "ada", "'ada' may not log in here"),
        ("auth: fab\nusers: {ada: approver}\n", "ada", "no proctor runs on"),
        ("auth: fab\n", user_name(), "the owner has no password"),
    ],
)
def test_why_a_password_is_not_asked_for(
    tmp_path: Path, profile: str, name: str, words: str
) -> None:
    (tmp_path / "site.yaml").write_text(profile)
    done = CliRunner().invoke(app, ["user", "password", name, "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert words in done.output
    assert "Password" not in done.output
