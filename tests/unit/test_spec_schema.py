"""The committed JSON Schema: current, valid, and of the same mind as the loader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from proctor.spec.schema import schema_text

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD = [*(ROOT / "pipeline_specs").glob("*.yaml"), *(ROOT / "tests/golden/specs").glob("*.yaml")]
BAD = ["typo-key", "wrong-types", "no-steps", "empty-steps", "list", "scalar"]


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_it_is_current() -> None:
    committed = (ROOT / "docs" / "pipeline.schema.json").read_text()
    assert committed == schema_text(), "run: proctor schema > docs/pipeline.schema.json"


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_specs_fit(path: Path) -> None:
    assert list(validator().iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_specs_do_not(name: str) -> None:
    text = (ROOT / "tests" / "golden" / "errors" / f"{name}.yaml").read_text()
    assert list(validator().iter_errors(yaml.safe_load(text)))
