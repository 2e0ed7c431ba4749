"""Servers that refuse requests of a forgotten session otherwise than with 404, and servers that only seem to."""

from __future__ import annotations

import json

import pytest
import trio
from mcp_http import http_script, initialize, texts_of_concurrent_calls

from clawft_trio.errors import PeerError, RequestTimeout, SessionLost
from clawft_trio.mcp import HttpServer, McpOptions, Supervision, open_mcp
from clawft_trio.mcp.transports.session_check import PingSupport, SessionCheck
from clawft_trio.testing import cancel_everywhere

TEXT = {"content": [{"type": "text", "text": "hi"}]}
SUPERVISED = McpOptions(supervision=Supervision(first_wait=0.01), protocol="handshake")
ALONE = McpOptions(supervision=None, protocol="handshake")


def error(code, key=None):
    return json.dumps({"jsonrpc": "2.0", "id": key, "error": {"code": code, "message": "Bad Request"}}).encode()


def own(code):
    return lambda request: error(code, request.message["id"])


# How real servers refuse a session that they do not know.
LOST = {
    "TypeScript examples": (400, lambda _: error(-32000)),
    "Python SDK until 1.20": (400, lambda _: b"Bad Request: No valid session ID provided"),
    "strict JSON-RPC": (400, lambda _: error(-32600)),
    "own id": (400, own(-32001)),
    "own id, -32000": (400, own(-32000)),
    "rmcp": (401, lambda _: b"Unauthorized: Session not found"),
    "rmcp, not initialized": (422, lambda _: b"Unexpected message, expect initialize request"),
    "gone": (410, lambda _: b""),
    "as specified": (404, lambda _: error(-32001)),
    "as specified, own id": (404, own(-32001)),
}


class Sessions:
    """A server that forgets sessions. `answer` refuses requests of forgotten ones with *status* and *body*."""

    def __init__(self, status=400, body=lambda _: error(-32000), lost=("s0",)):
        self.status, self.body, self.lost = status, body, set(lost)
        self.opened = []

    async def refuse(self, request, status=None, body=None, **headers):
        found = (body or self.body)(request)
        kind = {"content-type": "application/json"} if found.startswith(b"{") else {}
        await request.respond(status or self.status, found, **kind, **headers)

    async def answer(self, request):
        message = request.message
        if message and message.get("method") == "initialize":
            self.opened.append(f"s{len(self.opened)}")
        if await initialize(request, session=self.opened[-1]):
            return
        if request.headers["mcp-session-id"] in self.lost:
            await self.refuse(request)
        elif message["method"] == "ping":
            await self.ping(request)
        else:
            await self.call(request)

    async def ping(self, request):
        await request.json(request.result({}))

    async def call(self, request):
        await request.json(request.result(TEXT))


@pytest.mark.parametrize(("status", "body"), LOST.values(), ids=LOST)
async def test_a_call_that_a_forgotten_session_refused_is_sent_again_in_a_new_one(status, body):
    server = Sessions(status, body)
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10):
            assert (await client.call_tool("x")).text == "hi"
            assert (await client.call_tool("x")).text == "hi"
        assert client.restarts == 1
        assert server.opened == ["s0", "s1"]
        assert script.methods().count("tools/call") == 3


async def test_all_calls_of_a_forgotten_session_share_a_ping_and_are_sent_again():
    server = Sessions()
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        assert await texts_of_concurrent_calls(client, 20) == ["hi"] * 20
        assert server.opened == ["s0", "s1"]
        # One for the lost session, and one that shows that a new session accepts pings.
        assert script.methods().count("ping") == 2


async def test_each_lost_session_of_a_server_is_replaced():
    server = Sessions(lost=())
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10):
            for number in range(3):
                assert (await client.call_tool("x")).text == "hi"
                server.lost.add(f"s{number}")
            assert (await client.call_tool("x")).text == "hi"
        assert client.restarts == 3


HONEST = {
    "null id": (400, lambda _: error(-32000)),
    "own id": (400, own(-32000)),
    "own id, parameters": (400, own(-32602)),
    "text": (400, lambda _: b"bad argument"),
    "422": (422, lambda _: b'{"detail": "bad argument"}'),
    "401": (401, lambda _: b""),
    "unknown method": (404, own(-32601)),
}


@pytest.mark.parametrize(("status", "body"), HONEST.values(), ids=HONEST)
async def test_a_refusal_of_one_request_ends_no_session(status, body):
    class Picky(Sessions):
        async def call(self, request):
            if request.message["params"]["name"] == "bad":
                await self.refuse(request)
            else:
                await super().call(request)

    server = Picky(status, body, lost=())
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10):
            for _ in range(3):
                with pytest.raises(PeerError) as caught:
                    await client.call_tool("bad")
                assert caught.value.status == status
            assert (await client.call_tool("x")).text == "hi"
        assert (server.opened, client.restarts) == (["s0"], 0)
        assert script.methods().count("tools/call") == 4
        assert script.methods().count("ping") <= 3


async def test_an_error_about_the_parameters_is_no_reason_for_a_ping():
    class Picky(Sessions):
        async def call(self, request):
            await self.refuse(request, 400, own(-32602))

    async with http_script(Picky(lost=()).answer) as script:
        async with open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
            with pytest.raises(PeerError, match="Bad Request"):
                await client.call_tool("x")
        assert "ping" not in script.methods()


async def test_a_401_with_a_challenge_requires_a_login_and_is_no_reason_for_a_ping():
    class Locked(Sessions):
        async def call(self, request):
            await self.refuse(request, 401, lambda _: b"", **{"www-authenticate": "Bearer"})

    async with http_script(Locked(lost=()).answer) as script:
        async with open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
            with pytest.raises(PeerError) as caught:
                await client.call_tool("x")
        assert caught.value.status == 401
        assert "ping" not in script.methods()


class NoPing(Sessions):
    """A server that keeps its sessions, refuses every ping with *status* and *body*, and calls of the tool `bad`."""

    def __init__(self, status, body):
        super().__init__(lost=())
        self.refusal = status, body

    async def ping(self, request):
        await self.refuse(request, *self.refusal)

    async def call(self, request):
        if request.message["params"]["name"] == "bad":
            await self.refuse(request)
        else:
            await super().call(request)


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, lambda _: error(-32000)), (404, lambda _: b""), (400, own(-32000))],
    ids=["null id", "404", "own id"],
)
async def test_a_server_that_refuses_every_ping_is_restarted_once_and_not_asked_again(status, body):
    server = NoPing(status, body)
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10):
            for _ in range(5):
                with pytest.raises(PeerError) as caught:
                    await client.call_tool("bad")
                assert (caught.value.status, caught.value.code) == (400, -32000)
                assert (await client.call_tool("x")).text == "hi"
        assert client.restarts == 1
        assert script.methods().count("ping") == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, own(-32601)), (400, lambda _: error(-32601)), (503, lambda _: b"")],
    ids=["own id", "null id", "503"],
)
async def test_a_server_without_pings_keeps_its_session(status, body):
    server = NoPing(status, body)
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10), pytest.raises(PeerError, match="Bad Request"):
            await client.call_tool("bad")
        assert client.restarts == 0


async def test_a_server_without_sessions_is_not_asked():
    async def answer(request):
        if not await initialize(request):
            await request.respond(400, error(-32000), **{"content-type": "application/json"})

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with pytest.raises(PeerError, match="Bad Request"):
            await client.call_tool("x")
        assert (client.restarts, script.methods().count("ping")) == (0, 0)


async def test_a_client_that_is_not_supervised_keeps_the_servers_own_error():
    async with http_script(Sessions().answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with trio.fail_after(10), pytest.raises(PeerError, match="Bad Request"):
            await client.call_tool("x")
        assert "ping" not in script.methods()


async def test_the_total_of_a_call_includes_the_time_in_the_lost_session():
    class Slow(Sessions):
        async def refuse(self, request):
            if request.message["method"] == "tools/call":
                await trio.sleep(0.4)
            await super().refuse(request)

        async def call(self, request):
            await trio.sleep(0.4)
            await super().call(request)

    async with http_script(Slow().answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with pytest.raises(RequestTimeout):
            await client.call_tool("x", total=0.6)


async def test_a_call_that_two_sessions_refuse_fails_with_the_servers_own_error():
    server = Sessions(lost=("s0", "s1"))
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10), pytest.raises(PeerError) as caught:
            await client.call_tool("x")
        assert server.opened == ["s0", "s1"]
    assert (caught.value.status, caught.value.code) == (400, -32000)


async def test_a_call_whose_session_is_lost_again_fails_with_the_servers_own_error_as_its_cause():
    class Forgets(Sessions):
        async def call(self, request):
            self.lost.add(request.headers["mcp-session-id"])
            await self.refuse(request)

    server = Forgets(lost=())
    async with http_script(server.answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10), pytest.raises(SessionLost) as caught:
            await client.call_tool("x")
    assert (caught.value.__cause__.status, caught.value.__cause__.code) == (400, -32000)


async def test_a_ping_without_a_response_ends_no_session(autojump_clock):
    check = SessionCheck(trio.sleep_forever, PingSupport())
    assert not await check.is_lost()
    assert trio.current_time() == 5.0


async def test_a_check_that_is_cancelled_leaves_the_ping_to_the_next_caller():
    async def ping():
        await trio.lowlevel.checkpoint()
        return False

    checks = [SessionCheck(ping, PingSupport())]

    async def operation():
        checks.append(SessionCheck(ping, PingSupport()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(checks[-1].is_lost)
            await checks[-1].is_lost()

    async def still_decides():
        with trio.fail_after(5):
            assert await checks[-1].is_lost()

    await cancel_everywhere(operation, still_decides)


def scripted(support, *answers):
    left = list(answers)

    async def ping():
        await trio.lowlevel.checkpoint()
        return left.pop(0)

    return SessionCheck(ping, support)


async def test_a_session_that_is_given_up_without_proof_makes_the_next_one_send_a_ping():
    support = PingSupport()
    await scripted(support).prove_support()
    assert await scripted(support, False).is_lost()
    assert support.doubted
    await scripted(support, None).prove_support()
    assert (support.proven, support.doubted) == (False, True)
    await scripted(support, True).prove_support()
    assert (support.proven, support.doubted) == (True, False)
    # The next lost session needs no proof.
    assert await scripted(support, False).is_lost()
    await scripted(support).prove_support()


async def test_a_server_whose_new_session_refuses_a_ping_is_asked_again_after_minutes(autojump_clock):
    support = PingSupport()
    assert await scripted(support, False).is_lost()
    new = scripted(support, False, False)
    await new.prove_support()
    assert not await new.is_lost()
    await trio.sleep(300)
    assert await new.is_lost()
