"""The stage ``drift judge``: what it reads, what it leaves, and the page to decide by."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import drift_kit as kit
from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.drift.stage import STAGE
from proctor_steps.drift.verdict import DriftVerdict
from proctor_steps.history import HISTORY_FILE, History
from proctor_steps.stage import execute

HOSTILE = '<script>alert("x")</script>&<b>'


def run(folder: Path, place: Path | None, kind: Any = "history") -> tuple[Result, Path]:
    """As the orchestrator runs it, with the history mounted at a place."""
    out, step = folder / "out", folder / "step"
    out.mkdir()
    step.mkdir()
    mounts = [Mount(name="verdict", kind="output", path=str(out))]
    if place is not None:
        mounts.append(Mount(name="history", kind=kind, path=str(place)))
    execute(STAGE, Contract(pipeline="p", run="r", step="judge", mounts=tuple(mounts)), step)
    result = load_result(step)
    assert result is not None
    return result, out


def written(folder: Path, history: History | str) -> Path:
    made = folder / "history"
    made.mkdir()
    text = history if isinstance(history, str) else history.model_dump_json()
    (made / HISTORY_FILE).write_text(text)
    return made


DRIFTED = kit.history(
    kit.stream([1.2, 1.2], made_by=kit.made(packages_onnxruntime="1.21.0")), kit.offline([1.0, 1.0])
)


@pytest.mark.parametrize("kind", ["history", "input"])
def test_verdict_findings_and_metrics_say_the_same(tmp_path: Path, kind: str) -> None:
    result, out = run(tmp_path, written(tmp_path, DRIFTED), kind)
    assert result.status == "ok", result.message
    verdict = DriftVerdict.model_validate_json((out / "verdict.json").read_bytes())
    raw = json.loads((out / "verdict.json").read_text())
    assert raw["state"] == verdict.state == "drifted"  # what a spec's condition reads
    drift: Any = result.metrics["drift"]
    assert drift["state"] == "drifted"
    assert drift["series"] == {"digits SingleStream": "drifted", "digits Offline": "steady"}
    told = {(each["scenario"], each["figure"]): each for each in drift["limits"]}
    assert set(told) == {("SingleStream", "latency_p90"), ("Offline", "throughput")}
    for series in verdict.series:
        (figure,) = series.figures
        limits = told[series.scenario, figure.figure]
        assert (limits["low"], limits["high"]) == figure.limits
        assert (limits["system"], limits["backend"]) == ("host", "")
    (short,) = drift["findings"]
    assert short["differs"] == ["packages onnxruntime: 1.20.0 → 1.21.0"]
    (finding,) = result.findings
    assert (finding.rule, finding.severity, finding.where) == (
        "drift", "error", "digits SingleStream",
    )  # fmt: skip
    assert finding.message == verdict.findings[0].message


def test_what_the_history_lacks_is_told(tmp_path: Path) -> None:
    history = kit.history(kit.stream([1.0])).model_copy(update={"left_out": ("p/r3: line 4",)})
    result, _ = run(tmp_path, written(tmp_path, history))
    (finding,) = result.findings
    assert (finding.rule, finding.severity) == ("history_left_out", "warning")
    assert "p/r3: line 4" in finding.message


def test_the_history_may_be_mounted_as_a_file(tmp_path: Path) -> None:
    result, _ = run(tmp_path, written(tmp_path, DRIFTED) / HISTORY_FILE)
    assert result.status == "ok", result.message


@pytest.mark.parametrize(
    ("series", "state", "findings"),
    [
        (kit.stream([1.0]), "steady", []),
        (kit.stream([1.2]), "undecided", [("drift", "warning")]),
        (kit.stream([0.8, 0.8]), "drifted", [("drift", "warning")]),
        (kit.stream([1.0], baseline=None), "no_baseline", [("no_baseline", "info")]),
        (kit.stream([1.5], disturbed=("hot",)), "disturbed", [("disturbed", "warning")]),
    ],
)
def test_each_state(tmp_path: Path, series: Any, state: str, findings: Any) -> None:
    result, out = run(tmp_path, written(tmp_path, kit.history(series)))
    assert result.status == "ok", result.message
    assert json.loads((out / "verdict.json").read_text())["state"] == state
    assert [(f.rule, f.severity) for f in result.findings] == findings
    assert (out / "drift.html").read_text().count("</svg>") == (state != "no_baseline")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not what Proctor writes"),
        ('{"series": [{"benchmark": 3}]}', "series.0.benchmark"),
        ('{"format": "proctor.history/9"}', "format"),
        ('{"format": "proctor.history/1"}', "no result of this run"),
    ],
)
def test_a_history_that_cannot_be_used_is_told(tmp_path: Path, content: str, words: str) -> None:
    result, _ = run(tmp_path, written(tmp_path, content))
    assert result.status == "data_error"
    assert words in result.message


def test_no_history_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    result, _ = run(tmp_path / "a", None)
    assert (result.status, "history: true" in result.message) == ("step_error", True)
    (tmp_path / "empty").mkdir()
    result, _ = run(tmp_path, tmp_path / "empty")
    assert result.status == "data_error"
    assert "no history.json" in result.message


# --- the page ------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "href") or str(value).startswith("#")

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def page(tmp_path: Path, history: History) -> tuple[str, Page]:
    _, out = run(tmp_path, written(tmp_path, history))
    text = (out / "drift.html").read_text()
    return text, Page(text)


def test_the_page_shows_plots_changes_and_both_records(tmp_path: Path) -> None:
    text, found = page(tmp_path, DRIFTED)
    assert found.tags.count("svg") == 2
    assert "script" not in found.tags and "img" not in found.tags
    words = " ".join(found.words)
    for wanted in (
        "Drifted",
        "What was accepted does not hold any more",
        "latency p90",
        "worse",
        "over 99.9 %",
        "1.20.0",
        "1.21.0",
        "Last steady run",
        "revalidation/r12/performance/1",
        "things are the same",
        "6.8.0",
    ):
        assert wanted in words, wanted
    one = text[text.index("<svg") : text.index("</svg>")]
    kinds = re.findall(r'class="probe (\w+)"', one)
    assert kinds == ["baseline", *["history"] * 12, "now", "now"]
    assert one.count('class="limits"') == one.count('class="warning"') == 1


def test_disturbed_runs_are_drawn_as_such(tmp_path: Path) -> None:
    loud = kit.measured(30, kit.latency(1.5), disturbed=("another process",))
    runs = [kit.measured(i, kit.latency(x)) for i, x in enumerate(kit.scattered(5), 1)]
    now = [
        kit.measured("now", kit.latency(1.4), disturbed=("hot",)),
        kit.measured("now", kit.latency(1.0), step="performance-2"),
    ]
    text, found = page(tmp_path, kit.history(kit.stream(now, [*runs, loud])))
    kinds = re.findall(r'class="probe (\w+)"', text)
    assert kinds == ["baseline", *["history"] * 5, "unquiet", "unquiet", "now"]
    assert "are not judged (hot)" in " ".join(found.words)


def test_nothing_of_a_record_is_markup(tmp_path: Path) -> None:
    made = {HOSTILE: {HOSTILE: HOSTILE}}
    series = kit.stream([1.3, 1.3], made_by=made).model_copy(
        update={"benchmark": HOSTILE, "scenario": HOSTILE, "system": HOSTILE}
    )
    text, found = page(tmp_path, kit.history(series))
    assert HOSTILE not in text
    assert "script" not in found.tags
    assert any(HOSTILE in words for words in found.words)


def test_a_page_of_figures_that_are_all_the_same_or_one_alone(tmp_path: Path) -> None:
    page(tmp_path, kit.history(kit.stream([1.0], [1.0] * 9), kit.offline([1.0], [])))


def test_the_statistics_are_loaded_by_this_stage_alone() -> None:
    """Whatever else a step does does not wait for scipy."""
    code = "import sys, proctor_steps.drift.stage as s; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
