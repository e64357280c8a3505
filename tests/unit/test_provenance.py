"""``proctor provenance``: from a figure of a real run back to every byte, and what it finds."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from proctor.cli import app
from proctor.plan.model import Plan, PlannedOutput, PlanStep
from proctor.records.approvals import SigningKey, message_of
from proctor.records.provenance import document, nodes
from proctor.records.store import RunRecord
from proctor.site.home import Home
from proctor_steps.contract import Approval, digest, file_sha256, tree_digest
from proctor_steps.lineage import shown, source_of
from provenance_kit import RUN, DemoRun, rewrite

BAD, GONE = 1, 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The demo, run once; nobody changes it."""
    return DemoRun(tmp_path_factory.mktemp("demo")).make()


@pytest.fixture
def done(whole: DemoRun, tmp_path: Path) -> DemoRun:
    """A copy, to be spoilt."""
    return whole.copy(tmp_path)


def say(command: str, path: Path | str, *more: str) -> tuple[int, str]:
    said = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["provenance", command, str(path), *more])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.output
    return said.exit_code, said.output


def places(done: DemoRun) -> dict[str, Path]:
    """All that can be asked about."""
    folder = done.record.folder
    return {
        "run": folder,
        "document": folder / "provenance.json",
        "published": folder / "submission.tar.gz",
        "output": done.artifact("package", "package"),
        "tree": done.tree,
        "dataset": done.artifact("filter", "dataset"),
        "croissant": done.artifact("filter", "dataset") / "croissant.json",
        "logs": done.artifact("performance.Offline", "logs"),
    }


def test_what_nobody_touched_is_good(whole: DemoRun) -> None:
    for name, path in places(whole).items():
        code, output = say("verify", path)
        assert code == 0, f"{name}: {output}"
        assert "Everything behind it is as it was." in output
    for figure in ("Offline.throughput", "SingleStream.latency", "Offline.accuracy"):
        assert say("verify", f"{whole.record.folder}#{figure}")[0] == 0


def test_a_figure_is_walked_back_to_sources_licences_and_the_answer(whole: DemoRun) -> None:
    for name in ("run", "published", "tree"):
        code, output = say("show", f"{places(whole)[name]}#Offline.throughput")
        assert code == 0
        for word in (
            "Offline.throughput = ", "performance.Offline.logs", "made by performance.Offline",
            "proctor/sut-onnxruntime", '"scenario": "Offline"', "filter.dataset",
            "licences http://creativecommons.org/licenses/by/2.0/", "made by filter",
            "made by fetch-images", "scenes.zip; sha256 " + file_sha256(whole.source)[:12],
            "embedded:digits/detector.onnx", "gate approve; approved by ada",
        ):  # fmt: skip
            assert word in output, f"{name}: {word}"
        assert "SingleStream" not in output


def test_as_json_it_is_prov_o_with_whole_digests(whole: DemoRun) -> None:
    _, output = say("show", f"{whole.record.folder}#Offline.throughput", "--json")
    graph = {node["@id"]: node for node in json.loads(output)["@graph"]}
    logs = graph[f"artifact:demo/{RUN}/performance.Offline/1/logs"]
    made = graph[logs["prov:wasGeneratedBy"][0]["@id"]]
    assert made["@type"] == "prov:Activity" and len(made["identity"]) == 64
    assert made["image_digest"].startswith("process:") and made["command"] == ["loadgen", "run"]
    assert f"urn:sha256:{file_sha256(whole.source)}" in graph
    answers = [node for id, node in graph.items() if id.startswith("approval:")]
    assert [a["answer"]["by"] for a in answers] == ["ada"] and answers[0]["signature"]


def test_the_document_lies_in_the_archive_and_beside_it(whole: DemoRun) -> None:
    beside = json.loads((whole.record.folder / "provenance.json").read_bytes())
    with tarfile.open(whole.record.folder / "submission.tar.gz") as packed:
        name = "open/Proctor-Demo/documentation/provenance.json"
        file = packed.extractfile(name)
        assert file is not None
        [inside] = json.loads(file.read())
    assert beside["format"] == inside["format"] == "proctor.provenance/1"
    ids = [{node["@id"] for node in each["@graph"]} for each in (beside, inside)]
    figures = {id for id in ids[0] if id.startswith("figure:")}
    assert len(figures) == 4 and figures <= ids[1]
    assert any(id.startswith("approval:") for id in ids[1])
    files = {
        each["name"]: each["sha256"] for node in inside["@graph"] for each in node.get("files", ())
    }
    home = whole.tree / "open/Proctor-Demo"
    listed = [p for name in ("results", "systems") for p in (home / name).rglob("*") if p.is_file()]
    assert files == {p.relative_to(whole.tree).as_posix(): file_sha256(p) for p in listed}


def test_no_document_tells_where_things_lie_on_the_machine(whole: DemoRun) -> None:
    for path in whole.home.path.rglob("*.json"):
        if path.name in ("provenance.json", "croissant.json") and "work" not in path.parts:
            assert str(whole.home.path.parent) not in path.read_text(), path


def test_the_validator_has_nothing_against_it(whole: DemoRun) -> None:
    words = ["submission", "check", str(whole.tree), "--round", "v6.1", "--json"]
    said = CliRunner().invoke(app, words)
    assert '"results"' in said.output and "provenance" not in said.output


def test_an_unknown_figure_is_told_with_those_there_are(whole: DemoRun) -> None:
    code, output = say("show", f"{whole.record.folder}#Offline.thruput")
    assert code == 2 and "did you mean 'Offline.throughput'?" in output
    assert "SingleStream.accuracy" in output
    code, output = say("verify", f"{places(whole)['dataset']}#x")
    assert code == 2 and "figures: none" in output


def flip(path: Path) -> None:
    """Change one byte."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


TAMPERED: dict[str, Callable[[DemoRun], Path]] = {
    "image": lambda d: sorted((d.artifact("filter", "dataset") / "val2017").iterdir())[3],
    "list": lambda d: d.artifact("filter", "dataset") / "images.csv",
    "fetched": lambda d: next(d.artifact("fetch-images", "dataset").iterdir()),
    "model": lambda d: next(d.artifact("fetch-model", "model").glob("*.onnx")),
    "log": lambda d: d.artifact("performance.Offline", "logs") / "mlperf_log_detail.txt",
    "score": lambda d: d.artifact("score.Offline", "score") / "accuracy.txt",
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_changed_byte_of_any_step_is_found(done: DemoRun, name: str) -> None:
    path = TAMPERED[name](done)
    flip(path)
    figure = "Offline.accuracy" if name == "score" else "Offline.throughput"
    for place in (f"{done.record.folder}#{figure}", f"{done.tree}#{figure}"):
        code, output = say("verify", place)
        assert code == BAD and "its bytes have changed" in output
        artifact = path.relative_to(done.home.path / "artifacts").parts[2]
        assert f"/{artifact}/1/" in output
        if name == "image":
            assert f"val2017/{path.name}: its bytes have changed" in output


def test_a_changed_byte_elsewhere_does_not_concern_a_figure(done: DemoRun) -> None:
    flip(done.artifact("performance.SingleStream", "logs") / "mlperf_log_detail.txt")
    # The answer was given to all, so it does not hold for evidence of which a part has changed;
    # that is found by digests of the record, and these have not changed.
    assert say("verify", f"{done.record.folder}#Offline.throughput")[0] == 0
    assert say("verify", f"{done.record.folder}#SingleStream.latency")[0] == BAD


def test_a_changed_file_of_a_package_is_found(done: DemoRun) -> None:
    name = "open/Proctor-Demo/results/demo-system/digits/Offline/performance/run_1"
    flip(done.tree / name / "mlperf_log_detail.txt")
    flip(done.tree / name.replace("performance/run_1", "README.md"))
    code, output = say("verify", done.tree)
    assert code == BAD and f"file {name}/mlperf_log_detail.txt: its bytes have changed" in output
    assert "Offline/README.md: its bytes have changed" in output
    code, output = say("verify", done.artifact("package", "package"))
    assert code == BAD and "package/1/package: its bytes have changed" in output


def test_a_changed_description_of_the_system_is_found(done: DemoRun) -> None:
    path = done.tree / "open/Proctor-Demo/systems/demo-system.json"
    path.write_text(path.read_text().replace("}", ' ,"sw_notes": "fast"}', 1))
    code, output = say("verify", done.tree)
    assert code == BAD and "systems/demo-system.json: its bytes have changed" in output


def test_a_damaged_archive_is_told(done: DemoRun, tmp_path: Path) -> None:
    raw = bytearray((done.record.folder / "submission.tar.gz").read_bytes())
    raw[300:700] = b"\xff" * 400
    (tmp_path / "x.tar.gz").write_bytes(raw)
    code, output = say("verify", tmp_path / "x.tar.gz")
    assert code not in (0, 1) and "no archive that can be read" in output


def test_an_archive_that_the_run_did_not_make_is_found(done: DemoRun) -> None:
    archive = done.record.folder / "submission.tar.gz"
    (done.tree / "open/Proctor-Demo/systems/demo-system.json").write_text("{}")
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(done.tree / "open", "open")
    code, output = say("verify", archive)
    assert code == BAD and f"archive {archive}: sha256 " in output


def test_a_figure_that_was_improved_in_a_document_is_found(done: DemoRun) -> None:
    for path in (
        done.record.folder / "provenance.json",
        done.tree / "open/Proctor-Demo/documentation/provenance.json",
    ):
        text = path.read_text()
        value = json.loads(
            done.artifact("performance.Offline", "logs").joinpath("run.json").read_text()
        )
        path.write_text(text.replace(str(value["metric"]["value"]), "9999.5"))
    for place in ("document", "tree"):
        code, output = say("verify", f"{places(done)[place]}")
        assert code == BAD and "9999.5" in output and "by the record" in output


@pytest.mark.parametrize("place", ["document", "tree"])
def test_a_verdict_that_was_improved_in_a_document_is_found(done: DemoRun, place: str) -> None:
    path = {
        "document": done.record.folder / "provenance.json",
        "tree": done.tree / "open/Proctor-Demo/documentation/provenance.json",
    }[place]
    whole = json.loads(path.read_bytes())
    for each in whole if isinstance(whole, list) else [whole]:
        for node in each["@graph"]:
            if node["@id"] == "figure:Offline.throughput":
                assert node.get("official") is not True
                node |= {"valid": True, "official": True}
    path.write_text(json.dumps(whole))
    code, output = say("verify", f"{places(done)[place]}")
    assert code == BAD and "official is True" in output and "by the record" in output
    done.record.path.unlink()  # what was measured tells it as well
    code, output = say("verify", f"{places(done)[place]}#Offline.throughput")
    assert code == BAD and "official is True, and False in" in output


def test_a_figure_that_nobody_measured_is_found(done: DemoRun) -> None:
    path = done.record.folder / "provenance.json"
    document = json.loads(path.read_bytes())
    document["@graph"].append({"@id": "figure:Offline.best", "@type": "prov:Entity", "value": 9e9})
    path.write_text(json.dumps(document))
    code, output = say("verify", done.record.folder)
    assert code == BAD and "figure:Offline.best: no line of" in output


def test_an_edited_line_is_named_by_its_number(done: DemoRun) -> None:
    number = done.number("result", "performance.Offline")
    lines = done.record.path.read_bytes().split(b"\n")
    lines[number - 1] = (
        lines[number - 1]
        .replace(b'"samples_per_second"', b'"samples"')
        .replace(b"succeeded", b"succeeded ")
    )
    done.record.path.write_bytes(b"\n".join(lines))
    code, output = say("verify", f"{done.record.folder}#Offline.throughput")
    assert code == BAD and f"{done.record.path}:{number}: does not tell of" in output
    assert f"{done.record.path}:{number + 1}: does not follow the line before it" in output


@pytest.mark.parametrize("step", ["performance.Offline", "filter", "fetch-images"])
@pytest.mark.parametrize("chained", [False, True], ids=["cut out", "chained anew"])
def test_a_removed_line_is_found(done: DemoRun, step: str, chained: bool) -> None:
    number = done.number("result", step)
    lines = done.lines()
    removed = lines.pop(number - 1)
    assert removed["data"]["state"] == "succeeded"
    if chained:
        rewrite(done.record, lines)
    else:
        raw = done.record.path.read_bytes().split(b"\n")
        done.record.path.write_bytes(b"\n".join(raw[: number - 1] + raw[number:]))
    for place in (f"{done.record.folder}#Offline.throughput", f"{done.tree}#Offline.throughput"):
        code, output = say("verify", place)
        assert code == BAD
        assert f"{done.record.path}:{number}: does not tell of" in output
        assert f"artifact:demo/{RUN}/{step}/1/" in output and "no line of" in output


def test_a_removed_record_is_gone_and_not_wrong(done: DemoRun) -> None:
    done.record.path.unlink()
    for place in ("run", "published", "tree"):
        code, output = say("verify", places(done)[place])
        assert code == GONE, output
        assert f"record {done.record.path}: the record is not here" in output
        assert "Nothing is wrong" in output
    flip(TAMPERED["log"](done))
    code, output = say("verify", done.record.folder)
    assert code == BAD and "performance.Offline/1/logs: its bytes have changed" in output


def forged(done: DemoRun, **changes: Any) -> dict[str, Any]:
    """The approval's line, with another answer under the old signature."""
    line = done.lines()[done.number("approval", "approve") - 1]
    return {**line, "data": {**line["data"], "answer": {**line["data"]["answer"], **changes}}}


def test_an_answer_that_was_edited_is_found(done: DemoRun) -> None:
    lines = done.lines()
    lines[done.number("approval", "approve") - 1] = forged(done, by="grace")
    rewrite(done.record, lines)
    code, output = say("verify", f"{done.record.folder}#Offline.throughput")
    number = done.number("approval", "approve")
    assert code == BAD
    assert f"approval approve of demo/{RUN}, line {number}" in output
    assert "answer is {'gate'" in output  # and the document beside it tells another


def test_an_answer_that_was_added_is_found(done: DemoRun) -> None:
    """Signed with a key of somebody's own, in a chain as if nobody had touched it."""
    other = SigningKey(done.home.path.parent / "other")
    line = forged(done, by="mallory")
    answer = Approval.model_validate(line["data"]["answer"])
    line["data"]["signature"] = other.sign(message_of("demo", RUN, answer))
    rewrite(done.record, [*done.lines(), line])
    (done.record.folder / "provenance.json").unlink()
    code, output = say("verify", f"{done.record.folder}#Offline.throughput")
    last = len(done.lines())
    assert code == BAD and f"line {last}: the answer at the gate 'approve' is not signed" in output


def test_an_answer_forged_in_a_package_is_found(done: DemoRun) -> None:
    path = done.tree / "open/Proctor-Demo/documentation/approvals.json"
    answers = json.loads(path.read_bytes())
    path.write_text(json.dumps([{**answers[0], "by": "mallory"}]))
    code, output = say("verify", done.tree)
    assert code == BAD
    assert "approvals.json: mallory: nobody signed this answer" in output


def test_an_answer_that_a_document_merely_tells_of_is_signed_by_nobody(done: DemoRun) -> None:
    folder = done.tree / "open/Proctor-Demo/documentation"
    answers = json.loads((folder / "approvals.json").read_bytes())
    forged_answer = {**answers[0], "by": "mallory"}
    (folder / "approvals.json").write_text(json.dumps([forged_answer]))
    [document] = json.loads((folder / "provenance.json").read_bytes())
    document["@graph"].append({"@id": "approval:x", "answer": forged_answer})
    (folder / "provenance.json").write_text(json.dumps([document]))
    code, output = say("verify", done.tree)
    assert code == BAD
    assert "approvals.json: mallory: nobody signed this answer" in output


def test_another_site_s_package_is_not_called_wrong_by_one_with_a_key_of_its_own(
    done: DemoRun, tmp_path: Path
) -> None:
    home = Home(tmp_path / "elsewhere")
    home.create()
    assert SigningKey(home.path).public()
    archive = tmp_path / "submission.tar.gz"
    shutil.copyfile(done.record.folder / "submission.tar.gz", archive)
    code, output = say("verify", archive, "--home", str(home.path))
    assert code == GONE and "ask the site for its key" in output


def test_a_key_of_one_s_own_in_a_document_does_not_help(done: DemoRun, tmp_path: Path) -> None:
    other = SigningKey(tmp_path / "other")
    path = done.tree / "open/Proctor-Demo/documentation/provenance.json"
    [document] = json.loads(path.read_bytes())
    document["public_key"] = other.public()
    for node in document["@graph"]:
        if node["@id"].startswith("approval:"):
            node["answer"]["by"] = "mallory"
            answer = Approval.model_validate(node["answer"])
            node["signature"] = other.sign(message_of("demo", RUN, answer))
    path.write_text(json.dumps([document]))
    code, output = say("verify", f"{done.tree}#Offline.throughput")
    assert code == BAD and "is not signed with this site's key" in output
    # Where the site's key is not known, nobody is told that the answer is good.
    answers = [node["answer"] for node in document["@graph"] if "answer" in node]
    path.with_name("approvals.json").write_text(json.dumps(answers))
    shutil.copytree(done.tree, tmp_path / "away")
    code, output = say("verify", tmp_path / "away", "--home", str(tmp_path / "none"))
    assert code == GONE and "ask the site for its key" in output


def test_a_package_on_another_machine_says_what_is_not_there(done: DemoRun, tmp_path: Path) -> None:
    archive = tmp_path / "submission.tar.gz"
    shutil.copyfile(done.record.folder / "submission.tar.gz", archive)
    words = (archive, "--home", str(tmp_path / "none"))
    code, output = say("verify", *words)
    assert code == GONE
    assert f"output artifact:demo/{RUN}/performance.Offline/1/logs: is not in" in output
    assert "the record is not here" in output
    code, output = say("show", *words)
    assert code == 0 and "made by fetch-images" in output and "Not all is shown" in output


def test_outputs_that_were_removed_are_gone(done: DemoRun) -> None:
    shutil.rmtree(done.artifact("fetch-images", "dataset"))
    code, output = say("verify", f"{done.record.folder}#Offline.throughput")
    assert code == GONE and "fetch-images/1/dataset: is not in" in output


def test_a_source_on_this_machine_is_read_again(done: DemoRun) -> None:
    """Another file there now is not wrong: what was fetched is still here."""
    header = done.lines()[0]
    path = Path(header["data"]["params"]["images_uri"].removeprefix("file://"))
    assert f"source {path}" not in say("verify", done.record.folder)[1]
    before = path.read_bytes()
    try:
        path.write_bytes(b"another")
        code, output = say("verify", f"{done.record.folder}#Offline.throughput")
    finally:
        path.write_bytes(before)
    assert code == GONE and f"source scenes.zip: {path} is another one now" in output


@pytest.fixture
def dataset(whole: DemoRun, tmp_path: Path) -> Path:
    """The filtered dataset by itself."""
    target = tmp_path / "dataset"
    shutil.copytree(whole.artifact("filter", "dataset"), target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def test_a_dataset_by_itself_tells_its_sources(dataset: Path, tmp_path: Path) -> None:
    code, output = say("verify", dataset, "--home", str(tmp_path / "none"))
    assert code == 0 and "source scenes.zip: where it lies was not told" in output
    code, output = say("show", dataset)
    assert code == 0 and "made by dataset filter-coco" in output
    assert "licences http://creativecommons.org/licenses/by/2.0/" in output
    assert "embedded:digits/annotations.json" in output


def test_a_dataset_by_itself_is_compared_file_by_file(dataset: Path) -> None:
    images = sorted((dataset / "val2017").iterdir())
    flip(images[0])
    code, output = say("verify", dataset)
    assert code == BAD and f"file val2017/{images[0].name}: its bytes have changed" in output
    images[0].unlink()
    code, output = say("verify", dataset / "croissant.json")
    assert code == GONE and f"val2017/{images[0].name}: is not there" in output
    (dataset / "val2017" / "more.png").write_bytes(b"x")
    code, output = say("verify", dataset)
    assert code == BAD and "val2017/more.png: images.csv does not name it" in output


@pytest.mark.parametrize(
    "distribution",
    [
        [{"contentUrl": "../../secret", "sha256": "0" * 64}],
        [{"contentUrl": "/etc/passwd", "sha256": "0" * 64}],
        [{"contentUrl": "images.csv", "encodingFormat": "text/csv"}, {"includes": "x", "@id": "/"}],
        "none", None, [1, "x"], {},
    ],
)  # fmt: skip
def test_metadata_from_strangers_do_no_harm(dataset: Path, distribution: Any) -> None:
    path = dataset / "croissant.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "distribution": distribution}))
    code, output = say("verify", dataset)
    assert code in (0, BAD) and "Traceback" not in output


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 5000, '{"format": "proctor.provenance/1"}',
     '{"format": "proctor.provenance/1", "@graph": [{"@id": "approval:x", "answer": 5}]}',
     '{"format": "proctor.provenance/1", "@graph": [{"@id": "approval:x"}, {"@id": "figure:a",'
     ' "approved": {"@id": "approval:x"}}]}',
     '{"format": "proctor.provenance/1", "@graph": [{"@id": "figure:a", "told_in": [{"file":'
     ' "/etc/passwd", "line": 1, "sha256": ""}]}]}',
     '{"format": "proctor.provenance/1", "@graph": [{"@id": "figure:a", "prov:wasDerivedFrom":'
     ' [{"@id": "artifact:../../x"}, 7]}]}'],
)  # fmt: skip
def test_documents_from_strangers_do_no_harm(tmp_path: Path, text: str) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(text)
    for command in ("show", "verify"):
        code, output = say(command, path, "--home", str(tmp_path / "none"))
        assert code in (0, 1, 2, 3) and "Traceback" not in output and "root:" not in output


def test_what_holds_no_provenance_says_what_would(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "none"):
        code, output = say("show", path)
        assert code == 2 and str(path) in output


def test_addresses_are_shown_without_their_secrets() -> None:
    assert shown("https://me:word@example.org/a.zip?token=1#x") == "https://example.org/a.zip?…"
    assert shown("file:///home/me/data") == "file:///…/data"
    assert shown({"a": ["s3://b/c", 5, "plain"]}) == {"a": ["s3://b/c", 5, "plain"]}
    assert shown("http://[broken") == "(not a valid URI)"
    assert source_of({"sha256": "no"}) == {}


def test_keys_are_not_in_any_document(whole: DemoRun) -> None:
    seed = (whole.home.path / "keys" / "approvals.key").read_bytes()
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert key.public_key() is not None
    import base64

    text = (whole.record.folder / "provenance.json").read_text()
    assert base64.b64encode(seed).decode() not in text


def test_a_step_that_was_taken_over_is_told_as_the_run_that_did_it(tmp_path: Path) -> None:
    """The second run has the first one's outputs, and both records tell of them."""
    from proctor.airflow.provenance import provenance
    from reuse_kit import Site

    site = Site(tmp_path)
    out = (PlannedOutput(name="data", mount_path="/proctor/out/data"),)
    fetch = PlanStep(
        id="fetch", step="fetch", image="proctor/steps", command=("a",), outputs=out,
        publish=("data/*",),
    )  # fmt: skip
    plan = Plan(pipeline="p", steps=(fetch,))
    site.drive(plan, {})
    record, started = site.drive(plan, {})
    assert started == []
    known = nodes([provenance(site.home, record)])
    made = known["attempt:p/r1/fetch/1"]
    assert made["taken_over_in"] == "p/r2" and "attempt:p/r2/fetch/1" not in known
    assert made["told_in"][0]["file"] == "runs/p/r2/record/lines.jsonl"
    assert "artifact:p/r1/fetch/1/data" in known
    code, output = say("show", record.folder)
    assert code == 0 and "taken over in p/r2" in output
    assert say("verify", record.folder)[0] == 0


def test_an_attempt_that_was_replaced_is_still_told_of(tmp_path: Path) -> None:
    """A package that was made from it does not become wrong when its step is done anew."""
    from test_run_verify import Done

    from proctor.airflow.provenance import provenance

    done = Done(tmp_path)
    before = nodes([provenance(done.home, done.record)])
    done.run_step(4)
    after = nodes([provenance(done.home, done.record)])
    assert "artifact:p/r/fetch/2/data" in after
    for id, node in before.items():
        assert after[id] == node


def test_a_run_that_was_rewritten_as_a_whole_is_found_by_its_answer(done: DemoRun) -> None:
    """Other logs, their digests and figures in a record chained anew, and no document left."""
    logs = done.artifact("performance.Offline", "logs")
    run = json.loads((logs / "run.json").read_bytes())
    run["metric"]["value"] = 9999.5
    (logs / "run.json").write_text(json.dumps(run))
    lines = done.lines()
    result = lines[done.number("result", "performance.Offline") - 1]["data"]
    result["metrics"]["loadgen"]["metric"]["value"] = 9999.5
    before, now = result["outputs"]["logs"]["sha256"], tree_digest(logs)[0]
    rewrite(done.record, json.loads(json.dumps(lines).replace(before, now)))
    (done.record.folder / "provenance.json").unlink()
    code, output = say("verify", f"{done.record.folder}#Offline.throughput")
    assert code == BAD and "the evidence has changed since ada answered" in output
    assert "its bytes have changed" not in output


def test_what_each_subject_left_leads_back_to_its_own_part(tmp_path: Path) -> None:
    from proctor.plan.model import Input, Source
    from proctor.site.home import Home

    data = (PlannedOutput(name="data", mount_path="/out"),)
    wanted = Input(name="all", mount_path="/in", sources=(Source(step="a", output="data"),))
    steps = (
        PlanStep(id="a", step="a", partition="subjects-1", outputs=data),
        PlanStep(id="b", step="b", inputs=(wanted,), outputs=data, upstream=("a",)),
    )
    plan = Plan(pipeline="p", steps=steps)
    home = Home(tmp_path)
    home.records.save_plan(plan)
    record = home.records.run("p", "r")
    record.append("header", plan_digest=plan.digest, data={"params": {}})
    for number, name in enumerate(("ann", "bob"), start=1):
        part = record.subject(name)
        part.append("header", plan_digest=plan.digest, data={"params": {}})
        left(part, "a", f"{number}" * 64, {"partition": name})
    left(record, "b", "c" * 64, {"inputs": {"all/ann": "1" * 64, "all/bob": "2" * 64}})
    known = nodes([document(home.records, record, lambda uri: None)])
    used = [each["@id"] for each in known["attempt:p/r/b/1"]["prov:used"]]
    of = {name: record.subject(name).run for name in ("ann", "bob")}
    assert used == [f"artifact:p/{of[name]}/a/1/data" for name in ("ann", "bob")]
    made = known[f"attempt:p/{of['bob']}/a/1"]
    assert made["subject"] == "bob" and "/subjects/" in made["told_in"][0]["file"]


def left(record: RunRecord, step: str, sha256: str, parts: dict[str, Any]) -> None:
    """A step that left one output."""
    begun = {"status": "running", "identity_parts": parts}
    record.append("attempt", step=step, attempt=1, identity=digest(parts), data=begun)
    uri = f"artifact:{record.pipeline}/{record.run}/{step}/1/data"
    outputs = {"data": {"uri": uri, "sha256": sha256, "bytes": 1}}
    data = {"state": "succeeded", "outputs": outputs}
    record.append("result", step=step, attempt=1, identity=digest(parts), data=data)


def test_a_step_s_service_is_told_of(tmp_path: Path) -> None:
    from proctor.plan.model import PlannedService
    from proctor.site.home import Home

    served = PlannedService(id="sut", step="sut", image="proctor/sut", port=80)
    out = (PlannedOutput(name="data", mount_path="/out"),)
    step = PlanStep(id="a", step="a", services=("sut",), outputs=out)
    plan = Plan(pipeline="p", steps=(step,), services=(served,))
    home = Home(tmp_path)
    home.records.save_plan(plan)
    record = home.records.run("p", "r")
    record.append("header", plan_digest=plan.digest, data={"params": {}})
    parts = {"image": "sha256:" + "5" * 64, "params": {"threads": 2}}
    begun = {"status": "running", "identity_parts": parts}
    record.append("attempt", step="sut", attempt=1, identity=digest(parts), data=begun)
    left(record, "a", "c" * 64, {"services": {"sut": digest(parts)}})
    known = nodes([document(home.records, record, lambda uri: None)])
    assert known["attempt:p/r/a/1"]["prov:used"] == [{"@id": "attempt:p/r/sut/1"}]
    served_by = known["attempt:p/r/sut/1"]
    assert served_by["image_digest"] == parts["image"] and served_by["parameters"] == {"threads": 2}
