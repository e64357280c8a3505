"""The door of a coordinator: what keeps it shut is said before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from coordinator_kit import certificates
from proctor.federation.addresses import host_and_port
from proctor.site.door import door_problem
from proctor.site.home import Home


def profile(home: Home, listen: str, certificate: object, key: object) -> None:
    (home.path / "site.yaml").write_text(
        f"sites: {{listen: '{listen}', certificate: {certificate}, key: {key}}}\n"
    )


def test_what_keeps_a_door_shut(tmp_path: Path) -> None:
    home, made = Home(tmp_path), certificates(tmp_path)
    (tmp_path / "site.yaml").write_text("sites: {}\n")
    assert door_problem(home) == ""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        profile(home, listen, tmp_path / "none.pem", made.key)
        assert "none.pem of `sites` in" in door_problem(home)
        (tmp_path / "site.yaml").write_text("sites: {specs: [/no/spec.yaml]}\n")
        assert "/no/spec.yaml of `sites` in" in door_problem(home)
        profile(home, listen, made.certificate, made.key)
        made.key.chmod(0o640)
        assert f"chmod 600 {made.key}" in door_problem(home)
        made.key.chmod(0o600)
        assert f"{listen} cannot be listened at: Address already in use" in door_problem(home)
    assert door_problem(home) == ""
    profile(home, listen, made.ca, made.key)
    assert "are no certificate with its key" in door_problem(home)
    profile(home, "no-such-host.invalid:1", made.certificate, made.key)
    assert "cannot be listened at" in door_problem(home)


@pytest.mark.parametrize("text", ["8443", "a b:1", "x:0", "x:65536", "x:1/y", "[::1:2"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no address to listen at"):
        host_and_port(text)


def test_addresses_of_both_kinds() -> None:
    assert host_and_port("[::1]:8443") == ("::1", 8443)
    assert host_and_port("0.0.0.0:8443") == ("0.0.0.0", 8443)
