"""The commands ``proctor provenance show`` and ``verify``: from a figure back to every byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proctor.site.commands import FAILED, HomeOption, console_of, give_up
from proctor.site.home import Home
from proctor.spec.errors import did_you_mean

if TYPE_CHECKING:
    from rich.tree import Tree

    from proctor.site.provenance_open import Opened

GONE = 3  # exit code: nothing is wrong, and not everything is still there
_SHORT = 12
Where = Annotated[
    str,
    typer.Argument(
        metavar="PATH[#FIGURE]",
        help="a run's folder, a package, an output, a dataset; of one figure, Offline.throughput",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to ``proctor``."""
    group = typer.Typer(
        help="Where a figure or a dataset came from, back to every byte.", no_args_is_help=True
    )
    group.command()(show)
    group.command()(verify)
    app.add_typer(group, name="provenance")


def show(
    where: Where,
    home: HomeOption = None,
    json_: Annotated[bool, typer.Option("--json", help="as PROV-O in JSON-LD, in full")] = False,
) -> None:
    """Show what made a figure or a dataset, step by step, back to sources and licences."""
    from rich.markup import escape

    from proctor.site.provenance import reached
    from proctor_steps.lineage import CONTEXT

    console = console_of()
    with _found(where, home) as (found, roots):
        if json_:
            graph = [found.node(id) for id in reached(found, roots)]
            whole = {"@context": CONTEXT, "@graph": [node for node in graph if node]}
            typer.echo(json.dumps(whole, indent=1, ensure_ascii=False))
            return
        for root in roots:
            console.print(_tree_of(found, root), highlight=False)
        if found.problem:
            console.print(escape(f"Not all is shown: {found.problem}"), style="yellow")


def verify(where: Where, home: HomeOption = None) -> None:
    """Check every digest and signature behind a figure or a dataset that is still there.

    Exit code 1: something is not as it was; 3: nothing is wrong, and something is gone.
    """
    from rich.markup import escape
    from rich.table import Table

    from proctor.site.provenance import check

    console = console_of()
    with _found(where, home) as (found, roots), console.status("reading"):
        looked = check(found, roots)
    table = Table(header_style="bold")
    for column in ("Checked", "Good", "Elsewhere", "Gone", "Bad"):
        table.add_column(column, no_wrap=True)
    for what in sorted({each.what for each in looked}):
        states = [each.state for each in looked if each.what == what]
        table.add_row(what, *(str(states.count(s)) for s in ("good", "away", "gone", "bad")))
    console.print(table)
    marks = {"away": ("·", "dim"), "gone": ("–", "yellow"), "bad": ("✗", "red")}
    for state, (mark, style) in marks.items():
        for each in (each for each in looked if each.state == state):
            text = f"{mark} {each.what} {each.name}: {each.message}"
            console.print(escape(text), style=style, soft_wrap=True, highlight=False)
    found_states = {each.state for each in looked}
    if "bad" in found_states:
        raise typer.Exit(FAILED)
    if "gone" in found_states:
        console.print("Nothing is wrong, but not everything is still there.", style="yellow")
        raise typer.Exit(GONE)
    console.print("Everything behind it is as it was.", style="green")


@contextmanager
def _found(where: str, home: Path | None) -> Iterator[tuple[Opened, list[str]]]:
    from proctor.site.provenance_open import NoProvenance, opened

    name, _, figure = (where, "", "") if Path(where).exists() else where.rpartition("#")
    path = Path(name or figure)
    try:
        with opened(path, Home(home.resolve()) if home else None) as found:
            yield found, _roots(found, figure if name else "")
    except NoProvenance as error:
        give_up(str(error))


def _roots(found: Opened, figure: str) -> list[str]:
    if not figure:
        return list(found.roots.values())
    if figure not in found.figures:
        known = ", ".join(found.figures) or "none"
        hint = did_you_mean(figure, found.figures) if found.figures else ""
        give_up(f"{found.path} has no figure {figure!r}; {hint}\nfigures: {known}")
    return [found.roots[figure]]


def _tree_of(found: Opened, root: str) -> Tree:
    """What a node came from, as branches; what was shown before is only named again."""
    from rich.text import Text
    from rich.tree import Tree

    seen: set[str] = set()

    def grow(id: str, parent: Tree | None) -> Tree:
        known = id in seen
        label = Text(f"{_named(found, id)} (above)" if known else _label(found, id))
        branch = Tree(label) if parent is None else parent.add(label)
        if not known:
            seen.add(id)
            for word, key in _BRANCHES:
                links = found.links(id, key)
                below = branch.add(Text(word, style="bold")) if links and word else branch
                for each in links:
                    grow(each, below)
        return branch

    return grow(root, None)


_BRANCHES = (
    ("", "prov:wasGeneratedBy"),
    ("from", "prov:used"),
    ("from", "prov:wasDerivedFrom"),
    ("after", "prov:wasInformedBy"),
    ("approved", "approved"),
)


def _named(found: Opened, id: str) -> str:
    node = found.node(id)
    return str(node.get("name") or node.get("prov:label") or id)


_VALID = {"True": "LoadGen: VALID", "False": "LoadGen: INVALID"}
_OFFICIAL = {"True": "every rule of the round met", "False": "misses rules of the round"}


def _label(found: Opened, id: str) -> str:
    """One thing: its name and what identifies it, and below that what is longer."""
    node, name = found.node(id), _named(found, id)
    kind = id.partition(":")[0]
    if kind == "figure":
        valid = _VALID.get(str(node.get("valid")), "")
        official = _OFFICIAL.get(str(node.get("official")), "")
        value = f"{name} = {node.get('value')} {node.get('unit') or ''}".rstrip()
        return _lines([value, str(node.get("metric") or ""), valid, official])
    if node.get("@type") == "prov:Activity":
        kind, _, digest = str(node.get("image_digest") or "").rpartition(":")
        words = (str(node.get("image") or ""), kind.removeprefix("sha256"), digest[:_SHORT])
        named = " ".join(word for word in words if word)
        image = named or node.get("proctor:image") or "none, by hand"
        given = node.get("parameters") or node.get("proctor:parameters")
        over = node.get("taken_over_in")
        told = [f"made by {name}", f"image {image}", _short("identity", node.get("identity"))]
        below = f"parameters {json.dumps(given, ensure_ascii=False)}" if given else ""
        return _lines([*told, f"taken over in {over}" if over else ""], below)
    if kind == "approval":
        answer = node.get("answer") or {}
        told = [f"{answer.get('decision')} by {answer.get('by')} at {answer.get('at')}"]
        looked = "" if answer.get("evidence_reviewed") else "evidence not reviewed"
        return _lines([f"gate {name}", *told, str(answer.get("answered_via")), looked])
    licences = node.get("license") or []
    listed = ", ".join(map(str, licences if isinstance(licences, list) else [licences]))
    told = [name, _short("sha256", node.get("sha256")), str(node.get("contentSize") or "")]
    return _lines(told, f"licences {listed}" if listed else "")


def _lines(words: list[str], below: str = "") -> str:
    first = "; ".join(word for word in words if word)
    return f"{first}\n{below}" if below else first


def _short(word: str, digest: object) -> str:
    return f"{word} {str(digest)[:_SHORT]}" if digest else ""
