"""Real LoadGen against a server: the same answers as in-process, and every way that it can fail."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from endpoint_kit import Proxy, Server, changed, endpoint, endpoint_run, served
from proctor_steps.accuracy import log as accuracy_log
from proctor_steps.accuracy.score import STAGE as SCORE
from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.dataset.fetch import STAGE as FETCH
from proctor_steps.dataset.filter_coco import STAGE as FILTER
from proctor_steps.model.fetch import STAGE as FETCH_MODEL
from proctor_steps.stage import Stage, StepError, execute
from proctor_steps.sut import base

from .conftest import IMAGES, SIZE, loadgen_run, make_model

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
BATCH = np.random.default_rng(3).random((2, 3, SIZE, SIZE), dtype=np.float32)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("server") / "step", model) as running:
        yield running


def stage(made: Stage[Any], folder: Path, out: str, params: dict[str, Any], **inputs: Path) -> Path:
    """Run a stage to its good end; the folder of its output."""
    (folder / out).mkdir(parents=True)
    mounts = [Mount(name=n, kind="input", path=str(p)) for n, p in inputs.items()]
    mounts.append(Mount(name=out, kind="output", path=str(folder / out)))
    contract = Contract(pipeline="p", run="r", step="s", params=params, mounts=tuple(mounts))
    assert execute(made, contract, folder) == 0
    return folder / out


# -- the same answers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Dataset and model of the demo."""
    folder = tmp_path_factory.mktemp("demo")
    images = stage(FETCH, folder / "i", "dataset", {"uri": "embedded:digits/scenes.zip"})
    boxes = stage(FETCH, folder / "a", "dataset", {"uri": "embedded:digits/annotations.json"})
    data = stage(FILTER, folder / "f", "dataset", {}, images=images, annotations=boxes)
    uri = {"uri": "embedded:digits/detector.onnx"}
    return data, stage(FETCH_MODEL, folder / "m", "model", uri)


@pytest.fixture(scope="module")
def demo_server(
    demo: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("server") / "step", demo[1]) as running:
        yield running


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_demo_is_as_accurate_as_in_process(
    scenario: str, demo: tuple[Path, Path], demo_server: Server, tmp_path: Path
) -> None:
    data, model = demo
    near = loadgen_run(tmp_path / "near", data, model, scenario=scenario, mode="accuracy")
    result, logs = endpoint_run(
        tmp_path / "far", data, demo_server.url, scenario=scenario, mode="accuracy"
    )
    assert result.status == "ok", result.message
    count = near.run["samples"]
    answers = [
        dict(accuracy_log.read(folder / accuracy_log.NAME, count).answers)
        for folder in (near.logs, logs)
    ]
    assert len(answers[0]) == count
    assert answers[0] == answers[1]
    scores = [
        json.loads((out / "accuracy.json").read_text())["value"]
        for name, folder in (("near", near.logs), ("far", logs))
        for out in [stage(SCORE, tmp_path / "s" / name, "score", {"benchmark": "digits"},
                          logs=folder, dataset=data)]
    ]  # fmt: skip
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] > 0.8


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_performance_run_tells_that_it_was_an_endpoint(
    scenario: str, dataset: Path, server: Server, tmp_path: Path
) -> None:
    result, logs = endpoint_run(
        tmp_path, dataset, server.url, scenario=scenario, mode="performance",
        performance_seconds=0.5,
    )  # fmt: skip
    assert result.status == "ok", result.message
    run: Any = result.metrics["loadgen"]
    assert run["samples"] > 0
    said = run["sut"]["endpoint"]
    assert (said["service"], said["url"], said["same_host"]) == ("detector", server.url, True)
    assert said["server"].startswith("proctor-sut ")
    assert said["requests"] == run["samples"]
    assert (said["retries"], said["timeouts"], said["failures"]) == (0, 0, 0)
    assert run["sut"]["backend"] == "onnxruntime"
    assert "threads" not in run["sut"]  # the server's own affair, told in its properties
    assert run["sut"]["workers"] == (0 if scenario == "SingleStream" else 4)
    assert "endpoint_retries" not in {finding.rule for finding in result.findings}
    assert json.loads((logs / "run.json").read_text())["sut"] == run["sut"]


# -- the client, request by request ----------------------------------------------------------------


def test_one_connection_for_each_thread(model: Path, server: Server) -> None:
    backend = base.make("onnxruntime")
    backend.load(base.locate(model, backend.formats), threads=1)
    expected = backend.infer(BATCH)[0]
    with Proxy(server.url, lambda n: "pass") as proxy:
        client = endpoint(proxy.url)
        before = proxy.connections

        def several() -> None:
            for _ in range(10):
                assert (client.infer(BATCH)[0] == expected).all()

        threads = [threading.Thread(target=several) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (proxy.posts, proxy.connections - before) == (30, 3)
    assert client.describe()["endpoint"]["requests"] == 30


@pytest.mark.parametrize(
    ("metadata", "tensors"),
    [
        ({"name": "x"}, "binary"),
        ({"name": "x", "extensions": ["binary_tensor_data"]}, "binary"),
        ({"name": "x", "version": "2", "extensions": ["model_repository"]}, "json"),
    ],
)
def test_tensors_travel_as_the_server_can(
    metadata: dict[str, Any], tensors: str, server: Server
) -> None:
    expected = endpoint(server.url).infer(BATCH)[0].copy()
    with Proxy(server.url, lambda n: "pass", metadata) as proxy:
        client = endpoint(proxy.url)
        assert (client.infer(BATCH)[0] == expected).all()
    said = client.describe()
    assert said["endpoint"]["tensors"] == tensors
    assert said["endpoint"]["server"] == f"x {metadata.get('version', '')}".strip()


@pytest.mark.parametrize(("how", "kind"), [("busy", "busy"), ("drop", "lost"), ("half", "lost")])
def test_what_may_be_tried_again_is_and_is_counted(how: str, kind: str, server: Server) -> None:
    """Of each three posts the first two go wrong; the time belongs to the query."""
    with Proxy(server.url, lambda n: "pass" if n % 3 == 2 else how) as proxy:
        client = endpoint(proxy.url)
        began = time.monotonic()
        for _ in range(4):
            assert client.infer(BATCH)[0].shape[0] == 2
        assert time.monotonic() - began >= 4 * (0.02 + 0.04)
        assert proxy.posts == 12
    said = client.describe()["endpoint"]
    assert (said["requests"], said["retries"], said["failures"]) == (4, 8, 0)
    assert said["retried_for"] == {kind: 8}


@pytest.mark.parametrize(
    ("how", "retries", "posts", "words"),
    [
        ("busy", 2, 3, r"has no room \(HTTP 503\): no room; tried 3 times"),
        ("drop", 1, 2, r"lost the connection \(.*\); tried 2 times"),
        ("half", 0, 1, r"lost the connection \(IncompleteRead\)"),
        ("error", 3, 1, "answered HTTP 500: the model broke"),
    ],
)
def test_a_query_that_fails_for_good(
    how: str, retries: int, posts: int, words: str, server: Server
) -> None:
    with Proxy(server.url, lambda n: how) as proxy:
        client = endpoint(proxy.url, retries=retries)
        with pytest.raises(StepError, match=words):
            client.infer(BATCH)
        assert proxy.posts == posts
    said = client.describe()["endpoint"]
    assert (said["retries"], said["failures"]) == (posts - 1, 1)


def test_a_reply_of_a_length_that_nobody_announced(server: Server) -> None:
    with Proxy(server.url, lambda n: "parts") as proxy:
        found = endpoint(proxy.url).infer(BATCH)
    assert all(map(np.array_equal, found, endpoint(server.url).infer(BATCH)))


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_hanging_server_is_waited_for_once(how: str, server: Server) -> None:
    with Proxy(server.url, lambda n: how) as proxy:
        client = endpoint(proxy.url, timeout_seconds=0.3)
        with pytest.raises(StepError, match=r"gave no answer within 0\.3"):
            client.infer(BATCH)
        assert proxy.posts == 1
    said = client.describe()["endpoint"]
    assert (said["timeouts"], said["failures"], said["retries"]) == (1, 1, 0)


def first(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    return changed(lambda said: change(said["outputs"][0]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (first(lambda o: o.update(shape=[1, 6, 40])), "binary_data_size is"),
        (
            first(lambda o: o.update(shape=[2, 40, 6])),
            "came as FP32 of shape 2x40x6; the model's is",
        ),
        (first(lambda o: o.update(name="out")), "'out' is none of them|'output0' is missing"),
        (first(lambda o: o.update(datatype="INT8")), "binary_data_size is"),
        (first(lambda o: o.update(datatype="UINT")), "datatype 'UINT'"),
        (first(lambda o: o.pop("name")), "outputs.0.name: Field required"),
        (lambda reply: reply[:-4], "has 1920 bytes, 1916 are left"),
        (lambda reply: reply + b"more", "4 bytes follow"),
        (lambda reply: b"\xff" + reply[1:], "does not fit"),
        (lambda reply: b"", "wanted is a number of at most 0"),
    ],
)
def test_replies_that_do_not_fit(
    spoil: Callable[[bytes], bytes], words: str, server: Server
) -> None:
    with Proxy(server.url, lambda n: spoil) as proxy:
        client = endpoint(proxy.url)
        with pytest.raises(StepError, match=words):
            client.infer(BATCH)
        assert proxy.posts == 1
    assert client.describe()["endpoint"]["failures"] == 1


def test_a_connection_closed_while_idle_is_no_retry(server: Server) -> None:
    with Proxy(server.url, lambda n: "pass") as proxy:
        client = endpoint(proxy.url)
        client.infer(BATCH)
        client._own.connection.sock.shutdown(1)  # the server reads an end, and closes
        time.sleep(0.2)
        client.infer(BATCH)
    assert client.describe()["endpoint"]["retries"] == 0


# -- whole runs that meet with trouble -------------------------------------------------------------


def children() -> list[psutil.Process]:
    return [
        p for p in psutil.Process().children(recursive=True)
        if "proctor_steps.loadgen.child" in p.cmdline()
    ]  # fmt: skip


@pytest.mark.parametrize("scenario", ["SingleStream", "Offline"])
def test_retries_of_a_run_stand_in_its_record(
    scenario: str, dataset: Path, server: Server, tmp_path: Path
) -> None:
    spoiled: list[int] = []

    def spoil(number: int) -> str:
        if number % 10 != 5:
            return "pass"
        spoiled.append(number)
        return "drop" if len(spoiled) % 2 else "busy"

    with Proxy(server.url, spoil) as proxy:
        result, _ = endpoint_run(
            tmp_path, dataset, proxy.url, scenario=scenario, mode="performance",
            performance_seconds=1,
        )  # fmt: skip
        assert result.status == "ok", result.message
        run: Any = result.metrics["loadgen"]
        said = run["sut"]["endpoint"]
        # Those of warm-up and calibration are not the run's.
        assert proxy.posts - said["requests"] > 0
        assert 0 < said["retries"] <= len(spoiled)
        assert set(said["retried_for"]) == {"lost", "busy"}
    (found,) = [finding for finding in result.findings if finding.rule == "endpoint_retries"]
    assert found.severity == "warning"
    assert f"{said['retries']} tries beyond the {said['requests']} requests" in found.message
    if scenario == "SingleStream":  # what was tried again waited 20 ms at least
        assert run["latency_ns"]["max"] >= 20e6


def run_and_disturb(
    folder: Path, dataset: Path, server: Server, disturb: Callable[[], None], **params: Any
) -> tuple[Result, float]:
    """A long performance run, disturbed once it is under way; result and seconds since then."""
    found: list[Result] = []

    def work() -> None:
        found.append(endpoint_run(folder, dataset, server.url, mode="performance",
                                  performance_seconds=60, **params)[0])  # fmt: skip

    thread = threading.Thread(target=work)
    thread.start()
    until = time.monotonic() + 60
    while "running, " not in progress(folder):
        assert time.monotonic() < until
        time.sleep(0.05)
    disturb()
    began = time.monotonic()
    thread.join(60)
    assert found, "the run hangs"
    return found[0], time.monotonic() - began


def progress(folder: Path) -> str:
    path = folder / "progress.json"
    return path.read_text() if path.is_file() else ""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_server_that_is_killed_fails_the_run(
    scenario: str, dataset: Path, model: Path, tmp_path: Path
) -> None:
    with served(tmp_path / "server", model) as server:
        result, _ = run_and_disturb(
            tmp_path / "run", dataset, server, server.process.kill, scenario=scenario
        )
    assert result.status == "step_error"
    assert "the service detector" in result.message
    assert "refuses connections" in result.message or "lost the connection" in result.message
    assert "tried 4 times" in result.message
    assert not (tmp_path / "run" / "logs" / "run.json").exists()
    assert "loadgen" not in result.metrics
    assert not children()


@pytest.mark.parametrize("scenario", ["SingleStream", "Server"])
def test_a_server_that_hangs_fails_the_run(
    scenario: str, dataset: Path, model: Path, tmp_path: Path
) -> None:
    with served(tmp_path / "server", model) as server:
        result, _ = run_and_disturb(
            tmp_path / "run", dataset, server,
            lambda: server.process.send_signal(signal.SIGSTOP),
            scenario=scenario, timeout_seconds=1,
        )  # fmt: skip
        server.process.send_signal(signal.SIGCONT)
    assert result.status == "step_error"
    assert "gave no answer within" in result.message
    assert not (tmp_path / "run" / "logs" / "run.json").exists()
    assert not children()


def test_a_model_that_fails_behind_the_server(dataset: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", choke="fail")
    with served(tmp_path / "server", model) as server:
        result, _ = endpoint_run(
            tmp_path / "run", dataset, server.url, scenario="Offline", mode="accuracy"
        )
    assert result.status == "step_error"
    assert "answered HTTP 500: the model failed" in result.message


@pytest.mark.parametrize(
    ("services", "params", "words"),
    [
        ({}, {}, "wants a service; this step has: none"),
        ({"a": "http://x", "b": "http://y"}, {}, "wants a service; this step has: a, b"),
        ({"a": "http://x"}, {"service": "c"}, "wants the service 'c'; this step has: a"),
        ({"a": "http://x"}, {"backend": "openvino"}, "sut: endpoint takes no backend"),
        ({}, {"sut": "local"}, "sut: local wants a backend"),
        ({"a": "ftp://x:1"}, {}, "no base URL of the form http://HOST:PORT"),
        ({"a": "http://x.invalid:1"}, {}, "is not known by that name here"),
        ({"a": "http://127.0.0.1:1"}, {}, "refuses connections: it does not run; tried 4 times"),
        ({"a": "SERVER"}, {"model": "other"}, "HTTP 404: no model 'other'"),
    ],
)
def test_services_that_cannot_be_used(
    services: dict[str, str], params: dict[str, Any], words: str,
    dataset: Path, server: Server, tmp_path: Path,
) -> None:  # fmt: skip
    from proctor_steps.loadgen.run import STAGE

    (tmp_path / "logs").mkdir()
    mounts = (
        Mount(name="dataset", kind="input", path=str(dataset)),
        Mount(name="logs", kind="output", path=str(tmp_path / "logs")),
    )
    given = {"benchmark": "digits", "scenario": "Offline", "mode": "accuracy", "sut": "endpoint"}
    known = {name: server.url if url == "SERVER" else url for name, url in services.items()}
    contract = Contract(
        pipeline="p", run="r", step="s", params=given | params, mounts=mounts, services=known
    )
    execute(STAGE, contract, tmp_path)
    result = load_result(tmp_path)
    assert result is not None
    assert result.status == "step_error"
    assert words in result.message


def test_a_server_that_speaks_another_protocol(dataset: Path, tmp_path: Path) -> None:
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Other(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        result, _ = endpoint_run(
            tmp_path, dataset, f"http://127.0.0.1:{other.server_address[1]}",
            scenario="Offline", mode="accuracy",
        )  # fmt: skip
        other.shutdown()
    assert result.status == "step_error"
    assert "does not speak the Open Inference Protocol: /v2" in result.message


def test_the_samples_that_were_loaded_are_all_there(
    dataset: Path, server: Server, tmp_path: Path
) -> None:
    """Batches of several samples: none is lost or swapped."""
    _, one = endpoint_run(
        tmp_path / "1", dataset, server.url, scenario="Offline", mode="accuracy", batch=1
    )
    _, many = endpoint_run(
        tmp_path / "8", dataset, server.url, scenario="Offline", mode="accuracy", batch=8
    )
    found = [dict(accuracy_log.read(logs / accuracy_log.NAME, IMAGES).answers)
             for logs in (one, many)]  # fmt: skip
    assert found[0].keys() == found[1].keys()
    for index, payload in found[0].items():
        a, b = (np.frombuffer(p, np.float32) for p in (payload, found[1][index]))
        assert np.allclose(a, b, atol=1e-5)
