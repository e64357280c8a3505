"""Components that live and do nothing are found by their silence."""

from __future__ import annotations

from proctor.site.watchdog import HUNG_SECONDS, LOOK_SECONDS, Watchdog


class Site:
    """A clock, and who is silent at the moment."""

    def __init__(self) -> None:
        self.now, self.quiet, self.asked = 0.0, set[str](), 0
        self.dog = Watchdog(self.silent, lambda: self.now)

    def silent(self) -> set[str]:
        self.asked += 1
        return self.quiet

    def after(self, seconds: float) -> list[str]:
        found, end = [], self.now + seconds
        while self.now < end:
            self.now += 1
            found += self.dog.hung()
        return found


def test_a_long_silence_is_told_once_and_again_when_a_restart_did_not_help() -> None:
    site = Site()
    site.quiet = {"triggerer"}
    assert site.after(HUNG_SECONDS - LOOK_SECONDS) == []
    assert site.after(3 * LOOK_SECONDS) == ["triggerer"]
    assert site.after(HUNG_SECONDS + 2 * LOOK_SECONDS) == ["triggerer"]


def test_who_is_heard_again_starts_from_nothing() -> None:
    site = Site()
    for _ in range(5):
        site.quiet = {"scheduler"}
        assert site.after(HUNG_SECONDS - 2 * LOOK_SECONDS) == []
        site.quiet = set()
        assert site.after(2 * LOOK_SECONDS) == []


def test_it_asks_now_and_then() -> None:
    site = Site()
    site.after(100)
    assert site.asked <= 100 / LOOK_SECONDS + 1
