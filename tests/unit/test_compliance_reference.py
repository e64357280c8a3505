"""Our verdicts against those of the reference's scripts, on the same logs.

Runs where ``PROCTOR_INFERENCE`` names a checkout of mlcommons/inference; ``PROCTOR_CASES`` says how
many cases of each test (default 25).
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import compliance_cases
from compliance_kit import Kit
from proctor_steps.compliance import audit

CHECKOUT = Path(os.environ.get("PROCTOR_INFERENCE", "/nonexistent"))
CASES = int(os.environ.get("PROCTOR_CASES", "25"))
pytestmark = pytest.mark.skipif(
    not (CHECKOUT / "compliance").is_dir(),
    reason="PROCTOR_INFERENCE names no checkout of mlcommons/inference",
)
# Where the reference passes and there is, as we see it, nothing that was verified.
EXPLAINED = {
    "has no entry": "no answer was logged: the reference takes an empty list as consistent",
    "payload is no hexadecimal": "the reference counts an answer that it cannot read as empty",
    "which compares with nothing": "the reference takes NaN as equal to everything",
    "does not tell": "the reference takes a run without a score as one of score 0, and so as slow",
    "no line of a LoadGen log": "the reference skips lines that are none of a log",
    "it was cut off": "the reference reads what is there of a log",
    "missing or empty": "the reference reads the one of both logs that it needs",
    "malformed (": "the reference reads, for one check, one of the run's logs",
    "no entry of an accuracy log ('qsl_idx')": "the reference takes {} for a list without entries",
    "no entry of an accuracy log (": "the reference reads the lines that it can of a cut list",
    "predictions, not": "the reference stretches one prediction over all candidates",
}


def reference_passes(kit: Kit, check: str, work: Path) -> bool:
    """Run the reference's script for one check."""
    work.mkdir(parents=True, exist_ok=True)
    script, arguments, passed = _SCRIPTS[kit.test, check](kit, work)
    text = run_script(CHECKOUT / "compliance" / kit.test / script, arguments, work)
    return passed(text, work)


def run_script(script: Path, arguments: list[str], work: Path) -> str:
    """What a script prints, in a process of its own that has numpy already (it is forked)."""
    out = work / "printed.txt"
    child = os.fork()
    if not child:
        status = 1
        try:
            os.chdir(work)
            handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.argv = [str(script), *arguments]
            np.seterr(all="ignore")
            runpy.run_path(str(script), run_name="__main__")
            status = 0
        except SystemExit as error:
            if isinstance(error.code, str):
                print(error.code)
        except BaseException as error:
            print(f"died: {type(error).__name__}: {error}")
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.waitpid(child, 0)
    return out.read_text(errors="replace")


_Passed = Callable[[str, Path], bool]
_Script = Callable[[Kit, Path], tuple[str, list[str], _Passed]]


def _says_pass(text: str, work: Path) -> bool:
    return "TEST PASS" in text


def _between(name: str) -> Callable[[Kit], list[str]]:
    return lambda kit: ["-r", str(kit.performance / name), "-t", str(kit.logs / name)]


def _answers(kit: Kit, work: Path) -> tuple[str, list[str], _Passed]:
    name = "mlperf_log_accuracy.json"
    dtype = str(kit.options.get("dtype", "byte"))
    given = ["-r", str(kit.accuracy / name), "-t", str(kit.logs / name), "--dtype", dtype]
    return "verify_accuracy.py", given, _says_pass


def _tokens(kit: Kit, work: Path) -> tuple[str, list[str], _Passed]:
    given = ["-c", str(kit.logs), "-o", str(work), "-s", kit.scenario]
    given += ["-d", str(kit.options.get("dtype", "int32"))]
    return "run_verification.py", given, lambda text, _: "TEST06 verification complete" in text


def _scored(kit: Kit, work: Path) -> tuple[str, list[str], _Passed]:
    config = work / "audit.config"
    config.write_text(audit.text(kit.test, kit.benchmark))
    given = ["-c", str(kit.logs), "-o", str(work), "--audit-config", str(config)]
    given += ["--accuracy-script", f"cat {kit.score / 'accuracy.txt'}"]

    def passed(_: str, work: Path) -> bool:
        file = work / "TEST07" / "verify_accuracy.txt"
        return file.is_file() and "TEST PASS" in file.read_text()

    return "run_verification.py", given, passed


def _long(kit: Kit, work: Path) -> tuple[str, list[str], _Passed]:
    config = work / "audit.config"
    config.write_text(audit.text(kit.test, kit.benchmark))
    given = ["-c", str(kit.logs), "-o", str(work), "--audit-config", str(config)]
    return "run_verification.py", given, _says_pass


def _streamed(kit: Kit, work: Path) -> tuple[str, list[str], _Passed]:
    _, given, passed = _answers(kit, work)
    return "run_verification.py", given[:4], passed


_SCRIPTS: dict[tuple[str, str], _Script] = {
    ("TEST01", "accuracy"): _answers,
    ("TEST01", "performance"): lambda kit, _: (
        "verify_performance.py", _between("mlperf_log_detail.txt")(kit), _says_pass,
    ),
    ("TEST04", "performance"): lambda kit, _: (
        "verify_performance.py", _between("mlperf_log_summary.txt")(kit), _says_pass,
    ),
    ("TEST06", "accuracy"): _tokens,
    ("TEST07", "accuracy"): _scored,
    ("TEST08", "accuracy"): _streamed,
    ("TEST09", "output_length"): _long,
}  # fmt: skip


def explained(reason: str) -> str:
    """Why we do not pass what the reference does; empty where there is no good reason."""
    return next((why for part, why in EXPLAINED.items() if part in reason), "")


@pytest.mark.parametrize("test", compliance_cases.TESTS)
def test_the_verdict_is_the_references(test: str, tmp_path: Path) -> None:
    told: Counter[tuple[str, str, str, str]] = Counter()
    wrong = []
    for number in range(CASES):
        kit = compliance_cases.make(test, number, tmp_path / str(number))
        for check in kit.verify().checks:
            theirs = reference_passes(kit, check.name, tmp_path / f"{number}-reference")
            ours = _deterministic(check.verdict, check.lines)
            why = explained(check.reason) if theirs and ours == "cannot be verified" else ""
            told[check.name, ours, "pass" if theirs else "no pass", why] += 1
            if (ours == "pass") != theirs and not why:
                wrong.append(
                    f"case {number}, {check.name}: {ours}, theirs {theirs}: {check.reason}"
                )
    for (name, ours, theirs, why), count in sorted(told.items()):
        print(f"{test} {name}: ours {ours}, theirs {theirs}: {count}{f' ({why})' if why else ''}")
    assert not wrong, "\n".join(wrong)


def _deterministic(verdict: str, lines: tuple[str, ...]) -> str:
    """The script knows nothing of answers that are not deterministic."""
    return "fail" if verdict == "pass" and lines == ("TEST FAIL",) else verdict


@pytest.mark.parametrize("test", ["TEST01", "TEST04"])
def test_the_whole_script_agrees(test: str, tmp_path: Path) -> None:
    """``run_verification.py`` itself, which starts the others, as its user does."""
    for tested, wanted in ((1.02e7, "pass"), (0.5e7, "fail")):
        kit = Kit(tmp_path / wanted, test).fill(1e7, tested)
        kit.answers([(0, "0A0B"), (1, "0C")], [(1, "0C")])
        results = kit.root / "results"
        (results / "performance").mkdir(parents=True)
        (results / "performance" / "run_1").symlink_to(kit.performance)
        (results / "accuracy").symlink_to(kit.accuracy)
        script = CHECKOUT / "compliance" / test / "run_verification.py"
        given = ["-r", str(results), "-c", str(kit.logs), "-o", str(kit.root / "out")]
        done = subprocess.run(
            [sys.executable, str(script), *given],
            cwd=kit.root, capture_output=True, text=True, check=True,
        )  # fmt: skip
        passed = "Performance check pass: True" in done.stdout
        assert passed == (wanted == "pass"), done.stdout
        assert kit.verify().verdict == wanted
