"""Lists of a server: whatever is wrong with one entry or cursor, the other entries are kept."""

from __future__ import annotations

import pytest
import trio
from mcp_wired import wired

from clawft_trio.errors import PeerError, ProtocolViolation
from clawft_trio.mcp import McpOptions
from clawft_trio.mcp.listing import MAX_CURSOR, MAX_ENTRIES, MAX_ENTRY, MAX_PAGES
from clawft_trio.observe import Recorder
from clawft_trio.testing.mcp_server import Failure

ECHO = {"name": "echo", "inputSchema": {"type": "object"}}


def pages(method, *results):
    """A server's answers to *method*: the results in order, the last one for ever."""
    left = list(results)

    async def answer(_params):
        await trio.lowlevel.checkpoint()
        return left.pop(0) if len(left) > 1 else left[0]

    return {method: answer}


def asked(server, method):
    return [message for message in server.received if message.get("method") == method]


async def names(client):
    return [tool.name for tool in await client.list_tools()]


@pytest.mark.parametrize("cursor", ["", "again"])
async def test_a_cursor_that_stands_still_ends_the_list_and_keeps_it(cursor):
    page = {"tools": [ECHO], "nextCursor": cursor}
    async with wired(answers=pages("tools/list", page)) as (client, server):
        found = await names(client)
        assert set(found) == {"echo"}
        assert len(asked(server, "tools/list")) <= 3


async def test_an_empty_cursor_is_followed():
    second = {"tools": [{"name": "more", "inputSchema": {"type": "object"}}]}
    async with wired(answers=pages("tools/list", {"tools": [ECHO], "nextCursor": ""}, second)) as (client, server):
        assert await names(client) == ["echo", "more"]
        assert asked(server, "tools/list")[1]["params"] == {"cursor": ""}


@pytest.mark.parametrize("second", [{}, {"tools": "none"}, {"tools": 7, "nextCursor": "c"}])
async def test_a_further_page_that_is_invalid_ends_the_list_and_keeps_it(second):
    recorder = Recorder()
    options = McpOptions(supervision=None, observer=recorder)
    first = {"tools": [ECHO], "nextCursor": "b"}
    async with wired(answers=pages("tools/list", first, second), options=options) as (client, _):
        assert await names(client) == ["echo"]
    assert [one.what for one in recorder.events if hasattr(one, "what")] == ["tools/list: list cut"]


async def test_a_cursor_that_the_server_refuses_ends_the_list_and_keeps_it():
    async def answer(params):
        await trio.lowlevel.checkpoint()
        if "cursor" in params:
            raise Failure(-32602, "Invalid cursor")
        return {"tools": [ECHO], "nextCursor": "b"}

    async with wired(answers={"tools/list": answer}) as (client, _):
        assert await names(client) == ["echo"]


async def test_a_server_that_fails_at_a_further_page_fails_the_list():
    async def answer(params):
        await trio.lowlevel.checkpoint()
        if "cursor" in params:
            raise Failure(-32603, "overloaded")
        return {"tools": [ECHO], "nextCursor": "b"}

    async with wired(answers={"tools/list": answer}) as (client, _):
        with pytest.raises(PeerError, match="overloaded"):
            await client.list_tools()


@pytest.mark.parametrize("ttl", [10**400, -(10**400), -1, "5", True, None, [], 1e308])
async def test_a_strange_lifetime_costs_no_list(ttl):
    async with wired(answers=pages("tools/list", {"tools": [ECHO], "ttlMs": ttl})) as (client, _):
        assert await names(client) == ["echo"]
        assert await names(client) == ["echo"]


@pytest.mark.parametrize("bad", [7, None, {}, {"name": 7}, {"name": "x", "inputSchema": []}, {"name": "x" * MAX_ENTRY}])
async def test_an_entry_that_does_not_fit_is_left_out_and_reported(bad):
    recorder = Recorder()
    page = {"tools": [ECHO, bad, {"name": "last", "inputSchema": None, "description": None}]}
    options = McpOptions(supervision=None, observer=recorder)
    async with wired(answers=pages("tools/list", page), options=options) as (client, _):
        assert await names(client) == ["echo", "last"]
    [noted] = [one for one in recorder.events if getattr(one, "what", "") == "tools/list: entry left out"]
    assert "entry 1" in noted.details["reason"]


@pytest.mark.parametrize(
    ("method", "key", "good", "ask"),
    [
        ("prompts/list", "prompts", {"name": "p"}, "list_prompts"),
        ("resources/list", "resources", {"uri": "file:///a"}, "list_resources"),
        ("resources/templates/list", "resourceTemplates", {"uriTemplate": "a{b}"}, "list_resource_templates"),
    ],
)
async def test_every_list_keeps_what_fits(method, key, good, ask):
    async with wired(answers=pages(method, {key: [{"title": 7}, good], "nextCursor": None})) as (client, _):
        assert len(await getattr(client, ask)()) == 1


async def test_a_list_has_a_bound():
    page = {"tools": [{"name": f"t{n}"} for n in range(MAX_ENTRIES + 5)]}
    async with wired(answers=pages("tools/list", page)) as (client, _):
        assert len(await client.list_tools()) == MAX_ENTRIES


async def test_a_result_without_its_list_is_a_violation():
    async with wired(answers=pages("tools/list", {"tolls": []})) as (client, _):
        with pytest.raises(ProtocolViolation, match="tools"):
            await client.list_tools()


async def test_a_list_is_kept_for_its_ttl_and_until_it_changes(autojump_clock):
    page = {"tools": [ECHO], "ttlMs": 2000}
    async with wired(answers=pages("tools/list", page)) as (client, server):
        await client.list_tools()
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 1
        await trio.sleep(2.1)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 2
        seen = client.tools_version
        await server.write({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await client.wait_tools_changed(seen)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 3


async def test_a_resource_is_kept_for_its_ttl(autojump_clock):
    result = {"contents": [{"uri": "a", "text": "x"}], "ttlMs": 5000}
    async with wired(answers=pages("resources/read", result)) as (client, server):
        for _ in range(3):
            assert (await client.read_resource("a"))[0].text == "x"
        await client.read_resource("b")
        assert len(asked(server, "resources/read")) == 2


@pytest.mark.parametrize("cut", [rb"cut \ud83d", rb"\ude00", rb"\ud83d\ud83d\ude00"])
async def test_a_cut_emoji_in_one_entry_does_not_cost_the_list(cut):
    good = b'{"name":"good","inputSchema":{"type":"object"}}'
    bad = b'{"name":"bad","description":"' + cut + b'","inputSchema":{"type":"object"}}'
    async with wired(hold=["tools/list"]) as (client, server), trio.open_nursery() as nursery:
        names = []

        async def list_tools():
            names.extend(tool.name for tool in await client.list_tools())

        nursery.start_soon(list_tools)
        held = await server.wait_held()
        await server.write_raw(b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[%s,%s]}}\n' % (held.id, good, bad))
    assert names == ["good", "bad"]


@pytest.mark.parametrize(("longer", "followed"), [(0, True), (1, False)])
async def test_a_cursor_of_64_kib_is_followed_and_a_longer_one_ends_the_list(longer: int, followed: bool) -> None:
    assert MAX_CURSOR == 64 * 1024
    first = {"tools": [ECHO], "nextCursor": "c" * (MAX_CURSOR + longer)}
    second = {"tools": [{"name": "more", "inputSchema": {"type": "object"}}]}
    async with wired(answers=pages("tools/list", first, second)) as (client, server):
        assert await names(client) == (["echo", "more"] if followed else ["echo"])
        assert len(asked(server, "tools/list")) == 1 + followed


async def test_a_list_has_at_most_a_thousand_pages() -> None:
    cursors = iter(range(10_000))

    async def answer(_params):
        await trio.lowlevel.checkpoint()
        return {"tools": [], "nextCursor": f"c{next(cursors)}"}

    async with wired(answers={"tools/list": answer}) as (client, server):
        assert await names(client) == []
        assert len(asked(server, "tools/list")) == MAX_PAGES == 1000
