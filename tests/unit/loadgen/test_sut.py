"""Backends give the same answers; the local system under test keeps LoadGen safe and exact."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proctor_steps import benchmarks
from proctor_steps.benchmarks.base import Array, Task
from proctor_steps.stage import DataError, StepError
from proctor_steps.sut import base
from proctor_steps.sut.local import LocalSut, loadgen_complete
from proctor_steps.sut.samples import Samples

from .conftest import SIZE, make_model


def load(name: str, folder: Path, streams: int = 1) -> base.Backend:
    backend = base.make(name)
    backend.load(base.locate(folder, backend.formats), threads=2, streams=streams)
    return backend


class Answers:
    """Collects what the system under test answers."""

    def __init__(self) -> None:
        self.by_id: dict[int, Array | None] = {}
        self._lock = threading.Lock()
        self.times: dict[int, int] = {}

    def __call__(self, ids: Sequence[int], payloads: Sequence[Array | None]) -> None:
        with self._lock:
            for id_, payload in zip(ids, payloads, strict=True):
                self.by_id[id_] = None if payload is None else payload.copy()
                self.times[id_] = self.times.get(id_, 0) + 1


@pytest.fixture(scope="module")
def task(dataset: Path, model: Path) -> Task:
    return benchmarks.get("digits").bind(dataset, load("onnxruntime", model).signature())


def sut_of(task: Task, backend: base.Backend, **given: Any) -> tuple[LocalSut, Answers]:
    answers = Answers()
    sut = LocalSut(task, backend, **({"batch": 1, "workers": 0} | given), complete=answers)
    return sut, answers


def test_onnxruntime_and_openvino_agree(model: Path, task: Task) -> None:
    batch = np.stack([task.preprocess(i, task.load(i)) for i in range(3)])
    first, second = load("onnxruntime", model), load("openvino", model)
    assert first.signature().inputs[0].shape == (None, 3, SIZE, SIZE)
    assert second.signature().inputs[0].shape == (None, 3, SIZE, SIZE)
    assert second.signature().inputs[0].dtype == "float32"
    # OpenVINO may compute in bfloat16 where the CPU has it.
    assert np.allclose(first.infer(batch)[0], second.infer(batch)[0], atol=0.1)
    for backend in (first, second):
        described = json.loads(json.dumps(backend.describe()))
        assert described["version"]
    assert second.describe()["precision"] in ("float32", "bfloat16")


@pytest.mark.parametrize("kind", ["float32", "float16", ""])
def test_torchscript_tells_the_type_of_its_weights(tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Conv2d(3, 1, 1, dtype=getattr(torch, kind)) if kind else torch.nn.ReLU()
    torch.jit.script(layer).save(str(tmp_path / "tiny.torchscript"))
    assert load("torch", tmp_path).describe().get("precision", "") == kind


def test_torchscript_runs(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Tiny(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, images: Any) -> Any:
            return (images.mean(dim=(2, 3)).unsqueeze(2).repeat(1, 2, 5), images)

    torch.jit.trace(Tiny(), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "tiny.torchscript"))
    backend = load("torch", tmp_path)
    found = backend.infer(np.full((2, 3, 8, 8), 0.25, np.float32))
    assert found[0].shape == (2, 6, 5)
    assert found[0][0, 0, 0] == pytest.approx(0.25)
    assert backend.signature().inputs == ()
    assert backend.describe()["backend"] == "torch"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_a_file_that_is_no_model(name: str, tmp_path: Path) -> None:
    if name == "torch":
        pytest.importorskip("torch")
    suffix = "torchscript" if name == "torch" else "onnx"
    (tmp_path / f"broken.{suffix}").write_bytes(b"not a model at all")
    with pytest.raises(DataError, match=f"broken.{suffix}"):
        load(name, tmp_path)


def test_a_format_that_the_backend_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "net.xml").write_text("<net/>")
    (tmp_path / "model.json").write_text(json.dumps({"format": "openvino", "file": "net.xml"}))
    with pytest.raises(DataError, match=r"net\.xml has the format openvino.* reads onnx"):
        load("onnxruntime", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "does not name"),
        ("{}", "does not name"),
        ('{"format": "onnx", "file": "a"}', "not in"),
    ],
)
def test_a_model_json_that_misleads(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(DataError, match=message):
        base.locate(tmp_path, ("onnx",))


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 files that could be a model"):
        base.locate(tmp_path, ("onnx",))


def test_an_unknown_backend() -> None:
    with pytest.raises(StepError, match="known: onnxruntime, openvino, torch"):
        base.make("tensorrt")


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (1, 2), (4, 0), (8, 3)])
def test_every_way_through_gives_the_same_payloads(
    batch: int, workers: int, task: Task, model: Path
) -> None:
    indices = list(range(task.count))
    reference, expected = sut_of(task, load("onnxruntime", model))
    reference.load(indices)
    reference.issue(indices, indices)
    sut, answers = sut_of(
        task, load("onnxruntime", model, max(1, workers)), batch=batch, workers=workers
    )
    sut.load(indices)
    sut.issue([100 + i for i in indices], indices)
    sut.close()
    assert sut.failure is None
    assert set(answers.times.values()) == {1}
    assert (sut.queries, sut.samples) == (1, len(indices))
    assert len(sut.latencies) == 1
    for index in indices:
        wanted, found = expected.by_id[index], answers.by_id[100 + index]
        assert wanted is not None
        assert found is not None
        assert np.allclose(wanted, found, atol=1e-5)


def test_a_fixed_batch_is_filled_up(task: Task, dataset: Path, tmp_path: Path) -> None:
    backend = load("onnxruntime", make_model(tmp_path / "m", batch=4))
    fixed = benchmarks.get("digits").bind(dataset, backend.signature())
    sut, answers = sut_of(fixed, backend, batch=4)
    sut.load(range(6))
    sut.issue(list(range(6)), list(range(6)))
    assert sut.failure is None
    assert [len(answers.by_id[i]) > 0 for i in range(6)] == [True] * 6  # type: ignore[arg-type]


class Broken(base.Backend):
    """Fails from its third call on."""

    formats = ()
    calls = 0

    def load(self, model: Path, threads: int, streams: int = 1) -> None:
        """Nothing."""

    def signature(self) -> Any:
        """Nothing."""

    def describe(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def infer(self, batch: Array) -> Sequence[Array]:
        """Fails."""
        self.calls += 1
        if self.calls > 2:
            raise ValueError("no luck")
        return [np.zeros((1, 6, 4), np.float32)]


@pytest.mark.parametrize("workers", [0, 2])
def test_after_a_failure_everything_is_answered_with_nothing(workers: int, task: Task) -> None:
    told: list[Any] = []
    sut, answers = sut_of(task, Broken(), workers=workers, failed=told.append)
    sut.load(range(8))
    for start in (0, 8):
        sut.issue(list(range(start, start + 8)), list(range(8)))
    sut.close()
    assert len(answers.by_id) == 16
    assert sum(p is not None for p in answers.by_id.values()) == 2
    assert len(told) == 1
    assert isinstance(told[0].error, ValueError)
    assert "no luck" in told[0].trace


def test_an_answer_that_loadgen_refuses_is_a_failure(task: Task, model: Path) -> None:
    def refuse(ids: Sequence[int], payloads: Sequence[Array | None]) -> None:
        raise TypeError("not this")

    sut = LocalSut(task, load("onnxruntime", model), batch=1, workers=0, complete=refuse)
    sut.load([0])
    sut.issue([0], [0])
    assert sut.failure is not None
    assert isinstance(sut.failure.error, TypeError)


def test_an_image_that_cannot_be_loaded_is_kept_for_later(task: Task, model: Path) -> None:
    sut, answers = sut_of(task, load("onnxruntime", model))
    sut.load([0, 10_000])
    assert sut.failure is not None
    sut.issue([1], [0])
    assert answers.by_id == {1: None}


def test_a_query_is_counted_once_however_it_is_cut(task: Task, model: Path) -> None:
    sut, answers = sut_of(task, load("onnxruntime", model, 3), batch=2, workers=3)
    sut.load(range(10))
    for query in range(40):
        sut.issue([10 * query + i for i in range(10)], list(range(10)))
    sut.close()
    assert (sut.queries, sut.samples) == (40, 400)
    assert set(answers.times.values()) == {1}
    assert len(answers.times) == 400
    assert sut.latencies.dtype == np.int64
    assert (sut.latencies > 0).all()
    came, done = sut.served.T
    assert (np.diff(came) >= 0).all()
    assert sorted(done - came) == sorted(sut.latencies)
    sut.reset()
    assert (sut.queries, sut.samples, len(sut.latencies)) == (0, 0, 0)


class Refusing:
    """As LoadGen's binding: takes pointers, copies, and answers an id only once."""

    def __init__(self) -> None:
        self.answered: dict[int, bytes] = {}

    def QuerySampleResponse(self, id_: int, data: int, size: int) -> tuple[int, bytes]:
        return id_, ctypes.string_at(data, size)

    def QuerySamplesComplete(self, responses: list[tuple[int, bytes]]) -> None:
        for id_, data in responses:
            assert id_ not in self.answered
            self.answered[id_] = data


def test_loadgen_gets_the_bytes_of_each_payload() -> None:
    loadgen = Refusing()
    payload = np.arange(14, dtype=np.float32).reshape(2, 7)
    loadgen_complete(loadgen)([1, 2, 3], [payload, None, payload[:0]])
    assert loadgen.answered == {1: payload.tobytes(), 2: b"", 3: b""}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_payload_that_is_not_contiguous_is_refused_and_answered(
    workers: int, task: Task, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address would be that of other bytes. LoadGen still waits for every id."""
    loadgen = Refusing()
    monkeypatch.setattr(type(task), "payload", lambda self, i, a: np.ones((4, 7), np.float32)[:, 1])
    sut = LocalSut(
        task, load("onnxruntime", model), batch=2, workers=workers,
        complete=loadgen_complete(loadgen),
    )  # fmt: skip
    sut.load(range(5))
    sut.issue(list(range(5)), list(range(5)))
    sut.close()
    assert sut.failure is not None
    assert "contiguous" in str(sut.failure.error)
    assert loadgen.answered == dict.fromkeys(range(5), b"")


def test_too_few_answers_are_a_failure(
    task: Task, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(task), "postprocess", lambda self, outputs, indices: [])
    sut, answers = sut_of(task, load("onnxruntime", model), batch=2)
    sut.load(range(2))
    sut.issue([0, 1], [0, 1])
    assert sut.failure is not None
    assert "0 answers for 2 samples" in str(sut.failure.error)
    assert answers.by_id == {0: None, 1: None}


def samples_of(*values: float) -> Samples:
    library = Samples()
    library.reserve(len(values))
    for index, value in enumerate(values):
        library.put(index, np.full((2, 3), value, np.float32))
    return library


def test_a_batch_of_neighbours_is_not_copied() -> None:
    library = samples_of(0, 1, 2, 3)
    whole = library.batch([0, 1, 2, 3], 4)
    assert np.shares_memory(library.batch([2], 1), whole)
    assert np.shares_memory(library.batch([1, 2], 2), whole)
    assert library.batch([1, 2], 2)[:, 0, 0].tolist() == [1, 2]
    mixed = library.batch([3, 0, 0], 3)
    assert not np.shares_memory(mixed, whole)
    assert mixed[:, 0, 0].tolist() == [3, 0, 0]
    assert library.batch([1, 2], 4)[:, 0, 0].tolist() == [1, 2, 2, 2]
    assert mixed.flags.c_contiguous


def test_samples_come_and_go() -> None:
    library = samples_of(0, 1, 2)
    library.reserve(2)
    library.put(1, np.full((2, 3), 10, np.float32))  # LoadGen may name a sample twice
    library.put(9, np.full((2, 3), 9, np.float32))
    assert library.batch([0, 1, 2, 9], 4)[:, 0, 0].tolist() == [0, 10, 2, 9]
    library.drop([0, 1, 2, 9])
    with pytest.raises(KeyError):
        library.batch([1], 1)
    library.put(5, np.zeros((4,), np.float32))
    assert library.batch([5], 1).shape == (1, 4)


@pytest.mark.parametrize("other", [np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float64)])
def test_samples_of_different_kinds_are_refused(other: Array) -> None:
    with pytest.raises(ValueError, match="sample 7 is float"):
        samples_of(1, 2).put(7, other)
