"""When a pipeline starts by itself, as a spec says it; what is wrong stands in golden/errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pendulum
import pytest
from airflow.timetables.trigger import CronTriggerTimetable

from proctor.plan.compile import compile
from proctor.spec.cron import cron_problem, next_tick, zone_problem
from proctor.spec.load import parse_pipeline

STEPS = "steps: [{id: a, image: proctor/steps, command: selfcheck act}]\n"


def test_text_is_the_short_form_of_cron() -> None:
    short = parse_pipeline(f"schedule: 0 3 * * 1\n{STEPS}", "s.yaml").schedule
    assert short == parse_pipeline(f"schedule: {{cron: 0 3 * * 1}}\n{STEPS}", "s.yaml").schedule
    assert short is not None
    assert (short.timezone, short.catch_up, short.assets) == ("UTC", False, ())


def test_both_a_time_and_a_source() -> None:
    spec = f"""
params: {{model: {{type: uri, default: "https://example.org/m.onnx"}}}}
schedule: {{cron: 0 3 * * 1, timezone: Europe/Zurich, assets: model, every: 1h}}
{STEPS}"""
    given = parse_pipeline(spec, "s.yaml").schedule
    assert given is not None
    assert (given.assets, given.every) == (("model",), 3600)


def test_a_plan_is_the_same_with_and_without_a_schedule() -> None:
    """It tells what a run does, not when: an edited time does not stop a run that is under way."""
    plain = compile(parse_pipeline(f"pipeline: p\n{STEPS}", "s.yaml"))
    timed = compile(parse_pipeline(f"pipeline: p\nschedule: 0 3 * * 1\n{STEPS}", "s.yaml"))
    assert plain.digest == timed.digest


@pytest.mark.parametrize("text", ["* * * * *", "*/5 0-6 1,15 * MON-FRI", "0 0 29 2 *", "5 4 * * 7"])
def test_good_times(text: str) -> None:
    assert cron_problem(text) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("@daily", "five fields"),
        ("", "five fields"),
        ("0 3 * *", "five fields"),
        ("0 0 3 * * 1", "five fields"),
        ("* " * 1000, "five fields"),
        ("60 3 * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 3 0 * *", "'0' is no day of the month"),
        ("0 3 * 13 *", "'13' is no month"),
        ("0 3 * * 8", "'8' is no day of the week"),
        ("*/0 3 * * *", "'*/0' is no minute"),
        ("H 3 * * *", "'H' is no minute"),
        ("R 3 * * *", "'R' is no minute"),
        ("0 3 30 2 *", "never comes"),
    ],
)
def test_what_is_no_time(text: str, told: str) -> None:
    problem = cron_problem(text)
    assert problem is not None
    assert told in problem[0]


@pytest.mark.parametrize(
    "name", ["", "Europe", "../../etc/passwd", "/etc/passwd", "a\0b", "localtime"]
)
def test_what_is_no_time_zone(name: str) -> None:
    assert zone_problem(name) is not None
    assert zone_problem("America/New_York") is None


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 3 * * 0", "0 */6 * * *", "*/20 * * * *"])
def test_the_next_tick_is_what_airflow_takes_it_for(cron: str, zone: str) -> None:
    """Also over the days when clocks are put forward or back."""
    airflow = CronTriggerTimetable(cron, timezone=zone)
    changes = [datetime(2026, 3, 29), datetime(2026, 10, 25), datetime(2026, 3, 8)]
    for number in range(-30, 30):
        after = changes[number % 3].replace(tzinfo=UTC) + timedelta(minutes=37 * number)
        assert next_tick(cron, zone, after) == airflow._get_next(pendulum.instance(after)), after


def test_a_tick_is_after_the_one_before() -> None:
    tick = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
    assert next_tick("0 3 * * 0", "Europe/Zurich", tick) == tick + timedelta(days=7)


def test_shipped_specs_say_no_time(tmp_path: Path) -> None:
    """Who installs Proctor is not surprised by a run."""
    from proctor.shipped import shipped
    from proctor.spec.load import load_pipeline

    for path in shipped("pipeline_specs").glob("*.yaml"):
        assert load_pipeline(path).schedule is None, path
