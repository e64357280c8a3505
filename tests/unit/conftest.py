"""What the unit tests share: a stage run as the orchestrator runs it, from a contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import submission_kit
from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.stage import Stage, execute

RunStage = Callable[..., tuple[Result, Path]]


@pytest.fixture
def run_stage(tmp_path: Path) -> RunStage:
    """Call with a stage and its parameters: the result, and the folder of its one output.

    ``attempt`` names the folders; the same one again keeps the output as it was left. An input with
    cells is a mapping of them.
    """

    def run(
        stage: Stage[Any],
        params: dict[str, Any],
        *,
        inputs: Mapping[str, Path | Mapping[str, Path]] | None = None,
        cache: Path | None = None,
        secret: Path | None = None,
        attempt: str = "1",
    ) -> tuple[Result, Path]:
        name = next(iter(stage.outputs))
        step, out = tmp_path / f"step-{attempt}", tmp_path / f"out-{attempt}"
        step.mkdir(exist_ok=True)
        out.mkdir(exist_ok=True)
        mounts = [Mount(name=name, kind="output", path=str(out))]
        for given, place in (inputs or {}).items():
            cells = {"": place} if isinstance(place, Path) else place
            mounts += [
                Mount(name=given, kind="input", path=str(path), cell=cell)
                for cell, path in cells.items()
            ]
        if cache:
            cache.mkdir(exist_ok=True)
            mounts.append(Mount(name="cache", kind="cache", path=str(cache)))
        if secret:
            mounts.append(Mount(name="s3", kind="secret", path=str(secret)))
        contract = Contract(pipeline="p", run="r", step="s", params=params, mounts=tuple(mounts))
        execute(stage, contract, step)
        result = load_result(step)
        assert result is not None
        return result, out

    return run


@pytest.fixture(scope="session")
def faultless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission without fault: to be copied before it is spoilt."""
    folder = tmp_path_factory.mktemp("submission")
    return submission_kit.make_tree(folder / "tree", submission_kit.make_runs(folder / "runs"))
