"""The reader of captures and the search for words: each sees what it is there to see."""

from __future__ import annotations

import base64
import contextlib
import gzip
import random
import ssl
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from leak_kit import disguises, leaks
from wire_kit import connections, key_log, opened, requests, strangers

from coordinator_kit import certificates

SITE, COMMITTEE = ("10.77.0.3", 40123), ("10.77.0.2", 8443)
BODY = b'{"format":"proctor.site-report/1"}\n'
REQUEST = b"POST /x HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
SYN, ACK = 0x02, 0x10
OWN, OTHER = b"\x02own#1", b"\x02other"
MACS = {SITE[0]: OWN, COMMITTEE[0]: OTHER}


def tcp(
    source: tuple[str, int], target: tuple[str, int], seq: int, flags: int, data: bytes
) -> bytes:
    head = struct.pack("!HHIIBBHHH", source[1], target[1], seq % 2**32, 0, 0x50, flags, 512, 0, 0)
    return packet(source[0], target[0], 6, head + data)


def packet(source: str, target: str, protocol: int, data: bytes) -> bytes:
    ends = b"".join(bytes(map(int, each.split("."))) for each in (source, target))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, protocol, 0)
    frame = bytes(6) + MACS[source] + b"\x08\x00" + head + ends + data
    return frame + bytes(max(0, 60 - len(frame)))


def pcap(path: Path, frames: Sequence[bytes]) -> Path:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    told = [struct.pack("<IIII", 0, 0, len(each), len(each)) + each for each in frames]
    path.write_bytes(head + b"".join(told))
    return path


@pytest.fixture
def tls(tmp_path: Path) -> Callable[[bytes], tuple[bytes, bytes, Path]]:
    """What a client and a server say when the client sends something, and the key log."""

    def talk(said: bytes) -> tuple[bytes, bytes, Path]:
        made = certificates(tmp_path)
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(made.certificate, made.key)
        ours = ssl.create_default_context(cafile=str(made.ca))
        ours.keylog_filename = str(tmp_path / "keys")
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ours.wrap_bio(down, up, server_hostname="127.0.0.1")
        server = theirs.wrap_bio(up, down, server_side=True)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        sent = up.read()
        up.write(sent)
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        answered = down.read()
        down.write(answered)
        client.do_handshake()
        client.write(said[:20])
        client.write(said[20:])
        return sent + up.read(), answered, tmp_path / "keys"

    return talk


def test_what_a_client_said_is_opened_however_its_packets_came(
    tmp_path: Path, tls: Callable[[bytes], tuple[bytes, bytes, Path]]
) -> None:
    sent, answered, keys = tls(REQUEST)
    first = 2**32 - 50  # numbers begin anew in the middle
    cut = [(place, sent[place : place + 97]) for place in range(0, len(sent), 97)]
    frames = [tcp(SITE, COMMITTEE, first + 1 + place, ACK, part) for place, part in cut]
    frames += [frames[2], tcp(SITE, COMMITTEE, first + 1, ACK, sent[:3])]
    random.Random(4).shuffle(frames)
    beginning = [
        tcp(SITE, COMMITTEE, first, SYN, b""),
        tcp(SITE, COMMITTEE, first, SYN, b""),
        tcp(COMMITTEE, SITE, 7, SYN | ACK, b""),
        tcp(COMMITTEE, SITE, 8, ACK, answered),
    ]
    file = pcap(tmp_path / "x.pcap", beginning + frames)
    (found,) = connections(file, COMMITTEE)
    assert BODY not in found.sent.bytes()
    said = opened(found, key_log(keys))
    assert said == REQUEST
    (request,) = requests([said])
    assert (request.line, request.body, request.whole) == ("POST /x HTTP/1.1", BODY, True)
    assert strangers(file, OWN, COMMITTEE) == []


def test_a_connection_that_broke_off_is_read_as_far_as_it_came(
    tmp_path: Path, tls: Callable[[bytes], tuple[bytes, bytes, Path]]
) -> None:
    sent, answered, keys = tls(REQUEST)
    frames = [
        tcp(SITE, COMMITTEE, 0, SYN, b""),
        tcp(COMMITTEE, SITE, 0, SYN | ACK, b""),
        tcp(COMMITTEE, SITE, 1, ACK, answered),
        tcp(SITE, COMMITTEE, 1, ACK, sent[:-5]),
        tcp(SITE, COMMITTEE, 10**6, ACK, b"behind a gap"),
        tcp((SITE[0], 4), COMMITTEE, 0, SYN, b""),
    ]
    found = connections(pcap(tmp_path / "x.pcap", frames), COMMITTEE)
    said = [opened(each, key_log(keys)) for each in found]
    assert said == [REQUEST[:20], b""]
    with pytest.raises((ValueError, KeyError)):
        opened(found[0], dict.fromkeys(key_log(keys), bytes(48)))


@pytest.mark.parametrize(
    "frame",
    [
        packet(SITE[0], "10.255.255.53", 17, b"who is canary"),
        packet(SITE[0], COMMITTEE[0], 17, b"beside the connection"),
        tcp(SITE, ("192.0.2.1", 443), 0, SYN, b""),
        tcp(SITE, (COMMITTEE[0], 80), 0, SYN, b""),
        bytes(6) + OWN + b"\x86\xdd" + bytes(60),
    ],
)
def test_whatever_else_left_is_told(tmp_path: Path, frame: bytes) -> None:
    good = [
        bytes(6) + OWN + b"\x08\x06" + bytes(46),
        tcp(SITE, COMMITTEE, 0, SYN, b""),
        bytes(6) + OTHER + b"\x86\xdd" + bytes(60),  # came, and did not leave
    ]
    assert len(strangers(pcap(tmp_path / "x.pcap", [*good, frame]), OWN, COMMITTEE)) == 1


WORDS = {"subject": "canary-subject 4711", "file": "canäry+file/0815"}


@pytest.mark.parametrize("name", WORDS)
def test_every_disguise_is_seen_through_and_noise_is_not(name: str) -> None:
    noise = random.Random(8).randbytes(3000)
    assert leaks(noise, WORDS) == []
    for how, form in disguises(WORDS[name]):
        for wrapped in (form, gzip.compress(b"x" * 50 + form), zlib.compress(form, 1)):
            assert f"{name}: {how}" in leaks(noise + wrapped + noise, WORDS), how
    twice = gzip.compress(zlib.compress(WORDS[name].encode()))
    assert f"{name}: plain" in leaks(noise + twice, WORDS)


@pytest.mark.parametrize("place", range(3))
def test_base64_is_seen_wherever_the_word_stands_in_it(place: int) -> None:
    text = base64.b64encode(b"?" * place + WORDS["subject"].encode() + b"behind it")
    assert [each for each in leaks(text, WORDS) if "base64" in each]
