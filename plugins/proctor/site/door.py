"""The door that sites report at: one address over TLS, beside the instance on loopback.

A process of its own: nothing else of Airflow can be reached where it listens.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
from pathlib import Path

from proctor.federation.addresses import host_and_port
from proctor.federation.profile import Sites
from proctor.site.home import PROFILE_FILE, Home

NAME = "sites-door"
# Connections at once; more are answered with 503. Sites close theirs after each report.
MOST_CONNECTIONS = 200
_IDLE_SECONDS = 5


def door_problem(home: Home) -> str:
    """Why nobody could come in at the door that the profile names; "" where somebody can."""
    sites = home.profile().sites
    if sites is None:
        return ""
    named = [path for path in (*sites.specs, sites.certificate, sites.key) if path]
    if gone := [path for path in named if not Path(path).is_file()]:
        return f"{', '.join(gone)} of `sites` in {home.path / PROFILE_FILE}: there is no such file"
    if not sites.listen:
        return ""
    if stat.S_IMODE(Path(str(sites.key)).stat().st_mode) & 0o077:
        return f"others may read the key {sites.key}; chmod 600 {sites.key}"
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            str(sites.certificate), str(sites.key)
        )
    except (OSError, ssl.SSLError) as error:
        return f"{sites.certificate} and {sites.key} are no certificate with its key ({error})"
    return _taken(sites)


def _taken(sites: Sites) -> str:
    host, port = host_and_port(sites.listen)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.closing(socket.socket(found[0], socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        return f"{sites.listen} cannot be listened at: {error.strerror}"
    return ""


def main() -> None:
    """Serve until it is ended."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Route

    from proctor.airflow.site_intake import make_intake
    from proctor.federation.sender import PATH

    sites = Home.default().profile().sites
    assert sites is not None  # noqa: S101 - the launcher starts it for such a profile alone
    host, port = host_and_port(sites.listen)
    uvicorn.run(
        Starlette(routes=[Route(PATH, make_intake().receive, methods=["POST"])]),
        host=host,
        port=port,
        ssl_certfile=sites.certificate,
        ssl_keyfile=sites.key,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_IDLE_SECONDS,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
