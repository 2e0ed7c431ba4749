from __future__ import annotations

import pytest
from context.skill_files import write_skill

from clawft_trio.auth import AuthContext
from clawft_trio.context import LOAD_SKILL, Memory, Skills, memory_tools, skill_tool
from clawft_trio.errors import InvalidArguments, ToolFailed
from clawft_trio.files import FileCache
from clawft_trio.tools import ToolContext


def as_(sender):
    return ToolContext(auth=AuthContext(channel="chat", sender_id=sender))


async def test_a_skill_is_loaded_filled_in(tmp_path):
    write_skill(tmp_path, "greet", "Greet ${1} in ${city}.", variables=["city"], allowed_tools=["message"])
    load = skill_tool(Skills(FileCache(), user=tmp_path))
    assert load.name == LOAD_SKILL and load.metadata.mode == "read_only"
    said = await load.run({"name": "greet", "arguments": "Ana", "variables": {"city": "Oslo"}}, as_("x"))
    assert said.startswith("# Skill: greet\n\nGreet Ana in Oslo.")
    assert str(tmp_path / "greet") in said


async def test_a_skill_that_the_model_may_not_load_does_not_exist_for_it(tmp_path):
    write_skill(tmp_path, "deploy", disable_model_invocation=True)
    write_skill(tmp_path, "develop")
    load = skill_tool(Skills(FileCache(), user=tmp_path))
    with pytest.raises(ToolFailed, match="there is no skill 'deploy'; did you mean develop\\?"):
        await load.run({"name": "deploy"}, as_("x"))
    with pytest.raises(ToolFailed, match="there is no skill '../x'$"):
        await load.run({"name": "../x"}, as_("x"))


async def test_a_skill_that_was_just_written_can_be_loaded(tmp_path):
    load = skill_tool(Skills(FileCache(), user=tmp_path))
    write_skill(tmp_path, "new", "one")
    assert "one" in await load.run({"name": "new"}, as_("x"))
    write_skill(tmp_path, "new", "two")
    assert "two" in await load.run({"name": "new"}, as_("x"))


async def test_memory_tools_work_for_the_sender_who_asks(tmp_path):
    read, search, append = memory_tools(Memory(tmp_path, FileCache(), per_sender=True))
    assert await append.run({"entry": "likes tea"}, as_("ana")) == "Noted: likes tea"
    assert await read.run({}, as_("ana")) == "likes tea"
    assert await search.run({"query": "TEA"}, as_("ana")) == "likes tea"
    assert await read.run({}, as_("bob")) == "There are no notes yet."
    assert await search.run({"query": "tea"}, as_("bob")) == "No note has all of these words."


async def test_what_the_model_did_wrong_it_is_told(tmp_path):
    read, _, append = memory_tools(Memory(tmp_path, FileCache(), max_entry=10))
    with pytest.raises(InvalidArguments, match=r"\$.entry: 11 bytes; an entry may have 10"):
        await append.run({"entry": "x" * 11}, as_("ana"))
    with pytest.raises(InvalidArguments):
        await append.run({}, as_("ana"))
    (tmp_path / "memory" / "MEMORY.md").mkdir(parents=True)
    with pytest.raises(ToolFailed, match="a folder"):
        await read.run({}, as_("ana"))


async def test_the_tools_tell_the_model_what_they_do(tmp_path):
    cache = FileCache()
    tools = (skill_tool(Skills(cache)), *memory_tools(Memory(tmp_path, cache)))
    assert [tool.name for tool in tools] == ["load_skill", "memory_read", "memory_search", "memory_append"]
    for tool in tools:
        assert tool.description and "context" not in tool.parameters["properties"]
        assert all(one.get("description") for one in tool.parameters["properties"].values())
