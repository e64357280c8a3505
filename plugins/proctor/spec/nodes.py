"""A spec's file as a tree of nodes, each with its place.

PyYAML's C parser gives the events; the tree is built here with a stack of our own, because PyYAML's
C composer recurses and a deep nesting would end the interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.resolver import Resolver

from proctor.spec.errors import Position, Problem, did_you_mean

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000
CORE = "tag:yaml.org,2002:"


class Unreadable(Exception):
    """The text is no YAML document at all; nothing further can be said about it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass(slots=True)
class Node:
    """One value as written. ``value``: text, a list of nodes, or a list of (key, value) nodes."""

    kind: str
    value: Any
    tag: str
    at: Position
    anchored: bool = False


def read_text(path: Path, file: str) -> str:
    """The text of a file.

    Raises:
        Unreadable: no such file, too large, or no text.
    """
    start = Position(file)
    try:
        if path.is_dir():
            raise Unreadable(Problem(start, "this is a folder", "name the YAML file in it"))
        if path.exists() and not path.is_file():  # a pipe might never answer, a device never end
            raise Unreadable(Problem(start, "this is no plain file", "name a YAML file"))
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


def compose(text: str, file: str) -> Node | None:
    """The tree of a YAML text; ``None`` where it holds nothing.

    Raises:
        Unreadable: it is no YAML, or nested too deep.
    """
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
        self.count = 0

    def compose(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            self._take(event)
        return self.roots[0] if self.roots else None

    def _take(self, event: Any) -> None:
        self.count += 1
        if self.count > 3 * MAX_VALUES:
            message = f"the file has over {MAX_VALUES:,} values"
            remedy = "data does not belong in a spec; fetch it"
            raise Unreadable(Problem(self._at(event), message, remedy))
        if isinstance(event, yaml.ScalarEvent):
            tag = _scalar_tag(event)
            self._add(self._anchor(event, Node("scalar", event.value, tag, self._at(event))))
        elif isinstance(event, yaml.CollectionEndEvent):
            self.keys.pop()
            self._add(self.open.pop())
        elif isinstance(event, yaml.CollectionStartEvent):
            mapping = isinstance(event, yaml.MappingStartEvent)
            kind, short = ("mapping", "map") if mapping else ("sequence", "seq")
            tag = CORE + short if event.tag in (None, "!") else event.tag
            self._push(self._anchor(event, Node(kind, [], tag, self._at(event))))
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._alias(str(event.anchor), self._at(event)))
        elif isinstance(event, yaml.DocumentStartEvent) and self.roots:
            message = "a second YAML document begins here"
            remedy = "one file holds one pipeline; split it"
            raise Unreadable(Problem(self._at(event), message, remedy))

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
        return CORE + "str"
    first = event.value[:1]
    resolvers = Resolver.yaml_implicit_resolvers
    for tag, pattern in resolvers.get(first, []) + resolvers.get(None, []):
        if pattern.match(event.value):
            return str(tag)
    return CORE + "str"


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
