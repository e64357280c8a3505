"""A system's description and a summary of results on the terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from rich.console import Group
from rich.table import Table
from rich.text import Text

from proctor_steps.stage import DataError
from proctor_steps.submission import machine, system
from proctor_steps.submission.summary import Summary
from proctor_steps.submission.system import Description

# Fields that the package knows by itself: from its parameters, its benchmark and its runs.
OF_THE_PACKAGE = (
    *("division", "submitter", "system_name", "system_type"),
    *("framework", "other_software_stack"),
)
_DIVISIONS = ("", "closed", "open", "network")


@dataclass(frozen=True)
class Seen:
    """What was found of this machine. ``container``: how it was seen that this is one."""

    described: Description
    container: str


def look(stated: Path | None, division: str) -> Seen:
    """Describe this machine, with the fields of the file ``stated``.

    Raises:
        DataError: the file cannot be read; no such division.
    """
    if division not in _DIVISIONS:
        raise DataError(f"no division {division!r}; there are {', '.join(_DIVISIONS[1:])}")
    given = system.load_stated(stated) if stated else {}
    found = machine.discover()
    facts = dict(found.facts)
    if "accelerators_per_node" not in facts:
        where = " from inside this container" if found.container else ""
        facts |= system.no_accelerators(f"none was found{where}")
    known: dict[str, JsonValue] = {"division": division} if division else {}
    return Seen(system.describe(given, known, facts, "--division"), found.container)


def as_json(seen: Seen) -> str:
    """The description as a file to fill in: what is not known is empty."""
    return json.dumps(seen.described.fields, indent=2, ensure_ascii=False) + "\n"


def system_view(seen: Seen) -> Group:
    """A line for each field, then what is wrong and what the view was limited by."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Field", "Value", "Where from"):
        table.add_column(title, overflow="fold")
    missing = set(seen.described.missing()) - set(OF_THE_PACKAGE)
    for name, value in seen.described.fields.items():
        if name in missing:
            table.add_row(name, Text("to be stated", "bold yellow"), "")
        elif name not in seen.described.sources:
            of_package = name in OF_THE_PACKAGE
            text = "the package fills it in" if of_package else "may stay empty"
            table.add_row(name, Text(text, "dim"), "")
        else:
            table.add_row(name, Text(str(value)), Text(seen.described.sources[name], "dim"))
    wrong = [text for text in seen.described.problems if not text.startswith("nothing is known")]
    lines = [Text(f"! {problem}", "yellow") for problem in wrong]
    if missing:
        lines.append(Text(f"{len(missing)} fields are still to be stated.", "yellow"))
    if installed := machine.frameworks():
        lines.append(Text(f"Installed here: {installed}. A package names what ran."))
    if seen.container:
        lines.append(
            Text(
                f"This is a container ({seen.container}): the host's distribution and network "
                "cards, and devices that it was not given, cannot be seen from here."
            )
        )
    return Group(table, Text(), *lines)


def summary_view(summary: Summary) -> Group:
    """A line for each figure: the whole table is too wide for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Division", "Suite", "Submitter", "System", "Result", "Figure", "Unit", ""):
        table.add_column(title, justify="right" if title == "Figure" else "left", overflow="fold")
    for part in summary.tables:
        for line in part.lines:
            of = line.identity
            for model, scenario, unit in part.columns:
                cell = line.cells.get((model, scenario, unit))
                if cell is None:
                    continue
                name = f"{of['UsedModel'] or model} {scenario}"
                mark = Text(f"not valid: {', '.join(cell.marks)}" if cell.marks else "", "red")
                row = (part.division, part.suite, str(of["Submitter"]), str(of["System"]), name)
                figure = Text(cell.text, "strike" if cell.marks else "")
                table.add_row(*(Text(each) for each in row), figure, unit, mark)
    text = f"{summary.results} results; nothing stands against {summary.valid} of them."
    lines = [Text(text)]
    if summary.elsewhere:
        number = len(summary.elsewhere)
        text = f"Against the submission itself: {number} (proctor submission check shows them)."
        lines.append(Text(text, "red"))
    return Group(table, Text(), *lines)
