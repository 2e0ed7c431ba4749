from __future__ import annotations

import json
import socket

import pytest
import trio
from testing.raw_client import Client, Got, ask, connect

from clawft_trio.attempts import Usage
from clawft_trio.testing.fault_server import open_fault_server, refused_url
from clawft_trio.testing.leaks import nothing_left
from clawft_trio.testing.script import (
    BadJson,
    BadUtf8,
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Finish,
    Garbage,
    Hang,
    InPieces,
    Page,
    Pings,
    Preamble,
    Raw,
    ResetConnection,
    Say,
    SendHeaders,
    Status,
    Think,
    Wait,
    say,
)
from clawft_trio.testing.sweep import cancel_everywhere

USAGE = Usage(input_tokens=9, output_tokens=4, cached_tokens=3)
OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"
BOTH = pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])


async def test_a_healthy_openai_stream():
    async with open_fault_server([Think("hm"), Say("Hel"), Say("lo"), Finish(usage=USAGE)]) as server:
        got = await ask(server, stream_options={"include_usage": True})
    assert (got.status, got.end) == (200, "complete")
    assert got.headers["content-type"].startswith("text/event-stream")
    role, think, first, second, finish, usage, done = got.events()
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert think["choices"][0]["delta"] == {"reasoning_content": "hm"}
    assert got.text() == "Hello"
    assert finish["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert (usage["choices"], usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == ([], 9, 4)
    assert done == b"[DONE]"


async def test_openai_usage_comes_only_when_asked_for():
    async with open_fault_server([Say("a"), Finish(usage=USAGE)]) as server:
        got = await ask(server)
    assert not any("usage" in event for event in got.events() if isinstance(event, dict))


async def test_a_healthy_anthropic_stream():
    script = [Think("hm"), Say("Hel"), Say("lo"), CallTool("f", {"a": 1}, fragments=2), Finish(usage=USAGE)]
    async with open_fault_server(script) as server:
        got = await ask(server, ANTHROPIC)
    assert [event["type"] for event in got.events()] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        "message_delta",
        "message_stop",
    ]
    start, *middle, delta, _ = got.events()
    assert start["message"]["usage"]["input_tokens"] == 6
    assert start["message"]["usage"]["cache_read_input_tokens"] == 3
    assert [e["index"] for e in middle] == [0] * 4 + [1] * 4 + [2] * 4
    assert middle[2]["delta"] == {"type": "signature_delta", "signature": "sig-1"}
    assert "".join(e["delta"].get("partial_json", "") for e in middle if "delta" in e) == '{"a":1}'
    assert delta == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 4},
    }
    assert b"event: message_stop\n" in got.body


async def test_whole_answers():
    script = [Think("hm"), Say("Hel"), Wait(0.01), Say("lo"), CallTool("f", {"a": 1}), Finish(usage=USAGE)]
    async with open_fault_server(script) as server:
        openai = json.loads((await ask(server, stream=False)).body)
        anthropic = json.loads((await ask(server, ANTHROPIC, stream=False)).body)
    [choice] = openai["choices"]
    assert choice["message"]["content"] == "Hello"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert choice["finish_reason"] == "tool_calls"
    assert openai["usage"]["total_tokens"] == 13
    assert [block["type"] for block in anthropic["content"]] == ["thinking", "text", "tool_use"]
    assert anthropic["content"][2]["input"] == {"a": 1}
    assert anthropic["stop_reason"] == "tool_use"


@BOTH
async def test_a_status_has_the_dialects_error_object_and_headers(path):
    async with open_fault_server([Status(429, retry_after=2)], scale=0.5) as server:
        got = await ask(server, path)
    assert (got.status, got.headers["retry-after"], got.end) == (429, "1", "complete")
    error = json.loads(got.body)["error"]
    assert (error.get("code"), error["type"]) in [
        ("rate_limit_exceeded", "invalid_request_error"),
        (None, "rate_limit_error"),
    ]
    assert got.headers.get("x-request-id") or got.headers.get("request-id")


@BOTH
@pytest.mark.parametrize(
    "fault, end, ending",
    [
        (ResetConnection(), "reset", "reset"),
        (CloseConnection(), "closed", "closed"),
        (EndBody(), "complete", "complete"),
    ],
)
@pytest.mark.parametrize("told", [0, 1, 3])
async def test_a_break_after_n_deltas(path, fault, end, ending, told):
    async with open_fault_server([*[Say("x")] * told, Wait(0.02), fault]) as server:
        got = await ask(server, path)
        await server.wait_for(lambda now: now.running == 0)
    assert got.text() == "x" * told
    assert got.end == end
    assert got.status == (200 if told or end == "complete" else None)
    assert [exchange.ending for exchange in server.exchanges] == [ending]
    assert b"[DONE]" not in got.body and b"message_stop" not in got.body


@BOTH
async def test_a_preamble_does_not_say_anything(path):
    async with open_fault_server([Preamble(), Wait(0.02), ResetConnection()]) as server:
        got = await ask(server, path)
    assert (len(got.events()), got.text(), got.end) == (1, "", "reset")


@BOTH
async def test_a_script_without_finish_just_stops(path):
    async with open_fault_server([Say("x")]) as server:
        got = await ask(server, path)
    assert (got.text(), got.end) == ("x", "complete")
    assert b"[DONE]" not in got.body and b"message_stop" not in got.body


@BOTH
async def test_finish_without_the_protocols_last_word(path):
    async with open_fault_server([Say("x"), Finish(), EndBody()]) as server:
        got = await ask(server, path)
    assert got.end == "complete"
    assert (b'"finish_reason":"stop"' in got.body) or (b'"stop_reason":"end_turn"' in got.body)
    assert b"[DONE]" not in got.body and b"message_stop" not in got.body


@BOTH
async def test_one_event_is_bad_json_and_the_rest_is_fine(path):
    async with open_fault_server([Say("a"), BadJson(), Say("b"), Finish()]) as server:
        got = await ask(server, path)
    assert got.text() == "ab"
    assert sum(isinstance(event, bytes) and event != b"[DONE]" for event in got.events()) == 1


@BOTH
async def test_bytes_that_are_not_utf8(path):
    async with open_fault_server([Say("a"), BadUtf8(b"\xff\xfe"), Finish()]) as server:
        got = await ask(server, path)
        whole = await ask(server, path, stream=False)
    for body in (got.body, whole.body):
        assert b"\xff\xfe" in body
        with pytest.raises(UnicodeDecodeError):
            body.decode()


@BOTH
async def test_an_error_event_inside_the_stream(path):
    async with open_fault_server([Say("a"), ErrorEvent("overloaded_error", status=529)]) as server:
        got = await ask(server, path)
        whole = await ask(server, path, stream=False)
    assert got.status == 200
    error = got.events()[-1]["error"]
    assert "overloaded_error" in (error.get("code"), error["type"])
    assert whole.status == 529


@BOTH
async def test_an_unstreamed_error_after_the_headers_is_the_body(path):
    async with open_fault_server([SendHeaders(), Say("a"), ErrorEvent("overloaded_error", status=529)]) as server:
        got = await ask(server, path, stream=False)
    assert (got.status, got.end) == (200, "complete")
    assert "overloaded_error" in json.loads(got.body)["error"].values()


@BOTH
async def test_arguments_cut_in_the_middle(path):
    async with open_fault_server([CallTool("read", '{"path": "a'), Wait(0.02), ResetConnection()]) as server:
        got = await ask(server, path)
    assert got.end == "reset"
    assert b"content_block_stop" not in got.body
    assert b'{\\"pa' in got.body


@BOTH
async def test_an_unstreamed_answer_breaks_in_the_middle_of_its_json(path):
    for fault, end in ((ResetConnection(), "reset"), (EndBody(), "complete"), (CloseConnection(), "closed")):
        async with open_fault_server([Say("hello"), fault]) as server:
            got = await ask(server, path, stream=False)
        if end != "reset":
            assert got.status == 200 and got.body
        assert got.end == end
        with pytest.raises(ValueError):
            json.loads(got.body)


@BOTH
async def test_pings_come_and_say_nothing(path):
    async with open_fault_server([Pings(every=0.001, times=5), Say("a"), Finish()]) as server:
        got = await ask(server, path)
        whole = await ask(server, path, stream=False)
    assert got.body.count(b"ping") >= 5
    assert got.text() == "a"
    assert whole.body.startswith(b"\n" * 5) and json.loads(whole.body)


async def test_a_page_is_sent_as_it_is():
    page = Page(b"<html>" + b"x" * 5_000_000, status=502)
    async with open_fault_server([page]) as server:
        got = await ask(server)
    assert (got.status, got.headers["content-type"], len(got.body)) == (502, "text/html", 5_000_006)


async def test_garbage_is_not_http():
    async with open_fault_server([Garbage(b"SSH-2.0-nope\r\n\r\n")]) as server:
        got = await ask(server)
    assert (got.status, got.end) == (None, "closed")


async def test_raw_bytes_go_into_the_body():
    async with open_fault_server([Raw(b"\xef\xbb\xbfdata: 1\r\n\r\n")]) as server:
        got = await ask(server)
        whole = await ask(server, stream=False)
    assert got.body == whole.body == b"\xef\xbb\xbfdata: 1\r\n\r\n"


async def test_headers_may_come_long_before_the_body():
    async with open_fault_server([SendHeaders({"x-a": "1"}), Hang()]) as server:
        client, got = await connect(server), Got()
        async with client.stream:
            with trio.move_on_after(0.05):
                await client.ask(OPENAI, got)
    assert (got.status, got.headers["x-a"], got.body) == (200, "1", b"")


@BOTH
@pytest.mark.parametrize("script", [[Hang()], [Say("a"), Hang()], [Pings(every=0.001)], [*say("a b c", every=5)]])
async def test_it_knows_when_a_client_leaves(path, script):
    async with open_fault_server(script) as server:
        client = await connect(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ask, path)
            await server.wait_for(lambda now: now.running == 1)
            nursery.cancel_scope.cancel(reason="heard enough")
        await client.stream.aclose()
        await server.wait_for(lambda now: now.connections_open == 0)
        [exchange] = server.exchanges
        assert exchange.ending == "client_left"
        assert exchange.ended is not None


async def test_a_connection_is_kept_for_the_next_request():
    async with open_fault_server([Status(503)], [Say("a"), Finish()]) as server:
        client = await connect(server)
        async with client.stream:
            assert [(await client.ask()).status for _ in range(3)] == [503, 200, 200]
            assert server.statistics().connections_accepted == 1
    assert [request.connection for request in server.requests] == [0, 0, 0]


async def test_every_request_is_on_record():
    async with open_fault_server([Status(500)], [Say("a"), Finish()]) as server:
        await ask(server, temperature=0.5)
        await ask(server, ANTHROPIC, model="n")
    first, second = server.requests
    assert (first.number, first.turn, first.dialect, first.model, first.stream) == (0, 0, "openai", "m", True)
    assert (second.number, second.turn, second.dialect, second.model) == (1, 0, "anthropic", "n")
    assert first.body["temperature"] == 0.5
    assert first.headers["host"] == "x"
    assert first.path == OPENAI
    assert second.elapsed >= first.elapsed >= 0
    assert [exchange.ending for exchange in server.exchanges] == ["complete", "complete"]
    assert all(exchange.sent > 0 and exchange.steps > 0 for exchange in server.exchanges)


async def test_models_have_scripts_of_their_own():
    models = {"a": [[Status(500)], [Say("a"), Finish()]], "b": [[Say("b"), Finish()]]}
    async with open_fault_server(models=models) as server:
        assert (await ask(server, model="a")).status == 500
        assert (await ask(server, model="b")).text() == "b"
        assert (await ask(server, model="a")).text() == "a"
        assert (await ask(server, model="c")).status == 404
    assert [request.turn for request in server.requests] == [0, 0, 1, 0]


async def test_a_script_may_be_chosen_by_what_was_asked():
    def choose(request):
        return [Say("done"), Finish()] if request.answers_tools else [CallTool("f"), Finish()]

    async with open_fault_server(choose=choose) as server:
        for path, answer in (
            (OPENAI, {"role": "tool", "content": "ok"}),
            (ANTHROPIC, {"role": "user", "content": [{"type": "tool_result", "content": "ok"}]}),
        ):
            assert (await ask(server, path)).text() == ""
            assert (await ask(server, path, messages=[answer])).text() == "done"


@pytest.mark.parametrize("messages", [[], None, "x", ["x"], [{"role": "user", "content": None}]])
async def test_a_request_that_makes_no_sense_answers_no_tools(messages):
    def choose(request):
        return [Say("no" if not request.answers_tools else "yes"), Finish()]

    async with open_fault_server(choose=choose) as server:
        assert (await ask(server, messages=messages)).text() == "no"


@pytest.mark.parametrize("after, scale, header", [(2, 1, "2"), (1e6, 1, "1000000"), (2, 0.05, "0.1"), (0, 1, "0")])
async def test_retry_after_is_written_as_clients_read_it(after, scale, header):
    async with open_fault_server([Status(503, retry_after=after)], scale=scale) as server:
        assert (await ask(server)).headers["retry-after"] == header


async def test_a_script_may_go_by_the_time_in_its_own_scale(mock_clock):
    mock_clock.autojump_threshold = 0

    def choose(request):
        return [Status(503)] if request.elapsed < 60 else [Say("up"), Finish()]

    ours, theirs = trio.testing.memory_stream_pair()
    async with open_fault_server(choose=choose, scale=0.1) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        client = Client(ours)
        answers = []
        for _ in range(4):
            answers.append((trio.current_time(), (await client.ask()).status))
            await trio.sleep(2)
        await ours.aclose()
    start = answers[0][0]
    assert [(round(time - start, 6), status) for time, status in answers] == [(0, 503), (2, 503), (4, 503), (6, 200)]
    assert [round(request.elapsed, 6) for request in server.requests] == [0, 20, 40, 60]


async def test_what_choosing_raises_ends_the_server_bare():
    def choose(request):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        async with open_fault_server(choose=choose) as server:
            await ask(server)
            await trio.sleep_forever()


async def test_scaled_waits_are_scaled():
    async with open_fault_server([Wait(1000), Say("a"), Finish()], scale=1e-5) as server:
        assert (await ask(server)).text() == "a"
        [request] = server.requests
        assert request.elapsed >= 0


@BOTH
@pytest.mark.parametrize("sizes", [1, 2, 7, (3, 1, 50), 1_000_000])
async def test_any_split_carries_the_same_bytes(path, sizes):
    script = [Say("Grüße"), Think("…"), CallTool("f", {"a": "é"}), Finish()]
    models = {"m": [script], "split": [[InPieces(sizes), *script]]}
    async with open_fault_server(models=models) as server:
        plain = await ask(server, path)
        split = await ask(server, path, model="split")
    assert split.text() == plain.text() == "Grüße"
    wanted = (sizes,) if isinstance(sizes, int) else sizes
    whole = [piece for i, piece in enumerate(split.chunks[:-1]) if len(piece) != wanted[i % len(wanted)]]
    assert not whole
    normal = split.body.replace(b'"split"', b'"m"').replace(b"chatcmpl-1", b"chatcmpl-0").replace(b"msg_1", b"msg_0")
    assert normal == plain.body


async def test_a_refused_url_refuses_and_is_refused_again():
    with refused_url() as url:
        port = int(url.rsplit(":", 1)[1].removesuffix("/v1"))
        for _ in range(2):
            with pytest.raises(OSError):
                await trio.open_tcp_stream("127.0.0.1", port)


async def test_what_is_not_for_a_model_is_not_found():
    async with open_fault_server([Say("a"), Finish()]) as server:
        assert (await ask(server, "/v1/nothing")).status == 404
        client = await connect(server)
        async with client.stream:
            await client.send(OPENAI, b"not json")
            got = Got()
            await client.read(got)
        assert got.status == 400
    assert server.requests == []


async def test_a_client_that_does_not_speak_http_is_let_go():
    async with open_fault_server([Say("a"), Finish()]) as server:
        stream = (await connect(server)).stream
        async with stream:
            await stream.send_all(b"\x00\x01nonsense\r\n\r\n")
            while await stream.receive_some():
                pass
        await server.wait_for(lambda now: now.connections_open == 0)
        assert (await ask(server)).text() == "a"


async def test_a_script_that_answers_twice_is_refused():
    with pytest.raises(ValueError, match="429"):
        async with open_fault_server([Say("a"), Status(429)]) as server:
            await ask(server)
            await trio.sleep_forever()


async def test_leaving_the_block_closes_every_connection():
    async with open_fault_server([Say("a"), Hang()]) as server:
        client = await connect(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ask)
            await server.wait_for(lambda now: now.running == 1)
            nursery.cancel_scope.cancel(reason="enough")
    assert server.statistics().connections_open == 0
    assert [exchange.ending for exchange in server.exchanges] == ["server_stopped"]
    await client.stream.aclose()
    with pytest.raises(OSError):
        await connect(server)


async def test_it_serves_streams_in_memory_in_mock_time(mock_clock):
    mock_clock.autojump_threshold = 0
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_fault_server([Say("a"), Wait(10), Say("b"), Finish()]) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        start = trio.current_time()
        got = await Client(ours).ask()
        assert (got.text(), trio.current_time() - start) == ("ab", 10)
        await ours.aclose()


async def test_a_stream_in_memory_is_closed_when_it_was_served():
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_fault_server([Say("a"), CloseConnection()]) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        assert (await Client(ours).ask()).end == "closed"
        await server.wait_for(lambda now: now.connections_open == 0)
    with pytest.raises(trio.ClosedResourceError):
        await theirs.receive_some()


def test_a_server_without_a_script_is_refused():
    async def main():
        async with open_fault_server():
            pass

    with pytest.raises(ValueError, match="script"):
        trio.run(main)


async def test_the_port_may_be_chosen():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with open_fault_server([Say("a"), Finish()], port=port) as server:
        assert server.origin == f"http://127.0.0.1:{port}"


SLOW = [Say("a"), Wait(0.005), CallTool("f", {"a": 1}), Wait(0.005), Say("b"), Finish()]


async def test_a_server_cancelled_anywhere_leaves_nothing():
    async def operation():
        async with open_fault_server(SLOW) as server:
            await ask(server)

    await operation()
    assert await cancel_everywhere(operation, nothing_left()) > 30


@BOTH
async def test_a_client_cancelled_anywhere_leaves_nothing_in_the_server(path):
    async with open_fault_server(SLOW) as server:
        check = nothing_left()

        async def operation():
            await ask(server, path)

        async def settled():
            with trio.fail_after(5):
                await server.wait_for(lambda now: now.connections_open == now.running == 0)
            await check()

        assert await cancel_everywhere(operation, settled) > 10
        assert {exchange.ending for exchange in server.exchanges} == {"complete", "client_left"}


@pytest.mark.parametrize("script", [[ResetConnection()], [Say("a"), ResetConnection()], [Garbage(b"x")], [Hang()]])
async def test_no_ending_leaves_a_socket(script):
    async with open_fault_server(script) as server:
        check = nothing_left()
        for _ in range(20):
            client = await connect(server)
            async with client.stream:
                with trio.move_on_after(0.005):
                    await client.ask()
        await server.wait_for(lambda now: now.connections_open == 0)
        await check()


async def test_waiting_for_a_condition_can_be_cancelled_anywhere():
    async with open_fault_server([Say("a"), Finish()]) as server:

        async def check():
            assert server._changed.statistics().tasks_waiting == 0

        async def operation():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.wait_for, lambda now: False)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel(reason="enough")

        await cancel_everywhere(operation, check)


async def test_many_deltas_are_streamed():
    async with open_fault_server([*[Say("x")] * 3000, Wait(0.02), ResetConnection()]) as server:
        got = await ask(server)
    assert (len(got.text()), got.end) == (3000, "reset")


async def test_many_connections_at_once():
    async with open_fault_server([Wait(0.01), Say("a"), Finish()]) as server:
        check = nothing_left()
        answers = []

        async def one():
            answers.append((await ask(server)).text())

        async with trio.open_nursery() as inner:
            for _ in range(100):
                inner.start_soon(one)
        assert answers == ["a"] * 100
        assert [request.number for request in server.requests] == list(range(100))
        await server.wait_for(lambda now: now.connections_open == 0)
        await check()
