"""The command ``proctor plan SPEC --explain RUN``: which steps of a new run would run, and why."""

from __future__ import annotations

from pathlib import Path

from proctor.site.commands import choose_runtime, console_of, give_up, home_of, prepared, run_named
from proctor.site.commands import images_of as images


def explain_plan(spec: str, settings: list[str], run: str, runtime: str, home: Path | None) -> None:
    """Print a row for each step; nothing is started, and the home is left as it is."""
    from rich.table import Table
    from rich.text import Text

    from proctor.airflow.explain import explain
    from proctor.records.store import RunRecord
    from proctor.runtime.base import EngineError
    from proctor.runtime.choose import make
    from proctor.site import mounts
    from proctor.site.home import HomeError, SourceRefused, file_path

    console, place = console_of(), home_of(home)
    _, plan, params, _ = prepared(spec, settings)
    before = run_named(place, run)
    try:
        bound = mounts.bind(place, plan.bound(params), mounts.kept(before))
    except (SourceRefused, HomeError) as error:
        give_up(str(error))
    chosen = make(choose_runtime(console, runtime, place, images(plan, params)), place.path)

    def prepare(record: RunRecord) -> None:
        place.allow_for_run(record, [file_path(uri) for uri in plan.files(params).values()])
        mounts.keep(record, {name: str(path) for name, path in bound.items()})

    try:
        verdicts = explain(place, plan, params, chosen, before, prepare)
    except EngineError as error:
        give_up(str(error))
    table = Table(header_style="bold")
    for column in ("Step", "", "Why"):
        table.add_column(column, no_wrap=column != "Why")
    for each in verdicts:
        word = Text("runs", style="yellow") if each.runs else Text("not run", style="green")
        table.add_row(Text(each.step), word, Text(each.why))
    console.print(f"Compared with {before.pipeline}/{before.run}", highlight=False)
    console.print(table)
