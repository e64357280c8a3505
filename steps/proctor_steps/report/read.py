"""The base of the models that a report reads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Read(BaseModel):
    """Base of what is read here: immutable, keys that are not shown are let through."""

    model_config = ConfigDict(frozen=True, extra="ignore")
