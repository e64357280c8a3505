"""What licences and policies of data permit: ten datasets and more, three purposes, one table.

PROCTOR_GOLDEN=write writes the tables of docs/policy.md anew; read the difference before
committing it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from proctor.cli import app
from proctor_steps.policy import duo, folder, licences, mlperf, show
from proctor_steps.policy.answer import FILE, Answer, answer
from proctor_steps.policy.clauses import Asked, Clause
from proctor_steps.policy.metadata import read
from proctor_steps.policy.purposes import ABOUT, PURPOSES
from proctor_steps.policy.usage import STAGE

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "policy.md"
DATA = sorted((ROOT / "tests" / "golden" / "usage").glob("*.json"))
DATE = "2026-01-15"
ASKED = [Asked(p, DATE) for p in PURPOSES if p != "education"]
CC = "https://creativecommons.org/licenses/"

# What each comes to, for a commercial benchmark, research and clinical research.
YES, NO = ("permitted",) * 3, ("refused",) * 3
EXPECTED = {
    "01-open": YES,
    "02-non-commercial": ("refused", "permitted", "permitted"),
    "03-no-licence": NO,
    "04-mixed": ("filter",) * 3,
    "05-health-only": ("refused", "refused", "permitted"),
    "06-expired": NO,
    "07-unknown-licence": NO,
    "08-prohibition": ("refused", "permitted", "permitted"),
    "09-attribution": YES,
    "10-share-alike": YES,
    "11-no-derivatives": YES,
    "12-approval-first": NO,
    "13-coco": ("filter", "permitted", "permitted"),
}
# The terms of each refusal, and what is left out of what is filtered, by purpose.
TERMS = {
    ("02-non-commercial", "commercial-benchmark"): [("CC-BY-NC-4.0", "$.license")],
    ("03-no-licence", "research"): [("none", "$")],
    ("05-health-only", "research"): [("DUO:0000006", "$.usageInfo[0]")],
    ("06-expired", "research"): [
        ("odrl:permission", "$.usageInfo['odrl:permission']['odrl:constraint'][0]")
    ],
    ("07-unknown-licence", "research"): [("https://example.org/terms", "$.license")],
    ("08-prohibition", "commercial-benchmark"): [
        ("odrl:prohibition", "$.usageInfo['odrl:prohibition']")
    ],
    ("12-approval-first", "research"): [("DUO:0000021", "$.usageInfo[1]")],
}


# Those whose terms ask for the day.
DATED = ("06-expired",)


def answered(value: Any, purpose: Any = "research", **more: str) -> Answer:
    found = read(value, "x.json")
    assert found is not None
    return answer([found], Asked(purpose, **{"date": DATE, **more}), "x.json: $")


def dataset(**more: Any) -> dict[str, Any]:
    context = {"@vocab": "https://schema.org/", "odrl": "http://www.w3.org/ns/odrl/2/"}
    return {"@context": context, "@type": "Dataset", "@id": "d", **more}


def policy(**rules: Any) -> dict[str, Any]:
    return {"@context": "http://www.w3.org/ns/odrl.jsonld", "@type": "Set", **rules}


def says(made: Answer) -> tuple[str, list[str]]:
    return made.verdict, [clause.id for clause in made.clauses]


# --- the table -----------------------------------------------------------------------------------


def rows() -> list[show.Row]:
    loaded = [(path, folder.load(path, path.name)) for path in DATA]
    return [
        show.row(path.stem, answer([found], ask, path.name))
        for path, found in loaded
        for ask in ASKED
    ]


def test_what_each_dataset_permits() -> None:
    found: dict[str, list[str]] = {}
    for row in rows():
        found.setdefault(row.data, []).append(row.verdict.partition(",")[0])
    assert {name: tuple(verdicts) for name, verdicts in found.items()} == EXPECTED


@pytest.mark.parametrize(("data", "purpose"), TERMS, ids=str)
def test_a_refusal_names_the_term_and_its_place(data: str, purpose: Any) -> None:
    path = next(path for path in DATA if path.stem == data)
    made = answer([folder.load(path, path.name)], Asked(purpose, DATE), path.name)
    found = [(clause.id, clause.where) for clause in made.clauses]
    assert found == [(id, f"{path.name}: {where}") for id, where in TERMS[data, purpose]]
    assert all(str(clause) in made.refusal for clause in made.clauses)


@pytest.mark.parametrize("ask", ASKED, ids=lambda ask: ask.purpose)
@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_the_stage_runs_filters_or_refuses_as_the_table_says(
    path: Path, ask: Asked, tmp_path: Path, run_stage: Any
) -> None:
    """With real files: one for each record, so that what is left out can be seen."""
    found = folder.load(path, path.name)
    data = tmp_path / "data"
    data.mkdir()
    (data / "croissant.json").write_bytes(path.read_bytes())
    names = [name for part in found.parts for name in part.files] or ["a.txt"]
    for name in names:
        (data / name).write_text(name)
    params = {"purpose": ask.purpose, "date": ask.date}
    result, out = run_stage(STAGE, params, inputs={"dataset": data})
    expected = dict(zip([a.purpose for a in ASKED], EXPECTED[path.stem], strict=True))[ask.purpose]
    if expected == "refused":
        assert result.status == "data_error" and "croissant.json: $" in result.message
        assert list(out.iterdir()) == []
        return
    assert result.status == "ok", result.message
    left = {p.name for p in out.iterdir()} - {"croissant.json", FILE}
    gone = {n for e in answer([found], ask, "").left_out if e.part for n in e.part.files}
    assert left == set(names) - gone and bool(gone) == (expected == "filter")
    said = json.loads((out / FILE).read_text())
    day = DATE if path.stem in DATED else ""
    assert (said["purpose"], said["date"], said["verdict"]) == (ask.purpose, day, expected)
    assert result.metrics["usage"] == said
    assert {f.rule for f in result.findings} == ({"usage_left_out"} if gone else set())


def test_what_is_left_out_is_in_the_metadata_no_more(tmp_path: Path, run_stage: Any) -> None:
    (path,) = [p for p in DATA if p.stem == "04-mixed"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "croissant.json").write_bytes(path.read_bytes())
    for name in "abcd":
        (tmp_path / "data" / f"{name}.txt").write_text(name)
    params = {"purpose": "commercial-benchmark", "date": DATE}
    result, out = run_stage(STAGE, params, inputs={"dataset": tmp_path / "data"})
    assert result.status == "ok", result.message
    before, after = json.loads(path.read_text()), json.loads((out / "croissant.json").read_text())
    kept = before["recordSet"][0]["data"]
    before["recordSet"][0]["data"] = [kept[0], kept[2]]
    assert after == before
    left_out = [
        c["id"] for e in json.loads((out / FILE).read_text())["left_out"] for c in e["clauses"]
    ]
    assert left_out == ["CC-BY-NC-4.0", "https://example.org/terms"]


def test_the_page_has_the_tables() -> None:
    text = PAGE.read_text()
    about = "".join(f"| `{name}` | {what} |\n" for name, what in ABOUT.items())
    tables = {
        "purposes": f"| `purpose` | What it is |\n|---|---|\n{about}",
        "terms": show.terms_markdown(),
        "check": show.markdown(rows()),
    }
    written = text
    for name, made in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        written = re.sub(pattern, lambda m, made=made: m[1] + made + m[2], written, flags=re.DOTALL)
        assert f"<!-- {name} -->" in text
    if os.environ.get("PROCTOR_GOLDEN") == "write":
        PAGE.write_text(written)
    assert written == PAGE.read_text(), "run this test with PROCTOR_GOLDEN=write"


def test_the_command_prints_the_page_s_table() -> None:
    purposes = [word for ask in ASKED for word in ("--purpose", ask.purpose)]
    words = ["policy", "check", *map(str, DATA), *purposes, "--date", DATE, "--markdown"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (0, show.markdown(rows()))
    assert done.stdout in PAGE.read_text()


def test_the_command_in_other_forms(tmp_path: Path) -> None:
    def call(*words: str) -> Any:
        return CliRunner().invoke(app, ["policy", *words])

    done = call("check", str(DATA[1]), "--json")
    assert [a["purpose"] for a in json.loads(done.stdout)] == list(PURPOSES)
    assert "CC-BY-NC-4.0" in call("check", str(DATA[1])).stdout
    assert call("terms", "--markdown").stdout == show.terms_markdown()
    assert "DUO:0000042" in call("terms").stdout
    for words, told in (
        (["--purpose", "resarch"], "known: commercial-benchmark, research"),
        (["--date", "2026-02-30"], "YYYY-MM-DD"),
    ):
        done = call("check", str(DATA[1]), *words)
        assert done.exit_code == 2 and told in done.stderr
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "else.json").write_text("{}")
    bad = [str(tmp_path / name) for name in ("bad.json", "else.json", "missing.json")]
    done = call("check", str(DATA[0]), *bad)
    assert done.exit_code == 2 and "01-open" in done.stdout  # what can be answered is
    assert "bad.json:1:2" in done.stderr and "says nothing of licences" in done.stderr
    assert "No such file" in done.stderr
    (tmp_path / "empty").mkdir()
    assert "no permission is stated" in call("check", str(tmp_path / "empty")).stdout


# --- licences ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("cc-by-nc-sa-3.0", "CC-BY-NC-SA-3.0"),
        ("http://creativecommons.org/licenses/by-nd/2.0/", "CC-BY-ND-2.0"),
        ("https://www.creativecommons.org/licenses/by/4.0/legalcode.de", "CC-BY-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "PDM-1.0"),
        ("https://spdx.org/licenses/Apache-2.0.html", "Apache-2.0"),
        ("https://opensource.org/license/mit", "MIT"),
        ("https://opendatacommons.org/licenses/odbl/1-0/", "ODbL-1.0"),
        ("http://flickr.com/commons/usage/", "Flickr-Commons"),
        ("http://www.usa.gov/copyright.shtml", "US-Government-Work"),
        ("CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("  mit ", "MIT"),
    ],
)
def test_licences_by_id_and_url(text: str, id: str) -> None:
    found = licences.find(text)
    assert found is not None and found.id == id


@pytest.mark.parametrize(
    "text",
    ["", "CC", "CC-BY", "CC-BY-XX-4.0", "other", "Apache-2.0 AND Secret", "by-nc", "x" * 500,
     "https://creativecommons.org/licenses/", "https://evil.org/creativecommons.org/licenses/by/4.0/",
     "https://creativecommons.org/licenses/nc/4.0/"],
)  # fmt: skip
def test_what_is_no_known_licence_is_not_permitted(text: str) -> None:
    assert licences.find(text) is None
    made = answered(dataset(license=text))
    assert made.verdict == "refused" and made.clauses[0].says == "undecided"


def test_several_licences_count_together() -> None:
    both = dataset(license=["CC-BY-4.0", {"@type": "CreativeWork", "url": f"{CC}by-nc/4.0/"}])
    assert answered(both).verdict == "permitted"
    assert says(answered(both, "commercial-benchmark")) == ("refused", ["CC-BY-NC-4.0"])


def test_duties_are_told() -> None:
    made = answered(dataset(license="CC-BY-SA-4.0"))
    assert [clause.label for clause in made.duties] == ["attribution", "share-alike"]


@given(st.sampled_from(sorted(duo.TERMS)) | st.text(max_size=60) | st.sampled_from(mlperf.ALLOWED))
def test_mlperf_s_rule_is_exactly_that(text: str) -> None:
    """Whatever the licence says otherwise, and whatever a person accepts."""
    ask = Asked("commercial-benchmark", DATE, accept="we may")
    found = mlperf.clauses(text, "x", ask)
    permitted = any(c.says == "permits" for c in found) and not any(
        c.says == "forbids" for c in found
    )
    assert permitted is mlperf.allowed(text)


# --- DUO -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelt",
    [
        "DUO:0000042",
        "DUO_0000042",
        "http://purl.obolibrary.org/obo/DUO_0000042",
        {"@id": "http://purl.obolibrary.org/obo/DUO_0000042"},
        {"@type": "DefinedTerm", "termCode": "DUO_0000042"},
        {"@type": "sc:DefinedTerm", "sc:url": "duo:0000042"},
        {"name": "general research use", "identifier": "DUO:0000042"},
    ],
    ids=str,
)
def test_a_term_in_every_spelling(spelt: Any) -> None:
    assert says(answered(dataset(usageInfo=spelt))) == ("permitted", ["DUO:0000042"])
    made = answered(dataset(usageInfo=[spelt]), "education")
    assert says(made) == ("refused", ["DUO:0000042"])


def test_a_limit_alone_permits_nothing() -> None:
    assert says(answered(dataset(usageInfo="DUO:0000046"))) == ("refused", ["none"])


def test_one_permission_is_enough() -> None:
    made = answered(dataset(usageInfo=["DUO:0000006", "DUO:0000042"]))
    assert says(made) == ("permitted", ["DUO:0000042"])


@pytest.mark.parametrize(
    ("expires", "date", "verdict"),
    [
        ("2026-01-15", DATE, "permitted"),
        ("2026-01-14", DATE, "refused"),
        ("2026-01-15T12:00:00Z", DATE, "permitted"),
        ("", DATE, "refused"),
        ("2027-01-01", "", "refused"),
        ("soon", DATE, "refused"),
    ],
)
def test_a_time_limit(expires: str, date: str, verdict: str) -> None:
    limit = {"@type": "DefinedTerm", "termCode": "DUO_0000025", "expires": expires}
    made = answered(dataset(usageInfo=["DUO:0000042", limit]), date=date)
    assert made.verdict == verdict
    # Where no end or no day is told, the day changes nothing.
    assert made.dated == (date == DATE and expires.startswith("2026-"))
    assert made.as_json()["date"] == (date if made.dated else "")


def test_a_day_that_no_term_asks_for_changes_nothing() -> None:
    made = [answered(dataset(license="CC0-1.0"), date=day) for day in (DATE, "2031-05-06")]
    assert made[0].as_json() == made[1].as_json()
    assert not made[0].dated


@pytest.mark.parametrize("code", ["DUO:0000001", "DUO:9999999"])
def test_an_unknown_term_is_for_a_person(code: str) -> None:
    made = answered(dataset(license="CC0-1.0", usageInfo=code))
    assert made.verdict == "refused" and made.clauses[0].says == "undecided"


# --- ODRL ----------------------------------------------------------------------------------------


def when(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


USE: dict[str, Any] = {"action": "use"}


@pytest.mark.parametrize(
    ("constraint", "verdict"),
    [
        (when("purpose", "isA", "research"), "permitted"),
        (when("purpose", "eq", {"@id": "https://w3id.org/dpv#NonCommercialPurpose"}), "permitted"),
        (when("purpose", "isAnyOf", ["commercial", "research"]), "permitted"),
        (when("purpose", "isAllOf", ["commercial", "research"]), "refused"),
        (when("purpose", "isNoneOf", ["commercial", "education"]), "permitted"),
        (when("purpose", "neq", "research"), "refused"),
        (when("purpose", "eq", "weather"), "refused"),
        (when("purpose", "isA", "DUO:0000042"), "permitted"),
        (when("purpose", "gt", "research"), "refused"),
        (when("dateTime", "lteq", "2026-01-15"), "permitted"),
        (when("dateTime", "lt", "2026-01-15"), "refused"),
        (when("dateTime", "gteq", {"@value": "2026-01-16", "@type": "xsd:date"}), "refused"),
        (when("dateTime", "lt", "2026-01-15T08:00:00Z"), "refused"),  # which hour, nobody knows
        (when("dateTime", "lt", "2026-02-30x"), "refused"),
        (when("spatial", "eq", "DE"), "refused"),
        ({"and": [when("purpose", "eq", "research"), when("dateTime", "lt", "2027-01-01")]},
         "permitted"),
        ({"and": {"@list": [when("purpose", "eq", "research"), when("spatial", "eq", "DE")]}},
         "refused"),
        ({"or": [when("spatial", "eq", "DE"), when("purpose", "eq", "research")]}, "permitted"),
        ({"xone": [when("purpose", "eq", "research"), when("purpose", "neq", "x")]}, "refused"),
        ({"xone": [when("purpose", "eq", "research"), when("purpose", "eq", "education")]},
         "permitted"),
        ({}, "refused"),
        ("research", "refused"),
    ],
    ids=str,
)  # fmt: skip
def test_permissions_with_constraints(constraint: Any, verdict: str) -> None:
    made = answered(policy(permission={**USE, "constraint": constraint}))
    assert made.verdict == verdict
    refined = {"action": {"rdf:value": {"@id": "odrl:use"}, "refinement": constraint}}
    assert answered(policy(permission=[refined])).verdict == verdict


def test_a_prohibition_that_may_apply_is_for_a_person() -> None:
    rule = {**USE, "constraint": when("spatial", "eq", "DE")}
    made = answered(policy(permission=USE, prohibition=rule))
    assert [(c.id, c.says) for c in made.clauses] == [("odrl:prohibition", "undecided")]
    assert answered(policy(permission=USE, prohibition=rule), accept="not in DE").verdict == (
        "permitted"
    )


@pytest.mark.parametrize(
    ("action", "verdict"),
    [("use", "refused"), ("reproduce", "refused"), ("derive", "refused"), ("dance", "refused"),
     ("distribute", "permitted"), ("commercialize", "permitted"), (None, "refused")],
)  # fmt: skip
def test_prohibited_actions(action: Any, verdict: str) -> None:
    made = answered(policy(permission=USE, prohibition={"action": action}))
    assert made.verdict == verdict
    if action == "distribute":
        assert [(d.id, d.label) for d in made.duties] == [("odrl:prohibition", "distribute")]


def test_a_conflict_voids_unless_the_policy_prefers_permissions() -> None:
    both: dict[str, Any] = {"permission": USE, "prohibition": USE}
    assert answered(policy(**both)).verdict == "refused"
    assert answered(policy(**both, conflict="prohibit")).verdict == "refused"
    assert answered(policy(**both, conflict={"@id": "odrl:perm"})).verdict == "permitted"
    assert answered(policy(**both, conflict=["perm", "prohibit"])).verdict == "refused"


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ({"duty": {"action": "attribute"}}, "permitted"),
        ({"duty": [{"action": "compensate"}]}, "refused"),
        ({"duty": {"action": {"@id": "DUO:0000019"}}}, "permitted"),
        ({"duty": {}}, "refused"),
        ({"duty": "attribute"}, "permitted"),
        ({"assignee": "https://example.org/bob"}, "refused"),
        ({"target": "d"}, "permitted"),
        ({"target": "https://example.org/other"}, "refused"),
        ({"action": "display"}, "refused"),
        ({"action": {"@id": "DUO:0000042"}}, "permitted"),
        ({"action": {"@id": "DUO:0000006"}}, "refused"),
        ({"action": {"@id": "DUO:0000046"}}, "refused"),  # a limit, which permits nothing
        ({"action": "commercialize"}, "refused"),
        ({"action": []}, "refused"),
    ],
    ids=str,
)
def test_permissions_with_duties_parties_and_targets(rule: dict[str, Any], verdict: str) -> None:
    made = answered(dataset(usageInfo=policy(permission={**USE, **rule})))
    assert made.verdict == verdict
    if "attribute" in str(rule):
        assert [(c.id, c.label) for c in made.duties] == [("odrl:duty", "attribute")]


def test_a_duty_as_a_constraint_is_told() -> None:
    terms = {"operator": "eq", "rightOperand": {"@id": "DUO:0000019"}}
    made = answered(policy(permission={**USE, "constraint": {"and": [terms]}}))
    assert made.verdict == "permitted" and [c.id for c in made.duties] == ["DUO:0000019"]


def test_a_permission_of_another_asset_counts_only_where_no_dataset_is_named() -> None:
    terms = read(policy(permission={**USE, "target": "https://example.org/x"}), "policy.json")
    other = read(dataset(license="CC0-1.0"), "croissant.json")
    assert terms is not None and other is not None
    ask = Asked("research", DATE)
    assert answer([terms], ask, "").verdict == "permitted"
    assert says(answer([other, terms], ask, "")) == ("refused", ["odrl:permission"])


def test_what_a_policy_inherits_is_for_a_person() -> None:
    made = answered(policy(permission=USE, inheritFrom="https://example.org/p", action="use"))
    assert says(made) == ("refused", ["odrl:inheritFrom"])


def test_croissant_s_own_example() -> None:
    """A DUO term as the action, one without a left operand as the constraint, then a disease."""
    constraints: list[dict[str, Any]] = [
        {"odrl:operator": {"@id": "odrl:eq"}, "odrl:rightOperand": {"@id": "duo:0000018"}}
    ]
    permission = {"odrl:action": {"@id": "duo:0000006"}, "odrl:constraint": constraints}
    value = dataset(
        usageInfo={"@type": ["CreativeWork", "odrl:Offer"], "odrl:permission": permission}
    )
    made = answered(value, "clinical-research")  # whether for no profit, only a person can say
    assert [(c.id, c.says) for c in made.clauses] == [("odrl:permission", "undecided")]
    assert answered(value, "clinical-research", accept="a hospital").verdict == "permitted"
    assert answered(value, "commercial-benchmark", accept="a hospital").verdict == "refused"
    constraints[0]["odrl:rightOperand"] = {"@id": "duo:0000046"}
    assert answered(value, "clinical-research").verdict == "permitted"
    disease = {"odrl:leftOperand": {"@id": "duo:0000010"}, "odrl:operator": {"@id": "odrl:eq"},
               "odrl:rightOperand": {"@id": "mondo:0005070"}}  # fmt: skip
    constraints.append(disease)
    assert answered(value, "clinical-research").verdict == "refused"


def test_prefixes_of_the_file_and_references_inside_it() -> None:
    value = {
        "@context": ["https://example.org/c", {"o": "http://www.w3.org/ns/odrl/2/",
                                               "may": {"@id": "o:permission"}}],
        "@graph": [
            {"@type": "schema:Dataset", "usageInfo": {"@id": "#terms"}},
            {"@id": "#terms", "may": {"o:action": {"@id": "o:use"}}},
        ],
    }  # fmt: skip
    assert says(answered(value)) == ("permitted", ["odrl:permission"])
    del value["@graph"][1]  # type: ignore[union-attr]
    assert says(answered(value)) == ("refused", ["usageInfo"])


# --- what a person accepts -----------------------------------------------------------------------


def test_what_is_open_can_be_accepted_with_a_reason_and_is_told(
    tmp_path: Path, run_stage: Any
) -> None:
    (tmp_path / "a.txt").write_text("a")
    params = {"purpose": "research", "date": DATE, "accept": "agreement 2025-17 with the owner"}
    result, out = run_stage(STAGE, params, inputs={"dataset": tmp_path}, attempt="1")
    assert result.status == "ok", result.message
    said = json.loads((out / FILE).read_text())
    assert [clause["id"] for clause in said["accepted"]] == ["none"]
    assert said["reason_accepted"] == params["accept"]
    assert [(f.rule, f.severity) for f in result.findings] == [("usage_accepted", "warning")]


def test_what_is_forbidden_cannot_be_accepted() -> None:
    made = answered(dataset(license="CC-BY-NC-4.0"), "commercial-benchmark", accept="please")
    assert says(made) == ("refused", ["CC-BY-NC-4.0"]) and "accept" not in made.refusal
    assert "'accept'" in answered(dataset()).refusal


# --- parts ---------------------------------------------------------------------------------------


def files(**licences_: str) -> list[dict[str, Any]]:
    return [
        {"@type": "cr:FileObject", "@id": name, "contentUrl": f"{name}.csv", "license": licence}
        for name, licence in licences_.items()
    ]


def run_on(value: Any, folder_: Path, run_stage: Any, *names: str, **params: str) -> Any:
    folder_.mkdir()
    (folder_ / "croissant.json").write_text(json.dumps(value))
    for name in names:
        (folder_ / name).parent.mkdir(exist_ok=True)
        (folder_ / name).write_text(name)
    given = {"purpose": "commercial-benchmark", "date": DATE, **params}
    return run_stage(STAGE, given, inputs={"dataset": folder_}, attempt=folder_.name)


def left(out: Path) -> set[str]:
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}


def test_files_with_licences_of_their_own(tmp_path: Path, run_stage: Any) -> None:
    value = dataset(license="CC0-1.0", distribution=files(a="CC-BY-4.0", b="CC-BY-NC-4.0"))
    result, out = run_on(value, tmp_path / "d", run_stage, "a.csv", "b.csv", "more/c.csv")
    assert result.status == "ok", result.message
    assert left(out) == {"a.csv", "more/c.csv", "croissant.json", FILE}
    assert [d["@id"] for d in json.loads((out / "croissant.json").read_text())["distribution"]] == [
        "a"
    ]


@pytest.mark.parametrize("spelt", ["./my%20b.csv", "https://host/data/my%20b.csv", "my b.csv"])
def test_a_file_is_left_out_however_the_metadata_spell_it(
    spelt: str, tmp_path: Path, run_stage: Any
) -> None:
    value = dataset(license="CC0-1.0", distribution=files(b="CC-BY-NC-4.0"))
    value["distribution"][0]["contentUrl"] = spelt
    result, out = run_on(value, tmp_path / "d", run_stage, "a.csv", "my b.csv")
    assert result.status == "ok", result.message
    assert left(out) == {"a.csv", "croissant.json", FILE}


@pytest.mark.parametrize("changed", [{"contentUrl": "c.csv"}, {"excludes": "a.csv"}])
def test_a_file_that_cannot_be_found_is_not_said_to_be_left_out(
    changed: dict[str, str], tmp_path: Path, run_stage: Any
) -> None:
    value = dataset(license="CC0-1.0", distribution=files(b="CC-BY-NC-4.0"))
    value["distribution"][0] |= changed
    result, _ = run_on(value, tmp_path / "d", run_stage, "a.csv", "b.csv")
    assert result.status == "data_error" and "cannot be left out" in result.message


def test_where_only_a_part_is_permitted_the_rest_is_left_out(
    tmp_path: Path, run_stage: Any
) -> None:
    value = dataset(license="CC-BY-NC-4.0", distribution=files(a="CC-BY-4.0"))
    result, out = run_on(value, tmp_path / "d", run_stage, "a.csv", "b.csv")
    assert result.status == "ok", result.message
    assert left(out) == {"a.csv", "croissant.json", FILE}


def test_usage_terms_of_the_whole_count_for_every_part() -> None:
    ban = policy(prohibition={**USE, "constraint": when("purpose", "isA", "commercial")})
    value = dataset(license="CC0-1.0", usageInfo=ban, distribution=files(a="CC-BY-4.0"))
    assert answered(value).verdict == "permitted"
    assert says(answered(value, "commercial-benchmark")) == ("refused", ["odrl:prohibition"])


def test_every_dataset_of_a_file_counts() -> None:
    both = {"@graph": [dataset(license="CC0-1.0"), dataset(license="CC-BY-NC-4.0")]}
    assert says(answered(both, "commercial-benchmark")) == ("refused", ["CC-BY-NC-4.0"])


def test_rules_of_the_dataset_itself_count() -> None:
    value = dataset(license="CC-BY-4.0", **{"odrl:prohibition": USE})
    assert says(answered(value)) == ("refused", ["odrl:prohibition"])


def test_links_are_no_part_of_a_dataset(tmp_path: Path, run_stage: Any) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "croissant.json").write_text(json.dumps(dataset(license="CC0-1.0")))
    params = {"purpose": "research", "date": DATE}
    result, _ = run_stage(STAGE, params, inputs={"dataset": tmp_path / "d"})
    assert result.status == "data_error" and "link: links" in result.message


def test_of_coco_s_file_images_and_their_boxes_are_left_out(tmp_path: Path, run_stage: Any) -> None:
    (path,) = [p for p in DATA if p.stem == "13-coco"]
    value = json.loads(path.read_text())
    value["annotations"] = [{"id": n, "image_id": n, "area": 1} for n in range(9)]
    names = [image["file_name"] for image in value["images"]]
    result, out = run_on(value, tmp_path / "d", run_stage, *names)
    assert result.status == "ok", result.message
    made = json.loads((out / "croissant.json").read_text())
    kept = [image for image in value["images"] if image["license"] > 3]
    boxes = [box for box in value["annotations"] if box["image_id"] > 2]
    assert made == {**value, "images": kept, "annotations": boxes}
    assert left(out) == {*(i["file_name"] for i in kept), "croissant.json", FILE}


def test_what_is_written_into_metadata_breaks_no_line() -> None:
    made = answered(dataset(license="\x1b[2J" + "a\nb" * 1000))
    assert made.refusal.count("\n") == 2 and "\x1b" not in made.refusal
    assert len(made.refusal) < 2000


def test_coco_with_odd_entries() -> None:
    images = [1, {}, {"license": []}, {"license": 2, "file_name": "a.jpg"}, {"license": 9}]
    value = {"images": images, "annotations": [], "licenses": [{"id": 2, "url": "MIT"}, 3, {}]}
    made = answered(value)
    assert (made.verdict, made.kept, made.total) == ("filter", 1, 5)
    assert [(e.what, e.clauses[0].id) for e in made.left_out] == [("4 images", "none")]


def record_set(**cells: str) -> dict[str, Any]:
    fields = [
        {"@id": "r/file", "equivalentProperty": "sc:contentUrl"},
        {"@id": "r/licence", "equivalentProperty": "sc:license"},
    ]
    data = [{"r/file": name, "r/licence": text} for name, text in cells.items()]
    return {"@type": "cr:RecordSet", "@id": "r", "field": fields, "data": data}


@pytest.mark.parametrize(
    ("value", "names", "why"),
    [
        (
            dataset(recordSet=[record_set(a="CC0-1.0", b="CC-BY-NC-4.0")]),
            ["a"],
            "b is no file of the dataset",
        ),
        (
            dataset(license="CC0-1.0", distribution=[
                {"@type": "cr:FileSet", "includes": "*.jpg", "license": "CC-BY-NC-4.0",
                 "containedIn": {"@id": "zip"}}]),
            ["x.zip"],
            "they lie inside another file",
        ),
        (
            dataset(license="CC0-1.0", distribution=files(b="CC-BY-NC-4.0"), recordSet=[
                {"@id": "r", "field": [{"source": {"fileObject": {"@id": "b"}}}]}]),
            ["a.csv", "b.csv"],
            "other parts of the dataset are made from it",
        ),
        (
            dataset(license="CC0-1.0", recordSet=[{"@id": "r", "license": "CC-BY-NC-4.0"}]),
            ["a.csv"],
            "does not say which files",
        ),
    ],
    ids=["missing", "packed", "used", "unnamed"],
)  # fmt: skip
def test_what_cannot_be_left_out_is_refused(
    value: Any, names: list[str], why: str, tmp_path: Path, run_stage: Any
) -> None:
    result, _ = run_on(value, tmp_path / "d", run_stage, *names)
    assert result.status == "data_error" and why in result.message


def test_licences_of_records_in_a_file_are_for_a_person() -> None:
    rows_elsewhere = record_set()
    made = answered(dataset(license="CC0-1.0", recordSet=[rows_elsewhere]))
    assert made.verdict == "filter"  # files that are of no record
    assert [c.id for e in made.left_out for c in e.clauses] == ["license"]


def test_metadata_from_elsewhere_counts_too(tmp_path: Path, run_stage: Any) -> None:
    data, more = tmp_path / "data", tmp_path / "more"
    data.mkdir()
    more.mkdir()
    (data / "croissant.json").write_text(json.dumps(dataset(license="CC-BY-4.0")))
    ban = policy(prohibition={**USE, "constraint": when("purpose", "isA", "commercial")})
    (more / "terms.jsonld").write_text(json.dumps(ban))
    params = {"purpose": "commercial-benchmark", "date": DATE}
    inputs = {"dataset": data, "metadata": more}
    result, _ = run_stage(STAGE, params, inputs=inputs, attempt="1")
    assert result.status == "data_error" and "terms.jsonld: $.prohibition" in result.message
    (more / "terms.jsonld").unlink()
    result, _ = run_stage(STAGE, params, inputs=inputs, attempt="2")
    assert "there is no JSON file" in result.message


# --- what is malformed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not valid JSON"),
        ("{", "croissant.json:1:2"),
        ("\xff", "not valid JSON"),
        ('{"@type": "Dataset", "x": NaN}', "NaN"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, "recursion"),
        ('{"@type":"Dataset","license":' + '[{"odrl:permission":' * 400 + "1" + "}]" * 400 + "}",
         "nested over 100 levels"),
        ('{"permission":{"action":"use","constraint":' + '{"and":' * 90 + "1" + "}" * 90 + "}}",
         "its constraint cannot be judged"),
    ],
    ids=["empty", "cut", "bytes", "nan", "deep", "nested", "constraints"],
)  # fmt: skip
def test_a_damaged_file_is_told(text: str, told: str, tmp_path: Path, run_stage: Any) -> None:
    (tmp_path / "croissant.json").write_text(text)
    params = {"purpose": "research", "date": DATE}
    result, out = run_stage(STAGE, params, inputs={"dataset": tmp_path})
    assert result.status == "data_error" and told in result.message, result.message
    assert "unexpected" not in result.message and list(out.iterdir()) == []


KEYS = ["@context", "@type", "@graph", "@id", "license", "usageInfo", "distribution", "recordSet",
        "odrl:permission", "prohibition", "obligation", "action", "constraint", "duty", "and",
        "leftOperand", "operator", "rightOperand", "field", "data", "equivalentProperty", "images",
        "licenses", "annotations", "url", "expires", "includes"]  # fmt: skip
WORDS = ["Dataset", "use", "purpose", "dateTime", "lteq", "DUO:0000042", "CC-BY-4.0", "", "license"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.sampled_from(WORDS) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=25,
)  # fmt: skip


@given(JSON, st.sampled_from(PURPOSES))
@example({"@type": {"@id": ["Dataset"]}, "license": [[["x"]]]}, "research")
@example({"images": [1, {}], "annotations": 0, "licenses": {"id": {}}}, "research")
def test_any_value_is_answered(value: Any, purpose: Any) -> None:
    found = read(value, "x.json")
    if found is None:
        return
    made = answer([found], Asked(purpose, DATE), "x.json: $")
    json.dumps(made.as_json())
    show.markdown([show.row("x", made)])
    # Nothing is permitted that no term permits.
    assert made.verdict == "refused" or any(c.says == "permits" for c in made.clauses)


def test_a_clause_reads_as_a_sentence() -> None:
    clause = Clause(
        "DUO:0000046", "non-commercial use only", "c.json: $.usageInfo", "forbids", "no"
    )
    assert str(clause) == "DUO:0000046 (non-commercial use only): no [c.json: $.usageInfo]"


def test_a_date_is_a_day(tmp_path: Path, run_stage: Any) -> None:
    for date in ("tomorrow", "2026-1-5", "2026-02-30", "2026-01-15T00:00"):
        params = {"purpose": "research", "date": date}
        result, _ = run_stage(STAGE, params, inputs={"dataset": tmp_path})
        assert result.status == "step_error" and "YYYY-MM-DD" in result.message
