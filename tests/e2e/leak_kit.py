"""Looks for words in bytes, however they are written there: encoded, escaped, packed, hashed."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from urllib.parse import quote

_DEEPEST = 3  # packed within packed


def leaks(data: bytes, words: dict[str, str]) -> list[str]:
    """Which words are in the data, each with how it is written there."""
    lowered = [each.lower() for each in (data, *unpacked(data))]
    return [
        f"{name}: {how}"
        for name, word in words.items()
        for how, form in disguises(word)
        if any(form.lower() in each for each in lowered)
    ]


def disguises(word: str) -> Iterator[tuple[str, bytes]]:
    """The ways in which a word may be written; capitals do not count."""
    plain = word.encode()
    yield "plain", plain
    yield "backwards", plain[::-1]
    for encoding in ("utf-16-le", "utf-16-be", "latin-1"):
        yield encoding, word.encode(encoding)
    yield "hex", plain.hex().encode()
    yield "percent", "".join(f"%{byte:02x}" for byte in plain).encode()
    yield "url", quote(word, safe="").encode()
    yield "form", quote(word, safe="").replace("%20", "+").encode()
    yield "json", json.dumps(word)[1:-1].encode()
    for place in range(3):
        yield f"base64 at {place}", _base64(plain, place)
        yield f"base64url at {place}", _base64(plain, place).translate(_URL_SAFE)
    for name in ("md5", "sha1", "sha256"):
        made = hashlib.new(name, plain, usedforsecurity=False)
        # Run ids hold the beginning of such a digest.
        yield name, made.hexdigest()[:16].encode()
        yield f"{name}, its bytes", made.digest()[:8]


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _base64(plain: bytes, place: int) -> bytes:
    """The characters that ``plain`` alone decides; it begins ``place`` bytes behind a third."""
    text = base64.b64encode(bytes(place) + plain + bytes(3))
    return text[(8 * place + 5) // 6 : (8 * (place + len(plain))) // 6]


def unpacked(data: bytes, depth: int = _DEEPEST) -> Iterator[bytes]:
    """What is in the data by gzip or zlib, wherever it begins there."""
    for begin in _beginnings(data):
        try:
            found = zlib.decompressobj(wbits=47).decompress(data[begin:], 64 << 20)
        except zlib.error:
            continue
        if found:
            yield found
            if depth > 1:
                yield from unpacked(found, depth - 1)


def _beginnings(data: bytes) -> Iterator[int]:
    for mark in (b"\x1f\x8b\x08", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        place = data.find(mark)
        while place >= 0:
            yield place
            place = data.find(mark, place + 1)
