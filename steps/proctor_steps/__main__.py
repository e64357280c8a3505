"""``python -m proctor_steps <stage>``: a stage's module is imported only when it is asked for."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from proctor_steps.stage import Stage, main

_MODULES = {
    "dataset fetch": "dataset.fetch",
    "dataset filter-coco": "dataset.filter_coco",
    "dataset policy": "policy.usage",
    "dataset inventory": "dataset.inventory",
    "dataset catalogue": "dataset.catalogue",
    "model fetch": "model.fetch",
    "subjects list": "dataset.subjects",
    "sut serve": "sut.serve",
    "loadgen tune": "loadgen.tune",
    "loadgen run": "loadgen.run",
    "accuracy score": "accuracy.score",
    "compliance verify": "compliance.verify",
    "report html": "report.html",
    "drift judge": "drift.stage",
    "submission preflight": "submission.preflight",
    "submission package": "submission.package",
    "submission check": "submission.check.stage",
    "submission official-check": "submission.check.second",
    "submission upload": "submission.upload",
    "medperf subjects": "medperf.subjects",
    "medperf conditions": "medperf.conditions",
    "selfcheck act": "selfcheck",
    "selfcheck serve": "selfcheck_serve",
}


def _load(module: str) -> Callable[[], Stage[Any]]:
    return lambda: import_module(f"proctor_steps.{module}").STAGE


STAGES = {name: _load(module) for name, module in _MODULES.items()}

if __name__ == "__main__":
    sys.exit(main(STAGES, sys.argv[1:]))
