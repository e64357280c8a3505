"""The validator of submissions beside the official checker, on the published results of v5.1.

``--with results=DIR`` names a checkout of mlcommons/inference_results_v5.1, and ``--with
inference=DIR`` one of mlcommons/inference. Result folders whose logs are not in the checkout (large
files) are left out, and both judge the same tree.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.cost import Cost, cost
from benchmarks.harness import Bench, NotHere, interval, ratio
from proctor_steps.stage import DataError
from proctor_steps.submission.check import official, run
from proctor_steps.submission.check.compare import Comparison, compare
from proctor_steps.submission.check.finding import Severity
from proctor_steps.submission.check.tree import DIVISIONS, RESULTS, layout, systems

ROUND = "v5.1"
WANTED = 0.25  # of the official checker's wall time
DEADLINE_S = 1800
_SUBMITTERS, _RESULTS = 10, 500  # at least, for the agreement to say something


def measure(bench: Bench) -> None:
    """Whether they agree, result by result; then the time of both, in turn."""
    source = bench.checkout("results").resolve()
    checkout = bench.checkout("inference")
    try:
        home = official.find(checkout)
    except DataError as error:
        raise NotHere(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="proctor-submissions-", dir=source.parent) as name:
        tree = Path(name) / "tree"
        left_out = prepare(source, tree)
        bench.say(f"{left_out} result folders without logs are left out")
        _agreement(bench, compare(run.check(tree, ROUND), _opinion(checkout, tree)), left_out)
        _time(bench, tree, home, Path(name))


def prepare(source: Path, tree: Path) -> int:
    """Link the divisions of a checkout into ``tree``, without results whose logs are absent.

    The number of result folders that were left out.
    """
    for division in DIVISIONS:
        if (source / division).is_dir():
            shutil.copytree(source / division, tree / division, symlinks=True, copy_function=_link)
    names = layout(ROUND)
    kinds = {RESULTS, names.measurements, names.compliance}
    left_out = 0
    for system in systems(tree):
        for benchmark, scenarios in system.benchmarks().items():
            for scenario in scenarios:
                if _has_logs(system.folder / benchmark / scenario):
                    continue
                left_out += 1
                for kind in kinds:
                    folder = system.submission / kind / system.system / benchmark
                    shutil.rmtree(folder / scenario, ignore_errors=True)
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()
    return left_out


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _has_logs(folder: Path) -> bool:
    name = "mlperf_log_detail.txt"
    runs = (folder / "performance" / "run_1", folder / "accuracy")
    return all((run_ / name).is_file() for run_ in runs)


def _opinion(checkout: Path, tree: Path) -> official.Opinion:
    return official.ask(checkout, tree, ROUND, None, DEADLINE_S)


def _agreement(bench: Bench, both: Comparison, left_out: int) -> None:
    submitters = len({row.scope[1] for row in both.rows})
    bench.row(
        "submitters",
        float(submitters),
        f"at least {_SUBMITTERS}",
        submitters >= _SUBMITTERS,
    )
    total = len(both.rows)
    bench.row("results judged", float(total), f"at least {_RESULTS}", total >= _RESULTS)
    bench.row("result folders without logs, left out", float(left_out))
    for outcome, count in sorted(both.counts.items()):
        bench.row(outcome, float(count))
    bench.row("judged differently", float(len(both.differing)), "0", not both.differing)
    if both.opinion.crash:
        bench.row("official checker", both.opinion.crash, "an end", False)
    for row in both.differing:
        reasons = [f"{f.where}: {f.message}" for f in (*row.ours, *row.theirs)]
        bench.note(f"{'/'.join(row.scope)}: {row.outcome}: {'; '.join(reasons[:3])}")
    _unseen(bench, both)


def _unseen(bench: Bench, both: Comparison) -> None:
    """What the official checker lets pass though a rule forbids it, by rule."""
    against = [f for f in both.report.findings if f.severity is Severity.AGAINST]
    for rule, count in Counter(finding.rule for finding in against).most_common():
        example = next(finding for finding in against if finding.rule == rule)
        bench.row(f"against the rules, passed: {rule}", float(count))
        bench.note(f"{rule}, for example {example.where}: {example.message}")


def _time(bench: Bench, tree: Path, home: Path, scratch: Path) -> None:
    theirs = [sys.executable, "-m", "submission_checker.main", "--version", ROUND]
    theirs += ["--input", str(tree), "--csv", str(scratch / "summary.csv")]
    # It ends with 1 where a result fails, which is no failure of the measurement.
    quiet = ["sh", "-c", '"$@" > "$0" 2>&1; [ $? -le 1 ]', str(scratch / "said.txt"), *theirs]
    ours = [sys.executable, "-m", "proctor_steps", "submission", "check", "--round", ROUND]
    ours += ["--in", f"package={tree}", "--out", f"check={scratch / 'check'}"]
    costs: dict[str, list[Cost]] = {"ours": [], "theirs": []}

    def once(name: str, command: list[str], cwd: Path | None) -> float:
        shutil.rmtree(scratch / "check", ignore_errors=True)
        costs[name].append(cost(command, cwd=cwd))
        return costs[name][-1].seconds

    bench.interleave(
        {
            "ours": lambda: once("ours", ours, None),
            "theirs": lambda: once("theirs", quiet, home),
        }
    )
    for what, unit in (("seconds", "s"), ("cpu", "CPU s"), ("memory", "MiB peak")):
        each = {name: [getattr(c, what) for c in done] for name, done in costs.items()}
        for name, values in each.items():
            bench.row(f"{name}, {unit}", interval(values))
        both = ratio(each["ours"], each["theirs"])
        if what == "seconds":
            met = both.median <= WANTED
            bench.row("ours / theirs, time", both, f"at most {WANTED}", met)
        else:
            bench.row(f"ours / theirs, {unit}", both)
    bench.note("peak memory is that of the largest single process")
    bench.note("the agreement was judged first, so that every file was in the page cache")
