"""The submission package: its tree, its cut logs, its archive, and what it says of itself."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evidence_kit import Kit, approval
from proctor.cli import app
from proctor_steps.contract import Result, tree_digest
from proctor_steps.stage import DataError
from proctor_steps.submission import archive, machine, system
from proctor_steps.submission.facts import Fact
from proctor_steps.submission.merge import merge
from proctor_steps.submission.package import STAGE

NAMES = {"runs": "accuracy_logs", "accuracy": "scores"}
PARAMS = {
    "submitter": "Example",
    "division": "closed",
    "system_name": "box-1",
    "benchmark": "yolo",
}
FULL_SYSTEM = {
    "status": "available",
    "host_memory_configuration": "2 x 8 GB DDR5",
    "host_networking": "Ethernet",
    "host_networking_topology": "N/A",
    "host_network_card_count": "1",
    "host_storage_capacity": "256 GB",
    "host_storage_type": "NVMe SSD",
    "host_processor_model_name": "Example CPU",
    "host_memory_capacity": "16 GB",
    "cooling": "air",
}
FULL_MEASUREMENTS = {
    "retraining": "no",
    "weight_data_types": "fp32",
    "weight_transformations": "none",
}


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


def package(kit: Kit, **params: Any) -> tuple[Result, Path]:
    return kit.run(STAGE, "package", {**PARAMS, **params}, NAMES)


def rules(result: Result) -> list[str]:
    return [finding.rule for finding in result.findings]


def home(out: Path, division: str = "closed") -> Path:
    return out / "tree" / division / "Example"


def test_the_tree_is_the_round_s(kit: Kit) -> None:
    result, out = package(kit.fill())
    assert result.status == "ok", result.message
    files = {p.relative_to(home(out)).as_posix() for p in home(out).rglob("*") if p.is_file()}
    of_scenario = {
        "measurements.json",
        "user.conf",
        "README.md",
        "performance/run_1/mlperf_log_summary.txt",
        "performance/run_1/mlperf_log_detail.txt",
        "accuracy/mlperf_log_summary.txt",
        "accuracy/mlperf_log_detail.txt",
        "accuracy/mlperf_log_accuracy.json",
        "accuracy/accuracy.txt",
    }
    expected = {
        f"results/box-1/yolo-99/{scenario}/{name}"
        for scenario in ("SingleStream", "MultiStream", "Offline")
        for name in of_scenario
    }
    expected |= {"systems/box-1.json"}
    documents = ("README.md", "approvals.json", "calibration.md", "provenance.json")
    expected |= {f"documentation/{name}" for name in documents}
    source = {name for name in files if name.startswith("src/yolo-99/")}
    assert files - source == expected
    assert "src/yolo-99/README.md" in source
    assert "src/yolo-99/proctor_steps/submission/package.py" in source
    assert not [name for name in source if "embedded" in name or "__pycache__" in name]
    assert all((home(out) / name).stat().st_size for name in files - source)


def test_performance_and_accuracy_logs_are_not_mixed_up(kit: Kit) -> None:
    _, out = package(kit.fill())
    folder = home(out) / "results/box-1/yolo-99/Offline"
    assert (folder / "performance/run_1/mlperf_log_detail.txt").read_text() == (
        "Offline performance detail\n"
    )
    assert (folder / "accuracy/mlperf_log_detail.txt").read_text() == "Offline accuracy detail\n"


def test_runs_on_a_disturbed_machine_stay_out_of_the_tree(kit: Kit) -> None:
    kit.fill()
    folder = kit.logs("Offline", "performance", disturbed=["others took 1.00 of 2 processors"])
    (folder / "disturbed" / "1").mkdir(parents=True)
    for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt", "run.json", "user.conf"):
        (folder / "disturbed" / "1" / name).write_text("a disturbed run")
    result, out = package(kit)
    assert result.status == "ok", result.message
    files = [path for path in home(out).rglob("*") if path.is_file()]
    assert not [path for path in files if "disturbed" in path.relative_to(home(out)).parts]
    assert not [path for path in files if path.read_bytes() == b"a disturbed run"]
    readme = (home(out) / "results/box-1/yolo-99/Offline/README.md").read_text()
    assert "| Machine | not quiet: others took 1.00 of 2 processors |" in readme


@pytest.mark.parametrize("size", [0, 100, 4095, 4096, 5000, 8192, 8199, 100_000])
def test_the_accuracy_log_is_cut_as_the_official_script_cuts_it(tmp_path: Path, size: int) -> None:
    data = bytes(65 + i % 26 for i in range(size))
    source, target = tmp_path / "whole.json", tmp_path / "cut.json"
    source.write_bytes(data)
    sha256 = archive.truncate_accuracy_log(source, target)
    cut = data if size < 4096 else data[:4096] + b"\n\n...\n\n" + data[-4096:]
    assert target.read_bytes() == cut
    assert len(cut) <= 8199
    assert sha256 == hashlib.sha256(data).hexdigest()


def test_the_hash_of_the_whole_log_follows_the_score(kit: Kit) -> None:
    result, out = package(kit.fill())
    whole = (kit.folder("runs", "Offline") / "mlperf_log_accuracy.json").read_bytes()
    sha256 = hashlib.sha256(whole).hexdigest()
    folder = home(out) / "results/box-1/yolo-99/Offline"
    assert len(whole) > 8199 == (folder / "accuracy/mlperf_log_accuracy.json").stat().st_size
    text = (folder / "accuracy/accuracy.txt").read_text()
    assert text == f"mAP=53.410%\n\nhash={sha256}\n"
    assert sha256 in (folder / "README.md").read_text()
    made = result.metrics["package"]
    assert isinstance(made, dict) and made["accuracy_log_sha256"]["Offline"] == sha256  # type: ignore[index,call-overload]


def test_the_archive_has_the_same_bytes_again(kit: Kit) -> None:
    first, out = package(kit.fill())
    for path in kit.root.rglob("*"):
        os.utime(path, (1, 1))
    again, other = package(kit)
    one, two = (folder / "submission.tar.gz" for folder in (out, other))
    assert one.read_bytes() == two.read_bytes()
    assert first.metrics["package"] == again.metrics["package"]
    made = first.metrics["package"]
    assert isinstance(made, dict)
    assert made["sha256"] == hashlib.sha256(one.read_bytes()).hexdigest()
    assert made["bytes"] == one.stat().st_size


def test_the_archive_has_no_times_owners_or_odd_entries(kit: Kit) -> None:
    result, out = package(kit.fill())
    data = (out / "submission.tar.gz").read_bytes()
    assert data[4:8] == b"\0\0\0\0"  # gzip's own clock
    assert data[3] & 0x08 == 0  # and no file name
    with tarfile.open(out / "submission.tar.gz") as tar:
        entries = tar.getmembers()
    names = [entry.name for entry in entries]
    assert names == sorted(names) and all(name.startswith("closed/Example/") for name in names)
    for entry in entries:
        assert entry.isfile() and (entry.mtime, entry.uid, entry.gid) == (0, 0, 0)
        assert (entry.uname, entry.gname, entry.mode) == ("", "", 0o644)
    made = result.metrics["package"]
    assert isinstance(made, dict) and made["files"] == len(entries)
    assert len(gzip.decompress(data)) % 512 == 0


def test_what_the_repository_refuses_is_not_packed(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "config").write_text("x")
    (root / "two words").write_text("x")
    (root / "link").symlink_to("two words")
    with (root / "large").open("wb") as file:
        file.truncate(50 * 2**20 + 1)
    with pytest.raises(DataError) as caught:
        archive.pack(root, tmp_path / "x.tar.gz")
    for text in (".git: begins with a dot", "two words: has a blank", "link: a symbolic", "large:"):
        assert text in str(caught.value)


def test_each_file_that_the_repository_refuses_is_a_finding(kit: Kit) -> None:
    kit.fill()
    for scenario in ("Offline", "SingleStream"):
        with (kit.folder("performance", scenario) / "mlperf_log_detail.txt").open("wb") as file:
            file.truncate(50 * 2**20 + 1)
    result, _ = package(kit)
    assert result.status == "data_error" and "does not take these files" in result.message
    told = [f for f in result.findings if f.rule == "submission_file"]
    assert [f.where.split("/")[5] for f in told] == ["Offline", "SingleStream"]
    assert all("52,428,801 bytes; 50 MiB is the most; cut it" in f.message for f in told)


@pytest.mark.parametrize(
    ("value", "folder", "told"),
    [(0.5341, "yolo-99", False), (0.5100, "yolo-95", False), (0.4, "yolo-95", True)],
)
def test_the_folder_follows_the_accuracy(kit: Kit, value: float, folder: str, told: bool) -> None:
    kit.fill().score("Offline", value=value, met=value > 0.5)
    result, out = package(kit)
    assert [p.name for p in (home(out) / "results/box-1").iterdir()] == [folder]
    assert ("accuracy_target" in rules(result)) is told


def test_a_scenario_without_all_its_files_is_left_out_and_told(kit: Kit) -> None:
    kit.fill()
    (kit.folder("runs", "Offline") / "mlperf_log_summary.txt").write_text("")
    (kit.folder("performance", "Offline") / "user.conf").unlink()
    result, out = package(kit)
    assert result.status == "ok"
    (finding,) = [f for f in result.findings if f.rule == "incomplete_scenario"]
    assert "Offline is left out" in finding.message
    assert "user.conf of the performance log" in finding.message
    assert "mlperf_log_summary.txt of the accuracy log" in finding.message
    assert not (home(out) / "results/box-1/yolo-99/Offline").exists()


def test_what_measurements_lack_is_told_where_the_first_scenario_is_left_out_too(kit: Kit) -> None:
    kit.fill()
    (kit.folder("performance", "SingleStream") / "user.conf").unlink()
    result, _ = package(kit)
    assert "measurements" in rules(result)


def test_a_scenario_that_the_round_does_not_have_is_left_out(kit: Kit) -> None:
    result, out = package(kit.fill(("SingleStream", "MultiStream", "Server", "Offline")))
    assert "incomplete_scenario" in rules(result)
    assert not (home(out) / "results/box-1/yolo-99/Server").exists()


def test_results_of_another_benchmark_are_refused(kit: Kit) -> None:
    kit.fill().logs("Offline", "performance", benchmark="digits")
    kit.score("SingleStream", benchmark="digits")
    result, _ = package(kit)
    assert result.status == "data_error"
    assert "Offline: the performance run is of digits, not yolo" in result.message
    assert "SingleStream: the score is of digits, not yolo" in result.message


def test_nothing_complete_is_a_data_error_that_says_why(kit: Kit) -> None:
    kit.logs("Offline", "performance")
    result, _ = package(kit)
    assert result.status == "data_error"
    assert "there is nothing to package" in result.message
    assert "no accuracy log; no score" in result.message
    empty, _ = package(Kit(kit.root / "other"))
    assert empty.status == "data_error" and "nothing to package" in empty.message


@pytest.mark.parametrize("name", ["", "../up", "two words", ".hidden", "a/b", "-x", "ä"])
@pytest.mark.parametrize("key", ["submitter", "system_name"])
def test_a_name_that_is_no_folder_is_refused(kit: Kit, key: str, name: str) -> None:
    result, _ = package(kit, **{key: name})
    assert result.status == "step_error"
    assert key in result.message and "folder's name" in result.message


def test_the_server_that_a_model_stood_behind_is_named(kit: Kit) -> None:
    sut = {"backend": "openvino", "version": "2026.2", "endpoint": {"server": "triton 2.60.0"}}
    kit.fill().logs("Offline", "performance", sut=sut)
    _, out = package(kit, system=FULL_SYSTEM, measurements=FULL_MEASUREMENTS)
    fields = json.loads((home(out) / "systems/box-1.json").read_text())
    assert "openvino 2026.2 behind triton 2.60.0 (HTTP)" in fields["framework"]


def test_a_full_description_leaves_nothing_to_tell(kit: Kit) -> None:
    kit.approvals = (approval(),)
    for scenario in ("SingleStream", "MultiStream", "Offline"):
        kit.compliance(scenario)
    result, out = package(kit.fill(), system=FULL_SYSTEM, measurements=FULL_MEASUREMENTS)
    assert result.findings == ()
    fields = json.loads((home(out) / "systems/box-1.json").read_text())
    assert set(fields) == set(system.FIELDS) and len(system.FIELDS) == 35
    assert (fields["submitter"], fields["division"]) == ("Example", "closed")
    assert fields["system_type"] == "edge"
    assert fields["framework"] == "onnxruntime 1.31.1"
    assert fields["accelerators_per_node"] == "0"
    measured = json.loads(
        (home(out) / "results/box-1/yolo-99/Offline/measurements.json").read_text()
    )
    assert measured == {
        **FULL_MEASUREMENTS,
        "input_data_types": "fp32",
        "starting_weights_filename": "net.onnx",
    }


def test_nothing_that_is_known_is_lost_to_an_empty_statement(kit: Kit) -> None:
    stated = {"input_data_types": " ", "starting_weights_filename": "", "retraining": ""}
    result, out = package(kit.fill(), measurements=stated)
    folder = home(out) / "results/box-1/yolo-99"
    for scenario in ("SingleStream", "MultiStream", "Offline"):
        measured = json.loads((folder / scenario / "measurements.json").read_text())
        assert list(measured) == list(system.MEASUREMENTS)
        assert (measured["input_data_types"], measured["retraining"]) == ("fp32", "")
    (told,) = [f.message for f in result.findings if f.rule == "measurements"]
    assert "nothing is known of retraining, weight_data_types, weight_transformations" in told


def test_what_is_not_known_is_told_and_not_invented(kit: Kit) -> None:
    result, out = package(kit.fill())
    told = " ".join(f.message for f in result.findings if f.rule == "system_description")
    fields = json.loads((home(out) / "systems/box-1.json").read_text())
    for name in ("status", "cooling", "host_networking_topology"):
        assert name in told and fields[name] == ""
    assert "measurements" in rules(result)


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        ({"status": "soon"}, "status 'soon'"),
        ({"system_type": "cloud"}, "system_type 'cloud'"),
        ({"accelerators_per_node": "N/A"}, "accelerators_per_node 'N/A' is no whole number"),
        ({"number_of_nodes": "two"}, "number_of_nodes 'two'"),
    ],
)
def test_a_field_that_the_checker_refuses_is_told(stated: dict[str, Any], text: str) -> None:
    problems = system.describe(stated, {}, {}).problems
    assert any(text in problem for problem in problems)


def test_an_accelerator_must_be_described(kit: Kit) -> None:
    kit.devices = ("gpu:0",)
    result, _ = package(kit.fill(), system=FULL_SYSTEM)
    told = " ".join(f.message for f in result.findings)
    assert "accelerators_per_node" in told and "accelerator_model_name" in told


@pytest.mark.parametrize("sut", [{"devices": None}, {"endpoint": {"same_host": True}}])
def test_where_nobody_says_whether_there_was_an_accelerator_the_machine_does(
    kit: Kit, sut: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.fill()
    for scenario in ("SingleStream", "MultiStream", "Offline"):
        kit.logs(scenario, "performance", sut={"backend": "openvino", **sut})

    def described(facts: dict[str, Fact]) -> Any:
        monkeypatch.setattr(machine, "discover", lambda: machine.Machine(facts))
        _, out = package(kit, system=FULL_SYSTEM)
        return json.loads((home(out) / "systems/box-1.json").read_text())

    assert described({})["accelerators_per_node"] == "0"
    card = {"accelerator_model_name": Fact("NVIDIA H200", "nvidia-smi")}
    assert described(card)["accelerator_model_name"] == "NVIDIA H200"


def test_another_submitter_in_the_description_is_refused(kit: Kit) -> None:
    result, _ = package(kit.fill(), system={"submitter": "Someone"})
    assert result.status == "data_error" and "submitter" in result.message


def test_a_scenario_without_a_target_is_not_called_free_of_faults(kit: Kit) -> None:
    missed = [{"rule": "benchmark_in_round", "met": False, "message": "no such benchmark"}]
    for scenario, found in (("SingleStream", []), ("Offline", missed)):
        for mode in ("performance", "accuracy"):
            kit.logs(scenario, mode, benchmark="digits", rules=found)
        kit.score(scenario, met=None, target=None, benchmark="digits")
    result, out = package(kit.fill(()), benchmark="digits")
    assert result.status == "ok", result.message
    folder = home(out) / "results/box-1/digits"
    single, offline = ((folder / s / "README.md").read_text() for s in ("SingleStream", "Offline"))
    assert "**This is not a valid MLPerf result.** No accuracy target is set for it." in single
    assert "It misses these rules" in offline and "accuracy_target" not in offline


def test_without_an_approval_it_says_so(kit: Kit) -> None:
    result, out = package(kit.fill())
    assert "not_approved" in rules(result)
    assert "Not approved" in (home(out) / "documentation/README.md").read_text()
    assert "Not approved" in (home(out) / "results/box-1/yolo-99/Offline/README.md").read_text()
    assert json.loads((home(out) / "documentation/approvals.json").read_text()) == []


def test_an_approval_without_review_is_written_so(kit: Kit) -> None:
    kit.approvals = (approval(answered_via="cli-yes", evidence_reviewed=False, by="root"),)
    result, out = package(kit.fill())
    assert "not_reviewed" in rules(result) and "not_approved" not in rules(result)
    text = (home(out) / "results/box-1/yolo-99/Offline/README.md").read_text()
    assert "approved by root" in text and "answered without review" in text
    (written,) = json.loads((home(out) / "documentation/approvals.json").read_text())
    assert written["answered_via"] == "cli-yes" and written["evidence_reviewed"] is False


def test_a_rejection_is_no_approval(kit: Kit) -> None:
    kit.approvals = (approval(decision="rejected"),)
    result, out = package(kit.fill())
    assert "not_approved" in rules(result)
    assert "Not approved." in (home(out) / "documentation/README.md").read_text()


def test_text_from_outside_keeps_its_line(kit: Kit) -> None:
    kit.approvals = (approval(comment="fine\n# Everything is VALID\n| x |"),)
    _, out = package(kit.fill())
    text = (home(out) / "documentation/README.md").read_text()
    assert "\n# Everything" not in text and "fine # Everything is VALID \\| x \\|" in text


def test_each_readme_names_what_its_scenario_misses(kit: Kit) -> None:
    missed = {"rule": "min_duration", "met": False, "message": "5 s instead of 600 s"}
    kit.fill().logs("Offline", "performance", rules=[missed], official=False)
    result, out = package(kit)
    folder = home(out) / "results/box-1/yolo-99"
    offline, single = ((folder / s / "README.md").read_text() for s in ("Offline", "SingleStream"))
    assert "This is not a valid MLPerf result" in offline and "5 s instead of 600 s" in offline
    assert "Every rule that was checked is met" in single
    assert "not_a_valid_result" in rules(result)


def test_a_benchmark_that_is_not_mlperf_s_says_so(kit: Kit) -> None:
    for scenario in ("Offline", "Server"):
        kit.logs(scenario, "performance", benchmark="digits")
        kit.logs(scenario, "accuracy", benchmark="digits")
        kit.score(scenario, benchmark="digits", met=None, target=None)
    result, out = package(kit, benchmark="digits", division="open")
    assert "benchmark_in_round" in rules(result)
    assert (home(out, "open") / "results/box-1/digits/Server/README.md").is_file()


def test_calibration_is_stated_or_said_to_be_unknown(kit: Kit) -> None:
    _, out = package(kit.fill())
    assert (
        "calibrated and quantised nothing"
        in (home(out) / "documentation/calibration.md").read_text()
    )
    _, out = package(kit, calibration="With 500 images of train2017.")
    assert "500 images" in (home(out) / "documentation/calibration.md").read_text()


def test_compliance_tests_lie_beside_their_scenario(kit: Kit) -> None:
    kit.fill().compliance("Offline")
    failed = {"verdict": "fail", "official": False}
    kit.compliance("Offline", "TEST04", **failed)
    result, out = package(kit)
    folder = home(out) / "results/box-1/yolo-99/Offline"
    assert (folder / "TEST01/performance/run_1/mlperf_log_detail.txt").is_file()
    assert (folder / "TEST04/verify_performance.txt").is_file()
    assert not (folder / "TEST01/compliance.json").exists()
    assert "TEST01: pass, TEST04: fail" in (folder / "README.md").read_text()
    told = [f for f in result.findings if f.rule == "compliance_missing"]
    assert [f.where for f in told] == ["SingleStream, MultiStream"]


def test_the_open_division_needs_no_compliance_tests(kit: Kit) -> None:
    result, out = package(kit.fill(), division="open")
    assert "compliance_missing" not in rules(result)
    readme = home(out, "open") / "results/box-1/yolo-99/Offline/README.md"
    assert "| Compliance tests | none was run |" in readme.read_text()


def test_a_compliance_test_of_another_benchmark(kit: Kit) -> None:
    kit.fill().compliance("Offline", benchmark="digits")
    result, _ = package(kit)
    assert result.status == "data_error"
    assert "TEST01 is of digits, not yolo" in result.message


def test_where_it_is_to_be_uploaded_is_written_down(kit: Kit) -> None:
    _, out = package(kit.fill())
    assert not (out / "upload.json").exists()
    _, out = package(kit, upload_uri="s3://bucket/v6.1")
    assert json.loads((out / "upload.json").read_text()) == {"uri": "s3://bucket/v6.1"}
    result, _ = package(kit, upload_uri="https://bucket/v6.1")
    assert result.status == "step_error" and "to s3://bucket/prefix and nowhere" in result.message


def test_provenance_without_an_orchestrator_tells_what_the_mounts_tell(kit: Kit) -> None:
    _, out = package(kit.fill(("Offline",)))
    [told] = json.loads((home(out) / "documentation" / "provenance.json").read_bytes())
    graph = {node["@id"]: node for node in told["@graph"]}
    figure = graph["figure:Offline.throughput"]
    assert (figure["value"], figure["unit"]) == (690.0, "samples/s")
    [logs] = [each["@id"] for each in figure["prov:wasDerivedFrom"]]
    assert graph[logs]["sha256"] == tree_digest(kit.folder("performance", "Offline"))[0]
    assert {each["name"].rpartition("/")[2] for each in figure["files"]} == {
        "mlperf_log_summary.txt", "mlperf_log_detail.txt",
    }  # fmt: skip
    assert len(graph["figure:Offline.accuracy"]["prov:wasDerivedFrom"]) == 2


def test_merged_packages_keep_the_provenance_of_each(kit: Kit, tmp_path: Path) -> None:
    kit.fill(("Offline",))
    trees = [package(kit, system_name=name)[1] / "tree" for name in ("box-1", "box-2")]
    merge(trees, tmp_path / "merged")
    path = tmp_path / "merged" / "closed" / "Example" / "documentation" / "provenance.json"
    places = [
        node["name"]
        for each in json.loads(path.read_bytes())
        for node in each["@graph"]
        if node["@id"].startswith("package:")
    ]
    assert [place.split("/")[3] for place in places] == ["box-1", "box-2"]
    where = f"{tmp_path / 'merged'}#box-2/yolo-99/Offline.throughput"
    said = CliRunner().invoke(app, ["provenance", "verify", where, "--home", str(tmp_path / "x")])
    assert said.exit_code == 3 and "Nothing is wrong" in said.output, said.output
