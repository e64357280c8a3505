"""A port on loopback, kept from others until our own server listens there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the kernel gives to nobody else meanwhile.

    The API server takes seconds to start, and may be started again; whoever had taken its port by
    then would be sent the launcher's password. It sets SO_REUSEADDR, as servers do, and so it can
    listen beside this socket, which is bound and does not.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])
