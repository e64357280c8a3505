"""Rules that a closed edge submission does not meet with: other layouts, divisions, benchmarks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import submission_kit as kit
from proctor_steps.submission.check import run
from proctor_steps.submission.check.report import Report
from submission_mutations import logged

RUN = "performance/run_1"
TEST_FILES = (
    "First token check pass: True", "EOS check pass: True", "Sample length check pass: True",
)  # fmt: skip


@pytest.fixture
def tree(faultless: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(faultless, tmp_path / "tree"))


Benchmark = Callable[..., Path]


@pytest.fixture
def as_benchmark(tree: Path) -> Benchmark:
    """The SingleStream logs as those of another benchmark and scenario; the result's folder."""

    def make(name: str, scenario: str, system_type: str = "datacenter", **values: Any) -> Path:
        kit.edit_json(tree / kit.DESCRIPTION, {"system_type": system_type})
        (tree / kit.RESULTS).rename((tree / kit.RESULTS).with_name(name))
        folder = (tree / kit.RESULTS).with_name(name)
        (folder / "SingleStream").rename(folder / scenario) if scenario != "SingleStream" else None
        ran = {"Interactive": "Server"}.get(scenario, scenario)
        path = (folder / scenario / RUN / kit.DETAIL).relative_to(tree).as_posix()
        logged(path, effective_scenario=ran, **values)(tree)
        return folder / scenario

    return make


def rules(report: Report, severity: str, path: Path, root: Path) -> set[str]:
    """The rules that were found broken below a path."""
    below = path.relative_to(root).as_posix()
    return {
        f.rule for f in report.findings
        if f.severity.name.lower() == severity and f.path.startswith(below)
    }  # fmt: skip


def judged(tree: Path, round_: str = kit.ROUND) -> Report:
    report = run.check(tree, round_, jobs=1)
    assert "not_judged" not in {finding.rule for finding in report.findings}
    return report


class TestTokens:
    """Language models: the latencies of tokens."""

    FAST = {  # noqa: RUF012
        "requested_use_token_latencies": True,
        "result_first_token_99.00_percentile_latency_ns": 400_000_000,
        "result_time_per_output_token_99.00_percentile_ns": 20_000_000,
    }

    def log(self, folder: Path, **values: Any) -> None:
        """Keys that a log without tokens does not have are added."""
        path = folder / RUN / kit.DETAIL
        lines = "".join(
            f"{kit.PREFIX}{json.dumps({'key': k, 'value': v, 'metadata': {'is_error': False}})}\n"
            for k, v in (self.FAST | values).items()
        )
        kit.edit(path, lambda log: log.replace('"requested_use_token_latencies"', '"x"') + lines)

    def test_within_the_bounds(self, tree: Path, as_benchmark: Benchmark) -> None:
        folder = as_benchmark("llama2-70b-99.9", "Server")
        self.log(folder)
        found = judged(tree)
        assert "token_latency_bound" not in rules(found, "rejected", folder, tree)
        assert "token_latency_bound" not in rules(found, "against", folder, tree)

    def test_beyond_the_servers(self, tree: Path, as_benchmark: Benchmark) -> None:
        folder = as_benchmark("llama2-70b-99.9", "Server")
        self.log(folder, **{"result_first_token_99.00_percentile_latency_ns": 2_000_000_000})
        assert "token_latency_bound" in rules(judged(tree), "rejected", folder, tree)

    def test_interactive_is_held_to_its_own(self, tree: Path, as_benchmark: Benchmark) -> None:
        """The official checker takes the bounds of Server for it."""
        folder = as_benchmark("llama2-70b-99.9", "Interactive")
        self.log(folder, **{"result_first_token_99.00_percentile_latency_ns": 900_000_000})
        found = judged(tree)
        assert "token_latency_bound" not in rules(found, "rejected", folder, tree)
        assert "token_latency_bound" in rules(found, "against", folder, tree)

    def test_not_measured(self, tree: Path, as_benchmark: Benchmark) -> None:
        folder = as_benchmark("llama2-70b-99.9", "Server")
        assert "token_latencies" in rules(judged(tree), "rejected", folder, tree)


@pytest.mark.parametrize(("equal", "found"), [(False, {"equal_issue"}), (True, set())])
def test_samples_that_are_not_issued_equally(
    equal: bool, found: set[str], tree: Path, as_benchmark: Benchmark
) -> None:
    """The official checker asks for it in one earlier round alone."""
    folder = as_benchmark(
        "3d-unet-99", "SingleStream", "edge", effective_sample_concatenate_permutation=equal
    )
    report = judged(tree)
    assert rules(report, "against", folder / RUN, tree) & {"equal_issue"} == found
    assert "equal_issue" not in rules(report, "rejected", folder, tree)


def test_other_benchmarks_need_not_issue_equally(tree: Path, as_benchmark: Benchmark) -> None:
    folder = as_benchmark(
        "resnet", "SingleStream", "edge", effective_sample_concatenate_permutation=False
    )
    assert "equal_issue" not in rules(judged(tree), "against", folder, tree)


class TestVerification:
    """What the compliance tests of language models and recommenders leave."""

    @pytest.mark.parametrize(
        ("name", "test", "file", "good_text"),
        [
            ("llama2-70b-99.9", "TEST06", "verify_accuracy.txt", "\n".join(TEST_FILES)),
            ("gpt-oss-120b", "TEST07", "verify_accuracy.txt", "score\nTEST PASS, 61 %\n"),
            ("gpt-oss-120b", "TEST09", "verify_output_len.txt", "TEST PASS\n"),
            ("dlrm-v3", "TEST08", "verify_accuracy.txt", "TEST PASS\n"),
        ],
    )
    def test_said(
        self, name: str, test: str, file: str, good_text: str, tree: Path, as_benchmark: Benchmark
    ) -> None:
        folder = as_benchmark(name, "Server")
        rule = test.lower()
        assert "compliance_test" in rules(judged(tree), "rejected", folder / test, tree)
        kit.write(folder / test / file, "TEST FAIL\n")
        assert rule in rules(judged(tree), "rejected", folder / test, tree)
        kit.write(folder / test / file, good_text)
        assert rules(judged(tree), "rejected", folder / test, tree) == set()
        (folder / test / file).unlink()
        kit.write(folder / test / "other.txt", "x")
        assert rule in rules(judged(tree), "rejected", folder / test, tree)


def test_latency_of_a_server_run(tree: Path, as_benchmark: Benchmark) -> None:
    folder = as_benchmark("resnet", "Server", "datacenter,edge",
                          effective_target_latency_ns=16_000_000)  # fmt: skip
    assert "latency_bound" in rules(judged(tree), "rejected", folder, tree)


def test_files_that_a_round_names(tree: Path, as_benchmark: Benchmark) -> None:
    folder = as_benchmark("wan-2.2-t2v-a14b", "SingleStream")
    wanted = folder / "accuracy" / "videos"
    assert "accuracy_extra_files" in rules(judged(tree), "rejected", wanted, tree)
    from proctor_steps import rounds

    names = rounds.load(kit.ROUND).benchmarks["wan-2.2-t2v-a14b"].extra_files["videos"]
    for name in names:
        kit.write(wanted / f"{name}.mp4", "x")
    assert rules(judged(tree), "rejected", wanted, tree) == set()


class TestOpen:
    """The open division lifts names, scenarios, latency and accuracy, and nothing else."""

    @pytest.fixture
    def open_tree(self, tree: Path) -> Path:
        (tree / "closed").rename(tree / "open")
        description = tree / kit.DESCRIPTION.replace("closed", "open")
        kit.edit_json(description, {"division": "open"})
        return tree

    def results(self, tree: Path) -> Path:
        return tree / kit.RESULTS.replace("closed", "open")

    def test_targets_and_tests_are_lifted(self, open_tree: Path) -> None:
        folder = self.results(open_tree)
        shutil.rmtree(folder / "SingleStream" / "TEST01")
        shutil.rmtree(folder / "Offline")
        score = folder / "SingleStream" / "accuracy" / "accuracy.txt"
        kit.edit(score, lambda text: text.replace("53.103", "11.0"))
        assert judged(open_tree).within_rules

    def test_a_name_of_ones_own_needs_a_mapping(self, open_tree: Path) -> None:
        folder = self.results(open_tree)
        folder.rename(folder.with_name("my-detector"))
        assert not judged(open_tree).accepted
        mapping = open_tree / "open" / kit.SUBMITTER / "model_mapping.json"
        kit.write_json(mapping, {"my-detector": "yolo-99"})
        assert judged(open_tree).within_rules
        kit.write(mapping, "{")
        assert "model_mapping" in {finding.rule for finding in judged(open_tree).stops}

    def test_the_run_itself_is_held_to_the_rules(self, open_tree: Path) -> None:
        run_ = self.results(open_tree) / "SingleStream" / RUN / kit.DETAIL
        logged(run_.relative_to(open_tree).as_posix(), result_validity="INVALID")(open_tree)
        assert "result_validity" in rules(judged(open_tree), "against", run_, open_tree)

    def test_accuracy_must_be_told(self, open_tree: Path) -> None:
        score = self.results(open_tree) / "SingleStream" / "accuracy" / "accuracy.txt"
        kit.write(score, "fine\n")
        assert "accuracy_reported" in rules(judged(open_tree), "against", score, open_tree)


class TestNetwork:
    """The network division wants its own fields, and a SUT that says so."""

    def test_fields_and_name(self, tree: Path) -> None:
        (tree / "closed").rename(tree / "network")
        description = tree / kit.DESCRIPTION.replace("closed", "network")
        kit.edit_json(description, {"division": "network", "is_network": "true"})
        found = judged(tree)
        messages = " ".join(finding.message for finding in found.findings)
        assert "network_protocol is missing" in messages
        assert "network_sut_name" in {finding.rule for finding in found.findings}


class TestInference:
    """Edge results that are inferred from another scenario."""

    def test_allowed(self, tree: Path) -> None:
        # A run of ten minutes has enough queries for the estimate, a short one has not.
        for folder in (kit.SINGLE, f"{kit.SINGLE}/TEST01"):
            path = f"{folder}/{RUN}/{kit.DETAIL}"
            logged(path, early_stopping_latency_ms=5_000_000)(tree)
        for scenario in ("MultiStream", "Offline"):
            shutil.rmtree(tree / kit.RESULTS / scenario)
            shutil.copytree(tree / kit.SINGLE, tree / kit.RESULTS / scenario)
        report = judged(tree)
        assert report.findings == ()
        rows = {row.scope[-1]: row.columns for row in report.results}
        assert [rows[s]["inferred"] for s in kit.SCENARIOS] == [0, 1, 1]
        assert rows["MultiStream"]["Result"] > rows["SingleStream"]["Result"]

    def test_not_the_other_way_round(self, tree: Path) -> None:
        shutil.rmtree(tree / kit.SINGLE)
        shutil.copytree(tree / kit.RESULTS / "Offline", tree / kit.SINGLE)
        assert "scenario" in rules(judged(tree), "rejected", tree / kit.SINGLE, tree)


class TestPower:
    """What a power measurement leaves beside the run."""

    def measured(self, tree: Path, samples: str) -> Path:
        performance = tree / kit.SINGLE / "performance"
        kit.write(performance / "run_1" / "spl.txt", samples)
        shutil.copytree(performance / "run_1", performance / "ranging")
        for name in ("client.json", "client.log", "ptd_logs.txt", "server.json", "server.log"):
            kit.write(performance / "power" / name, "x")
        return performance

    def at_begin(self, tree: Path, watts: str) -> str:
        log = (tree / kit.SINGLE / RUN / kit.DETAIL).read_text()
        ended = log.split('"power_end", "value": "')[1][:23]
        before = ended[:20] + "000"
        return f"Time,{before},Watts,{watts},Volts,230\n"

    def test_complete(self, tree: Path) -> None:
        self.measured(tree, self.at_begin(tree, "230.5"))
        assert judged(tree).findings == ()

    def test_a_file_missing(self, tree: Path) -> None:
        performance = self.measured(tree, self.at_begin(tree, "230.5"))
        (performance / "power" / "ptd_logs.txt").unlink()
        assert "power_files" in rules(judged(tree), "rejected", performance / "power", tree)

    @pytest.mark.parametrize("samples", ["", "Time,01-01-2020 00:00:00.000,Watts,230,x\n",
                                         "Time,yesterday,Watts,230\n"])  # fmt: skip
    def test_no_sample_of_the_run(self, samples: str, tree: Path) -> None:
        performance = self.measured(tree, samples)
        assert "power_samples" in rules(judged(tree), "rejected", performance / "run_1", tree)

    def test_nothing_drawn(self, tree: Path) -> None:
        performance = self.measured(tree, self.at_begin(tree, "0"))
        assert "power_samples" in rules(judged(tree), "rejected", performance / "run_1", tree)


class TestTheLayoutOfV51:
    """measurements/ and compliance/ beside results/, the code in code/."""

    @pytest.fixture
    def old(self, tree: Path) -> Path:
        submission = tree / kit.SUBMISSION
        (submission / "src").rename(submission / "code")
        base = submission / "results" / kit.SYSTEM
        (base / kit.BENCHMARK).rename(base / "retinanet")
        for scenario in kit.SCENARIOS:
            place = f"{kit.SYSTEM}/retinanet/{scenario}"
            measured = submission / "measurements" / place
            measured.mkdir(parents=True)
            folder = base / "retinanet" / scenario
            folder.joinpath("measurements.json").rename(measured / f"{kit.SYSTEM}.json")
            for name in ("user.conf", "README.md"):
                (folder / name).rename(measured / name)
            tests = submission / "compliance" / place
            tests.mkdir(parents=True)
            (folder / "TEST01").rename(tests / "TEST01")
        self.of_v51(tree)
        return tree

    def of_v51(self, tree: Path) -> None:
        values = {
            "effective_qsl_rng_seed": 1780908523862526354,
            "effective_sample_index_rng_seed": 14771362308971278857,
            "effective_schedule_rng_seed": 18209322760996052031,
            "qsl_reported_total_count": 24781,
            "effective_accuracy_sample_count": 24781,
        }
        for path in tree.rglob(kit.DETAIL):
            more = {"effective_samples_per_query": 24576} if "Offline" in path.parts else {}
            logged(path.relative_to(tree).as_posix(), **values, **more)(tree)

    def test_the_checker_would_take_it(self, old: Path) -> None:
        report = judged(old, "v5.1")
        assert report.accepted
        assert not [f for f in report.findings if f.rule.startswith(("measurements", "test01"))]

    @pytest.mark.parametrize("place", ["measurements", "compliance"])
    def test_a_folder_missing(self, place: str, old: Path) -> None:
        folder = old / kit.SUBMISSION / place / kit.SYSTEM / "retinanet" / "Offline"
        shutil.rmtree(folder)
        assert rules(judged(old, "v5.1"), "rejected", folder, old)
