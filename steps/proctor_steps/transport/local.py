"""``file://`` and ``embedded:``: files that are on this machine already."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import proctor_steps
from proctor_steps.stage import DataError
from proctor_steps.transport.names import Names

_EMBEDDED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")


def embedded_root() -> Path:
    """The folder of what the package ships."""
    return Path(proctor_steps.__file__).parent / "embedded"


def local_path(uri: str) -> Path:
    """The file or folder that a ``file://`` or ``embedded:`` URI names.

    Raises:
        DataError: the URI is not of the form, or nothing is there.
    """
    path = _embedded(uri) if uri.startswith("embedded:") else _file(uri)
    if not path.exists():
        raise DataError(
            f"{uri}: there is no such file or folder; check the spelling, and that the site allows "
            "this place (file:// is only seen below the roots of the site's profile)"
        )
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{uri} is neither a file nor a folder")
    return path


def _file(uri: str) -> Path:
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise DataError(f"{uri!a}: write file:///absolute/path, with three slashes")
    if parts.query or parts.fragment:
        raise DataError(f"{uri!a}: write '?' and '#' in a file name as %3F and %23")
    return Path(path)


def _embedded(uri: str) -> Path:
    name = uri.removeprefix("embedded:")
    root = embedded_root()
    shipped = ", ".join(sorted(p.name for p in root.glob("[A-Za-z0-9]*"))) or "nothing"
    if not _EMBEDDED_NAME.fullmatch(name) or not (root / name).exists():
        raise DataError(f"{uri!a}: the package ships nothing of that name; there is: {shipped}")
    return root / name


def tree_files(root: Path) -> list[tuple[PurePosixPath, Path]]:
    """Every file below a folder, by relative name, sorted; links inside the folder are followed.

    Raises:
        DataError: a link leaves the folder or runs in a circle, a name cannot be kept, or
            something is no plain file.
    """
    names = Names(f"file://{root}")
    found: list[tuple[PurePosixPath, Path]] = []
    _walk(root, PurePosixPath(), root.resolve(), (root.resolve(),), names, found)
    if not found:
        raise DataError(f"file://{root}: the folder holds no files; check the path")
    return sorted(found)


def _walk(
    folder: Path,
    at: PurePosixPath,
    root: Path,
    above: tuple[Path, ...],
    names: Names,
    found: list[tuple[PurePosixPath, Path]],
) -> None:
    for path in folder.iterdir():
        name = at / path.name
        where = f"file://{path}"
        target = path.resolve()
        if path.is_symlink() and not target.is_relative_to(root):
            raise DataError(f"{where} is a link that leaves the folder; put the file itself there")
        if target.is_dir():
            if target in above:
                raise DataError(f"{where} is a link to a folder above it; remove it")
            names.folder(str(name))
            _walk(path, name, root, (*above, target), names, found)
        elif target.is_file():
            found.append((names.file(str(name)), path))
        else:
            raise DataError(f"{where} is no plain file (or a dangling link); remove it")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes, not its mode or times, making the folders on the way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
