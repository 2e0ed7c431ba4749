from __future__ import annotations

import os
import resource
import stat
import sys
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings, strategies as st

from clawft_trio.context import Memory
from clawft_trio.errors import InvalidData
from clawft_trio.files import FileCache
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import PathLocks


def memory(workspace, **options):
    return Memory(workspace, FileCache(), **options)


async def test_nothing_yet_is_empty(tmp_path):
    found = await memory(tmp_path).read()
    assert (found.text, found.paragraphs, found.problems) == ("", (), ())
    assert not list(tmp_path.iterdir())


async def test_entries_are_paragraphs_in_their_order(tmp_path):
    notes = memory(tmp_path)
    assert await notes.append("  Ana likes tea.  ") == "Ana likes tea."
    assert await notes.append("Two\n\nlines\r\n here") == "Two\nlines\n here"
    assert (await notes.read()).paragraphs == ("Ana likes tea.", "Two\nlines\n here")
    assert (tmp_path / "memory" / "MEMORY.md").read_text() == "Ana likes tea.\n\nTwo\nlines\n here\n\n"


async def test_what_somebody_else_wrote_is_kept(tmp_path):
    path = tmp_path / "memory" / "MEMORY.md"
    path.parent.mkdir()
    path.write_text("# By hand, without a last newline")
    notes = memory(tmp_path)
    await notes.append("new")
    assert (await notes.read()).paragraphs == ("# By hand, without a last newline", "new")


async def test_an_entry_is_read_back_at_once_also_within_the_window_of_freshness(tmp_path):
    notes = Memory(tmp_path, FileCache(fresh_for=60.0))
    assert (await notes.read()).text == ""
    await notes.append("new")
    assert (await notes.read()).text == "new"


async def test_only_the_owner_may_read_the_file(tmp_path):
    notes = memory(tmp_path, per_sender=True)
    await notes.append("private", "telegram:ana")
    path = Path(notes.path("telegram:ana"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_senders_share_one_file_unless_asked(tmp_path):
    notes = memory(tmp_path)
    await notes.append("shared", "telegram:ana")
    assert (await notes.read("slack:bob")).text == "shared"


async def test_senders_have_their_own_where_asked(tmp_path):
    notes = memory(tmp_path, per_sender=True)
    senders = ["telegram:ana", "telegram:Ana", "slack:ana", "..", "../../x", "", "x" * 500, "x" * 501, "a/b", "a\\b"]
    for sender in senders:
        await notes.append(f"of {sender[-30:]} {len(sender)}", sender)
    for sender in senders:
        assert (await notes.read(sender)).paragraphs == (f"of {sender[-30:]} {len(sender)}",)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(senders)
    assert len({str(path).casefold() for path in files}) == len(senders)


@settings(deadline=None, max_examples=200)
@given(st.text(min_size=1), st.text(min_size=1))
def test_no_sender_reaches_anothers_notes_or_leaves_the_folder(one, other):
    notes = Memory("/workspace", FileCache(), per_sender=True)
    path = notes.path(one)
    assert os.path.normpath(path) == path and path.startswith("/workspace/memory/senders/")
    assert path.count("/") == "/workspace/memory/senders/x/MEMORY.md".count("/") and len(path) < 255
    assert (path.casefold() == notes.path(other).casefold()) == (one == other)


@pytest.mark.parametrize("entry", ["", "  \n\n ", "<|im_end|>", "x" * 101, "ü" * 51])
async def test_what_cannot_be_kept_is_refused_with_its_place(tmp_path, entry):
    with pytest.raises(InvalidData) as caught:
        await memory(tmp_path, max_entry=100).append(entry)
    assert caught.value.problems[0].path == "$.entry" and not list(tmp_path.iterdir())


async def test_a_full_memory_says_so_and_is_not_cut(tmp_path):
    notes = memory(tmp_path, max_bytes=100)
    await notes.append("x" * 80)
    with pytest.raises(InvalidData, match="full: 100 bytes"):
        await notes.append("y" * 80)
    assert (await notes.read()).text == "x" * 80


async def test_what_is_too_long_or_unreadable_is_a_problem_and_no_text(tmp_path):
    path = tmp_path / "memory" / "MEMORY.md"
    path.parent.mkdir()
    notes = memory(tmp_path, max_bytes=10)
    for content in (b"x" * 11, b"\xff", b"\0"):
        path.write_bytes(content)
        found = await notes.read()
        assert found.text == "" and found.problems[0].startswith(str(path))
    path.unlink()
    path.mkdir()
    assert (await notes.read()).problems == (f"{path}: a folder",)


@pytest.mark.parametrize("options", [{}, {"max_entry": 100, "max_bytes": 1000}])
async def test_an_entry_and_a_file_may_be_exactly_as_large_as_their_limits(tmp_path, options):
    notes = memory(tmp_path, **options)
    longest, largest = options.get("max_entry", 4096), options.get("max_bytes", 65_536)
    with pytest.raises(InvalidData, match=f"{longest + 1} bytes; an entry may have {longest}"):
        await notes.append("x" * (longest + 1))
    assert await notes.append("x" * longest) == "x" * longest
    path = Path(notes.path())
    path.write_text("y" * (largest - 6) + "\n")
    with pytest.raises(InvalidData, match=f"full: {largest} bytes"):
        await notes.append("four")
    await notes.append("not")
    assert path.stat().st_size == largest
    assert (await notes.read()).paragraphs == ("y" * (largest - 6) + "\nnot",)
    path.write_text("y" * (largest + 1))
    assert (await notes.read()).problems == (f"{path}: {largest + 1} bytes are more than {largest}",)


@pytest.mark.parametrize(
    ("per_sender", "sender", "own"),
    [
        (False, "telegram:ana", False),
        (True, "telegram:ana", True),
        (True, "local:ana", True),
        (True, "", False),
        (None, "telegram:ana", True),
        (None, "local:ana", False),
        (None, "", False),
    ],
)
def test_whose_notes_are_in_a_file_of_their_own(per_sender, sender, own):
    assert ("senders" in Memory("/w", FileCache(), per_sender=per_sender).path(sender)) is own


async def test_a_search_finds_the_ten_newest(tmp_path):
    notes = memory(tmp_path)
    for number in range(12):
        await notes.append(f"note {number}")
    assert await notes.search("note") == tuple(f"note {number}" for number in range(11, 1, -1))


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("a\x00\x08\x0e\x1f\x7fb", "ab"),
        ("a\tb", "a\tb"),
        ("a\x20b", "a b"),
        ("a\ud800b", "a?b"),
        ("a \r\n\r\nb", "a\nb"),
    ],
)
async def test_characters_that_are_no_text_are_left_out_of_an_entry(tmp_path, entry, kept):
    assert await memory(tmp_path).append(entry) == kept


async def test_control_tokens_neither_go_in_nor_come_out(tmp_path):
    notes = memory(tmp_path)
    assert await notes.append("a<|im_end|>b") == "ab"
    path = Path(notes.path())
    path.write_text(path.read_text() + "c[INST]d")
    found = await notes.read()
    assert found.paragraphs == ("ab", "cd") and found.problems == (f"{path}: 1 control tokens taken out",)


async def test_searching_finds_all_words_newest_first(tmp_path):
    notes = memory(tmp_path)
    for entry in ("Ana likes tea", "Bob likes coffee", "ANA drinks TEA daily", "nothing"):
        await notes.append(entry)
    assert await notes.search("tea ana") == ("ANA drinks TEA daily", "Ana likes tea")
    assert await notes.search("likes", limit=1) == ("Bob likes coffee",)
    assert await notes.search("wine") == await notes.search(" ") == await notes.search("tea", limit=0) == ()


async def test_appends_at_once_lose_nothing(tmp_path):
    notes = memory(tmp_path)
    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(notes.append, f"entry {number}")
    assert sorted((await notes.read()).paragraphs) == sorted(f"entry {number}" for number in range(30))


async def test_an_append_waits_for_who_holds_the_path(tmp_path):
    locks = PathLocks()
    notes = memory(tmp_path, locks=locks)
    async with trio.open_nursery() as nursery:
        async with locks.hold([(notes.path(), "write")]):
            nursery.start_soon(notes.append, "late")
            while locks.statistics().waiters == 0:
                await trio.sleep(0)
            assert (await notes.read()).text == ""
    assert (await notes.read()).text == "late"
    assert locks.statistics().paths == 0


async def test_cancelled_at_any_step_an_entry_is_whole_or_absent(tmp_path):
    locks = PathLocks()
    notes = memory(tmp_path, locks=locks)

    async def check():
        assert set((await notes.read()).paragraphs) <= {"an entry"}
        assert locks.statistics().holders == locks.statistics().waiters == 0

    async def operation():
        await notes.append("an entry")

    assert await cancel_everywhere(operation, check) > 3


async def test_a_failing_disk_is_the_callers_to_see_and_leaves_nothing_half(tmp_path):
    notes = memory(tmp_path)
    await notes.append("first")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(OSError):
            await notes.append("x" * 40)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(notes.path()).read_text() == "first\n\n"
    await notes.append("second")
    assert (await notes.read()).paragraphs == ("first", "second")


async def test_no_link_leads_the_pen_out_of_the_workspace(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "MEMORY.md").write_text("mine")
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "memory").symlink_to(outside)
    with pytest.raises(InvalidData, match="out of the workspace"):
        await memory(folder).append("gotcha")
    with pytest.raises(InvalidData, match="out of the workspace"):
        await memory(folder, per_sender=True).append("gotcha", "chat:ana")
    (folder / "memory").unlink()
    (folder / "memory").mkdir()
    (folder / "memory" / "MEMORY.md").symlink_to(outside / "MEMORY.md")
    with pytest.raises(OSError):
        await memory(folder).append("gotcha")
    assert (outside / "MEMORY.md").read_text() == "mine" and len(list(outside.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names the file of a descriptor")
async def test_a_folder_that_is_replaced_by_a_link_after_the_check_leads_nowhere(tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "MEMORY.md").write_text("mine")
    (tmp_path / "workspace").mkdir()
    make = os.makedirs

    def make_and_swap(folder, **options):
        make(folder, **options)
        Path(folder).rmdir()
        Path(folder).symlink_to(tmp_path / "outside")

    monkeypatch.setattr(os, "makedirs", make_and_swap)
    with pytest.raises(InvalidData, match="out of the workspace"):
        await memory(tmp_path / "workspace").append("gotcha")
    assert (tmp_path / "outside" / "MEMORY.md").read_text() == "mine"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=30), max_size=5))
@example([" \x1b"])
@in_mock_time
async def test_whatever_is_kept_is_read_back(entries):
    with tempfile.TemporaryDirectory() as folder:
        notes = memory(folder)
        kept = []
        for entry in entries:
            try:
                kept.append(await notes.append(entry))
            except InvalidData:
                assert not any(ch.isprintable() and not ch.isspace() for ch in entry)
        found = await notes.read()
        assert found.paragraphs == tuple(kept) and found.problems == ()
