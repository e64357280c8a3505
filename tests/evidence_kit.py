"""Outputs of the measuring stages, made by hand so that a test can bend one figure of them."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proctor_steps.contract import Approval, Contract, Mount, Result, load_result
from proctor_steps.stage import Stage, execute

METRICS = {
    "SingleStream": ("early_stopping_latency_ss", 1.6e6, "ns"),
    "MultiStream": ("early_stopping_latency_ms", 12e6, "ns"),
    "Server": ("result_completed_samples_per_sec", 480.0, "samples/s"),
    "Offline": ("result_samples_per_second", 690.0, "samples/s"),
}


def run_json(scenario: str, mode: str = "performance", **changes: Any) -> dict[str, Any]:
    """A run that meets every rule."""
    name, value, unit = METRICS[scenario]
    rules = [
        {"rule": "min_duration", "met": True, "required": 600, "found": 601.2, "message": ""},
        {"rule": "result_validity", "met": True, "required": "VALID", "found": "VALID"},
        {"rule": "seed_qsl", "met": True, "required": 7, "found": 7, "message": "the seed"},
    ]
    performance = mode == "performance"
    return {
        "benchmark": "yolo",
        "scenario": scenario,
        "mode": mode,
        "valid": True if performance else None,
        "official": True,
        "scenario_in_round": True,
        "samples": 4000,
        "queries": 4000 if performance else None,
        "duration_s": 601.2,
        "metric": {"name": name, "value": value, "unit": unit} if performance else None,
        "latency_ns": {"min": 1e6, "mean": 1.4e6, "p50": 1.3e6, "p90": 1.6e6, "p99": 2.4e6},
        "percentile": {"name": "p90", "value_ns": 1.6e6},
        "settings": {"requested": {}, "effective": {}},
        "rules": rules,
        "round": "v6.1",
        "loadgen_version": "6.0.17",
        "errors": [],
        "sut": {"backend": "onnxruntime", "version": "1.31.1", "devices": []},
        **changes,
    }


def score_json(**changes: Any) -> dict[str, Any]:
    """A score that meets the target on the whole dataset."""
    classes = [
        {"category": 1, "name": "person", "ap": 0.61, "ap50": 0.83, "boxes_gt": 20},
        {"category": 3, "name": "car", "ap": 0.44, "ap50": 0.66, "boxes_gt": 9},
        {"category": 9, "name": "boat", "ap": None, "ap50": None, "boxes_gt": 0},
    ]
    return {
        "metric": "mAP",
        "benchmark": "yolo",
        "value": 0.5341,
        "samples": 1525,
        "expected_samples": 1525,
        "map50": 0.71,
        "per_class": classes,
        "entries": 1525,
        "duplicates": 0,
        "target": 0.5073,
        "met": True,
        **changes,
    }


def verification_json(scenario: str, test: str = "TEST01", **changes: Any) -> dict[str, Any]:
    """A compliance test that passes, of a run that meets every rule."""
    name, value, unit = METRICS[scenario]
    check = {
        "name": "performance",
        "verdict": "pass",
        "reason": "the score is +1.20 % against the performance run's, within the 10 % allowed",
        "figures": {"change_percent": 1.2},
        "doubts": [],
        "lines": ["TEST PASS"],
    }
    return {
        "format": "proctor.compliance/1",
        "benchmark": "yolo",
        "round": "v6.1",
        "test": test,
        "scenario": scenario,
        "verdict": "pass",
        "official": True,
        "checks": [check],
        "metric": {"name": name, "value": value, "unit": unit},
        "duration_s": 601.0,
        "rules": [
            {"rule": "min_duration", "met": True, "required": 600, "found": 601, "message": ""}
        ],
        **changes,
    }


def examples() -> list[dict[str, Any]]:
    """One picture: one thing found, one missed, one seen that is not there."""
    return [
        {
            "file_name": "000000000042.png",
            "width": 60,
            "height": 40,
            "detections": [
                {"bbox": [5, 5, 10, 10], "score": 0.9, "category": 1},
                {"bbox": [30, 20, 8, 8], "score": 0.8, "category": 3},
                {"bbox": [0, 0, 3, 3], "score": 0.01, "category": 3},
            ],
            "ground_truth": [
                {"bbox": [5, 5, 10, 11], "category": 1, "iscrowd": 0},
                {"bbox": [45, 5, 10, 10], "category": 1, "iscrowd": 0},
            ],
        }
    ]


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\0" + b"\x90" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@dataclass
class Kit:
    """A folder of outputs, and a stage run over them."""

    root: Path
    approvals: tuple[Approval, ...] = ()
    devices: tuple[str, ...] = ()
    mounts: list[Mount] = field(default_factory=list)

    def fill(self, scenarios: tuple[str, ...] = ("SingleStream", "MultiStream", "Offline")) -> Kit:
        """Everything that a run of yolo leaves."""
        self.dataset()
        self.model()
        for scenario in scenarios:
            self.logs(scenario, "performance")
            self.logs(scenario, "accuracy")
            self.score(scenario)
        return self

    def folder(self, name: str, cell: str = "") -> Path:
        """An input's folder, mounted."""
        path = self.root / "in" / name / cell
        path.mkdir(parents=True, exist_ok=True)
        mount = Mount(name=name, kind="input", path=str(path), cell=cell)
        if mount not in self.mounts:
            self.mounts.append(mount)
        return path

    def logs(self, scenario: str, mode: str, **changes: Any) -> Path:
        """The logs of one run, bent by ``changes``."""
        folder = self.folder("performance" if mode == "performance" else "runs", scenario)
        told = run_json(scenario, mode, **changes)
        if self.devices:
            told["sut"] = {**told["sut"], "devices": list(self.devices)}
        _json(folder / "run.json", told)
        for name in ("summary", "detail"):
            (folder / f"mlperf_log_{name}.txt").write_text(f"{scenario} {mode} {name}\n")
        (folder / "user.conf").write_text(f"*.{scenario}.min_duration = 600000\n")
        entries = [{"seq_id": i, "qsl_idx": i, "data": "00" * 280} for i in range(40)]
        (folder / "mlperf_log_accuracy.json").write_text(json.dumps(entries, indent=0))
        if mode == "performance":
            count = 1 if scenario == "Offline" else 500
            made = np.random.default_rng(3).lognormal(14.1, 0.2, count).astype(np.int64)
            np.save(folder / "latencies.npy", made)
        return folder

    def score(self, scenario: str, **changes: Any) -> Path:
        """The score of one scenario."""
        folder = self.folder("accuracy", scenario)
        _json(folder / "accuracy.json", score_json(**changes))
        _json(folder / "examples.json", examples())
        (folder / "accuracy.txt").write_text("mAP=53.410%\n")
        return folder

    def compliance(self, scenario: str, test: str = "TEST01", **changes: Any) -> Path:
        """A test that was verified, and that passes."""
        folder = self.folder("compliance", f"{scenario}-{test}")
        _json(folder / "compliance.json", verification_json(scenario, test, **changes))
        (folder / test / "performance" / "run_1").mkdir(parents=True, exist_ok=True)
        (folder / test / "verify_performance.txt").write_text("TEST PASS\n")
        log = folder / test / "performance" / "run_1" / "mlperf_log_detail.txt"
        log.write_text(f"{scenario} {test}\n")
        return folder

    def dataset(self) -> Path:
        """A filtered dataset of one picture."""
        folder = self.folder("dataset")
        (folder / "val2017").mkdir(exist_ok=True)
        (folder / "val2017" / "000000000042.png").write_bytes(png(60, 40))
        licence = {"name": "Attribution License", "url": "http://x/", "total": 1, "kept": 1}
        about = {"kept": 1, "total": 2, "by_licence": {"4": licence}, "sha256_of_names": "ab" * 32}
        _json(folder / "dataset.json", {**about, "images": ["000000000042.png"]})
        return folder

    def model(self) -> Path:
        """A model's description."""
        folder = self.folder("model")
        tensor = {"name": "images", "shape": ["N", 3, 64, 64], "dtype": "float32"}
        about = {"format": "onnx", "file": "net.onnx", "sha256": "cd" * 32, "bytes": 12345}
        _json(folder / "model.json", {**about, "inputs": [tensor], "outputs": []})
        return folder

    def run(
        self,
        stage: Stage[Any],
        out: str,
        params: dict[str, Any],
        names: dict[str, str] | None = None,
    ) -> tuple[Result, Path]:
        """The stage's result, and its output folder. ``names``: mounts under another name."""
        target = self.root / "out" / str(len(list(self.root.glob("out/*"))))
        target.mkdir(parents=True)
        step = self.root / "step"
        step.mkdir(exist_ok=True)
        renamed = [
            m.model_copy(update={"name": (names or {}).get(m.name, m.name)}) for m in self.mounts
        ]
        made = Contract(
            pipeline="yolo-coco",
            run="manual__1",
            step="evidence",
            params=params,
            mounts=(*renamed, Mount(name=out, kind="output", path=str(target))),
            approvals=self.approvals,
        )
        execute(stage, made, step)
        result = load_result(step)
        assert result is not None
        return result, target


def approval(**changes: Any) -> Approval:
    """An answer given in the UI after a look at the evidence."""
    values: dict[str, Any] = {
        "gate": "approve",
        "decision": "approved",
        "by": "maria",
        "at": "2026-11-21T22:00:00Z",
        "answered_via": "ui",
        "evidence_reviewed": True,
        "evidence_digest": "ef" * 32,
    }
    return Approval(**{**values, **changes})


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
