"""``proctor site run``: for a data site's person, who is no expert.

One command: what is missing is said first, what a spec wants beyond its data is asked once, then
the pipeline runs with its page in the browser, and everything stops at the end. The same command
goes on where it was.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proctor.site import commands, trust
from proctor.site.commands import FAILED, Mount, Set, console_of, give_up
from proctor.site.home import Home
from proctor.site.report_command import report

if TYPE_CHECKING:
    from rich.console import Console

    from proctor.plan.model import Plan
    from proctor.site.joining import Invitation
    from proctor.site.preflight import Finding

HOME_FOLDER = ".proctor"  # in the output folder
# The mounts that --data and --labels stand for: MedPerf's names, and shorter ones.
DATA_MOUNTS, LABELS_MOUNTS = ("data_path", "data"), ("labels_path", "labels")
EXAMPLE_SUBJECTS = 12
_SIGNS = {"good": ("✓", "green"), "unknown": ("?", "yellow"), "bad": ("✗", "bold red")}


def register(app: typer.Typer) -> None:
    """Add these commands to ``proctor``."""
    group = typer.Typer(
        help="For a data site: prepare data as a committee's spec says.", no_args_is_help=True
    )
    group.command(name="run")(run_site)
    group.command(name="example")(example)
    group.command()(report)
    app.add_typer(group, name="site")


def run_site(
    spec: Annotated[str, typer.Argument(help="the committee's spec")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="your data; only read")],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="where everything is kept")
    ],
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="DIR", help="its labels; only read")
    ] = None,
    mount: Mount = None,
    set_: Set = None,
    coordinator: Annotated[
        str, typer.Option(metavar="URL", help="the committee's address: who hears how far this is")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="its token; without it you are asked")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="its certificates, if it sent you some")
    ] = None,
    agree: Annotated[
        bool, typer.Option("--agree", help="agree to what the spec wants, without being asked")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="only look whether all is there")] = False,
) -> None:
    """Prepare data: look at what is there, run the spec with its page in the browser, stop.

    The same command goes on where it was. A step reaches no network unless you agree to that.
    """
    console, place = console_of(), Home((output / HOME_FOLDER).resolve())
    path, plan, params, build = commands.prepared(spec, set_ or [])
    given = [*(mount or []), *_places(plan, data, labels)]
    invited = _invitation(place, plan, coordinator, token_file, ca_file)
    if not all(_look(console, place, plan, params, given)):
        raise typer.Exit(commands.NOT_STARTED)
    if check:
        return
    commands.create(place)
    bound = commands.bind_mounts(place, plan, params, given)
    _agree(console, place, plan, params, agree)
    if invited:
        invited.accept(plan)
    kind = commands.choose_runtime(console, "docker", place, commands.images_of(plan, params))
    way = commands.Way(browser=True)
    done = commands.carry_out(console, place, kind, (path, plan, params, build), bound, way)
    _tell_results(console, place, plan, output)
    raise typer.Exit(0 if done else FAILED)


def example(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new folder for it")],
) -> None:
    """Lay out data of twelve made-up subjects, to try `site run` with."""
    from proctor.runtime.host import steps_package

    if folder.exists() and any(folder.iterdir()):
        give_up(f"{folder} is there and not empty; name a new folder")
    with zipfile.ZipFile(steps_package() / "embedded" / "digits" / "scenes.zip") as scenes:
        for number, name in enumerate(sorted(scenes.namelist())):
            place = folder / "data" / f"subject-{number % EXAMPLE_SUBJECTS + 1:02}"
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(scenes.read(name))
    typer.echo(f"{EXAMPLE_SUBJECTS} subjects are in {folder / 'data'}. Now give:")
    typer.echo(
        f"  proctor site run site-inventory --data {folder / 'data'} --output {folder / 'out'}"
    )


def _places(plan: Plan, data: Path, labels: Path | None) -> list[str]:
    """``--data`` and ``--labels`` as mounts of the spec."""
    known, problems, found = plan.bound(), [], []
    for option, path, names in (("--data", data, DATA_MOUNTS), ("--labels", labels, LABELS_MOUNTS)):
        if path is None:
            continue
        name = next((each for each in names if each in known), None)
        if name is not None:
            found.append(f"{name}={path}")
            continue
        there = ", ".join(sorted(known)) or "none"
        problems.append(
            f"{option}: the spec has no mount {' or '.join(names)}; it has: {there}. Name one by "
            f"--mount NAME={path}"
        )
    if problems:
        give_up("\n".join(problems))
    return found


def _invitation(
    place: Home, plan: Plan, url: str, token_file: Path | None, ca_file: Path | None
) -> Invitation | None:
    """What ``--coordinator`` and its files ask for; one that cannot be accepted ends it."""
    from proctor.site.joining import Invitation

    if not url:
        if token_file or ca_file:
            give_up("--token-file and --ca-file are the coordinator's: give --coordinator, too")
        return None
    invited = Invitation(place, url, plan.pipeline, token_file, ca_file)
    if problems := list(invited.problems()):
        give_up("\n".join(problems))
    return invited


def _look(
    console: Console, place: Home, plan: Plan, params: dict[str, object], given: list[str]
) -> list[bool]:
    """Show what the checks find; for each, whether it lets the run begin."""
    from proctor.runtime.container import user
    from proctor.site import preflight

    with console.status("looking") as status:
        wanted = preflight.Wanted(
            plan,
            place.path.parent,
            _paths(place, plan, params, given),
            frozenset(commands.images_of(plan, params)),
            place.images(),
            user(),
            lambda what: status.update(f"looking at {what}"),
        )
        found = list(preflight.look(wanted))
    _show(console, found)
    return [each.state != "bad" for each in found]


def _paths(place: Home, plan: Plan, params: dict[str, object], given: list[str]) -> dict[str, Path]:
    """The mounts as they will be bound; one that is not here ends it, in words."""
    bound = {**place.profile().mounts, **commands.bind_mounts(place, plan, params, given)}
    return {name: Path(bound[name]) for name in plan.bound(params) if name in bound}


def _show(console: Console, found: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for each in found:
        sign, style = _SIGNS[each.state]
        told = Text(each.message)
        if each.remedy:
            told.append(f"\n→ {each.remedy}", style=style)
        table.add_row(Text(sign, style=style), Text(each.what, style=style), told)
    console.print(table)
    console.print()


def _agree(
    console: Console, place: Home, plan: Plan, params: dict[str, object], agree: bool
) -> None:
    """Ask once for what the spec wants beyond its data; without it, nothing begins."""
    from rich.markup import escape

    from proctor.runtime.choose import make
    from proctor.runtime.host import own_image

    known = place.trust() or trust.Trust()
    images = dict(known.images)
    pinned = place.images()
    runtime = make("docker", place.path)
    asked = []
    for image in sorted(commands.images_of(plan, params)):
        if own_image(image) is None and image not in pinned:
            images[image] = f"{_name(image)}@{runtime.identity(image)}"
            asked.append(f"run the image {image}, which is {images[image].split('@')[1]} here")
    if (wishes := trust.wishes(plan)) and plan.digest not in known.plans:
        asked += [f"let {id} use {wish}" for id, wish in wishes.items()]
    if asked:
        console.print("The spec wants to:")
        for line in asked:
            console.print(f"  • {escape(line)}", soft_wrap=True, highlight=False)
        if not (agree or _confirmed()):
            give_up("nothing was started")
    trust.write(place, trust.Trust(images, known.plans | ({plan.digest} if wishes else set())))


def _name(image: str) -> str:
    """An image's name without tag and digest, as a pinned one is written."""
    bare = image.partition("@")[0]
    head, slash, tail = bare.rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        give_up("somebody has to agree to that: give the command in a terminal, or with --agree")
    return typer.confirm("Do you agree? You are asked once")


def _tell_results(console: Console, place: Home, plan: Plan, output: Path) -> None:
    """A link beside the home leads to the newest run's files."""
    runs = [record for record in place.records.runs() if record.pipeline == plan.pipeline]
    if not runs:
        return
    link, made = output / plan.pipeline, output / f".{plan.pipeline}.new"
    if link.exists() and not link.is_symlink():
        console.print(f"Files     {runs[-1].folder}", soft_wrap=True, highlight=False)
        return
    made.unlink(missing_ok=True)
    made.symlink_to(os.path.relpath(runs[-1].folder, output))
    made.rename(link)
    console.print(f"Files     {link}", soft_wrap=True, highlight=False)
