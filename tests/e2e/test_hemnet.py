"""MedPerf's published workflow for pairs of stained slides, written while it spoke of subjects.

The image is a stand-in: it takes the options that the published scripts take, and does with files
what they do, without a slide in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from proctor_command import proctor_run

from foreign_kit import built
from medperf_kit import published
from proctor.records.store import RecordStore
from proctor.site.home import Home
from proctor.site.verify import verify

pytestmark = pytest.mark.docker
NAME = f"example/hemnet-standin:{os.getpid()}"
WORKFLOW = "examples/HEMnet/data_preparator/workflow.yaml"
FUNCTIONS = "examples/HEMnet/data_preparator/workspace/additional_files/slides_definition.py"
# Patient, tumour or not, block; the section, which follows, is another one for each stain.
PAIRS = [f"{100 + number}_{'TN'[number % 2]}_15{number:03}_" for number in range(20)]
SECTIONS = {"TP53": 2, "HandE": 3}
SCRIPTS = (
    "normaliser_step", "image_registration", "affine_registration", "bspline_registration",
    "generate_masks", "save_tiles", "consolidate_metrics", "cleanup",
)  # fmt: skip
SLIDE_STEPS = """\
import argparse, pathlib, shutil
root = pathlib.Path("/workspace")
given, out = root / "input_data", root / "data"
temporary = out / ".tmp"
METRICS = "performance_metrics.csv"


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", "--subject-subdir", required=True)
    parser.add_argument("-v", "--verbosity", action="store_true")
    return parser.parse_args()


def of_slide(name, before):
    prefix = options().subject_subdir
    place = temporary / prefix
    for each in before:
        assert (place / each).is_file(), f"{prefix}: no {each}"
    (place / name).write_text(prefix)
    return place


def normaliser_step():
    (template,) = (given / "template").glob("*.svs")
    temporary.mkdir()
    (temporary / "normaliser.pkl").write_text(template.name)


def image_registration():
    prefix = options().subject_subdir
    names = [p.name for p in given.iterdir() if prefix in p.name]
    (he,), (tp53,) = ([n for n in names if stain in n] for stain in ("HandE", "TP53"))
    (temporary / prefix).mkdir()
    place = of_slide("he_norm.npy", [])
    normaliser = (temporary / "normaliser.pkl").read_text()
    (place / METRICS).write_text(f"{prefix},{tp53},{he},{normaliser}\\n")


def affine_registration():
    of_slide("affine_transform.hdf", ["he_norm.npy", METRICS])


def bspline_registration():
    of_slide("tp53_filtered.npy", ["affine_transform.hdf"])


def generate_masks():
    of_slide("t_mask_filtered.npy", ["tp53_filtered.npy"])


def save_tiles():
    place = of_slide("tiles.txt", ["t_mask_filtered.npy"])
    kind = "cancer" if "_T_" in place.name else "non-cancer"
    tiles = out / "tiles_10x" / kind
    tiles.mkdir(parents=True, exist_ok=True)
    (tiles / f"{place.name}_0.jpeg").write_text("tile")


def consolidate_metrics():
    rows = [path.read_text() for path in sorted(temporary.glob(f"*/{METRICS}"))]
    (out / METRICS).write_text("".join(rows))


def cleanup():
    shutil.rmtree(temporary)
"""
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY python /usr/local/bin/python
COPY project /HEMnet
WORKDIR /HEMnet
CMD ["/bin/bash"]
"""


@pytest.fixture(scope="module")
def image(docker_engine: Any) -> Iterator[str]:
    files = {
        "Dockerfile": DOCKERFILE,
        "python": '#!/bin/sh\nexec python3 "$@"\n',
        "project/slide_steps.py": SLIDE_STEPS,
        **{f"project/{name}.py": f"import slide_steps\nslide_steps.{name}()\n" for name in SCRIPTS},
    }
    with built(docker_engine, NAME, files) as id:
        yield id


def slide(name: str, stain: str) -> str:
    return f"{name}{SECTIONS[stain]}_{stain}.svs"


def write_site(folder: Path) -> dict[str, str]:
    slides, functions = folder / "svs", folder / "functions"
    (slides / "template").mkdir(parents=True)
    for name in PAIRS:
        for stain in SECTIONS:
            (slides / slide(name, stain)).write_text(f"{name} {stain}")
    (slides / "template" / slide(PAIRS[-1], "TP53")).write_text("template")
    functions.mkdir()
    (functions / "slides_definition.py").write_bytes(published(FUNCTIONS))
    return {"data_path": str(slides), "additional_files": str(functions)}


def test_the_published_workflow_runs_as_it_is(home: Path, image: str, tmp_path: Path) -> None:
    spec = tmp_path / "published.yaml"
    spec.write_bytes(published(WORKFLOW))
    text = spec.read_text()
    theirs = next(line.split()[-1] for line in text.splitlines() if "image:" in line)
    home.mkdir(exist_ok=True)
    profile = {"images": {theirs: f"{NAME}@{image}"}, "mounts": write_site(home.parent / "site")}
    (home / "site.yaml").write_text(yaml.safe_dump(profile))
    done = proctor_run(home, str(spec), {}, "--runtime", "docker", seconds=2400)
    assert done.code == 0, done.output
    made = done.folder / "shared" / "output_path"
    assert not (made / ".tmp").exists()
    template = slide(PAIRS[-1], "TP53")
    rows = (made / "performance_metrics.csv").read_text().splitlines()
    assert sorted(rows) == sorted(
        f"{name},{slide(name, 'TP53')},{slide(name, 'HandE')},{template}" for name in PAIRS
    )
    tiles = {path.relative_to(made / "tiles_10x").as_posix() for path in made.rglob("*.jpeg")}
    assert tiles == {
        f"{'cancer' if '_T_' in name else 'non-cancer'}/{name}_0.jpeg" for name in PAIRS
    }
    (record,) = RecordStore(done.home).runs()
    assert {each.state for each in verify(Home(done.home), record)} == {"good"}
    report = yaml.safe_load((done.folder / "report.yaml").read_text())
    assert report["execution_status"] == "done"
    assert set(report["progress"].values()) == {100.0}
