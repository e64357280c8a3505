"""Whether a service answers: a GET of its path or, where it has none, a connection to its port.

Also run as a program, with address and path, inside containers that have nothing of ours: it
imports the standard library alone.
"""

from __future__ import annotations

import http.client
import socket
import sys
from urllib.parse import urlsplit

# Long enough for a busy server, short enough for a waiter to look at other things meanwhile.
PROBE_SECONDS = 3.0


def answers(url: str, path: str, timeout: float = PROBE_SECONDS) -> bool:
    """Whether the server at ``url`` answers a GET of ``path`` with 2xx; "": takes a connection."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    try:
        if not path:
            socket.create_connection((host, port), timeout).close()
            return True
        # Not urllib: it would ask the proxy that the environment names.
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.request("GET", path)
            return 200 <= connection.getresponse().status < 300
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def free_address() -> str:
    """``127.0.0.1:port`` that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


if __name__ == "__main__":
    sys.exit(0 if answers(sys.argv[1], sys.argv[2]) else 1)
