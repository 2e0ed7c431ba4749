"""No subpackage makes a blocking call on the event loop. Each is driven here with everything it has."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest
import trio
from blocking import NothingBlocks
from context.skill_files import write, write_legacy, write_skill

from clawft_trio.agent.open_agent import open_agent
from clawft_trio.auth import AuthContext
from clawft_trio.chat import ChatRequest, Message, ToolCall
from clawft_trio.context import ContextBuilder, Memory, Skills, memory_tools, skill_tool
from clawft_trio.files import FileCache
from clawft_trio.llm import OpenAICompatible, complete
from clawft_trio.mcp import open_mcp
from clawft_trio.messages import InboundMessage
from clawft_trio.store import Migration, open_store
from clawft_trio.testing import CallTool, Finish, Say, open_fault_server
from clawft_trio.tools import ToolContext, ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy, CommandPolicy, register_builtins

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="knows the names of POSIX")

# As the package's own code would be seen.
GUILTY = compile(
    """
import contextlib, os, pathlib, shutil, sqlite3, tempfile, time

def database(path):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("select 1")

calls = {
    "stat": lambda path: os.stat(path),
    "a method of os": lambda path: os.listdir(path),
    "a Path": lambda path: pathlib.Path(path).exists(),
    "reading": lambda path: pathlib.Path(path, "file").read_text(),
    "open": lambda path: open(path + "/file").close(),
    "walk": lambda path: list(os.walk(path)),
    "makedirs": lambda path: os.makedirs(path + "/a/b"),
    "sleep": lambda path: time.sleep(0),
    "rmtree": lambda path: shutil.rmtree(path + "/nowhere", ignore_errors=True),
    "a database": database,
    "a temporary file": lambda path: tempfile.mkstemp(dir=path),
}
harmless = {
    "memory": lambda path: __import__("io").BytesIO(b"x").read(),
    "a path": lambda path: pathlib.Path(path) / "x",
    "no wait": lambda path: os.getpid(),
}
""",
    "made_up.py",
    "exec",
)
OURS: dict = {"__name__": "clawft_trio.made_up"}
exec(GUILTY, OURS)
THEIRS: dict = {"__name__": "somebody.else"}
exec(GUILTY, THEIRS)


@pytest.mark.parametrize("kind", OURS["calls"])
def test_a_blocking_call_is_seen(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(AssertionError, match="made_up.py"), NothingBlocks():
        OURS["calls"][kind](str(tmp_path))


@pytest.mark.parametrize("kind", OURS["harmless"])
def test_what_never_waits_may_be_called(kind: str, tmp_path: Path) -> None:
    with NothingBlocks() as watch:
        OURS["harmless"][kind](str(tmp_path))
    assert watch.looked_at


async def test_what_others_do_and_what_threads_do_is_theirs(tmp_path: Path) -> None:
    with NothingBlocks():
        THEIRS["calls"]["stat"](str(tmp_path))
        await trio.to_thread.run_sync(OURS["calls"]["stat"], str(tmp_path))


async def test_context_never_blocks(tmp_path: Path) -> None:
    for name in ("SOUL.md", "AGENTS.md", ".clawft/USER.md", "memory/MEMORY.md"):
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "TOOLS.md", b"\xff")
    write_skill(tmp_path / "skills", "greet", "Greet ${1}.", user_invocable=True)
    write_legacy(tmp_path / "skills", "older")
    write(tmp_path / "skills" / "broken" / "SKILL.md", "---\n")
    with NothingBlocks() as watch:
        cache = FileCache()
        skills = Skills(cache, workspace=tmp_path / ".clawft" / "skills", user=tmp_path / "skills")
        memory = Memory(tmp_path, cache, per_sender=True)
        builder = ContextBuilder(tmp_path, cache=cache, skills=skills, memory=memory)
        for sender in ("", "chat:ana"):
            messages = await builder.build_messages([], "/greet Ana", sender=sender)
            assert not builder.preapproval(messages).approves("anything", {})
            assert (await builder.explain(sender=sender)).problems
        context = ToolContext(auth=AuthContext(channel="chat", sender_id="ana"))
        read, search, append = memory_tools(memory)
        await append.run({"entry": "likes tea"}, context)
        assert await read.run({}, context) == await search.run({"query": "tea"}, context) == "likes tea"
        assert "Greet Ana" in str(await skill_tool(skills).run({"name": "greet", "arguments": "Ana"}, context))
        assert "likes tea" in await builder.build_system_prompt(sender="chat:ana")
    assert watch.looked_at > 100 and len(skills.report.skills) == 2


async def test_the_store_never_blocks(tmp_path: Path) -> None:
    def add(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('a')")

    def count(connection: sqlite3.Connection) -> int:
        (found,) = connection.execute("SELECT count(*) FROM words").fetchone()
        return int(found)

    with NothingBlocks():
        migrations = [Migration("words", 1, "CREATE TABLE words (word TEXT);")]
        async with open_store(tmp_path / "folder" / "store.db", migrations=migrations) as store:
            await store.transact(add)
            assert await store.read(count) == 1


async def test_a_model_call_never_blocks() -> None:
    async with open_fault_server([Say("one "), Say("two"), Finish()]) as server:
        with NothingBlocks():
            async with OpenAICompatible("somebody", base_url=server.url, model="m") as provider:
                response = await complete(provider, ChatRequest([Message.user("hello")]))
        assert response.text == "one two"


async def test_a_fan_out_never_blocks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    calls = [
        ToolCall(id="1", name="write_file", arguments='{"path": "a/b.txt", "content": "hello"}'),
        ToolCall(id="2", name="read_file", arguments='{"path": "a/b.txt"}'),
        ToolCall(id="3", name="edit_file", arguments='{"path": "a/b.txt", "old_text": "hello", "new_text": "bye"}'),
        ToolCall(id="4", name="list_directory", arguments='{"path": "."}'),
        ToolCall(id="5", name="search_files", arguments='{"text": "bye"}'),
        ToolCall(id="6", name="run_command", arguments='{"argv": ["/bin/cat", "a/b.txt"]}'),
        ToolCall(id="7", name="nowhere"),
    ]
    policy = BuiltinPolicy(unapproved=True, commands=CommandPolicy(allow=["/bin/cat *"]))
    with NothingBlocks():
        registry = ToolRegistry()
        register_builtins(registry, tmp_path, policy)
        context = ToolContext(auth=AuthContext.local(), workspace=tmp_path)
        answers = [(await registry.execute_all([call], context))[0] for call in calls]
        await registry.execute_all(calls, context)
    assert [answer.outcome for answer in answers] == ["ok"] * 6 + ["unknown"], answers


async def test_an_mcp_server_and_its_client_never_block() -> None:
    server = [sys.executable, "-m", "clawft_trio.testing.mcp_server"]
    with NothingBlocks():
        async with open_mcp(server, name="scripted") as client:
            assert await client.list_tools()
            assert "hello" in (await client.call_tool("echo", {"text": "hello"})).text


async def test_an_agents_turn_never_blocks(tmp_path: Path) -> None:
    write(tmp_path / "SOUL.md", "You are kind.")
    write(tmp_path / "notes.txt", "Rain.")
    write_skill(tmp_path / ".clawft" / "skills", "greet")
    # A database in memory waits for nothing and is used on the loop; one on the disk must not be.
    store, config = tmp_path / "store.db", write(tmp_path / "config.json", "{}")
    first = [CallTool("read_file", {"path": "notes.txt"}), CallTool("memory_append", {"entry": "likes tea"}), Finish()]
    async with open_fault_server(first, [Say("Rain."), Finish()]) as server:
        with NothingBlocks():
            async with (
                OpenAICompatible("somebody", base_url=server.url, model="m") as provider,
                open_agent(
                    ["somebody/m"],
                    providers={"somebody": provider},
                    workspace=tmp_path,
                    store=store,
                    config=config,
                    tools=["read_files", "memory", "skills"],
                ) as agent,
            ):
                assert (await agent.ask("What is in my notes?")).text == "Rain."
                async with agent.stream("And again?") as answer:
                    async for _ in answer:
                        pass
                # Over the bus, for somebody with no permissions but to ask.
                await agent.bus.publish_inbound(
                    InboundMessage(channel="chat", sender_id="ana", chat_id="1", content="And now?")
                )
                async for reply in agent.bus.outbound("chat"):
                    if reply.kind == "final":
                        break
    assert "likes tea" in (tmp_path / "memory" / "MEMORY.md").read_text()
