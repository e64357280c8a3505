"""The table of rights in the documentation is the one that is tried."""

from __future__ import annotations

from pathlib import Path

from rights_table import ROLES, ROWS, table

from proctor.site.profile import ROLES as OFFERED

SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def test_the_documented_table_is_the_tried_one() -> None:
    assert table() in SECURITY.read_text()
    assert OFFERED == ROLES


def test_a_changed_right_would_be_seen() -> None:
    wider = [row for row in ROWS if row.allows("approver")]
    assert [row.action for row in wider if not row.allows("viewer")] == ["approve", "reject"]
