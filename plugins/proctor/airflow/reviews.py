"""A review: files that a person finishes by hand, in a folder of the run. No Airflow here.

The folder of one subject (or of the run) has ``to-review/``, filled when the review is reached, and
``finished/``, where each file belongs under its name. What is finished is copied into the step's
output, so that nobody changes it behind the steps that read it. A file ``SEND-BACK.txt`` with a
reason sends the subject back.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from proctor.airflow.decisions import DecisionRun, Look, Made
from proctor.airflow.evidence import StepRefused
from proctor.airflow.subjects import folder_name
from proctor.plan.model import Review
from proctor.runtime.artifacts import AttemptName, LocalArtifacts, remove_tree
from proctor_steps.contract import tree_digest

TO_REVIEW, FINISHED, SEND_BACK = "to-review", "finished", "SEND-BACK.txt"
DONE, SENT_BACK = "finished", "sent back"
# A file that changed this recently is taken for one that is still being written.
SETTLED_SECONDS = 3.0
_SHOWN = 20  # of files, in words


@dataclass(frozen=True)
class ReviewRun(DecisionRun):
    """A review in its run."""

    @property
    def review(self) -> Review:
        """What the plan says of it."""
        assert self.step.review is not None  # noqa: S101 - the compiler gives every one its own
        return self.step.review

    @property
    def folder(self) -> Path:
        """Where the person works. Each time that it is asked for again has a folder of its own."""
        name = folder_name(self.record.partition) if self.record.partition else "run"
        again = f"-{self.attempts}" if self.attempts > 1 else ""
        return self.record.whole.folder / "review" / self.step.id / f"{name}{again}"

    def look(self) -> Look:
        """Whether everything is finished; else what is outstanding, and where it belongs."""
        root = self._source()
        names = expected(root, self.review)
        if not names:
            patterns = ", ".join(self.review.files)
            raise StepRefused(f"nothing that was made matches {patterns}, so there is no review")
        folder = self._laid_out(root, names)
        if reason := _read_reason(folder / SEND_BACK):
            if not self.decision.back:
                return Look(None, (f"{SEND_BACK}: this review cannot send back; remove the file",))
            words = f"{SENT_BACK}: {reason}"
            return Look(Made(self.decision.back, words), (words,))
        problems = tuple(outstanding(folder / FINISHED, names))
        return Look(None, problems) if problems else Look(Made((), DONE), ("everything is there",))

    def end(self, made: Made) -> None:
        """Take what is finished into the output; record it."""
        if made.targets:
            super().end(made)
            return
        name = AttemptName(self.record.pipeline, self.record.run, self.step.id, self.attempts)
        store, output = LocalArtifacts(self.home.path), self.step.outputs[0].name
        entry = self._published(store, name, output)
        self._record(made, {"outputs": {output: entry}})

    def _published(self, store: LocalArtifacts, name: AttemptName, output: str) -> dict[str, Any]:
        try:
            place = store.stage(name, [output])[output]
        except ValueError:  # a crash came between this and the record
            place = store.staged(name, output)
        else:
            for path in expected(self.folder / FINISHED, self.review):
                target = place / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / FINISHED / path, target)
        sha256, size = tree_digest(place)
        uri = store.publish(name, [output])[output]
        return {"uri": uri, "media_type": "inode/directory", "sha256": sha256, "bytes": size}

    def _source(self) -> Path:
        ((source, _),) = self._inputs(self.step.inputs)
        return LocalArtifacts(self.home.path).path(source.uri, source.below)

    def _laid_out(self, root: Path, names: list[str]) -> Path:
        """The folder with what is to be looked at; made by one rename."""
        folder = self.folder
        if folder.is_dir():
            return folder
        scratch = folder.with_name(f".{folder.name}")
        remove_tree(scratch)
        for name in names:
            target = scratch / TO_REVIEW / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, target)
        (scratch / FINISHED).mkdir(parents=True)
        scratch.rename(folder)
        return folder


def expected(root: Path, review: Review) -> list[str]:
    """The files that the review is about, by their names below a folder."""
    found = {
        path.relative_to(root).as_posix()
        for pattern in review.files
        for path in root.glob(pattern)
        if path.is_file() and not path.is_symlink()
    }
    return sorted(found)


def outstanding(finished: Path, names: list[str]) -> Iterator[str]:
    """What is not as it must be, a line for each file: missing, renamed, too many, empty, growing.

    ``names``: those that must be there, and no others.
    """
    there = sorted(
        p.relative_to(finished).as_posix() for p in finished.rglob("*") if not p.is_dir()
    )
    missing = [name for name in names if name not in there]
    extra = [name for name in there if name not in names]
    renamed: dict[str, str] = {}
    for name in extra:
        near = get_close_matches(name, missing, n=1, cutoff=0.5) or missing[:1]
        if near:
            renamed[near[0]] = name
            yield f"{name}: is no name of a file to review; if it is {near[0]}, call it that"
        else:
            yield f"{name}: is one too many; what was to review is there, so take it away"
    for name in missing[:_SHOWN]:
        if name not in renamed:
            yield f"{name}: outstanding; put it into {finished / name}"
    if missing[_SHOWN:]:
        yield f"{len(missing) - _SHOWN} more files are outstanding"
    for name in there:
        if name in names and (problem := _unfit(finished / name)):
            yield f"{name}: {problem}"


def _unfit(path: Path) -> str:
    try:
        if path.is_symlink() or not path.is_file():
            return "is no file; put the file itself there"
        found = path.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if found.st_size == 0:
        return "is empty"
    if time.time() - found.st_mtime < SETTLED_SECONDS:
        return "is still being written, or was a moment ago"
    return ""


def _read_reason(path: Path) -> str:
    try:
        if path.is_symlink():
            return ""
        return path.read_bytes()[:2000].decode(errors="replace").strip()
    except OSError:
        return ""
