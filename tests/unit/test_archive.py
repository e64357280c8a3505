"""Archives from outside: sound ones come out whole, hostile and damaged ones not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctor_steps.stage import DataError
from proctor_steps.transport.archive import Limits, detect, extract
from proctor_steps.transport.names import Names

FILES = {"top.txt": b"top", "a/b/deep.bin": bytes(range(256)) * 50, "a/empty": b""}


def tar_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)
    return buffer.getvalue()


def zip_bytes(entries: list[tuple[str, bytes]], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: zip_bytes(list(FILES.items())),
    "tar": lambda: tar_bytes(FILES),
    "tar.gz": lambda: gzip.compress(tar_bytes(FILES)),
    "tar.bz2": lambda: bz2.compress(tar_bytes(FILES)),
    "tar.xz": lambda: lzma.compress(tar_bytes(FILES)),
    "tar.zst": lambda: zstandard.compress(tar_bytes(FILES)),
}


def unpack(tmp_path: Path, data: bytes, limits: Limits | None = None) -> dict[str, bytes]:
    path, out = tmp_path / "archive", tmp_path / "out"
    path.write_bytes(data)
    out.mkdir(exist_ok=True)
    try:
        count = extract(path, out, "the archive", limits)
    except DataError:
        assert list(out.iterdir()) == [], "something half-unpacked was left"
        raise
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert count == len(found)
    return found


@pytest.mark.parametrize("kind", PACKERS)
def test_sound_archives_come_out_whole(tmp_path: Path, kind: str) -> None:
    assert unpack(tmp_path, PACKERS[kind]()) == FILES
    assert detect(tmp_path / "archive") == kind


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    data = PACKERS[kind]()
    ends = {len(data) * part // 8 for part in range(1, 8)} | {len(data) - 1}
    if kind == "tar":  # the padding after its two empty blocks is not part of a tar
        ends = {e for e in ends if e < len(data.rstrip(b"\0")) + 512} | {512, 1024, 1536}
    for end in ends:
        with pytest.raises(DataError, match=r"damaged or cut off|content is none"):
            unpack(tmp_path, data[:end])


def test_a_broken_header_inside_a_tar_is_not_taken_for_its_end(tmp_path: Path) -> None:
    data = bytearray(tar_bytes({"one": b"1", "two": b"2"}))
    data[1024 + 5] ^= 0xFF
    with pytest.raises(DataError, match="damaged"):
        unpack(tmp_path, bytes(data))


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_flipped_bytes_never_give_other_content(tmp_path: Path, kind: str) -> None:
    data = PACKERS[kind]()
    for at in range(0, len(data), max(1, len(data) // 40)):
        broken = bytearray(data)
        broken[at] ^= 0x55
        out = tmp_path / str(at)
        out.mkdir()
        try:
            found = unpack(out, bytes(broken))
        except DataError:
            continue
        if kind in ("zip", "tar.gz"):  # the others' frames carry no checksum of every byte
            assert set(found.values()) <= set(FILES.values())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../out", "leads out"),
        ("a/../../out", "leads out"),
        ("/etc/passwd", "absolute"),
        ("C:/windows", "absolute"),
        ("a\\..\\b", "backslash"),
        ("new\nline", "control character"),
        ("x" * 256, "too long"),
        ("d/" * 70 + "x", "too deep"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_must_not_be_written(tmp_path: Path, kind: str, name: str, why: str) -> None:
    files = {"good": b"x", name: b"evil"}
    data = tar_bytes(files) if kind == "tar" else zip_bytes(list(files.items()))
    with pytest.raises(DataError, match=why):
        unpack(tmp_path, data)
    assert not (tmp_path.parent / "out").exists()


def test_a_name_cut_by_nul_is_refused(tmp_path: Path) -> None:
    data = zip_bytes([("good.txtXevil.exe", b"x")]).replace(b"good.txtXevil", b"good.txt\0evil")
    with pytest.raises(DataError, match="control character"):
        unpack(tmp_path, data)


@pytest.mark.parametrize("second", ["A/x", "a/x", "a", "a/x/y"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_meet(tmp_path: Path, second: str) -> None:
    for data in (
        zip_bytes([("a/x", b"1"), (second, b"2")]),
        tar_bytes({"a/x": b"1"})[:1024] + tar_bytes({second: b"2"}),
    ):
        with pytest.raises(DataError, match=r"twice|case or accents|file and a folder"):
            unpack(tmp_path, data)


def test_names_that_differ_by_accents_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="case or accents"):
        unpack(tmp_path, tar_bytes({"caf\u00e9": b"1", "cafe\u0301": b"2"}))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
    ],
)
def test_what_is_no_plain_file_in_a_tar(tmp_path: Path, kind: bytes, what: str) -> None:
    with pytest.raises(DataError, match=what):
        unpack(tmp_path, tar_entry("entry", kind, "/etc/passwd"))


@pytest.mark.parametrize(
    ("mode", "what"),
    [(stat.S_IFLNK | 0o777, "symbolic link"), (stat.S_IFIFO | 0o644, "special file")],
)
def test_what_is_no_plain_file_in_a_zip(tmp_path: Path, mode: int, what: str) -> None:
    with pytest.raises(DataError, match=what):
        unpack(tmp_path, zip_bytes([("link", b"/etc/passwd")], mode))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_bytes([("secret", b"x")]))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DataError, match="encrypted"):
        unpack(tmp_path, bytes(data))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_bombs_are_stopped_by_what_comes_out(tmp_path: Path, kind: str) -> None:
    files = {f"{n}": bytes(1 << 20) for n in range(4)}
    data = zip_bytes(list(files.items())) if kind == "zip" else gzip.compress(tar_bytes(files))
    with pytest.raises(DataError, match=r"more than 200 times.*bomb"):
        unpack(tmp_path, data, Limits(free_bytes=1 << 20))
    with pytest.raises(DataError, match=r"more than 1,000,000 bytes.*bomb"):
        unpack(tmp_path, data, Limits(bytes=1_000_000))
    with pytest.raises(DataError, match=r"more than 3 entries.*bomb"):
        unpack(tmp_path, data, Limits(entries=3))
    assert len(unpack(tmp_path, data)) == 4, "within the limits it is an archive like any other"


def test_a_bomb_that_lies_of_its_size(tmp_path: Path) -> None:
    data = bytearray(zip_bytes([("x", bytes(4 << 20))]))
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(magic) + at
        data[start : start + 4] = (10).to_bytes(4, "little")
    with pytest.raises(DataError):
        unpack(tmp_path, bytes(data), Limits(free_bytes=1 << 20))


def test_a_huge_extended_header_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(DataError, match="extended header"):
        unpack(tmp_path, header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_what_is_in_the_output_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "top.txt").write_text("mine")
    (tmp_path / "archive").write_bytes(PACKERS["zip"]())
    with pytest.raises(DataError, match=r"top\.txt exists"):
        extract(tmp_path / "archive", tmp_path / "out", "the archive")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["top.txt"]


@pytest.mark.parametrize(
    "data", [b"", b"<html>no</html>", b"\x1f\x8b", gzip.compress(b"text", mtime=0)]
)
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match="its content is none that is known"):
        unpack(tmp_path, data)


def test_an_archive_without_files(tmp_path: Path) -> None:
    for data in (zip_bytes([]), tar_bytes({}), tar_entry("folder", tarfile.DIRTYPE)):
        with pytest.raises(DataError, match="holds no files"):
            unpack(tmp_path, data)


def test_modes_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    unpack(tmp_path, zip_bytes([("tool", b"x")], stat.S_IFREG | 0o6777))
    assert stat.S_IMODE((tmp_path / "out" / "tool").stat().st_mode) & 0o7111 == 0


@settings(max_examples=60)
@given(st.lists(st.text(max_size=12) | st.sampled_from(["..", "../x", "/x", "a/./b", "a//b"])))
def test_no_name_that_is_taken_leads_out(names: list[str]) -> None:
    taken = Names("here")
    for name in names:
        try:
            path = taken.file(name)
        except DataError:
            continue
        assert not path.is_absolute() and ".." not in path.parts
        assert (Path("/root-of-it") / path).resolve().is_relative_to("/root-of-it")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000), st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9"]))
def test_any_bytes_give_files_or_a_data_error(tmp_path: Path, data: bytes, magic: bytes) -> None:
    try:
        unpack(tmp_path, magic + data)
    except DataError:
        pass
    else:
        pytest.fail("random bytes were taken for an archive")
