"""Reading a container's log in pieces, on entries as an engine stamps them."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor.runtime.docker_log import Mark, Piece, Position, gather, unread


def at(number, second=5):
    return f"2026-01-02T03:04:{second:02d}.{number:09d}Z"


def seconds(stamp):
    """As the engine reads a stamp: seconds, and nanoseconds apart."""
    return int(datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp()), int(stamp[20:29])


def read(log, since="", ended=False, limit=64 * 1024):
    position = Position.parse(since)
    # As the engine filters: what is older than it was asked for does not come.
    oldest = tuple(int(part) for part in (position.since() or "0.0").split("."))
    kept = [piece for piece in log if seconds(piece.stamp) >= oldest]
    return gather(unread(kept, position), position, ended=ended, limit=limit)


@pytest.mark.parametrize("text", ["", f"{at(1)}/2,", f",{at(1)}/2", f"{at(1)}/2,{at(3)}/1"])
def test_positions_round_trip(text):
    assert str(Position.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["nonsense", ",", "/", ",,", "a/1,b/2", f"{at(1)}/2", f"{at(1)}/x,", f"{at(1)},"],
)
def test_what_is_no_position_is_the_beginning(text):
    assert Position.parse(text) == Position()


def test_the_engine_is_asked_from_before_the_mark_furthest_behind():
    early, late = Mark(at(123456789), 1), Mark(at(5, second=9), 1)
    assert Position().since() is None
    for position in (
        Position(early),
        Position(errors=early),
        Position(early, late),
        Position(late, early),
    ):
        assert position.since() == "1767323044.123456789"


def test_a_piece_written_behind_a_later_stamp_of_the_other_stream_comes_once():
    log = [Piece(at(5), 1, b"out 5\n"), Piece(at(9), 2, b"err 9\n")]
    first = read(log)
    assert first.lines == ("out 5", "err 9")
    log.append(Piece(at(7), 1, b"out 7\n"))
    second = read(log, first.next)
    assert second.lines == ("out 7",)
    assert read(log, second.next).lines == ()
    assert read(log, second.next).next == second.next


def test_a_late_piece_comes_once_however_far_the_other_stream_is():
    log = [Piece(at(5), 1, b"out\n"), Piece(at(0, second=50), 2, b"err\n")]
    first = read(log)
    log.append(Piece(at(6), 1, b"late\n"))
    assert read(log, first.next).lines == ("late",)


@pytest.mark.parametrize(("seen", "unseen"), [(1, 2), (2, 1)])
def test_a_streams_first_line_may_be_stamped_before_the_others_last(seen, unseen):
    log = [Piece(at(5), seen, b"a\n"), Piece(at(9), seen, b"b\n")]
    first = read(log)
    assert first.lines == ("a", "b")
    log.append(Piece(at(7), unseen, b"first\n"))
    second = read(log, first.next)
    assert second.lines == ("first",)
    assert read(log, second.next).lines == ()


def test_streams_sharing_a_stamp_are_counted_apart():
    log = [Piece(at(1), 1, b"a\n"), Piece(at(1), 2, b"b\n")]
    first = read(log, limit=1)
    assert first.lines == ("a",)
    second = read(log, first.next)
    assert second.lines == ("b",)
    assert read(log, second.next).lines == ()


def test_equal_stamps_are_counted():
    log = [Piece(at(1), 1, b"a\n"), Piece(at(1), 1, b"b\n")]
    first = read(log, limit=1)
    assert first.lines == ("a",)
    log.append(Piece(at(1), 1, b"c\n"))
    second = read(log, first.next)
    assert second.lines == ("b", "c")
    assert read(log, second.next).lines == ()
    assert read(log, second.next).next == second.next


def test_an_open_line_waits_and_holds_back_what_follows():
    log = [Piece(at(1), 1, b"a\n"), Piece(at(2), 1, b"half"), Piece(at(3), 2, b"error\n")]
    first = read(log)
    assert first.lines == ("a",)
    log.append(Piece(at(4), 1, b" done\n"))
    assert read(log, first.next).lines == ("error", "half done")
    assert read(log[:3], first.next, ended=True).lines == ("error", "half")


def test_a_line_beyond_the_limit_comes_in_parts():
    log = [Piece(at(n), 1, b"x" * 10) for n in range(1, 6)]
    first = read(log, limit=20)
    assert first.lines == ("x" * 20,)
    assert read(log, first.next, limit=20).lines == ("x" * 20,)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 2]), st.booleans()), max_size=30),
    st.integers(1, 40),
)
def test_nothing_is_lost_or_repeated(entries, limit):
    # Each stream has its own clock: the engine writes them to the log in any order.
    stamps, log, wanted = {1: 0, 2: 0}, [], {1: b"", 2: b""}
    for number, (step, stream, whole) in enumerate(entries):
        stamps[stream] += step
        data = f"[{number}]".encode() + (b"\n" if whole else b"")
        log.append(Piece(at(stamps[stream]), stream, data))
        wanted[stream] += data.rstrip(b"\n")
    said, since, grown = "", "", 0
    while True:
        grown = min(len(log), grown + 3)
        ended = grown == len(log)
        chunk = read(log[:grown], since, ended=ended, limit=limit)
        said += "".join(chunk.lines)
        if ended and chunk.next == since:
            break
        since = chunk.next
    assert sorted(said) == sorted((wanted[1] + wanted[2]).decode())
    for number in range(len(log)):
        assert said.count(f"[{number}]") == 1


@pytest.mark.parametrize("stamp", [at(0), at(999999999)])
def test_since_is_never_behind_its_stamp(stamp):
    since = Position(Mark(stamp, 1)).since()
    assert since.endswith(stamp[20:29])
