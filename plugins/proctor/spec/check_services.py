"""The rules about services: their names, when they are ready, and who uses them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proctor.spec.check_params import REFERENCE
from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.model import Service

# Steps reach a service by its name, so it is a host's name.
SERVICE_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
IMAGE = re.compile(r"[a-z0-9][\w./:@-]*")
STOP = "stop-{}"


def services(context: Context) -> Iterator[Problem]:
    """Every rule of services and of the steps that name them."""
    if "services" in context.broken.top:
        return
    for name, service in context.pipeline.services.items():
        yield from _name(context, name)
        yield from _values(context, ("services", name), service)
    yield from _users(context)


def _name(context: Context, name: str) -> Iterator[Problem]:
    path: DataPath = ("services", name)
    if not SERVICE_ID.fullmatch(name):
        remedy = "use small letters, digits and '-', 40 at most: steps reach it by this name"
        yield context.at_key(path, f"{name[:60]!r} is no service name", remedy)
        return
    for id in (name, STOP.format(name)):
        if id in context.index:
            line = context.pipeline.where("steps", context.index[id], "id").line
            what = "is" if id == name else f"needs the step id {id!r}, which is"
            message = f"the service {name!r} {what} a step's id, too, in line {line}"
            yield context.at_key(path, message, "rename one of them")


def _values(context: Context, path: DataPath, service: Service) -> Iterator[Problem]:
    yield from image(context, path, service.image)
    if service.ready and not re.fullmatch(r"/[!-~]*", service.ready):
        message = f"{service.ready!r} is no path of a URL"
        yield context.at((*path, "ready"), message, "write it as in '/v2/health/ready'")
    if not service.ready_within:
        yield context.at((*path, "ready_within"), "a service needs some time to start", "write 2m")


def image(context: Context, path: DataPath, name: str) -> Iterator[Problem]:
    """The image of a step or a service has a name."""
    if not IMAGE.fullmatch(REFERENCE.sub("x", name)):
        message = f"{name!r} is no image name"
        yield context.at((*path, "image"), message, "write it as in 'proctor/steps'")


def _users(context: Context) -> Iterator[Problem]:
    known, used = context.pipeline.services, set()
    for number, step in enumerate(context.pipeline.steps):
        for name in step.services:
            used.add(name)
            if name not in known:
                message = f"there is no service {name!r}"
                yield context.at(("steps", number, "services"), message, did_you_mean(name, known))
    if context.broken.steps:
        return  # one that was set aside may use it
    for name in known:
        if name not in used:
            message = f"no step uses the service {name!r}"
            remedy = f"name it in a step, 'services: [{name}]', or remove it"
            yield context.at_key(("services", name), message, remedy)
