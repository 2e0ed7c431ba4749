from __future__ import annotations

import base64
import importlib.util
import ssl

import pytest
import trio
import trustme
from net.servers import Conversation, answering, open_server, response

from clawft_trio.attempts import AttemptInProgress
from clawft_trio.errors import NotConfigured, TransportFailed
from clawft_trio.net import AddressPolicy, HttpEndpoint

both = pytest.mark.parametrize("library", ["httpx", "httpx2"])


@pytest.fixture
def tls():
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    return server_side, client_side


@both
async def test_tls_works_with_a_context_of_ones_own(library, tls):
    async with open_server(answering(response(b"secret")), tls=tls[0], host="localhost") as server:
        async with HttpEndpoint(server.url, library=library, verify=tls[1], trust_env=False) as http:
            for _ in range(2):
                async with http.request("GET") as answer:
                    assert await answer.read() == b"secret"
            assert server.accepted == 1


@both
async def test_an_untrusted_certificate_is_refused_without_a_retry(library, tls):
    async with open_server(answering(response(b"secret")), tls=tls[0], host="localhost") as server:
        async with HttpEndpoint(server.url, library=library, trust_env=False, name="acme") as http:
            with pytest.raises(TransportFailed, match="certificate") as caught:
                async with http.request("GET"):
                    pass
            assert not caught.value.retryable
            assert caught.value.provider == "acme"
            await server.wait_open(0)
        async with HttpEndpoint(server.url, library=library, verify=False, trust_env=False) as http:
            async with http.request("GET") as answer:
                assert await answer.read() == b"secret"


@both
async def test_a_certificate_for_another_name_is_refused(library, tls):
    async with open_server(answering(response(b"secret")), tls=tls[0], host="127.0.0.1") as server:
        async with HttpEndpoint(server.url, library=library, verify=tls[1], trust_env=False) as http:
            with pytest.raises(TransportFailed, match="certificate"):
                async with http.request("GET"):
                    pass


@both
async def test_a_server_that_speaks_no_tls_is_a_transport_failure(library):
    async def talk(peer: Conversation) -> None:
        await peer.stream.receive_some(1)
        await peer.send(b"SSH-2.0-OpenSSH_9.6\r\n")

    async with open_server(talk) as server:
        async with HttpEndpoint(server.url.replace("http:", "https:"), library=library) as http:
            with pytest.raises(TransportFailed, match="no TLS") as caught:
                async with http.request("GET"):
                    pass
            assert not caught.value.retryable
            await server.wait_open(0)


async def test_a_server_that_hangs_up_during_the_handshake_may_be_tried_again():
    async def hang_up(peer):
        await peer.stream.receive_some()

    async with open_server(hang_up) as server:
        async with HttpEndpoint(server.url.replace("http:", "https:"), verify=False) as http:
            with pytest.raises(TransportFailed, match="no TLS with the server") as caught:
                async with http.request("GET"):
                    pass
    assert caught.value.retryable


@both
async def test_https_to_a_server_of_http_is_not_retried(library):
    async def talk(peer: Conversation) -> None:
        await peer.stream.receive_some(1)
        await peer.send(response(b"no", status="400 Bad Request"))

    async with open_server(talk) as server:
        async with HttpEndpoint(server.url.replace("http:", "https:"), library=library, trust_env=False) as http:
            with pytest.raises(TransportFailed, match="http:// in place of https://") as caught:
                async with http.request("GET"):
                    pass
            assert not caught.value.retryable


class Proxy:
    """Forwards plain requests by answering them itself, and tunnels the others."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def talk(self, peer: Conversation) -> None:
        request = await peer.request()
        assert request is not None
        head, _ = request
        self.heads.append(head)
        if not head.startswith(b"CONNECT"):
            await peer.send(response(b"by proxy"))
            return
        host, _, port = head.split()[1].decode().partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as beyond:
            await peer.send(b"HTTP/1.1 200 Go\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, peer.stream, beyond, nursery.cancel_scope)
                nursery.start_soon(self._pump, beyond, peer.stream, nursery.cancel_scope)

    async def _pump(self, source, target, scope) -> None:
        try:
            while data := await source.receive_some(65536):
                await target.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel(reason="one side is done")


@both
async def test_a_proxy_forwards_and_gets_its_credentials(library):
    proxy = Proxy()
    async with open_server(proxy.talk) as front:
        address = front.url.replace("http://", "http://me:pass@")
        async with HttpEndpoint("http://example.invalid", library=library, proxy=address) as http:
            async with http.request("GET", "x") as answer:
                assert await answer.read() == b"by proxy"
    [head] = proxy.heads
    assert head.startswith(b"GET http://example.invalid/x ")
    assert base64.b64encode(b"me:pass") in head


@both
async def test_a_proxy_tunnels_tls(library, tls):
    proxy = Proxy()
    async with (
        open_server(proxy.talk) as front,
        open_server(answering(response(b"beyond")), tls=tls[0], host="localhost") as server,
    ):
        async with HttpEndpoint(server.url, library=library, proxy=front.url, verify=tls[1]) as http:
            for _ in range(2):
                async with http.request("GET") as answer:
                    assert await answer.read() == b"beyond"
        await front.wait_open(0)
    assert len(proxy.heads) == 1


@both
async def test_a_proxy_that_refuses_is_a_transport_failure(library):
    refusal = response(b"no", status="407 Proxy Authentication Required")
    async with open_server(answering(refusal)) as front:
        async with HttpEndpoint("https://example.invalid", library=library, proxy=front.url) as http:
            attempt = AttemptInProgress("p/m", trio.current_time())
            with pytest.raises(TransportFailed, match="407"):
                async with http.request("GET", attempt=attempt):
                    pass
            # The proxy got no more than `CONNECT`: nothing can have been billed.
            assert not attempt.sent
            await front.wait_open(0)
            assert http.statistics().busy == 0


async def test_the_environment_names_the_proxy_unless_it_is_not_asked(monkeypatch):
    proxy = Proxy()
    async with open_server(proxy.talk) as front:
        monkeypatch.setenv("HTTP_PROXY", front.url)
        monkeypatch.setenv("http_proxy", front.url)
        monkeypatch.setenv("no_proxy", "near.invalid")
        async with HttpEndpoint("http://example.invalid") as http, http.request("GET") as answer:
            assert await answer.read() == b"by proxy"
        for settings in (
            {"base_url": "http://near.invalid"},
            {"base_url": "http://example.invalid", "trust_env": False},
        ):
            async with HttpEndpoint(**settings) as http:
                with pytest.raises(TransportFailed):
                    async with http.request("GET"):
                        pass


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", ["socks4://me:hush@h:1", "htp://me:hush@h", "http://[::1", "http://"])
def test_a_malformed_proxy_variable_is_named_without_its_value(no_proxies, variable, value):
    no_proxies.setenv(variable, value)
    with pytest.raises(NotConfigured, match=f"^{variable} is not the URL of a proxy") as caught:
        HttpEndpoint("http://example.invalid")
    assert "hush" not in str(caught.value)


@both
def test_a_socks_proxy_without_its_package_is_named_with_what_to_install(no_proxies, library):
    pytest.importorskip(library)
    if importlib.util.find_spec("socksio") is not None:
        pytest.skip("the package for SOCKS is there")
    no_proxies.setenv("HTTPS_PROXY", "socks5://me:hush@near.invalid:1080")
    with pytest.raises(NotConfigured, match="HTTPS_PROXY .near.invalid:1080. is a SOCKS proxy") as caught:
        HttpEndpoint("https://example.invalid", library=library)
    assert f"{library}[socks]" in str(caught.value)
    assert "hush" not in str(caught.value)


@both
@pytest.mark.parametrize("scheme", ["http://me:hush@", ""])
async def test_an_unreachable_proxy_is_named_with_its_variable(no_proxies, library, scheme):
    async with open_server(answering(response(b""))) as server:
        port = server.url.rpartition(":")[2]
    no_proxies.setenv("HTTP_PROXY", f"{scheme}127.0.0.1:{port}")
    async with HttpEndpoint("http://example.invalid", library=library) as http:
        with pytest.raises(TransportFailed, match=f"through the proxy of HTTP_PROXY .127.0.0.1:{port}") as caught:
            async with http.request("GET"):
                pass
    assert "hush" not in str(caught.value)


@both
async def test_an_answer_of_the_proxy_itself_is_named(no_proxies, library):
    refusal = response(b"no", status="407 Proxy Authentication Required")
    async with open_server(answering(refusal)) as front:
        no_proxies.setenv("https_proxy", front.url)
        async with HttpEndpoint("https://example.invalid", library=library) as http:
            with pytest.raises(TransportFailed, match="407.*the proxy of https_proxy"):
                async with http.request("GET"):
                    pass


def test_a_policy_that_a_proxy_could_not_keep_is_refused():
    with pytest.raises(NotConfigured, match="proxy"):
        HttpEndpoint("http://example.com", proxy="http://127.0.0.1:1", policy=AddressPolicy())
