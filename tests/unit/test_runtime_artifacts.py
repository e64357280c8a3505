import os
import stat

import pytest

from proctor.runtime.artifacts import (
    ArtifactError,
    AttemptName,
    LocalArtifacts,
    make_uri,
    parse_uri,
    remove_tree,
)
from proctor.runtime.logfile import read_log, tail
from proctor_steps.contract import tree_digest

NAME = AttemptName("demo", "manual__2026-01-01T00:00:00+00:00", "performance.Offline", 2)


@pytest.fixture
def store(tmp_path):
    return LocalArtifacts(tmp_path)


def published(store, name=NAME, text="text"):
    places = store.stage(name, ["logs", "more"])
    (places["logs"] / "sub").mkdir()
    (places["logs"] / "sub" / "a.txt").write_text(text)
    return store.publish(name, ["logs", "more"])


def test_outputs_appear_together_by_one_rename(store):
    places = store.stage(NAME, ["logs", "more"])
    uri = make_uri(NAME, "logs")
    (places["logs"] / "a").write_text("half")
    with pytest.raises(ArtifactError, match="no such artifact"):
        store.path(uri)
    # staging again starts afresh
    assert list(store.stage(NAME, ["logs", "more"])["logs"].iterdir()) == []
    (places["logs"] / "a").write_text("whole")
    assert store.publish(NAME, ["logs", "more"]) == {"logs": uri, "more": make_uri(NAME, "more")}
    assert store.read(uri, "a") == b"whole"
    assert store.files(make_uri(NAME, "more")) == []
    assert store.publish(NAME, ["logs"]) == {"logs": uri}


def test_published_is_immutable(store):
    uri = published(store)["logs"]
    root = store.path(uri)
    for path in (root.parent, root, root / "sub", root / "sub" / "a.txt"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        assert path.stat().st_mode & stat.S_IROTH
    with pytest.raises(ArtifactError, match="published and cannot change"):
        store.stage(NAME, ["logs"])


def test_verify(store):
    uri = published(store)["logs"]
    sha256, _ = tree_digest(store.path(uri))
    assert store.verify(uri, sha256)
    assert not store.verify(uri, "0" * 64)
    assert not store.verify(make_uri(NAME, "none"), sha256)
    file = store.path(uri) / "sub" / "a.txt"
    file.chmod(0o644)
    file.write_text("other")
    assert not store.verify(uri, sha256)


def test_uris_round_trip():
    assert parse_uri(make_uri(NAME, "logs")) == (NAME, "logs")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "artifact:",
        "file:///etc/passwd",
        "artifact:a/b/c/1",
        "artifact:a/b/c/1/o/more",
        "artifact:a/../c/1/o",
        "artifact:a/./c/1/o",
        "artifact:a/b/c/1/..",
        "artifact:a/b/c/0/o",
        "artifact:a/b/c/01/o",
        "artifact:a/b/c/x/o",
        "artifact:a/b/c/.1/o",
        "artifact:/b/c/1/o",
        "artifact:a/b/c/1/o\n",
        "artifact:a/b\0/c/1/o",
        "artifact:" + "a" * 201 + "/b/c/1/o",
    ],
)
def test_bad_uris_are_refused(store, uri):
    with pytest.raises(ArtifactError):
        store.path(uri)


def test_reading_stays_inside_the_artifact(store, tmp_path):
    uri = published(store)["logs"]
    (tmp_path / "secret").write_text("x")
    for file in ("../../../../../../../secret", "/etc/passwd", "sub", "none"):
        with pytest.raises(ArtifactError, match="has no file"):
            store.read(uri, file)
    sub = store.path(uri) / "sub"
    sub.chmod(0o755)
    (sub / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="has no file"):
        store.read(uri, "sub/link")
    with pytest.raises(ArtifactError, match="larger than 2 bytes"):
        store.read(uri, "sub/a.txt", limit=2)


def test_remove_tree_leaves_what_links_point_to(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "kept").write_text("x")
    root = tmp_path / "root"
    (root / "closed" / "below").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "closed").chmod(0o000)
    remove_tree(root)
    assert not root.exists()
    assert (outside / "kept").exists() and outside.stat().st_mode & 0o777 == 0o755
    remove_tree(root)


def read_all(path, limit, ended=True):
    lines, since = [], ""
    while (chunk := read_log(path, since, ended=ended, limit=limit)).next != since:
        lines += chunk.lines
        since = chunk.next
    return lines


@pytest.mark.parametrize("limit", [7, 16, 64, 1000])
def test_a_log_comes_whole_in_pieces(tmp_path, limit):
    path = tmp_path / "log"
    text = "one\n\nthree ☃\nfour\n"
    path.write_text(text)
    got = read_all(path, limit)
    assert "".join(got) == text.replace("\n", "")
    if limit >= 16:
        assert got == ["one", "", "three ☃", "four"]


def test_an_unfinished_line_waits_for_its_end(tmp_path):
    path = tmp_path / "log"
    path.write_text("one\ntw")
    chunk = read_log(path, "", ended=False)
    assert chunk.lines == ("one",)
    assert read_log(path, chunk.next, ended=False).lines == ()
    with path.open("a") as file:
        file.write("o\n")
    assert read_log(path, chunk.next, ended=False).lines == ("two",)
    with path.open("a") as file:
        file.write("last")
    assert read_log(path, chunk.next, ended=True).lines == ("two", "last")


def test_a_line_without_end_comes_in_pieces_of_whole_characters(tmp_path):
    path = tmp_path / "log"
    path.write_text("☃" * 1000)
    assert "".join(read_all(path, 100, ended=True)) == "☃" * 1000
    assert "�" not in "".join(read_all(path, 100, ended=False))


def test_bytes_that_are_no_text_and_missing_logs(tmp_path):
    path = tmp_path / "log"
    assert read_log(path, "", ended=True).lines == () == tail(path)
    path.write_bytes(b"a\xff\xfeb\nlast\n")
    assert read_log(path, "", ended=True).lines == ("a��b", "last")
    assert tail(path, 1) == ("last",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_published_files_belong_to_the_stores_owner(store):
    places = store.stage(NAME, ["logs"])
    (places["logs"] / "a").write_text("x")
    os.chown(places["logs"] / "a", 10001, 10001)
    uri = store.publish(NAME, ["logs"])["logs"]
    assert (store.path(uri) / "a").stat().st_uid == store.root.stat().st_uid
