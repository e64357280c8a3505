"""An image that is not Proctor's: a stand-in for one that prepares chest X-rays.

It has an entrypoint of its own, knows nothing of a contract, and does with files what such an image
does, without anything that the local base lacks. Made without a registry.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from proctor.runtime import base_image, images
from proctor.runtime.base import Handle, Outcome
from proctor.runtime.selfcheck import Bench

# Two test runs on one engine have a name each; whoever ends takes only his own away.
NAME = f"example/chestxray-standin:{os.getpid()}"

# Takes a script's name, or any command.
ENTRY = """\
#!/bin/sh
echo "stand-in: $*"
case "$1" in
  prepare|sanity_check|statistics) exec python3 "/project/$1.py" ;;
  *) exec "$@" ;;
esac
"""
PREPARE = """\
import csv, hashlib, json, pathlib
root = pathlib.Path("/mlcommons/volumes")
classes = json.loads((root / "parameters/parameters_file.yaml").read_text())["labels_list"]
with open(root / "raw_labels/labels.csv") as file:
    rows = list(csv.DictReader(file))
for row in rows:
    pixels = (root / "raw_data" / (row["Image ID"] + ".png")).read_bytes()
    label = classes.index(row["Label"])
    seen = {"pixels": hashlib.sha256(pixels).hexdigest(), "label": label}
    (root / "data" / (row["Image ID"] + ".npy")).write_text(json.dumps(seen))
    (root / "labels" / (row["Image ID"] + ".npy")).write_text(json.dumps({"label": label}))
print(len(rows), "images prepared")
"""
SANITY_CHECK = """\
import json, pathlib
root = pathlib.Path("/mlcommons/volumes")
classes = json.loads((root / "parameters/parameters_file.yaml").read_text())["labels_list"]
data, labels = (sorted(p.name for p in (root / n).iterdir()) for n in ("data", "labels"))
assert data and data == labels, "labels and images should have identical names"
for path in (root / "labels").iterdir():
    assert json.loads(path.read_text())["label"] < len(classes), "no such class: " + path.name
print("sane")
"""
STATISTICS = """\
import json, pathlib
root = pathlib.Path("/mlcommons/volumes")
classes = json.loads((root / "parameters/parameters_file.yaml").read_text())["labels_list"]
labels = [json.loads(p.read_text())["label"] for p in (root / "labels").iterdir()]
count = {name: labels.count(index) for index, name in enumerate(classes)}
made = {"num_cases": len(list((root / "data").iterdir())), "labels_count": count}
with open(root / "statistics/statistics.yaml", "w") as file:
    json.dump(made, file)
"""
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY project /project
WORKDIR /project
ENTRYPOINT ["/bin/sh", "/project/entry"]
CMD ["prepare"]
"""


@contextmanager
def built(client: Any, name: str, files: dict[str, str]) -> Iterator[str]:
    """The id of an image made of these files, its Dockerfile among them, while it is needed."""
    base = base_image.find_or_make(client, images.cache_folder(), print)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    images._run_build(client, context, name, {"BASE_IMAGE": base}, {}, lambda line: None)
    try:
        yield str(client.images.get(name).id)
    finally:
        client.images.remove(name, force=True)


@contextmanager
def stand_in(client: Any) -> Iterator[str]:
    """The image's id, while it is needed."""
    files = {
        "Dockerfile": DOCKERFILE,
        "project/entry": ENTRY,
        "project/prepare.py": PREPARE,
        "project/sanity_check.py": SANITY_CHECK,
        "project/statistics.py": STATISTICS,
    }
    with built(client, NAME, files) as id:
        yield id


def shell(bench: Bench, step: str, script: str, **more: Any) -> Handle:
    """Start a step that is a script."""
    return bench.start(step, command=("sh", "-c", script), **more)


def failure_of(outcome: Outcome) -> tuple[str, str]:
    """Whose failure it is, and what is said of it."""
    assert outcome.failure is not None
    return outcome.failure.kind, outcome.failure.message
