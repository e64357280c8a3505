"""What a site's owner allows and provides: ``site.yaml`` in the home.

::

    roots: [/data/coco]                    folders that file:// parameters may lie in
    mounts: {data_path: /data/scans}       logical mounts of specs, and what they are here
    images: {theirs/prep:1: prep@sha256:…}  images of specs, and what is run for them here
    auth: fab                              logins and rights for a shared server
    users: {ada: approver}                 who may log in beside the owner, as what
    port: 8080                             the API server's own; a free one by default
    address: https://proctor.example.org   where people reach it, through a proxy
    coordinator: {url: …, token_file: …, pipelines: [prep]}   who is told how far runs are
    sites: {listen: …}                     this home is a coordinator: sites report to it
    schedules: {nightly: {cron: …, params: {…}}}   when pipelines start by themselves, with what
    notify: {smtp: …, slack: …, http: …}   who is told of questions and ends of runs

It is read like a spec: every problem at once, each with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from proctor.federation.profile import (
    CoordinatorAddress,
    HostPath,
    PipelineName,
    ProfileModel,
    Sites,
    misfits,
)
from proctor.runtime.host import own_image
from proctor.site import channels
from proctor.site.channels import Notify
from proctor.spec.check import NAME
from proctor.spec.check_services import IMAGE
from proctor.spec.document import Document, parse
from proctor.spec.errors import Problem
from proctor.spec.fit import problem_of
from proctor.spec.forms import Text
from proctor.spec.model import ScheduleForm
from proctor.spec.nodes import Unreadable, compose, read_text

FAB_PACKAGE = "apache-airflow-providers-fab"
ROLES = ("viewer", "approver", "operator", "admin")
ADDRESS = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?")
USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
PINNED = re.compile(r"[a-z0-9][\w./:-]*@sha256:[0-9a-f]{64}")


class ProfileErrors(ValueError):
    """The profile cannot be used; ``problems`` holds every one, in the file's order."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _pinned(text: str) -> str:
    if not PINNED.fullmatch(text):
        raise ValueError(
            f"{text!r} names no image of this machine by its digest|write name@sha256:... with "
            "what `docker image inspect --format '{{.Id}}' name` tells"
        )
    return text


def _role(text: str) -> str:
    """``user`` is what operators were called before there were approvers."""
    if text == "op":
        raise ValueError(
            "'op' is a role no more|write operator, or admin for who edits pools, variables and "
            "connections"
        )
    if text not in (*ROLES, "user"):
        raise ValueError(f"{text!r} is no role|write {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return "operator" if text == "user" else text


def _auth(text: str) -> str:
    if text not in ("simple", "fab"):
        raise ValueError(f"{text!r} is no way to log in|write simple or fab")
    if text == "fab" and not fab_version():
        raise ValueError(f'{FAB_PACKAGE} is not installed|pip install "proctor[fab]"')
    return text


def _address(text: str) -> str:
    if not ADDRESS.fullmatch(text):
        raise ValueError(
            f"{text!r} is no address of a proxy|write it as in https://proctor.example.org, "
            "without a path"
        )
    return text


def fab_version() -> str:
    """The version of Airflow's FAB provider; "" where it is not installed."""
    try:
        return version(FAB_PACKAGE)
    except PackageNotFoundError:
        return ""


PinnedImage = Annotated[Text, AfterValidator(_pinned)]
Role = Annotated[Text, AfterValidator(_role)]
Auth = Annotated[Text, AfterValidator(_auth)]
Address = Annotated[Text, AfterValidator(_address)]


class Profile(ProfileModel):
    """The profile. ``mounts``: logical mount -> path. ``images``: image of a spec -> local one.

    ``users``: name -> one of ROLES. ``auth``: Airflow's auth manager. ``port``: 0 for a free one.
    ``address``: what people's browsers call the instance, where that is not loopback.
    """

    roots: tuple[HostPath, ...] = ()
    mounts: dict[str, HostPath] = Field(default_factory=dict)
    images: dict[str, PinnedImage] = Field(default_factory=dict)
    users: dict[str, Role] = Field(default_factory=dict)
    auth: Auth = "simple"
    port: int = Field(0, ge=0, le=65535)
    address: Address = ""
    coordinator: CoordinatorAddress | None = None
    sites: Sites | None = None
    schedules: dict[PipelineName, ScheduleForm] = Field(default_factory=dict)
    notify: Notify | None = None


def read_profile(path: Path) -> Profile:
    """The profile of a file; one that is not there, or says nothing, allows nothing.

    Raises:
        ProfileErrors: every problem of the file.
    """
    if not path.exists():
        return Profile()
    file = str(path)
    try:
        text = read_text(path, file)
        if compose(text, file) is None:
            return Profile()
        read = parse(text, file)
    except Unreadable as error:
        raise ProfileErrors([error.problem]) from None
    return _profile(read)


def _profile(read: Document) -> Profile:
    problems = list(read.problems)
    if not isinstance(read.data, dict):
        message = f"a site's profile is a mapping of {', '.join(Profile.model_fields)}"
        raise ProfileErrors([*problems, Problem(read.where(()), message, "see docs/operating.md")])
    problems += [*_names(read, read.data), *_logins(read, read.data)]
    problems += [*misfits(read, read.data), *channels.misfits(read, read.data)]
    try:
        profile = Profile.model_validate(read.data)
    except ValidationError as error:
        found = [dict(item) for item in error.errors(include_url=False)]
        known = {problem.at for problem in problems}
        more = [problem_of(item, read, Profile) for item in found]
        raise ProfileErrors(problems + [each for each in more if each.at not in known]) from None
    if problems:
        raise ProfileErrors(problems)
    return profile


def _names(read: Document, data: Mapping[str, object]) -> Iterator[Problem]:
    """Keys that could be no mount's or image's name, or that are not the owner's to give."""
    for name in _keys(data, "mounts"):
        if not NAME.fullmatch(name):
            remedy = "use letters, digits, '_' and '-', beginning with a letter"
            at = read.where_key(("mounts", name))
            yield Problem(at, f"{name!r} is no name for a mount", remedy)
    for name in _keys(data, "users"):
        if not USER.fullmatch(name):
            remedy = "use letters, digits and '_ . @ -', 64 at most"
            yield Problem(read.where_key(("users", name)), f"{name!r} is no user's name", remedy)
    for name in _keys(data, "images"):
        at = read.where_key(("images", name))
        if not IMAGE.fullmatch(name):
            yield Problem(at, f"{name!r} is no image name", "write it as the spec does")
        elif own_image(name) is not None:
            remedy = "remove it; `make images` builds it from this version's code"
            yield Problem(at, f"{name!r} is Proctor's own and cannot be another image", remedy)


def _logins(read: Document, data: Mapping[str, object]) -> Iterator[Problem]:
    """What only FAB can do, where the simple auth manager was chosen; names that FAB confuses."""
    from proctor.site.settings import user_name

    users = data.get("users")
    given = users if isinstance(users, dict) else {}
    if data.get("auth") == "fab":
        seen = {user_name().lower(): user_name()}
        for name in map(str, given):
            other = seen.setdefault(name.lower(), name)
            if other != name:
                message = f"{name!r} and {other!r} are one user, as capitals do not count"
                yield Problem(read.where_key(("users", name)), message, "rename one of them")
        return
    for name, role in given.items():
        if role == "approver":
            message = "nobody can be an approver without `auth: fab`"
            remedy = "write that, too, or make it viewer or operator"
            yield Problem(read.where(("users", name)), message, remedy)
    if "address" in data:
        message = "an instance that others reach needs `auth: fab`"
        yield Problem(read.where_key(("address",)), message, "write that, too")


def _keys(data: Mapping[str, object], key: str) -> list[str]:
    value = data.get(key)
    return [str(name) for name in value] if isinstance(value, dict) else []
