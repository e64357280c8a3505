"""Family *measurements*: how the result was made, and how to make it again."""

from __future__ import annotations

from collections.abc import Iterator

from proctor_steps.submission.check import files
from proctor_steps.submission.check.finding import Finding
from proctor_steps.submission.check.result import Result
from proctor_steps.submission.system import MEASUREMENTS

REQUIRED = ("user.conf", "README.md")


def findings(result: Result) -> Iterator[Finding]:
    """Everything about one result's description, ``user.conf`` and ``README.md``."""
    folder, tell = result.place.measurements, result.tell
    if not folder.is_dir():
        yield tell.rejected(
            "measurements", folder, "is missing", "add the folder with its files", stops=True
        )
        return
    found = result.measurement
    if found.fields is None:
        stops = found.absence in ("empty", "malformed", "not text", "unreadable")
        yield tell.rejected(
            "measurements", found.path, found.problem,
            f"add a JSON object with the fields {', '.join(MEASUREMENTS)}", found.line, stops=stops,
        )  # fmt: skip
    else:
        for name in MEASUREMENTS:
            if not found.fields.get(name):
                said = f"is {found.fields[name]!r}" if name in found.fields else "is missing"
                yield tell.rejected(
                    "measurements_field", found.path, f"{name} {said}",
                    'state it; write "no" or "none" where there is nothing to say',
                )  # fmt: skip
    for name in REQUIRED:
        if name == "user.conf" and result.endpoints:
            continue
        bytes_ = files.size(folder / name)
        if not bytes_:
            what = "is missing" if bytes_ is None else "is empty"
            advice = {
                "user.conf": "add the user.conf that the runs were made with",
                "README.md": "say how to make the result again",
            }[name]
            yield tell.rejected("measurements_file", folder / name, what, advice)
