"""The file tools, through the registry as a model uses them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
import threading
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from clawft_trio.auth import USER, AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.tools import FanOutPolicy, ToolContext, ToolRegistry, tool
from clawft_trio.tools.builtin import BuiltinPolicy, CommandPolicy, FilePolicy, files, register_builtins, search
from clawft_trio.tools.builtin.search import search_tool
from clawft_trio.tools.workspace import Workspace

CONTEXT = ToolContext(auth=AuthContext.local())


def registry_of(root, **policy):
    registry = ToolRegistry(policy=FanOutPolicy(lock_wait=1e6))
    register_builtins(registry, root, BuiltinPolicy(unapproved=True, files=FilePolicy(**policy)))
    return registry


async def use(registry, name, **arguments):
    (answer,) = await registry.execute_all([ToolCall(id="1", name=name, arguments=json.dumps(arguments))], CONTEXT)
    return answer


def test_without_approval_only_what_looks_is_offered(tmp_path):
    assert set(register_builtins(ToolRegistry(), tmp_path)) == {
        "read_file",
        "list_directory",
        "search_files",
        "web_fetch",
    }


def test_with_approval_or_on_request_what_changes_is_offered_too(tmp_path):
    async def approve(request):
        return True

    changing = {"write_file", "edit_file"}
    assert changing <= set(register_builtins(ToolRegistry(approve=approve), tmp_path))
    assert changing <= set(register_builtins(ToolRegistry(), tmp_path, BuiltinPolicy(unapproved=True)))
    with_commands = BuiltinPolicy(unapproved=True, commands=CommandPolicy(allow=("ls",)))
    assert "run_command" in register_builtins(ToolRegistry(), tmp_path, with_commands)
    assert "run_command" not in register_builtins(
        ToolRegistry(), tmp_path, attrs.evolve(with_commands, unapproved=False)
    )


def test_who_may_not_read_files_may_not_search_them(tmp_path):
    registry = registry_of(tmp_path)
    assert "search_files" in [spec.name for spec in registry.specs(USER)]
    denied = attrs.evolve(USER, tool_denylist=("read_file",))
    assert "search_files" not in [spec.name for spec in registry.specs(denied)]


async def test_a_user_may_list_directories_by_either_name_in_the_permissions(tmp_path):
    registry = registry_of(tmp_path)
    assert "list_directory" in [spec.name for spec in registry.specs(USER)]
    by_old_name = attrs.evolve(USER, tool_access=("list_dir",))
    assert [spec.name for spec in registry.specs(by_old_name)] == ["list_directory"]


@given(
    lines=st.lists(st.sampled_from(["", "a", "é€😀", "x" * 700]), max_size=12),
    ending=st.booleans(),
    first=st.integers(1, 15),
    count=st.none() | st.integers(1, 15),
)
@settings(deadline=None, max_examples=80)
def test_a_range_is_exactly_these_lines_and_says_what_follows(lines, ending, first, count):
    text = "\n".join(lines) + ("\n" if ending else "")
    all_lines = text.splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as root:
        Path(root, "f").write_text(text)
        answer = trio.run(
            lambda: use(registry_of(root, longest_read=1024), "read_file", path="f", first_line=first, line_count=count)
        )
    if first > 1 and first > len(all_lines):
        assert answer.outcome == "error"
        assert f"fewer than {first} lines" in answer.text
        return
    wanted = all_lines[first - 1 :][: count or len(all_lines)]
    shown, mark, note = answer.text.partition("[more follows: read on with first_line=")
    shown = shown.splitlines(keepends=True)
    assert shown == wanted[: len(shown)]
    if mark:
        assert int(note.rstrip("]")) == first + len(shown) <= len(all_lines)
        assert len(shown) == len(wanted) or len("".join(wanted[: len(shown) + 1]).encode()) > 1024
    else:
        assert shown == all_lines[first - 1 :]


async def test_a_line_longer_than_everything_is_cut_between_characters(tmp_path):
    (tmp_path / "f").write_text("é" * 100_000 + "\nnext")
    answer = await use(registry_of(tmp_path, longest_read=2001), "read_file", path="f")
    assert answer.text == "é" * 1000 + "\n[line 1 is longer than 2001 bytes]"
    assert (await use(registry_of(tmp_path), "read_file", path="f", first_line=2)).text == "next"


async def test_what_is_not_text_is_said(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    registry = registry_of(tmp_path)
    assert "not text (6 bytes)" in (await use(registry, "read_file", path="binary")).text
    assert (await use(registry, "read_file", path="latin")).text == (
        "caf\ufffd\n[not valid UTF-8: some characters were replaced]"
    )
    assert "latin: not UTF-8 text" in (await use(registry, "edit_file", path="latin", old_text="c", new_text="k")).text


async def test_a_file_with_other_names_can_be_noticed_and_refused(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "inside" / "innocent").hardlink_to(tmp_path / "secret")
    # A hard link *is* the file: only the count of its names tells.
    assert (await use(registry_of(tmp_path / "inside"), "read_file", path="innocent")).text == "secret"
    strict = registry_of(tmp_path / "inside", refuse_hard_links=True)
    assert "2 names" in (await use(strict, "read_file", path="innocent")).text


async def test_what_is_written_is_read_again(tmp_path):
    registry = registry_of(tmp_path)
    written = await use(registry, "write_file", path="a/b.txt", content="é\r\n")
    assert written.text == "Wrote 4 bytes to a/b.txt"
    assert (await use(registry, "read_file", path="a/b.txt")).text == "é\r\n"


@pytest.mark.parametrize(
    ("text", "old", "message"),
    [
        ("abc", "x", "old_text not found in file"),
        ("abcabc", "abc", "old_text appears more than once; provide more context to make it unique"),
        ("aaa", "aa", "old_text appears more than once"),
        ("abc", "", "should be non-empty"),
    ],
)
async def test_an_edit_needs_exactly_one_match(tmp_path, text, old, message):
    (tmp_path / "f").write_text(text)
    answer = await use(registry_of(tmp_path), "edit_file", path="f", old_text=old, new_text="y")
    assert answer.outcome in {"error", "invalid"}
    assert message in answer.text
    assert (tmp_path / "f").read_text() == text


class Busy(Workspace):
    """A workspace whose file is changed by another program after it was read."""

    def __init__(self, root, change):
        super().__init__(root)
        self._change = change

    @contextlib.contextmanager
    def open_file(self, path):
        with super().open_file(path) as descriptor:
            yield descriptor
        self._change(self.root / path)


def _grow(path):
    with path.open("a") as file:
        file.write("more")


def _replace(path):
    path.with_name("other").write_text("abc")
    path.with_name("other").replace(path)


def _into_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [_grow, _replace, _into_a_pipe, Path.unlink, lambda path: path.write_text("ab")])
async def test_an_edit_does_not_undo_what_another_program_wrote_meanwhile(tmp_path, change):
    (tmp_path / "f").write_text("abc")
    os.utime(tmp_path / "f", (1, 1))
    edit = next(one for one in files.file_tools(Busy(tmp_path, change), FilePolicy()) if one.name == "edit_file")
    answer = await use(ToolRegistry([edit]), "edit_file", path="f", old_text="b", new_text="x")
    assert answer.outcome == "error", answer
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "f").write_text("abc")
    change(changed / "f")
    assert kind_and_text(tmp_path / "f") == kind_and_text(changed / "f")
    assert not list(tmp_path.glob(".clawft-*"))


def kind_and_text(path):
    return path.exists(), path.is_file(), path.read_text() if path.is_file() else ""


async def test_sizes_are_limited(tmp_path):
    registry = registry_of(tmp_path, longest_file=2048)
    (tmp_path / "big").write_text("x" * 3000)
    assert "longer than 2048" in (await use(registry, "write_file", path="f", content="x" * 3000)).text
    assert "longer than 2048" in (await use(registry, "edit_file", path="big", old_text="x", new_text="")).text
    assert not (tmp_path / "f").exists()


async def test_a_listing_is_sorted_and_tells_types_and_sizes(tmp_path):
    (tmp_path / "b").write_text("12345")
    (tmp_path / "a").mkdir()
    (tmp_path / "c").symlink_to("/etc/passwd")
    answer = await use(registry_of(tmp_path), "list_directory")
    assert json.loads(answer.text) == [
        {"name": "a", "type": "directory"},
        {"name": "b", "type": "file", "size": 5},
        {"name": "c", "type": "symlink"},
    ]


async def test_a_long_listing_says_what_is_missing(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}").touch()
    listed = json.loads((await use(registry_of(tmp_path, most_entries=5), "list_directory")).text)
    assert len(listed) == 6
    assert listed[-1] == {"_truncated": "15 of 20 entries left out"}


async def test_a_search_finds_lines_and_files_and_stays_inside(tmp_path):
    root = tmp_path / "inside"
    (root / "pkg").mkdir(parents=True)
    (root / ".git").mkdir()
    (tmp_path / "outside.py").write_text("needle")
    (root / "link.py").symlink_to("../outside.py")
    (root / "out").symlink_to("..")
    (root / "a.py").write_text("one\n  Needle here\n")
    (root / "pkg" / "b.py").write_text("needle\n" * 2)
    (root / "pkg" / "c.txt").write_text("needle")
    (root / ".git" / "d.py").write_text("needle")
    (root / "e.py").write_bytes(b"needle\0")
    registry = registry_of(root)
    assert (await use(registry, "search_files", text="needle", files="*.py")).text == (
        "pkg/b.py:1: needle\npkg/b.py:2: needle"
    )
    assert (await use(registry, "search_files", text="NEEDLE", ignore_case=True, path=".", files="a.py")).text == (
        "a.py:2: Needle here"
    )
    assert (await use(registry, "search_files", files="pkg/*")).text == "pkg/b.py\npkg/c.txt"
    assert (await use(registry, "search_files", path="pkg/", files="pkg/*.py")).text == "pkg/b.py"
    assert (await use(registry, "search_files", text="needle", limit=1)).text == (
        "pkg/b.py:1: needle\n[more than 1 results: narrow the search]"
    )
    assert (await use(registry, "search_files", text="(a+)+$")).text == "Nothing found."
    assert (await use(registry, "search_files", path="out")).outcome == "refused"


class Pieces(io.BytesIO):
    """A file that records how much of it is read in one step."""

    largest = 0

    def read(self, size=-1):
        self.largest = max(self.largest, size)
        return super().read(size)


def found_whole(text, wanted, ignore_case):
    """The lines of *text* that contain *wanted*, with their numbers: all of it at once."""
    fold = str.casefold if ignore_case else str
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.strip()[:300].rstrip()) for number, line in lines if fold(wanted) in fold(line)]


@given(
    text=st.text(alphabet="aAß\n\r \x0cé€", max_size=60),
    wanted=st.text(alphabet="aAßsé", min_size=1, max_size=5),
    ignore_case=st.booleans(),
    piece=st.integers(1, 9),
)
def test_a_search_in_pieces_finds_what_a_search_of_the_whole_finds(text, wanted, ignore_case, piece):
    folded = wanted.casefold() if ignore_case else wanted
    matching = search._Matching(search._Wanted(text=folded, files="*", ignore_case=ignore_case), piece=piece)
    assert list(matching.lines(io.BytesIO(text.encode()), 1000)) == found_whole(text, wanted, ignore_case)


@pytest.mark.parametrize("line", ["\n", "a\n", "a", "a" * 100_000 + "\n"], ids=["empty", "short", "endless", "long"])
def test_a_search_takes_small_steps_and_ends_at_its_limit(line):
    file = Pieces(line.encode() * (1_000_000 // len(line)) + b"needle")
    matching = search._Matching(search._Wanted(text="needle", files="*", ignore_case=True))
    whole = file.getvalue().decode()
    assert list(matching.lines(file, 8_000_000)) == found_whole(whole, "needle", ignore_case=True)
    assert file.largest == 65_536
    file.seek(0)
    assert list(matching.lines(file, 900_000)) == []


async def test_a_search_numbers_lines_as_read_file_does(tmp_path):
    (tmp_path / "f").write_bytes("one\x0cone\rone\u2028one\nneedle\x0cwith\x85more\r\n".encode())
    registry = registry_of(tmp_path)
    assert (await use(registry, "search_files", text="needle")).text == "f:2: needle with more"
    assert (await use(registry, "read_file", path="f", first_line=2)).text.startswith("needle")


@given(
    text=st.text(alphabet="ab", max_size=40),
    passage=st.text(alphabet="ab", min_size=1, max_size=9),
    window=st.integers(1, 9),
)
def test_a_passage_is_found_in_windows_wherever_it_begins(text, passage, window):
    for start in range(len(text) + 1):
        assert files._find(passage, text, start, window=window) == text.find(passage, start)


@given(st.lists(st.text(max_size=3), max_size=30), st.integers(1, 9))
def test_names_that_are_sorted_in_parts_are_sorted(names, part):
    assert list(files.in_order(names, part=part)) == sorted(names)


class Held(Workspace):
    """Opens directories when it is told to, and remembers how its user left."""

    def __init__(self, root):
        super().__init__(root)
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.left_by = None

    @contextlib.contextmanager
    def open_directory(self, path):
        self.entered.set()
        self.go_on.wait(10)
        try:
            with super().open_directory(path) as descriptor:
                yield descriptor
        except BaseException as exc:
            self.left_by = type(exc)
            raise


async def test_a_search_stops_at_the_next_file_when_nobody_waits_for_it_any_more(tmp_path):
    (tmp_path / "f").write_text("x")
    workspace = Held(tmp_path)
    registry = ToolRegistry([search_tool(workspace, FilePolicy())])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.execute_all, [ToolCall(id="1", name="search_files")], CONTEXT)
        while not workspace.entered.is_set():
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel(reason="test")
        await trio.lowlevel.cancel_shielded_checkpoint()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
        workspace.go_on.set()
    assert workspace.left_by is trio.Cancelled
    assert registry.statistics().threads.running == 0


NAMES = st.sampled_from(["a", "b", "c"])
CALLS = st.one_of(
    st.tuples(st.just("write_file"), NAMES, st.sampled_from("xyz")),
    st.tuples(st.just("append"), NAMES, st.sampled_from("123")),
    st.tuples(st.just("read_file"), NAMES, st.just("")),
    st.tuples(st.just("rename"), NAMES, NAMES),
)


def rename_tool(workspace):
    @tool(writes=("path", "target"), root=workspace.root)
    def rename(path: str, target: str) -> str:
        (workspace.root / path).rename(workspace.root / target)
        return "renamed"

    return rename


def append_tool(workspace):
    """Reads, waits, writes: without locks every second append would be lost."""

    @tool(writes="path", root=workspace.root)
    async def append(path: str, text: str) -> str:
        file = trio.Path(workspace.root / path)
        before = await file.read_text() if await file.exists() else ""
        await trio.sleep(0)
        await file.write_text(before + text)
        return before + text

    return append


def in_sequence(calls):
    """What each call would answer, one after the other."""
    files = {}
    for name, path, text in calls:
        if name == "write_file":
            files[path] = text
            yield f"Wrote 1 bytes to {path}"
        elif name == "append":
            files[path] = files.get(path, "") + text
            yield files[path]
        elif path not in files:
            yield None
        elif name == "read_file":
            yield files[path]
        else:
            files[text] = files.pop(path)
            yield "renamed"
    yield files


@given(st.lists(CALLS, max_size=14))
@settings(deadline=None, max_examples=40)
def test_reads_writes_edits_and_renames_side_by_side_lose_nothing(calls):
    async def together(root):
        registry = registry_of(root)
        registry.add(rename_tool(Workspace(root)))
        registry.add(append_tool(Workspace(root)))
        second = {"write_file": "content", "append": "text", "rename": "target"}
        return await registry.execute_all(
            [
                ToolCall(
                    id=str(n),
                    name=name,
                    arguments=json.dumps({"path": path, **({second[name]: text} if name in second else {})}),
                )
                for n, (name, path, text) in enumerate(calls)
            ],
            attrs.evolve(CONTEXT, log=QUIET),
        )

    *expected, files = in_sequence(calls)
    with tempfile.TemporaryDirectory() as root:
        answers = trio.run(together, root)
        assert {path.name: path.read_text() for path in Path(root).iterdir()} == files
    assert [answer.text if answer.outcome == "ok" else None for answer in answers] == expected


QUIET = logging.getLogger("quiet")
QUIET.setLevel(logging.CRITICAL)


async def test_edits_of_one_file_in_several_turns_at_once_lose_nothing(tmp_path):
    (tmp_path / "f").write_text("".join(f"[{n}]" for n in range(30)))
    registry = registry_of(tmp_path)

    async def turn(numbers):
        calls = [
            ToolCall(
                id=str(n),
                name="edit_file",
                arguments=json.dumps({"path": "f", "old_text": f"[{n}]", "new_text": f"<{n}>"}),
            )
            for n in numbers
        ]
        assert {answer.outcome for answer in await registry.execute_all(calls, CONTEXT)} == {"ok"}

    async with trio.open_nursery() as nursery:
        for start in range(3):
            nursery.start_soon(turn, range(start, 30, 3))
    assert (tmp_path / "f").read_text() == "".join(f"<{n}>" for n in range(30))
    assert registry.statistics().locks.paths == 0
