"""Programs as a person runs them, on input that is wrong, and what they must leave behind.

Every call is a process of its own with an end to its patience: a hang fails the test. What a
program says is kept apart from what it leaves; :meth:`Said.refuses` holds both against the rule
that bad input gives a sentence with place and remedy, and nothing half-written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds; what is tested here ends within two
DATA, STEP, USAGE = 65, 70, 64  # exit codes of a step: the data's fault, the step's, the caller's
NOT_STARTED = 2  # exit code of the command line


@dataclass(frozen=True)
class Said:
    """A program that ended: its exit code, its words, and the folder that it was to fill."""

    code: int
    out: str
    err: str
    folder: Path | None
    scratch: Path

    @property
    def words(self) -> str:
        return self.out + self.err

    def refuses(self, *phrases: str, code: int) -> Said:
        """It failed in words: these, without a traceback, and left nothing to be seen."""
        assert "Traceback (most recent call last)" not in self.words, self.words[-3000:]
        for phrase in phrases:
            assert phrase in self.err, f"{phrase!r} is not in:\n{self.err[-2000:]}"
        assert self.code == code, (self.code, self.err[-2000:])
        assert self.visible() == []
        assert self.left() == []
        return self

    def succeeds(self) -> Said:
        assert self.code == 0, self.words[-3000:]
        assert self.left() == []
        return self

    def left(self) -> list[str]:
        """Temporary files. One lock serves the database library for every home, and stays."""
        return sorted(p.name for p in self.scratch.iterdir() if p.name != ".lockfile")

    def visible(self) -> list[str]:
        """What the output folder shows; the hidden part is what a fetch goes on from."""
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))

    def result(self) -> dict[str, Any]:
        """The step's result, which a call by hand prints last."""
        made: dict[str, Any] = json.loads(self.out[self.out.index("{\n") :])
        return made


@dataclass
class Programs:
    """Calls programs below one folder."""

    root: Path
    calls: int = 0
    python: str = sys.executable

    def stage(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Path] | None = None,
        out: Path | None = None,
        **how: Any,
    ) -> Said:
        """``python -m proctor_steps NAME`` by hand, into a new folder or ``out``."""
        self.calls += 1
        target = out or self.root / f"out-{self.calls}"
        words = [
            f"--{key.replace('_', '-')}={_text(value)}" for key, value in (params or {}).items()
        ]
        words += [f"--in={key}={path}" for key, path in (inputs or {}).items()]
        words += [f"--out={_OUTPUTS[name]}={target}"]
        return self.run(
            [sys.executable, "-m", "proctor_steps", *name.split(), *words], target, **how
        )

    def contract(self, name: str, folder: Path, **how: Any) -> Said:
        """The same under an orchestrator whose step folder is ``folder``."""
        command = [sys.executable, "-m", "proctor_steps", *name.split()]
        return self.run(command, None, {"PROCTOR_STEP_DIR": str(folder)}, **how)

    def proctor(self, *words: str, **how: Any) -> Said:
        """``proctor WORDS``."""
        command = [sys.executable, "-c", "from proctor.cli import main; main()", *words]
        return self.run(command, None, **how)

    def run(
        self,
        command: Sequence[str | bytes],
        folder: Path | None,
        environment: Mapping[str, str] | None = None,
        stdout: Any = subprocess.PIPE,
        memory: int = 0,
    ) -> Said:
        """``memory``: bytes of address space that it may have; 0: as many as there are."""
        scratch = self.root / f"scratch-{self.calls}-{len(list(self.root.iterdir()))}"
        scratch.mkdir()
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("PROCTOR", "AIRFLOW"))
        }
        limit = ["prlimit", f"--as={memory}"] if memory else []
        done = subprocess.run(
            [*limit, *command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            cwd=self.root,
            env={**inherited, "TMPDIR": str(scratch), **(environment or {})},
            check=False,
        )
        out, err = ((text or b"").decode(errors="replace") for text in (done.stdout, done.stderr))
        return Said(done.returncode, out, err, folder, scratch)


_OUTPUTS = {
    "dataset fetch": "dataset",
    "dataset filter-coco": "dataset",
    "model fetch": "model",
    "loadgen run": "logs",
    "accuracy score": "score",
    "report html": "report",
    "submission package": "package",
}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
