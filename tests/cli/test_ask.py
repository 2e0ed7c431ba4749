"""`clawft-trio ask` outside a terminal and with its options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from cli.program import CLEAN, run
from cli.terminal import open_terminal

from clawft_trio.testing import Finish, Say, Status, Wait, open_fault_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes")


async def test_system_prompt_tokens_and_temperature_go_to_the_model() -> None:
    async with open_fault_server([Say("Ja."), Finish()]) as server:
        options = ["--system", "Answer in German.", "--max-tokens", "9", "--temperature", "0.25"]
        done = await run("ask", "Rain?", "--base-url", server.url, "-m", "m", *options)
        body = server.requests[-1].body
    assert done.stdout == b"Ja.\n"
    assert body["messages"][0]["content"] == "Answer in German."
    assert (body["max_tokens"], body["temperature"]) == (9, 0.25)


async def test_what_is_piped_in_is_added_to_the_question_and_is_bounded() -> None:
    async with open_fault_server([Say("Rain."), Finish()]) as server:
        done = await run("ask", "Sum up:", "--base-url", server.url, "-m", "m", stdin=b"rain on Monday\n")
        assert done.returncode == 0
        assert server.requests[-1].body["messages"][-1]["content"] == "Sum up:\n\nrain on Monday"
        large = await run("ask", "-", "--base-url", server.url, "-m", "m", stdin=b"x" * (5 << 20))
        assert len(server.requests) == 1
    assert large.returncode == 2
    assert b"standard input: more than 4194304 bytes" in large.stderr


async def test_piped_text_may_have_a_byte_order_mark_and_a_picture_is_refused() -> None:
    async with open_fault_server([Say("Rain."), Finish()]) as server:
        common = ["--base-url", server.url, "-m", "m"]
        for encoding in ("utf-16", "utf-8-sig"):
            done = await run("ask", "-", *common, stdin="Regen für Köln".encode(encoding))
            assert done.returncode == 0
            assert server.requests[-1].body["messages"][-1]["content"] == "Regen für Köln"
        picture = await run("ask", "What is this?", *common, stdin=b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
        assert len(server.requests) == 2
    assert picture.returncode == 2
    assert b"standard input: no text" in picture.stderr


async def test_a_session_continues_and_without_one_nothing_is_remembered(tmp_path: Path) -> None:
    async with open_fault_server([Say("Noted."), Finish()]) as server:
        common = ["--base-url", server.url, "-m", "m", "--store", str(tmp_path / "agent.db")]
        for session, expected in ((["--session", "trip"], 1), (["--session", "trip"], 3), ([], 1)):
            await run("ask", "And now?", *common, *session)
            assert len(server.requests[-1].body["messages"]) == expected
    refused = await run("ask", "And now?", "--base-url", "http://127.0.0.1:9/v1", "--session", "trip")
    assert refused.returncode == 2
    assert b"--store" in refused.stderr


async def test_retries_are_on_stderr_after_a_second_and_the_footer_counts_attempts() -> None:
    async with open_fault_server([Wait(1.5), Status(503)], [Say("Hello."), Finish()]) as server:
        slow = await run("ask", "hi", "--base-url", server.url, "-m", "m", env={"PYTHONIOENCODING": "ascii"})
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        quick = await run("ask", "hi", "--base-url", server.url, "-m", "m")
    assert slow.stdout == quick.stdout == b"Hello.\n"
    assert b"retry: ServerError" in slow.stderr
    assert b"1 round | 2 attempts" in slow.stderr
    assert "1 round · 1 attempt ·".encode() in quick.stderr
    assert b"retry" not in quick.stderr


async def test_stream_prints_text_before_the_answer_is_whole() -> None:
    async with open_fault_server([Say("Hel"), Wait(30), Say("lo."), Finish()]) as server:
        command = ["ask", "hi", "--base-url", server.url, "-m", "m", "--stream"]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "clawft_trio", *command],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=CLEAN,
        )
        assert process.stdout is not None
        try:
            with trio.fail_after(25):
                assert await process.stdout.receive_some(3) == b"Hel"
        finally:
            process.kill()
            await process.wait()
            await process.stdout.aclose()


async def test_on_a_terminal_the_options_work_too(tmp_path: Path) -> None:
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        command = ["ask", "hi", "--base-url", server.url, "-m", "m", "--workspace", str(tmp_path), "--tools", "files"]
        async with open_terminal(*command, columns=60) as terminal:
            assert await terminal.end() == 0
        names = {tool["function"]["name"] for tool in server.requests[-1].body["tools"]}
    assert "write_file" in names
    assert "memory_read" not in names
    assert "1 attempt" in " ".join(terminal.text.split())
