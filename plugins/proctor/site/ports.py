"""A port on loopback, kept from others until our own server listens there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


class PortTaken(Exception):
    """The port that the profile names cannot be had."""


@contextmanager
def reserved_port(wanted: int = 0) -> Iterator[int]:
    """A port that the kernel gives to nobody else meanwhile: the wanted one, or any.

    The API server takes seconds to start, and may be started again; whoever had taken its port by
    then would be sent the launcher's password. It sets SO_REUSEADDR, as servers do, and so it can
    listen beside this socket, which is bound and does not.

    Raises:
        PortTaken: another program has the wanted one.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise PortTaken(
                f"port {wanted} of 127.0.0.1 cannot be had: {error.strerror}; end what listens "
                "there, or name another under `port` in site.yaml"
            ) from None
        yield int(sock.getsockname()[1])
