"""Who gets which answer, and what is left when nobody wants it any more."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from mcp_wired import cancelled_ids, wired
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from clawft_trio.codec import decode_json
from clawft_trio.errors import PeerError, PeerGone, ProtocolViolation, RequestTimeout
from clawft_trio.mcp.connect import wrap_mcp
from clawft_trio.mcp.host import Host
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.notifications import NOTIFICATIONS
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.transports.streams import StreamTransport
from clawft_trio.mcp.types import ElicitResult, Root
from clawft_trio.testing import cancel_everywhere
from clawft_trio.testing.mcp_server import ScriptedMcpServer


def text(said):
    return {"content": [{"type": "text", "text": said}]}


async def gather(client, results, key, **kwargs):
    try:
        results[key] = (await client.call_tool(key, **kwargs)).text
    except Exception as exc:
        results[key] = exc


async def test_answers_in_any_order_reach_their_callers():
    async with wired() as (client, server):
        results = {}
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(gather, client, results, name)
            held = [await server.wait_held() for _ in range(3)]
            for request in reversed(held):
                await request.answer(text(f"for {request.params['name']}"))
        assert results == {name: f"for {name}" for name in "abc"}


async def test_an_id_that_came_back_as_a_string_still_matches():
    async with wired() as (client, server):
        results = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, client, results, "a")
            held = await server.wait_held()
            await server.write({"jsonrpc": "2.0", "id": str(held.id), "result": text("ok")})
        assert results == {"a": "ok"}


async def test_an_answer_to_what_was_never_sent_is_no_answer():
    near, far = memory_stream_pair()
    mux = Multiplexer()
    sending = trio.Event()
    near.send_stream.send_all_hook = sending.wait
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run, StreamTransport(near, near))
        outcomes = []

        async def call(n):
            outcomes.append(await mux.call("m", decode=lambda raw: (n, bytes(raw))))

        nursery.start_soon(call, 1)
        await wait_all_tasks_blocked()  # the first is being written, for ever
        nursery.start_soon(call, 2)
        await wait_all_tasks_blocked()
        await far.send_all(b'{"jsonrpc":"2.0","id":2,"result":"guessed"}\n')
        await wait_all_tasks_blocked()
        assert outcomes == []
        assert mux.statistics().stray_answers == 1
        sending.set()
        await wait_all_tasks_blocked()
        await far.send_all(b'{"jsonrpc":"2.0","id":2,"result":"real"}\n{"jsonrpc":"2.0","id":1,"result":"real"}\n')
        await wait_all_tasks_blocked()
        assert outcomes in ([(2, b'"real"'), (1, b'"real"')], [(1, b'"real"'), (2, b'"real"')])
        nursery.cancel_scope.cancel(reason="seen")


async def test_requests_of_the_server_are_answered_though_their_ids_collide_with_ours():
    async with wired(options=McpOptions(host=Host(roots=(Root(uri="file:///work"),)))) as (client, server):
        results = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, client, results, "a")
            held = await server.wait_held()
            assert (await server.ask("ping", request_id=held.id))["result"] == {}
            roots = await server.ask("roots/list", request_id=held.id)
            assert roots["result"] == {"roots": [{"uri": "file:///work"}]}
            unknown = await server.ask("no/such", request_id=held.id)
            assert unknown["error"]["code"] == -32601
            await held.answer(text("mine"))
        assert results == {"a": "mine"}


async def test_the_server_asks_the_person_and_gets_the_forms_defaults():
    async def elicit(asked):
        await trio.lowlevel.checkpoint()
        return ElicitResult(action="accept", content={"name": "Ana"} if asked.message == "who?" else {})

    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "default": 7}}}
    async with wired(options=McpOptions(host=Host(elicit=elicit))) as (_, server):
        answer = await server.ask("elicitation/create", {"message": "who?", "requestedSchema": schema})
        assert answer["result"] == {"action": "accept", "content": {"age": 7, "name": "Ana"}}
        bad = await server.ask("elicitation/create", {"message": 7})
        assert bad["error"]["code"] == -32602


async def test_an_answerer_that_raises_is_told_as_an_internal_error_without_its_insides(caplog):
    async def sample(_):
        await trio.lowlevel.checkpoint()
        raise RuntimeError("password: hunter2")

    async with wired(options=McpOptions(host=Host(sample=sample))) as (_, server):
        answer = await server.ask("sampling/createMessage", {"messages": [], "maxTokens": 1})
        assert answer["error"] == {"code": -32603, "message": "internal error"}


async def test_the_server_can_take_back_its_request():
    started, ended = trio.Event(), trio.Event()

    async def elicit(_):
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with wired(options=McpOptions(host=Host(elicit=elicit))) as (client, server):
        await server.write({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": ""}})
        await started.wait()
        assert client.statistics().serving == 1
        await server.notify("notifications/cancelled", {"requestId": "q", "reason": "never mind"})
        await ended.wait()
        await wait_all_tasks_blocked()
        assert client.statistics().serving == 0
        assert not [m for m in server.received if m.get("id") == "q"]


async def test_a_timeout_tells_the_server_and_drops_the_late_answer(autojump_clock):
    async with wired() as (client, server):
        started = trio.current_time()
        with pytest.raises(RequestTimeout, match="2.5 s") as caught:
            await client.call_tool("slow", total=2.5)
        assert caught.value.retryable
        assert trio.current_time() == started + 2.5
        held = await server.wait_held()
        await wait_all_tasks_blocked()
        assert cancelled_ids(server) == [held.id]
        await held.answer(text("too late"))
        await wait_all_tasks_blocked()
        assert client.statistics().stray_answers == 1
        assert client.statistics().in_flight == 0


async def test_the_default_deadline_is_30_s(autojump_clock):
    async with wired() as (client, _):
        started = trio.current_time()
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow")
        assert trio.current_time() == started + 30.0


async def test_each_call_ends_at_its_own_deadline(autojump_clock):
    async with wired() as (client, _):
        ended = {}

        async def slow(total):
            with pytest.raises(RequestTimeout):
                await client.call_tool("slow", total=total)
            ended[total] = trio.current_time()

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for total in (5.0, 1.0, 30.0, 3.0, 2.0, 3.0):
                nursery.start_soon(slow, total)
        assert ended == {total: started + total for total in (1.0, 2.0, 3.0, 5.0, 30.0)}


async def test_a_cancelled_caller_tells_the_server_at_once():
    async with wired() as (client, server):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call_tool, "slow")
                held = await server.wait_held()
                scope.cancel(reason="changed my mind")
        await wait_all_tasks_blocked()
        assert cancelled_ids(server) == [held.id]
        assert client.statistics().in_flight == 0


async def test_above_the_window_calls_wait_here_and_go_when_there_is_room():
    async with wired(options=McpOptions(window=2)) as (client, server):
        results = {}
        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(gather, client, results, name)
            await wait_all_tasks_blocked()
            statistics = client.statistics()
            assert (statistics.in_flight, statistics.waiting) == (2, 2)
            for _ in range(4):
                held = await server.wait_held()
                await held.answer(text("ok"))
                await wait_all_tasks_blocked()
        assert set(results.values()) == {"ok"}


async def test_queued_calls_go_in_their_order():
    async with wired(options=McpOptions(window=1)) as (client, server):
        sent = []
        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(client.call_tool, name)
                await wait_all_tasks_blocked()
            for _ in range(4):
                held = await server.wait_held()
                sent.append(held.params["name"])
                await held.answer(text("ok"))
        assert sent == list("abcd")


async def test_clocks_that_are_held_twice_run_again_after_both(autojump_clock):
    async with wired() as (client, _):
        mux = client.connection._mux
        began = trio.current_time()

        async def hold(seconds):
            with mux.hold_clocks():
                await trio.sleep(seconds)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, 10)
            nursery.start_soon(hold, 20)
            with pytest.raises(RequestTimeout):
                await client.call_tool("a", total=1)
            assert trio.current_time() - began == pytest.approx(21)
        began = trio.current_time()
        with pytest.raises(RequestTimeout):
            await client.call_tool("a", total=1)
        assert trio.current_time() - began == pytest.approx(1)


async def test_a_queued_call_that_is_cancelled_was_never_sent(autojump_clock):
    async with wired(options=McpOptions(window=1)) as (client, server):
        results = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, client, results, "first")
            held = await server.wait_held()
            with pytest.raises(RequestTimeout):
                await client.call_tool("second", total=1)
            await held.answer(text("ok"))
        assert results == {"first": "ok"}
        assert cancelled_ids(server) == []
        assert [m["params"]["name"] for m in server.received if m["method"] == "tools/call"] == ["first"]


async def test_progress_reaches_its_call_in_order_and_before_the_answer():
    async with wired() as (client, server):
        seen = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(client.call_tool, "a", on_progress=lambda p: seen.append((p.progress, p.total))))
            nursery.start_soon(partial(client.call_tool, "b", on_progress=lambda _: seen.append("not mine")))
            held = {}
            for _ in range(2):
                request = await server.wait_held()
                held[request.params["name"]] = request
            token = held["a"].params["_meta"]["progressToken"]
            for step in range(50):
                await server.notify("notifications/progress", {"progressToken": token, "progress": step, "total": 50})
            await held["a"].answer(text("done"))
            await held["b"].answer(text("done"))
        assert seen == [(step, 50) for step in range(50)]


async def test_progress_extends_the_deadline_only_where_asked_and_only_to_the_hard_maximum(autojump_clock):
    async with wired() as (client, server):

        async def report(held):
            token = held.params["_meta"]["progressToken"]
            for step in range(100):
                await trio.sleep(1)
                await server.notify("notifications/progress", {"progressToken": token, "progress": step})

        for longest, expected in ((None, 2.0), (10.0, 10.0)):
            async with trio.open_nursery() as nursery:
                started = trio.current_time()

                async def call(longest=longest, expected=expected, started=started):
                    with pytest.raises(RequestTimeout):
                        await client.call_tool("slow", total=2.0, longest=longest, on_progress=lambda _: None)
                    assert trio.current_time() == started + expected
                    nursery.cancel_scope.cancel(reason="seen")

                nursery.start_soon(call)
                await report(await server.wait_held())


async def test_progress_extends_the_deadline_also_when_nobody_wants_to_see_it(autojump_clock):
    async with wired() as (client, server):
        started = trio.current_time()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call():
                assert (await client.call_tool("slow", total=2.0, longest=60.0)).text == "ok"
                assert trio.current_time() == started + 3.0

            held = await server.wait_held()
            for _ in range(2):
                await trio.sleep(1.5)
                await server.notify("notifications/progress", {"progressToken": held.id, "progress": 1})
            await held.answer(text("ok"))


async def test_progress_that_stops_lets_the_deadline_pass(autojump_clock):
    async with wired() as (client, server):
        started = trio.current_time()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call():
                with pytest.raises(RequestTimeout):
                    await client.call_tool("slow", total=2.0, longest=60.0, on_progress=lambda _: None)
                assert trio.current_time() == started + 3.5

            held = await server.wait_held()
            await trio.sleep(1.5)
            await server.notify("notifications/progress", {"progressToken": held.id, "progress": 1})


async def test_what_a_progress_callback_raises_is_its_callers():
    async with wired() as (client, server):

        def fail(_):
            raise LookupError("the caller's own bug")

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call():
                with pytest.raises(LookupError, match="own bug"):
                    await client.call_tool("a", on_progress=fail)

            held = await server.wait_held()
            await server.notify("notifications/progress", {"progressToken": held.id, "progress": 1})
        await wait_all_tasks_blocked()
        assert cancelled_ids(server) == [held.id]


async def test_notifications_are_heard_in_order_and_never_stall_an_answer():
    heard = []
    gate = trio.Event()

    async def on_notification(method, params):
        await gate.wait()
        heard.append(params["data"])

    async with wired(options=McpOptions(host=Host(on_notification=on_notification))) as (client, server):
        results = {}
        for n in range(20):
            await server.notify("notifications/message", {"level": "info", "data": n})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, client, results, "a")
            await (await server.wait_held()).answer(text("ok"))
        assert results == {"a": "ok"}
        assert heard == []
        gate.set()
        await wait_all_tasks_blocked()
        assert heard == list(range(20))


async def test_50_000_notifications_to_a_sleeping_listener_are_bounded():
    async def on_notification(*_):
        await trio.sleep_forever()

    async with wired(options=McpOptions(host=Host(on_notification=on_notification))) as (client, server):
        line = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\n'
        for _ in range(50):
            await server.write_raw(line * 1000)
        results = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, client, results, "a")
            await (await server.wait_held()).answer(text("ok"))
        statistics = client.statistics()
        assert results == {"a": "ok"}
        assert statistics.notifications_waiting == NOTIFICATIONS
        assert statistics.dropped == 50_000 - NOTIFICATIONS - 1


async def test_a_listener_that_raises_costs_nothing(caplog):
    async def on_notification(*_):
        raise RuntimeError("a bug")

    async with wired(options=McpOptions(host=Host(on_notification=on_notification)), hold=()) as (client, server):
        await server.notify("notifications/message", {"level": "info", "data": 1})
        assert (await client.call_tool("echo", {"text": "hi"})).text == "hi"


async def test_a_listener_may_call_the_server():
    listed = trio.Event()

    async def on_notification(method, params):
        assert await client.list_tools()
        listed.set()

    async with wired(options=McpOptions(host=Host(on_notification=on_notification)), hold=()) as (client, server):
        await server.notify("notifications/tools/list_changed")
        with trio.fail_after(5):
            await listed.wait()


async def test_a_peer_that_floods_with_requests_and_reads_nothing_is_bounded():
    near, far = memory_stream_pair()

    async def never_written(_=None):
        await trio.sleep_forever()

    near.send_stream.send_all_hook = never_written
    mux = Multiplexer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run, StreamTransport(near, near))
        for n in range(20):
            await far.send_all(
                b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n' % (n * 1000 + k) for k in range(1000))
            )
            await wait_all_tasks_blocked()
        assert mux.statistics().outgoing <= 5000
        assert mux.statistics().dropped > 10_000
        nursery.cancel_scope.cancel(reason="seen")


async def test_nothing_is_sent_before_the_handshake_is_answered():
    async with trio.open_nursery() as nursery:
        near, far = memory_stream_pair()
        server = ScriptedMcpServer(hold=["initialize"])
        nursery.start_soon(server.run, far, far)

        @nursery.start_soon
        async def use():
            async with wrap_mcp(near, near, options=McpOptions(protocol="handshake")) as client:
                await client.ping()
            nursery.cancel_scope.cancel(reason="seen")

        held = await server.wait_held()
        await wait_all_tasks_blocked()
        assert [m["method"] for m in server.received] == ["initialize"]
        await held.answer(
            {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
        )
    assert [m["method"] for m in server.received] == ["initialize", "notifications/initialized", "ping"]


@pytest.mark.parametrize("protocol", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_handshake_revision_is_spoken(protocol):
    async with wired(protocol=protocol) as (client, _):
        assert client.agreement.protocol_version == protocol


async def test_a_revision_that_nobody_speaks_is_refused():
    with pytest.raises(ProtocolViolation, match="1999-01-01"):
        async with wired(protocol="1999-01-01"):
            raise AssertionError("it cannot have started")


async def test_initialize_is_never_cancelled(autojump_clock):
    near, far = memory_stream_pair()
    server = ScriptedMcpServer(hold=["initialize"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, far, far)
        with pytest.raises(RequestTimeout):
            async with wrap_mcp(near, near, options=McpOptions(start=1.0, protocol="handshake")):
                raise AssertionError("it cannot have started")
        nursery.cancel_scope.cancel(reason="seen")
    assert [m["method"] for m in server.received] == ["initialize"]


async def test_lists_are_read_over_all_pages_and_an_empty_cursor_is_a_cursor():
    pages = {None: (["a"], ""), "": (["b"], "x"), "x": (["c"], None)}

    async def list_tools(params):
        await trio.lowlevel.checkpoint()
        names, following = pages[params.get("cursor")]
        page = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}
        return page if following is None else {**page, "nextCursor": following}

    async with wired(answers={"tools/list": list_tools}) as (client, _):
        assert [tool.name for tool in await client.list_tools()] == ["a", "b", "c"]


TYPED = {
    "name": "sum",
    "inputSchema": {"type": "object"},
    "outputSchema": {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]},
}


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({"content": [], "structuredContent": {"sum": 3}}, None),
        ({"content": [], "structuredContent": {"sum": "3"}}, r"\$\.sum"),
        ({"content": []}, "missing"),
        ({"content": [], "isError": True}, None),
    ],
)
async def test_structured_content_is_checked_against_the_tools_own_schema(result, problem):
    async with wired(tools=[TYPED]) as (client, server):
        await client.list_tools()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call():
                if problem is None:
                    assert (await client.call_tool("sum")).is_error == result.get("isError", False)
                else:
                    with pytest.raises(ProtocolViolation, match=problem):
                        await client.call_tool("sum")

            await (await server.wait_held()).answer(result)


async def test_an_output_schema_is_never_fetched_from_elsewhere():
    remote = {**TYPED, "outputSchema": {"$ref": "http://127.0.0.1:1/schema.json"}}
    async with wired(tools=[remote]) as (client, server):
        await client.list_tools()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call():
                with pytest.raises(ProtocolViolation, match="cannot be followed"):
                    await client.call_tool("sum")

            await (await server.wait_held()).answer({"content": [], "structuredContent": {}})


async def test_a_hostile_pattern_in_an_output_schema_is_not_run():
    evil = {**TYPED, "outputSchema": {"type": "object", "properties": {"x": {"pattern": "(a+)+$"}}}}
    async with wired(tools=[evil]) as (client, server):
        await client.list_tools()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "sum")
            await (await server.wait_held()).answer({"content": [], "structuredContent": {"x": "a" * 64 + "!"}})


async def test_content_of_every_kind_is_kept():
    content = [
        {"type": "text", "text": "t"},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
        {"type": "resource_link", "uri": "file:///x", "name": "x"},
        {"type": "resource", "resource": {"uri": "file:///y", "text": "y"}},
        {"type": "hologram", "beams": 7},
    ]
    async with wired() as (client, server):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call():
                result = await client.call_tool("a")
                kinds = [type(block).__struct_config__.tag for block in result.content]
                assert kinds == ["text", "image", "audio", "resource_link", "resource", "unknown"]
                assert result.content[5].block == {"type": "hologram", "beams": 7}
                assert result.content[1].content == b"hi"
                assert result.content[4].resource.text == "y"

            await (await server.wait_held()).answer({"content": content, "somethingNew": 1})


async def test_all_the_other_requests_of_the_protocol():
    async def answer(result, params):
        await trio.lowlevel.checkpoint()
        return result

    answers = {
        "resources/list": {"resources": [{"uri": "file:///a", "name": "a"}]},
        "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "file:///{x}", "name": "t"}]},
        "resources/read": {"contents": [{"uri": "file:///a", "text": "A"}]},
        "resources/subscribe": {},
        "resources/unsubscribe": {},
        "prompts/list": {"prompts": [{"name": "p", "arguments": [{"name": "who", "required": True}]}]},
        "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}]},
        "completion/complete": {"completion": {"values": ["ab", "ac"], "hasMore": False}},
        "logging/setLevel": {},
    }
    async with wired(answers={m: partial(answer, result) for m, result in answers.items()}) as (client, server):
        assert [r.uri for r in await client.list_resources()] == ["file:///a"]
        assert [r.uri_template for r in await client.list_resource_templates()] == ["file:///{x}"]
        assert [part.text for part in await client.read_resource("file:///a")] == ["A"]
        await client.subscribe("file:///a")
        await client.unsubscribe("file:///a")
        assert [p.name for p in await client.list_prompts()] == ["p"]
        assert (await client.get_prompt("p", {"who": "ana"})).messages[0].content.text == "hi"
        assert (await client.complete(prompt="p", argument="who", value="a")).values == ("ab", "ac")
        await client.complete(resource_template="file:///{x}", argument="x", value="a", context={"y": "1"})
        await client.set_log_level("warning")
        for named in ({}, {"prompt": "p", "resource_template": "file:///{x}"}):
            with pytest.raises(ValueError, match="either"):
                await client.complete(argument="who", value="a", **named)
        with pytest.raises(PeerError) as caught:
            await client.call("no/such", decode=decode_json)
        assert caught.value.code == -32601
    asked = [m["method"] for m in server.received if m["method"] in answers]
    assert asked == [*answers][:7] + ["completion/complete"] * 2 + ["logging/setLevel"]
    assert [m["params"] for m in server.received if m["method"] == "completion/complete"] == [
        {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "who", "value": "a"}},
        {
            "ref": {"type": "ref/resource", "uri": "file:///{x}"},
            "argument": {"name": "x", "value": "a"},
            "context": {"arguments": {"y": "1"}},
        },
    ]


async def test_the_end_of_the_connection_fails_every_call_once_with_an_error_of_its_own():
    near, far = memory_stream_pair()
    server = ScriptedMcpServer(hold=["tools/call"])
    errors = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, far, far)
        async with wrap_mcp(near, near, name="w", options=McpOptions(window=3)) as client:

            async def doomed():
                with pytest.raises(PeerGone) as caught:
                    await client.call_tool("a")
                errors.append(caught.value)

            async with trio.open_nursery() as calls:
                for _ in range(6):
                    calls.start_soon(doomed)
                await server.wait_held()
                await far.aclose()
        nursery.cancel_scope.cancel(reason="seen")
    assert len({id(error) for error in errors}) == 6
    assert all(error.retryable and error.server == "w" for error in errors)


async def test_one_caller_that_is_cancelled_everywhere_leaves_no_trace():
    async with wired(hold=()) as (client, server):

        async def operation():
            await client.call_tool("echo", {"text": "hi"})

        async def check():
            await wait_all_tasks_blocked()
            statistics = client.statistics()
            assert (statistics.in_flight, statistics.waiting, statistics.outgoing) == (0, 0, 0)
            assert (await client.call_tool("echo", {"text": "still here"})).text == "still here"

        assert await cancel_everywhere(operation, check) >= 2


async def test_connect_list_call_and_close_cancelled_everywhere_leave_nothing():
    server_ends = []

    async def operation():
        near, far = memory_stream_pair()
        server_ends.append(far)
        server = ScriptedMcpServer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, far, far)
            async with wrap_mcp(near, near) as client:
                await client.list_tools()
                async with trio.open_nursery() as calls:
                    for n in range(3):
                        calls.start_soon(client.call_tool, "echo", {"text": str(n)})

    tasks_before = trio.lowlevel.current_statistics().tasks_living

    async def check():
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks_before
        far = server_ends.pop()
        # The near end was closed: what is sent there breaks.
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await far.send_all(b"x")

    assert await cancel_everywhere(operation, check) > 20
