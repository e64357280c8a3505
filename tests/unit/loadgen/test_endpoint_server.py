"""The server of a model: the protocol in both ways of sending tensors, and all that it refuses."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from endpoint_kit import Server, connects, served, start_server
from proctor_steps.contract import load_result
from proctor_steps.sut import base

from .conftest import CANDIDATES, SIZE, make_model

LENGTH = "Inference-Header-Content-Length"
SHAPE = [2, 3, SIZE, SIZE]
INFER = "/v2/models/model/infer"
BATCH = np.random.default_rng(3).random(SHAPE, dtype=np.float32)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server") / "step"
    with served(folder, model, request_mib=1) as running:
        yield running
        # Whatever the tests have sent, it is still there, and no traceback was written.
        assert ask(running, "/v2/health/ready")[0] == 200
        assert "Traceback" not in running.log()


def ask(
    server: Server, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, body, sent)
    reply = connection.getresponse()
    found = reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    connection.close()
    return found


def asked(**changes: Any) -> dict[str, Any]:
    """The JSON of a request with binary data, with changes to its input."""
    tensor = {"name": "images", "datatype": "FP32", "shape": SHAPE}
    tensor |= {"parameters": {"binary_data_size": BATCH.nbytes}} | changes
    return {"inputs": [{k: v for k, v in tensor.items() if v is not None}]}


def binary(request: Any, tail: bytes = BATCH.tobytes()) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(request).encode()
    return text + tail, {LENGTH: str(len(text))}


def outputs_of(headers: dict[str, str], body: bytes) -> tuple[dict[str, Any], bytes]:
    length = int(headers.get(LENGTH.lower(), len(body)))
    return json.loads(body[:length]), body[length:]


@pytest.fixture(scope="module")
def expected(model: Path) -> Any:
    backend = base.make("onnxruntime")
    backend.load(base.locate(model, backend.formats), threads=1)
    return backend.infer(BATCH)[0]


def test_health_and_metadata(server: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/model/ready"):
        assert ask(server, path)[0] == 200
    said = json.loads(ask(server, "/v2")[2])
    assert "binary_tensor_data" in said["extensions"]
    for path in ("/v2/models/model", "/v2/models/model/versions/1"):
        said = json.loads(ask(server, path)[2])
        images = {"name": "images", "datatype": "FP32", "shape": [-1, 3, SIZE, SIZE]}
        assert said["inputs"] == [images]
        assert said["outputs"][0]["shape"] == [-1, 6, CANDIDATES]
        assert said["properties"]["backend"] == "onnxruntime"
        assert said["properties"]["streams"] == "1"


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "binary"])
@pytest.mark.parametrize("wanted", ["json", "binary", "all-binary"])
def test_the_same_outputs_however_they_travel(
    as_json: bool, wanted: str, server: Server, expected: Any
) -> None:
    request: dict[str, Any] = asked() if not as_json else {
        "inputs": [{"name": "images", "datatype": "FP32", "shape": SHAPE, "data": BATCH.tolist()}]
    }  # fmt: skip
    request |= {"id": "7"}
    if wanted == "binary":
        request["outputs"] = [{"name": "output0", "parameters": {"binary_data": True}}]
    if wanted == "all-binary":
        request["parameters"] = {"binary_data_output": True}
    body, headers = binary(request, b"" if as_json else BATCH.tobytes())
    status, said, reply = ask(server, INFER, body, **{} if as_json else headers)
    assert status == 200, reply
    head, tail = outputs_of(said, reply)
    assert (head["id"], head["model_name"]) == ("7", "model")
    (output,) = head["outputs"]
    assert output["shape"] == list(expected.shape)
    if wanted == "json":
        found = np.array(output["data"], np.float32)
        assert not tail
    else:
        assert output["parameters"]["binary_data_size"] == len(tail)
        found = np.frombuffer(tail, np.float32)
    assert (found.reshape(expected.shape) == expected).all()


DEEP = b'{"inputs": [{"name": "images", "datatype": "FP32", "shape": [1], "data": %s1%s}]}' % (
    b"[" * 5000, b"]" * 5000,
)  # fmt: skip
NOT_FITTING = {
    "no json": (b"{", "EOF|Invalid JSON"),
    "empty": (b"", "EOF|Invalid JSON"),
    "a list": (b"[]", "object"),
    "no utf-8": (b'{"inputs": "\xff"}', "Invalid JSON|unicode"),
    "no inputs": (b"{}", "inputs: Field required"),
    "inputs no list": ({"inputs": {}}, "valid (list|array)"),
    "none": ({"inputs": []}, "the model's inputs are images; 'images' is missing"),
    "another": (asked(name="pixels"), "'images' is missing|'pixels' is none"),
    "twice": ({"inputs": asked()["inputs"] * 2}, "there twice"),
    "no name": (asked(name=None), "name: Field required"),
    "a number as name": (asked(name=3), "valid string"),
    "unknown type": (asked(datatype="FP31"), "datatype 'FP31'; known: BOOL"),
    "strings": (asked(datatype="BYTES"), "datatype 'BYTES'"),
    "another type": (asked(datatype="INT32"), "came as INT32.*the model's is FP32"),
    "half the size": (asked(datatype="FP16"), "binary_data_size is"),
    "another shape": (asked(shape=[2, SIZE, SIZE, 3]), "of shape 2x64x64x3; the model's is"),
    "flat": (asked(shape=[2 * 3 * SIZE * SIZE]), "the model's is FP32 of"),
    "huge": (asked(shape=[10**12, 3, SIZE, SIZE]), "binary_data_size is"),
    "beyond all": (asked(shape=[2**70, 3, SIZE, SIZE]), "shape"),
    "negative": (asked(shape=[-2, 3, SIZE, SIZE]), "greater than or equal to 0"),
    "fractions": (asked(shape=[2.0, 3, SIZE, SIZE]), "valid integer"),
    "size as text": (asked(parameters={"binary_data_size": "98304"}), "binary_data_size is 98304"),
    "size true": (asked(parameters={"binary_data_size": True}), "binary_data_size is True"),
    "size too large": (asked(parameters={"binary_data_size": 10**9}), "binary_data_size is"),
    "data and size": (asked(data=[1.0]), "both data and binary_data_size"),
    "neither": (asked(parameters=None), "neither data nor"),
    "few data": (asked(parameters=None, data=[0.5]), "has 1 values, its shape"),
    "ragged": (asked(parameters=None, data=[[1.0], [1.0, 2.0]]), "no regular array"),
    "texts": (asked(parameters=None, data=["0.5"]), "do not read as FP32"),
    "truths": (asked(parameters=None, data=[True]), "do not read as FP32"),
    "nulls": (asked(parameters=None, data=[None]), "do not read as FP32"),
    "objects": (asked(parameters=None, data=[{}]), "do not read as FP32"),
    "empty batch": (
        asked(shape=[0, 3, SIZE, SIZE], parameters=None, data=[]),
        "of shape 0x3x64x64; the model's is",
    ),
    "unknown output": (asked() | {"outputs": [{"name": "boxes"}]}, "no output 'boxes'"),
    "deep": (DEEP, "recursion|regular array|do not read"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FITTING)
def test_requests_that_do_not_fit(name: str, server: Server) -> None:
    request, words = NOT_FITTING[name]
    data_behind = "binary_data_size" in str(request) or name in ("twice",)
    if isinstance(request, bytes):
        body, headers = request, {}
    else:
        body, headers = binary(request, BATCH.tobytes() if data_behind else b"")
    status, _, reply = ask(server, INFER, body, **headers)
    assert status == 400, reply
    assert re.search(words, json.loads(reply)["error"]), reply


@pytest.mark.parametrize(
    ("length", "cut", "words"),
    [
        ("9999999", 0, "wanted is a number of at most"),
        ("-1", 0, "wanted is a number of at most"),
        ("1e3", 0, "wanted is a number of at most"),
        ("9" * 4000, 0, "wanted is a number of at most"),
        (None, -5, r"has 98304 bytes, \d+ are left in the body"),
        (None, 5, "5 bytes follow that belong to no tensor"),
        ("10", 0, "EOF|JSON"),
    ],
)
def test_lengths_that_do_not_fit(length: str | None, cut: int, words: str, server: Server) -> None:
    tail = BATCH.tobytes()[:cut] if cut < 0 else BATCH.tobytes() + bytes(cut)
    body, headers = binary(asked(), tail)
    status, _, reply = ask(server, INFER, body, **headers if length is None else {LENGTH: length})
    assert status == 400, reply
    assert re.search(words, json.loads(reply)["error"]), reply


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/v2/models/other/infer", b"{}", {}, 404, "no model 'other'"),
        ("/v2/models/model/versions/2/infer", b"{}", {}, 404, "version '2'"),
        ("/v2/models/model", b"{}", {}, 405, "Not Allowed"),
        (INFER, None, {}, 405, "Not Allowed"),
        ("/v1", None, {}, 404, "Not Found"),
        (INFER, b"{}", {"Content_Encoding": "gzip"}, 415, "compressed"),
        (INFER, bytes(2**20 + 1), {}, 413, "larger than 1048576 bytes"),
    ],
)
def test_other_refusals(
    path: str, body: bytes | None, headers: dict[str, str], status: int, words: str, server: Server
) -> None:
    found, _, reply = ask(server, path, body, **headers)
    assert (found, words in json.loads(reply)["error"]) == (status, True), reply


RAW = {
    "no http": b"\x16\x03\x01 hello\r\n\r\n",
    "a long header": b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000,
    "many headers": b"GET /v2 HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
    "two lengths": b"POST /v2 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length that is none": b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_http_is_refused(name: str, server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        try:
            connection.sendall(RAW[name])
            assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        except (ConnectionResetError, BrokenPipeError):
            pass  # closed while more was sent: refused as well


def test_a_body_over_the_limit_is_refused_over_a_connection_that_stays(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(3):
        pieces = (bytes(100_000) for _ in range(40))
        connection.request("POST", INFER, pieces, {"Transfer-Encoding": "chunked"},
                           encode_chunked=True)  # fmt: skip
        reply = connection.getresponse()
        assert (reply.status, b"larger than 1048576" in reply.read()) == (413, True)
        connection.request("POST", INFER, bytes(8 << 20))
        reply = connection.getresponse()
        assert (reply.status, b"larger than 1048576" in reply.read()) == (413, True)
    body, headers = binary(asked())
    connection.request("POST", INFER, body, headers)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_connection_that_ends_in_the_middle_harms_nobody(server: Server) -> None:
    body, headers = binary(asked())
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"{LENGTH}: {headers[LENGTH]}\r\n\r\n"
    for part in (10, len(body) // 2):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + body[:part])
    assert ask(server, INFER, body, **headers)[0] == 200


def test_many_requests_over_one_connection(server: Server) -> None:
    body, headers = binary(asked())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.connect()
    first = connection.sock
    for _ in range(5):
        connection.request("POST", INFER, body, headers)
        assert connection.getresponse().read()
        connection.request("POST", INFER, b"{", headers)
        assert connection.getresponse().read()
        assert connection.sock is first
    connection.close()


def test_no_more_than_may_wait_is_taken(model: Path, tmp_path: Path) -> None:
    """The one place is held by a request whose body does not come to its end."""
    body, headers = binary(asked())
    with served(tmp_path / "step", model, queue=0) as server:
        holder = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        holder.sendall(head.encode())
        statuses = set()
        while 503 not in statuses:
            status, _, reply = ask(server, INFER, body, **headers)
            statuses.add(status)
        assert "1 requests are under way" in json.loads(reply)["error"]
        assert ask(server, "/v2/health/ready")[0] == 200
        holder.close()
        while ask(server, INFER, body, **headers)[0] == 503:
            pass
        _, result = server.stop()
        assert result is not None
        assert result.metrics["served"]["refused"] >= 1  # type: ignore[index, call-overload, operator]


def test_a_model_that_fails_answers_500_and_serves_on(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", choke="fail")
    white = np.ones(SHAPE, np.float32).tobytes()
    with served(tmp_path / "step", model) as server:
        body, headers = binary(asked(), white)
        for _ in range(3):
            status, _, reply = ask(server, INFER, body, **headers)
            assert status == 500
            assert "the model failed" in json.loads(reply)["error"]
        body, headers = binary(asked())
        assert ask(server, INFER, body, **headers)[0] == 200
        assert server.log().count("Traceback") == 1
        _, result = server.stop()
    assert result is not None
    assert result.metrics["served"] == {"failed": 3, "answered": 1}


def test_it_listens_where_the_contract_says_and_nowhere_else(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    listening = [c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: int, model: Path, tmp_path: Path) -> None:
    with served(tmp_path / "step", model) as server:
        body, headers = binary(asked())
        idle = http.client.HTTPConnection("127.0.0.1", server.port)
        idle.request("POST", INFER, body, headers)
        assert idle.getresponse().read()
        server.process.send_signal(number)
        code, result = server.wait()
        assert code == 0, server.log()
        assert result is not None
        assert result.status == "ok"
        assert result.metrics["served"] == {"answered": 1}
        assert not connects(server.port)
        idle.close()


def test_requests_under_way_are_answered_before_the_end(model: Path, tmp_path: Path) -> None:
    body, headers = binary(asked())
    with served(tmp_path / "step", model) as server:
        found: list[int] = []
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}{LENGTH}: {headers[LENGTH]}\r\n\r\n".encode() + body[:1000])
        while ask(server, "/v2/health/live")[0] != 200:
            pass
        stopping = threading.Thread(target=lambda: found.append(server.stop()[0]))
        stopping.start()
        while connects(server.port):
            pass
        connection.sendall(body[1000:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        connection.close()
        stopping.join(30)
        assert found == [0]


def test_a_signal_while_the_model_loads(model: Path, tmp_path: Path) -> None:
    server = start_server(tmp_path / "step", model)
    process = psutil.Process(server.process.pid)
    # The address is taken (and told by the kernel, not by the log) before the model is read.
    while not any(c.laddr for c in process.net_connections()):
        assert server.process.poll() is None, server.log()
    server.process.send_signal(signal.SIGTERM)
    code, result = server.wait()
    assert result is not None
    if code:  # else it was ready before the signal came
        assert result.message == "stopped by SIGTERM before the model was ready"
    assert "Traceback" not in server.log()


def refused(folder: Path, model: Path, **params: Any) -> tuple[str, str]:
    """A server that does not come up: status and message."""
    server = start_server(folder, model, **params)
    server.process.wait(60)
    result = load_result(folder)
    assert result is not None
    assert "Traceback" not in server.log()
    return result.status, result.message


def test_a_port_that_is_taken(server: Server, model: Path, tmp_path: Path) -> None:
    status, text = refused(tmp_path / "step", model, listen=f"127.0.0.1:{server.port}")
    assert status == "step_error"
    assert f"cannot listen at 127.0.0.1:{server.port}: Address already in use" in text


@pytest.mark.parametrize(
    "listen", ["8000", "127.0.0.1:http", "127.0.0.1:99999", "nowhere.invalid:1"]
)
def test_an_address_that_is_none(listen: str, model: Path, tmp_path: Path) -> None:
    status, text = refused(tmp_path / "step", model, listen=listen)
    assert status == "step_error"
    assert "listen at" in text


def test_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.onnx").write_bytes(b"no model")
    assert refused(tmp_path / "step", tmp_path / "broken")[0] == "data_error"
    open_size = make_model(tmp_path / "fixed", batch=4)
    status, text = refused(tmp_path / "step2", open_size, shape=[1, 3, SIZE, SIZE])
    assert status == "data_error"
    assert "cannot be run on an input of shape (1, 3, 64, 64)" in text


def test_a_torchscript_model_is_served_by_its_shape(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Tiny(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, images: Any) -> Any:
            return images.mean(dim=(2, 3))[:, :1, None].repeat(1, 6, 5)

    (tmp_path / "model").mkdir()
    made = torch.jit.trace(Tiny(), torch.zeros(1, 3, SIZE, SIZE))
    made.save(str(tmp_path / "model" / "tiny.torchscript"))
    _, text = refused(tmp_path / "no", tmp_path / "model", backend="torch")
    assert "give the parameter shape" in text
    with served(
        tmp_path / "step", tmp_path / "model", backend="torch", shape=[1, 3, SIZE, SIZE]
    ) as server:
        said = json.loads(ask(server, "/v2/models/model")[2])
        assert said["inputs"][0] == {
            "name": "input", "datatype": "FP32", "shape": [-1, 3, SIZE, SIZE]
        }  # fmt: skip
        assert said["outputs"][0]["shape"] == [-1, 6, 5]
        body, headers = binary(asked(name="input"))
        status_, said_, reply = ask(server, INFER, body, **headers)
        assert status_ == 200, reply
        output = np.array(outputs_of(said_, reply)[0]["outputs"][0]["data"])
        assert np.allclose(output.reshape(2, 6, 5)[:, 0, 0], BATCH.mean(axis=(2, 3))[:, 0])
