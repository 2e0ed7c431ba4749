"""The commands of a chat, in this process: what each prints, and what it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import StringIO

import pytest

from clawft_trio import open_agent, tool
from clawft_trio.agent.sessions import Sessions
from clawft_trio.attempts import Usage
from clawft_trio.chat import Message, ToolCall
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.conversation import Conversation, new_name
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.signals import Interrupts
from clawft_trio.cli.slash import run_slash_command
from clawft_trio.errors import ClawftError, InvalidData
from clawft_trio.observe import TaskClock
from clawft_trio.testing import Finish, Say, ScriptedProvider


@tool(mode="read_only")
async def look(place: str) -> str:
    """Look at a place.

    It may be far away.
    """
    return place


class Chat:
    """A conversation with a scripted model, and what it prints."""

    def __init__(self, conversation: Conversation, written: StringIO) -> None:
        self.conversation = conversation
        self._written = written

    def printed(self) -> str:
        text = self._written.getvalue()
        self._written.seek(0)
        self._written.truncate()
        return text

    async def rows(self, line: str) -> list[str]:
        """What the command prints: its lines, with single spaces."""
        assert await run_slash_command(self.conversation, line)
        return [" ".join(row.split()) for row in self.printed().splitlines()]


@asynccontextmanager
async def open_chat(*, tools: bool = True, usage: Usage | None = None) -> AsyncGenerator[Chat, None]:
    model = ScriptedProvider([Say("Hello."), Finish(usage=usage)], name="s")
    written = StringIO()
    with TaskClock.running() as clock:
        async with open_agent(["s/m"], providers={"s": model}, tools=[look] if tools else []) as agent:
            conversation = Conversation(
                agent,
                Chosen(),
                name="first",
                transcript=None,
                console=SafeConsole(file=written, width=200),
                interrupts=Interrupts(),
                clock=clock,
            )
            yield Chat(conversation, written)


async def test_leaving_ends_the_chat_and_an_unknown_command_is_an_error() -> None:
    async with open_chat() as chat:
        for line in ("/quit", "/exit", "/chat:quit", "/quit now"):
            assert await run_slash_command(chat.conversation, line) is False
        with pytest.raises(InvalidData, match=r"did you mean /help\?"):
            await run_slash_command(chat.conversation, "/hlp")
        with pytest.raises(InvalidData, match="/help lists them"):
            await run_slash_command(chat.conversation, "/zzzzzzzz")
        assert chat.printed() == ""


async def test_help_lists_every_command_with_its_argument() -> None:
    async with open_chat() as chat:
        rows = await chat.rows("/help")
        words = [row.split()[0] for row in rows]
        assert words[:8] == ["/help", "/new", "/sessions", "/history", "/model", "/tools", "/cost", "/tree"]
        assert "/history [COUNT] Print the last messages." in rows
        assert "/tools List the tools that the model may call." in rows
        assert "/quit, /exit Leave; so does Ctrl-D." in rows
        assert rows == await chat.rows("/chat:help")


async def test_a_new_session_begins_or_continues_by_its_name() -> None:
    async with open_chat() as chat:
        await chat.conversation.ask("hi")
        assert chat.printed() == "Hello.\n"
        assert await chat.rows("/new second") == ["Session second: 0 messages so far."]
        assert chat.conversation.session == "local:second"
        assert await chat.rows("/new first") == ["Session first: 2 messages so far."]
        await chat.rows("/new")
        assert chat.conversation.name.startswith(f"chat-{datetime.now(UTC):%Y}")
    assert len(new_name()) == len("chat-20260101-000000")


async def test_sessions_are_listed_with_a_mark_at_this_one() -> None:
    async with open_chat() as chat:
        assert await chat.rows("/sessions") == ["No sessions yet."]
        await chat.conversation.ask("hi")
        chat.conversation.name = "second"
        await chat.conversation.ask("hi")
        chat.printed()
        rows = await chat.rows("/sessions")
    assert sorted(row.partition(" 2 messages ")[0] for row in rows) == ["* second", "first"]
    assert all(row.endswith(" UTC") and f"{datetime.now(UTC):%Y}-" in row for row in rows)
    assert {len(row.partition(" 2 messages ")[2]) for row in rows} == {len("2026-01-01 00:00 UTC")}


async def test_history_prints_the_last_messages_as_many_as_are_asked_for() -> None:
    async with open_chat() as chat:
        sessions = chat.conversation
        for _ in range(11):
            await sessions.ask("a question")
        chat.printed()
        assert await chat.rows("/history 1") == ["assistant: Hello."]
        assert await chat.rows("/history 3") == ["assistant: Hello.", "user: a question", "assistant: Hello."]
        assert len(await chat.rows("/history")) == 20
        assert len(await chat.rows("/history 99")) == 22
        for bad in ("0", "-1", "many", "1.5"):
            with pytest.raises(InvalidData, match="how many messages"):
                await run_slash_command(sessions, f"/history {bad}")


async def test_a_message_of_the_history_is_cut_and_names_its_calls() -> None:
    async with open_chat() as chat:
        call, other = ToolCall(id="1", name="look"), ToolCall(id="2", name="see")
        await Sessions(chat.conversation.agent.parts.store).append(
            chat.conversation.session,
            [
                Message.user("x" * 500),
                Message.user("x" * 501),
                Message.assistant("I look.", tool_calls=(call,)),
                Message.tool("a\n  b", tool_call_id="1"),
                Message.assistant("", tool_calls=(other,)),
                Message.tool("c", tool_call_id="2"),
                Message.user("a\n b"),
            ],
        )
        await run_slash_command(chat.conversation, "/history")
        assert chat.printed().splitlines() == [
            "user: " + "x" * 500,
            "user: " + "x" * 497 + "...",
            "assistant: I look. [calls look]",
            "tool: a b",
            "assistant: [calls see]",
            "tool: c",
            *("user: a", " b"),
        ]


async def test_tools_are_listed_with_the_first_line_of_their_description() -> None:
    async with open_chat() as chat:
        assert await chat.rows("/tools") == ["look Look at a place."]
    async with open_chat(tools=False) as chat:
        assert await chat.rows("/tools") == ["No tools: give it a --workspace, or MCP servers."]


async def test_the_model_of_the_next_messages_is_chosen_if_it_can_be_reached() -> None:
    async with open_chat() as chat:
        assert await chat.rows("/model") == ["The next messages go to the configured models."]
        assert await chat.rows("/model s/other") == ["The next messages go to s/other."]
        assert await chat.rows("/model") == ["The next messages go to s/other."]
        with pytest.raises(ClawftError):
            await run_slash_command(chat.conversation, "/model nothing/m")
        assert chat.conversation.model == "s/other"


async def test_the_cost_of_the_chat_is_a_row_for_each_model() -> None:
    async with open_chat(usage=Usage(input_tokens=1, output_tokens=5)) as chat:
        assert await chat.rows("/cost") == ["Nothing was spent yet."]
        await chat.conversation.ask("hi")
        chat.printed()
        assert await chat.rows("/cost") == ["s/m 1 attempt 1 token in, 5 out unpriced"]


async def test_the_tree_names_the_tasks_of_the_program() -> None:
    async with open_chat() as chat:
        assert any("test_the_tree" in row for row in await chat.rows("/tree"))


async def test_a_question_without_an_answer_is_counted_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_chat() as chat:
        chat.conversation.model = "nothing/m"
        await chat.conversation.ask("hi")
        assert chat.conversation.unanswered == 1
    assert "nothing" in capsys.readouterr().err
