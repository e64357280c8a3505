"""``dataset policy``: what of a dataset may be used for the purpose, before any compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from proctor_steps.contract import Purpose
from proctor_steps.dataset.link import link_or_copy
from proctor_steps.policy import folder
from proctor_steps.policy.answer import FILE, Answer, answer
from proctor_steps.policy.clauses import Asked, is_date
from proctor_steps.policy.metadata import Metadata
from proctor_steps.stage import DataError, Stage, StageParams, StepIO


class UsageParams(StageParams):
    """What every stage is told that checks the use of data."""

    date: str = Field(
        default="", description="date of use, YYYY-MM-DD: a spec gives ${run.date}, its run's start"
    )
    accept: str = Field(
        default="",
        description="a person's reason to go on where licences and policies leave the use open",
    )

    @field_validator("accept")
    @classmethod
    def _plain(cls, value: str) -> str:
        return value.strip()

    @field_validator("date")
    @classmethod
    def _is_date(cls, value: str) -> str:
        if value and not is_date(value):
            raise ValueError("write YYYY-MM-DD")
        return value


class Params(UsageParams):
    """Parameters of ``dataset policy``."""

    purpose: Purpose = Field(description="what the data are used for: a spec gives ${run.purpose}")


def run(params: Params, io: StepIO) -> None:
    """Put what may be used of the input ``dataset`` into the output ``dataset``.

    Raises:
        DataError: nothing of it may be used, or what may not cannot be left out.
    """
    source, out = io.input("dataset"), io.output("dataset")
    ask = Asked(params.purpose, params.date, params.accept)
    found = folder.beside(source)
    own = {each.where: each for each in found}
    for extra in io.inputs("metadata").values():
        found += folder.given(extra)
    decided = decide(answer(found, ask, f"no {', '.join(folder.NAMES)}"), io)
    names = folder.files_of(source)
    dropped = [each.part for each in decided.left_out if each.part]
    entries = [entry for part in dropped for entry in part.entries]
    kept = [p for each in found for part in each.parts if part not in dropped for p in part.files]
    usable = folder.permitted_files(names, decided, [*kept, *own])
    for done, name in enumerate(usable, start=1):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if name in own and entries:
            folder.write(out / name, _rewritten(own[name], entries))
        elif name != FILE:
            link_or_copy(source / name, out / name)
        io.progress(done, len(usable), "files")
    folder.write(out / FILE, decided.as_json())


def decide(made: Answer, io: StepIO) -> Answer:
    """An answer, told in findings and in the metrics.

    Raises:
        DataError: nothing may be used; the message names every term for which.
    """
    tell(made, io)
    if made.verdict == "refused":
        raise DataError(made.refusal)
    return made


def tell(made: Answer, io: StepIO) -> None:
    """An answer as metrics, and as findings what a person should know of it."""
    io.metrics["usage"] = made.as_json()
    for each in made.left_out if made.verdict != "refused" else ():
        for clause in each.clauses:
            why = f"{each.what} left out for {made.ask.purpose}: {clause.words}"
            io.find("usage_left_out", "info", why, clause.where)
    for clause in made.accepted:
        why = f"accepted ({made.ask.accept}): {clause.words}"
        io.find("usage_accepted", "warning", why, clause.where)
    io.say(f"for {made.ask.purpose}: {made.verdict}")


def _rewritten(metadata: Metadata, entries: Sequence[Mapping[str, Any]]) -> Any:
    """The metadata of what is left.

    Raises:
        DataError: what is left refers to what is not.
    """
    value = folder.without(metadata.value, entries)
    ids = [entry["@id"] for entry in entries if isinstance(entry.get("@id"), str)]
    text = str(value)
    for id_ in ids:
        if f"'@id': {id_!r}" in text:
            raise DataError(
                f"{metadata.where}: {id_!r} may not be used and cannot be left out, as other parts "
                "of the dataset are made from it; give other data"
            )
    return value


STAGE = Stage(
    "dataset policy",
    "Keep what a dataset's licences and policies permit for the purpose; refuse where nothing is.",
    Params,
    run,
    inputs={
        "dataset": "the files; croissant.json, metadata.json, policy.json and *.jsonld at the top "
        "are its metadata",
        "metadata": "(optional) further metadata, as JSON files",
    },
    outputs={"dataset": f"what may be used, and {FILE}: the answer with its terms"},
)
