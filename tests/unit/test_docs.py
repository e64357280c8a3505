"""README and docs: every command and option exists, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from proctor.cli import app

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:proctor|make) [^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
_HEREDOC = re.compile(r"<<'END'\n.*?^END\n", re.DOTALL | re.MULTILINE)


def commands(text: str, program: str) -> list[list[str]]:
    """The words after every call of a program, in blocks and in running text."""
    lines = [
        line
        for block in _BLOCK.findall(text)
        for line in _HEREDOC.sub("\n", block).replace("\\\n", " ").splitlines()
    ]
    found = [shlex.split(line, comments=True) for line in [*lines, *_INLINE.findall(text)]]
    return [words[1:] for words in found if words and words[0] == program]


def problems(words: list[str], command: Any) -> list[str]:
    """What the program does not know of a call; ``command`` is one of click's."""
    below = getattr(command, "commands", None)
    if below and words and not words[0].startswith("-"):
        known = below.get(words[0])
        return problems(words[1:], known) if known else [f"no command {words[0]!r}"]
    options = {name for param in command.params for name in param.opts} | {"--help"}
    return [
        f"{command.name} has no option {word}"
        for word in words
        if word.startswith("-") and word.partition("=")[0] not in options
    ]


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files or headings of the repository that are not there."""
    broken = []
    for link in _LINK.findall(text):
        name, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / name).resolve() if name else page
        if not target.is_file() or (heading and heading not in anchors(target.read_text())):
            broken.append(link)
    return broken


def anchors(text: str) -> set[str]:
    """The names that headings of a page are linked by."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_proctor_command_exists(page: Path) -> None:
    root = typer.main.get_command(app)
    found = [p for words in commands(page.read_text(), "proctor") for p in problems(words, root)]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    asked = {word for words in commands(page.read_text(), "make") for word in words}
    assert asked <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_the_readme_says_whose_mark_mlperf_is_once() -> None:
    assert README.count("trademark") == 1
    assert "MLPerf is a trademark of MLCommons." in README


def test_the_readme_shows_all_commands() -> None:
    root: Any = typer.main.get_command(app)
    shown = {words[0] for words in commands(README, "proctor") if words}
    assert set(root.commands) - shown == {"schema"}  # for editors: docs/spec.md


def test_what_is_wrong_is_found() -> None:
    text = (
        "```console\nproctor runn demo\nproctor run demo --no-such \\\n  --yes\n```\n"
        "`proctor plan x --jsonn` [a](no/such.md) [b](README.md#nowhere) [c](https://example.org)\n"
    )
    root = typer.main.get_command(app)
    assert [problems(words, root) for words in commands(text, "proctor")] == [
        ["no command 'runn'"],
        ["run has no option --no-such"],
        ["plan has no option --jsonn"],
    ]
    assert broken_links(ROOT / "README.md", text) == ["no/such.md", "README.md#nowhere"]
