"""docs/spec.md: its example works, and no key of the language is missing."""

from __future__ import annotations

import re
from pathlib import Path

from proctor.plan.compile import compile
from proctor.spec.load import parse_pipeline
from proctor.spec.model import Approval, ParamSpec, Pipeline, ResourceSpec, Step

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "spec.md").read_text()


def test_the_example_compiles_without_warnings() -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    pipeline = parse_pipeline(example[1], "example.yaml")
    assert pipeline.warnings == ()
    assert len(compile(pipeline).steps) == 4


def test_every_key_is_named() -> None:
    models = (Pipeline, Step, ParamSpec, Approval, ResourceSpec)
    keys = {name for model in models for name in model.model_fields}
    assert {key for key in keys if f"`{key}" not in PAGE} == set()
