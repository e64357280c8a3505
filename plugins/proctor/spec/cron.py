"""The five fields of cron: whether they say a time, and when it comes next.

croniter reads them, as Airflow does; what it knows beyond five fields (seconds, years, names such
as ``@daily``) is refused, as other programs read that differently.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime

from croniter import (  # type: ignore[import-untyped]
    CroniterBadDateError,
    CroniterError,
    croniter,
)

from proctor.spec.errors import did_you_mean

FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_REMEDY = "write minute, hour, day, month and day of the week, as in '30 3 * * 1'"
_LONGEST = 200
# What the tables of time zones hold besides: one is this machine's own, and so differs elsewhere.
_NO_ZONES = ("posix", "right/", "localtime")
_SOME_DAY = datetime(2024, 1, 1)


def cron_problem(text: str) -> tuple[str, str] | None:
    """What is wrong with a cron text, and what to do; ``None`` where nothing is."""
    fields = text[: _LONGEST + 1].split()
    if len(text) > _LONGEST or len(fields) != len(FIELDS):
        return f"cron has five fields, {text[:60]!r} has {len(fields)}", _REMEDY
    for number, (field, name) in enumerate(zip(fields, FIELDS, strict=True)):
        alone = ["*"] * len(FIELDS)
        alone[number] = field
        # croniter puts a random or hashed value for R and H: another one each time it is asked.
        if field[0] in "HhRr" or not croniter.is_valid(" ".join(alone)):
            return f"{field!r} is no {name}", _REMEDY
    try:
        croniter(text, _SOME_DAY).get_next(datetime)
    except CroniterBadDateError:
        return f"{text!r} never comes", "there is no such day"
    except CroniterError as error:
        return f"{text!r} cannot be used: {error}", _REMEDY
    return None


def zone_problem(name: str) -> tuple[str, str] | None:
    """What is wrong with a time zone's name, and what to do; ``None`` where nothing is."""
    try:
        if name.startswith(_NO_ZONES):
            raise ValueError(name)
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        hint = did_you_mean(name, zoneinfo.available_timezones())
        hint = hint if hint.startswith("did") else "write it as in Europe/Zurich"
        return f"{name[:60]!r} is no time zone", hint
    return None


def next_tick(cron: str, timezone: str, after: datetime) -> datetime:
    """The first time after another, in UTC, that a checked cron text says.

    It is looked for on the wall clock of the zone, as Airflow does it. Where that is put back, what
    comes every hour comes in both hours, anything else in the second; where it is put forward, what
    falls into the hour that is left out comes an hour later.
    """
    zone = zoneinfo.ZoneInfo(timezone)
    wall = after.astimezone(zone).replace(tzinfo=None, fold=0)
    times = croniter(cron, wall)
    found: datetime = times.get_next(datetime)
    if times.expanded[1] == ["*"]:
        return after.astimezone(UTC) + (found - wall)
    return max(found.replace(tzinfo=zone, fold=n).astimezone(UTC) for n in (0, 1))
