"""Real child processes: many calls at once, and every way in which a server can die or refuse to."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from clawft_trio.errors import CannotStart, PeerError, PeerGone, ProtocolViolation, RequestTimeout
from clawft_trio.mcp.connect import connect_mcp, open_mcp
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.transports.process import StdioServer
from clawft_trio.observe import Recorder, ServerGone, ServerOutput, ServerStarted
from clawft_trio.testing.mcp_server import scripted_server

QUICK = StdioServer(scripted_server(), eof_grace=0.5, term_grace=0.5)
ALONE = McpOptions(supervision=None, protocol="handshake")


def alive(pid):
    """Whether the process runs; a zombie that nobody collects does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_dead(pid):
    with trio.fail_after(5):
        while alive(pid):
            await trio.sleep(0.01)


async def text_of(client, tool, **arguments):
    return (await client.call_tool(tool, arguments)).text


async def test_a_real_server_is_greeted_listed_and_called():
    async with open_mcp(QUICK, name="files") as client:
        assert client.agreement.server.name == "scripted"
        assert client.agreement.protocol_version == "2025-11-25"
        assert "echo" in {tool.name for tool in await client.list_tools()}
        assert await text_of(client, "echo", text="blåbær\n\u2028") == "blåbær\n\u2028"
        with pytest.raises(PeerError) as caught:
            await client.call_tool("nonsense")
        assert caught.value.code == -32602
        assert await client.ping() < 5
        pid = int(await text_of(client, "pid"))
    assert not alive(pid)


async def test_100_concurrent_calls_answered_in_reverse_order_reach_their_callers():
    async with open_mcp(QUICK) as client:
        answers = {}

        async def hold(n):
            answers[n] = await text_of(client, "hold", text=f"answer {n}")

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for n in range(100):
                    nursery.start_soon(hold, n)
                assert await text_of(client, "release", reverse=True, count=100) == "100"
    assert answers == {n: f"answer {n}" for n in range(100)}


async def test_a_delegator_makes_many_calls_through_one_client_and_cancelling_one_leaves_the_others_alone():
    async with open_mcp(QUICK) as client:
        answers = []

        async def delegate(n):
            answers.append(await text_of(client, "echo", text=str(n)))

        async with trio.open_nursery() as turn:
            doomed = trio.CancelScope()

            async def cancelled_one():
                with doomed:
                    await client.call_tool("sleep", {"seconds": 600})

            turn.start_soon(cancelled_one)
            for n in range(12):
                turn.start_soon(delegate, n)
            while len(answers) < 12:
                await trio.sleep(0.001)
            doomed.cancel(reason="the turn was stopped")
        assert sorted(map(int, answers)) == list(range(12))
        assert doomed.cancelled_caught
        seen = json.loads(await text_of(client, "seen"))
        assert [m["params"]["requestId"] for m in seen if m["method"] == "notifications/cancelled"]
        assert client.statistics().in_flight == 0


async def test_calls_in_flight_when_the_server_dies_fail_with_its_exit_code_and_last_words():
    async with open_mcp(QUICK, name="files", options=ALONE) as client:
        errors = []

        async def doomed():
            with pytest.raises(PeerGone) as caught:
                await client.call_tool("sleep", {"seconds": 600})
            errors.append(caught.value)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(doomed)
                while client.statistics().in_flight < 10:
                    await trio.sleep(0.001)
                with pytest.raises(PeerGone):
                    await client.call_tool("die", {"code": 3, "words": "Traceback\nout of cheese"})
        assert {(error.exit_code, error.server) for error in errors} == {(3, "files")}
        assert all("exited with code 3" in str(error) and "out of cheese" in str(error) for error in errors)
        assert errors[0].stderr == "Traceback\nout of cheese"
        with pytest.raises(PeerGone) as caught:
            await client.call_tool("echo", {"text": "anybody there?"})
        assert caught.value.exit_code == 3


async def test_a_server_that_dies_at_start_says_why():
    with pytest.raises(PeerGone) as caught:
        async with open_mcp(scripted_server("--die", "7", "--words", "no such database"), name="db"):
            raise AssertionError("it cannot have started")
    assert caught.value.exit_code == 7
    assert caught.value.stderr == "no such database"
    assert "exited with code 7" in str(caught.value)


async def test_a_signal_that_killed_the_server_has_its_name():
    async with open_mcp(QUICK, options=ALONE) as client:
        os.kill(int(await text_of(client, "pid")), signal.SIGKILL)
        with pytest.raises(PeerGone, match="SIGKILL") as caught:
            await client.call_tool("sleep", {"seconds": 600})
        assert caught.value.exit_code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("http://127.0.0.1:9/mcp", "a server over HTTP is HttpServer"),
        ("python server.py", "a command with arguments is a list"),
    ],
)
async def test_a_command_that_is_none_gets_a_hint(command: str, hint: str) -> None:
    with pytest.raises(CannotStart, match=hint):
        async with open_mcp(command):
            raise AssertionError("it was opened")


@pytest.mark.parametrize("command", ["no-such-program-anywhere", "/etc/passwd"])
async def test_a_command_that_cannot_be_run_is_named(command):
    with pytest.raises(CannotStart, match=command):
        async with open_mcp([command, "-y"]):
            raise AssertionError("it cannot have started")


@pytest.mark.parametrize("command", [(), [], "", ["", "x"], ["x", 7]])
def test_a_command_without_a_program_is_refused(command):
    with pytest.raises(ValueError, match="command"):
        StdioServer(command)


async def test_a_server_that_never_answers_times_out_and_is_ended():
    server = StdioServer(scripted_server("--silent", "--ignore-term"), eof_grace=0.1, term_grace=0.1)
    with trio.fail_after(10), pytest.raises(RequestTimeout, match="initialize"):
        async with open_mcp(server, options=McpOptions(start=1.0)):
            raise AssertionError("it cannot have started")


async def test_a_banner_on_stdout_is_told_and_skipped():
    recorder = Recorder()
    async with open_mcp(
        scripted_server("--banner", "Server is ready!"), name="b", options=McpOptions(observer=recorder)
    ) as client:
        assert await text_of(client, "echo", text="hi") == "hi"
    assert [event.text for event in recorder.of(ServerOutput)] == ["Server is ready!"]
    assert [event.server for event in recorder.of(ServerStarted)] == ["b"]


RAW = {
    "invalid UTF-8": b"\xff\xfe\xfa\n",
    "a banner": b"Listening on :80\n",
    "blank lines": b"\n\r\n  \n",
    "an unknown id": b'{"jsonrpc":"2.0","id":999,"result":{}}\n',
    "an error for nobody": b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}\n',
    "a duplicate": b'{"jsonrpc":"2.0","id":1,"result":{}}\n' * 2,
    "deep nesting": b'{"jsonrpc":"2.0","id":77,"result":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n",
    "a very long line": b'{"jsonrpc":"2.0","id":77,"result":"' + b"x" * 3_000_000 + b'"}\n',
    "a bad notification": b'{"jsonrpc":"2.0","method":"notifications/progress","params":7}\n',
    "a request with a null id": b'{"jsonrpc":"2.0","id":null,"method":"ping"}\n',
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
async def test_bad_bytes_never_cost_the_session(data):
    async with open_mcp(QUICK, options=McpOptions(max_message=1_000_000, protocol="handshake")) as client:
        with trio.fail_after(10):
            result = await client.call_tool("raw", {"base64": base64.b64encode(data).decode(), "answer": True})
            assert result.text == "written"
            assert await text_of(client, "echo", text="still here") == "still here"


ANSWERS = {
    "null": b'{"jsonrpc":"2.0","id":%d,"result":null}\n',
    "a lone surrogate": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\\ud800"}]}}\n',
    "invalid UTF-8": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\xff"}]}}\n',
    "5 000 digits": b'{"jsonrpc":"2.0","id":%d,"result":{"structuredContent":' + b"9" * 5000 + b"}}\n",
    "deep nesting": b'{"jsonrpc":"2.0","id":%d,"result":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n",
    "too long": b'{"jsonrpc":"2.0","id":%d,"result":"' + b"x" * 3_000_000 + b'"}\n',
    "neither result nor error": b'{"jsonrpc":"2.0","id":%d}\n',
    "the wrong shape": b'{"jsonrpc":"2.0","id":%d,"result":{"content":7}}\n',
    "cut off": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[\n',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_is_none_fails_its_own_call_at_once(answer):
    async with open_mcp(QUICK, options=McpOptions(max_message=1_000_000, protocol="handshake")) as client:
        next_id = 2  # initialize was 1
        data = base64.b64encode(answer.replace(b"%d", b"%d" % next_id)).decode()
        with trio.fail_after(10), pytest.raises(ProtocolViolation, match="tools/call"):
            await client.call_tool("raw", {"base64": data})
        assert await text_of(client, "echo", text="still here") == "still here"


async def test_a_server_that_stops_reading_stalls_nobody_but_itself():
    async with open_mcp(QUICK, options=ALONE) as stuck, open_mcp(QUICK) as other:
        await stuck.call_tool("stop_reading")
        started = trio.current_time()
        with pytest.raises(RequestTimeout):
            await stuck.call_tool("echo", {"text": "x" * 300_000}, total=0.5)
        assert 0.5 <= trio.current_time() - started < 1.0
        with trio.move_on_after(0.2) as scope:
            await stuck.call_tool("echo", {"text": "x" * 300_000})
        left = trio.current_time()
        assert scope.cancelled_caught
        assert left - scope.deadline < 0.1
        assert await text_of(other, "echo", text="hi") == "hi"
        assert stuck.statistics().outgoing <= 2


async def test_a_server_whose_grandchild_holds_stdout_is_noticed_as_dead_and_nobody_survives():
    async with open_mcp(QUICK, options=ALONE) as client:
        grandchild = int(await text_of(client, "grandchild", ignore_term=True))
        with trio.fail_after(5), pytest.raises(PeerGone) as caught:
            await client.call_tool("die", {"code": 4})
        assert caught.value.exit_code == 4
    await wait_dead(grandchild)


async def test_a_polite_server_leaves_no_grandchild_behind():
    async with open_mcp(QUICK) as client:
        grandchild = int(await text_of(client, "grandchild"))
        pid = int(await text_of(client, "pid"))
    assert not alive(pid)
    await wait_dead(grandchild)


async def test_a_server_that_ignores_eof_and_term_is_killed_within_its_graces():
    server = StdioServer(scripted_server("--ignore-eof", "--ignore-term"), eof_grace=0.2, term_grace=0.2)
    async with open_mcp(server) as client:
        pid = int(await text_of(client, "pid"))
        started = trio.current_time()
    assert not alive(pid)
    assert 0.4 <= trio.current_time() - started < 2.0


@pytest.mark.parametrize("more", [0, 1])
async def test_a_line_of_stderr_that_has_no_end_is_kept_once_and_cut_and_the_next_ones_whole(more):
    pieces = ["first\n" + "x" * 30_000, *["x" * 30_000] * more, "hidden\nnext\n", "after\nlast"]
    code = "import sys, time\nfor piece in %r: sys.stderr.write(piece); sys.stderr.flush(); time.sleep(0.03)" % pieces
    with pytest.raises(PeerGone) as caught:
        async with open_mcp(StdioServer([sys.executable, "-c", code])):
            pass
    first, cut, *rest = caught.value.stderr.split("\n")
    assert (first, cut[:10], len(cut), rest) == ("first", "x" * 10, 2000, ["next", "after", "last"])


async def test_a_flood_on_stderr_blocks_nothing_and_its_end_is_kept():
    recorder = Recorder()
    async with open_mcp(QUICK, name="loud", options=McpOptions(observer=recorder)) as client:
        with trio.fail_after(30):
            assert await text_of(client, "stderr", bytes=4_000_000) == "written"
    said = recorder.of(ServerOutput)
    assert said
    assert {event.server for event in said} == {"loud"}


async def test_a_server_sees_only_what_it_is_given(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-do-not-leak")
    server = StdioServer(scripted_server(), env={"GITHUB_TOKEN": "given-to-it"})
    async with open_mcp(server) as client:
        environment = json.loads(await text_of(client, "env"))
    assert environment["GITHUB_TOKEN"] == "given-to-it"
    assert "OPENAI_API_KEY" not in environment
    assert "PATH" in environment
    assert "given-to-it" not in repr(server)


async def test_a_secret_that_a_server_echoes_is_blanked_out():
    server = StdioServer(scripted_server("--die", "1", "--words", "bad token tok-12345678!"), env={"T": "tok-12345678"})
    with pytest.raises(PeerGone) as caught:
        async with open_mcp(server):
            raise AssertionError("it cannot have started")
    assert "tok-12345678" not in str(caught.value) + caught.value.stderr
    assert "bad token ***!" in caught.value.stderr


async def test_a_server_that_closed_its_stdout_is_gone_though_it_lives():
    async with open_mcp(QUICK, options=ALONE) as client:
        with trio.fail_after(5), pytest.raises(PeerGone):
            await client.call_tool("close_stdout")


async def test_a_last_answer_without_its_line_end_is_heard():
    async with open_mcp(QUICK, options=ALONE) as client:
        answer = b'{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"last"}]}}'
        call = {"base64": base64.b64encode(answer).decode()}
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def die_soon():
                await trio.sleep(0.2)
                with pytest.raises(PeerGone):
                    await client.call_tool("die", {})

            with trio.fail_after(5):
                assert (await client.call_tool("raw", call)).text == "last"


async def test_two_clients_are_closed_first_opened_first():
    async with trio.open_nursery() as nursery:
        first = await connect_mcp(nursery, QUICK, name="first")
        second = await connect_mcp(nursery, QUICK, name="second")
        pids = [int(await text_of(client, "pid")) for client in (first, second)]
        await first.aclose()
        assert not alive(pids[0])
        assert await text_of(second, "echo", text="hi") == "hi"
        await second.aclose()
    assert not any(map(alive, pids))
    assert repr(first) == "<McpClient 'first': closed>"


async def test_closing_from_another_task_works():
    async with trio.open_nursery() as nursery:
        client = await connect_mcp(nursery, QUICK)
        nursery.start_soon(client.aclose)
        with trio.fail_after(5), pytest.raises(PeerGone):
            while True:
                await client.call_tool("sleep", {"seconds": 600})


async def test_a_cancelled_block_ends_its_server():
    with trio.fail_after(10):
        with trio.CancelScope() as scope:
            async with open_mcp(QUICK) as client:
                pid = int(await text_of(client, "pid"))
                scope.cancel(reason="enough")
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        # The client outlives the body's own cleanup.
                        assert await text_of(client, "echo", text="bye") == "bye"
        assert scope.cancelled_caught
        assert not alive(pid)


async def test_a_dead_server_is_started_again_and_waiting_calls_get_through():
    recorder = Recorder()
    async with open_mcp(QUICK, name="phoenix", options=McpOptions(observer=recorder)) as client:
        first = int(await text_of(client, "pid"))
        seen = client.tools_version
        with pytest.raises(PeerGone):
            await client.call_tool("die", {"code": 1})
        with trio.fail_after(10):
            second = int(await text_of(client, "pid"))
        assert first != second
        assert client.restarts == 1
        assert await client.wait_tools_changed(seen) > seen
    assert [event.restarts for event in recorder.of(ServerStarted)] == [0, 1]
    [gone] = recorder.of(ServerGone)
    assert gone.error.exit_code == 1


async def test_no_descriptor_is_left_behind():
    async with open_mcp(QUICK) as client:
        await client.ping()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        async with open_mcp(QUICK) as client:
            await client.ping()
        with pytest.raises(PeerGone):
            async with open_mcp(scripted_server("--die", "1")):
                pass
        with pytest.raises(CannotStart):
            async with open_mcp("no-such-program-anywhere"):
                pass
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)
