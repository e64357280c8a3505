"""Which names from outside may become names on this disk."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from proctor_steps.stage import DataError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"^[A-Za-z]:")
_LONGEST = 255  # bytes of one name on every file system in use (NAME_MAX)
_DEEPEST = 64


class Names:
    """The names of one archive or listing, each checked alone and against those before it.

    Args:
        where: what the names come from, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._seen: dict[str, tuple[str, bool]] = {}

    def file(self, raw: str) -> PurePosixPath:
        """Take the name of a file.

        Raises:
            DataError: it leads out of the folder, cannot be written, or was there before, also
                where only upper and lower case or the spelling of an accent differ.
        """
        path = self._clean(raw)
        if not path.parts:
            raise self._problem(raw, "is not the name of a file")
        self._parents(raw, path)
        self._enter(raw, str(path), is_folder=False)
        return path

    def folder(self, raw: str) -> PurePosixPath:
        """Take the name of a folder; ``.`` is the top itself. Raises like :meth:`file`."""
        path = self._clean(raw)
        if path.parts:
            self._parents(raw, path)
            self._enter(raw, str(path), is_folder=True)
        return path

    def _parents(self, raw: str, path: PurePosixPath) -> None:
        for parent in reversed(path.parents[:-1]):
            self._enter(raw, str(parent), is_folder=True)

    def _enter(self, raw: str, name: str, is_folder: bool) -> None:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded not in self._seen:
            self._seen[folded] = (name, is_folder)
            return
        before, before_folder = self._seen[folded]
        if before != name:
            raise self._problem(raw, f"differs from {before!r} by case or accents only")
        if is_folder != before_folder:
            raise self._problem(raw, "is a file and a folder at once")
        if not is_folder:
            raise self._problem(raw, "is there twice")

    def _clean(self, raw: str) -> PurePosixPath:
        why = _why_not(raw)
        if why:
            raise self._problem(raw, why)
        return PurePosixPath(*[part for part in raw.split("/") if part not in ("", ".")])

    def _problem(self, raw: str, why: str) -> DataError:
        shown = ascii(raw if len(raw) <= 200 else raw[:200] + "…")
        return DataError(
            f"{self._where}: the name {shown} {why}; nothing was taken from it. "
            "Get a clean copy, or pack it again without this entry."
        )


def _why_not(raw: str) -> str:
    """Why a name must not be written, or an empty text."""
    parts = raw.split("/")
    if _CONTROL.search(raw):
        return "holds a control character"
    if raw.startswith("/") or _DRIVE.match(raw):
        return "is absolute"
    if "\\" in raw:
        return "holds a backslash"
    if ".." in parts:
        return "leads out of the folder ('..')"
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if longest > _LONGEST or len(parts) > _DEEPEST:
        return "is too long or too deep"
    return ""
