from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from context.skill_files import skill_md, write, write_skill
from hypothesis import given, settings, strategies as st

from clawft_trio.chat import Image, Message, ToolCall
from clawft_trio.context import BOOTSTRAP_FILES, ContextBuilder, Memory, Skills
from clawft_trio.files import FileCache
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.testing.sweep import cancel_everywhere

LATER = datetime(9000, 1, 1, tzinfo=UTC)


async def test_without_any_file_the_agent_introduces_itself(tmp_path):
    prompt = await ContextBuilder(tmp_path).build_system_prompt()
    assert prompt.startswith("You are clawft")
    assert str(tmp_path) in prompt


@pytest.mark.parametrize("name", ["SOUL.md", "IDENTITY.md"])
async def test_an_identity_file_replaces_the_introduction(tmp_path, name):
    write(tmp_path / name, "I am Ferdinand.")
    prompt = await ContextBuilder(tmp_path).build_system_prompt()
    assert prompt.startswith(f"## {name}\n\nI am Ferdinand.")
    assert "clawft" not in prompt.replace(str(tmp_path), "")


async def test_guides_alone_do_not_replace_the_introduction(tmp_path):
    write(tmp_path / "AGENTS.md", "Be brief.")
    prompt = await ContextBuilder(tmp_path).build_system_prompt()
    assert prompt.startswith("You are clawft") and "## AGENTS.md\n\nBe brief." in prompt


async def test_files_come_in_their_order_with_memory_last(tmp_path):
    for name in ("TOOLS.md", "AGENTS.md", "SOUL.md", "USER.md", "IDENTITY.md", "memory/MEMORY.md"):
        write(tmp_path / name, f"text of {name}")
    cache = FileCache()
    builder = ContextBuilder(tmp_path, cache=cache, memory=Memory(tmp_path, cache))
    titles = [part.title for part in (await builder.explain()).parts]
    assert titles == ["SOUL.md", "IDENTITY.md", "Configuration", "AGENTS.md", "USER.md", "TOOLS.md", "Memory"]


async def test_the_first_place_that_is_not_blank_wins(tmp_path):
    write(tmp_path / "SOUL.md", " \n\t\n")
    write(tmp_path / ".clawft" / "SOUL.md", "from the hidden folder")
    write(tmp_path / "USER.md", "from the top")
    write(tmp_path / ".clawft" / "USER.md", "never read")
    explained = await ContextBuilder(tmp_path).explain()
    assert "from the hidden folder" in explained.text and "from the top" in explained.text
    assert "never read" not in explained.text
    assert explained.problems == (f"{tmp_path / 'SOUL.md'}: empty",)


async def test_unusable_files_are_reported_and_the_next_place_is_tried(tmp_path):
    write(tmp_path / "SOUL.md", b"\xff\xfe")
    write(tmp_path / ".clawft" / "SOUL.md", "fallback")
    write(tmp_path / "AGENTS.md", "x" * 2_000_000)
    write(tmp_path / ".clawft" / "AGENTS.md", "x" * 200_000)
    (tmp_path / "USER.md").mkdir()
    write(tmp_path / "TOOLS.md", "a<|im_end|>b")
    write(tmp_path / "IDENTITY.md", "<system></system>")
    explained = await ContextBuilder(tmp_path).explain()
    assert [part.title for part in explained.parts] == ["SOUL.md", "Configuration", "TOOLS.md"]
    assert "fallback" in explained.text and "## TOOLS.md\n\nab" in explained.text
    assert explained.problems == (
        f"{tmp_path / 'SOUL.md'}: not UTF-8 at byte 0",
        f"{tmp_path / 'IDENTITY.md'}: 2 control tokens removed",
        f"{tmp_path / 'IDENTITY.md'}: empty",
        f"{tmp_path / 'AGENTS.md'}: 2000000 bytes are more than 1048576",
        f"{tmp_path / '.clawft' / 'AGENTS.md'}: 200000 bytes are more than 131072",
        f"{tmp_path / 'USER.md'}: a folder",
        f"{tmp_path / 'TOOLS.md'}: 1 control tokens removed",
    )


def whole(tmp_path, **options):
    """A workspace with everything, and its builder."""
    for name in BOOTSTRAP_FILES:
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "memory" / "MEMORY.md", "Ana likes tea.")
    write_skill(tmp_path / "skills", "greet", "Greet $ARGUMENTS.", description="How to greet", user_invocable=True)
    write_skill(tmp_path / "skills", "secret", disable_model_invocation=True, user_invocable=False)
    cache = FileCache(now=lambda: LATER, **options)
    skills = Skills(cache, user=tmp_path / "skills")
    return cache, ContextBuilder(tmp_path, cache=cache, skills=skills, memory=Memory(tmp_path, cache))


async def test_unchanged_files_give_the_same_text_for_one_visit_and_no_reading(tmp_path):
    cache, builder = whole(tmp_path)
    first = await builder.build_system_prompt()
    before = cache.statistics()
    second = await builder.build_system_prompt()
    after = cache.statistics()
    assert second is first
    assert (after.reads, after.hops) == (before.reads, before.hops + 1)


async def test_a_new_builder_gives_the_same_bytes(tmp_path):
    _, builder = whole(tmp_path)
    _, other = whole(tmp_path)
    assert await builder.build_system_prompt() == await other.build_system_prompt()


async def test_within_the_window_of_freshness_nothing_is_asked(tmp_path):
    cache, builder = whole(tmp_path, fresh_for=60.0)
    first = await builder.build_system_prompt()
    before = cache.statistics()
    assert await builder.build_system_prompt() is first
    assert cache.statistics().stats == before.stats and cache.statistics().hops == before.hops


@pytest.mark.parametrize(
    "name",
    ["SOUL.md", "TOOLS.md", ".clawft/USER.md", "memory/MEMORY.md", "skills/greet/SKILL.md", "skills/new/SKILL.md"],
)
async def test_any_change_is_in_the_next_prompt(tmp_path, name):
    _, builder = whole(tmp_path)
    write(tmp_path / "USER.md", " ")
    before = await builder.build_system_prompt()
    write(tmp_path / name, skill_md("new", description="NEWS") if name.startswith("skills") else "NEWS")
    assert "NEWS" not in before and "NEWS" in await builder.build_system_prompt()


async def test_what_is_deleted_is_gone_from_the_next_prompt(tmp_path):
    _, builder = whole(tmp_path)
    await builder.build_system_prompt()
    for path in (tmp_path / "SOUL.md", tmp_path / "memory" / "MEMORY.md", tmp_path / "skills" / "greet" / "SKILL.md"):
        path.unlink()
    titles = [part.title for part in (await builder.explain()).parts]
    assert titles == ["IDENTITY.md", "Configuration", "AGENTS.md", "USER.md", "TOOLS.md"]


async def test_what_came_and_went_is_not_looked_at_for_ever(tmp_path):
    cache, builder = whole(tmp_path)
    await builder.build_system_prompt()

    async def looks():
        before = cache.statistics().stats
        await builder.build_system_prompt()
        return cache.statistics().stats - before

    usual = await looks()
    for number in range(20):
        path = write_skill(tmp_path / "skills", f"guest-{number}")
        await builder.build_system_prompt()
        path.unlink()
        path.parent.rmdir()
        await builder.build_system_prompt()
    # The last guest may still be among them.
    assert await looks() <= usual + 3


async def test_the_model_is_told_of_skills_and_how_to_load_them(tmp_path):
    _, builder = whole(tmp_path)
    prompt = await builder.build_system_prompt()
    assert "- greet: How to greet" in prompt and "`load_skill`" in prompt
    assert "secret" not in prompt and "Greet $ARGUMENTS" not in prompt


async def test_the_parts_are_the_prompt_with_source_and_tokens(tmp_path):
    _, builder = whole(tmp_path)
    explained = await builder.explain()
    assert explained.text == "\n\n---\n\n".join(part.text for part in explained.parts)
    assert explained.text == await builder.build_system_prompt()
    assert explained.parts[0].source == str(tmp_path / "SOUL.md")
    assert explained.parts[-1].source == str(tmp_path / "memory" / "MEMORY.md")
    for part in explained.parts:
        assert part.tokens == -(-len(part.text.encode()) // 4)
    assert explained.tokens == -(-len(explained.text.encode()) // 4)


async def test_messages_are_the_prompt_the_history_and_the_question(tmp_path):
    _, builder = whole(tmp_path)
    call = ToolCall(id="1", name="read_file")
    history = (
        Message.user("before"),
        Message.assistant("", tool_calls=(call,)),
        Message.tool("text", tool_call_id="1"),
    )
    system, *said, asked = await builder.build_messages(history, "now?")
    whole_prompt = await builder.build_system_prompt()
    assert tuple(said) == history
    assert asked.text.startswith("now?\n\n## Memory\n\n")
    # The notes stand behind what stays the same, and only there.
    assert whole_prompt == f"{system.text}\n\n---\n\n{asked.text.removeprefix('now?').strip()}"
    image = Image(url="https://example.org/a.png")
    assert (await builder.build_messages([asked], Message.user("look", image)))[-1] == Message.user("look", image)


async def test_notes_come_with_a_message_when_they_have_changed(tmp_path):
    cache = FileCache()
    memory = Memory(tmp_path, cache)
    builder = ContextBuilder(tmp_path, cache=cache, memory=memory)
    history = []
    told = []
    for number, note in enumerate(["Ana is a vegetarian.", "", "Ana lives in Oslo.", ""]):
        if note:
            await memory.append(note)
        system, *_, asked = await builder.build_messages(history, f"q{number}")
        history += [asked, Message.assistant("a")]
        told.append(asked.text)
    assert [("vegetarian" in text, "Oslo" in text) for text in told] == [
        (True, False),
        (False, False),
        (True, True),
        (False, False),
    ]
    assert "vegetarian" not in system.text
    (tmp_path / "memory" / "MEMORY.md").unlink()
    assert "There are no notes any more." in (await builder.build_messages(history, "q"))[-1].text
    # Where the notes were cut out of what the model is shown, they come again.
    assert (await builder.build_messages([], "q"))[-1] == Message.user("q")


async def test_of_the_prompts_that_are_kept_the_least_used_goes_first(tmp_path):
    cache = FileCache()
    memory = Memory(tmp_path, cache, per_sender=True)
    builder = ContextBuilder(tmp_path, cache=cache, memory=memory)
    first = await builder.explain(sender="chat:first")
    for number in range(63):
        await builder.build_system_prompt(sender=f"chat:{number}")
    assert await builder.explain(sender="chat:first") is first
    for number in range(100, 163):
        await builder.build_system_prompt(sender=f"chat:{number}")
    assert await builder.explain(sender="chat:first") is first


async def test_a_skill_that_the_user_starts_comes_with_the_message(tmp_path):
    _, builder = whole(tmp_path)
    messages = await builder.build_messages([], "/greet Ana")
    assert messages[-1].text.startswith("/greet Ana\n\n# Skill: greet\n\nGreet Ana.")
    assert "Skill" not in (await builder.build_messages([], "/secret"))[-1].text


async def test_the_preapproval_of_a_turn_follows_its_messages(tmp_path):
    _, builder = whole(tmp_path)
    write_skill(tmp_path / "skills", "careful", allowed_tools=["Write"])
    messages = await builder.build_messages([], "/careful now")
    assert builder.preapproval(messages).approves("write_file", {"path": "a"})
    assert not builder.preapproval(messages).approves("run_command", {"argv": ["ls"]})
    later = await builder.build_messages(messages, "thanks")
    assert not builder.preapproval(later).approves("write_file", {"path": "a"})
    assert not ContextBuilder(tmp_path).preapproval(messages).approves("write_file", {"path": "a"})


@pytest.mark.parametrize(
    ("files", "used"),
    [
        (("AGENTS.md", "CLAUDE.md", "GEMINI.md"), "AGENTS.md"),
        ((".clawft/AGENTS.md", "CLAUDE.md"), ".clawft/AGENTS.md"),
        (("CLAUDE.md", "GEMINI.md"), "CLAUDE.md"),
        ((".claude/CLAUDE.md", "GEMINI.md"), ".claude/CLAUDE.md"),
        (("GEMINI.md",), "GEMINI.md"),
    ],
)
async def test_the_instructions_of_other_programs_are_used_where_agents_md_is_missing(tmp_path, files, used):
    for file in files:
        write(tmp_path / file, f"text of {file}")
    explained = await ContextBuilder(tmp_path).explain()
    assert [part.source for part in explained.parts if "text of" in part.text] == [str(tmp_path / used)]
    assert f"## {Path(used).name}\n\ntext of {used}" in explained.text


async def test_each_sender_is_told_their_own_notes(tmp_path):
    cache = FileCache()
    memory = Memory(tmp_path, cache, per_sender=True)
    builder = ContextBuilder(tmp_path, cache=cache, memory=memory)
    for number in range(80):
        await memory.append(f"note of {number}.", f"chat:{number}")
    for number in [*range(80), *range(80)]:
        prompt = await builder.build_system_prompt(sender=f"chat:{number}")
        assert prompt.count("note of") == 1 and f"note of {number}." in prompt
    assert "note of" not in await builder.build_system_prompt()


async def test_prompts_at_once_share_their_looks(tmp_path):
    cache, builder = whole(tmp_path)
    await builder.build_system_prompt()
    before = cache.statistics()
    texts = []

    async def build():
        texts.append(await builder.build_system_prompt())

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(build)
    assert len(texts) == 50 and len(set(texts)) == 1
    assert cache.statistics().hops == before.hops + 1


async def test_cancelled_at_any_step_the_next_prompt_is_whole(tmp_path):
    cache, builder = whole(tmp_path)
    expected = await builder.build_system_prompt()
    changed = expected.replace("text of SOUL.md", "another")

    async def operation():
        write(tmp_path / "SOUL.md", "another")
        await builder.build_messages([], "hello")

    async def check():
        assert await builder.build_system_prompt() == changed
        write(tmp_path / "SOUL.md", "text of SOUL.md")
        assert await builder.build_system_prompt() == expected
        assert not cache._flights

    assert await cancel_everywhere(operation, check) > 3


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*BOOTSTRAP_FILES, *(f".clawft/{name}" for name in BOOTSTRAP_FILES)]),
            st.sampled_from(["", " \n", "one", "two", "\xff", "<|im_end|>", None]),
        ),
        max_size=12,
    )
)
@in_mock_time
async def test_the_prompt_is_that_of_the_files_as_they_are(changes):
    with tempfile.TemporaryDirectory() as folder:
        builder = ContextBuilder(folder)
        for name, text in changes:
            path = Path(folder, name)
            path.unlink(missing_ok=True)
            if text is not None:
                write(path, text.encode("latin-1"))
            explained = await builder.explain()
            fresh = await ContextBuilder(folder).explain()
            assert explained == fresh
            for name in BOOTSTRAP_FILES:
                texts = [Path(folder, place, name) for place in ("", ".clawft")]
                usable = [p for p in texts if p.exists() and p.read_bytes() in (b"one", b"two")]
                part = [part for part in explained.parts if part.title == name]
                assert [p.source for p in part] == [str(p) for p in usable[:1]]
