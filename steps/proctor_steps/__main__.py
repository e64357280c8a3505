"""``python -m proctor_steps <stage>``: a stage's module is imported only when it is asked for."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from proctor_steps.stage import Stage, main
from proctor_steps.stages import MODULES


def _load(module: str) -> Callable[[], Stage[Any]]:
    return lambda: import_module(f"proctor_steps.{module}").STAGE


STAGES = {name: _load(module) for name, module in MODULES.items()}

if __name__ == "__main__":
    sys.exit(main(STAGES, sys.argv[1:]))
