"""What a data site's person has agreed to, each thing once: ``trusted.json`` in the home.

Where that file is (``proctor site run`` makes it), a spec may use only what stands there: foreign
images by their digest, and network or secrets where the person has seen which steps want them. The
agreement is to a plan: a spec that was changed is asked about anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from proctor.plan.model import Plan, PlanStep
from proctor.runtime.host import own_image
from proctor_steps.contract import write_atomically

if TYPE_CHECKING:
    from proctor.site.home import Home

TRUST_FILE = "trusted.json"


@dataclass(frozen=True)
class Trust:
    """``images``: image of a spec -> ``name@sha256:…`` here. ``plans``: digests of those whose
    wishes were agreed to."""

    images: Mapping[str, str] = field(default_factory=dict)
    plans: frozenset[str] = frozenset()

    def refuses(self, plan: Plan, step: PlanStep, image: str, local: str) -> str:
        """Why a step may not start, in words; "" where it may."""
        if own_image(image) is None and not local:
            return f"this site has agreed to no image for {image!r}; {_REMEDY}"
        if (wish := wish_of(step)) and plan.digest not in self.plans:
            return f"the step wants {wish}, and this site has not agreed to that; {_REMEDY}"
        return ""


_REMEDY = "give the same `proctor site run`, which asks for it"


def wish_of(step: PlanStep) -> str:
    """What a step wants to use beyond its data, in words; "" for nothing."""
    wishes = ["the network"] if step.network else []
    if step.secrets:
        wishes.append(f"the secret{'s' if len(step.secrets) > 1 else ''} {', '.join(step.secrets)}")
    if step.history:
        wishes.append("what all runs here have measured")
    return " and ".join(wishes)


def wishes(plan: Plan) -> dict[str, str]:
    """What a plan's steps and services want to use beyond their data, by step."""
    found = {step.id: wish_of(step) for step in (*plan.steps, *plan.services)}
    return {id: wish for id, wish in found.items() if wish}


def read(home: Home) -> Trust | None:
    """What was agreed to; ``None`` where the home is not run as a data site.

    Raises:
        HomeError: the file cannot be read; nothing is allowed then.
    """
    from proctor.site.home import HomeError

    path = home.path / TRUST_FILE
    try:
        found = json.loads(path.read_bytes())
        images = {str(name): str(local) for name, local in found["images"].items()}
        return Trust(images, frozenset(str(plan) for plan in found["plans"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HomeError(
            f"{path} cannot be read ({error}); move it away, and `proctor site run` asks anew"
        ) from error


def write(home: Home, trust: Trust) -> None:
    """Keep what was agreed to, for the owner alone."""
    text = json.dumps(
        {"images": dict(sorted(trust.images.items())), "plans": sorted(trust.plans)}, indent=1
    )
    path: Path = home.path / TRUST_FILE
    write_atomically(path, f"{text}\n".encode())
    path.chmod(0o600)
