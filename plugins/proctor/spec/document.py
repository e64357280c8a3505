"""YAML text becomes plain data, with a position for every key and value.

Limits keep hostile files cheap; every duplicate key and unknown tag is reported, not the first
alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from proctor.spec.errors import Position, Problem
from proctor.spec.nodes import CORE, MAX_DEPTH, MAX_VALUES, Node, Unreadable, compose, read_text

DataPath = tuple[str | int, ...]

_MERGE = CORE + "merge"
_SCALAR_NAMES = ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
_TAGS = {
    "scalar": {CORE + name for name in _SCALAR_NAMES},
    "sequence": {CORE + "seq"},
    "mapping": {CORE + "map"},
}


@dataclass
class Document:
    """A file's data. ``keys`` and ``values`` tell where each stands; both are keyed by path."""

    file: str
    data: JsonValue = None
    keys: dict[DataPath, Position] = field(default_factory=dict)
    values: dict[DataPath, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    templates: set[str] = field(default_factory=set)

    def where(self, path: DataPath) -> Position:
        """Position of the value at a path, or of what is nearest around it."""
        return _nearest(self.values, path, self.file)

    def where_key(self, path: DataPath) -> Position:
        """Position of the key at a path, or of what is nearest around it."""
        return self.keys.get(path) or self.where(path)


def _nearest(places: Mapping[DataPath, Position], path: DataPath, file: str) -> Position:
    for length in range(len(path), -1, -1):
        if path[:length] in places:
            return places[path[:length]]
    return Position(file)


def read(path: Path) -> Document:
    """Read a spec's file.

    Raises:
        Unreadable: no such file, too large, no text, or no YAML.
    """
    file = str(path)
    return parse(read_text(path, file), file)


def parse(text: str, file: str) -> Document:
    """Turn YAML text into a :class:`Document`.

    Raises:
        Unreadable: it is empty or no YAML.
    """
    root = compose(text, file)
    if root is None:
        raise Unreadable(
            Problem(Position(file), "the file is empty", "a spec needs at least 'steps:'")
        )
    document = Document(file)
    _Builder(document).build(root)
    if root.kind == "mapping":
        document.templates = {
            key.value for key, value in root.value if key.kind == "scalar" and _holds_anchor(value)
        }
    return document


def _holds_anchor(node: Node) -> bool:
    stack = [node]
    while stack:
        node = stack.pop()
        if node.anchored:
            return True
        if node.kind == "sequence":
            stack.extend(node.value)
        elif node.kind == "mapping":
            stack.extend(value for _, value in node.value)
    return False


class _Builder:
    """Turns nodes into data; aliases are written out, at most MAX_VALUES values in all."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def build(self, root: Node) -> None:
        self.document.data = self._value(root, (), 0)

    def _value(self, node: Node, path: DataPath, depth: int) -> JsonValue:
        self._count(node, depth)
        self.document.values[path] = node.at
        if node.tag not in _TAGS[node.kind]:
            short = node.tag.replace(CORE, "!!")
            remedy = "a spec has no tags; write the plain value"
            self._problem(node.at, f"unknown tag {short!r}", remedy)
            return None
        if node.kind == "scalar":
            return self._scalar(node)
        if node.kind == "sequence":
            return [self._value(n, (*path, i), depth + 1) for i, n in enumerate(node.value)]
        return self._mapping(node, path, depth)

    def _mapping(self, node: Node, path: DataPath, depth: int) -> JsonValue:
        result: dict[str, JsonValue] = {}
        for name, (key, value) in self._pairs(node, depth).items():
            self.document.keys[(*path, name)] = key.at
            result[name] = self._value(value, (*path, name), depth + 1)
        return result

    def _pairs(self, node: Node, depth: int) -> dict[str, tuple[Node, Node]]:
        """The mapping's own keys; what ``<<`` merges stands behind them and never overrides."""
        self._count(node, depth, len(node.value))
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if key.kind != "scalar":
                self._problem(key.at, "a key must be text", "YAML takes this for a nested value")
            elif key.tag == _MERGE:
                for name, pair in self._merge(value, depth + 1).items():
                    merged.setdefault(name, pair)
            elif key.value in own:
                first = own[key.value][0].at.line
                message = f"the key {key.value!r} is here twice, first in line {first}"
                self._problem(key.at, message, "remove one of them")
            else:
                own[key.value] = (key, value)
        return own | {name: pair for name, pair in merged.items() if name not in own}

    def _merge(self, node: Node, depth: int) -> dict[str, tuple[Node, Node]]:
        if node.kind == "mapping":
            return self._pairs(node, depth)
        merged: dict[str, tuple[Node, Node]] = {}
        if node.kind == "scalar" or any(part.kind != "mapping" for part in node.value):
            message = "'<<' merges mappings; this is something else"
            self._problem(node.at, message, "name an anchor of a mapping, or a list of such")
            return merged
        for part in node.value:
            for name, pair in self._pairs(part, depth + 1).items():
                merged.setdefault(name, pair)
        return merged

    def _scalar(self, node: Node) -> JsonValue:
        text, short = str(node.value), node.tag.removeprefix(CORE)
        try:
            return _SCALAR[short](text) if short in _SCALAR else text
        except (ValueError, KeyError, IndexError, OverflowError):
            wanted = "true or false" if short == "bool" else "a number that can be used"
            self._problem(node.at, f"{text[:40]!r} is not {wanted}", "put text in quotes")
            return None

    def _count(self, node: Node, depth: int, values: int = 1) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            message = f"the file has over {MAX_VALUES:,} values, its aliases written out"
            raise Unreadable(Problem(node.at, message, "use fewer aliases of aliases"))
        if depth > 2 * MAX_DEPTH:
            message = f"the nesting is over {2 * MAX_DEPTH} levels, its aliases written out"
            raise Unreadable(Problem(node.at, message, "use fewer aliases of aliases"))

    def _problem(self, at: Position, message: str, remedy: str) -> None:
        self.document.problems.append(Problem(at, message, remedy))


def _integer(text: str) -> int:
    """YAML 1.1: 0x1f, 0b1, 017 and 1:30 (sexagesimal) are numbers too."""
    number = int(yaml.constructor.SafeConstructor().construct_yaml_int(_as_node("int", text)))
    if abs(number) >= 2**63:
        raise OverflowError(text)
    return number


def _float(text: str) -> float:
    number = float(yaml.constructor.SafeConstructor().construct_yaml_float(_as_node("float", text)))
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _as_node(short: str, text: str) -> Any:
    return yaml.ScalarNode(CORE + short, text)


_SCALAR: dict[str, Any] = {
    "int": _integer,
    "float": _float,
    "bool": lambda text: yaml.constructor.SafeConstructor.bool_values[text.lower()],
    "null": lambda text: None,
}
