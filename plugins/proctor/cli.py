"""The program ``proctor``. Heavy imports stay inside the commands: ``--help`` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from proctor.runtime.commands import register as register_runtime
from proctor.site.baseline_commands import register as register_baselines
from proctor.site.commands import HomeOption, register
from proctor.site.coordinator_commands import register as register_coordinator
from proctor.site.provenance_commands import register as register_provenance
from proctor.site.run_commands import register as register_runs
from proctor.site.schedule_commands import register as register_schedules
from proctor.site.site_commands import register as register_site
from proctor.site.user_commands import register as register_users
from proctor_steps.cli import policy_app, rounds_app, submission_app

if TYPE_CHECKING:
    from rich.tree import Tree

    from proctor.plan.model import Plan, PlanStep
    from proctor.spec.model import Pipeline

BAD_INPUT = 2  # exit code: the spec or what was given on the command line is wrong

app = typer.Typer(
    name="proctor",
    help="Supervises MLPerf-style benchmarks: pipelines in YAML, run by Airflow in containers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
register(app)
register_runs(app)
register_provenance(app)
register_baselines(app)
register_schedules(app)
register_site(app)
register_coordinator(app)
register_users(app)
register_runtime(app)
app.add_typer(rounds_app, name="rounds")
app.add_typer(submission_app, name="submission")
app.add_typer(policy_app, name="policy")

Spec = Annotated[str, typer.Argument(help="A spec's file, or the name of a shipped pipeline.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Value of a parameter.")
]


@app.command()
def check(
    specs: Annotated[list[str], typer.Argument(metavar="SPEC...", help="Files or names.")],
) -> None:
    """Check specs: every problem of each, with its line."""
    failed = [spec for spec in specs if not _check(spec)]
    raise typer.Exit(BAD_INPUT if failed else 0)


@app.command()
def plan(
    spec: Spec,
    as_json: Annotated[bool, typer.Option("--json", help="The plan itself, as JSON.")] = False,
    settings: Settings = None,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="RUN", help="which steps would run, compared with it"),
    ] = None,
    runtime: Annotated[
        str, typer.Option("--runtime", help="with --explain: auto, docker or process")
    ] = "auto",
    home: HomeOption = None,
) -> None:
    """Show what a run of a spec would do."""
    if explain is not None:
        from proctor.site.explain_command import explain_plan

        explain_plan(spec, settings or [], explain, runtime, home)
        return
    from proctor.plan.compile import compile
    from proctor.plan.params import ParamErrors, split_params
    from proctor.spec.errors import SpecErrors

    try:
        pipeline = _load(spec)
        build, run = split_params(pipeline, parse_settings(settings or []))
        compiled = compile(pipeline, build)
        values = _form_values(compiled, run)
    except (SpecErrors, ParamErrors) as error:
        _fail(*(str(problem) for problem in error.problems))
    if as_json:
        sys.stdout.write(compiled.model_dump_json(indent=1) + "\n")
        return
    from rich.console import Console
    from rich.markup import escape

    tree = _tree(compiled, values)
    if pipeline.schedule:
        tree.label = f"{tree.label}\nstarts by itself: {escape(pipeline.schedule.label)}"
    Console().print(tree)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the spec language, for editors."""
    from proctor.spec.schema import schema_text

    sys.stdout.write(schema_text())


def parse_settings(settings: list[str], option: str = "--set") -> dict[str, str]:
    """``--set NAME=VALUE`` as a mapping; ends the program where one is none."""
    found: dict[str, str] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            shown = text if len(text) <= 60 else text[:60] + "…"
            _fail(f"{option} {shown}: this is no NAME=VALUE")
        found[name.strip()] = value
    return found


def _check(spec: str) -> bool:
    from proctor.plan.compile import compile
    from proctor.plan.params import ParamErrors
    from proctor.spec.errors import SpecErrors

    try:
        pipeline = _load(spec)
        for warning in pipeline.warnings:
            typer.echo(f"{warning} (warning)", err=True)
        compiled = compile(pipeline)
    except SpecErrors as error:
        typer.echo(str(error), err=True)
        count = len(error.problems)
        typer.echo(f"{spec}: {count} problem{'s' if count > 1 else ''}", err=True)
        return False
    except ParamErrors:  # only a run can say whether its build parameters will do
        typer.echo(f"{spec}: ok")
        return True
    bound = ", ".join(sorted(compiled.bound()))
    mounts = f"; a site binds {bound}" if bound else ""
    typer.echo(f"{spec}: ok, {len(compiled.steps)} steps{mounts}")
    return True


def spec_path(spec: str) -> Path:
    """A spec's file, given by path or by a shipped pipeline's name; ends the program where none."""
    from proctor.shipped import find_spec

    try:
        return find_spec(spec)
    except FileNotFoundError as error:
        _fail(str(error))


def _load(spec: str) -> Pipeline:
    from proctor.spec.load import load_pipeline

    return load_pipeline(spec_path(spec))


def _form_values(plan: Plan, given: dict[str, str]) -> dict[str, object]:
    """Values of the run parameters; required ones may be missing in a plan."""
    from proctor.plan.params import default_of, resolve_params

    asked = [param for param in plan.params if param.name in given or not param.required]
    values: dict[str, object] = {param.name: default_of(param) for param in plan.params}
    return values | resolve_params(asked, given)


def _tree(plan: Plan, values: dict[str, object]) -> Tree:
    from rich.markup import escape
    from rich.tree import Tree

    tree = Tree(f"[bold]{escape(plan.pipeline)}[/bold]  {escape(plan.title)}", guide_style="dim")
    tree.add(f"plan {plan.digest[:12]}, {len(plan.steps)} steps")
    if plan.purpose:
        tree.add(f"purpose: {plan.purpose}")
    if plan.params or plan.build_params:
        branch = tree.add("parameters")
        for param in plan.params:
            missing = param.required and values[param.name] in (None, "")
            shown = "(required)" if missing else repr(values[param.name])
            branch.add(escape(f"{param.name} = {shown}"))
        for name, fixed in plan.build_params.items():
            branch.add(escape(f"{name} = {fixed!r} (build)"))
    if bound := plan.bound():
        branch = tree.add("mounts that the site binds, or --mount NAME=PATH")
        for name, mount in sorted(bound.items()):
            branch.add(escape(f"{name}: a {mount.type}"))
    steps = tree.add("steps")
    for step in plan.steps:
        skipped = _skipped(step, values)
        branch = steps.add(f"[{'dim' if skipped else 'bold'}]{escape(step.id)}[/]{skipped}")
        for line in _about(step):
            branch.add(escape(line), style="dim" if skipped else "")
    if plan.services:
        services = tree.add("services")
    for service in plan.services:
        branch = services.add(f"[bold]{escape(service.id)}[/]")
        branch.add(escape(f"{service.image}: {' '.join(service.command)}"))
        ready = f"answers GET {service.ready}" if service.ready else "takes a connection"
        branch.add(escape(f"port {service.port}, ready when it {ready}"))
    return tree


def _skipped(step: PlanStep, values: dict[str, object]) -> str:
    from proctor.plan.model import selected

    return "" if selected(step, values) else "  (not selected)"


def _about(step: PlanStep) -> list[str]:
    lines = []
    if step.gate:
        baseline = "; what was measured becomes the baseline" if step.gate.baseline else ""
        lines.append(f"approval: {step.gate.question}{baseline}")
    elif step.image:
        lines.append(f"{step.image}: {' '.join(step.command)}")
    if step.partition:
        lines.append("for each subject" + (f", {step.limit} at a time" if step.limit else ""))
    if step.decision:
        for branch in step.decision.branches:
            asked = f"if {branch.condition.id}" if branch.condition else "else"
            lines.append(f"{asked}: {', '.join(branch.targets)}")
    if step.leads_back_to:
        lines.append(f"then back to {step.leads_back_to}")
    if step.upstream:
        lines.append(f"after {', '.join(step.upstream)}")
    if step.required_approvals:
        lines.append(f"only with the approval of {', '.join(step.required_approvals)}")
    if step.services and step.image:
        lines.append(f"uses {', '.join(step.services)}")
    notes = [name for name in ("network", "exclusive", "cache", "history") if getattr(step, name)]
    if notes:
        lines.append(", ".join(notes))
    return lines


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(BAD_INPUT)


def main() -> None:
    """Entry point of the console script: an error of the machine or of the home is one sentence."""
    _mend_streams()
    try:
        app()
    except Exception as error:
        told = _in_words(error)
        if not told:
            raise
        typer.echo(told, err=True)
        sys.exit(BAD_INPUT)


def _in_words(error: Exception) -> str:
    """What to tell a person, for errors that are no mistake of this program; else empty."""
    from proctor.records.store import RecordError
    from proctor.site.home import HomeError
    from proctor_steps.trouble import explain

    if isinstance(error, HomeError | RecordError):
        return str(error)
    if isinstance(error, OSError):
        if not error.filename:
            error.filename = "standard output or the home"  # the system does not say which
        return explain(error, {}) or f"cannot read or write: {error}"
    return ""


def _mend_streams() -> None:
    """Let no closed stream and no character that the terminal lacks end the program."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (till the end)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
