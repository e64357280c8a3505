"""Reading a container's log in pieces, on entries as an engine stamps them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctor.runtime.docker_log import Piece, Position, gather, unread


def at(number):
    return f"2026-01-02T03:04:05.{number:09d}Z"


def read(log, since="", ended=False, limit=64 * 1024):
    position = Position.parse(since)
    # As the engine filters: what is older than the position's stamp does not come.
    kept = [piece for piece in log if piece.stamp >= position.stamp]
    return gather(unread(kept, position), position, ended=ended, limit=limit)


def test_positions_round_trip():
    assert str(Position.parse("")) == ""
    assert Position.parse("nonsense") == Position()
    assert str(Position.parse(f"{at(1)}/2")) == f"{at(1)}/2"
    assert Position(at(123456789), 1).since() == "1767323045.123456789"
    assert Position().since() is None


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
    stamp, log, wanted = 0, [], {1: b"", 2: b""}
    for number, (step, stream, whole) in enumerate(entries):
        stamp += step
        data = f"[{number}]".encode() + (b"\n" if whole else b"")
        log.append(Piece(at(stamp), stream, data))
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
    since = Position(stamp, 1).since()
    assert since.endswith(stamp[20:29])
