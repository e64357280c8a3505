"""Reads a capture: frames, TCP streams, and what is in TLS 1.3, by the client's key log.

Layouts: libpcap's savefile, Ethernet II, RFC 791, RFC 9293, RFC 8446 (5.2, 7.1, 7.3), NSS key log.
Only what a client sent is opened: that is what left.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_SYN, _ACK = 0x02, 0x10
_HANDSHAKE, _APPLICATION = 22, 23
_CIPHERS = {
    0x1301: (AESGCM, hashes.SHA256, 16),
    0x1302: (AESGCM, hashes.SHA384, 32),
    0x1303: (ChaCha20Poly1305, hashes.SHA256, 32),
}
Address = tuple[str, int]


def frames(file: Path) -> Iterator[bytes]:
    """Every frame, whole."""
    data = file.read_bytes()
    assert data[:4] == b"\xd4\xc3\xb2\xa1", "this is no capture of a little-endian machine"
    assert struct.unpack_from("<I", data, 20)[0] == 1, "this is none of Ethernet"
    place = 24
    while place < len(data):
        kept, was = struct.unpack_from("<II", data, place + 8)
        assert kept == was, "a frame was cut"
        yield data[place + 16 : place + 16 + kept]
        place += 16 + kept


@dataclass(frozen=True)
class Packet:
    """A TCP packet of a frame."""

    source: Address
    target: Address
    sequence: int
    flags: int
    payload: bytes

    @classmethod
    def of(cls, frame: bytes) -> Packet | None:
        """``None`` where the frame is none of TCP over IPv4."""
        if frame[12:14] != b"\x08\x00" or frame[14 + 9] != 6:
            return None
        head = 14 + 4 * (frame[14] & 15)
        end = 14 + int(struct.unpack_from("!H", frame, 16)[0])  # behind it a frame may be padded
        source, target = ".".join(map(str, frame[26:30])), ".".join(map(str, frame[30:34]))
        ports, sequence = struct.unpack_from("!HH", frame, head), frame[head + 4 : head + 8]
        payload = frame[head + 4 * (frame[head + 12] >> 4) : end]
        return cls(
            (source, ports[0]),
            (target, ports[1]),
            int.from_bytes(sequence, "big"),
            frame[head + 13],
            payload,
        )


def strangers(file: Path, own: bytes, to: Address) -> list[str]:
    """Frames from the hardware address ``own`` that are of no connection to ``to``, nor ask for
    somebody's hardware address, in words."""
    found = []
    for frame in frames(file):
        if frame[6:12] != own or frame[12:14] == b"\x08\x06":
            continue
        packet = Packet.of(frame)
        if packet is None or packet.target != to:
            found.append(f"{frame[12:14].hex()}: {frame[14:].hex()}")
    return found


@dataclass
class Direction:
    """One direction of a connection; ``parts``: bytes by their place."""

    first: int
    parts: dict[int, bytes] = field(default_factory=dict)

    def bytes(self) -> bytes:
        """From the beginning, up to where something never came."""
        found = b""
        for place, part in sorted(self.parts.items()):
            if place > len(found):
                break
            found += part[len(found) - place :]
        return found


@dataclass
class Connection:
    """What a client sent, and what it was answered."""

    client: Address
    sent: Direction
    answered: Direction | None = None


def connections(file: Path, to: Address) -> list[Connection]:
    """Every connection that was begun to an address, in order."""
    found: dict[tuple[Address, int], Connection] = {}
    newest: dict[Address, Connection] = {}
    for packet in filter(None, map(Packet.of, frames(file))):
        if packet.target == to:
            if packet.flags & _SYN:
                begun = Connection(packet.source, Direction(packet.sequence + 1))
                # The same beginning once more is the same connection.
                key = (packet.source, packet.sequence)
                newest[packet.source] = found.setdefault(key, begun)
            elif packet.source in newest:
                _keep(newest[packet.source].sent, packet)
        elif packet.source == to and packet.target in newest:
            connection = newest[packet.target]
            if packet.flags & _SYN:
                connection.answered = connection.answered or Direction(packet.sequence + 1)
            elif connection.answered:
                _keep(connection.answered, packet)
    return list(found.values())


def _keep(direction: Direction, packet: Packet) -> None:
    place = (packet.sequence - direction.first) % 2**32
    if (
        packet.payload
        and place < 2**31
        and len(packet.payload) > len(direction.parts.get(place, b""))
    ):
        direction.parts[place] = packet.payload


# --- TLS -----------------------------------------------------------------------------------------


def key_log(file: Path) -> dict[tuple[str, str], bytes]:
    """Label and client's random -> secret."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return {(w[0], w[1]): bytes.fromhex(w[2]) for w in lines if len(w) == 3}


def opened(connection: Connection, keys: dict[tuple[str, str], bytes]) -> bytes:
    """What a client said in TLS 1.3, without the handshake; "" where it did not come to that.

    Raises:
        ValueError: a record cannot be opened by the keys.
    """
    records = list(_records(connection.sent.bytes()))
    answers = list(_records(connection.answered.bytes() if connection.answered else b""))
    if not any(head[0] == _APPLICATION for head, _ in records) or not answers:
        return b""
    random = records[0][1][6:38].hex()
    hello = answers[0][1]
    cipher = _CIPHERS[struct.unpack_from("!H", hello, 39 + hello[38])[0]]
    labels = ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0")
    waiting = [_Opener(cipher, keys[label, random]) for label in labels]
    said = b""
    for head, body in records:
        if head[0] == _APPLICATION:
            kind, content = _open(waiting, head, body)
            said += content if kind == _APPLICATION else b""
    return said


def _records(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 5 <= len(stream):
        size = int.from_bytes(stream[place + 3 : place + 5], "big")
        body = stream[place + 5 : place + 5 + size]
        if len(body) == size:
            yield stream[place : place + 5], body
        place += 5 + size


class _Opener:
    """Opens the records that one secret protects, in order."""

    def __init__(self, cipher: tuple[type, type[hashes.HashAlgorithm], int], secret: bytes) -> None:
        kind, hash, size = cipher
        self._aead = kind(_expanded(secret, hash(), b"key", size))
        self._iv = _expanded(secret, hash(), b"iv", 12)
        self._next = 0

    def open(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        nonce = (int.from_bytes(self._iv, "big") ^ self._next).to_bytes(12, "big")
        inner = self._aead.decrypt(nonce, body, head).rstrip(b"\0")
        self._next += 1
        return inner[-1], inner[:-1]


def _open(waiting: list[_Opener], head: bytes, body: bytes) -> tuple[int, bytes]:
    """By the secret in use; the next one follows where that does not fit any more."""
    while waiting:
        try:
            return waiting[0].open(head, body)
        except InvalidTag:
            del waiting[0]
    raise ValueError("a record that the key log does not open")


def _expanded(secret: bytes, hash: hashes.HashAlgorithm, label: bytes, size: int) -> bytes:
    name = b"tls13 " + label
    info = struct.pack("!HB", size, len(name)) + name + b"\0"
    return HKDFExpand(hash, size, info).derive(secret)


# --- HTTP ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A request as it was sent. ``whole``: its body came to its end."""

    line: str
    headers: dict[str, str]
    body: bytes
    whole: bool


def requests(said: Sequence[bytes]) -> list[Request]:
    """The request of each connection; one that was cut off in its headers has no body."""
    found = []
    for text in filter(None, said):
        head, _, body = text.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        pairs = [each.partition(": ") for each in rest]
        headers = {name.title(): value for name, _, value in pairs}
        length = int(headers.get("Content-Length", "-1"))
        assert len(body) <= max(0, length), "more than one request on a connection"
        found.append(Request(line, headers, body, len(body) == length))
    return found
