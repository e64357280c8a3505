"""The image of this machine that a site runs for one of a spec, found by its digest."""

from __future__ import annotations

from typing import Any

import docker.errors

from proctor.runtime.base import RequestRefused
from proctor.runtime.engine import connect, engine_errors


def id_of(image: str, pinned: str) -> str:
    """The id of ``name@sha256:<digest>``, where the digest is an image's id or a registry's.

    It is the digest that counts; the name is for people. Nothing is pulled.

    Raises:
        RequestRefused: no such image is here, or the name is that of another one.
    """
    name, _, digest = pinned.partition("@")
    for candidate in (digest, pinned, name):
        found = _get(candidate)
        if found is not None and digest in _digests(found):
            return str(found.id)
    other = _get(name)
    what = f"and no image with this digest is here (`docker images --digests {name}` lists some)"
    if other is not None:
        what = f"but {name} is {other.id} here, and no other image has this digest"
    raise RequestRefused(
        f"image {image!r}: the site's profile runs {pinned} for it, {what}; build, pull or load "
        f"the image, or correct `images:` in site.yaml"
    )


def _get(name: str) -> Any:
    with engine_errors():
        try:
            return connect().images.get(name)
        except docker.errors.ImageNotFound:
            return None


def _digests(found: Any) -> set[str]:
    registries = found.attrs.get("RepoDigests") or ()
    return {str(found.id), *(text.partition("@")[2] for text in registries)}
