"""`clawft-trio chat`, on a real terminal and through a pipe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli.program import run, run_on_terminal
from cli.terminal import _CODES, open_terminal

from clawft_trio.testing import CallTool, Finish, Hang, ResetConnection, Say, Status, Wait, open_fault_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals")

PROMPT = "\n> "


async def test_ctrl_c_stops_the_answer_and_the_next_question_is_answered(tmp_path: Path) -> None:
    store = str(tmp_path / "agent.db")
    scripts = ([Say("Once upon a "), Hang()], [Say("The end."), Finish()])
    async with (
        open_fault_server(*scripts) as server,
        open_terminal("chat", "--base-url", server.url, "-m", "m", "--store", store, "--session", "tale") as terminal,
    ):
        await terminal.see(PROMPT)
        await terminal.type("Tell me a tale.\n")
        await terminal.see("Once upon a")
        await terminal.type("\x03")
        await terminal.see("■ stopped")
        await server.wait_for(lambda now: now.connections_open == 0)
        await terminal.see(PROMPT)
        await terminal.type("How does it end?\n")
        await terminal.see("The end.")
        await terminal.see(PROMPT)
        await terminal.type("\x04")
        assert await terminal.end() == 0
        assert "--session tale" in terminal.text
    # What had been read of the stopped answer is a part of the conversation.
    said = [(one["role"], one["content"]) for one in server.requests[1].body["messages"]]
    assert said == [("user", "Tell me a tale."), ("assistant", "Once upon a "), ("user", "How does it end?")]


async def test_a_second_ctrl_c_at_the_prompt_leaves_and_a_line_in_between_does_not() -> None:
    async with (
        open_fault_server([Say("Hello."), Finish()]) as server,
        open_terminal("chat", "--base-url", server.url, "-m", "m") as terminal,
    ):
        await terminal.see(PROMPT)
        await terminal.type("half a que\x03")
        await terminal.see("Ctrl-C again")
        await terminal.see(PROMPT)
        await terminal.type("hi\n")
        await terminal.see("Hello.")
        await terminal.see(PROMPT)
        for _ in range(2):
            await terminal.type("\x03")
            await terminal.see("Ctrl-C again")
        assert await terminal.end() == 0
    assert [request.body["messages"][-1]["content"] for request in server.requests] == ["hi"]


async def test_a_session_is_gone_on_with(tmp_path: Path) -> None:
    store = str(tmp_path / "agent.db")
    async with open_fault_server([Say("Hello Ana."), Finish()], [Say("Ana."), Finish()]) as server:
        options = ("chat", "--base-url", server.url, "-m", "m", "--store", store, "--session", "ana")
        first = await run(*options, stdin=b"I am Ana.\n")
        assert (first.returncode, first.stdout) == (0, b"Hello Ana.\n")
        async with open_terminal(*options) as terminal:
            await terminal.see("2 messages so far")
            await terminal.see(PROMPT)
            await terminal.type("/history\n")
            assert "assistant: Hello Ana." in await terminal.see(PROMPT)
            await terminal.type("Who am I?\n")
            await terminal.see("Ana.")
            await terminal.see(PROMPT)
            await terminal.type("/quit\n")
            assert await terminal.end() == 0
    assert len(server.requests[1].body["messages"]) == 3


async def test_tools_retries_and_text_taken_back_are_shown_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain on Monday")
    scripts = (
        [Say("It is su"), ResetConnection()],
        [CallTool("read_file", {"path": "notes.txt"}), Finish()],
        [Say("It rains."), Finish()],
    )
    config = tmp_path / "config.json"
    config.write_text('{"retry": {"base_delay_ms": 50}}')
    async with (
        open_fault_server(*scripts) as server,
        open_terminal(
            "chat", "--base-url", server.url, "-m", "m", "--workspace", str(tmp_path), "--config", str(config)
        ) as terminal,
    ):
        await terminal.see(PROMPT)
        await terminal.type("What does the weather do?\n")
        await terminal.see("taken back: TransportFailed at server/m")
        shown = await terminal.see(PROMPT)
        await terminal.type("\x04")
        await terminal.end()
    last = shown.rpartition("taken back")[2]
    assert last.index("↻ TransportFailed") < last.index("✓ read_file") < last.index("It rains.")


async def test_a_silent_model_is_waited_for_in_words() -> None:
    async with (
        open_fault_server([Wait(2), Say("At last."), Finish()]) as server,
        open_terminal("chat", "--base-url", server.url, "-m", "m") as terminal,
    ):
        await terminal.see(PROMPT)
        await terminal.type("hi\n")
        await terminal.see("… waiting for the model ")
        shown = await terminal.see(PROMPT)
        assert "At last." in shown
        assert "waiting" not in shown.rpartition("At last.")[2]


async def test_the_commands_of_a_chat(tmp_path: Path) -> None:
    async with (
        open_fault_server([Say("Hello."), Finish()]) as server,
        open_terminal(
            "chat", "--base-url", server.url, "-m", "m", "--store", str(tmp_path / "s.db"), "--workspace", str(tmp_path)
        ) as terminal,
    ):

        async def message(line: str) -> str:
            await terminal.see(PROMPT)
            await terminal.type(f"{line}\n")
            return await terminal.see(f"{line}\n")

        async def after(line: str, words: str) -> None:
            await message(line)
            await terminal.see(words)

        await after("/help", "Choose the model for the next messages.")
        await after("/tools", "read_file")
        await after("/model other", "The next messages go to server/other.")
        await after("hi", "Hello.")
        await after("/cost", "server/other")
        await after("/tree", "waits")
        await after("/new trip", "Session trip: 0 messages so far.")
        await after("/sessions", "2 messages")
        await after("/hlep", "did you mean /help?")
        await after("/model nobody/x", "The next messages go to server/nobody/x.")
        await after("/history many", "expected how many messages")
        await after("//etc is a folder", "Hello.")
        await after("two \\", "…")
        await terminal.type("lines\n")
        await terminal.see("Hello.")
    assert server.requests[0].model == "other"
    assert [request.body["messages"][-1]["content"] for request in server.requests[1:]] == [
        "/etc is a folder",
        "two \nlines",
    ]


@pytest.mark.parametrize("columns", [30, 8])
async def test_a_narrow_terminal_gets_every_word(columns: int) -> None:
    words = [f"word{number}" for number in range(30)]
    async with (
        open_fault_server([*(Say(f"{word} ") for word in words), Finish()]) as server,
        open_terminal("chat", "--base-url", server.url, "-m", "m", columns=columns) as terminal,
    ):
        await terminal.see(PROMPT)
        await terminal.type("hi\n")
        shown = await terminal.see(PROMPT)
        await terminal.type("/help\n")
        await terminal.see(PROMPT)
    last = shown.rpartition("word0")[2]
    assert [word for word in words[1:] if word not in last] == []


async def test_no_color_means_none() -> None:
    async with (
        open_fault_server([Status(500)], [Say("Hello."), Finish()]) as server,
        open_terminal("chat", "--base-url", server.url, "-m", "m", env={"NO_COLOR": "1"}) as terminal,
    ):
        await terminal.see(PROMPT)
        await terminal.type("hi\n")
        await terminal.see("Hello.")
        await terminal.see(PROMPT)
        await terminal.type("\x04")
        await terminal.end()
    assert "\x1b[3" not in terminal.raw.replace("\x1b[3m", "")


async def test_through_a_pipe_each_line_is_a_message_and_each_answer_is_plain() -> None:
    scripts = ([Say("It is su"), ResetConnection()], [Say("One."), Finish()], [Say("Two."), Finish()])
    async with open_fault_server(*scripts) as server:
        done = await run("chat", "--base-url", server.url, "-m", "m", stdin=b"first\n\nsecond")
    # What was taken back was never printed, and the last line needs no end.
    assert (done.returncode, done.stdout) == (0, b"One.\nTwo.\n")
    assert len(server.requests[2].body["messages"]) == 3


async def test_a_message_without_an_answer_is_told_and_the_next_is_answered() -> None:
    async with open_fault_server([Status(400, message="no")], [Say("Two."), Finish()]) as server:
        done = await run("chat", "--base-url", server.url, "-m", "m", stdin=b"first\nsecond\n")
    assert (done.returncode, done.stdout) == (1, b"Two.\n")
    assert b"RequestRejected" in done.stderr


async def test_a_file_is_read_as_a_pipe_is(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_bytes(b"first\r\nsecond\r\n")
    async with open_fault_server([Say("Yes."), Finish()]) as server:
        with path.open("rb") as file:
            done = await run("chat", "--base-url", server.url, "-m", "m", stdin=file.fileno())
    assert done.stdout == b"Yes.\nYes.\n"
    assert server.requests[0].body["messages"][-1]["content"] == "first"


async def test_a_session_without_a_store_is_refused() -> None:
    done = await run("chat", "--base-url", "http://127.0.0.1:9/v1", "--session", "x")
    assert done.returncode == 2
    assert b"--store" in done.stderr


async def test_a_chat_greets_and_says_how_to_go_on(tmp_path: Path) -> None:
    async def shown(*options: str, typed: str) -> list[str]:
        env = {"TERM": "xterm", "LANG": "C.UTF-8"}
        chat = ("chat", "--base-url", server.url, "-m", "m", *options)
        written = await run_on_terminal(*chat, columns=90, env=env, typed=typed)
        return [line.rstrip() for line in _CODES.sub("", written.decode()).replace("\r", "").split("\n")]

    def asked() -> list[str]:
        return [request.body["messages"][-1]["content"] for request in server.requests]

    kept = ("--store", str(tmp_path / "s.db"), "--session", "trip")
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        lines = await shown(*kept, typed="hi\n\ntwo \\\nlines\n//etc\n\x04")
        assert "Session trip. /help lists the commands; Ctrl-D leaves." in lines
        assert lines[-2:] == ["To go on: --session trip", ""]
        assert asked() == ["hi", "two \nlines", "/etc"]
        lines = await shown(*kept, typed="/hlep\n/history 2\n/quit\nnot read\n")
        assert "Session trip, 6 messages so far. /help lists the commands; Ctrl-D leaves." in lines
        assert any("did you mean /help?" in line for line in lines)
        assert sum("assistant: Hello." in line for line in lines) == 1
        # Without a store nothing can be continued.
        lines = await shown(typed="unfinished \\\n\x04")
        assert not any("To go on" in line for line in lines)
    assert asked()[3:] == ["unfinished"]


async def test_a_command_that_cannot_be_obeyed_counts_as_unanswered_in_a_pipe() -> None:
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        options = ("chat", "--base-url", server.url, "-m", "m")
        wrong = await run(*options, stdin=b"/history many\nhi\n")
        assert (wrong.returncode, wrong.stdout) == (1, b"Hello.\n")
        fine = await run(*options, stdin=b"/quit\nhi\n")
        assert (fine.returncode, fine.stdout) == (0, b"")
