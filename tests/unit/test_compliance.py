"""What a compliance test's logs must show: made logs, each bent in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from compliance_kit import Kit, detail, hexed, summary, write_answers, write_detail
from proctor_steps.compliance import audit
from proctor_steps.compliance.answers import Scores
from proctor_steps.compliance.verdict import Check, Verification
from proctor_steps.compliance.verify import Params
from proctor_steps.stage import StepError


def only(found: Verification) -> Check:
    (check,) = found.checks
    return check


# --- audit.config ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "model", "lines"),
    [
        ("TEST01", "yolo", ["*.*.accuracy_log_sampling_target = 64"]),
        ("TEST01", "resnet50", ["*.*.accuracy_log_sampling_target = 4096"]),
        ("TEST04", "resnet50", ["*.*.performance_issue_same_index = 3"]),
        ("TEST06", "llama2-70b", ["*.*.min_query_count = 100", "*.*.min_duration = 0"]),
        ("TEST07", "gpt-oss-120b-interactive", ["*.*.test07_accuracy_threshold = 60.698"]),
        ("TEST09", "gpt-oss-120b", ["*.*.min_query_count = 6396"]),
    ],
)
def test_the_audit_file_of_a_test(test: str, model: str, lines: list[str]) -> None:
    text = audit.text(test, model).splitlines()
    assert "*.*.mode = 2" in text
    assert not set(lines) - set(text)


def test_an_unknown_test() -> None:
    with pytest.raises(StepError, match="known: TEST01, TEST04"):
        audit.text("TEST05", "yolo")


def test_settings_that_did_not_take_are_told(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST01").fill(effective_accuracy_log_sampling_target=7)
    kit.answers([(0, "AA")], [(0, "AA")])
    found = kit.verify()
    assert found.verdict == "pass"
    assert found.official is False
    told = next(f for f in found.findings() if f.rule == "audit_settings")
    assert "accuracy_log_sampling_target is 7, not 64" in told.message


# --- TEST01 ----------------------------------------------------------------------------------


def test_a_full_run_that_passes_is_official(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST01").fill().answers([(0, "AABB"), (1, "")], [(1, ""), (0, "AABB")])
    found = kit.verify()
    assert found.verdict == "pass"
    assert found.official is True
    assert found.findings() == []


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.1, "pass"), (0.9, "pass"), (1.1001, "fail"), (0.8999, "fail")]
)
def test_the_limit_of_the_speed(factor: float, verdict: str, tmp_path: Path) -> None:
    assert Kit(tmp_path, "TEST01").fill(1e7, 1e7 * factor).verdict("performance") == verdict


@pytest.mark.parametrize(
    ("scenario", "score", "verdict"),
    [
        ("SingleStream", 200_000, "pass"),
        ("SingleStream", 200_001, "fail"),
        ("MultiStream", 1_600_000, "pass"),
        ("MultiStream", 1_600_001, "fail"),
        ("Server", 100, "fail"),
    ],
)
def test_short_latencies_may_vary_more(
    scenario: str, score: float, verdict: str, tmp_path: Path
) -> None:
    kit = Kit(tmp_path, "TEST01", scenario=scenario).fill(score, score * 1.15)
    assert kit.verdict("performance") == verdict


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"result_validity": "INVALID"}, "LoadGen calls the test's run INVALID"),
        ({"num_errors": 3}, "3 error"),
        ({"effective_target_latency_ns": 5}, "target latency"),
        ({"effective_scenario": "Offline", "result_samples_per_second": 480.0}, "of Offline"),
    ],
)
def test_runs_that_are_not_the_same(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST01", scenario="Server").fill(480.0, 480.0, **changes)
    check = kit.answers([(0, "AA")], [(0, "AA")]).verify().checks[1]
    assert check.verdict == "fail"
    assert said in check.reason


def test_a_sample_that_the_accuracy_run_did_not_have(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST01").fill().answers([(0, "AA")], [(0, "AA"), (5, "BB")])
    found = kit.verify()
    assert found.verdict == "pass"  # as the reference's script has it
    assert found.official is False
    assert "samples 5 are not in the accuracy log" in found.findings()[0].message


def test_numbers_that_are_no_whole_ones(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST01", options={"dtype": "float32"}).fill()
    kit.answers([(0, "AABBCC")], [(0, "AABBCC")])
    assert kit.verdict("accuracy") == "cannot be verified"


@pytest.mark.parametrize(
    ("baseline", "compliance", "limit", "met"),
    [
        (50.0, 50.5, 1, True),
        (50.0, 50.6, 1, False),
        (50.0, 49.4, 1, False),
        (50.0, 50.06, 0.1, False),
        (0.0, 0.0, 1, False),
        (0.0, 50.0, 1, False),
    ],
)
def test_answers_that_are_not_deterministic(
    baseline: float, compliance: float, limit: float, met: bool
) -> None:
    """As the official checker has it: relative to the test's run, and a score of 0 is none."""
    assert Scores("mAP", ("", ""), baseline, compliance, limit).met is met


# --- TEST04 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "reference", "tested", "verdict"),
    [
        ("Offline", 100, 109.9, "pass"),
        ("Offline", 100, 110.1, "fail"),
        ("Offline", 100, 20, "pass"),
        ("Server", 100, 111, "fail"),
        ("SingleStream", 1.2e7, 1.01e7, "pass"),
        ("SingleStream", 1.2e7, 0.99e7, "fail"),
    ],
)
def test_one_sample_must_not_be_faster(
    scenario: str, reference: float, tested: float, verdict: str, tmp_path: Path
) -> None:
    kit = Kit(tmp_path, "TEST04", scenario=scenario).fill(reference, tested)
    assert kit.verdict("performance") == verdict


def test_a_stream_faster_than_the_rules_allow_is_told(tmp_path: Path) -> None:
    found = Kit(tmp_path, "TEST04").fill(1.15e7, 1e7).verify()
    assert found.verdict == "pass"
    assert found.official is False
    assert "the rules allow 10 %" in only(found).doubts[0].message


def test_a_summary_that_its_detail_log_denies_is_told(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST04", scenario="Offline").fill(100, 105)
    (kit.performance / "mlperf_log_summary.txt").write_text(summary("Offline", 120))
    found = kit.verify()
    assert found.verdict == "pass"  # by the summaries, as the reference's script has it
    assert found.official is False
    assert "tells 120 per second in Offline" in only(found).doubts[0].message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (summary("Offline", "no number"), "is no number"),
        (summary("Offline", 5).replace("Samples per second", "Samples"), "the scenario's score"),
        (summary("Offline", 5).replace("Scenario : Offline", "Scenario : Fast"), "not known"),
        (summary("SingleStream", 0), "a latency of 0 ns"),
        ("\0\0\0", "does not tell the scenario"),
    ],
)
def test_summaries_that_do_not_tell(text: str, said: str, tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST04", scenario="Offline").fill(100, 100)
    (kit.logs / "mlperf_log_summary.txt").write_text(text)
    check = only(kit.verify())
    assert check.verdict == "cannot be verified"
    assert said in check.reason


def test_a_rate_of_nothing(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST04", scenario="Offline").fill(0, 0)
    check = only(kit.verify())
    assert check.verdict == "fail"
    assert "nothing that compares" in check.reason


# --- TEST06 ----------------------------------------------------------------------------------


def token_run(root: Path, tokens: list[int], scenario: str = "Server", **changes: Any) -> Kit:
    kit = Kit(root, "TEST06", "llama2-70b-99.9", scenario).fill()
    good = {"qsl_idx": 1, "data": hexed([5, 6], "int32"), "token_count": 2}
    good["token_data"] = hexed([5], "int32")
    entry = {
        "qsl_idx": 0,
        "data": hexed(tokens, "int32"),
        "token_data": hexed(tokens[:1], "int32"),
        "token_count": len(tokens),
        **changes,
    }
    write_answers(kit.logs, [good, {k: v for k, v in entry.items() if v is not None}])
    return kit


@pytest.mark.parametrize(
    ("tokens", "changes", "wrong"),
    [
        ([7, 8, 9], {}, ""),
        ([7, 8, 2], {}, ""),
        ([2, 2], {}, ""),  # the first token is not looked at
        ([7, 2, 2], {}, "EOS check pass: False"),
        ([2, 2, 2, 2], {}, "EOS check pass: False"),
        ([7, 8], {"token_count": 3}, "Sample length check pass: False"),
        ([7, 8], {"token_data": hexed([9], "int32")}, "First token check pass: False"),
    ],
)
def test_tokens_agree(
    tokens: list[int], changes: dict[str, Any], wrong: str, tmp_path: Path
) -> None:
    check = only(token_run(tmp_path, tokens, **changes).verify())
    assert check.verdict == ("fail" if wrong else "pass")
    assert not wrong or wrong in check.lines
    assert len(check.lines) == 3


def test_offline_reports_no_first_token(tmp_path: Path) -> None:
    check = only(token_run(tmp_path, [7, 8], "Offline", token_data=None).verify())
    assert check.verdict == "pass"
    assert check.lines[0] == "First token check pass: Skipped"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token_data": None}, "no token_data"),
        ({"token_count": None}, "no token_count"),
        ({"data": "AABB"}, "no list of int32"),
    ],
)
def test_logs_without_tokens(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    check = only(token_run(tmp_path, [7, 8], **changes).verify())
    assert check.verdict == "cannot be verified"
    assert said in check.reason


def test_a_first_token_that_nobody_reported_is_told(tmp_path: Path) -> None:
    found = token_run(tmp_path, [7, 8], token_data="").verify()
    assert found.verdict == "pass"
    assert "test06_first_token" in {f.rule for f in found.findings()}


# --- TEST07, TEST08, TEST09 ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("'exact_match': 60.698", "pass"),
        ("'exact_match': 60.697", "fail"),
        ("'exact_match': high", "cannot be verified"),
        ("", "cannot be verified"),
    ],
)
def test_the_score_of_the_test_run(line: str, verdict: str, tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST07", "gpt-oss-120b", "Offline").fill()
    (kit.score / "accuracy.txt").write_text(f"scored\n{line}\n")
    write_answers(kit.logs, [{"qsl_idx": i, "data": "00"} for i in range(990)])
    found = kit.verify()
    assert found.verdict == verdict
    assert found.official is (verdict == "pass")


@pytest.mark.parametrize("pattern", ["'f1': (", "'f1': [0-9.]+"])
def test_a_pattern_that_finds_no_score(pattern: str) -> None:
    given = {"benchmark": "gpt-oss-120b", "test": "TEST07", "score_pattern": pattern}
    with pytest.raises(ValidationError, match=r"regular expression|must have a group"):
        Params.model_validate(given)


def test_too_few_answers_miss_a_rule(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST07", "gpt-oss-120b", "Offline").fill()
    (kit.score / "accuracy.txt").write_text("'exact_match': 75\n")
    write_answers(kit.logs, [{"qsl_idx": 0, "data": "00"}])
    found = kit.verify()
    assert found.verdict == "pass"
    assert found.official is False
    assert "990 sample(s)" in next(f for f in found.findings()).message


@pytest.mark.parametrize(
    ("predictions", "query", "verdict"),
    [
        ([0.2, 0.7], 4, "pass"),
        ([0.2, 0.7001], 4, "pass"),
        ([0.2, 0.75], 4, "fail"),
        ([0.2, 0.7], 5, "fail"),
        ([0.2, float("nan")], 4, "cannot be verified"),
        ([0.2], 4, "cannot be verified"),
    ],
)
def test_the_entropy_of_a_stream(
    predictions: list[float], query: int, verdict: str, tmp_path: Path
) -> None:
    kit = Kit(tmp_path, "TEST08", "dlrm-v3", "Offline").fill()
    whole = [1, 4, 0.2, 0.7, 0, 1, 1, 0.5, 2]
    write_answers(kit.accuracy, [{"qsl_idx": 0, "data": hexed(whole, "float32")}])
    tested = hexed([1, query, *predictions], "float32")
    write_answers(kit.logs, [{"qsl_idx": 9, "data": tested}])
    assert kit.verify().verdict == verdict


@pytest.mark.parametrize(
    ("lengths", "verdict"),
    [([247, 301], "pass"), ([246, 246], "fail"), ([302], "fail"), ([], "cannot be verified")],
)
def test_the_length_of_the_output(lengths: list[int], verdict: str, tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST09", "e2e-rag-qna", "Offline").fill()
    write_answers(kit.logs, [{"qsl_idx": i, "data": "00000000" * n} for i, n in enumerate(lengths)])
    check = only(kit.verify())
    assert (check.verdict, check.file) == (verdict, "verify_output_len.txt")


@pytest.mark.parametrize("test", ["TEST07", "TEST09"])
def test_a_test_that_is_none_of_the_benchmark(test: str, tmp_path: Path) -> None:
    kit = Kit(tmp_path, test, "yolo", "Offline").fill()
    write_answers(kit.logs, [{"qsl_idx": 0, "data": "00"}])
    assert f"{test} is no test of yolo" in only(kit.verify()).reason


# --- in general ------------------------------------------------------------------------------


def test_a_dtype_that_the_test_does_not_know(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST06", "llama2-70b-99.9", options={"dtype": "byte"}).fill()
    with pytest.raises(StepError, match="knows no dtype byte"):
        kit.verify()


def test_an_accuracy_run_is_no_test(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "TEST04").fill()
    write_detail(kit.logs, detail("SingleStream", 1e7, effective_test_mode="AccuracyOnly"))
    write_answers(kit.logs, [])
    assert "a run in performance mode" in only(kit.verify()).reason
