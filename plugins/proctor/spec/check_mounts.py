"""The rules about mounts that more than one step has to do with."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem
from proctor.spec.model import InputSpec, Pipeline, Service, Step


def mounts(context: Context) -> Iterator[Problem]:
    """Every rule of them."""
    yield from _logical_types(context)


def logical(pipeline: Pipeline) -> Iterator[tuple[DataPath, str, InputSpec]]:
    """Every input that comes from no step: a site says what is mounted there."""
    readers: list[tuple[DataPath, Step | Service]] = []
    readers += [(("steps", number), step) for number, step in enumerate(pipeline.steps)]
    readers += [(("services", id), service) for id, service in pipeline.services.items()]
    for whose, reader in readers:
        for name, (path, item) in reader.all_inputs.items():
            if item.source is None:
                yield (*whose, *path), name, item


def _logical_types(context: Context) -> Iterator[Problem]:
    first: dict[str, tuple[str, DataPath]] = {}
    for path, name, item in logical(context.pipeline):
        kind, place = first.setdefault(name, (item.type, path))
        if kind != item.type:
            line = context.pipeline.where_key(*place).line
            message = f"the mount {name!r} is a {item.type} here and a {kind} in line {line}"
            yield context.at_key(path, message, "a site binds one thing to it: use one type")
