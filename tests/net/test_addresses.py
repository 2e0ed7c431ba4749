from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
import trio
from hypothesis import given, settings, strategies as st
from net.servers import answering, open_server, response

from clawft_trio.errors import AddressRefused, Refused, TransportFailed
from clawft_trio.net import AddressPolicy, HttpEndpoint, special_purpose

both = pytest.mark.parametrize("library", ["httpx", "httpx2"])

SPECIAL = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.169.254",
    "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "4000::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.167.0.1", "2606:4700::1111",
          "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_refused(address):
    with pytest.raises(AddressRefused) as caught:
        AddressPolicy().check_address("example.com", address)
    assert (caught.value.host, caught.value.address) == ("example.com", address)
    assert isinstance(caught.value, Refused)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address):
    AddressPolicy().check_address("example.com", address)


@given(st.ip_addresses(v=4))
@settings(deadline=None, max_examples=300)
def test_an_address_inside_another_is_judged_as_what_it_leads_to(inner: IPv4Address):
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert special_purpose(IPv6Address(prefix | int(inner))) == special_purpose(inner)


@given(st.ip_addresses())
@settings(deadline=None, max_examples=300)
def test_what_the_standard_library_calls_private_is_never_public(address):
    if (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
    ):
        mapped = getattr(address, "ipv4_mapped", None)
        nat64 = address in __import__("ipaddress").ip_network("64:ff9b::/96") if address.version == 6 else False
        assert special_purpose(address) or mapped or nat64


def test_exceptions_are_for_the_networks_that_were_named():
    policy = AddressPolicy(allowed_networks=("127.0.0.1", "10.1.0.0/16"))
    policy.check_address("a", "127.0.0.1")
    policy.check_address("a", "10.1.2.3")
    for address in ("127.0.0.2", "10.2.0.1", "::1", "nonsense"):
        with pytest.raises(AddressRefused):
            policy.check_address("a", address)


@pytest.mark.parametrize(
    ("host", "reached"),
    [("example.com", True), ("www.example.com", True), ("EXAMPLE.com.", True), ("bad.example.com", False),
     ("x.bad.example.com", False), ("notexample.com", False), ("example.com.evil.net", False), ("127.0.0.1", False)],
)  # fmt: skip
def test_a_domain_includes_its_subdomains(host, reached):
    policy = AddressPolicy(allowed_domains=("Example.com",), blocked_domains=("*.bad.example.com",))
    if reached:
        policy.check_host(host)
    else:
        with pytest.raises(AddressRefused):
            policy.check_host(host)


def test_domains_of_any_script_are_compared_as_they_are_resolved():
    with pytest.raises(AddressRefused):
        AddressPolicy(blocked_domains=("bücher.example",)).check_host("xn--bcher-kva.example")


@both
async def test_a_loopback_server_is_not_reached_unless_it_is_allowed(library):
    async with open_server(answering(response(b"inside"))) as server:
        async with HttpEndpoint(server.url, library=library, policy=AddressPolicy()) as http:
            with pytest.raises(AddressRefused, match="loopback"):
                async with http.request("GET"):
                    pass
            assert http.statistics().busy == http.statistics().admission.in_use == 0
        assert server.accepted == 0
        policy = AddressPolicy(allowed_networks=("127.0.0.1",))
        async with HttpEndpoint(server.url, library=library, policy=policy) as http:
            async with http.request("GET") as answer:
                assert await answer.read() == b"inside"


class Names(trio.abc.HostnameResolver):
    """A resolver that gives each name its next answer."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def getaddrinfo(self, host, port, *rest, **named):
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        await trio.lowlevel.checkpoint()
        answers = self._answers[name.partition(".")[0]]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        family = trio.socket.AF_INET
        return [(family, trio.socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


ONE = AddressPolicy(allowed_networks=("127.0.0.1",))


@both
async def test_a_redirect_does_not_get_past_the_policy(library):
    async with open_server(answering(response(b"inside"))) as target:
        away = target.url.replace("127.0.0.1", "127.0.0.2")
        moved = response(status="302 Found", headers=f"location: {away}/\r\n")
        async with open_server(answering(moved)) as server:
            async with HttpEndpoint(server.url, library=library, policy=ONE, redirects=3) as http:
                with pytest.raises(AddressRefused):
                    async with http.request("GET"):
                        pass
        assert target.accepted == 0


@both
async def test_a_name_is_resolved_once_and_only_what_was_checked_is_reached(library):
    async with open_server(answering(response(b"inside"))) as server:
        names = Names(rebinding=[["127.0.0.1"], ["127.0.0.2"]])
        trio.socket.set_custom_hostname_resolver(names)
        url = server.url.replace("127.0.0.1", "rebinding.example")
        async with HttpEndpoint(url, library=library, policy=ONE) as http:
            async with http.request("GET") as answer:
                assert await answer.read() == b"inside"
        assert names.asked == ["rebinding.example"]


async def test_one_bad_address_among_good_ones_refuses_the_name():
    trio.socket.set_custom_hostname_resolver(Names(mixed=[["127.0.0.1", "10.0.0.1"]]))
    async with HttpEndpoint("http://mixed.example:9", policy=ONE) as http:
        with pytest.raises(AddressRefused, match="10.0.0.1"):
            async with http.request("GET"):
                pass


async def test_the_next_address_is_tried_when_no_process_listens_at_the_first():
    async with open_server(answering(response(b"inside"))) as server:
        trio.socket.set_custom_hostname_resolver(Names(two=[["127.0.0.3", "127.0.0.1"]]))
        policy = AddressPolicy(allowed_networks=("127.0.0.0/8",))
        async with HttpEndpoint(server.url.replace("127.0.0.1", "two.example"), policy=policy) as http:
            async with http.request("GET") as answer:
                assert await answer.read() == b"inside"
        trio.socket.set_custom_hostname_resolver(Names(none=[["127.0.0.3", "127.0.0.4"]]))
        async with HttpEndpoint(server.url.replace("127.0.0.1", "none.example"), policy=policy) as http:
            with pytest.raises(TransportFailed):
                async with http.request("GET"):
                    pass


async def test_a_blocked_domain_is_not_even_resolved():
    names = Names(blocked=[["127.0.0.1"]])
    trio.socket.set_custom_hostname_resolver(names)
    policy = AddressPolicy(blocked_domains=("example",), allowed_networks=("127.0.0.1",))
    async with HttpEndpoint("http://blocked.example", policy=policy) as http:
        with pytest.raises(AddressRefused):
            async with http.request("GET"):
                pass
    assert names.asked == []
