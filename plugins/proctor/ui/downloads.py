"""Tables and JSON that a page offers to be saved."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi.responses import Response

from proctor.ui.pages import HEADERS


def as_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], name: str) -> Response:
    """Rows as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return as_download(text.getvalue(), "text/csv; charset=utf-8", name)


def as_download(text: str, media: str, name: str) -> Response:
    """A file to be saved."""
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=media, headers=HEADERS | disposition)


def _cell(value: Any) -> Any:
    """A text that a step wrote is no formula of whoever opens the table."""
    risky = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if risky else value
