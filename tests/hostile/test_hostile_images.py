"""Pictures that are none, that lie, or that only look strange, in a LoadGen run."""

from __future__ import annotations

from pathlib import Path

import hostile_data as data
import pytest
from hostile_kit import DATA, Programs

SIZE = (data.WIDTH, data.HEIGHT)
_JPEG, _PNG = data.encoded(".jpg"), data.encoded(".png")

# name of the picture's file, its bytes, the size that the annotations say, what is said
BAD = {
    "a JPEG cut off": ("x.jpg", _JPEG[: len(_JPEG) // 2], SIZE, "x.jpg is cut off"),
    "a PNG cut off": ("x.png", _PNG[: len(_PNG) // 2], SIZE, "x.png cannot be decoded"),
    "a damaged PNG": ("x.png", _PNG[:900] + b"!" + _PNG[901:], SIZE, "x.png cannot be decoded"),
    "a text called JPEG": ("x.jpg", b"no picture\n" * 9, SIZE, "x.jpg cannot be decoded"),
    "an empty file": ("x.jpg", b"", SIZE, "x.jpg cannot be decoded"),
    "another size than annotated": ("x.png", _PNG, (40, 48), "x.png is 48x40 pixels"),
    "20,000 x 20,000 pixels": ("x.png", data.bomb_png(), (20_000, 20_000), "decompression bomb"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_picture_that_cannot_be_used(programs: Programs, good_model: Path, name: str) -> None:
    file, content, size, phrase = BAD[name]
    made = data.dataset(programs.root / "data", {file: content}, sizes={file: size})
    said = programs.stage("loadgen run", data.OFFLINE, {"dataset": made, "model": good_model})
    said.refuses(phrase, code=DATA)


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """The decoder alone, so that the peak is its own."""
    (tmp_path / "bomb.png").write_bytes(data.bomb_png())
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from proctor_steps.benchmarks import images\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: images.read(Path(sys.argv[1]))\n"
        "except images.DataError as error: print(error, file=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    programs = Programs(tmp_path)
    said = programs.run([programs.python, "-c", code, str(tmp_path / "bomb.png")], None)
    assert "decompression bomb" in said.err
    assert int(said.out) < 100_000  # KiB; the picture itself is 1.2 GB


def test_pictures_that_only_look_strange(programs: Programs, good_model: Path) -> None:
    """Converted as the decoder of every YOLO does it: they are scored, not refused."""
    grey, deep = data.pixels()[:, :, 0], data.pixels().astype("uint16") * 257
    alpha = data.encoded(".png", data.pixels()[:, :, [0, 1, 2, 0]])
    pictures = {
        "one.png": (data.encoded(".png", data.pixels(1, 1)), (1, 1)),
        "cmyk.jpg": (data.CMYK_JPEG, (8, 8)),
        "deep.png": (data.encoded(".png", deep), SIZE),
        "grey.jpg": (data.encoded(".jpg", grey), SIZE),
        "alpha.png": (alpha, SIZE),
        "palette.png": (data.palette_png(), SIZE),
        "moving.gif": (data.animation(".gif", programs.root), SIZE),
        "moving.webp": (data.animation(".webp", programs.root), SIZE),
        "gif.jpg": (data.animation(".gif", programs.root), SIZE),
    }
    made = data.dataset(
        programs.root / "data",
        {name: content for name, (content, _) in pictures.items()},
        sizes={name: size for name, (_, size) in pictures.items()},
    )
    said = programs.stage("loadgen run", data.OFFLINE, {"dataset": made, "model": good_model})
    assert said.succeeds().result()["metrics"]["loadgen"]["samples"] == 4 + len(pictures)


def test_after_a_bad_picture_the_same_folder_takes_a_good_run(
    programs: Programs, good_dataset: Path, good_model: Path
) -> None:
    file, content, size, phrase = BAD["a JPEG cut off"]
    bad = data.dataset(programs.root / "bad", {file: content}, sizes={file: size})
    out = programs.root / "logs"
    said = programs.stage("loadgen run", data.OFFLINE, {"dataset": bad, "model": good_model}, out)
    said.refuses(phrase, code=DATA)
    good = {"dataset": good_dataset, "model": good_model}
    programs.stage("loadgen run", data.OFFLINE, good, out).succeeds()
