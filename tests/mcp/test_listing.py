"""Lists of a server: whatever is wrong with one entry or cursor, the other entries are kept."""

from __future__ import annotations

import json

import pytest
import trio
from mcp_wired import wired
from trio.testing import MockClock

from clawft_trio.errors import PeerError, ProtocolViolation
from clawft_trio.mcp import McpOptions
from clawft_trio.mcp.listing import MAX_CURSOR, MAX_ENTRIES, MAX_ENTRY, MAX_PAGES, ResultCache
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


async def put_names(client, found):
    found += await names(client)


def reasons(recorder, what):
    return [one.details["reason"] for one in recorder.events if getattr(one, "what", "") == what]


# An empty cursor with the same page again means the end of the list to the servers that send it.
@pytest.mark.parametrize(("cursor", "found"), [("", ["echo"]), ("again", ["echo", "echo"])])
async def test_a_cursor_that_stands_still_ends_the_list_and_keeps_it(cursor, found):
    page = {"tools": [ECHO], "nextCursor": cursor}
    async with wired(answers=pages("tools/list", page)) as (client, server):
        assert await names(client) == found
        assert len(asked(server, "tools/list")) == 2


@pytest.mark.parametrize("cursor", [b"7", b"[]", b"1" + b"0" * 5000])
async def test_a_cursor_that_is_not_a_text_ends_the_list(cursor):
    async with wired(hold=["tools/list"]) as (client, server), trio.open_nursery() as nursery:
        found = []
        nursery.start_soon(put_names, client, found)
        held = await server.wait_held()
        page = b'{"tools":[{"name":"echo","inputSchema":{"type":"object"}}],"nextCursor":%s}' % cursor
        await server.write_raw(b'{"jsonrpc":"2.0","id":%d,"result":%s}\n' % (held.id, page))
    assert found == ["echo"]


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

    recorder = Recorder()
    options = McpOptions(supervision=None, observer=recorder)
    async with wired(answers={"tools/list": answer}, options=options) as (client, _):
        assert await names(client) == ["echo"]
    [reason] = reasons(recorder, "tools/list: list cut")
    assert "'b'" in reason
    assert "Invalid cursor" in reason


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


@pytest.mark.parametrize(
    ("bad", "reported"),
    [
        (7, "entry 1 (7)"),
        (None, "entry 1 (null)"),
        ("text", 'entry 1 ("text")'),
        ({}, "entry 1 ()"),
        ({"name": 7}, "entry 1 (7)"),
        ({"name": "x", "inputSchema": []}, 'entry 1 ("x")'),
        ({"uri": "file:///x", "inputSchema": {}}, 'entry 1 ("file:///x")'),
        ({"name": "x" * 200, "inputSchema": []}, f'entry 1 ("{"x" * 90}'),
    ],
)
async def test_an_entry_that_does_not_fit_is_left_out_and_reported_with_its_name(bad, reported):
    recorder = Recorder()
    page = {"tools": [ECHO, bad, {"name": "last", "inputSchema": None, "description": None}]}
    options = McpOptions(supervision=None, observer=recorder)
    async with wired(answers=pages("tools/list", page), options=options) as (client, _):
        assert await names(client) == ["echo", "last"]
    [reason] = reasons(recorder, "tools/list: entry left out")
    assert reason.startswith(reported)
    assert len(reason) <= 500


@pytest.mark.parametrize("longer", [0, 1])
async def test_an_entry_of_256_kib_is_kept_and_a_longer_one_is_left_out(longer):
    assert MAX_ENTRY == 256 * 1024
    entry = {"name": "large", "inputSchema": {}, "description": ""}
    padding = MAX_ENTRY - len(json.dumps(entry)) + longer
    page = {"tools": [ECHO, {**entry, "description": "d" * padding}]}
    recorder = Recorder()
    options = McpOptions(supervision=None, observer=recorder)
    async with wired(answers=pages("tools/list", page), options=options) as (client, _):
        assert await names(client) == ["echo"] + ["large"] * (1 - longer)
    found = reasons(recorder, "tools/list: entry left out")
    assert found == ['entry 1 ("large"): more than 262144 bytes'] * longer


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


@pytest.mark.parametrize("more", [0, 5])
async def test_a_list_has_at_most_10_000_entries_and_says_when_some_are_left_out(more):
    assert MAX_ENTRIES == 10_000
    recorder = Recorder()
    options = McpOptions(supervision=None, observer=recorder)
    page = {"tools": [{"name": f"t{n}"} for n in range(MAX_ENTRIES + more)]}
    async with wired(answers=pages("tools/list", page), options=options) as (client, _):
        assert len(await client.list_tools()) == MAX_ENTRIES
    assert len(reasons(recorder, "tools/list: entries left out")) == bool(more)


async def test_a_result_without_its_list_is_a_violation():
    async with wired(answers=pages("tools/list", {"tolls": []})) as (client, _):
        with pytest.raises(ProtocolViolation, match="tools"):
            await client.list_tools()


async def test_a_list_is_kept_for_its_ttl_and_until_it_changes(autojump_clock):
    page = {"tools": [ECHO], "ttlMs": 2000}
    async with wired(answers=pages("tools/list", page)) as (client, server):
        await client.list_tools()
        await client.list_tools()
        await trio.sleep(1.9)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 1
        await trio.sleep(0.1)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 2
        seen = client.tools_version
        await server.write({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await client.wait_tools_changed(seen)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 3


@pytest.mark.parametrize("ttl", [3_600_000, 1e308])
async def test_a_list_is_kept_for_an_hour_at_most(autojump_clock, ttl):
    page = {"tools": [ECHO], "ttlMs": ttl}
    options = McpOptions(supervision=None)
    async with wired(answers=pages("tools/list", page), options=options) as (client, server):
        await client.list_tools()
        await trio.sleep(3599.5)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 1
        await trio.sleep(0.5)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 2


@pytest.mark.parametrize(("ttl", "requests"), [(1, 1), (0.5, 1), (0, 2), (-1, 2), (True, 2), ("5000", 2), (None, 2)])
async def test_only_a_positive_ttl_keeps_a_list(autojump_clock, ttl, requests):
    async with wired(answers=pages("tools/list", {"tools": [ECHO], "ttlMs": ttl})) as (client, server):
        await client.list_tools()
        await client.list_tools()
        assert len(asked(server, "tools/list")) == requests


async def test_the_shortest_ttl_of_the_pages_counts(autojump_clock):
    more = {"name": "more", "inputSchema": {"type": "object"}}
    first, second = {"tools": [ECHO], "nextCursor": "b", "ttlMs": 9000}, {"tools": [more], "ttlMs": 2000}
    async with wired(answers=pages("tools/list", first, second)) as (client, server):
        await client.list_tools()
        await trio.sleep(2)
        await client.list_tools()
        assert len(asked(server, "tools/list")) == 3


async def test_at_most_256_results_are_kept_and_the_oldest_is_dropped(autojump_clock):
    async def answer(params):
        await trio.lowlevel.checkpoint()
        return {"contents": [{"uri": params["uri"], "text": "x"}], "ttlMs": 60_000}

    async with wired(answers={"resources/read": answer}) as (client, server):
        for number in range(257):
            await client.read_resource(f"r{number}")
        server.received.clear()
        for number in (256, 1, 0):
            await client.read_resource(f"r{number}")
        assert [message["params"]["uri"] for message in asked(server, "resources/read")] == ["r0"]


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
        found = []
        nursery.start_soon(put_names, client, found)
        held = await server.wait_held()
        await server.write_raw(b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[%s,%s]}}\n' % (held.id, good, bad))
    assert found == ["good", "bad"]


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


def test_results_that_changed_are_forgotten_by_their_method():
    cache = ResultCache()
    times = {"tools/list": 60_000, "prompts/list": 0, "resources/read": True, "a": "60000", "b": float("nan")}

    async def keep():
        for method, ttl in times.items():
            cache.keep(method, "", method, ttl)
        cache.keep("resources/read", "uri", "read", 1)
        await trio.lowlevel.checkpoint()
        assert [one for one in times if cache.get(one)] == ["tools/list"]
        assert cache.get("resources/read", "uri") == "read"
        cache.forget("tools/list", "b")
        assert (cache.get("tools/list"), cache.get("resources/read", "uri")) == (None, "read")
        cache.forget()
        assert cache.get("resources/read", "uri") is None

    trio.run(keep, clock=MockClock())
