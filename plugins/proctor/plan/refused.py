"""What the language can say and this version cannot do: refused, with the place, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec.document import DataPath
from proctor.spec.errors import Problem
from proctor.spec.model import Pipeline, Service, Step


def refused(pipeline: Pipeline) -> Iterator[Problem]:
    """One problem for each use of something that does not work yet."""
    if pipeline.schedule:
        yield _not_yet(pipeline, ("schedule",))
    for number, step in enumerate(pipeline.steps):
        yield from _step(pipeline, ("steps", number), step)
    yield from _shared(pipeline)


def _step(pipeline: Pipeline, path: DataPath, step: Step) -> Iterator[Problem]:
    if step.review:
        yield _not_yet(pipeline, (*path, "review"))
    if step.runs_on != "local":
        at = pipeline.where(*path, "runs_on")
        message = f"there is no host or queue {step.runs_on!r}: steps run on this machine only"
        yield Problem(at, message, "write 'local' or leave it out")


def _shared(pipeline: Pipeline) -> Iterator[Problem]:
    """MedPerf's workflows give one directory to all outputs of one name, and write inputs in place.

    Running them with separate directories would give them something else, so they are refused.
    """
    owner: dict[str, str] = {}
    for number, step in enumerate(pipeline.steps):
        for name in step.mounts.output_volumes:
            if name in owner:
                at = pipeline.where_key("steps", number, "mounts", "output_volumes", name)
                message = f"{step.id!r} and {owner[name]!r} would share the directory {name!r}"
                remedy = "shared directories do not work yet; give each output its own name"
                yield Problem(at, message, remedy)
            owner.setdefault(name, step.id)
        yield from _in_place(pipeline, ("steps", number), step.id, step)
    for name, service in pipeline.services.items():
        yield from _in_place(pipeline, ("services", name), name, service)


def _in_place(
    pipeline: Pipeline, path: DataPath, id: str, reader: Step | Service
) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for below, name, place in _places(reader):
        if place in taken:
            at = pipeline.where(*path, *below)
            message = f"{taken[place]!r} and {name!r} of {id!r} have the same place {place}"
            yield Problem(at, message, "give each mount a place of its own")
        taken.setdefault(place, name)


def _places(reader: Step | Service) -> Iterator[tuple[DataPath, str, str]]:
    for name, (path, item) in reader.all_inputs.items():
        yield path, name, item.mount_path or f"/proctor/in/{name}"
    for name, (path, output) in reader.all_outputs.items() if isinstance(reader, Step) else ():
        yield path, name, output.mount_path or f"/proctor/out/{name}"


def _not_yet(pipeline: Pipeline, path: DataPath, subject: str = "") -> Problem:
    subject = subject or f"{str(path[-1])!r} does"
    message = f"{subject} not work yet: this version can check it, but not run it"
    return Problem(pipeline.where_key(*path), message, "remove it for now")
