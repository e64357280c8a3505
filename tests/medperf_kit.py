"""A stand-in for an image that prepares brain scans, and a person who reviews what it made.

It does with files what such an image does: folders named by subject and timepoint below one shared
directory, segmentations laid out for review, a way back for a corrected brain mask.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from foreign_kit import built

# Two test runs on one engine have a name each.
NAME = f"example/brain-prep-standin:{os.getpid()}"
PREP = """\
import csv, hashlib, pathlib, shutil, sys
root = pathlib.Path("/workspace")
data, labels, meta = root / "data", root / "labels", root / "metadata"
command = sys.argv[1]
subject = sys.argv[sys.argv.index("--partition") + 1] if "--partition" in sys.argv else ""
review = data / "manual_review"
tumor_name = subject.replace("/", "_") + "_tumorMask_model_0.nii.gz"
MASK = "brainMask_fused.nii.gz"


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def initial_setup():
    for name in ("raw", "prepared", "brain_extracted", "tumor_extracted", "auxiliary_files"):
        (data / name).mkdir(exist_ok=True)


def make_csv():
    for scan in sorted((root / "input_data" / subject).rglob("*.dcm")):
        if not scan.stat().st_size:
            sys.exit(f"{scan.relative_to(root / 'input_data')}: is empty")
    shutil.copytree(root / "input_data" / subject, data / "validated" / subject)
    scans = sorted((data / "validated" / subject).rglob("*.dcm"))
    rows = [[subject, str(p.relative_to(data / "validated"))] for p in scans]
    place = data / "auxiliary_files" / subject / "data.csv"
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "w") as file:
        csv.writer(file).writerows(rows)


def convert_nifti():
    with open(data / "auxiliary_files" / subject / "data.csv") as file:
        scans = [row[1] for row in csv.reader(file)]
    seen = hashlib.sha256(b"".join((data / "validated" / s).read_bytes() for s in scans))
    put(data / "prepared" / subject / "scan.nii.gz", seen.hexdigest())
    put(meta / (subject.replace("/", "_") + ".yaml"), f"scans: {len(scans)}\\n")


def extract_brain():
    prepared = data / "prepared" / subject
    corrected = prepared / MASK
    mask = corrected.read_text() if corrected.exists() else "automatic"
    put(data / "brain_extracted" / subject / "brain.nii.gz", (prepared / "scan.nii.gz").read_text())
    put(data / "brain_extracted" / subject / MASK, mask)


def extract_tumor():
    brain = data / "brain_extracted" / subject
    tumor = f"tumor of {subject} in {(brain / MASK).read_text()} brain"
    put(data / "tumor_extracted" / subject / tumor_name, tumor)
    put(review / "tumor_extraction" / subject / "under_review" / tumor_name, tumor)
    put(review / "brain_mask" / subject / "under_review" / MASK, (brain / MASK).read_text())
    for kind in ("tumor_extraction", "brain_mask"):
        (review / kind / subject / "finalized").mkdir(parents=True, exist_ok=True)


def prepare_for_manual_review():
    backup = labels / ".tumor_segmentation_backup" / subject
    if not backup.exists():
        shutil.copytree(data / "tumor_extracted" / subject, backup)


def rollback_to_brain_extract():
    # First what a person would work on, so that nobody puts a file into it meanwhile.
    shutil.rmtree(review / "tumor_extraction" / subject)
    better = review / "brain_mask" / subject / "finalized" / MASK
    shutil.move(better, data / "prepared" / subject / MASK)
    shutil.rmtree(review / "brain_mask" / subject)
    shutil.rmtree(data / "tumor_extracted" / subject)
    shutil.rmtree(labels / ".tumor_segmentation_backup" / subject)


def segmentation_comparison():
    done = review / "tumor_extraction" / subject / "finalized" / tumor_name
    before = labels / ".tumor_segmentation_backup" / subject / tumor_name
    changed = done.read_text() != before.read_text()
    put(labels / subject / tumor_name, done.read_text())
    put(data / "tumor_extracted" / subject / "changed.txt", str(int(changed)))


def calculate_changed_voxels():
    changed = sorted((data / "tumor_extracted").rglob("changed.txt"))
    put(data / ".changed_voxels.txt", "".join(p.read_text() for p in changed))


def move_labeled_files():
    for path in sorted(labels.rglob("*_tumorMask_model_0.nii.gz")):
        if ".tumor_segmentation_backup" not in path.parts:
            path.rename(path.with_name("final_seg.nii.gz"))


def consolidation_stage():
    assert (root / "parameters.yaml").read_text().strip(), "no parameters"
    done = sorted(p.parent.relative_to(labels).as_posix() for p in labels.rglob("final_seg.nii.gz"))
    assert len(list(meta.glob("*.yaml"))) == len(done), "metadata and labels differ"
    put(data / "splits.csv", "".join(f"{name},train\\n" for name in done))
    for name in ("brain_extracted", "auxiliary_files", "prepared", "tumor_extracted", "raw",
                 "manual_review", "validated"):
        shutil.rmtree(data / name)
    shutil.rmtree(labels / ".tumor_segmentation_backup")


def sanity_check():
    splits = (data / "splits.csv").read_text().split()
    assert splits and not (data / "prepared").exists()
    assert len(list(labels.rglob("final_seg.nii.gz"))) == len(splits)


def metrics():
    cases = len((data / "splits.csv").read_text().split())
    (data / "statistics.yaml").write_text(f"cases: {cases}\\n")
    put(meta / "statistics.yml", f"cases: {cases}\\n")


globals()[command]()
print(command, subject, "done")
"""
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY project /project
ENTRYPOINT ["python3", "/project/prep.py"]
"""
SUBJECTS = """\
import os


def list_subjects(state):
    root = state.host_input_data_path
    return [f"{p}/{t}" for p in os.listdir(root) for t in os.listdir(os.path.join(root, p))]


def subject_definition(state):
    return list_subjects(state)
"""
CONDITIONS = """\
import os


def _only(state, kind, name):
    place = os.path.join(
        state.host_output_data_path, "manual_review", kind, state.running_subject, "finalized"
    )
    files = os.listdir(place)
    if files != [name]:
        print("expected", name, "in finalized, found", files)
    return files == [name]


def annotation_done(state):
    name = state.running_subject.replace("/", "_") + "_tumorMask_model_0.nii.gz"
    return _only(state, "tumor_extraction", name)


def brain_mask_changed(state):
    return _only(state, "brain_mask", "brainMask_fused.nii.gz")
"""


def published(path: str) -> bytes:
    """A file of MedPerf's, from the checkout or bare repository that PROCTOR_MEDPERF names."""
    given = os.environ.get("PROCTOR_MEDPERF")
    if not given:
        pytest.skip("PROCTOR_MEDPERF names no checkout of mlcommons/medperf (branch airflow)")
    if (Path(given) / path).is_file():
        return (Path(given) / path).read_bytes()
    show = ["git", "-C", given, "show", f"airflow:{path}"]
    return subprocess.run(show, check=True, capture_output=True).stdout


@contextmanager
def stand_in(client: Any) -> Iterator[str]:
    """The image's id, while it is needed."""
    with built(client, NAME, {"Dockerfile": DOCKERFILE, "project/prep.py": PREP}) as id:
        yield id


def write_site(folder: Path, subjects: list[str]) -> dict[str, Path]:
    """Raw scans, functions and parameters of a site; by mount."""
    for subject in subjects:
        for series in ("t1c", "t2w"):
            place = folder / "input" / subject / series
            place.mkdir(parents=True)
            (place / "scan.dcm").write_text(f"{subject} {series}")
    (folder / "functions").mkdir()
    (folder / "functions" / "subject_definition.py").write_text(SUBJECTS)
    (folder / "functions" / "conditions.py").write_text(CONDITIONS)
    (folder / "parameters.yaml").write_text("seed: 1\n")
    return {
        "data_path": folder / "input",
        "additional_files": folder / "functions",
        "parameters_file": folder / "parameters.yaml",
    }


class Reviewer(threading.Thread):
    """A person who finishes every segmentation; for some subjects first a better brain mask."""

    def __init__(self, runs: Path, mend: set[str]) -> None:
        super().__init__(daemon=True)
        self.runs, self.mend = runs, set(mend)
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            # A step may take a folder away just then; a person looks again.
            with contextlib.suppress(OSError):
                self._look()

    def _look(self) -> None:
        for review in self.runs.glob("*/*/shared/output_path/manual_review"):
            for waiting in sorted((review / "tumor_extraction").glob("*/*/under_review/*")):
                self._look_at(review, waiting)

    def _look_at(self, review: Path, waiting: Path) -> None:
        subject = "/".join(waiting.parts[-4:-2])
        finalized = waiting.parents[1] / "finalized"
        masks = review / "brain_mask" / subject
        if not finalized.is_dir() or not (masks / "finalized").is_dir():
            return
        if subject in self.mend:
            self.mend.discard(subject)
            scratch = masks / "corrected.tmp"
            scratch.write_text("corrected")
            scratch.rename(masks / "finalized" / "brainMask_fused.nii.gz")
        elif not any((masks / "finalized").iterdir()):
            time.sleep(0.01)
            shutil.move(waiting, finalized / waiting.name)
