"""MedPerf's shared directories: which output volumes they are, and what does not go with them.

There, every output volume of one name is the same directory of the host, in all steps and for all
subjects, and steps write in place. Here, that holds where it makes a difference; the output of one
step alone is its own, and is never changed again.
"""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec.document import DataPath
from proctor.spec.errors import Problem
from proctor.spec.model import InputSpec, OutputSpec, Pipeline, Service, Step

Mounted = tuple[DataPath, InputSpec | OutputSpec, str]  # its path below the step, and its place


class Volumes:
    """The output volumes of a pipeline's steps. ``shared``: those that several steps work in."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._of_step = {step.id: step.mounts.output_volumes for step in pipeline.steps}
        users: dict[str, int] = {}
        for step in pipeline.steps:
            for name in step.mounts.output_volumes:
                users[name] = users.get(name, 0) + (2 if step.partitioned else 1)
        self._names = frozenset(users)
        changed = {name for step in pipeline.steps for name in self._changed(step)}
        self.shared = {name for name, count in users.items() if count > 1} | changed
        self.types = {
            name: item.type
            for volumes in self._of_step.values()
            for name, item in volumes.items()
            if name in self.shared
        }

    def shared_by(self, name: str, item: InputSpec) -> str:
        """The shared volume that an input is; "" where it is none."""
        volume = self._volume_of(name, item)
        return volume if volume in self.shared else ""

    def _volume_of(self, name: str, item: InputSpec) -> str:
        if item.source is None:
            return name if name in self._names else ""
        return item.source.output if item.source.output in self._of_step[item.source.step] else ""

    def _changed(self, step: Step) -> Iterator[str]:
        """Volumes that a step names without ``from``, or reads and has something mounted in."""
        for name, item in step.mounts.input_volumes.items():
            volume = self._volume_of(name, item)
            place = clean(item.mount_path or f"/proctor/in/{name}")
            inside = any(each.startswith(f"{place}/") for _, _, each in _mounted(step).values())
            if volume and (item.source is None or inside):
                yield volume


def clean(place: str) -> str:
    """A place in a container as the engine sees it, without doubled or last slashes."""
    return "/" + "/".join(part for part in place.split("/") if part not in ("", "."))


def problems(pipeline: Pipeline) -> Iterator[Problem]:
    """Everything about places and shared directories that cannot be."""
    volumes = Volumes(pipeline)
    types: dict[str, tuple[str, int]] = {}
    for number, step in enumerate(pipeline.steps):
        path: DataPath = ("steps", number)
        yield from _places(volumes, path, step.id, step)
        for name in sorted(volumes.shared & set(step.mounts.output_volumes)):
            below: DataPath = (*path, "mounts", "output_volumes", name)
            at = pipeline.where_key(*below)
            kind = step.mounts.output_volumes[name].type
            other, line = types.setdefault(name, (kind, at.line))
            if kind != other:
                message = f"{name!r} is a {kind} here and a {other} in line {line}"
                yield Problem(at, message, "steps share what has this name: use one type")
            if step.matrix:
                message = f"the cells of {step.id!r} would all write to the directory {name!r}"
                yield Problem(at, message, "give it as one of 'outputs', of which each has its own")
        yield from _not_recorded(volumes, path, step)
    for id, service in pipeline.services.items():
        yield from _places(volumes, ("services", id), id, service)


def _mounted(reader: Step | Service) -> dict[tuple[str, str], Mounted]:
    """Every mount, by whether it is read or written, and by name."""
    found: dict[tuple[str, str], Mounted] = {}
    for name, (path, item) in reader.all_inputs.items():
        found["in", name] = (path, item, clean(item.mount_path or f"/proctor/in/{name}"))
    for name, (path, made) in reader.all_outputs.items() if isinstance(reader, Step) else ():
        found["out", name] = (path, made, clean(made.mount_path or f"/proctor/out/{name}"))
    return found


def _places(volumes: Volumes, path: DataPath, id: str, reader: Step | Service) -> Iterator[Problem]:
    """One thing at one place; only a shared directory may be read and written there."""
    taken: dict[str, tuple[str, str]] = {}
    for (_, name), (below, item, place) in _mounted(reader).items():
        if isinstance(item, InputSpec):
            held = volumes.shared_by(name, item)
        else:
            held = name if below[0] == "mounts" and name in volumes.shared else ""
        other, holds = taken.setdefault(place, (name, held))
        if other != name and not (held and held == holds):
            at = volumes.pipeline.where(*path, *below)
            message = f"{other!r} and {name!r} of {id!r} have the same place {place}"
            yield Problem(at, message, "give each mount a place of its own")


def _not_recorded(volumes: Volumes, path: DataPath, step: Step) -> Iterator[Problem]:
    """What is read from a step's record cannot come from what is not in it."""
    where = volumes.pipeline.where
    for index, pattern in enumerate(step.publish):
        name = pattern.partition("/")[0]
        if name in volumes.shared & set(step.mounts.output_volumes):
            at = where(*path, "publish", index)
            message = f"steps share the directory {name!r}; it lies in the run's folder anyway"
            yield Problem(at, message, "leave it out of 'publish'")
    for index, source in enumerate(step.approval.evidence if step.approval else ()):
        if volumes.shared_by("", InputSpec.model_validate({"from": source})):
            at = where(*path, "approval", "evidence", index)
            message = f"steps share the directory {source.output!r}: no step's page is in it"
            remedy = "leave it out; what it holds at the gate is part of the evidence's digest"
            yield Problem(at, message, remedy)
