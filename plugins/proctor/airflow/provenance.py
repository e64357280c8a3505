"""A run's provenance, for the steps behind a gate and beside what the run publishes."""

from __future__ import annotations

import json
from typing import Any

from proctor.records.provenance import document
from proctor.records.store import RunRecord
from proctor.runtime.artifacts import ArtifactError, LocalArtifacts
from proctor.site.home import Home
from proctor_steps.contract import write_atomically
from proctor_steps.lineage import CROISSANT, PROVENANCE


def provenance(home: Home, record: RunRecord) -> dict[str, Any]:
    """What the run made so far, and from what; see :func:`proctor.records.provenance.document`."""
    store = LocalArtifacts(home.path)

    def metadata(uri: str) -> bytes | None:
        try:
            return store.read(uri, CROISSANT)
        except (ArtifactError, OSError):
            return None

    return document(home.records, record, metadata)


def refresh_provenance(home: Home, record: RunRecord) -> None:
    """Write ``provenance.json`` into the run's folder, beside what it publishes."""
    text = json.dumps(provenance(home, record), indent=1, ensure_ascii=False) + "\n"
    write_atomically(record.whole.folder / PROVENANCE, text.encode())
