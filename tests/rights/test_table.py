"""Role by action, tried over REST: the table that docs/security.md shows."""

from __future__ import annotations

import pytest
from rights_table import ROLES, ROWS, Person, Row, Stage, hitl


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.action)
def test_each_role_may_do_what_the_table_says(row: Row, stage: Stage, person: Person) -> None:
    for role in ROLES:
        answered = row.does(stage, person(role))
        told = f"{role}: {answered.status_code} {answered.text[:300]}"
        if row.allows(role):
            assert answered.status_code in (200, 201, 204), told
            if row.spends:
                stage.spend_gate()
        else:
            assert answered.status_code == 403, told


def test_the_page_of_what_waits_says_who_may(stage: Stage, person: Person) -> None:
    """Where only ada may answer, by her name, and at the gates that are open to approvers."""
    for name in ("ada", "abe", "olaf", "vera"):
        shown = person(name).get("/proctor/review").text
        assert stage.named.record.run in shown
        assert ("May answer: ada. You may." in shown) == (name == "ada")
        assert ("answer questions of this pipeline. You may." in shown) == (name != "vera")


def test_who_is_named_answers(stage: Stage, person: Person) -> None:
    body = {"chosen_options": ["Approve"], "params_input": {"evidence_reviewed": True}}
    assert person("abe").patch(hitl(stage.named), json=body).status_code == 403
    assert person("ada").patch(hitl(stage.named), json=body).status_code == 200
    assert stage.named.ended() == "success"
    (approval,) = stage.named.summary()["approvals"]
    assert (approval["by"], approval["evidence_reviewed"]) == ("ada", True)
