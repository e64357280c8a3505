"""The JSON Schema of the spec language, made from the model, so that editors complete and check."""

from __future__ import annotations

import json

from proctor.spec.model import Pipeline


def schema_text() -> str:
    """The schema as it is committed in docs/pipeline.schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Pipeline.model_json_schema(by_alias=True),
        "title": "A Proctor pipeline",
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
