"""Which paths are the same."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.tools.path_keys import path_keys


def key(path, root=None, **more):
    return path_keys([path], root, **more)[0]


def test_links_dots_and_slashes_do_not_matter(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to("real/not-yet")
    same = [
        "real/not-yet",
        "link/not-yet",
        "./real//not-yet",
        "link/../real/not-yet",
        "dangling",
        "nowhere/../dangling",
    ]
    assert len(set(path_keys(same, tmp_path))) == 1
    assert key(str(tmp_path / "real" / "not-yet"), "/elsewhere") == key("real/not-yet", tmp_path)


def test_a_directory_is_the_beginning_of_what_it_holds(tmp_path):
    above, below = key("a", tmp_path), key("a/b/c", tmp_path)
    assert below[: len(above)] == above
    assert key("ab", tmp_path)[: len(above)] != above


def test_a_loop_of_links_has_a_key(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert key("a/x", tmp_path)


def test_relative_paths_start_where_the_process_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert key("x") == key("x", tmp_path)


def test_case_counts_where_the_file_system_says_so(tmp_path):
    (tmp_path / "File").touch()
    insensitive = (tmp_path / "fILE").exists()
    assert (key("File", tmp_path) == key("file", tmp_path)) is insensitive


class Folding:
    """A file system that takes `NAME` for `name` below /w/fold, as macOS and Windows do everywhere."""

    def __init__(self, *there):
        self.there = {path.casefold(): number for number, path in enumerate(there)}
        self.exact = dict(zip(there, range(len(there)), strict=True))

    def __call__(self, path):
        folds = path.casefold().startswith("/w/fold/")
        number = self.there.get(path.casefold()) if folds else self.exact.get(path)
        if number is None:
            raise FileNotFoundError(path)
        return os.stat_result((0o100644, number, 1, 1, 0, 0, 0, 0, 0, 0))


def test_case_does_not_count_where_names_are_folded():
    there = Folding("/w", "/w/fold", "/w/fold/Read.me", "/w/fold/Sub", "/w/exact", "/w/exact/Read.me")
    assert key("/w/fold/Read.me", lstat=there) == key("/w/fold/READ.ME", lstat=there)
    assert key("/w/exact/Read.me", lstat=there) != key("/w/exact/READ.ME", lstat=there)
    # What does not exist yet is folded when the directory that will hold it is inside of one that folds.
    assert key("/w/fold/Sub/New", lstat=there) == key("/w/fold/sub/nEW", lstat=there)


def test_what_a_directory_folds_is_asked_once():
    asked = []
    there = Folding("/w", "/w/fold", *(f"/w/fold/name{n}" for n in range(50)))

    def lstat(path):
        asked.append(path)
        return there(path)

    path_keys([f"/w/fold/name{n}" for n in range(50)], lstat=lstat)
    assert len(asked) < 10


@pytest.mark.parametrize("path", ["a\0b", "\udcff\ud800"])
def test_what_is_no_path_is_an_error(path):
    with pytest.raises(ValueError):
        key(path, "/")


@given(st.text(alphabet="ab./", max_size=12))
@settings(deadline=None, max_examples=200)
def test_a_key_is_what_the_file_system_makes_of_a_path(path):
    assert key(path, "/nowhere") == tuple(
        os.path.realpath(f"/nowhere/{path}" if path[:1] != "/" else path).rstrip("/").split("/")
    )
