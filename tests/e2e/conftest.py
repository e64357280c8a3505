"""Homes for whole runs, and servers that containers can reach."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """A home outside pytest's own folder, which is closed to PostgreSQL's user under root."""
    folder = Path(tempfile.mkdtemp(prefix="proctor-e2e-"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def bridge_address(docker_engine: object) -> str:
    """The host's address on the network of containers that may reach out."""
    network = docker_engine.networks.get("bridge")  # type: ignore[attr-defined]
    name = network.attrs["Options"]["com.docker.network.bridge.name"]
    addresses = psutil.net_if_addrs()[name]
    return next(str(a.address) for a in addresses if a.family == socket.AF_INET)


@pytest.fixture(scope="session")
def yolo_archives(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real images, annotations and model as files that a server offers."""
    folder = tmp_path_factory.mktemp("served")
    coco = shared_data / "coco"
    shutil.make_archive(str(folder / "val2017"), "zip", coco, "val2017")
    model = shared_data / "yolo11n"
    shutil.make_archive(str(folder / "yolo11n"), "zip", model, "yolo11n_int8_openvino_model")
    shutil.copy(coco / "annotations" / "instances_val2017.json", folder)
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def http_server(bridge_address: str, yolo_archives: Path) -> Iterator[str]:
    """The archives over http, on the containers' network alone."""
    handler = partial(_Quiet, directory=str(yolo_archives))
    server = ThreadingHTTPServer((bridge_address, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{bridge_address}:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture
def s3_server(bridge_address: str) -> Iterator[str]:
    """An S3 (moto) on the containers' network alone."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=bridge_address, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
