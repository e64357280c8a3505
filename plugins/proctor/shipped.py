"""Where the files are that come with Proctor: pipelines, image recipes, the DAG file."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 4000  # characters of a path (PATH_MAX is 4096)
_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Path of a shipped file or folder: in an installed wheel, else in the repository.

    Raises:
        FileNotFoundError: this installation holds no such file.
    """
    for root in (_PACKAGE / "share", _PACKAGE.parent.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} did not come with this installation of Proctor")


def find_spec(name: str) -> Path:
    """A spec by path, or by the name of a shipped pipeline (``demo``).

    Raises:
        FileNotFoundError: neither; the message lists the shipped ones.
    """
    path = Path(name)
    if len(name) > _LONGEST or "\0" in name:
        raise FileNotFoundError(f"'{name[:40]}…' has {len(name):,} characters: no path is so long")
    if path.is_file() or path.suffix in (".yaml", ".yml") or "/" in name:
        return path
    known = {item.stem: item for item in sorted(shipped("pipeline_specs").glob("*.yaml"))}
    if name in known:
        return known[name]
    names = ", ".join(known) or "none"
    raise FileNotFoundError(f"{name!r} is neither a file nor a shipped pipeline ({names})")
