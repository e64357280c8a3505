"""What every page that a step writes is made with: it loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def filled(
    template: Path, filters: Mapping[str, Callable[..., Any]] = MappingProxyType({}), **values: Any
) -> str:
    """A template filled in; whatever comes from a spec, a log or a file name is escaped by it."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return environment.get_template(template.name).render(
        style=Markup(style),  # noqa: S704 (our own file)
        **values,
    )
