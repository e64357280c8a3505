"""Logs of compliance tests by chance: good ones, failed ones, at the limit, and damaged ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compliance_kit import Kit, hexed, of_test, summary, write_answers, write_detail

Damage = Callable[[random.Random, bytes], bytes]
SCORES = {"SingleStream": 1e7, "MultiStream": 3e7, "Server": 480.0, "Offline": 690.0}


def make(test: str, number: int, root: Path) -> Kit:
    """Case ``number`` of a test: the same one for the same number."""
    chance = random.Random(f"{test} {number}")
    return _MAKERS[test](chance, root)


def _test01(chance: random.Random, root: Path) -> Kit:
    dtype = chance.choice(["byte", "float32", "int32", "int64"])
    kit = _measured(chance, root, "TEST01", {"dtype": dtype})
    size = {"byte": 1, "float32": 4, "int32": 4, "int64": 8}[dtype]
    known = {i: _payload(chance, size) for i in range(chance.randint(1, 12))}
    accuracy = list(known.items())
    tested = [(i, known[i]) for i in chance.choices(list(known), k=chance.randint(0, 16))]
    what = chance.choice(["", "", "first", "later", "absent", "empty", "twice", "again", "size"])
    spot = chance.randrange(len(tested)) if tested else 0
    if tested and what in ("first", "later"):
        index, data = tested[spot]
        tested[spot] = index, _flipped(data, 0 if what == "first" else -1)
    elif what == "absent":
        accuracy = accuracy[1:]
    elif tested and what == "empty":
        tested[spot] = tested[spot][0], ""
    elif what == "twice":
        accuracy.append((accuracy[0][0], _payload(chance, size)))
    elif what == "again":
        tested += [(99, "AA" * size), (99, chance.choice(["AA", "BB"]) * size)]
    elif tested and what == "size":
        tested[spot] = tested[spot][0], tested[spot][1] + "AB"
    kit.answers([*accuracy], [*tested])
    _damage(chance, kit, ("mlperf_log_accuracy.json", "mlperf_log_detail.txt"))
    return kit


def _test04(chance: random.Random, root: Path) -> Kit:
    kit = _measured(chance, root, "TEST04", {})
    _damage(chance, kit, ("mlperf_log_summary.txt",))
    return kit


def _measured(chance: random.Random, root: Path, test: str, options: dict[str, Any]) -> Kit:
    """A performance run and the test's, whose scores lie near the limits of what is allowed."""
    scenario = chance.choice(list(SCORES))
    kit = Kit(root, test, scenario=scenario, options=options)
    score = SCORES[scenario] * chance.choice([1.0, 0.9, 0.01])
    factor = chance.choice([1.0, 1.03, 0.95, 0.9, 1.1, 0.8, 1.2, 1 / 1.1, 1 / 1.2, 0.5, 2.0])
    tested = score * factor * chance.choice([1.0, 1.0, 1 + 1e-9, 1 - 1e-9])
    kit.fill(score, tested)
    odd = chance.choice(["", "", "", "invalid", "errors", "scenario", "latency", "zero", "untold"])
    changes: dict[str, Any] = {
        "invalid": {"result_validity": "INVALID"},
        "errors": {"num_errors": 2, "error_runtime": "a sample was completed twice"},
        "latency": {"effective_target_latency_ns": 50_000_000},
    }.get(odd, {})
    other = chance.choice(list(SCORES)) if odd == "scenario" else scenario
    told: Any = {"zero": 0, "untold": ""}.get(odd, tested)
    side = chance.choice([kit.logs, kit.performance])
    # The performance run has TEST04's setting here as well, which its script does not look at.
    write_detail(side, of_test(test, "yolo", other, told if told != "" else None, **changes))
    words = summary(
        other,
        told,
        changes.get("result_validity", "VALID"),
        str(changes.get("effective_target_latency_ns", 100_000_000)),
    )
    if told == "":
        words = "\n".join(
            x for x in words.splitlines() if "stimate" not in x and "per sec" not in x
        )
    (side / "mlperf_log_summary.txt").write_text(words)
    return kit


def _test06(chance: random.Random, root: Path) -> Kit:
    scenario = chance.choice(["Offline", "Server", "SingleStream"])
    dtype = chance.choice(["int32", "int64", "int16", "float32"])
    kit = Kit(root, "TEST06", "llama2-70b-99.9", scenario, {"dtype": dtype}).fill()
    entries = []
    for index in range(chance.randint(0, 8)):
        tokens = [chance.randint(3, 900) for _ in range(chance.randint(1, 12))]
        tokens += [2] * chance.choice([0, 0, 1])
        entry = {"qsl_idx": index, "data": hexed(tokens, dtype)}
        if scenario != "Offline":
            entry["token_data"] = hexed(tokens[:1], dtype)
        entries.append(entry | {"token_count": len(tokens)})
    what = chance.choice(["", "", "ends", "first", "count", "all", "none", "unkeyed", "lone"])
    if entries:
        entry = chance.choice(entries)
        ends = {"ends": [5, 6, 2, 2], "all": [2, 2, 2], "lone": [2, 2]}.get(what)
        if ends:
            entry |= {"data": hexed(ends, dtype), "token_count": len(ends)}
            entry |= {"token_data": hexed(ends[:1], dtype)} if "token_data" in entry else {}
        elif what == "count":
            entry["token_count"] += 1
        elif what == "first" and "token_data" in entry:
            entry["token_data"] = hexed([1], dtype)
        elif what == "none" and "token_data" in entry:
            entry["token_data"] = ""
        elif what == "unkeyed":
            del entry[chance.choice([key for key in entry if key not in ("qsl_idx", "data")])]
    write_answers(kit.logs, entries)
    _damage(chance, kit, ("mlperf_log_accuracy.json",))
    return kit


def _test07(chance: random.Random, root: Path) -> Kit:
    kit = Kit(root, "TEST07", "gpt-oss-120b", "Offline").fill()
    value = chance.choice(
        ["60.698", "60.697", "60.6980001", "75.2", "0", "100", "6.0.7", "", "nan"]
    )
    line = chance.choice(["'exact_match': {}", "'exact_match':{}", "exact_match: {}"])
    text = f"samples 990\n{line.format(value)}\n'exact_match': 99.0\n"
    if chance.random() < 0.5:
        text = text.replace("'exact_match': 99.0\n", "")
    (kit.score / "accuracy.txt").write_text(text)
    write_answers(kit.logs, [{"qsl_idx": i, "data": "00000000"} for i in range(4)])
    return kit


def _test08(chance: random.Random, root: Path) -> Kit:
    kit = Kit(root, "TEST08", "dlrm-v3", "Offline").fill()
    known, accuracy = [], []
    for query in range(chance.randint(1, 9)):
        count = chance.randint(1, 6)
        predictions = [chance.random() for _ in range(count)]
        labels = [float(chance.random() < 0.4) for _ in range(count)]
        weights = [chance.choice([1.0, 0.5, 0.0]) for _ in range(count)]
        key = [float(chance.randint(0, 3)), float(query)]
        known.append((key, predictions))
        accuracy.append(hexed([*key, *predictions, *labels, *weights, count], "float32"))
    tested = [(list(k), list(p)) for k, p in chance.choices(known, k=chance.randint(0, 9))]
    what = chance.choice(["", "", "near", "far", "nan", "stranger", "longer", "short", "edge"])
    if tested:
        key, predictions = chance.choice(tested)
        if what in ("near", "far", "edge"):
            step = {"near": 1e-5, "far": 0.05, "edge": chance.uniform(2e-4, 4e-3)}[what]
            predictions[0] = min(0.999, max(0.001, predictions[0] * (1 + step)))
        elif what == "nan":
            predictions[0] = float("nan")
        elif what == "stranger":
            key[1] = 77.0
        elif what == "longer":
            predictions += [0.5, 0.5]
        elif what == "short":
            predictions.clear()
    write_answers(kit.accuracy, [{"qsl_idx": i, "data": x} for i, x in enumerate(accuracy)])
    found = [hexed([*key, *predictions], "float32") for key, predictions in tested]
    write_answers(kit.logs, [{"qsl_idx": i, "data": x} for i, x in enumerate(found)])
    _damage(chance, kit, ("mlperf_log_accuracy.json",))
    return kit


def _test09(chance: random.Random, root: Path) -> Kit:
    kit = Kit(root, "TEST09", "e2e-rag-qna", "Offline").fill()
    mean = chance.choice([246.43, 246, 247, 301, 302, 301.19, 270, 100, 900])
    lengths = [int(mean) + chance.choice([0, 0, 1, -1]) for _ in range(chance.randint(0, 30))]
    entries = [{"qsl_idx": i, "data": "01000000" * n} for i, n in enumerate(lengths)]
    if entries and chance.random() < 0.3:
        chance.choice(entries)["data"] += chance.choice(["AB", "ABCDEF", "A", "zz"])
    write_answers(kit.logs, entries)
    _damage(chance, kit, ("mlperf_log_accuracy.json",))
    return kit


_MAKERS = {
    "TEST01": _test01,
    "TEST04": _test04,
    "TEST06": _test06,
    "TEST07": _test07,
    "TEST08": _test08,
    "TEST09": _test09,
}
TESTS = tuple(_MAKERS)


def _payload(chance: random.Random, size: int) -> str:
    return chance.randbytes(size * chance.randint(0, 6)).hex().upper()


def _flipped(data: str, place: int) -> str:
    payload = bytearray.fromhex(data)
    if payload:
        payload[place] ^= 0x41
    return payload.hex().upper()


def _damage(chance: random.Random, kit: Kit, names: tuple[str, ...]) -> None:
    """Now and then a log is missing, empty, cut off, or holds something else."""
    if chance.random() < 0.75:
        return
    path = chance.choice([kit.logs, kit.accuracy, kit.performance]) / chance.choice(names)
    if not path.is_file():
        return
    how = chance.choice([*_DAMAGES, None])
    if how is None:
        path.unlink()
    else:
        path.write_bytes(how(chance, path.read_bytes()))


_DAMAGES: tuple[Damage, ...] = (
    lambda _, data: b"",
    lambda chance, data: data[: chance.randrange(len(data) + 1)],
    lambda chance, data: data.replace(b"qsl_idx", b"index"),
    lambda chance, data: data.replace(b'"data" : "', b'"data" : "z'),
    lambda chance, data: b"\xff\xfe" + data,
    lambda chance, data: b"{}",
    lambda chance, data: data[len(data) // 2 :],
)
