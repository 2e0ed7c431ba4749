"""Logging in at an MCP server: the ways that work, and the hostile servers that get nothing."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import trio
from mcp_oauth import as_json, basic_of, world

from clawft_trio.errors import AuthorizationFailed, McpError, PeerError
from clawft_trio.mcp import (
    Credentials,
    HttpServer,
    LoopbackUserAgent,
    McpOptions,
    MemoryTokenStore,
    OAuth,
    OAuthClient,
    Token,
    open_mcp,
)
from clawft_trio.mcp.auth.http import OAuthHttp
from clawft_trio.mcp.auth.oauth import OAuthSession

ALONE = McpOptions(supervision=None, protocol="handshake")


def client_of(made, **options):
    options.setdefault("user_agent", made)
    return open_mcp(HttpServer(f"{made.resource.url}/mcp", auth=OAuth(**options)), options=ALONE)


async def refused(made, words, **options):
    """Open a client, which must fail without any token on its way."""
    with pytest.raises(AuthorizationFailed, match=words) as caught:
        async with client_of(made, **options):
            pass
    assert "secret" not in str(caught.value) + repr(caught.value)
    return caught.value


async def test_a_login_is_discovered_registered_and_bound_to_its_resource():
    async with world() as made, client_of(made, client_name="tester") as client:
        assert (await client.call_tool("t")).text == "fine"
        [visit] = made.visits
        [registration] = made.registrations
        [request] = made.token_requests
    assert registration["client_name"] == "tester"
    assert registration["redirect_uris"] == [made.uri]
    assert registration["application_type"] == "native"
    assert "refresh_token" in registration["grant_types"]
    assert visit["client_id"] == request.form["client_id"] == "client-1"
    assert visit["resource"] == request.form["resource"] == f"{made.resource.url}/mcp"
    assert visit["code_challenge_method"] == "S256"
    assert not {"scope", "prompt"} & visit.keys()
    assert "authorization" not in request.headers


async def test_documents_with_nulls_for_what_is_missing_are_read():
    async with world() as made:

        async def metadata(request):
            _, _, body = await made.server_metadata(request)
            nulls = dict.fromkeys(("scopes_supported", "grant_types_supported", "jwks_uri"))
            unsupported = {"client_id_metadata_document_supported": None}
            return as_json(200, {**json.loads(body), **nulls, **unsupported})

        async def register(request):
            _, _, body = await made.register(request)
            return as_json(201, {**json.loads(body), "client_secret": None, "token_endpoint_auth_method": None})

        made.issuer.routes |= {"/.well-known/oauth-authorization-server": metadata, "/register": register}
        made.resource_metadata = {"scopes_supported": None, "jwks_uri": None}
        made.token_response = {"scope": None}
        async with client_of(made) as client:
            assert (await client.call_tool("t")).text == "fine"


async def test_every_token_goes_to_the_resource_only():
    async with world() as made:
        async with client_of(made) as client:
            await client.list_tools()
        sent = [request for request in made.issuer.requests if "secret" in str(request.headers)]
        assert sent == []
        metadata = [request for request in made.resource.requests if request.path != "/mcp"]
        assert all("authorization" not in request.headers for request in metadata)


async def test_many_calls_share_one_login():
    async with world() as made, client_of(made) as client:
        made.valid = {}
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(client.call_tool, "t")
        assert len(made.visits) == 1
        assert len(made.token_requests) == 2


async def test_a_client_made_beforehand_is_used_as_it_is():
    async with world() as made:
        made.metadata = {"registration_endpoint": None}
        client = OAuthClient(client_id="mine", client_secret="s/e", auth_method="client_secret_basic")
        async with client_of(made, client=client) as opened:
            await opened.list_tools()
        assert basic_of(made.token_requests[0]) == ["mine", "s%2Fe"]
        assert made.registrations == []


async def test_a_client_with_an_issuer_goes_to_it_among_several():
    async with world() as made:
        made.resource_metadata = {"authorization_servers": ["https://first.example", made.issuer.url]}
        async with client_of(made, client=OAuthClient(client_id="mine", issuer=made.issuer.url)):
            pass
        assert made.visits[0]["client_id"] == "mine"


async def test_a_metadata_document_is_the_client_id_where_the_server_accepts_it():
    async with world() as made:
        made.metadata = {"client_id_metadata_document_supported": True}
        async with client_of(made, client_metadata_url="https://app.example/client.json"):
            pass
        assert made.visits[0]["client_id"] == "https://app.example/client.json"


@pytest.mark.parametrize(("url", "accepted"), [("", True), ("https://app.example/client.json", False)])
async def test_a_client_registers_unless_it_has_a_document_and_the_server_accepts_it(url, accepted):
    async with world() as made:
        made.metadata = {"client_id_metadata_document_supported": accepted}
        async with client_of(made, client_metadata_url=url):
            pass
        assert made.visits[0]["client_id"] == "client-1"


async def test_client_credentials_need_no_person():
    async with world() as made:
        client = OAuthClient(client_id="c", client_secret="s")
        async with client_of(made, client=client, grant="client_credentials", user_agent=None, scopes=["a"]) as opened:
            await opened.list_tools()
        assert made.token_requests[0].form == {
            "grant_type": "client_credentials",
            "resource": f"{made.resource.url}/mcp",
            "scope": "a",
        }


async def test_a_token_that_stops_serving_is_refreshed_and_the_call_repeated_once():
    async with world() as made, client_of(made) as client:
        made.valid = {}
        assert (await client.call_tool("t")).text == "fine"
        assert [request.form["grant_type"] for request in made.token_requests] == [
            "authorization_code",
            "refresh_token",
        ]
        assert len(made.visits) == 1


async def test_a_refresh_token_that_is_refused_leads_to_a_new_login():
    async with world() as made, client_of(made) as client:
        made.valid = {}
        made.refreshes = False
        await client.call_tool("t")
        assert len(made.visits) == 2


@asynccontextmanager
async def two_clients_of(made, store, **options):
    """Two clients that share a store of tokens; both have logged in, and their handshakes are over."""
    async with client_of(made, store=store, **options) as one, client_of(made, store=store, **options) as other:
        await one.call_tool("t")
        await other.call_tool("t")
        yield one, other


async def test_a_token_that_another_client_has_refreshed_is_taken_from_the_store():
    store = MemoryTokenStore()
    async with world() as made, two_clients_of(made, store) as (one, other):
        made.valid = {}
        await one.call_tool("t")
        assert (await other.call_tool("t")).text == "fine"
        grants = [request.form["grant_type"] for request in made.token_requests]
        assert (grants, len(made.visits)) == (["authorization_code", "refresh_token"], 1)


async def test_a_refresh_token_that_another_client_has_used_up_leads_to_the_stored_token():
    store = MemoryTokenStore()
    async with world() as made, two_clients_of(made, store) as (one, other):
        made.valid = {}
        first, second = trio.Event(), trio.Event()

        async def rotating(request):
            if first.is_set():
                second.set()
                while made.valid.keys() != {(await store.load(f"{made.resource.url}/mcp")).token.access_token}:
                    await trio.sleep(0.01)
                return as_json(400, {"error": "invalid_grant"})
            first.set()
            await second.wait()
            return await type(made).token(made, request)

        made.issuer.routes["/token"] = rotating
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.call_tool, "t")
                nursery.start_soon(other.call_tool, "t")
        assert len(made.visits) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_token_endpoint_that_fails_for_a_while_costs_calls_and_no_login(status):
    async with world() as made, client_of(made) as client:
        made.valid = {}

        async def down(_):
            await trio.lowlevel.checkpoint()
            return as_json(status, {})

        made.issuer.routes["/token"] = down
        with pytest.raises(AuthorizationFailed, match=f"HTTP status {status}") as caught:
            await client.call_tool("t")
        assert caught.value.retryable
        made.issuer.routes["/token"] = made.token
        assert (await client.call_tool("t")).text == "fine"
        assert len(made.visits) == 1


async def test_a_server_that_refuses_every_token_asks_a_person_a_few_times_only():
    async with world() as made:
        made.refreshes = False
        async with client_of(made) as client:

            async def never(request):
                answer = await type(made).token(made, request)
                made.valid = {}
                return answer

            made.issuer.routes["/token"] = never
            made.valid = {}
            for _ in range(20):
                with pytest.raises(McpError):
                    await client.call_tool("t")
            assert len(made.visits) == 5


async def test_a_token_is_renewed_before_it_ends():
    now = [1000.0]
    async with world() as made, client_of(made, now=lambda: now[0]) as client:
        now[0] += 3590
        await client.call_tool("t")
        assert made.token_requests[-1].form["grant_type"] == "refresh_token"
        refused = [request for request in made.resource.requests if request.path == "/mcp"][2:]
        assert all(request.headers["authorization"] == "Bearer secret-token-2" for request in refused[-1:])


async def test_a_token_that_ends_soon_is_renewed_once_for_all_calls_and_clients():
    now, store = [1000.0], MemoryTokenStore()
    async with world() as made, two_clients_of(made, store, now=lambda: now[0]) as clients:
        now[0] += 3590
        for client in clients:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(client.call_tool, "t")
        grants = [request.form["grant_type"] for request in made.token_requests]
        assert grants == ["authorization_code", "refresh_token"]


@pytest.mark.parametrize("grant", ["authorization_code", "client_credentials"])
async def test_a_login_by_a_person_asks_for_a_refresh_token_where_the_server_has_a_scope_for_it(grant):
    async with world() as made:
        made.metadata = {"scopes_supported": ["offline_access", "other"]}
        async with client_of(made, client=OAuthClient(client_id="c", client_secret="s"), grant=grant):
            pass
        asked = [(visit["scope"], visit["prompt"]) for visit in made.visits]
        assert asked == ([("offline_access", "consent")] if grant == "authorization_code" else [])
        assert "scope" not in made.token_requests[0].form


async def test_more_scopes_are_asked_for_when_a_call_wants_them():
    async with world() as made:
        made.challenge = {"scope": "read"}
        made.wants = {"tools/call": ["write"]}
        async with client_of(made) as client:
            assert (await client.call_tool("t")).text == "fine"
        assert [set(visit["scope"].split()) for visit in made.visits] == [{"read"}, {"read", "write"}]


async def test_scopes_that_are_never_granted_are_not_asked_for_again_and_again():
    async with world() as made:
        made.wants = {"tools/call": ["admin"]}
        async with client_of(made) as client:

            async def token(request):
                answer = await type(made).token(made, request)
                made.valid = dict.fromkeys(made.valid, ())
                return answer

            made.issuer.routes["/token"] = token
            with pytest.raises(PeerError, match="403"):
                await client.call_tool("t")
            with pytest.raises(AuthorizationFailed, match="asked for already"):
                await client.call_tool("t")
        assert len(made.visits) == 2


@pytest.mark.parametrize(
    ("clients", "logins"),
    [
        ((None, None), 1),
        ((OAuthClient(client_id="c"), OAuthClient(client_id="c", client_secret="new")), 1),
        ((OAuthClient(client_id="c"), OAuthClient(client_id="other")), 2),
    ],
)
async def test_tokens_outlive_the_connection_in_their_store_for_the_same_client(clients, logins):
    store = MemoryTokenStore()
    async with world() as made:
        for one in clients:
            async with client_of(made, store=store, client=one) as client:
                await client.list_tools()
        assert len(made.visits) == logins


async def test_a_token_without_a_refresh_token_is_replaced_by_a_new_login():
    async with world() as made:
        made.token_response = {"refresh_token": None}
        async with client_of(made) as client:
            made.valid = {}
            assert (await client.call_tool("t")).text == "fine"
        assert [request.form["grant_type"] for request in made.token_requests] == ["authorization_code"] * 2


async def test_a_login_may_take_longer_than_a_call():
    async with world() as made:
        visit = made.visit

        async def slowly(address):
            await trio.sleep(0.6)
            return await visit(address)

        made.visit = slowly
        options = McpOptions(supervision=None, protocol="handshake", start=0.4)
        server = HttpServer(f"{made.resource.url}/mcp", auth=OAuth(user_agent=made))
        async with open_mcp(server, options=options) as client:
            await client.list_tools()


async def test_a_login_that_never_ends_is_given_up():
    async with world() as made:

        async def never(_):
            await trio.sleep_forever()

        made.visit = never
        await refused(made, "not finished within 0.2 s", interaction=0.2)


async def test_without_anybody_to_ask_the_error_says_so():
    async with world() as made:
        await refused(made, "no user agent", user_agent=None)


async def test_metadata_for_another_resource_is_refused():
    async with world() as made:
        made.resource_metadata = {"resource": "https://bank.example/mcp"}
        await refused(made, "another resource")
        assert made.visits == made.registrations == []


async def test_metadata_of_another_issuer_is_refused():
    async with world() as made:
        made.metadata = {"issuer": "https://accounts.example"}
        await refused(made, "another issuer")
        assert made.visits == made.registrations == []


@pytest.mark.parametrize(
    ("redirect", "words"),
    [
        ({"iss": "https://accounts.example"}, "another issuer"),
        ({"iss": None}, "no issuer"),
        ({"state": "guessed"}, "state"),
        ({"error": "access_denied", "error_description": "no"}, "access_denied no"),
        ({"code": None}, "no code"),
    ],
)
async def test_a_redirect_mixed_up_with_another_gives_no_token(redirect, words):
    async with world() as made:
        made.redirect = redirect
        await refused(made, words)
        assert made.token_requests == []


@pytest.mark.parametrize("methods", [None, [], ["plain"]])
async def test_a_server_without_pkce_is_refused(methods):
    async with world() as made:
        made.metadata = {"code_challenge_methods_supported": methods}
        await refused(made, "PKCE")
        assert made.visits == []


@pytest.mark.parametrize("endpoint", ["authorization_endpoint", "token_endpoint", "registration_endpoint"])
@pytest.mark.parametrize(
    "address", ["http://as.example/x", "file:///bin/sh", "javascript:alert(1)", "https://u:p@x.example/"]
)
async def test_an_endpoint_that_is_not_https_is_not_used(endpoint, address):
    async with world() as made:
        made.metadata = {endpoint: address}
        await refused(made, "no https: address")
        assert made.visits == made.token_requests == []


@pytest.mark.parametrize("path", ["/token", "/register"])
async def test_an_endpoint_that_redirects_elsewhere_is_not_followed(path):
    async with world() as made, world() as other:

        async def elsewhere(_):
            await trio.lowlevel.checkpoint()
            return 307, {"location": f"{other.issuer.url}{path}"}, b""

        made.issuer.routes[path] = elsewhere
        await refused(made, "307")
        assert other.issuer.requests == []


async def test_the_resource_that_moves_to_another_authorization_server_gets_a_new_registration():
    async with world() as made, world() as other:
        async with client_of(made) as client:
            made.valid = {}
            made.resource_metadata = {"authorization_servers": [other.issuer.url]}
            made.redirect = {"iss": other.issuer.url}
            # The other server's tokens are those that the resource accepts now.
            token = other.token

            async def issue(request):
                await token(request)
                made.valid = {"secret-token-1x": []}
                return as_json(200, {"access_token": "secret-token-1x", "token_type": "bearer"})

            other.issuer.routes["/token"] = issue
            await client.call_tool("t")
        assert len(other.registrations) == 1
        sent = [request.body.decode() for request in other.issuer.requests]
        assert not any("secret-refresh" in body or "secret-token" in body for body in sent)


async def test_a_client_made_beforehand_is_not_taken_to_another_authorization_server():
    async with world() as made, world() as other:
        client = OAuthClient(client_id="mine", client_secret="secret")
        async with client_of(made, client=client) as opened:
            made.valid = {}
            made.resource_metadata = {"authorization_servers": [other.issuer.url]}
            with pytest.raises(AuthorizationFailed, match="registered at another"):
                await opened.call_tool("t")
        assert "/token" not in other.issuer.paths()


@pytest.mark.parametrize(
    "response",
    [
        {"access_token": None},
        {"access_token": "a\r\nx-evil: 1"},
        {"access_token": 7},
        {"token_type": "mac"},
        {"access_token": ""},
    ],
)
async def test_a_response_that_is_no_token_is_refused(response):
    async with world() as made:
        made.token_response = response
        await refused(made, "token")


@pytest.mark.parametrize("life", [-1, "soon", "NaN", 1e300, "3600", None, 0])
async def test_a_strange_lifetime_costs_nothing(life):
    async with world() as made:
        made.expires_in = life
        async with client_of(made) as client:
            await client.list_tools()


@pytest.mark.parametrize(
    "path", ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/token"]
)
async def test_a_huge_document_is_not_read_to_its_end(path):
    async with world() as made:

        async def huge(_):
            await trio.lowlevel.checkpoint()
            return 200, {"content-type": "application/json"}, b'{"resource": "' + b"x" * 3_000_000 + b'"}'

        (made.resource if "resource" in path else made.issuer).routes[path] = huge
        await refused(made, "cannot be had")


async def test_a_slow_authorization_server_is_given_up(monkeypatch):
    monkeypatch.setattr("clawft_trio.mcp.auth.http.REQUEST_TOTAL", 0.3)
    async with world() as made:

        async def slow(_):
            await trio.sleep_forever()

        made.issuer.routes["/token"] = slow
        await refused(made, "within")


async def test_deeply_nested_metadata_is_an_error():
    async with world() as made:

        async def nested(_):
            await trio.lowlevel.checkpoint()
            return 200, {}, b'{"issuer": ' + b"[" * 100_000

        made.issuer.routes["/.well-known/oauth-authorization-server"] = nested
        await refused(made, "cannot be read")


async def test_a_server_that_never_accepts_a_token_is_not_asked_for_ever():
    async with world() as made:

        async def never(request):
            answer = await type(made).token(made, request)
            made.valid = {}
            return answer

        made.issuer.routes["/token"] = never
        with pytest.raises(PeerError, match="401") as caught:
            async with client_of(made):
                pass
        assert len(made.visits) == 1
        assert "secret" not in caught.value.body + str(caught.value)


async def test_no_secret_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with world() as made, client_of(made) as client:
        made.valid = {}
        await client.call_tool("t")
    assert "secret-" not in caplog.text


async def test_every_secret_of_a_login_is_masked():
    store = MemoryTokenStore()
    client = OAuthClient(client_id="c", client_secret="secret-1")
    token = Token(access_token="secret-2", refresh_token="secret-3")
    await store.save("https://r.example/mcp", Credentials(issuer="https://as.example", client=client, token=token))
    async with OAuthHttp("r") as http:
        session = OAuthSession(OAuth(store=store), "https://r.example/mcp", http)
        assert session.redact("x") == "x"
        assert await session.access_token() == "secret-2"
        assert session.redact("a secret-1 b secret-2 c secret-3") == "a *** b *** c ***"


async def test_a_stored_token_of_another_resource_is_not_sent():
    store = MemoryTokenStore()
    async with world() as made, world() as other:
        async with client_of(made, store=store):
            pass
        with pytest.raises(McpError):
            async with client_of(other, store=store, user_agent=None):
                pass
        assert all("authorization" not in request.headers for request in other.resource.requests)


async def ask(address, request):
    """The status line that a request to the host of *address* gets."""
    name, _, port = urlsplit(address).netloc.partition(":")
    async with await trio.open_tcp_stream(name, int(port)) as stream:
        await stream.send_all(request)
        return bytes(await stream.receive_some()).partition(b"\r\n")[0].decode()


async def get(address):
    """The status of a GET by a browser of sorts."""
    target = address.removeprefix("http://").partition("/")[2]
    return int((await ask(address, f"GET /{target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())).split()[1])


async def test_only_the_redirect_with_the_state_ends_the_wait():
    opened = []
    agent = LoopbackUserAgent(opened.append)
    results = []
    async with agent.listen() as redirect, trio.open_nursery() as nursery:

        async def visit():
            results.append(await redirect.visit("https://as.example/authorize?state=s1"))

        nursery.start_soon(visit)
        while not opened:
            await trio.sleep(0.01)
        assert await get(f"{redirect.uri}?code=evil&state=other") == 404
        assert await get(f"{redirect.uri}x?code=evil&state=s1") == 404
        assert await get(f"{redirect.uri}?code=evil&state=s1&state=s1") == 404
        assert await get(f"{redirect.uri.removesuffix('callback')}/[?state=s1") == 404
        async with await trio.open_tcp_stream("127.0.0.1", int(redirect.uri.split(":")[2].split("/")[0])):
            assert await get(f"{redirect.uri}?code=c&state=s1") == 200
    assert results == [f"{redirect.uri}?code=c&state=s1"]


async def test_only_a_whole_get_request_is_a_redirect():
    opened, found = [], {}
    requests = [
        b"POST /callback?state=s HTTP/1.1",
        b"GET http://127.0.0.1/callback?state=s HTTP/1.1",
        b"GET /callback?state=s",
        b"GET /callback?state=s HTTP/1.1 x",
        b"GET /callback?state=s&x=\xff HTTP/1.1",
        # Longer than what is read of a request, and not answered later for that.
        b"GET /callback?state=s&x=".ljust(16 * 1024, b"x"),
        b"GET /callback?state=s&x=y HTTP/1.1",
    ]
    with trio.fail_after(5):
        async with LoopbackUserAgent(opened.append).listen() as redirect, trio.open_nursery() as nursery:
            nursery.start_soon(redirect.visit, "https://as.example/authorize?state=s")
            for request in requests:
                found[request] = await ask(redirect.uri, request + b"\r\n\r\n" * (len(request) < 1000))
    assert list(found.values()) == ["HTTP/1.1 404 Not Found"] * 6 + ["HTTP/1.1 200 OK"]


async def test_a_browser_that_cannot_be_opened_is_one_plain_error():
    def fail(address):
        raise OSError("no display")

    async with LoopbackUserAgent(fail).listen() as redirect:
        with pytest.raises(OSError, match="no display"):
            await redirect.visit("https://as.example/authorize?state=x")


async def test_an_address_that_is_not_https_is_not_opened():
    opened = []
    async with LoopbackUserAgent(opened.append).listen() as redirect:
        with pytest.raises(AuthorizationFailed):
            await redirect.visit("file:///bin/sh?state=x")
    assert opened == []
