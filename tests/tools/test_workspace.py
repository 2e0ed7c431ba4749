"""Every way out of a workspace, tried and refused."""

# What races with the file system is spelled as the system call that it is.
# ruff: noqa: PTH102, PTH104, PTH105, PTH106, PTH108, PTH116, PTH208, PTH211

from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from contextlib import nullcontext

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.errors import PermissionDenied, ToolFailed
from clawft_trio.tools.workspace import Workspace


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return tmp_path / "outside"


@pytest.fixture
def inside(tmp_path, outside):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").write_text("content")
    (tmp_path / "inside" / "sub").mkdir()
    return tmp_path / "inside"


def read(workspace, path):
    with workspace.open_file(path) as descriptor:
        return os.read(descriptor, 100).decode()


def everything(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


ESCAPES = [
    "../outside/secret",
    "sub/../../outside/secret",
    "newdir/../../outside/secret",  # the original's own hole: newdir does not exist
    "newdir/../../outside.txt",
    "a/b/../../../outside/secret",
    "..",
    "sub/../..",
    "/etc/passwd",
    "/",
    "../inside2/x",
    "link/secret",
    "link",
    "link/../outside/secret",
    "absolute/secret",
    "dangling",
    "dangling/x",
    "chain1/secret",
    "loop",
    "loop/x",
    "deep/out/secret",
    "a\0b",
    "sub/\0",
]


@pytest.fixture
def trapped(inside, outside):
    (inside / "link").symlink_to("../outside")
    (inside / "absolute").symlink_to(outside)
    (inside / "dangling").symlink_to("../not-there-yet")
    (inside / "chain1").symlink_to("chain2")
    (inside / "chain2").symlink_to("sub/../../outside")
    (inside / "loop").symlink_to("loop")
    (inside / "deep").mkdir()
    (inside / "deep" / "out").symlink_to("../../outside")
    return inside


@pytest.mark.parametrize("path", ESCAPES)
def test_no_way_out_for_reading_writing_or_listing(trapped, outside, path):
    workspace = Workspace(trapped)
    before = everything(trapped.parent)
    with pytest.raises((PermissionDenied, ToolFailed)):
        read(workspace, path)
    with pytest.raises((PermissionDenied, ToolFailed)):
        workspace.replace(path, b"overwritten")
    with pytest.raises((PermissionDenied, ToolFailed)), workspace.open_directory(path):
        pass
    assert everything(trapped.parent) == before, "something was made on the way"
    assert (outside / "secret").read_text() == "secret"


@pytest.mark.parametrize("path", [path for path in ESCAPES if "\0" not in path and not path.startswith("loop")])
def test_leading_outside_is_told_as_that(trapped, path):
    workspace = Workspace(trapped)
    with pytest.raises(PermissionDenied, match="outside of the workspace"):
        workspace.replace(path + "/x" if path.endswith("..") else path, b"")


def test_a_name_of_the_workspace_is_no_way_to_its_neighbour(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "workshop").mkdir()
    (tmp_path / "workshop" / "secret").write_text("secret")
    with pytest.raises(PermissionDenied):
        read(Workspace(tmp_path / "work"), str(tmp_path / "workshop" / "secret"))


def test_links_that_stay_inside_are_followed(inside):
    (inside / "link").symlink_to("sub/../file")
    (inside / "absolute").symlink_to(inside / "file")
    (inside / "folder").symlink_to(inside / "sub")
    (inside / "later").symlink_to("sub/later")
    workspace = Workspace(inside)
    assert [read(workspace, path) for path in ("link", "absolute", "./sub/../file")] == ["content"] * 3
    workspace.replace("folder/new", b"new")
    workspace.replace("later", b"dangling, but inside")
    assert (inside / "sub" / "new").read_text() == "new"
    assert (inside / "sub" / "later").read_text() == "dangling, but inside"
    assert (inside / "later").is_symlink()


def test_absolute_paths_into_the_workspace_are_understood(inside, tmp_path):
    (tmp_path / "alias").symlink_to(inside)
    workspace = Workspace(tmp_path / "alias")
    assert read(workspace, str(inside / "file")) == read(workspace, str(tmp_path / "alias" / "file")) == "content"


@pytest.mark.parametrize("place", ["link", "sub/link", "sub/deep/link", "sub/deep/deeper/link"])
@pytest.mark.parametrize("target", ["file", "sub/file"])
def test_an_absolute_link_is_followed_from_the_root_at_any_depth(inside, place, target):
    (inside / "sub" / "deep" / "deeper").mkdir(parents=True)
    (inside / "sub" / "file").write_text("below")
    (inside / place).symlink_to(inside / target)
    assert read(Workspace(inside), place) == ("content" if target == "file" else "below")


@pytest.mark.parametrize("readable", ["", "inside", "inside/sub"])
def test_a_path_of_the_workspace_starts_from_its_root_whatever_else_is_readable(inside, outside, readable):
    (inside / "link").symlink_to(outside / "secret")
    (inside / "sub" / "up").symlink_to("../file")
    workspace = Workspace(inside, readable=lambda: [str(inside.parent / readable)])
    for path in ("link", str(inside / "link")):
        with pytest.raises(PermissionDenied):
            read(workspace, path)
    for path in ("sub/up", str(inside / "sub" / "up"), str(inside / "file")):
        assert read(workspace, path) == "content"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_readable_folder_is_read_by_absolute_paths_and_confined(inside, outside, tmp_path, slash):
    (outside / "out").symlink_to(inside / "file")
    (tmp_path / "outsider").write_text("x")
    workspace = Workspace(inside, readable=lambda: [f"{outside}{slash}"])
    assert read(workspace, str(outside / "secret")) == (outside / "secret").read_text()
    for path in (outside / "out", tmp_path / "outsider", outside / ".." / "inside" / "file"):
        with pytest.raises(PermissionDenied):
            read(workspace, str(path))
    with pytest.raises(PermissionDenied):
        workspace.replace(str(outside / "new"), b"x")


@pytest.mark.parametrize("names", [127, 128, 129])
def test_a_path_goes_through_a_hundred_and_twenty_eight_names(inside, names):
    workspace = Workspace(inside)
    path = "/".join(["d"] * (names - 1) + ["f"])
    if names <= 128:
        workspace.replace(path, b"x")
        assert read(workspace, f"./{path}//") == "x"
    else:
        with pytest.raises(ToolFailed, match="a path may go through 128 directories"):
            workspace.replace(path, b"x")
        assert not (inside / "d").exists()


@pytest.mark.parametrize("path", ["..", "sub/../..", "sub/../../inside/file", "new/../../x", "new/sub/../../../x"])
def test_a_path_that_climbs_above_the_root_makes_nothing(inside, path):
    with pytest.raises(PermissionDenied):
        Workspace(inside).replace(path, b"x")
    assert everything(inside) == ["file", "sub"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o4755])
def test_a_replaced_file_keeps_the_permissions_and_not_the_special_bits(inside, mode):
    (inside / "file").chmod(mode)
    Workspace(inside).replace("file", b"x")
    assert stat.S_IMODE((inside / "file").stat().st_mode) == mode & 0o777


@pytest.mark.parametrize(("left", "free"), [(999, True), (1000, False)])
def test_a_thousand_names_are_tried_for_a_temporary_file(inside, left, free):
    for number in range(left):
        (inside / f".clawft-{os.getpid()}-{number}.tmp").touch()
    with nullcontext() if free else pytest.raises(ToolFailed, match="too many temporary files"):
        Workspace(inside).replace("file", b"x")
    assert (inside / "file").read_text() == ("x" if free else "content")


def test_devices_pipes_and_sockets_are_no_files(inside):
    os.mkfifo(inside / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(inside / "socket"))
        workspace = Workspace(inside)
        for name in ("pipe", "socket", "sub"):
            with pytest.raises(ToolFailed, match=r"regular file|directory"):
                read(workspace, name)
            with pytest.raises(ToolFailed):
                workspace.replace(name, b"x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_file_is_not_opened(inside):
    try:
        os.mknod(inside / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("not even root may here")
    with pytest.raises(ToolFailed, match="not a regular file"):
        read(Workspace(inside), "null")


class SwappedOnce:
    """Swaps a name for a link to outside while a walk is between two steps of it."""

    def __init__(self, inside, outside):
        self.inside, self.outside = inside, outside
        self.stop = threading.Event()

    def run(self):
        while not self.stop.is_set():
            os.symlink(self.outside, self.inside / "tmp")
            os.replace(self.inside / "tmp", self.inside / "flip")
            os.unlink(self.inside / "flip")
            os.mkdir(self.inside / "flip")
            (self.inside / "flip" / "secret").write_text("harmless")
            os.rename(self.inside / "flip", self.inside / "old")
            os.unlink(self.inside / "old" / "secret")
            os.rmdir(self.inside / "old")


def test_a_directory_that_is_swapped_for_a_link_again_and_again_never_leads_out(inside, outside):
    swapping = SwappedOnce(inside, outside)
    thread = threading.Thread(target=swapping.run)
    thread.start()
    workspace = Workspace(inside)
    seen = {"harmless": 0, "refused": 0}
    try:
        for turn in range(3000):
            try:
                if turn % 2:
                    assert read(workspace, "flip/secret") in {"harmless", ""}
                else:
                    # Making the directory itself would end the game of the other thread.
                    with workspace.open_directory("flip") as descriptor:
                        assert not os.path.samestat(os.fstat(descriptor), os.stat(outside))
                seen["harmless"] += 1
            except (PermissionDenied, ToolFailed):
                seen["refused"] += 1
    finally:
        swapping.stop.set()
        thread.join()
    assert seen["refused"] > 0
    assert (outside / "secret").read_text() == "secret"


def test_writing_puts_a_new_file_in_place_and_keeps_permissions(inside):
    (inside / "file").chmod(0o640)
    os.link(inside / "file", inside / "other")
    Workspace(inside).replace("file", b"new")
    assert (inside / "file").read_text() == "new"
    assert (inside / "other").read_text() == "content", "a hard link is another file from now on"
    assert stat.S_IMODE((inside / "file").stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_old_file_and_nothing_else(inside):
    before = everything(inside)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ToolFailed, match="file too large"):
            Workspace(inside).replace("file", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (inside / "file").read_text() == "content"
    assert everything(inside) == before


def test_what_a_crash_left_is_not_in_the_way(inside):
    for number in range(3):
        (inside / f".clawft-{os.getpid()}-{number}.tmp").write_text("stale")
    Workspace(inside).replace("file", b"new")
    assert (inside / "file").read_text() == "new"
    assert (inside / f".clawft-{os.getpid()}-0.tmp").read_text() == "stale"


def test_it_imports_where_there_is_no_posix_and_says_what_is_missing():
    # What Windows has not: names that are looked up when a module is imported must not be among these.
    code = """
import os, signal
for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_NOCTTY", "killpg", "pidfd_open", "fwalk"):
    delattr(os, name)
import clawft_trio.tools.builtin
from clawft_trio.errors import Unsupported
from clawft_trio.tools.workspace import Workspace
try:
    Workspace(".")
except Unsupported:
    print("unsupported")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "unsupported\n"


def test_missing_directories_are_made(inside):
    Workspace(inside).replace("a/b/c", b"x")
    assert (inside / "a" / "b" / "c").read_bytes() == b"x"


@pytest.mark.parametrize("path", ["file/x", "sub", ".", "x" * 300])
def test_what_the_file_system_refuses_is_told_in_few_words(inside, path):
    with pytest.raises(ToolFailed) as caught:
        Workspace(inside).replace(path, b"x")
    assert str(caught.value).startswith(path)


def test_no_descriptor_is_left_open(trapped):
    workspace = Workspace(trapped)
    before = len(os.listdir("/proc/self/fd"))
    for path in [*ESCAPES, "file", "sub/new", "x/y/z"]:
        for act in (read, lambda w, p: w.replace(p, b"x")):
            try:
                act(workspace, path)
            except (PermissionDenied, ToolFailed):
                pass
    assert len(os.listdir("/proc/self/fd")) == before


@given(
    st.lists(st.sampled_from(["..", ".", "sub", "link", "new", "deep", "absolute", "chain1", "", "file"]), max_size=7)
)
@settings(deadline=None, max_examples=150)
def test_any_way_through_names_links_and_dots_stays_inside(tmp_path_factory, names):
    top = tmp_path_factory.mktemp("top")
    (top / "outside").mkdir()
    inside = top / "inside"
    inside.mkdir()
    (inside / "sub").mkdir()
    (inside / "file").touch()
    (inside / "deep").mkdir()
    (inside / "link").symlink_to("..")
    (inside / "absolute").symlink_to(top)
    (inside / "chain1").symlink_to("deep/../sub/../link/outside")
    (inside / "deep" / "link").symlink_to("../sub")
    path = "/".join(names)
    try:
        Workspace(inside).replace(path, b"written")
    except (PermissionDenied, ToolFailed):
        written = [found for found in top.rglob("*") if found.is_file() and found.read_bytes()]
        assert written == []
    else:
        real = os.path.realpath(inside / path)
        assert real.startswith(f"{inside}/")
    assert everything(top / "outside") == []
    assert sorted(os.listdir(top)) == ["inside", "outside"]
