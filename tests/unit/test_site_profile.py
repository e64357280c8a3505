"""``site.yaml``: what it may hold, and what is said of each slip."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from proctor.cli import app
from proctor.site.home import Home, HomeError
from proctor.site.profile import Profile, ProfileErrors, read_profile

DIGEST = "sha256:" + "a1" * 32


def profile_of(tmp_path: Path, text: str) -> Profile:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return read_profile(path)


def problems_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ProfileErrors) as caught:
        profile_of(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_a_whole_profile(tmp_path: Path) -> None:
    made = profile_of(
        tmp_path,
        f"""
roots: [/data/coco, /data/models]
mounts:
  data_path: /data/scans
  parameters_file: /data/parameters.yaml
images:
  theirs/prep:0.0.1: prep@{DIGEST}
users: {{ada: user, "bob@example.org": viewer}}
""",
    )
    assert made.roots == ("/data/coco", "/data/models")
    assert made.mounts == {"data_path": "/data/scans", "parameters_file": "/data/parameters.yaml"}
    assert made.images == {"theirs/prep:0.0.1": f"prep@{DIGEST}"}
    assert made.users == {"ada": "user", "bob@example.org": "viewer"}


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}\n"])
def test_a_profile_that_says_nothing_allows_nothing(tmp_path: Path, text: str) -> None:
    assert profile_of(tmp_path, text) == read_profile(tmp_path / "absent.yaml") == Profile()


def test_every_problem_at_once_with_its_place(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        """\
rots: [/data]
roots: /data/coco
mounts:
  data_path: scans
  "no name": /data/x
  number: 5
images:
  theirs: prep:latest
  proctor/steps: steps@sha256:12
  ": :": prep
volumes: {}
mounts: {}
""",
    )
    assert found == [
        "site.yaml:1:1: unknown key 'rots' in a site's profile; did you mean 'roots' or 'mounts'?",
        "site.yaml:2:8: 'roots' must be a list, this is '/data/coco'; write [/data/coco]",
        "site.yaml:4:14: 'scans' is no absolute path; write it from the root, as in /data/scans",
        "site.yaml:5:3: 'no name' is no name for a mount; use letters, digits, '_' and '-', "
        "beginning with a letter",
        "site.yaml:6:11: 'number' must be text, this is 5; put it in quotes",
        "site.yaml:8:11: 'prep:latest' names no image of this machine by its digest; write "
        "name@sha256:... with what `docker image inspect --format '{{.Id}}' name` tells",
        "site.yaml:9:3: 'proctor/steps' is Proctor's own and cannot be another image; remove it; "
        "`make images` builds it from this version's code",
        "site.yaml:9:18: 'steps@sha256:12' names no image of this machine by its digest; write "
        "name@sha256:... with what `docker image inspect --format '{{.Id}}' name` tells",
        "site.yaml:10:3: ': :' is no image name; write it as the spec does",
        "site.yaml:10:10: 'prep' names no image of this machine by its digest; write "
        "name@sha256:... with what `docker image inspect --format '{{.Id}}' name` tells",
        "site.yaml:11:1: unknown key 'volumes' in a site's profile; "
        "known: images, mounts, roots, users",
        "site.yaml:12:1: the key 'mounts' is here twice, first in line 3; remove one of them",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "1:1: a site's profile is a mapping of 'roots', 'mounts', 'images' and 'users'"),
        ("roots: [", "this is no YAML"),
        ("mounts: [a]\n", "1:9: 'mounts' must be a mapping, this is a list"),
        ("roots: [!tag /data]\n", "unknown tag '!tag'"),
        ("users: {ada: root}\n", "1:14: 'root' is no role; write viewer, user, op or admin"),
        ("users: {'ada:admin,eve': user}\n", "'ada:admin,eve' is no user's name"),
        ("\0", "it holds a zero byte"),
    ],
)
def test_what_is_no_profile(tmp_path: Path, text: str, words: str) -> None:
    assert words in "\n".join(problems_of(tmp_path, text))


def test_a_folder_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").mkdir()
    with pytest.raises(HomeError, match="this is a folder"):
        Home(tmp_path).profile()


def test_a_run_does_not_begin_with_a_broken_profile(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("rots: []\n")
    done = CliRunner().invoke(app, ["run", "demo", "--home", str(tmp_path)])
    assert isinstance(done.exception, HomeError)
    assert "unknown key 'rots'" in str(done.exception)
