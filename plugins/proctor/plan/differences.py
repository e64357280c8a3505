"""What makes two steps of different identity, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_NAMES = {
    "image": "the image",
    "command": "the command",
    "seed": "the seed",
    "outputs": "the outputs",
    "mounts": "the places of inputs",
    "host": "this host",
    "exclusive": "'exclusive'",
    "services": "a service",
    "measured_in": "the run that figures come from",
    "history": "what was measured before",
    "contract": "the version of the contract",
}
# In the order in which a person would look.
_ORDER = ("command", "image", "params", "inputs", "sources", "seed", "resources", "host")
_MEMBERS = {"params": "parameter", "resources": "resource", "inputs": "input", "sources": "source"}
_LONGEST = 60  # of a value in words


def first_difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that makes a step another, in words; "" where nothing does."""
    keys = [*_ORDER, *sorted(set(was) | set(now) - set(_ORDER))]
    for key in dict.fromkeys(keys):
        before, after = was.get(key), now.get(key)
        if before == after:
            continue
        if key in _MEMBERS:
            return _member(key, before, after)
        if key == "host" and isinstance(before, dict) and isinstance(after, dict):
            part = next(k for k in sorted({*before, *after}) if before.get(k) != after.get(k))
            return f"this host is another: {part} was {_shown(before.get(part))}"
        return f"{_NAMES.get(key, key)} was {_shown(before)}, is {_shown(after)}"
    return ""


def _member(key: str, before: Any, after: Any) -> str:
    was, now = (x if isinstance(x, dict) else {} for x in (before, after))
    name = next((k for k in sorted({*was, *now}) if was.get(k) != now.get(k)), "")
    kind = _MEMBERS[key]
    if key in ("params", "resources"):
        return f"{kind} {name} was {_shown(was.get(name))}, is {_shown(now.get(name))}"
    return f"the bytes of {kind} {name.rstrip('/')} are others" if name else f"another {kind}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.startswith("sha256:"):
        text = text[7:19]
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
