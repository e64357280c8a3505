"""``systems/<system>.json``: what was measured, as far as it can be known.

What the submitter states wins; then what the run itself knows; then what the machine tells
(:mod:`~proctor_steps.submission.machine`). What none of them tells stays empty and is told: a
description is never invented. Each field keeps where it comes from.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from proctor_steps.stage import DataError
from proctor_steps.submission.facts import Fact
from proctor_steps.submission.machine import is_accelerator
from proctor_steps.transport.local import local_path

# The 35 fields that the official checker wants to find, in its order.
FIELDS = (
    "division",
    "submitter",
    "status",
    "system_name",
    "number_of_nodes",
    "host_processor_model_name",
    "host_processors_per_node",
    "host_processor_core_count",
    "host_memory_capacity",
    "host_storage_capacity",
    "host_storage_type",
    "accelerators_per_node",
    "accelerator_model_name",
    "accelerator_memory_capacity",
    "framework",
    "operating_system",
    "system_type",
    "other_software_stack",
    "host_processor_frequency",
    "host_processor_caches",
    "host_memory_configuration",
    "host_processor_interconnect",
    "host_networking",
    "host_networking_topology",
    "accelerator_frequency",
    "accelerator_host_interconnect",
    "accelerator_interconnect",
    "accelerator_interconnect_topology",
    "accelerator_memory_configuration",
    "accelerator_on-chip_memories",
    "cooling",
    "hw_notes",
    "sw_notes",
    "host_network_card_count",
    "system_type_detail",
)

# Fields that the checker accepts empty; all others must say something.
MAY_BE_EMPTY = frozenset(
    {
        "host_processor_frequency",
        "host_processor_caches",
        "host_processor_interconnect",
        "accelerator_frequency",
        "accelerator_interconnect_topology",
        "accelerator_on-chip_memories",
        "hw_notes",
        "sw_notes",
        "system_type_detail",
    }
)

# What the official checker wants to find in measurements.json, each with something in it.
MEASUREMENTS = (
    "input_data_types",
    "retraining",
    "starting_weights_filename",
    "weight_data_types",
    "weight_transformations",
)

# What the network division asks for as well; none of it may be missing.
NETWORK_FIELDS = (
    "is_network",
    "network_type",
    "network_media",
    "network_rate",
    "nic_loadgen",
    "number_nic_loadgen",
    "net_software_stack_loadgen",
    "network_protocol",
    "number_connections",
    "nic_sut",
    "number_nic_sut",
    "net_software_stack_sut",
    "network_topology",
)

GIVE_IT = "give it in the parameter `system`, or in the file that `system_uri` names"

STATUSES = ("available", "preview", "rdi")
SYSTEM_TYPES = ("datacenter", "edge", "datacenter,edge", "edge,datacenter")
# The official table of results computes with these, and breaks on any other text.
NUMBERS = ("number_of_nodes", "host_processors_per_node", "accelerators_per_node")


@dataclass(frozen=True)
class Description:
    """A description. ``sources``: by field, where its value comes from."""

    fields: dict[str, JsonValue]
    sources: dict[str, str]
    problems: tuple[str, ...]

    def missing(self) -> list[str]:
        """Fields that must say something, and that nothing is known of."""
        return [name for name in self.fields if _wanted(name) and _says_nothing(self.fields[name])]


def describe(
    stated: Mapping[str, JsonValue],
    known: Mapping[str, JsonValue],
    machine: Mapping[str, Fact],
    known_from: str = "the run",
) -> Description:
    """Merge what is stated, what is ``known`` from elsewhere, and what the machine tells."""
    facts = dict(machine)
    facts |= {k: Fact(v, known_from) for k, v in known.items() if v not in (None, "")}
    facts |= {k: Fact(v, "stated") for k, v in stated.items() if v not in (None, "")}
    if facts.get("division") and facts["division"].value == "network":
        facts.setdefault("is_network", Fact("true", "the network division"))
        order = [*FIELDS, *NETWORK_FIELDS]
    else:
        order = list(FIELDS)
    order += [name for name in facts if name not in order]
    fields = {name: _spelt(name, facts[name].value) if name in facts else "" for name in order}
    sources = {name: facts[name].source for name in order if name in facts}
    return Description(fields, sources, tuple(_problems(fields)))


def without_accelerator() -> dict[str, JsonValue]:
    """A system of processors alone. The count is text: a number 0 counts as missing."""
    names = [name for name in FIELDS if is_accelerator(name)]
    return {**dict.fromkeys(names, "N/A"), "accelerators_per_node": "0"}


def no_accelerators(why: str) -> dict[str, Fact]:
    """:func:`without_accelerator` as facts, and ``why`` they are."""
    return {name: Fact(value, why) for name, value in without_accelerator().items()}


def load_stated(path: Path) -> dict[str, JsonValue]:
    """A JSON file of stated fields, as ``proctor submission system --out`` writes one.

    Raises:
        DataError: it cannot be read, or holds no JSON object.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}; fields are a JSON object")
    return found


def stated_of(given: Mapping[str, JsonValue], uri: str) -> dict[str, JsonValue]:
    """What the submitter states: the given fields, and over them those of a file.

    Raises:
        DataError: the file cannot be read, or holds no JSON object.
    """
    file = load_stated(local_path(uri)) if uri else {}
    return dict(given) | {name: value for name, value in file.items() if value not in (None, "")}


def others(stated: Mapping[str, JsonValue], package: Mapping[str, JsonValue]) -> str:
    """That another submitter or division is stated than the package's; else nothing."""
    wrong = [
        f"{key} is {stated[key]!r} there"
        for key in ("submitter", "division")
        if key in stated and str(stated[key]).lower() != str(package[key]).lower()
    ]
    if not wrong:
        return ""
    return (
        "the stated system: submitter and division must be those of the package "
        f"({package['submitter']}, {package['division']}); {', '.join(wrong)}"
    )


def _spelt(name: str, value: JsonValue) -> JsonValue:
    """A whole number of accelerators is written as text: the checker takes 0 for "nothing said"."""
    if name == "accelerators_per_node" and type(value) is int:
        return str(value)
    return value


def _wanted(name: str) -> bool:
    return (name in FIELDS and name not in MAY_BE_EMPTY) or name in NETWORK_FIELDS


def _says_nothing(value: JsonValue) -> bool:
    return not value or (isinstance(value, str) and not value.strip())


def _problems(fields: Mapping[str, JsonValue]) -> Iterable[str]:
    missing = [name for name in fields if _wanted(name) and _says_nothing(fields[name])]
    if missing:
        yield "nothing is known of " + ", ".join(missing)
    for name, value in fields.items():
        if isinstance(value, dict | list | bool):
            yield f"{name} is {json.dumps(value)[:60]}; write text or a number"
    for name in sorted(fields.keys() - {*FIELDS, *NETWORK_FIELDS}):
        if near := difflib.get_close_matches(name, missing, 1):
            yield f"{name} is no field of the description; did you mean {near[0]}?"
    yield from _choices(fields)
    for name in NUMBERS:
        value = fields[name]
        if not _says_nothing(value) and not (isinstance(value, int | str) and _is_count(value)):
            yield f"{name} {value!r} is no whole number"
        elif name != "accelerators_per_node" and str(value) == "0":
            yield f"{name} is 0; there is one at least"
    yield from _network(fields)


def _is_count(value: int | str) -> bool:
    text = str(value).strip()
    return text.isascii() and text.isdigit() and len(text) < 10


def _choices(fields: Mapping[str, JsonValue]) -> Iterable[str]:
    if fields["status"] and str(fields["status"]).lower() not in STATUSES:
        yield f"status {fields['status']!r} is none of {', '.join(STATUSES)}"
    if fields["system_type"] and fields["system_type"] not in SYSTEM_TYPES:
        yield f"system_type {fields['system_type']!r} is none of {'; '.join(SYSTEM_TYPES)}"


def _network(fields: Mapping[str, JsonValue]) -> Iterable[str]:
    """``is_network`` is the text "true" in the network division, and stands nowhere else: the
    official checker asks for the network fields wherever it stands, even as "false"."""
    said = fields.get("is_network")
    if fields["division"] == "network":
        if said != "true":
            yield f'is_network is {said!r}; the network division wants the text "true"'
    elif "is_network" in fields:
        yield "is_network belongs to the network division alone; leave it out"
