"""What the unit tests share: a stage run as the orchestrator runs it, from a contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proctor_steps.contract import Contract, Mount, Result, load_result
from proctor_steps.stage import Stage, execute

RunStage = Callable[..., tuple[Result, Path]]


@pytest.fixture
def run_stage(tmp_path: Path) -> RunStage:
    """Call with a stage and its parameters: the result, and the folder of its one output.

    ``attempt`` names the folders; the same one again keeps the output as it was left.
    """

    def run(
        stage: Stage[Any],
        params: dict[str, Any],
        *,
        inputs: dict[str, Path] | None = None,
        cache: Path | None = None,
        secret: Path | None = None,
        attempt: str = "1",
    ) -> tuple[Result, Path]:
        name = next(iter(stage.outputs))
        step, out = tmp_path / f"step-{attempt}", tmp_path / f"out-{attempt}"
        step.mkdir(exist_ok=True)
        out.mkdir(exist_ok=True)
        mounts = [Mount(name=name, kind="output", path=str(out))]
        mounts += [Mount(name=n, kind="input", path=str(p)) for n, p in (inputs or {}).items()]
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
