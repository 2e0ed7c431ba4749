"""Addresses that an MCP server names are fetched from this machine: those that are private here are refused."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.errors import AddressRefused, AuthorizationFailed
from clawft_trio.mcp.auth.addresses import (
    canonical_resource,
    checked_address,
    covers,
    is_loopback,
    origin,
    resource_metadata_addresses,
    server_metadata_addresses,
)
from clawft_trio.mcp.auth.discovery import discover_authorization
from clawft_trio.mcp.auth.http import OAuthHttp
from clawft_trio.net import AddressPolicy, HttpEndpoint
from clawft_trio.net.addresses import policy_near

PUBLIC = "203.0.114.7"
INSIDE = [
    "10.0.0.5",
    "172.16.3.4",
    "192.168.1.1",
    "127.0.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "::1",
    "fc00::1",
    "fe80::1",
    "::ffff:10.0.0.5",
    "64:ff9b::a00:5",
]


def allowed(policy, address):
    try:
        policy.check_address("host", address)
    except AddressRefused:
        return False
    return True


@pytest.mark.parametrize("address", INSIDE)
@pytest.mark.parametrize("peers", [[PUBLIC], [], [PUBLIC, "10.0.0.1"]])
def test_a_public_server_leads_to_public_addresses_only(peers, address):
    assert not allowed(policy_near(peers), address)
    assert allowed(policy_near(peers), "93.184.216.34")


@pytest.mark.parametrize(
    ("peer", "near", "far"),
    [
        ("127.0.0.1", ["127.0.0.1", "::1", "127.9.9.9"], ["10.0.0.5", "169.254.169.254", "fc00::1"]),
        ("::1", ["127.0.0.1", "::1"], ["192.168.0.1"]),
        ("10.1.2.3", ["10.9.9.9", "192.168.1.1", "fc00::2"], ["127.0.0.1", "169.254.169.254"]),
        ("169.254.169.254", [], ["169.254.169.254", "127.0.0.1"]),
    ],
)
def test_a_server_in_here_leads_to_its_own_kind_of_address(peer, near, far):
    policy = policy_near([peer])
    assert [allowed(policy, address) for address in near] == [True] * len(near)
    assert [allowed(policy, address) for address in far] == [False] * len(far)


@pytest.mark.parametrize(
    "named",
    [
        "https://10.0.0.5/.well-known/oauth-protected-resource",
        "https://169.254.169.254/latest/meta-data",
        "http://localhost:1/x",
        "http://127.0.0.1:1/x",
        "https://[::1]/x",
    ],
)
async def test_metadata_at_an_address_in_here_is_not_fetched_for_a_public_server(named):
    async with OAuthHttp("s", peers=lambda: {PUBLIC}) as http:
        with pytest.raises(AuthorizationFailed, match="not reached from here"):
            await discover_authorization(http, "https://mcp.example/mcp", named)


@pytest.mark.parametrize("address", ["http://localhost:8080/reset", "http://127.0.0.1/x", "https://10.0.0.1/x"])
async def test_a_browser_is_not_sent_to_an_address_in_here_by_a_public_server(address):
    async with OAuthHttp("s", peers=lambda: {PUBLIC}) as http:
        with pytest.raises(AuthorizationFailed, match="not opened"):
            http.check_visit(address, "authorization endpoint")
        http.check_visit("https://login.example/authorize", "authorization endpoint")
    async with OAuthHttp("s", peers=lambda: {"127.0.0.1"}) as http:
        http.check_visit("http://localhost:8080/authorize", "authorization endpoint")


async def test_a_policy_of_ones_own_is_the_one_that_counts():
    everything = AddressPolicy(allowed_networks=("0.0.0.0/0", "::/0"))
    async with OAuthHttp("s", policy=everything, peers=lambda: {PUBLIC}) as http:
        with pytest.raises(AuthorizationFailed, match="cannot be had") as caught:
            await http.get("http://127.0.0.1:1/x", "resource metadata")
        # The server may be there later; an address that is refused is refused for good.
        assert caught.value.retryable
    async with OAuthHttp("s", policy=AddressPolicy(), peers=lambda: {"127.0.0.1"}) as http:
        with pytest.raises(AuthorizationFailed, match="not reached from here") as caught:
            await http.get("http://127.0.0.1:1/x", "resource metadata")
        assert not caught.value.retryable


async def test_behind_a_proxy_the_proxy_decides(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("https_proxy", raising=False)
    async with OAuthHttp("s", peers=lambda: {PUBLIC}) as http:
        with pytest.raises(AuthorizationFailed, match="cannot be had"):
            await http.get("https://10.0.0.5/x", "resource metadata")


async def test_an_endpoint_knows_the_addresses_that_it_was_connected_to(nursery):

    async def answer(stream):
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    listener, *_ = await nursery.start(trio.serve_tcp, answer, 0)
    port = listener.socket.getsockname()[1]
    async with HttpEndpoint(f"http://localhost:{port}") as http:
        assert http.peers == frozenset()
        async with http.request("GET") as response:
            await response.read(limit=10)
        assert http.peers <= {"127.0.0.1", "::1"}
        assert http.peers
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("before", [0, 150, 180, 184, 188, 192])
def test_no_part_of_a_password_in_a_refused_address_is_shown(before):
    with pytest.raises(AuthorizationFailed) as caught:
        checked_address(f"https://{'x' * before}:hunter2secret@example.org/a?sig=hunter2secret", "token endpoint")
    assert "hunt" not in str(caught.value)


def test_metadata_is_looked_for_where_the_rfcs_put_it():
    assert resource_metadata_addresses("https://example.com/public/mcp?x=1") == [
        "https://example.com/.well-known/oauth-protected-resource/public/mcp",
        "https://example.com/.well-known/oauth-protected-resource",
    ]
    assert resource_metadata_addresses("https://example.com/") == [
        "https://example.com/.well-known/oauth-protected-resource"
    ]
    # RFC 8414, 3.1 and 5
    assert server_metadata_addresses("https://example.com/issuer1") == [
        "https://example.com/.well-known/oauth-authorization-server/issuer1",
        "https://example.com/.well-known/openid-configuration/issuer1",
        "https://example.com/issuer1/.well-known/openid-configuration",
    ]
    assert server_metadata_addresses("https://example.com") == [
        "https://example.com/.well-known/oauth-authorization-server",
        "https://example.com/.well-known/openid-configuration",
    ]


@pytest.mark.parametrize(
    ("resource", "server", "fits"),
    [
        ("https://a.com/mcp", "https://a.com/mcp", True),
        ("https://a.com", "https://a.com/mcp", True),
        ("https://a.com/", "https://a.com/mcp", True),
        ("https://A.com:443/mcp", "https://a.com/mcp", True),
        ("https://a.com/m", "https://a.com/mcp", False),
        ("https://a.com/mcp/more", "https://a.com/mcp", False),
        ("http://a.com/mcp", "https://a.com/mcp", False),
        ("https://a.com.evil.com/mcp", "https://a.com/mcp", False),
        ("https://a.com:444/mcp", "https://a.com/mcp", False),
        ("https://b.com/mcp", "https://a.com/mcp", False),
        ("https://a.com/mcp/", "https://a.com/mcp", True),
        ("https://a.com/mcp?tenant=1", "https://a.com/mcp", False),
        ("http://a.com:80/mcp", "http://a.com/mcp", True),
        ("http://a.com:443/mcp", "http://a.com/mcp", False),
        ("https://a.com:80/mcp", "https://a.com/mcp", False),
    ],
)
def test_metadata_is_for_a_resource_or_its_parent(resource, server, fits):
    assert covers(resource, server) is fits


def test_a_resource_is_named_without_query_fragment_and_lone_slash():
    assert canonical_resource("HTTPS://Example.com:443/mcp?key=1#x") == "https://example.com/mcp"
    assert canonical_resource("https://example.com/") == "https://example.com"


@pytest.mark.parametrize(
    "address", ["https://a.com/x?y=1", "http://127.0.0.1:3/x", "http://[::1]/x", "http://localhost/x"]
)
def test_an_address_may_be_https_or_loopback(address):
    assert checked_address(address, "thing") == address


@pytest.mark.parametrize(
    "address",
    [
        "http://a.com/",
        "http://localhost.evil.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user:pass@a.com/",
        "https://a.com/#x",
        "https:///x",
        "https://a.com:x/",
        "https://[::1",
        "https://a.com/\n",
        "https://a.com/\\evil",
        "ms-settings:x",
        "",
        "https://a.com/" + "x" * 5000,
        "$(calc.exe)https://a.com",
    ],
)
def test_any_other_address_is_refused(address):
    with pytest.raises(AuthorizationFailed):
        checked_address(address, "thing")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://A.com:443/x", "https://a.com"),
        ("http://a.com:80/x", "http://a.com"),
        ("http://a.com:443", "http://a.com:443"),
        ("https://[::1]:8443/x", "https://[::1]:8443"),
        ("https://user@a.com/x", "https://a.com"),
    ],
)
def test_an_origin_is_scheme_host_and_a_port_that_is_not_the_default(address, found):
    assert origin(address) == found


def test_an_address_has_at_most_4096_characters():
    longest = "https://a.com/".ljust(4096, "x")
    assert checked_address(longest, "thing") == longest
    with pytest.raises(AuthorizationFailed) as caught:
        checked_address(longest + "x", "thing")
    assert "'https://a.com/xxx" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("a.com", False), ("", False)],
)
def test_loopback_is_localhost_and_the_addresses_of_this_machine(host, loopback):
    assert is_loopback(host) is loopback
