"""Family *system description*: ``systems/<system>.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proctor_steps.submission import system as description
from proctor_steps.submission.check.finding import Finding
from proctor_steps.submission.check.result import System

_MEANINGFUL = frozenset(description.FIELDS) - description.MAY_BE_EMPTY
# The checker multiplies these two for its table of results, and ends where one is no number.
_COUNTED = ("number_of_nodes", "accelerators_per_node")
_ALSO_COUNTS = ("host_processors_per_node", "host_processor_core_count")


def findings(system: System) -> Iterator[Finding]:
    """Everything about the description of one system."""
    found, tell = system.described, system.tell
    if found.fields is None:
        yield tell.rejected(
            "system_description", found.path, found.problem,
            "describe the system there: a JSON object with the fields that the round wants",
            found.line, stops=True,
        )  # fmt: skip
        return
    yield from _fields(system, found.fields)
    yield from _values(system, found.fields)
    yield from _numbers(system, found.fields)
    yield from _notes(system, found.fields)


def _fields(system: System, fields: Mapping[str, Any]) -> Iterator[Finding]:
    wanted = (
        *description.FIELDS,
        *(description.NETWORK_FIELDS if fields.get("is_network") else ()),
    )
    for name in wanted:
        if name not in fields:
            yield system.tell.rejected(
                "system_field", system.path, f"{name} is missing", "add the field"
            )
        elif name in _MEANINGFUL and not fields[name]:
            advice = "state it"
            if fields[name] == 0:
                advice = 'the number 0 counts as empty: write it as text, "0"'
            text = f"{name} is {fields[name]!r}, which counts as empty"
            yield system.tell.rejected("system_field", system.path, text, advice)


def _values(system: System, fields: Mapping[str, Any]) -> Iterator[Finding]:
    tell, path, folder = system.tell, system.path, system.folder
    status = fields.get("status")
    if not isinstance(status, str) or status.lower() not in description.STATUSES:
        text = f"status is {status!r}; it must be one of {', '.join(description.STATUSES)}"
        yield tell.rejected("system_field", path, text, "state one of them")
    if system.type is None:
        yield tell.rejected(
            "system_type", path,
            f"system_type is {fields.get('system_type')!r}; it must be one of "
            + "; ".join(description.SYSTEM_TYPES),
            "state one of them, in this spelling", stops=folder.division != "open",
        )  # fmt: skip
    for name, own in (("submitter", folder.submitter), ("division", folder.division)):
        if not isinstance(fields.get(name), str) or fields[name].lower() != own.lower():
            text = f"{name} is {fields.get(name)!r}, but the folder is {own}"
            yield tell.rejected("system_field", path, text, "make both the same")
    network = fields.get("is_network")
    over = isinstance(network, str) and network.lower() == "true"
    if network is not None and not isinstance(network, str):
        yield tell.rejected(
            "system_field", path, f"is_network is {network!r}, which is no text",
            'write "true" or "false" in quotes',
        )  # fmt: skip
    elif folder.division != "open" and over is not (folder.division == "network"):
        yield tell.rejected(
            "system_field", path, f"is_network is {network!r} in the division {folder.division}",
            'it is "true" in the division network, and absent or "false" in closed',
        )  # fmt: skip


def _numbers(system: System, fields: Mapping[str, Any]) -> Iterator[Finding]:
    for name in _COUNTED:
        if fields.get(name) and _whole(fields[name]) is None:
            text = f"{name} is {fields[name]!r}, which is no whole number"
            advice = 'write the number alone, and "0" where there are none'
            yield system.tell.rejected("system_field", system.path, text, advice, stops=True)
    for name in _ALSO_COUNTS:
        if fields.get(name) and _whole(fields[name]) is None:
            text = f"{name} is {fields[name]!r}, which is no whole number"
            yield system.tell.advice("system_field", system.path, text, "write the number alone")


def _notes(system: System, fields: Mapping[str, Any]) -> Iterator[Finding]:
    """The checker puts both notes together as text, and ends where one is none."""
    for name in ("hw_notes", "sw_notes"):
        if fields.get(name) and not isinstance(fields[name], str):
            text = f"{name} is {fields[name]!r}, which is no text"
            said = ("system_field", system.path, text, "write a sentence")
            both = bool(fields.get("sw_notes"))
            yield system.tell.rejected(*said, stops=True) if both else system.tell.against(*said)


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None
