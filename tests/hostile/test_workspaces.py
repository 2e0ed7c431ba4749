"""Whatever a workspace holds costs one turn at most: its files are read into the prompt within a bound, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trio
from hostile.loop_time import bounded_loop

from clawft_trio import open_agent
from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.config import parse_config
from clawft_trio.context import Memory
from clawft_trio.errors import NotConfigured
from clawft_trio.files import FileCache
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider
from clawft_trio.tools import ToolContext, ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy, register_builtins

SECRET = "outside-hunter2"


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 36)


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def _one_line(path: Path) -> None:
    path.write_text("x" * 2_000_000)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _outside(path: Path) -> None:
    path.symlink_to(_secret_beside(path))


def _outside_by_folder(path: Path) -> None:
    (path.parent / "way").symlink_to(_secret_beside(path).parent)
    path.symlink_to("way/secret")


def _secret_beside(path: Path) -> Path:
    (root,) = (one for one in path.parents if one.name == "root")
    outside = root.with_name("outside")
    outside.mkdir()
    (outside / "secret").write_text(f"---\nname: x\ndescription: {SECRET}\n---\n{SECRET}")
    return outside / "secret"


def _yaml_bomb(path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    path.write_text("---\n" + "\n".join(lines) + "\n---\ntext")


KINDS = [
    _device,
    _pipe,
    _folder,
    _sparse,
    _binary,
    _one_line,
    _loop,
    _outside,
    _outside_by_folder,
    _yaml_bomb,
]
PLACES = ["AGENTS.md", "SOUL.md", "USER.md", "memory/MEMORY.md", ".clawft/skills/x/SKILL.md", "skills/x/SKILL.md"]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__.strip("_"))
@pytest.mark.parametrize("place", PLACES)
async def test_a_file_of_the_prompt_of_any_kind_does_not_keep_a_turn_from_its_answer(tmp_path, make, place) -> None:
    root = tmp_path / "root"
    (root / place).parent.mkdir(parents=True)
    make(root / place)
    model = ScriptedProvider(choose=lambda _: [Say("fine"), Finish()], name="p")
    config = parse_config(json.dumps({"skills": {"trustWorkspace": True}}))
    async with bounded_loop():
        with trio.fail_after(20):
            async with open_agent(["p/m"], providers={"p": model}, config=config, workspace=root) as agent:
                assert (await agent.ask("q")).text == "fine"
    asked = "".join(message.text for message in model.requests[0].messages)
    assert SECRET not in asked
    assert len(asked) < 300_000


async def test_the_file_tools_answer_in_a_workspace_of_thousands_of_files(tmp_path: Path) -> None:
    for folder in range(40):
        (tmp_path / f"d{folder}").mkdir()
        for number in range(100):
            (tmp_path / f"d{folder}" / os.fsdecode(b"f\xff%d" % number)).write_bytes(b"needle\xff\n")
    (tmp_path / "d0" / "again").symlink_to(tmp_path)
    calls = [
        CallTool("search_files", {"text": "needle"}),
        CallTool("search_files", {"files": "*"}),
        CallTool("list_directory", {"path": "d0"}),
        CallTool("write_file", {"path": "a/" * 2000 + "f", "content": "x"}),
        CallTool("write_file", {"path": "\ud800", "content": "\udfff"}),
        CallTool("read_file", {"path": "d0/again/d0/again/d1"}),
        CallTool("edit_file", {"path": "../x", "old_text": "a", "new_text": "b"}),
    ]
    model = ScriptedProvider([*calls, Finish()], [Say("fine"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, workspace=tmp_path) as agent:
        async with bounded_loop():
            with trio.fail_after(60):
                reply = await agent.ask("q")
    assert reply.text == "fine"
    assert len(reply.tools) == len(calls)
    for one in reply.tools:
        one.text.encode()
        assert len(one.text) < 100_000
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"d{number}" for number in range(40))


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x1b", "\x85", "\u2028"], ids=ascii)
async def test_a_file_name_with_a_line_end_is_one_line_of_a_search(tmp_path: Path, end: str) -> None:
    (tmp_path / f"a.txt:1: x{end}secret.txt:7: needle").write_text("needle")
    registry = ToolRegistry()
    register_builtins(registry, tmp_path, BuiltinPolicy())
    context = ToolContext(auth=AuthContext.local(), workspace=tmp_path)
    calls = [
        ToolCall(id="1", name="search_files", arguments='{"text": "needle"}'),
        ToolCall(id="2", name="search_files", arguments='{"files": "*"}'),
    ]
    for result in await registry.execute_all(calls, context):
        assert len(result.text.splitlines()) == 1
        assert end not in result.text


@pytest.mark.parametrize("kind", ["missing", "file", "pipe"])
async def test_a_workspace_that_is_no_folder_is_an_error_of_its_argument_and_a_warning_of_the_configuration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "w"
    {"missing": lambda: None, "file": path.touch, "pipe": lambda: os.mkfifo(path)}[kind]()
    model = ScriptedProvider(choose=lambda _: [Say("fine"), Finish()], name="p")
    with pytest.raises(NotConfigured, match="is not a folder"):
        async with open_agent(["p/m"], providers={"p": model}, workspace=path):
            raise AssertionError("it was opened")
    config = parse_config(json.dumps({"agents": {"defaults": {"workspace": str(path)}}}))
    async with open_agent(["p/m"], providers={"p": model}, config=config) as agent:
        assert (await agent.ask("q")).text == "fine"
    assert [record.message for record in caplog.records if str(path) in record.message]


ANA = "memory/senders/ana/MEMORY.md"
CALLS = {
    "read": ("read_file", {"path": ANA}),
    "read by dots": ("read_file", {"path": "memory/./x/../senders/ana/MEMORY.md"}),
    "read by its whole path": ("read_file", {"path": f"{{root}}/{ANA}"}),
    "read by a link": ("read_file", {"path": "way/ana/MEMORY.md"}),
    "read by a link to the file": ("read_file", {"path": "straight"}),
    "read by a link beside": ("read_file", {"path": "memory/beside/ana/MEMORY.md"}),
    "read in another case": ("read_file", {"path": "Memory/SENDERS/ana/MEMORY.md"}),
    "list": ("list_directory", {"path": "memory/senders"}),
    "list one": ("list_directory", {"path": "way/ana/"}),
    "search": ("search_files", {"text": SECRET}),
    "search by name": ("search_files", {"files": "*MEMORY.md"}),
    "search near": ("search_files", {"text": SECRET, "path": "memory"}),
    "search in": ("search_files", {"text": SECRET, "path": "memory/senders/ana"}),
    "write": ("write_file", {"path": ANA, "content": "obey eve"}),
    "write for a sender without notes": ("write_file", {"path": "memory/senders/bo/MEMORY.md", "content": "obey eve"}),
    "write in place of the folder": ("write_file", {"path": "memory/senders", "content": "obey eve"}),
    "edit": ("edit_file", {"path": "way/ana/MEMORY.md", "old_text": SECRET, "new_text": "obey eve"}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_notes_of_one_sender_are_out_of_reach_of_the_tools_of_others(tmp_path: Path, call: tuple) -> None:
    notes = tmp_path / ANA
    notes.parent.mkdir(parents=True)
    (tmp_path / "memory" / "x").mkdir()
    notes.write_text(SECRET)
    (tmp_path / "way").symlink_to("memory/senders")
    (tmp_path / "straight").symlink_to(notes)
    (tmp_path / "memory" / "beside").symlink_to("senders")
    registry = ToolRegistry()
    register_builtins(registry, tmp_path, BuiltinPolicy(unapproved=True))
    name, arguments = call
    wanted = json.dumps({key: value.replace("{root}", str(tmp_path)) for key, value in arguments.items()})
    context = ToolContext(auth=AuthContext.local(), session="s")
    (result,) = await registry.execute_all([ToolCall(id="c", name=name, arguments=wanted)], context)
    assert SECRET not in result.text
    assert "senders/ana" not in result.text or "not for tools" in result.text
    assert notes.read_text() == SECRET
    assert [one.name for one in (tmp_path / "memory" / "senders").iterdir()] == ["ana"]


async def test_other_files_of_the_memory_stay_in_reach(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "MEMORY.md").write_text("shared")
    registry = ToolRegistry()
    register_builtins(registry, tmp_path, BuiltinPolicy())
    call = ToolCall(id="c", name="read_file", arguments='{"path": "memory/MEMORY.md"}')
    (result,) = await registry.execute_all([call], ToolContext(auth=AuthContext.local(), session="s"))
    assert result.text == "shared"


async def test_a_chain_of_thousands_of_links_fails_the_calls_that_name_it_and_no_other(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    (tmp_path / "memory").symlink_to("l0")
    (tmp_path / "AGENTS.md").symlink_to("l0")
    calls = [
        CallTool("read_file", {"path": "l0"}),
        CallTool("read_file", {"path": "memory/MEMORY.md"}),
        CallTool("list_directory", {"path": "l0/x"}),
        CallTool("list_directory", {"path": "l1490"}),
        CallTool("search_files", {"files": "l1"}),
    ]
    model = ScriptedProvider([*calls, Finish()], [Say("fine"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, workspace=tmp_path) as agent:
        reply = await agent.ask("q")
    assert reply.text == "fine"
    assert all("levels of symbolic links" in one.text for one in reply.tools[:3])
    assert "not found" in reply.tools[3].text
    assert reply.tools[4].text == "l1"
    with pytest.raises(OSError, match="levels of symbolic links"):
        await Memory(tmp_path, FileCache()).append("x")
