"""Results over time: what can be compared, what stands beside a figure, and for whom."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_pages_of_records import Pages

import drift_kit
from proctor.records import trend as trend_module
from proctor.records.book import Answered, Book, Identity
from proctor.records.judged import findings, limits
from proctor.site.home import Home
from proctor.ui.plot import HEIGHT, WIDTH
from proctor.ui.trend import CHOICES
from proctor_steps.drift.judge import judge_history
from proctor_steps.drift.stage import _metrics
from results_kit import BEGAN, full_home
from trend_kit import OFFLINE, OTHER_IMAGE, accept, approved, finding, judged, measured_run

OFFLINE_TREND = "/results/trend?benchmark=digits&scenario=Offline"
EXPORTS = ("/results/trend.csv", "/results/trend.json")


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pages:
    return Pages(Home(tmp_path), monkeypatch)


def svg(pages: Pages, path: str = OFFLINE_TREND) -> ET.Element:
    """The plot; that it parses says that nothing in it broke out of its place."""
    page = pages.get(path).text
    (found,) = re.findall(r'<svg class="plot" viewBox.*?</svg>', page, re.S)
    return ET.fromstring(found)


def marks(plot: ET.Element) -> list[tuple[str, str]]:
    """Kind and words of every point, oldest first."""
    return [
        (a.get("class", "").removeprefix("point "), str(a.findtext("title")))
        for a in plot.findall("a")
    ]


def test_nothing_yet(pages: Pages) -> None:
    assert "No run has measured anything yet" in pages.text("/results/trend")
    assert "No run has measured anything yet" in pages.text(OFFLINE_TREND)
    for path in EXPORTS:
        assert "This address means nothing that was measured" in pages.text(path, 404)


def test_the_page_results_leads_there(pages: Pages) -> None:
    measured_run(pages.home, 0)
    page = pages.get("/results").text
    assert 'href="/proctor/results/trend"' in page
    assert 'href="/proctor/results/trend?benchmark=digits&amp;scenario=Offline"' in page


def test_kinds_of_results_are_listed_where_several_are_meant(pages: Pages) -> None:
    for number in range(3):
        measured_run(pages.home, number)
    for number, backend in enumerate(("openvino", "torch"), 3):
        measured_run(pages.home, number, sut={"backend": backend, "precision": "f16"})
    text = pages.text(OFFLINE_TREND)
    assert "3 of 3 kinds of results" in text
    assert "bench-1 onnxruntime – 3 times 600.0 samples/s throughput 2026-11-03" in text
    assert "bench-1 openvino f16 1 time 600.0 samples/s" in text
    links = re.findall(r'href="/proctor(/results/trend\?[^"]*)"', pages.get(OFFLINE_TREND).text)
    assert len(links) == 3
    shown = [pages.text(link.replace("&amp;", "&")) for link in links]
    assert ["measurement" in text for text in shown] == [True] * 3
    assert "backend onnxruntime · precision not told · 3 measurements" in shown[0]
    assert "backend torch · precision f16 · 1 measurement " in shown[2]
    assert "One measurement makes no trend." in shown[2]
    assert "Nothing like that was measured." in pages.text("/results/trend?benchmark=none")
    for path in EXPORTS:
        assert "This address means 3 series" in pages.text(f"{path}?benchmark=digits", 404)


def test_a_point_for_every_run_and_the_table_has_the_same(pages: Pages) -> None:
    values = (600.0, 610.5, 580.25)
    for number, value in enumerate(values):
        measured_run(pages.home, number, value)
    plot = svg(pages)
    assert marks(plot) == [
        (
            "plain",
            f"2026-11-0{n + 1} 08:00:03 UTC, digits/day-000{n}: {value:,.1f} samples/s; "
            "machine not looked at",
        )
        for n, value in enumerate(values)
    ]
    assert [a.get("href") for a in plot.findall("a")] == [
        f"/proctor/record/digits/day-000{n}" for n in range(3)
    ]
    assert len(str(plot.find(".//polyline").get("points")).split()) == 3  # type: ignore[union-attr]
    text = pages.text(OFFLINE_TREND)
    places = [
        text.index(f"digits/day-000{n} running {v:,.1f} samples/s") for n, v in enumerate(values)
    ]
    assert places == sorted(places, reverse=True)
    assert "No limits: no drift step has judged this figure. No baseline:" in text
    assert "Higher is better." in text


def test_every_place_of_the_plot_is_inside_of_it(pages: Pages) -> None:
    measured_run(pages.home, 0, 0.0)
    alone = svg(pages)
    for number in range(1, 5):
        measured_run(pages.home, number * 40, 10.0**number)
    for plot in (alone, svg(pages)):
        for each in plot.iter():
            for name, limit in (("cx", WIDTH), ("x1", WIDTH), ("cy", HEIGHT), ("y1", HEIGHT)):
                assert 0 <= float(each.get(name, 0)) <= limit
        labels = [t.text for t in plot.findall("g/text")]
        assert len(labels) == len(set(labels)) and 5 < len(labels) < 25


def test_figures_are_chosen(pages: Pages) -> None:
    measured_run(pages.home, 0)
    text = pages.text(f"{OFFLINE_TREND}&figure=latency_p99")
    assert "digits/day-0000 running 7.00 ms" in text and "Lower is better." in text
    page = pages.get(OFFLINE_TREND).text
    assert re.findall(r'<option value="(\w+)"', page) == [
        "throughput",
        *(f"latency_{name}" for name in ("p50", "p90", "p99", "p999")),
    ]
    assert "no run has measured speed of this" in pages.text(f"{OFFLINE_TREND}&figure=speed", 404)
    assert "last: Input should be" in pages.text(f"{OFFLINE_TREND}&last=x", 422)


def test_a_disturbed_or_invalid_run_is_marked_and_no_part_of_the_line(pages: Pages) -> None:
    measured_run(pages.home, 0, disturbed=())
    measured_run(pages.home, 1, 300.0, disturbed=("another process took 40 % of a core",))
    measured_run(pages.home, 2, 200.0, valid=False)
    measured_run(pages.home, 3)
    plot = svg(pages)
    assert [kind for kind, _ in marks(plot)] == ["plain", "disturbed", "invalid", "plain"]
    assert "machine not quiet: another process took 40 % of a core" in marks(plot)[1][1]
    assert "LoadGen: INVALID" in marks(plot)[2][1]
    assert len(str(plot.find(".//polyline").get("points")).split()) == 2  # type: ignore[union-attr]
    text = pages.text(OFFLINE_TREND)
    assert "300.0 samples/s – not quiet: another process took 40 % of a core VALID" in text
    assert "200.0 samples/s – not looked at INVALID" in text
    assert "600.0 samples/s – quiet VALID" in text


def test_what_became_another_is_told_where_it_did(pages: Pages) -> None:
    measured_run(pages.home, 0, versions={"openvino": "2026.1"})
    measured_run(pages.home, 1, versions={"openvino": "2026.1"}, sut={"threads": 1})
    measured_run(pages.home, 2, versions={"openvino": "2026.2"}, image=OTHER_IMAGE)
    measured_run(pages.home, 3, versions={"openvino": "2026.2"}, image=OTHER_IMAGE)
    text = pages.text(OFFLINE_TREND)
    changed = "image digest: 111111111111 → 222222222222; packages openvino: 2026.1 → 2026.2"
    assert f"What became another 2026-11-03 08:00:03 UTC, digits/day-0002 : {changed}" in text
    assert [t.text for t in svg(pages).findall("g[@class='changes']/text")] == ["1"]
    assert "VALID – settings threads: 2 → 1" in text  # asked for, not made of: in the table alone
    assert "VALID – nothing that is told" in text


def test_answers_stand_beside_their_run(pages: Pages) -> None:
    measured_run(pages.home, 0, answer=approved())
    measured_run(pages.home, 1, answer=approved(answered_via="cli-yes", evidence_reviewed=False))
    measured_run(pages.home, 2, answer=approved("bob", decision="rejected"))
    words = [title.partition("looked at; ")[2] for _, title in marks(svg(pages))]
    assert words == [
        "approved by ada at approve",
        "approved by --yes at approve, without a review",
        "rejected by bob at approve",
    ]
    assert all(word in pages.text(OFFLINE_TREND) for word in words)


def test_baselines_are_lines_for_as_long_as_they_held(pages: Pages) -> None:
    first, _, last = (measured_run(pages.home, n, v) for n, v in enumerate((600.0, 605.0, 550.0)))
    assert "No baseline: no result" in pages.text(OFFLINE_TREND)
    accept(pages.home, first)
    accept(pages.home, last, "bob")
    text = pages.text(OFFLINE_TREND)
    was = "baseline 600.0 samples/s, set by ada, 2"
    now = "baseline 550.0 samples/s, set by bob, 2"
    assert was in text and now in text and "to now digits/day-0002/performance.Offline/1" in text
    assert "No baseline" not in text
    plot = svg(pages)
    rings = [a.find("circle[@class='ring']") is not None for a in plot.findall("a")]
    assert rings == [True, False, True]
    assert marks(plot)[0][1].endswith("; baseline")
    told = pages.get("/results/trend.json").json()
    assert [point["baseline"] for point in told["points"]] == [True, False, True]
    old, new = told["baselines"]
    assert (old["value"], old["by"], new["until"]) == (600.0, "ada", "")
    assert old["until"] == new["since"] > old["since"]
    Book(pages.home.path).add("retired", by="ada", identities=[_all(pages)[0].found.identity])
    assert "to now" not in pages.text(OFFLINE_TREND)


def test_a_baseline_that_held_then_is_drawn_where_it_held(pages: Pages) -> None:
    begin = datetime.now(UTC) - BEGAN
    for number in range(4):
        record = measured_run(pages.home, begin.days - 1 + number)
        if not number:
            accept(pages.home, record)
    (level,) = svg(pages).findall("g[@class='baselines']/line")
    left, right = (float(level.get(name, "")) for name in ("x1", "x2"))
    assert 0 < left < right <= WIDTH


def test_a_baseline_of_a_hidden_pipeline_is_not_told(pages: Pages) -> None:
    measured_run(pages.home, 0)
    accept(pages.home, measured_run(pages.home, 1, 777.0, pipeline="secret"))
    assert "baseline 777.0" in pages.text(OFFLINE_TREND)
    pages.hidden = {"secret"}
    assert "777" not in pages.get(OFFLINE_TREND).text
    assert pages.get("/results/trend.json").json()["baselines"] == []


def test_findings_that_a_person_left_open_are_told(pages: Pages) -> None:
    measured_run(pages.home, 0)
    identity = _all(pages)[0].found.identity
    Book(pages.home.path).add("opened", by="ada", why="the fan is broken", identities=[identity])
    text = pages.text(OFFLINE_TREND)
    assert "Open findings ada kept the old baseline, 2" in text and "UTC: the fan is broken" in text
    accept(pages.home, pages.home.records.run("digits", "day-0000"))
    assert "the fan is broken" not in pages.text(OFFLINE_TREND)


def test_a_finding_of_a_hidden_pipeline_is_not_told(pages: Pages) -> None:
    measured_run(pages.home, 0)
    identity = _all(pages)[0].found.identity
    of = Answered(pipeline="secret", run="r", gate="g", line="ab" * 32, via="ui")
    Book(pages.home.path).add(
        "opened", by="ada", why="the fan is broken", identities=[identity], answer=of
    )
    assert "the fan is broken" in pages.text(OFFLINE_TREND)
    pages.hidden = {"secret"}
    assert "fan" not in pages.get(OFFLINE_TREND).text


def test_baselines_that_were_changed_are_left_out_and_said_so(pages: Pages) -> None:
    record = measured_run(pages.home, 0)
    accept(pages.home, record)
    book = Book(pages.home.path).path
    book.write_text(book.read_text().replace('"by":"ada"', '"by":"eve"'))
    text = pages.text(OFFLINE_TREND)
    assert "The baselines are left out: the baselines were changed" in text and "eve" not in text
    assert "1 measurement" in text
    assert "the baselines were changed" in pages.text("/results/trend.json", 500)


def test_limits_are_a_band_and_who_is_outside_is_told(pages: Pages) -> None:
    measured_run(pages.home, 0)
    measured_run(pages.home, 1, drift=judged(580.0, 620.0))
    measured_run(pages.home, 2, 500.0, drift=judged(585.0, 615.0))
    measured_run(pages.home, 3)
    measured_run(pages.home, 4, drift=judged(590.0, 610.0))
    plot = svg(pages)
    bands = [str(p.get("points")).split() for p in plot.findall("g[@class='limits']/polygon")]
    assert [len(corners) for corners in bands] == [8, 4]  # two runs in steps, and one alone
    text = pages.text(OFFLINE_TREND)
    assert "600.0 samples/s 580.0 to 620.0 samples/s not looked" in text
    assert "500.0 samples/s 585.0 to 615.0 samples/s, outside" in text
    assert "No limits" not in text
    rows = list(csv.DictReader(io.StringIO(pages.get("/results/trend.csv").text)))
    assert [row["low"] for row in rows] == ["", "580.0", "585.0", "", "590.0"]
    assert "No limits" in pages.text(f"{OFFLINE_TREND}&figure=latency_p99")


@pytest.mark.parametrize(
    "drift",
    [
        {"state": "steady", "limits": "none"},
        {"state": "steady", "limits": [3, {"figure": "throughput", "low": "a", "high": 3}]},
        {"state": 3, "limits": []},
        judged(float("1e400"), 2.0),
    ],
)
def test_limits_that_are_none(pages: Pages, drift: dict[str, Any]) -> None:
    measured_run(pages.home, 0, drift=drift)
    assert "No limits" in pages.text(OFFLINE_TREND)


def test_a_drift_in_words_tells_names_and_sizes_alone() -> None:
    many = [finding(series=f"digits {n}", size=-0.2, direction="better") for n in range(7)]
    odd = [finding(series="A01/x: /data", figure=3), finding(size=None, figure="accuracy")]
    assert findings({"findings": [finding(), *odd, finding(decision="undecided"), 7]}) == (
        "digits Offline: latency p99 +12.3 % (worse)",
        "a figure: a figure +12.3 % (worse)",
        "digits Offline: accuracy is not as it was accepted",
    )
    told = findings({"findings": many})
    assert told[0] == "digits 0: latency p99 -20 % (better)" and told[-1] == "and 2 more"
    assert findings({}) == findings({"findings": "x"}) == ()


def test_what_the_drift_step_tells_is_understood() -> None:
    drift = _metrics(judge_history(drift_kit.history(drift_kit.stream([1.2, 1.2, 1.2]))))
    assert drift["state"] == "drifted"
    (told,) = findings(drift)
    assert re.fullmatch(r"digits SingleStream: latency p90 \+[12]\d(\.\d)? % \(worse\)", told)
    (limit,) = limits({"drift": [drift]})
    assert limit.identity == Identity("digits", "SingleStream", "host")
    assert limit.figure == "latency_p90" and 0.8e6 < limit.low < 1e6 < limit.high < 1.2e6


def test_who_may_not_see_a_pipeline_sees_none_of_its_points(pages: Pages) -> None:
    measured_run(pages.home, 0)
    measured_run(pages.home, 1, 777.0, pipeline="secret")
    assert "2 measurements" in pages.text(OFFLINE_TREND)
    pages.hidden = {"secret"}
    for path in (OFFLINE_TREND, *(f"{each}?benchmark=digits" for each in EXPORTS)):
        found = pages.get(path).text
        assert "secret" not in found and "777" not in found
    pages.hidden = {"secret", "digits"}
    assert "No run has measured anything yet" in pages.text("/results/trend")


def test_what_is_shown_is_downloaded(pages: Pages) -> None:
    measured_run(pages.home, 0, disturbed=("=a formula",))
    measured_run(pages.home, 1, 610.0, image=OTHER_IMAGE, answer=approved())
    page = pages.get(OFFLINE_TREND).text
    links = [
        link.replace("&amp;", "&") for link in re.findall(r'href="/proctor([^"]*)" download', page)
    ]
    first, second = csv.DictReader(io.StringIO(pages.get(links[0]).text))
    assert (first["value"], first["disturbed"], first["run"]) == (
        "600.0",
        "'=a formula",
        "day-0000",
    )
    assert (second["at"], second["attempt"]) == ("2026-11-02T08:00:03.000+00:00", "1")
    assert second["step"] == OFFLINE and second["answers"] == "approved by ada at approve"
    assert second["changed"] == "image digest: 111111111111 → 222222222222"
    told = pages.get(links[1]).json()
    assert told["format"] == "proctor.trend/1" and told["backend"] == "onnxruntime"
    assert (told["figure"], told["unit"], told["points_in_all"]) == ("throughput", "samples/s", 2)
    assert [point["value"] for point in told["points"]] == [600.0, 610.0]
    (change,) = told["points"][1]["changed"]
    assert change["kind"] == "image" and change["now"] == OTHER_IMAGE
    one = pages.get(f"{links[1]}&last=1").json()  # the last word counts
    assert [point["run"] for point in one["points"]] == ["day-0001"] and one["points_in_all"] == 2


def test_what_a_step_wrote_is_text(pages: Pages) -> None:
    name = '"><script>alert(1)</script>'
    measured_run(pages.home, 0, sut={"backend": name}, disturbed=(name,))
    measured_run(pages.home, 1, versions={name: name}, sut={"backend": name})
    assert len(marks(svg(pages))) == 2
    assert "<script>alert" not in pages.get(OFFLINE_TREND).text


def test_a_damaged_run_is_counted_and_hides_no_other(pages: Pages) -> None:
    measured_run(pages.home, 0)
    damaged = measured_run(pages.home, 1)
    damaged.path.write_bytes(damaged.path.read_bytes().replace(b'"kind":"result"', b'"kind":1', 1))
    for path in (OFFLINE_TREND, "/results/trend"):
        assert "1 run cannot be read and is left out" in pages.text(path)
    assert "1 measurement" in pages.text(OFFLINE_TREND)


def test_a_figure_with_another_unit_is_another_figure(pages: Pages) -> None:
    measured_run(pages.home, 0)
    record = measured_run(pages.home, 1)
    raw = record.path.read_text()
    assert "samples/s" in raw
    text = pages.text(OFFLINE_TREND)
    assert "another unit" not in text
    other = trend_module.trend(
        [_in_unit(each, "queries/s" if n else "samples/s") for n, each in enumerate(_all(pages))]
    )
    assert (other.unit, len(other.points), other.other_units) == ("queries/s", 1, 1)


def _all(pages: Pages) -> list[trend_module.Measurement]:
    from proctor.records.results import Results

    runs = Results(pages.home.path).of(["digits"])
    return trend_module.Trends(pages.home.path).of(runs)


def _in_unit(each: trend_module.Measurement, unit: str) -> trend_module.Measurement:
    figures = tuple(f.model_copy(update={"unit": unit}) for f in each.found.measured.figures)
    told = each.found.measured.model_copy(update={"figures": figures})
    return trend_module.Measurement(
        each.run, each.found.model_copy(update={"measured": told}), each.at
    )


def test_a_thousand_runs_are_read_once(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    full_home(pages.home.path, 1000, pipelines=("digits",), scenarios=("Offline",))
    read: list[str] = []
    real = trend_module.measured
    monkeypatch.setattr(
        trend_module,
        "measured",
        lambda store, record: read.append(record.run) or real(store, record),
    )
    trend_module.trends_of.cache_clear()
    text = pages.text(OFFLINE_TREND)
    assert len(read) == 1000 and f"the newest {CHOICES[1]} of 1,000 measurements" in text
    assert len(marks(svg(pages))) == CHOICES[1] and len(read) == 1000
    assert len(marks(svg(pages, f"{OFFLINE_TREND}&last=1000"))) == 1000
    rows = list(csv.DictReader(io.StringIO(pages.get("/results/trend.csv?last=1000").text)))
    assert len(rows) == 1000 and len(read) == 1000
    again = pages.home.records.run("digits", rows[7]["run"])
    again.append("refused", step="approve", data={"message": "no"})
    pages.get(OFFLINE_TREND)
    assert read[1000:] == [again.run]
    assert json.loads(pages.get("/results/trend.json").text)["points_in_all"] == 1000
