"""The command line: what it is given, where it writes to, and the home it finds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from hostile_kit import NOT_STARTED, USAGE, Programs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor.plan.compile import compile
from proctor.records.store import RecordError, RecordStore, RunRecord
from proctor.records.summary import summarise
from proctor.shipped import find_spec
from proctor.site.home import HomeError
from proctor.site.ports import reserved_port
from proctor.site.postgres import Postgres, check_folder
from proctor.spec.load import load_pipeline
from proctor_steps.contract import Contract, Result, load_contract, load_result

LONG = "a" * 100_000  # the kernel takes 128 KiB for one argument
NINES = "9" * 4000
PLAN = ("plan", "demo", "--set")

# what is called, what is said
CALLS: dict[str, tuple[tuple[str, ...], str]] = {
    "no such spec": (("check", "dmo"), "'dmo' is neither a file nor a shipped pipeline"),
    "a spec's name of 100,000 letters": (("check", LONG), "has 100,000 characters: no path is so"),
    "no such parameter": ((*PLAN, "scenarois=Offline"), "did you mean 'scenarios'?"),
    "a parameter of 100,000 letters": ((*PLAN, f"{LONG}=1"), "aaa…: there is no such parameter"),
    "a value of 100,000 letters": ((*PLAN, f"scenarios={LONG}"), "it must be one of its choices"),
    "no equals sign": ((*PLAN, LONG), "aaa…: this is no NAME=VALUE"),
    "a word for a number": ((*PLAN, "performance_seconds=soon"), "it must be a number"),
    "NaN": ((*PLAN, "performance_seconds=nan"), "it must be a number, this is nan"),
    "inf": ((*PLAN, "performance_seconds=inf"), "it must be a number, this is inf"),
    "1e400": ((*PLAN, "performance_seconds=1e400"), "it must be a number, this is inf"),
    "4,000 digits": ((*PLAN, f"performance_seconds={NINES}"), "it must be a number, this is 999"),
    "bytes that are no text": ((*PLAN, os.fsdecode(b"\xff\xfe=3")), "there is no such parameter"),
    "brackets in a host": ((*PLAN, "images_uri=http://["), "it is no URI (Invalid IPv6 URL)"),
    "a password in a URI": ((*PLAN, "images_uri=http://u:p@h/x"), "must hold no user name"),
    "no such run": (("report", "r", "--home", "."), "there is no run 'r' in"),
    "no such runtime": (("run", "demo", "--runtime", "vm"), "--runtime vm: there is none; choose"),
    "a summary to nowhere": (("run", "demo", "--json", "no/x"), "--json no/x: there is no folder"),
    "a summary to a folder": (("run", "demo", "--json", "."), "--json .: this is a folder"),
    "nobody to log in to": (("login", "--home", "."), "no proctor runs on"),
    "a home that is a file": (("run", "demo", "--home", "/etc/passwd"), "cannot be the home: File"),
    "a home below a file": (("run", "demo", "--home", "/etc/passwd/x"), "home: Not a directory"),
    "a home that cannot be made": (("run", "demo", "--home", "/proc/x"), "home: No such file"),
    "a home of 100 letters": (("run", "demo", "--home", "/tmp/" + "h" * 100), "107 are the most"),
    "a home with a blank": (("run", "demo", "--home", "/tmp/my home"), "a path that holds ' '"),
    "no such command": (("rnu",), "No such command 'rnu'"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call(programs: Programs, name: str) -> None:
    words, phrase = CALLS[name]
    said = programs.proctor(*words).refuses(phrase, code=NOT_STARTED)
    assert len(said.words) < 2000, "nobody reads that much"
    assert not Path("/tmp/my home").exists()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


# what the spec's path is made to be, what is said
SPECS = {
    "a folder": (Path.mkdir, "this is a folder; name the YAML file in it"),
    "a pipe": (_pipe, "this is no plain file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "this is no plain file"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "there is no such file"),
    "bytes": (lambda path: path.write_bytes(bytes(range(256))), "this is no text"),
    "empty": (Path.touch, "the file is empty"),
    "2 MB": (lambda path: path.write_bytes(b"#" * 2_000_000), "a spec has at most 1 MB"),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec(programs: Programs, name: str) -> None:
    make, phrase = SPECS[name]
    path = programs.root / "spec.yaml"
    make(path)
    programs.proctor("run", str(path)).refuses("spec.yaml:1:", phrase, code=NOT_STARTED)


# Where the output goes


def _shell(programs: Programs, text: str) -> subprocess.CompletedProcess[str]:
    proctor = f"{programs.python} -c 'from proctor.cli import main; main()'"
    script = text.replace("proctor ", f"{proctor} ")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "code", "phrase"),
    [
        ("proctor plan demo --json | head -1", 0, ""),
        ("proctor schema | true", 1, ""),
        ("proctor plan demo >&-", 0, ""),
        ("proctor schema >&-", 0, ""),
        ("proctor plan demo >/dev/full", 2, "No space left on device; make room there"),
        ("proctor plan demo --json >/dev/full", 2, "No space left on device; make room there"),
        ("proctor check nothing 2>&-", 2, ""),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 proctor check ./Ü.yaml", 2, "no such file"),
        ("PYTHONIOENCODING=latin-1 proctor plan demo", 0, ""),
        ("TERM=dumb proctor plan demo", 0, ""),
    ],
)
def test_where_the_words_go(programs: Programs, script: str, code: int, phrase: str) -> None:
    done = _shell(programs, script)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert phrase in done.stderr
    assert done.returncode == code or (code == 0 and "|" in script and done.returncode == 1)


# Records


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The record of a run that has everything in it."""
    store = RecordStore(tmp_path_factory.mktemp("record"))
    plan = compile(load_pipeline(find_spec("demo")))
    store.save_plan(plan)
    record = store.run("demo", "r1")
    record.append("header", plan_digest=plan.digest, data={"params": {}, "runtime": "process"})
    step = next(s for s in plan.steps if s.image).id
    record.append("attempt", step=step, attempt=1, data={"status": "running", "handle": {}})
    metrics = {
        "loadgen": {"scenario": "Offline", "mode": "performance", "valid": True, "rules": []},
        "accuracy": {"metric": "mAP", "value": 0.5},
    }
    result = {"state": "succeeded", "metrics": metrics, "findings": []}
    record.append("result", step=step, attempt=1, data=result)
    record.append("approval", step="approve", attempt=1, data={"answer": {"decision": "approved"}})
    return record


def test_a_record_cut_off_anywhere(whole: RunRecord, tmp_path: Path) -> None:
    """Every length of the file: the whole lines are read, or it says that there are none."""
    raw, store = whole.path.read_bytes(), RecordStore(whole.folder.parents[2])
    cut = RunRecord(tmp_path / "r1", "demo", "r1")
    cut.own.mkdir(parents=True)
    for length in range(0, len(raw), 7):
        cut.path.write_bytes(raw[:length])
        if raw[:length].count(b"\n"):
            assert summarise(store, cut)["pipeline"] == "demo"
        else:
            with pytest.raises(RecordError, match="has no record"):
                summarise(store, cut)


_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_in_a_record_is_summed_up_or_told(
    whole: RunRecord, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = whole.path.read_text().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    entry = json.loads(lines[number])
    at = data.draw(st.sampled_from([entry, entry["data"], entry["data"].get("metrics", entry)]))
    at[data.draw(st.sampled_from(sorted(at)))] = data.draw(_VALUE)
    lines[number] = json.dumps(entry)
    edited = RunRecord(tmp_path_factory.mktemp("fuzz") / "r1", "demo", "r1")
    edited.own.mkdir(parents=True)
    edited.path.write_text("\n".join(lines) + "\n")
    try:
        summarise(RecordStore(whole.folder.parents[2]), edited)
    except RecordError as error:
        assert str(edited.folder) in str(error) or "plan" in str(error)


def test_a_damaged_record_does_not_hide_the_others(programs: Programs, whole: RunRecord) -> None:
    home = str(whole.folder.parents[2])
    bad = RecordStore(Path(home)).run("demo", "r0-damaged")
    bad.own.mkdir(parents=True)
    bad.path.write_text("{}\n")
    try:
        said = programs.proctor("runs", "--home", home)
        assert said.code == 1 and "damaged" in said.out and "r1" in said.out
        assert f"{bad.path}:1: no record line" in said.err and "Traceback" not in said.err
        programs.proctor("report", "r0-damaged", "--home", home).refuses(
            "no record line", "restore it, or move the run's folder away", code=NOT_STARTED
        )
        assert programs.proctor("report", "r1", "--home", home).code == 0
    finally:
        bad.path.unlink()


def test_a_report_to_a_folder(programs: Programs, whole: RunRecord) -> None:
    (whole.folder / "report.html").write_text("<html>")
    said = programs.proctor("report", "--home", str(whole.folder.parents[2]), "--output", "/proc")
    said.refuses("/proc", code=NOT_STARTED)


# The home


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("{", "pipelines.json:1:2:"),
        ("[]", "pipelines.json:1:1: must hold a JSON object"),
        ('{"demo": {}}', "pipelines.json: an entry names no spec"),
        ("[" * 100_000, "pipelines.json: no JSON"),
        ("\0", "pipelines.json:1:1"),
    ],
)
def test_a_list_of_pipelines_that_is_none(programs: Programs, text: str, phrase: str) -> None:
    (programs.root / "pipelines.json").write_text(text)
    said = programs.proctor("up", "--home", str(programs.root), "--runtime", "process")
    assert phrase in said.err and "move" in said.err, said.words
    assert said.code == NOT_STARTED and "Traceback" not in said.words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_user(programs: Programs) -> None:
    """Root without its powers is a user like others."""
    home = programs.root / "home"
    home.mkdir(mode=0o755)
    os.chown(home, 65534, 65534)
    call = [programs.python, "-c", "from proctor.cli import main; main()"]
    call += ["run", "demo", "--home", str(home)]
    said = programs.run(["setpriv", "--bounding-set=-all", "--inh-caps=-all", *call], None)
    said.refuses(f"{home} cannot be the home: Operation not permitted", code=NOT_STARTED)


def test_a_home_that_only_looks_strange(short_folder: Path) -> None:
    """A database starts there and answers at the address that it gives."""
    import sqlalchemy

    database = Postgres(short_folder / "ünï_a=b@c~d.e-f" / "postgres")
    database.start()
    try:
        engine = sqlalchemy.create_engine(database.addresses()[0])
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("select 1")).scalar() == 1
        engine.dispose()
    finally:
        database.stop()


@pytest.mark.parametrize("character", list(" ,%+&#?$'\"\\;`\n*()"))
def test_characters_that_a_home_must_not_have(character: str) -> None:
    with pytest.raises(HomeError, match="PostgreSQL cannot be started in a path that holds"):
        check_folder(Path(f"/srv/a{character}b/postgres"))


# What the orchestrator and its steps hand each other


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "the file: Invalid JSON"),
        ("{}", "pipeline: Field required"),
        ('{"format": "proctor.contract/99"}', "format: Input should be 'proctor.contract/1'"),
        ("[" * 100_000, "the file: Invalid JSON"),
    ],
)
def test_a_contract_that_is_none(programs: Programs, text: str | None, phrase: str) -> None:
    step = programs.root / "step"
    step.mkdir()
    if text is not None:
        (step / "contract.json").write_text(text)
    programs.contract("dataset fetch", step).refuses("contract.json", phrase, code=USAGE)


@given(raw=st.binary(max_size=80) | _VALUE.map(lambda v: json.dumps(v).encode()))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_contract_and_a_result_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for name, load, kind in (
        ("contract.json", load_contract, Contract),
        ("result.json", load_result, Result),
    ):
        (folder / name).write_bytes(raw)
        try:
            assert isinstance(load(folder), kind)
        except ValueError:
            continue


def test_the_api_servers_port_is_given_to_nobody_else() -> None:
    """Neither to who asks for it nor to who takes any; to a server as Airflow's is it is."""
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))
        for _ in range(200):
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                assert other.getsockname()[1] != port
        for _ in range(2):  # and again, when it was started anew
            with socket.create_server(("127.0.0.1", port)) as server:
                assert server.getsockname()[1] == port
