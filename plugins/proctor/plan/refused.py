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
    shared = shared_outputs(pipeline)
    for number, step in enumerate(pipeline.steps):
        yield from _in_place(pipeline, ("steps", number), step.id, step, shared)
    for name, service in pipeline.services.items():
        yield from _in_place(pipeline, ("services", name), name, service, shared)


def _step(pipeline: Pipeline, path: DataPath, step: Step) -> Iterator[Problem]:
    if step.runs_on != "local":
        at = pipeline.where(*path, "runs_on")
        message = f"there is no host or queue {step.runs_on!r}: steps run on this machine only"
        yield Problem(at, message, "write 'local' or leave it out")


def shared_outputs(pipeline: Pipeline) -> set[str]:
    """Names of MedPerf's output volumes that are one directory for several steps, or subjects.

    There, all outputs of one name are the same directory of the host, and steps write in place.
    """
    users: dict[str, int] = {}
    for step in pipeline.steps:
        for name, item in step.mounts.output_volumes.items():
            if item.type == "directory":
                users[name] = users.get(name, 0) + (2 if step.partitioned else 1)
    return {name for name, count in users.items() if count > 1}


def _in_place(
    pipeline: Pipeline, path: DataPath, id: str, reader: Step | Service, shared: set[str]
) -> Iterator[Problem]:
    taken: dict[str, tuple[str, str]] = {}
    for below, name, place, volume in _places(reader, shared):
        other, held = taken.setdefault(place, (name, volume))
        if other != name and not (volume and volume == held):
            at = pipeline.where(*path, *below)
            message = f"{other!r} and {name!r} of {id!r} have the same place {place}"
            yield Problem(at, message, "give each mount a place of its own")


def _places(reader: Step | Service, shared: set[str]) -> Iterator[tuple[DataPath, str, str, str]]:
    """Path in the file, name, place, and the shared directory that it is ("": none)."""
    for name, (path, item) in reader.all_inputs.items():
        volume = item.source.output if item.source else ""
        place = item.mount_path or f"/proctor/in/{name}"
        yield path, name, place, volume if volume in shared else ""
    for name, (path, output) in reader.all_outputs.items() if isinstance(reader, Step) else ():
        place = output.mount_path or f"/proctor/out/{name}"
        yield path, name, place, name if name in shared else ""


def _not_yet(pipeline: Pipeline, path: DataPath, subject: str = "") -> Problem:
    subject = subject or f"{str(path[-1])!r} does"
    message = f"{subject} not work yet: this version can check it, but not run it"
    return Problem(pipeline.where_key(*path), message, "remove it for now")
