"""The commands run, up, login and report."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias
from urllib.parse import quote, unquote

import typer

from proctor.site.home import Home
from proctor_steps.trouble import printable

if TYPE_CHECKING:
    from rich.console import Console

    from proctor.plan.model import Plan
    from proctor.records.store import RunRecord
    from proctor.site.runs import WatchedRun

Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a parameter")]
Mount = Annotated[
    list[str] | None,
    typer.Option("--mount", metavar="NAME=PATH", help="what a mount of the spec is here"),
]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="default: $PROCTOR_HOME, else .proctor here"),
]
RuntimeOption = Annotated[
    str, typer.Option("--runtime", metavar="auto|docker|process", help="where steps run")
]

# A spec's file, its plan, the resolved parameters, the build parameters.
Prepared: TypeAlias = "tuple[Path, Plan, dict[str, Any], dict[str, Any]]"

# Exit codes: 0 the run succeeded, 1 it failed, 2 it could not be started.
FAILED, NOT_STARTED = 1, 2


def register(app: typer.Typer) -> None:
    """Add these commands to ``proctor``."""
    for command in (run, up, login, report):
        app.command()(command)


def run(
    spec: Annotated[
        str, typer.Argument(help="a spec file, or a shipped pipeline: demo, yolo-coco")
    ],
    set_: Set = None,
    mount: Mount = None,
    runtime: RuntimeOption = "auto",
    home: HomeOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="answer gates, recorded as not reviewed")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="run every step, take no earlier result over")
    ] = False,
    reuse_measurements: Annotated[
        str, typer.Option(metavar="RUN", help="take over what that run measured")
    ] = "",
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="summary")] = None,
) -> None:
    """Run a pipeline to its end: start PostgreSQL and Airflow, show progress, stop everything."""
    console = console_of()
    if json_ and not json_.absolute().parent.is_dir():
        give_up(f"--json {json_}: there is no folder {json_.absolute().parent}")
    if json_ and json_.is_dir():
        give_up(f"--json {json_}: this is a folder; name a file in it")
    place = home_of(home)
    path, plan, params, build = prepared(spec, set_ or [])
    create(place)
    if fresh and reuse_measurements:
        give_up("--fresh takes nothing over, --reuse-measurements does: give one of them")
    measured = run_named(place, reuse_measurements).name if reuse_measurements else ""
    bound = bind_mounts(place, plan, params, mount or [])
    kind = choose_runtime(console, runtime, place, images_of(plan, params))
    way = Way(yes=yes, fresh=fresh, measured=measured, json=json_)
    done = carry_out(console, place, kind, (path, plan, params, build), bound, way)
    raise typer.Exit(0 if done else FAILED)


@dataclass(frozen=True)
class Way:
    """How a run from the terminal is done. ``measured``: the run whose measurements may be taken
    over. ``browser``: open the page."""

    yes: bool = False
    fresh: bool = False
    measured: str = ""
    json: Path | None = None
    browser: bool = False


def carry_out(
    console: Console, place: Home, kind: str, wanted: Prepared, bound: dict[str, str], way: Way
) -> bool:
    """Start an instance, run a pipeline to its end, stop everything; whether it succeeded."""
    path, plan, params, build = wanted
    ask_to_report(place, plan)
    # Airflow takes seconds to load: what was given wrongly is said before that.
    from proctor.airflow.reuse import Wish, ask
    from proctor.site.instance import running
    from proctor.site.runs import Asked, WatchedRun, new_run_id, unfinished_run, write_json
    from proctor.site.terminal import ProgressView, results_table

    with _plain_errors(place), _signals(), running(place, kind, sys.stderr) as instance:
        asked = Asked(plan, params, bound, Wish(way.fresh, way.measured))
        left, given_up = instance.patiently(lambda: unfinished_run(instance, asked))
        for name in given_up:
            console.print(f"gave up {name}, which an earlier launcher left unfinished")
        record = left or place.records.run(plan.pipeline, new_run_id())
        watched = WatchedRun(instance, plan, record, way.yes, bound)
        link = instance.login_link()
        console.print(
            f"Airflow   {link}  (logs in once, within a minute)", soft_wrap=True, highlight=False
        )
        if way.browser and console.is_terminal:
            webbrowser.open(link)
        if left:
            console.print(f"Takes up  {plan.pipeline}/{record.run}, which was left unfinished")
        else:
            ask(record, asked.wish)
            watched.start(params, path, build)
        with ProgressView(console, plan, record, place) as view:
            state = watched.watch(view.show)
        summary = watched.summary()
        results_table(console, summary, record)
        _explain_failures(console, watched)
        if way.json:
            write_json(way.json, summary)
    return state == "success" and summary["state"] == "succeeded"


def up(
    specs: Annotated[
        list[str] | None, typer.Argument(help="specs to offer besides the shipped")
    ] = None,
    runtime: RuntimeOption = "auto",
    home: HomeOption = None,
) -> None:
    """Start PostgreSQL and Airflow and leave them running until Ctrl-C."""
    import time

    from proctor.shipped import shipped
    from proctor.spec.errors import SpecErrors

    console, place = console_of(), home_of(home)
    create(place)
    images, plans = set[str](), []
    for path in [*sorted(shipped("pipeline_specs").glob("*.yaml")), *map(_spec_path, specs or [])]:
        try:
            plan = _load(path, {})
            name = plan.pipeline
            images |= images_of(plan, {})
            plans.append(plan)
        except SpecErrors as errors:
            # It is shown as a DAG of its own, with its errors, beside the others.
            name = errors.pipeline_name
        place.register(
            name, path, place.pipelines()[name].build if name in place.pipelines() else {}
        )
    ask_to_report(place, *plans)
    kind = choose_runtime(console, runtime, place, images | _scheduled(console, place))
    from proctor.site.instance import running
    from proctor.site.upkeep import Upkeep

    with (
        _plain_errors(place),
        _signals(),
        running(place, kind, sys.stderr, schedules=True) as instance,
    ):
        link = instance.login_link()
        console.print(f"Airflow   {link}  (logs in once, within a minute)", soft_wrap=True)
        console.print(
            f"A new link: proctor login --home {place.path}. Ctrl-C stops everything.",
            soft_wrap=True,
        )
        if console.is_terminal:
            webbrowser.open(link)
        upkeep = Upkeep(instance)
        while True:
            notes = [f"{name} died; started again" for name in instance.supervise()]
            for note in notes + upkeep.look(instance.changes.wait(0)):
                told = printable(note)
                console.print(told, style="yellow", soft_wrap=True, highlight=False, markup=False)
            time.sleep(1)


def _scheduled(console: Console, place: Home) -> set[str]:
    """The images of what starts by itself, whether this command names it or an earlier one did."""
    from proctor.site.schedules import not_here, scheduled_of

    found = {} if not_here(place) else scheduled_of(place)
    if found:
        console.print(f"Schedules {', '.join(found)}  (more: proctor schedule list)")
    return {image for each in found.values() for image in images_of(each.plan, each.given)}


def login(
    home: HomeOption = None,
    user: Annotated[
        str | None, typer.Option("--user", help="one that site.yaml names; default: the owner")
    ] = None,
) -> None:
    """Print a new one-time login link for the instance that runs on this home."""
    from proctor.site.instance import new_login_link
    from proctor.site.settings import user_name

    place = home_of(home)
    try:
        typer.echo(new_login_link(place, user or user_name()))
    except LookupError as error:
        give_up(str(error))


def report(
    run: Annotated[str, typer.Argument(help="a run's id, its beginning, or `latest`")] = "latest",
    home: HomeOption = None,
    json_: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="copy the report there")] = None,
) -> None:
    """Show a run's results, and where its report and package are."""
    from proctor.records.summary import summarise
    from proctor.site.terminal import results_table

    place = home_of(home)
    record = run_named(place, run)
    summary = summarise(place.records, record)
    if json_:
        typer.echo(json.dumps(summary, indent=1, ensure_ascii=False))
    else:
        results_table(console_of(), summary, record)
    if output:
        source = record.folder / "report.html"
        if not source.is_file():
            give_up(f"{record.name} has no report: it did not come to that step")
        shutil.copyfile(source, output)


def prepared(spec: str, given: list[str]) -> Prepared:
    """Spec, plan, resolved parameters and build parameters; every problem of them at once."""
    from proctor.cli import parse_settings
    from proctor.plan.compile import compile
    from proctor.plan.params import ParamErrors, check_params, split_params
    from proctor.spec.errors import SpecErrors
    from proctor.spec.load import load_pipeline

    path = _spec_path(spec)
    try:
        pipeline = load_pipeline(path)
        build, values = split_params(pipeline, parse_settings(given))
        plan = compile(pipeline, build)
        params = check_params(plan, {k: _absolute(v) for k, v in values.items()})
        return path, plan, params, dict(build)
    except SpecErrors as errors:
        give_up("\n".join(str(problem) for problem in errors.problems))
    except ParamErrors as error:
        give_up(str(error))


def _absolute(value: str) -> str:
    """``file:some/where`` and ``file://./some/where`` mean the working folder's."""
    prefix = "file://" if value.startswith("file://") else "file:"
    rest = value.removeprefix(prefix)
    if value.startswith("file:") and not rest.startswith("/"):
        return f"file://{quote(str(Path(unquote(rest)).resolve()))}"
    return value


def _load(path: Path, build: dict[str, Any]) -> Plan:
    from proctor.plan.compile import load_plan

    return load_plan(path, build)


def _spec_path(spec: str) -> Path:
    from proctor.cli import spec_path

    return spec_path(spec)


def bind_mounts(home: Home, plan: Plan, params: dict[str, Any], given: list[str]) -> dict[str, str]:
    """The mounts that are bound for this run; whatever is not on this machine ends it here."""
    from proctor.cli import parse_settings
    from proctor.site.home import SourceRefused
    from proctor.site.mounts import bind
    from proctor.spec.errors import did_you_mean

    here = parse_settings(given, "--mount")
    bound = {name: str(Path(path).expanduser().resolve()) for name, path in here.items()}
    known, wanted = plan.bound(), plan.bound(params)
    problems = [
        f"--mount {name}: the spec has no such mount; {did_you_mean(name, known)}"
        for name in bound
        if name not in known
    ]
    try:
        bind(home, wanted, bound)
    except SourceRefused as error:
        problems.append(str(error))
    for name, uri in plan.files(params).items():
        try:
            home.source(uri, None)
        except SourceRefused as error:
            problems.append(f"{name}: {error}")
    if problems:
        give_up("\n".join(problems))
    return bound


def ask_to_report(home: Home, *plans: Plan) -> None:
    """Where the committee is to be told of such runs, ask once whether that may be."""
    if home.profile().coordinator is not None:
        from proctor.site.report_command import ask_once

        ask_once(home, plans)


def images_of(plan: Plan, params: dict[str, Any]) -> set[str]:
    """The images that the selected steps of a plan and their services need."""
    from proctor.plan.model import resolve, selected

    values = {p.name: p.default for p in plan.params} | params
    chosen = [step for step in plan.steps if selected(step, values)]
    used = {name for step in chosen if step.image for name in step.services}
    images = [step.image for step in chosen] + [plan.service(name).image for name in sorted(used)]
    # Whether a service is ready is asked from an image of ours.
    images += ["proctor/steps"] if used else []
    return {str(resolve(image, values)) for image in images if image}


def choose_runtime(console: Console, wanted: str, home: Home, images: set[str]) -> str:
    """The name of the runtime that steps run on here; says which, or ends the program."""
    from proctor.runtime.base import EngineError, RequestRefused
    from proctor.runtime.choose import choose

    try:
        runtime, reason = choose(wanted, home.path, images, console.print, home.images())
    except (EngineError, RequestRefused, ValueError) as error:
        give_up(str(error))
    console.print(f"Runtime   {runtime.name}: {reason}", soft_wrap=True, highlight=False)
    return runtime.name


def _explain_failures(console: Console, watched: WatchedRun) -> None:
    """A task that failed before it had a record (begin, a broken spec) shows its log's end."""
    from proctor.site.client import AirflowUnavailable

    if watched.record.exists():
        return
    client, plan, run = watched.instance.client, watched.plan, watched.record.run
    for task, ti in client.task_states(plan.pipeline, run).items():
        if ti["state"] == "failed":
            try:
                lines = client.log(plan.pipeline, run, task, ti["try_number"]).splitlines()
            except AirflowUnavailable as error:
                lines = [str(error)]
            told = printable("\n".join(lines[-15:]))
            console.print(f"{task} failed:\n{told}", style="red", markup=False)


@contextmanager
def _plain_errors(place: Home) -> Iterator[None]:
    from proctor.runtime.base import EngineError
    from proctor.site.client import AirflowUnavailable
    from proctor.site.instance import ComponentFailed, InstanceBusy, PortTaken
    from proctor.site.postgres import PostgresFailed
    from proctor_steps.trouble import explain

    try:
        yield
    except (
        AirflowUnavailable,
        ComponentFailed,
        InstanceBusy,
        PortTaken,
        PostgresFailed,
    ) as error:
        give_up(str(error))
    except EngineError as error:
        give_up(f"the engine failed: {error}")
    except OSError as error:
        if not (words := explain(error, {"home": place.path})):
            raise
        give_up(words)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command takes the run up where it was", err=True)
        raise typer.Exit(130) from None


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does; so does Ctrl-C in a background job."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {
        n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def create(home: Home) -> None:
    """Make the home; one in which the services could not start is refused before all else, and so
    is a profile that cannot be used."""
    from proctor.site.postgres import check_folder

    check_folder(home.path / "postgres")
    home.create()
    home.profile()


def home_of(option: Path | None) -> Home:
    """The home that ``--home`` names, else the default."""
    return Home(option.resolve()) if option else Home.default()


def run_named(home: Home, run: str) -> RunRecord:
    """The run that a person names; ends the command where there is none."""
    try:
        return home.records.find(run)
    except LookupError as error:
        give_up(str(error))


def console_of() -> Console:
    """Where people read; made when it is needed, as loading it takes time."""
    from rich.console import Console

    return Console()


def plain_cells(*cells: str) -> list[Any]:
    """A stranger's words as words: no markup, and nothing that acts on the terminal."""
    from rich.text import Text

    return [Text(printable(cell)) for cell in cells]


def give_up(message: str) -> NoReturn:
    """End the command before it has begun, with a sentence."""
    typer.echo(message, err=True)
    raise typer.Exit(NOT_STARTED)
