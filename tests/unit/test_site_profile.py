"""``site.yaml``: what it may hold, and what is said of each slip."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from proctor.cli import app
from proctor.site import profile
from proctor.site.home import Home, HomeError
from proctor.site.profile import Profile, ProfileErrors, read_profile
from proctor.site.settings import user_name

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
    assert made.users == {"ada": "operator", "bob@example.org": "viewer"}  # user: an older name
    assert (made.auth, made.port, made.address) == ("simple", 0, "")


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
        "known: address, auth, coordinator, images, mounts, notify, port, roots, schedules, sites, "
        "users",
        "site.yaml:12:1: the key 'mounts' is here twice, first in line 3; remove one of them",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "1:1: a site's profile is a mapping of roots, mounts, images, users"),
        ("roots: [", "this is no YAML"),
        ("mounts: [a]\n", "1:9: 'mounts' must be a mapping, this is a list"),
        ("roots: [!tag /data]\n", "unknown tag '!tag'"),
        (
            "users: {ada: root}\n",
            "1:14: 'root' is no role; write viewer, approver, operator or admin",
        ),
        ("users: {ada: op}\n", "1:14: 'op' is a role no more; write operator, or admin for"),
        ("users: {ada: approver}\n", "1:14: nobody can be an approver without `auth: fab`; write"),
        ("auth: fab\nusers: {ada: viewer, Ada: viewer}\n", "2:22: 'Ada' and 'ada' are one user"),
        ("auth: ldap\n", "1:7: 'ldap' is no way to log in; write simple or fab"),
        ("port: 70000\n", "1:7: 'port' must be at most 65535, this is 70000"),
        ("address: https://a.example\n", "1:1: an instance that others reach needs `auth: fab`"),
        ("auth: fab\naddress: http://a.example\n", "2:10: 'http://a.example' is no address"),
        ("auth: fab\naddress: https://a.example/x\n", "'https://a.example/x' is no address"),
        ("users: {'ada:admin,eve': user}\n", "'ada:admin,eve' is no user's name"),
        ("\0", "it holds a zero byte"),
    ],
)
def test_what_is_no_profile(tmp_path: Path, text: str, words: str) -> None:
    assert words in "\n".join(problems_of(tmp_path, text))


def test_a_profile_for_a_shared_server(tmp_path: Path) -> None:
    made = profile_of(
        tmp_path,
        """
auth: fab
users: {ada: approver, bob: operator, vera: viewer, root2: admin}
port: 8080
address: https://proctor.example.org:8443
""",
    )
    assert (made.auth, made.port) == ("fab", 8080)
    assert made.address == "https://proctor.example.org:8443"
    assert made.users["ada"] == "approver"


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "FAB_PACKAGE", "no-such-package")
    (found,) = problems_of(tmp_path, "auth: fab\n")
    assert found.endswith('1:7: no-such-package is not installed; pip install "proctor[fab]"')


def test_nobody_else_is_the_owner_in_other_letters(tmp_path: Path) -> None:
    name = user_name().swapcase()
    (found,) = problems_of(tmp_path, f"auth: fab\nusers: {{{name}: viewer}}\n")
    assert "are one user, as capitals do not count; rename one of them" in found


def test_a_folder_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").mkdir()
    with pytest.raises(HomeError, match="this is a folder"):
        Home(tmp_path).profile()


def test_a_run_does_not_begin_with_a_broken_profile(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("rots: []\n")
    done = CliRunner().invoke(app, ["run", "demo", "--home", str(tmp_path)])
    assert isinstance(done.exception, HomeError)
    assert "unknown key 'rots'" in str(done.exception)


GOOD = """
coordinator:
  url: https://committee.example.org
  token_file: /keys/token
  pipelines: [prep]
sites:
  listen: "[::]:8443"
  certificate: /c.pem
  key: /k.pem
  starts:
    - {pipeline: merge, when: prep, sites: [a, b, c], at_least: 2}
"""
BAD = """
coordinator:
  url: http://committee.example.org
  token_file: token
  pipelines: []
  proxy: proxy.secret-word
  tokn: x
sites:
  listen: 8443
  certificate: /c.pem
  starts:
    - {pipeline: merge, when: prep, sites: [A b], at_least: 2}
    - {pipeline: merge, sites: [a, b]}
"""


def test_the_committee_and_the_sites_of_a_profile(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(GOOD)
    profile = Home(tmp_path).profile()
    assert profile.coordinator and profile.coordinator.pipelines == ("prep",)
    assert profile.sites and profile.sites.starts[0].at_least == 2


def test_what_is_wrong_with_them_all_at_once(tmp_path: Path) -> None:
    told = problems_of(tmp_path, BAD)
    assert told == [
        "site.yaml:3:8: 'http://committee.example.org' is not https; reports leave over https "
        "only; write https://...",
        "site.yaml:4:15: 'token' is no absolute path; write it from the root, as in /data/scans",
        "site.yaml:5:14: this list is empty; name one at least",
        "site.yaml:6:10: this is no proxy's address; write it as http://proxy.example.org:3128",
        "site.yaml:7:3: unknown key 'tokn' in coordinator; known: ca_file, pipelines, "
        "proxy, token_file, url",
        "site.yaml:9:3: listen, certificate: of listen, certificate and key, each needs the "
        "others; give all three, or none",
        "site.yaml:9:11: 'listen' must be text, this is 8443; put it in quotes",
        "site.yaml:12:45: 'A b' is no site's name; use small letters, digits and '-', 40 at most",
        "site.yaml:12:61: 2 of 1 sites are never ready; name more, or ask for less",
        "site.yaml:13:7: this has no 'when'; add 'when:'",
    ]
    assert "secret-word" not in "".join(told)


def test_a_choice_of_sites_that_airflow_cannot_hold_is_refused(tmp_path: Path) -> None:
    names = ", ".join(f"s{number}" for number in range(20))
    text = f"sites: {{starts: [{{pipeline: m, when: p, sites: [{names}], at_least: 10}}]}}\n"
    assert "10 of 20 sites are 184,756 choices" in problems_of(tmp_path, text)[0]


def test_channels_that_are_no_channels(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        """\
notify:
  events: [question_asked, nope]
  smtp: {host: "a b", from: x, to: [], security: none, usr: a, password_file: p}
  slack: {webhook: x}
  http: {url: "http://ada:secret@example.org/x"}
""",
    )
    assert found == [
        "site.yaml:2:28: 'nope' is no event; write question_asked, answered, timed_out or "
        "run_ended",
        "site.yaml:3:16: 'a b' is no machine's name; write it as mail.example.org",
        "site.yaml:3:29: 'x' is no mail address; write it as ada@example.org",
        "site.yaml:3:36: this list is empty; name one at least",
        "site.yaml:3:50: the password would leave this machine for everybody on the way to read; "
        "write tls or starttls",
        "site.yaml:3:56: unknown key 'usr' in smtp; did you mean 'user'?",
        "site.yaml:3:64: of user and password_file, each needs the other; give both, or none",
        "site.yaml:3:79: 'p' is no absolute path; write it from the root, as in /data/scans",
        "site.yaml:4:10: this has no 'webhook_file'; add 'webhook_file:'",
        "site.yaml:4:11: unknown key 'webhook' in slack; did you mean 'webhook_file'?",
        "site.yaml:5:15: an address holds no name or password; a token has a file of its own",
    ]
    assert problems_of(tmp_path, "notify: {events: [answered]}") == [
        "site.yaml:1:1: nobody is told of anything; name smtp, slack or http"
    ]
    assert "this is not https" in problems_of(tmp_path, "notify: {http: {url: 'http://a.b'}}")[0]
