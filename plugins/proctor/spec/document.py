"""YAML text becomes plain data, with a position for every key and value.

PyYAML's C parser gives the events; the tree is built here, without recursion in C (a deep nesting
would end the interpreter), with limits that keep hostile files cheap, and with every duplicate key
and unknown tag reported rather than the first alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue
from yaml.resolver import Resolver

from proctor.spec.errors import Position, Problem, did_you_mean

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 200_000

DataPath = tuple[str | int, ...]

_CORE = "tag:yaml.org,2002:"
_MERGE = _CORE + "merge"
_SCALAR_NAMES = ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
_TAGS = {
    "scalar": {_CORE + name for name in _SCALAR_NAMES},
    "sequence": {_CORE + "seq"},
    "mapping": {_CORE + "map"},
}


class Unreadable(Exception):
    """The text is no YAML document at all; nothing further can be said about it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass
class Node:
    """One value as written. ``value``: text, a list of nodes, or a list of (key, value) nodes."""

    kind: str
    value: Any
    tag: str
    at: Position
    anchored: bool = False


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
    return parse(_text(path, file), file)


def parse(text: str, file: str) -> Document:
    """Turn YAML text into a :class:`Document`.

    Raises:
        Unreadable: it is empty or no YAML.
    """
    root = _compose(text, file)
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


def _text(path: Path, file: str) -> str:
    start = Position(file)
    try:
        if path.is_dir():
            raise Unreadable(Problem(start, "this is a folder", "name the YAML file in it"))
        with path.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
        size = path.stat().st_size
    except FileNotFoundError:
        raise Unreadable(Problem(start, "there is no such file", "check the name")) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Unreadable(Problem(start, f"the file cannot be read: {reason}")) from None
    if len(raw) > MAX_BYTES:
        message = f"the file has {size / 1e6:.1f} MB, a spec has at most {MAX_BYTES / 1e6:.0f} MB"
        raise Unreadable(Problem(start, message, "data does not belong in a spec; fetch it"))
    return _decode(raw, file)


def _decode(raw: bytes, file: str) -> str:
    bad = raw.find(b"\0")
    if bad < 0:
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            bad = error.start
    before = raw[:bad]
    line = before.count(b"\n") + 1
    at = Position(file, line, bad - (before.rfind(b"\n") + 1) + 1)
    message = f"this is no text: byte 0x{raw[bad]:02x} is not UTF-8"
    if raw[bad] == 0:
        message = "this is no text: it holds a zero byte"
    raise Unreadable(Problem(at, message, "a spec is a YAML file in UTF-8"))


# --- events -> nodes ---------------------------------------------------------------------------


def _compose(text: str, file: str) -> Node | None:
    try:
        return _Composer(file).compose(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_syntax(error, text, file)) from None
    except yaml.reader.ReaderError as error:
        raise Unreadable(_unprintable(error, text, file)) from None


class _Composer:
    """Builds nodes from events with a stack of its own."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.anchors: dict[str, Node] = {}
        self.open: list[Node] = []
        self.keys: list[Node | None] = []
        self.roots: list[Node] = []

    def compose(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            self._take(event)
        return self.roots[0] if self.roots else None

    def _take(self, event: Any) -> None:
        at = self._at(event)
        if isinstance(event, yaml.ScalarEvent):
            self._add(self._anchor(event, Node("scalar", event.value, _scalar_tag(event), at)))
        elif isinstance(event, yaml.CollectionStartEvent):
            mapping = isinstance(event, yaml.MappingStartEvent)
            kind, short = ("mapping", "map") if mapping else ("sequence", "seq")
            tag = _CORE + short if event.tag in (None, "!") else event.tag
            self._push(self._anchor(event, Node(kind, [], tag, at)))
        elif isinstance(event, yaml.CollectionEndEvent):
            self.keys.pop()
            self._add(self.open.pop())
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._alias(str(event.anchor), at))
        elif isinstance(event, yaml.DocumentStartEvent) and self.roots:
            message = "a second YAML document begins here"
            raise Unreadable(Problem(at, message, "one file holds one pipeline; split it"))

    def _push(self, node: Node) -> None:
        if len(self.open) >= MAX_DEPTH:
            message = f"the nesting is deeper than {MAX_DEPTH} levels"
            raise Unreadable(Problem(node.at, message, "a spec needs about six"))
        self.open.append(node)
        self.keys.append(None)

    def _add(self, node: Node) -> None:
        if not self.open:
            self.roots.append(node)
        elif self.open[-1].kind == "sequence":
            self.open[-1].value.append(node)
        elif self.keys[-1] is None:
            self.keys[-1] = node
        else:
            self.open[-1].value.append((self.keys[-1], node))
            self.keys[-1] = None

    def _anchor(self, event: Any, node: Node) -> Node:
        if event.anchor is not None:
            node.anchored = True
            self.anchors[event.anchor] = node
        return node

    def _alias(self, name: str, at: Position) -> Node:
        node = self.anchors.get(name)
        if node is None:
            message = f"the alias '*{name}' has no anchor '&{name}' above it"
            raise Unreadable(Problem(at, message, did_you_mean(name, self.anchors)))
        if any(node is parent for parent in self.open):
            message = f"the alias '*{name}' stands inside its own anchor"
            raise Unreadable(Problem(at, message, "a value cannot hold itself"))
        return node

    def _at(self, event: Any) -> Position:
        mark = event.start_mark
        return Position(self.file, mark.line + 1, mark.column + 1)


def _scalar_tag(event: Any) -> str:
    if event.tag is not None and event.tag != "!":
        return str(event.tag)
    if not event.implicit[0]:
        return _CORE + "str"
    first = event.value[:1]
    resolvers = Resolver.yaml_implicit_resolvers
    for tag, pattern in resolvers.get(first, []) + resolvers.get(None, []):
        if pattern.match(event.value):
            return str(tag)
    return _CORE + "str"


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    at = Position(file, line, column)
    what = str(error.problem or error.context or "this is no YAML")
    lines = text.splitlines()
    if "cannot start any token" in what and line <= len(lines):
        found = lines[line - 1][column - 1 : column]
        if found == "\t":
            return Problem(at, "a tab stands where YAML wants spaces", "indent with spaces")
        if found:
            return Problem(at, f"{found!r} cannot start a value", "put the value in quotes")
    context = ""
    if error.context and error.context_mark:
        context = f" ({error.context}, begun in line {error.context_mark.line + 1})"
    cut_off = line > len(lines) or "end of stream" in what
    remedy = "the file ends too early; is it complete?" if cut_off else "mend the YAML there"
    return Problem(at, f"this is no YAML: {what}{context}", remedy)


def _unprintable(error: yaml.reader.ReaderError, text: str, file: str) -> Problem:
    match = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]", text)
    before = text[: match.start()] if match else ""
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    what = f"the character U+{ord(match[0]):04X}" if match else "a character"
    return Problem(Position(file, line, column), f"{what} is not allowed in YAML", "remove it")


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


# --- nodes -> data -----------------------------------------------------------------------------


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
            short = node.tag.replace(_CORE, "!!")
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
        text, short = str(node.value), node.tag.removeprefix(_CORE)
        try:
            return _SCALAR[short](text) if short in _SCALAR else text
        except (ValueError, KeyError, OverflowError):
            self._problem(node.at, f"{text[:40]!r} is no {short} that JSON knows", "write it out")
            return None

    def _count(self, node: Node, depth: int, values: int = 1) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            message = f"with its aliases written out, the file has over {MAX_VALUES:,} values"
            raise Unreadable(Problem(node.at, message, "use fewer aliases of aliases"))
        if depth > 2 * MAX_DEPTH:
            message = f"with its aliases written out, the nesting is over {2 * MAX_DEPTH} levels"
            raise Unreadable(Problem(node.at, message, "use fewer aliases of aliases"))

    def _problem(self, at: Position, message: str, remedy: str) -> None:
        self.document.problems.append(Problem(at, message, remedy))


def _integer(text: str) -> int:
    """YAML 1.1: 0x1f, 0b1, 017 and 1:30 (sexagesimal) are numbers too."""
    return int(yaml.constructor.SafeConstructor().construct_yaml_int(_as_node("int", text)))


def _float(text: str) -> float:
    number = float(yaml.constructor.SafeConstructor().construct_yaml_float(_as_node("float", text)))
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _as_node(short: str, text: str) -> Any:
    return yaml.ScalarNode(_CORE + short, text)


_SCALAR: dict[str, Any] = {
    "int": _integer,
    "float": _float,
    "bool": lambda text: yaml.constructor.SafeConstructor.bool_values[text.lower()],
    "null": lambda text: None,
}
