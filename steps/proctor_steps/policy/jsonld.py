"""JSON-LD as metadata and policies are written in practice: values with their places.

Prefixes of the file's own context and the usual ones are understood. Contexts elsewhere are not
fetched: a step has no network, and what a word means must not change under a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_NAMESPACES = {
    "http://www.w3.org/ns/odrl/2/": "odrl:",
    "https://www.w3.org/ns/odrl/2/": "odrl:",
    "http://purl.obolibrary.org/obo/DUO_": "DUO:",
    "http://purl.obolibrary.org/obo/": "obo:",
    "http://schema.org/": "sc:",
    "https://schema.org/": "sc:",
    "http://mlcommons.org/croissant/": "cr:",
    "http://creativecommons.org/ns#": "cc:",
    "https://w3id.org/dpv#": "dpv:",
    "https://w3id.org/dpv/owl#": "dpv:",
    "http://purl.org/dc/terms/": "dct:",
}
_USUAL = {short.rstrip(":"): namespace for namespace, short in reversed(_NAMESPACES.items())} | {
    "duo": "http://purl.obolibrary.org/obo/DUO_",
    "schema": "https://schema.org/",
    "dcterms": "http://purl.org/dc/terms/",
}
_DUO = re.compile(r"(?:obo:)?DUO[_:](\d{7})", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[A-Za-z_@][A-Za-z0-9_@]*")
_LONGEST = 1000  # characters of a name, an address, a file
_OWN = ("odrl:", "sc:", "cr:", "dct:")


@dataclass(frozen=True)
class Node:
    """A value, the place where it stands, and the prefixes of its file."""

    value: Any
    where: str
    prefixes: Mapping[str, str]

    def get(self, *names: str) -> list[Node]:
        """What stands under any of these keys, with or without a prefix; lists are taken apart."""
        if not isinstance(self.value, dict):
            return []
        found = []
        for key, value in self.value.items():
            if self._key(key) in names:
                path = f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{key!r}]"
                found += list(self._parts(value, self.where + path))
        return found

    def one(self, *names: str) -> Node | None:
        """The first of :meth:`get`."""
        return next(iter(self.get(*names)), None)

    @cached_property
    def word(self) -> str:
        """The name or text that it is, with the usual prefix; empty where it is none."""
        value = self.value
        if isinstance(value, dict):
            value = next((value[key] for key in ("@id", "@value") if key in value), "")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return ""
        return _shown(compact(str(value), self.prefixes))

    @property
    def name(self) -> str:
        """Its word without a prefix of the vocabularies that are read here."""
        return _bare(self.word)

    @property
    def types(self) -> set[str]:
        """Its ``@type``, without prefixes."""
        return {node.name for node in self.get("@type", "type")}

    def _key(self, key: str) -> str:
        return _bare(compact(key, self.prefixes))

    def _parts(self, value: Any, where: str) -> Iterator[Node]:
        if isinstance(value, dict) and set(value) == {"@list"}:
            yield from self._parts(value["@list"], f"{where}.@list")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield Node(item, f"{where}[{index}]", self.prefixes)
        elif value is not None:
            yield Node(value, where, self.prefixes)


def root(value: Any, where: str) -> Node:
    """A file's value; ``where``: what its places begin with."""
    return Node(value, where, _prefixes(value.get("@context") if isinstance(value, dict) else None))


def compact(text: str, prefixes: Mapping[str, str]) -> str:
    """An IRI, or a name with a file's own prefix, with the usual prefix; other text as it is."""
    text = prefixes.get(text, text) if ":" not in text else text
    prefix, colon, rest = text.partition(":")
    if colon and not rest.startswith("//"):
        text = prefixes.get(prefix, _USUAL.get(prefix, f"{prefix}:")) + rest
    for namespace, short in _NAMESPACES.items():
        if text.startswith(namespace):
            text = short + text.removeprefix(namespace)
            break
    duo = _DUO.fullmatch(text.strip())
    return f"DUO:{duo[1]}" if duo else text


def _shown(text: str) -> str:
    """Text of a file as it can stand in a message or a log: of one line, and no book."""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _bare(word: str) -> str:
    for prefix in _OWN:
        word = word.removeprefix(prefix)
    return word


def _prefixes(context: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in context if isinstance(context, list) else [context]:
        for name, value in part.items() if isinstance(part, dict) else ():
            target = value.get("@id") if isinstance(value, dict) else value
            if isinstance(target, str) and not name.startswith("@"):
                found[name] = target
    return found
