"""The server over streamable HTTP, driven in memory and over sockets."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import attrs
import pytest
import trio
from mcp_http_drivers import JSON_HEADERS, META, Driver, encode
from trio.testing import wait_all_tasks_blocked

from clawft_trio.auth import ADMIN, AuthContext
from clawft_trio.errors import NotConfigured, PeerError
from clawft_trio.mcp import (
    Bearer,
    HttpOptions,
    HttpServer,
    McpServer,
    ServeOptions,
    VerifiedToken,
    open_mcp,
    open_mcp_app,
    serve_mcp_http,
)
from clawft_trio.mcp.server.http_serve import _bind
from clawft_trio.testing import cancel_everywhere
from clawft_trio.tools import Tool, ToolContext, tool

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class Gate:
    """A tool that waits, and counts."""

    def __init__(self):
        self.inside = 0
        self.runs = 0
        self.opened = trio.Event()

    def tool(self):
        @tool
        async def wait() -> str:
            """Waits."""
            self.inside += 1
            self.runs += 1
            try:
                await self.opened.wait()
            finally:
                self.inside -= 1
            return "waited"

        return wait


@tool(mode="read_only")
async def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@tool
async def steps(context: ToolContext) -> str:
    """Reports two steps."""
    context.progress(1, 2)
    context.progress(2, 2)
    return "done"


@tool
async def greet(context: ToolContext) -> str:
    """Asks for a name."""
    found = await context.client.elicit("Name?", NAME)
    return f"Hello {found.content['name']}" if found.accepted else "Hello nobody"


@asynccontextmanager
async def served(*tools, server=None, options=None, **http):
    async with open_mcp_app(server or McpServer(tools), options=options, http=HttpOptions(**http)) as app:
        yield Driver(app)


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


async def test_a_session_begins_with_initialize_and_ends_with_delete():
    async with served(add) as driver:
        session = await driver.initialize()
        assert session.answer.json()["result"]["protocolVersion"] == "2025-11-25"
        assert (await session.send({"method": "notifications/initialized"})).status == 202
        assert (await session.call("ping")).json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
        answer = await session.call("tools/call", call("add", a=2, b=3))
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["result"]["content"] == [{"type": "text", "text": "5"}]
        assert (await driver.request("DELETE", headers=session.headers)).status == 204
        assert (await session.call("tools/list")).status == 404
        assert (await driver.request("DELETE", headers=session.headers)).status == 404


async def test_requests_without_a_session_are_refused_and_unknown_sessions_are_not_found():
    async with served(add) as driver:
        body = encode(1, "tools/list", {})
        assert (await driver.request("POST", body, JSON_HEADERS)).status == 400
        assert (await driver.request("POST", body, {**JSON_HEADERS, "mcp-session-id": "guess"})).status == 404
        assert (await driver.request("GET", headers={**JSON_HEADERS, "mcp-session-id": "guess"})).status == 404


async def test_messages_before_the_answer_make_the_response_a_stream():
    async with served(steps) as driver:
        session = await driver.initialize()
        answer = await session.call("tools/call", {**call("steps"), "_meta": {"progressToken": "t"}})
        assert answer.headers["content-type"] == "text/event-stream"
        prime, *events = answer.events()
        assert prime["message"] is None
        assert [event["message"].get("method", "answer") for event in events] == ["notifications/progress"] * 2 + [
            "answer"
        ]
        assert [event["id"] for event in events] == ["1-1", "1-2", "1-3"]


async def test_clients_before_2025_11_25_get_no_empty_event():
    async with served(steps) as driver:
        session = await driver.initialize(version="2025-06-18")
        answer = await session.call("tools/call", {**call("steps"), "_meta": {"progressToken": "t"}})
        assert all(event["message"] for event in answer.events())


async def test_a_slow_answer_comes_as_a_stream_that_is_kept_alive(autojump_clock):
    gate = Gate()
    async with served(gate.tool(), stream_after=0.5, keepalive=10.0) as driver:
        session = await driver.initialize()
        async with session.open("tools/call", call("wait")) as response:
            await trio.sleep(35)
            assert response.headers["content-type"] == "text/event-stream"
            assert response._buffer.count(b": keep-alive") == 3
            gate.opened.set()
            assert (await response.event())["message"] is None
            assert (await response.event())["message"]["result"]["content"][0]["text"] == "waited"


async def test_a_client_that_lost_its_connection_comes_back_for_the_answer(autojump_clock):
    gate = Gate()
    async with served(gate.tool()) as driver:
        session = await driver.initialize()
        async with session.open("tools/call", call("wait")) as response:
            last = (await response.event())["id"]
        await wait_all_tasks_blocked()
        assert gate.inside == 1
        async with session.listen(last) as response:
            gate.opened.set()
            event = await response.event()
            assert event["message"]["result"]["content"][0]["text"] == "waited"
            await response.whole()
        # And again: what was sent is kept.
        async with session.listen(last) as response:
            assert (await response.event())["message"] == event["message"]
        async with session.listen(event["id"]) as response:
            assert (await response.whole()).body == b""
        assert gate.runs == 1


async def test_a_tool_can_close_its_stream_and_the_client_polls_for_the_rest():
    gate = Gate()

    @tool
    async def release(context: ToolContext) -> str:
        """Closes its stream."""
        context.client.release_stream()
        await gate.opened.wait()
        return "later"

    async with served(release) as driver:
        session = await driver.initialize()
        [prime] = (await session.call("tools/call", call("release"))).events()
        assert prime["retry"] == "1000"
        gate.opened.set()
        async with session.listen(prime["id"]) as response:
            assert (await response.event())["message"]["result"]["content"][0]["text"] == "later"


async def test_a_reader_that_comes_back_displaces_the_old_one():
    async with served(add) as driver:
        session = await driver.initialize()
        async with session.listen() as old:
            await wait_all_tasks_blocked()
            async with session.listen() as new:
                await wait_all_tasks_blocked()
                assert old.ended
                assert not new.ended


async def test_cancelling_a_request_ends_it_without_an_answer():
    gate = Gate()
    async with served(gate.tool()) as driver:
        session = await driver.initialize()
        async with session.open("tools/call", call("wait"), key="k") as response:
            await wait_all_tasks_blocked()
            assert (await session.call("tools/list", key="k")).status == 400
            await session.send({"method": "notifications/cancelled", "params": {"requestId": "k"}})
            assert "result" not in (await response.whole()).body.decode()
        assert gate.inside == 0
        assert (await session.call("tools/list", key="k")).status == 200


async def test_a_tool_asks_the_client_and_gets_its_answer():
    async with served(greet) as driver:
        session = await driver.initialize({"elicitation": {}})
        async with session.open("tools/call", call("greet")) as response:
            assert (await response.event())["message"] is None
            question = (await response.event())["message"]
            assert question["method"] == "elicitation/create"
            # Responses to no request are dropped, and so is a second one.
            for key, name in (
                (question["id"] + 1, "Eve"),
                ("x", "Eve"),
                (question["id"], "Ana"),
                (question["id"], "Eve"),
            ):
                answer = {"action": "accept", "content": {"name": name}}
                assert (await session.send({"id": key, "result": answer, "error": None})).status == 202
            assert (await response.event())["message"]["result"]["content"][0]["text"] == "Hello Ana"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"result": {"action": "accept", "content": {"name": 5}}}, "$.name: 5"),
        ({"result": {"action": "maybe"}}, "names no action"),
        ({"result": None}, "the result is not an object"),
        ({"error": {"code": -1, "message": "not now"}}, "not now"),
        ({"error": {"code": -1, "message": ""}}, "no message"),
        ({"error": "boom"}, "boom"),
    ],
)
async def test_a_bad_answer_of_the_client_is_the_tools_error(answer, words):
    async with served(greet) as driver:
        session = await driver.initialize({"elicitation": {}})
        async with session.open("tools/call", call("greet")) as response:
            await response.event()
            question = (await response.event())["message"]
            await session.send({"id": question["id"], **answer})
            result = (await response.event())["message"]["result"]
            assert result["isError"]
            assert words in result["content"][0]["text"]


async def test_a_client_that_does_not_answer_is_waited_for_within_bounds(autojump_clock):
    async with served(greet, options=ServeOptions(client_answer=20.0)) as driver:
        session = await driver.initialize({"elicitation": {}})
        began = trio.current_time()
        events = (await session.call("tools/call", call("greet"))).events()
        assert trio.current_time() - began == 20.0
        assert events[-2]["message"]["method"] == "notifications/cancelled"
        assert events[-1]["message"]["result"]["isError"]


async def test_what_a_client_did_not_declare_is_not_asked():
    async with served(greet) as driver:
        session = await driver.initialize()
        assert "capability" in (await session.call("tools/call", call("greet"))).json()["result"]["content"][0]["text"]


async def test_changes_reach_the_standalone_stream():
    server = McpServer([add])

    @server.resource("test://watched")
    async def watched():
        return "text"

    async with served(server=server) as driver:
        session = await driver.initialize()
        await session.call("resources/subscribe", {"uri": "test://watched"})
        async with session.listen() as response:
            server.tools.remove("add")
            server.resource_changed("test://watched")
            server.resource_changed("test://other")
            server.prompt(lambda: "x", name="new")
            changes = [(await response.event())["message"] for _ in range(3)]
            assert [(one["method"].partition("/")[2], one["params"]) for one in changes] == [
                ("tools/list_changed", {}),
                ("resources/updated", {"uri": "test://watched"}),
                ("prompts/list_changed", {}),
            ]


async def test_without_sessions_every_request_stands_alone():
    async with served(add, greet, sessions=False) as driver:
        session = await driver.initialize({"elicitation": {}})
        assert "mcp-session-id" not in session.answer.headers
        assert (await session.call("tools/call", call("add", a=1, b=1))).json()["result"]["content"][0]["text"] == "2"
        assert (await session.call("tools/call", call("greet"))).json()["result"]["isError"]
        for method in ("GET", "DELETE", "PUT"):
            refused = await driver.request(method, headers=session.headers)
            assert (refused.status, refused.headers["allow"]) == (405, "POST")
        for message in ({"id": 1, "result": {}}, {"method": "notifications/initialized"}):
            assert (await session.send(message)).status == 202


async def test_a_request_that_describes_itself_needs_no_session():
    async with served(add) as driver:
        answer = await driver.stateless("tools/call", call("add", a=2, b=3))
        result = answer.json()["result"]
        assert (answer.status, result["resultType"], result["content"][0]["text"]) == (200, "complete", "5")
        assert "io.modelcontextprotocol/serverInfo" in result["_meta"]
        found = (await driver.stateless("server/discover")).json()["result"]
        assert found["supportedVersions"] == ["2026-07-28"]


VERSION, CAPABILITIES = META
STATELESS_REFUSALS = [
    ({"headers": {"mcp-protocol-version": None}}, 400, -32020),
    ({"headers": {"mcp-protocol-version": "2025-11-25"}}, 400, -32020),
    ({"headers": {"mcp-method": None}}, 400, -32020),
    ({"headers": {"mcp-method": "TOOLS/CALL"}}, 400, -32020),
    ({"headers": {"mcp-name": None}}, 400, -32020),
    ({"headers": {"mcp-name": "sub"}}, 400, -32020),
    ({"headers": {"mcp-name": "=?base64?YWRk?="}}, 200, None),
    ({"headers": {"mcp-name": "=?base64?YWR?="}}, 400, -32020),
    ({"meta": {}}, 400, -32602),
    ({"meta": {VERSION: "2026-07-28"}}, 400, -32602),
    ({"meta": {VERSION: "2026-07-28", CAPABILITIES: None}}, 400, -32602),
    ({"meta": {**META, VERSION: "2099-01-01"}}, 400, -32020),
    ({"meta": {**META, VERSION: "2099-01-01"}, "headers": {"mcp-protocol-version": "2099-01-01"}}, 400, -32022),
    ({"meta": {**META, "io.modelcontextprotocol/logLevel": "loud"}}, 400, -32602),
]


@pytest.mark.parametrize(("change", "status", "code"), STATELESS_REFUSALS)
async def test_headers_and_meta_of_a_stateless_request_are_checked(change, status, code):
    async with served(add) as driver:
        answer = await driver.stateless("tools/call", call("add", a=2, b=3), key=7, **change)
        assert (answer.status, answer.json().get("error", {}).get("code"), answer.json()["id"]) == (status, code, 7)
        if code == -32022:
            assert answer.json()["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2099-01-01"}


@pytest.mark.parametrize("method", ["ping", "initialize", "logging/setLevel", "resources/subscribe", "no/such"])
async def test_unknown_methods_of_a_stateless_client_are_404(method):
    async with served(add) as driver:
        answer = await driver.stateless(method)
        assert (answer.status, answer.json()["error"]["code"]) == (404, -32601)


PARAM_HEADERS = [
    ({"region": "eu"}, {"mcp-param-region": "eu"}, 200),
    ({"region": "eu"}, {"mcp-param-region": "us"}, 400),
    ({"region": "eu"}, {}, 400),
    ({}, {}, 200),
    ({}, {"mcp-param-region": "eu"}, 400),
    ({"region": None}, {}, 200),
    ({"region": "eu", "size": 42}, {"mcp-param-region": "eu", "mcp-param-size": "42.0"}, 200),
    ({"region": "eu", "size": 42}, {"mcp-param-region": "eu", "mcp-param-size": "x"}, 400),
    ({"region": "ü"}, {"mcp-param-region": "=?base64?w7w=?="}, 200),
    ({"region": "eu", "deep": {"flag": True}}, {"mcp-param-region": "eu", "mcp-param-flag": "true"}, 200),
    ({"region": "eu", "deep": {"flag": True}}, {"mcp-param-region": "eu", "mcp-param-flag": "True"}, 400),
]


@pytest.mark.parametrize(("arguments", "headers", "status"), PARAM_HEADERS)
async def test_headers_that_repeat_arguments_are_checked(arguments, headers, status):
    async def run(arguments, context):
        return "ran"

    properties = {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "size": {"type": "integer", "x-mcp-header": "Size"},
        "deep": {"type": "object", "properties": {"flag": {"type": "boolean", "x-mcp-header": "Flag"}}},
    }
    regional = Tool("regional", function=run, parameters={"type": "object", "properties": properties})
    async with served(regional) as driver:
        answer = await driver.stateless("tools/call", call("regional", **arguments), headers=headers)
        assert answer.status == status
        assert status == 200 or answer.json()["error"]["code"] == -32020


async def test_a_tool_that_is_replaced_has_the_headers_of_the_new_one():
    async def run(arguments, context):
        return "ran"

    async with served(server=(server := McpServer())) as driver:
        for header, status in ((None, 200), ("Region", 400), ("Other", 400), (None, 200)):
            schema = {"type": "string", **({"x-mcp-header": header} if header else {})}
            tool = Tool("same", function=run, parameters={"type": "object", "properties": {"region": schema}})
            server.tools.add(tool)
            for _ in range(2):
                assert (await driver.stateless("tools/call", call("same", region="eu"))).status == status
            if header:
                sent = {f"mcp-param-{header.lower()}": "eu"}
                answer = await driver.stateless("tools/call", call("same", region="eu"), headers=sent)
                assert answer.status == 200
            server.tools.remove("same")


async def test_a_tool_whose_schema_has_headers_that_do_not_work_is_called_without_them():
    async def run(arguments, context):
        return "ran"

    schema = {"type": "object", "properties": {"region": {"type": "object", "x-mcp-header": "Region"}}}
    async with served(Tool("odd", function=run, parameters=schema)) as driver:
        assert (await driver.stateless("tools/call", call("odd", region={}))).status == 200


@pytest.mark.parametrize(
    ("seconds", "kind"), [(1, "application/json"), (4, "application/json"), (6, "text/event-stream")]
)
async def test_an_answer_becomes_a_stream_after_the_time_for_it(seconds, kind, autojump_clock):
    @tool
    async def work() -> str:
        """Takes its time."""
        await trio.sleep(seconds)
        return "done"

    async with served(work, stream_after=5.0) as driver, trio.open_nursery() as nursery:

        async def other():
            await trio.sleep(0.5)
            await driver.stateless("tools/call", call("work"))

        nursery.start_soon(other)
        answer = await driver.stateless("tools/call", call("work"))
        assert answer.headers["content-type"] == kind


async def test_a_stateless_client_that_disconnects_cancels_its_request(autojump_clock):
    gate = Gate()
    async with served(gate.tool(), stream_after=5.0) as driver:
        for waited in (0, 10):
            async with driver.open_stateless("tools/call", call("wait")):
                await trio.sleep(waited)
                await wait_all_tasks_blocked()
                assert gate.inside == 1
            assert gate.inside == 0


ABLE = {**META, CAPABILITIES: {"elicitation": {}}}


async def test_a_question_is_answered_in_a_second_round_and_the_tool_runs_again():
    async with served(greet) as driver:
        first = (await driver.stateless("tools/call", call("greet"), meta=ABLE)).json()["result"]
        assert first["resultType"] == "input_required"
        [(key, question)] = first["inputRequests"].items()
        assert question["method"] == "elicitation/create"
        answers = {key: {"action": "accept", "content": {"name": "Bo"}}, "unasked": {"x": 1}}
        again = {**call("greet"), "inputResponses": answers, "requestState": first["requestState"]}
        second = (await driver.stateless("tools/call", again, key=2, meta=ABLE)).json()["result"]
        assert (second["resultType"], second["content"][0]["text"]) == ("complete", "Hello Bo")


async def test_a_missing_capability_is_an_error_that_names_it():
    async with served(greet) as driver:
        answer = await driver.stateless("tools/call", call("greet"))
        assert (answer.status, answer.json()["error"]["code"]) == (400, -32021)
        assert answer.json()["error"]["data"] == {"requiredCapabilities": {"elicitation": {"form": {}}}}


class Calendar:
    def __init__(self):
        self.time = datetime(2026, 11, 28, tzinfo=UTC)

    def __call__(self):
        return self.time


@pytest.mark.parametrize("fault", ["tampered", "expired", "other arguments", "not ours", "empty", None])
async def test_state_is_accepted_for_its_own_call_and_time_only(fault):
    @tool
    async def pay(amount: int, context: ToolContext) -> str:
        """Asks twice."""
        await context.client.elicit("Sure?", NAME, key="first")
        await context.client.elicit("Really?", NAME, key="second")
        return f"paid {amount}"

    calendar = Calendar()
    accept = {"action": "accept", "content": {"name": "x"}}
    async with served(pay, options=ServeOptions(now=calendar, state_lifetime=60)) as driver:
        ask = partial(driver.stateless, "tools/call", meta=ABLE)
        first = (await ask({**call("pay", amount=5), "inputResponses": {"first": accept}})).json()["result"]
        state, amount = first["requestState"], 5
        if fault == "tampered":
            state = ("A" if state[0] != "A" else "B") + state[1:]
        elif fault == "expired":
            calendar.time += timedelta(seconds=61)
        elif fault == "other arguments":
            amount = 5000
        elif fault == "not ours":
            state = "eyJhIjoxfQ==.00"
        elif fault == "empty":
            state = ""
        again = {**call("pay", amount=amount), "inputResponses": {"second": accept}, "requestState": state}
        answer = (await ask(again)).json()
        if fault is None:
            assert answer["result"]["content"][0]["text"] == "paid 5"
        else:
            assert answer["error"]["code"] == -32602


@pytest.mark.parametrize("answers", [{"elicitation-1": 5}, {"elicitation-1": None}, [], "x"])
async def test_malformed_answers_to_a_question_are_refused(answers):
    async with served(greet) as driver:
        answer = (await driver.stateless("tools/call", {**call("greet"), "inputResponses": answers}, meta=ABLE)).json()
        assert answer["error"]["code"] == -32602


async def test_log_lines_come_only_to_requests_that_want_them():
    @tool
    async def chatty(context: ToolContext) -> str:
        """Logs."""
        context.client.log("debug", "small")
        context.client.log("error", {"large": 1}, logger="l")
        return "done"

    async with served(chatty) as driver:
        assert (await driver.stateless("tools/call", call("chatty"))).headers["content-type"] == "application/json"
        meta = {**META, "io.modelcontextprotocol/logLevel": "warning"}
        [line, _] = (await driver.stateless("tools/call", call("chatty"), meta=meta)).events()
        assert line["message"]["params"] == {"level": "error", "data": {"large": 1}, "logger": "l"}
        session = await driver.initialize()
        await session.call("logging/setLevel", {"level": "debug"})
        assert len((await session.call("tools/call", call("chatty"))).events()) == 4


async def test_a_subscription_is_acknowledged_filtered_and_tagged():
    server = McpServer([add])
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["test://a"]}
    async with served(server=server) as driver:
        async with driver.open_stateless("subscriptions/listen", {"notifications": wanted}, key="s") as response:
            first = (await response.event())["message"]
            assert first["method"] == "notifications/subscriptions/acknowledged"
            assert first["params"]["notifications"] == wanted
            server.prompt(lambda: "x", name="unwanted")
            server.resource_changed("test://b")
            server.resource_changed("test://a")
            server.tools.remove("add")
            seen = [(await response.event())["message"] for _ in range(2)]
            assert [one["method"] for one in seen] == [
                "notifications/resources/updated",
                "notifications/tools/list_changed",
            ]
            assert {one["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] for one in seen} == {"s"}
        assert server.changes.watchers == 1


HOSTS = [
    ({"host": "localhost"}, 200),
    ({"host": "127.0.0.1:9"}, 200),
    ({"host": "[::1]:8000"}, 200),
    ({"host": "LOCALHOST:8000"}, 200),
    ({"host": "evil.example"}, 403),
    ({"host": "localhost.evil.example"}, 403),
    ({"host": "localhost:8000@evil"}, 403),
    ({"host": None}, 403),
    ({"origin": "http://localhost:5173"}, 200),
    ({"origin": "https://127.0.0.1"}, 200),
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "http://localhost.evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://127.0.0.1#evil.example"}, 403),
    ({"origin": "http://localhost/page"}, 403),
    ({"origin": "file://localhost"}, 403),
    ({"origin": "http://[bad"}, 403),
    ({"content-type": "text/plain"}, 415),
    ({"content-type": None}, 415),
    ({"content-type": "application/json; charset=utf-8"}, 200),
    ({"accept": "application/json"}, 406),
    ({"accept": "*/*"}, 200),
    ({"accept": None}, 200),
]


@pytest.mark.parametrize(("change", "status"), HOSTS)
async def test_headers_decide_whether_a_request_is_served(change, status):
    async with served(add) as driver:
        answer = await driver.stateless("tools/list", headers=change)
        assert answer.status == status


async def test_allowed_hosts_and_origins_are_served_and_cross_origin_pages_may_read_the_session():
    async with served(add, hosts=("mcp.example",), origins=("https://app.example",)) as driver:
        headers = {"host": "mcp.example:443", "origin": "https://app.example"}
        answer = await driver.stateless("tools/list", headers=headers)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        preflight = await driver.request("OPTIONS", headers=headers)
        assert preflight.status == 204
        assert "Mcp-Session-Id" in preflight.headers["access-control-expose-headers"]
        assert (await driver.stateless("tools/list")).status == 403


BODIES = [
    (b"", -32700),
    (b"{", -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"a\xff"}', -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
    (b"[]", -32700),
    (b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', -32600),
    (b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}', -32600),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"tools/list"}', -32600),
    (b"[" * 100_000, -32600),
]


@pytest.mark.parametrize(("body", "code"), BODIES)
async def test_bodies_that_are_no_message_are_refused(body, code):
    async with served(add) as driver:
        headers = {**JSON_HEADERS, "mcp-protocol-version": "2026-07-28"}
        answer = await driver.request("POST", body, headers)
        error = answer.json()["error"]
        assert (answer.status, error["code"], sorted(error)) == (400, code, ["code", "message"])
        assert 0 < len(error["message"]) <= 300


async def test_bodies_have_a_limit_of_size_and_time(autojump_clock):
    async with served(add, max_body=1000, body_within=5.0) as driver:
        assert (await driver.request("POST", b"x" * 1001, JSON_HEADERS)).status == 413
        declared = {**JSON_HEADERS, "content-length": "9" * 30}
        assert (await driver.request("POST", b"x", declared)).status == 413
        # One that is declared is refused before it arrives.
        assert (
            await driver.request("POST", headers={**JSON_HEADERS, "content-length": "1001"}, pieces=[None])
        ).status == 413
        assert (await driver.request("POST", headers=JSON_HEADERS, pieces=[b"x" * 600, b"x" * 600])).status == 413
        for longest in (JSON_HEADERS, {**JSON_HEADERS, "content-length": "1000"}):
            assert (await driver.request("POST", headers=longest, pieces=[b"x" * 600, b"x" * 400])).status == 400
        began = trio.current_time()
        assert (await driver.request("POST", headers=JSON_HEADERS, pieces=[b"{", None])).status == 408
        assert trio.current_time() - began == 5.0


async def test_sessions_requests_and_listeners_have_a_limit():
    gate = Gate()
    limits = {"max_sessions": 2, "max_requests": 3, "max_session_requests": 2, "max_listeners": 1}
    async with served(gate.tool(), **limits) as driver:
        first, second = await driver.initialize(), await driver.initialize()
        async with (
            first.open("tools/call", call("wait"), key=1),
            first.open("tools/call", call("wait"), key=2),
            second.open("tools/call", call("wait"), key=1),
        ):
            await wait_all_tasks_blocked()
            assert (await first.call("tools/list", key=3)).status == 503
            assert (await second.call("tools/list", key=2)).status == 503
            assert (await driver.stateless("tools/list")).status == 503
            assert (await driver.initialize()).answer.status == 503
            gate.opened.set()
        async with first.listen():
            await wait_all_tasks_blocked()
            async with second.listen() as refused:
                await wait_all_tasks_blocked()
                assert refused.status == 503
        # The session that has been idle for longest makes room.
        assert (await driver.initialize()).answer.status == 200
        assert (await first.call("tools/list")).status == 200
        assert (await second.call("tools/list")).status == 404


async def test_idle_sessions_are_closed(autojump_clock):
    gate = Gate()
    async with served(gate.tool(), session_idle=20.0) as driver:
        idle, busy, reading, gone = [await driver.initialize() for _ in range(4)]

        async def found(*sessions):
            return [(await session.call("tools/list", key=2)).status == 200 for session in sessions]

        async with busy.open("tools/call", call("wait")), reading.listen():
            async with gone.open("tools/call", call("wait")):
                await trio.sleep(1)
            await trio.sleep(40)
            assert await found(idle, busy, reading) == [False, True, True]
            gate.opened.set()
        # The time begins with the end of the last request, also of one whose client has disconnected.
        await trio.sleep(18)
        assert await found(busy, reading, gone) == [True] * 3
        await trio.sleep(31)
        assert await found(busy, reading, gone) == [False] * 3


async def test_leaving_the_application_ends_everything():
    gate = Gate()
    async with trio.open_nursery() as nursery:
        async with served(gate.tool()) as driver:
            session = await driver.initialize()

            async def wait(key):
                async with session.open("tools/call", call("wait"), key=key) as response:
                    await response.whole()

            nursery.start_soon(wait, 1)
            nursery.start_soon(wait, 2)
            await wait_all_tasks_blocked()
            assert gate.inside == 2
        assert gate.inside == 0
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="seen")


async def verify(token):
    await trio.lowlevel.checkpoint()
    if token == "broken":
        raise RuntimeError("the key server is away")
    if token == "slow":
        await trio.sleep_forever()
    name, _, scopes = token.partition(":")
    if name not in ("ana", "bo"):
        return None
    granted = scopes.split("+")
    permissions = attrs.evolve(ADMIN, tool_access=(), level=0) if "less" in granted else ADMIN
    return VerifiedToken(auth=AuthContext(sender_id=name, channel="mcp", permissions=permissions), scopes=granted)


BEARER = Bearer(
    verify=verify,
    resource="https://mcp.example/mcp",
    authorization_servers=("https://login.example",),
    scopes=("tools",),
)


@pytest.mark.parametrize(
    ("authorization", "status", "error"),
    [
        (None, 401, None),
        ("", 401, None),
        ("Basic ana:tools", 401, None),
        ("Bearer ", 401, None),
        ("Bearer eve:tools", 401, "invalid_token"),
        ("Bearer " + "ana:tools+".ljust(16_384, "x"), 200, None),
        ("Bearer " + "ana:tools+".ljust(16_385, "x"), 401, "invalid_token"),
        ("Bearer ana:other", 403, "insufficient_scope"),
        ("Bearer broken", 503, None),
        ("Bearer slow", 503, None),
        ("Bearer ana:tools", 200, None),
        ("bearer ana:tools+more", 200, None),
    ],
)
async def test_tokens_decide_who_is_served(authorization, status, error, autojump_clock):
    async with served(add, bearer=BEARER) as driver:
        answer = await driver.stateless("tools/list", headers={"authorization": authorization})
        assert answer.status == status
        if status in (401, 403):
            challenge = answer.headers["www-authenticate"]
            assert 'resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp"' in challenge
            assert (f'error="{error}"' in challenge) == (error is not None)
            assert 'scope="tools"' in challenge


@pytest.mark.parametrize("path", ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"])
async def test_the_resource_metadata_is_public(path):
    async with served(add, bearer=BEARER) as driver:
        answer = await driver.request("GET", headers=JSON_HEADERS, path=path)
        assert (answer.status, answer.json()) == (
            200,
            {
                "resource": "https://mcp.example/mcp",
                "authorization_servers": ["https://login.example"],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["tools"],
            },
        )
        # The metadata is read, and everything else needs a token.
        assert (await driver.request("POST", headers=JSON_HEADERS, path=path)).status == 404
    async with served(add) as driver:
        assert (await driver.request("GET", headers=JSON_HEADERS, path=path)).status == 404


async def test_a_session_and_its_state_belong_to_the_sender_who_began_them():
    async with served(add, greet, bearer=BEARER) as driver:
        session = await driver.initialize(headers={"authorization": "Bearer ana:tools"})
        assert (await session.call("tools/list")).status == 200
        session.headers["authorization"] = "Bearer bo:tools"
        assert (await session.call("tools/list")).status == 404
        ask = partial(driver.stateless, "tools/call", meta=ABLE)
        first = await ask(call("greet"), headers={"authorization": "Bearer ana:tools"})
        again = {**call("greet"), "requestState": first.json()["result"]["requestState"]}
        other = await ask(again, headers={"authorization": "Bearer bo:tools"})
        assert other.json()["error"]["code"] == -32602


async def test_a_request_has_the_permissions_of_its_own_token_and_not_of_the_one_that_opened_the_session():
    server = McpServer([add])

    @server.prompt(required_level=1)
    async def review() -> str:
        """Reviews."""
        return "Review"

    async def offered(session):
        tools = (await session.call("tools/list")).json()["result"]["tools"]
        prompts = (await session.call("prompts/list")).json()["result"]["prompts"]
        return [entry["name"] for entry in (*tools, *prompts)]

    async with served(server=server, bearer=BEARER) as driver:
        session = await driver.initialize(headers={"authorization": "Bearer ana:tools"})
        assert await offered(session) == ["add", "review"]
        session.headers["authorization"] = "Bearer ana:tools+less"
        assert await offered(session) == []
        assert (await session.call("tools/call", call("add", a=1, b=2))).json()["result"]["isError"]
        assert (await session.call("prompts/get", {"name": "review"})).json()["error"]["code"] == -32602
        session.headers["authorization"] = "Bearer ana:tools"
        assert await offered(session) == ["add", "review"]


async def test_changes_of_a_resource_are_reported_only_to_senders_who_may_read_it():
    server = McpServer([add])

    @server.resource("test://secret/{name}", required_level=1)
    async def secret(name: str):
        return name

    less, more = ({"authorization": f"Bearer ana:tools{extra}"} for extra in ("+less", ""))
    wanted = {"resourceSubscriptions": ["test://secret/a", "test://open"]}
    async with served(server=server, bearer=BEARER) as driver:
        session = await driver.initialize(headers=less)
        refused = await session.call("resources/subscribe", {"uri": "test://secret/a"})
        assert refused.json()["error"]["code"] == -32002
        assert "result" in (await session.call("resources/subscribe", {"uri": "test://open"})).json()
        session.headers |= more
        assert "result" in (await session.call("resources/subscribe", {"uri": "test://secret/a"})).json()
        for headers, seen in ((less, ["test://open"]), (more, ["test://open", "test://secret/a"])):
            listen = driver.open_stateless("subscriptions/listen", {"notifications": wanted}, key="s", headers=headers)
            async with listen as response:
                acknowledged = (await response.event())["message"]["params"]["notifications"]
                assert acknowledged["resourceSubscriptions"] == seen


@asynccontextmanager
async def listening(server, **kwargs):
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_mcp_http, server, "127.0.0.1:0", **kwargs))
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_our_client_and_our_server_understand_each_other_over_sockets():
    server = McpServer([add, steps])

    @server.prompt
    async def review(code: str) -> str:
        """Reviews code."""
        return f"Review {code}"

    with trio.fail_after(30):
        async with listening(server) as address, open_mcp(HttpServer(address)) as client:
            assert (await client.call_tool("add", {"a": 2, "b": 3})).text == "5"
            seen = []
            await client.call_tool("steps", {}, on_progress=lambda p: seen.append(p.progress))
            assert seen == [1, 2]
            with pytest.raises(PeerError) as caught:
                await client.call_tool("nonsense")
            assert caught.value.code == -32602
            prompt = await client.get_prompt("review", {"code": "x"})
            assert prompt.messages[0].content.text == "Review x"


async def test_a_server_that_is_open_to_the_network_needs_tokens():
    with pytest.raises(NotConfigured, match="bearer"):
        await serve_mcp_http(McpServer([add]), "0.0.0.0:0")


@pytest.mark.parametrize("bind", ["", "8000", "localhost", ":8000", "localhost:x", "localhost:65536"])
async def test_what_is_no_address_is_refused(bind):
    with pytest.raises(NotConfigured, match="host:port"):
        await serve_mcp_http(McpServer([add]), bind)


async def test_any_free_port_is_one_on_one_address_and_a_port_is_taken_on_every_address():
    addresses = {info[4] for info in await trio.socket.getaddrinfo("localhost", 0, type=trio.socket.SOCK_STREAM)}
    [free] = await _bind("localhost", 0)
    with free:
        port = free.getsockname()[1]
    named = await _bind("localhost", port)
    assert len(named) == len(addresses)
    for one in named:
        assert one.getsockname()[1] == port
        one.close()


async def test_an_address_that_is_taken_is_one_plain_error():
    async with listening(McpServer([add])) as address:
        bind = address.removeprefix("http://").removesuffix("/mcp")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is what counts
            await serve_mcp_http(McpServer([add]), bind)
    assert caught.value.errno == errno.EADDRINUSE


async def test_serving_over_http_cancelled_everywhere_leaves_nothing_running():
    gate = Gate()
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def operation():
        async with served(add, gate.tool(), greet) as driver:
            session = await driver.initialize({"elicitation": {}})
            await session.call("tools/call", call("add", a=1, b=2))
            async with session.open("tools/call", call("wait"), key=2), session.listen():
                await driver.stateless("tools/list")

    async def check():
        await wait_all_tasks_blocked()
        assert gate.inside == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    assert await cancel_everywhere(operation, check) > 20
