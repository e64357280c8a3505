"""What a site's profile says of the committee, and a coordinator's of its sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import comb
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from proctor.federation.addresses import address_problem, host_and_port, proxy_address, site_name
from proctor.spec.check import PIPELINE_ID
from proctor.spec.document import Document
from proctor.spec.errors import Problem
from proctor.spec.forms import Text, Whole

MOST_CHOICES = 1000  # of sites, in one condition of Airflow's


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f"{text!r} is no absolute path|write it from the root, as in /data/scans")
    return text


def _pipeline(text: str) -> str:
    if not PIPELINE_ID.fullmatch(text):
        raise ValueError(f"{text!r} is no pipeline's name|write it as the spec does")
    return text


def _url(text: str) -> str:
    if problem := address_problem(text):
        raise ValueError(problem)
    return text


def _listen(text: str) -> str:
    host_and_port(text)
    return text


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("this list is empty|name one at least")
    return names


HostPath = Annotated[Text, AfterValidator(_absolute)]
PipelineName = Annotated[Text, AfterValidator(_pipeline)]
SiteName = Annotated[Text, AfterValidator(site_name)]


class ProfileModel(BaseModel):
    """Base of a profile's parts: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CoordinatorAddress(ProfileModel):
    """The committee that is told how far this site's runs of some pipelines are.

    ``ca_file``: certificates of who vouches for the coordinator, where that is nobody whom this
    machine trusts anyway. ``proxy`` "": what the environment says.
    """

    url: Annotated[Text, AfterValidator(_url)]
    token_file: HostPath
    pipelines: Annotated[tuple[PipelineName, ...], AfterValidator(_some)]
    ca_file: HostPath | None = None
    proxy: Annotated[Text, AfterValidator(proxy_address)] = ""


class Start(ProfileModel):
    """Start ``pipeline`` when all of ``sites``, or ``at_least`` some, have finished ``when``.

    A site counts again when another run of it has succeeded.
    """

    pipeline: PipelineName
    when: PipelineName
    sites: Annotated[tuple[SiteName, ...], AfterValidator(_some)]
    at_least: Annotated[Whole, Field(ge=1)] | None = None


class Sites(ProfileModel):
    """This home is a coordinator.

    ``specs``: what sites run and this home need not be able to, so that it knows their steps.
    ``listen``: HOST:PORT at which sites report, with ``certificate`` and ``key`` (PEM). Without it
    they reach the instance through a server that somebody sets up before it.
    """

    listen: Annotated[Text, AfterValidator(_listen)] = ""
    certificate: HostPath | None = None
    key: HostPath | None = None
    specs: tuple[HostPath, ...] = ()
    starts: tuple[Start, ...] = ()


def misfits(read: Document, data: Mapping[str, object]) -> Iterator[Problem]:
    """What is well written and does not go together."""
    sites = data.get("sites")
    if not isinstance(sites, dict):
        return
    given = [key for key in ("listen", "certificate", "key") if sites.get(key)]
    if given and len(given) < 3:
        message = f"{', '.join(given)}: of listen, certificate and key, each needs the others"
        yield Problem(read.where_key(("sites", given[0])), message, "give all three, or none")
    starts = sites.get("starts")
    for number, start in enumerate(starts if isinstance(starts, list) else []):
        if isinstance(start, dict) and isinstance(start.get("sites"), list):
            least, named = start.get("at_least"), {str(name) for name in start["sites"]}
            if isinstance(least, int) and (problem := _never(least, len(named))):
                yield Problem(read.where(("sites", "starts", number, "at_least")), *problem)


def _never(least: int, named: int) -> tuple[str, str] | None:
    if least > named:
        return f"{least} of {named} sites are never ready", "name more, or ask for less"
    if (choices := comb(named, max(0, least))) > MOST_CHOICES:
        remedy = f"Airflow can look at {MOST_CHOICES:,}: name fewer sites"
        return f"{least} of {named} sites are {choices:,} choices", remedy
    return None
