"""The JSON Schema of the spec language, made from the model, so that editors complete and check."""

from __future__ import annotations

import json

from proctor.spec.model import Pipeline


def schema_text() -> str:
    """The schema as it is committed in docs/pipeline.schema.json."""
    schema = Pipeline.model_json_schema(by_alias=True)
    # Templates may have any name; what they hold is a mapping or a list.
    schema["additionalProperties"] = {"type": ["object", "array"]}
    # An unconditional `next` is written as a name or a list, which the model keeps under `to`.
    del schema["$defs"]["Next"]["properties"]["to"]
    schema["title"] = "A Proctor pipeline"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
