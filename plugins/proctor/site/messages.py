"""An event in plain words, for people who are told of it by mail or in Slack.

All of it is names, the gate's question, the addresses of pages, and figures of a drift: no comment
of a person, no message of a step, no subject and no path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from proctor.airflow.answers import WORDS
from proctor.federation.addresses import is_loopback

_LONGEST = 300
_ANYBODY = "whoever may answer this pipeline's questions"


@dataclass(frozen=True)
class Message:
    """What is told. ``id``: of the event, the same in every try. ``lines``: the text, in plain
    words; ``link`` stands by itself."""

    id: str
    subject: str
    lines: tuple[str, ...]
    link: str
    content: Mapping[str, Any]

    @property
    def text(self) -> str:
        """All of it as plain text."""
        return "\n".join((*self.lines, self.link))


def message_of(content: Mapping[str, Any], event_id: str) -> Message:
    """The words for an event."""
    told = hashlib.sha256(f"{content['at']} {event_id}".encode()).hexdigest()[:32]
    return Message(told, _subject(content), tuple(_lines(content)), str(content["link"]), content)


def _subject(content: Mapping[str, Any]) -> str:
    pipeline, gate = _plain(content["pipeline"]), _plain(content["gate"])
    match content["event"]:
        case "question_asked":
            people = _people(content, " or ") or "a person"
            drifted = " has drifted and" if content["findings"] else ""
            words = f"{pipeline}{drifted} waits for {people} ({gate})"
        case "answered":
            words = f"{pipeline}: {_answered(content)} ({gate})"
        case "timed_out":
            words = f"{pipeline} has failed: nobody answered in time ({gate})"
        case _:
            words = f"{pipeline} {_ended(content)}"
    return f"Proctor: {words}"


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    run = f"run {_plain(content['run'])} of {_plain(content['pipeline'])}"
    gate = _plain(content["gate"])
    match content["event"]:
        case "question_asked":
            yield f"The {run} waits for a person at the gate {gate}."
            yield f"Question: {_plain(content['question'])}"
            for finding in content["findings"]:
                yield f"Finding: {_plain(finding)}"
            yield f"May answer: {_people(content, ', ') or _ANYBODY}."
        case "answered":
            yield f"{_answered(content)} at the gate {gate} of the {run}."
            yield f"The question was: {_plain(content['question'])}"
        case "timed_out":
            yield f"Nobody answered in time at the gate {gate}. The {run} cannot go on."
            yield f"The question was: {_plain(content['question'])}"
        case _:
            yield f"The {run} {_ended(content)}."
    yield _where(content)


def _where(content: Mapping[str, Any]) -> str:
    asks = "Answer here" if content["event"] == "question_asked" else "More is here"
    here = is_loopback(urlsplit(str(content["link"])).hostname or "")
    return f"{asks}{', on the machine that runs it' if here else ''}, after a login:"


def _people(content: Mapping[str, Any], between: str) -> str:
    return between.join(map(_plain, content["approvers"]))


def _answered(content: Mapping[str, Any]) -> str:
    decision = _plain(content["decision"])
    return f"{_plain(content['by'])} {WORDS.get(decision, decision)}"


def _ended(content: Mapping[str, Any]) -> str:
    return "has succeeded" if content["state"] == "success" else "has failed"


def _plain(value: Any) -> str:
    """One line of text, as a subject needs it."""
    words = "".join(c if c.isprintable() else " " for c in str(value))
    return " ".join(words.split())[:_LONGEST]
