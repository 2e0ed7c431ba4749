"""Addresses that an MCP server names are fetched from this machine: those that are private here are refused."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.errors import AddressRefused, AuthorizationFailed
from clawft_trio.mcp.auth.addresses import checked_address
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
        with pytest.raises(AuthorizationFailed, match="cannot be had"):
            await http.get("http://127.0.0.1:1/x", "resource metadata")


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
