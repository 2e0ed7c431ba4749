"""web_fetch against real sockets: public addresses only, however they are spelled and whoever leads there."""

from __future__ import annotations

import contextlib
import gzip
import json
import time

import pytest
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.net import AddressPolicy
from clawft_trio.testing.leaks import nothing_left
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import ToolContext, ToolRegistry
from clawft_trio.tools.builtin import FetchPolicy
from clawft_trio.tools.builtin.fetch import fetch_tool
from clawft_trio.tools.builtin.page import page_text

CONTEXT = ToolContext(auth=AuthContext.local())
LOOPBACK = AddressPolicy(allowed_networks=("127.0.0.1",))


@contextlib.asynccontextmanager
async def serving(*answers):
    """A server that plays *answers*, the last one again and again; `requests` is what it was asked."""
    requests = []

    async def answer(stream):
        async with stream:
            asked = await stream.receive_some(65536)
            requests.append(bytes(asked))
            raw = answers[min(len(requests), len(answers)) - 1]
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(raw.replace(b"PORT", str(port).encode()))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio.serve_tcp(answer, 0, host="127.0.0.1", task_status=task_status)
        )
        port = listeners[0].socket.getsockname()[1]
        try:
            yield port, requests
        finally:
            nursery.cancel_scope.cancel(reason="test over")


def page(body, *headers, status="200 OK", kind="text/plain"):
    lines = [
        f"HTTP/1.1 {status}",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(to):
    return page(b"", f"location: {to}", status="302 Found")


async def fetch(url, policy=None, **more):
    registry = ToolRegistry([fetch_tool(policy or FetchPolicy(addresses=LOOPBACK))])
    call = ToolCall(id="1", name="web_fetch", arguments=json.dumps({"url": url, **more}))
    (answer,) = await registry.execute_all([call], CONTEXT)
    return answer


async def test_a_page_is_told_with_its_address_status_and_type():
    async with serving(page(b"caf\xe9", kind="text/plain; charset=latin-1", status="404 Not Found")) as (
        port,
        requests,
    ):
        answer = await fetch(f"http://127.0.0.1:{port}/x?q=1")
    assert json.loads(answer.text) == {
        "url": f"http://127.0.0.1:{port}/x",
        "status": 404,
        "content_type": "text/plain",
        "content": "café",
    }
    assert requests[0].startswith(b"GET /x?q=1 HTTP/1.1\r\n")
    assert b"cookie" not in requests[0].lower()


async def test_html_is_reduced_to_its_text():
    html = b"<html><head><title>T</title><script>x()</script></head><body><p>One\n two</p><a href='/y'>three</a></body>"
    async with serving(page(html, kind="text/html")) as (port, _):
        url = f"http://127.0.0.1:{port}"
        assert json.loads((await fetch(url)).text)["content"] == "T\nOne two\nthree </y>"
        assert json.loads((await fetch(url, raw=True)).text)["content"] == html.decode()


SPELLINGS = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://017700000001:{port}/",
    "http://127.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://224.0.0.1/",
]


@pytest.mark.parametrize("url", SPELLINGS)
async def test_what_is_not_public_is_refused_however_it_is_spelled(url):
    async with serving(page(b"secret")) as (port, requests):
        answer = await fetch(url.format(port=port), FetchPolicy())
    assert answer.outcome == "refused", answer
    assert "secret" not in answer.text
    assert requests == []


@pytest.mark.parametrize(
    "to", ["http://127.0.0.2:PORT/", "http://localhost.:PORT/", "http://[::1]:PORT/", "//10.0.0.1/"]
)
async def test_a_redirect_leads_to_no_other_address_than_one_could_ask_for(to):
    policy = FetchPolicy(addresses=AddressPolicy(allowed_networks=("127.0.0.1",), blocked_domains=("localhost",)))
    async with serving(redirect(to), page(b"secret")) as (port, requests):
        answer = await fetch(f"http://127.0.0.1:{port}/", policy)
    assert answer.outcome == "refused", answer
    assert len(requests) == 1


async def test_a_redirect_to_what_may_be_reached_is_followed_but_not_for_ever():
    async with serving(redirect("/there"), page(b"here")) as (port, requests):
        answer = await fetch(f"http://127.0.0.1:{port}/")
        assert json.loads(answer.text)["url"] == f"http://127.0.0.1:{port}/there"
    async with serving(redirect("/again")) as (port, requests):
        answer = await fetch(f"http://127.0.0.1:{port}/")
        assert json.loads(answer.text)["status"] == 302
    assert len(requests) == 6


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://x/",
        "javascript:1",
        "example.com",
        "http://",
        "http://a:b@x/",
        "\0",
    ],
)
async def test_only_the_web_is_fetched(url):
    answer = await fetch(url, FetchPolicy())
    assert answer.outcome == "error"
    assert "a:b" not in answer.text


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/", "data:text/plain,x"])
async def test_a_redirect_out_of_the_web_is_an_error(to):
    async with serving(redirect(to)) as (port, _):
        assert (await fetch(f"http://127.0.0.1:{port}/")).outcome == "error"


async def test_only_so_much_of_a_body_is_read_also_when_it_is_compressed():
    bomb = gzip.compress(b"x" * 50_000_000)
    policy = FetchPolicy(addresses=LOOPBACK, longest_body=5000)
    for answer in (page(b"x" * 1_000_000), page(bomb, "content-encoding: gzip")):
        async with serving(answer) as (port, _):
            told = json.loads((await fetch(f"http://127.0.0.1:{port}/", policy)).text)
        assert (told["content"], told["note"]) == ("x" * 5000, "cut after 5000 bytes")


@pytest.mark.parametrize(
    ("body", "kind"), [(b"\x89PNG", "image/png"), (b"a\0b", "text/plain"), (b"x", "application/octet-stream")]
)
async def test_what_is_not_text_is_said(body, kind):
    async with serving(page(body, kind=kind)) as (port, _):
        answer = await fetch(f"http://127.0.0.1:{port}/")
    assert (answer.outcome, "not text" in answer.text) == ("error", True)


@pytest.mark.parametrize("charset", ["nonsense", "hex", "rot13", "utf-7; x", '"'])
async def test_an_odd_charset_is_no_way_in(charset):
    async with serving(page(b"plain", kind=f"text/plain; charset={charset}")) as (port, _):
        answer = await fetch(f"http://127.0.0.1:{port}/")
    assert answer.outcome in {"ok", "error"}
    assert "Traceback" not in answer.text


async def test_a_server_that_never_answers_is_given_up():
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio.serve_tcp(
                lambda stream: trio.sleep_forever(), 0, host="127.0.0.1", task_status=task_status
            )
        )
        port = listeners[0].socket.getsockname()[1]
        answer = await fetch(f"http://127.0.0.1:{port}/", FetchPolicy(addresses=LOOPBACK, total=0.2))
        nursery.cancel_scope.cancel(reason="test over")
    assert answer.outcome == "timeout"


async def test_nobody_there_is_told():
    async with serving(page(b"")) as (port, _):
        pass
    answer = await fetch(f"http://127.0.0.1:{port}/")
    assert (answer.outcome, "no connection" in answer.text) == ("error", True)


async def test_a_fetch_is_gone_wherever_it_is_cancelled():
    async with serving(page(b"hello")) as (port, _):

        async def operation():
            await fetch(f"http://127.0.0.1:{port}/")

        assert await cancel_everywhere(operation, nothing_left()) > 5


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("<p>a &amp; b<br>c", "a & b\nc"),
        ("&lt;p&gt; 1 < 2 <3", "<p> 1 < 2 <3"),
        ("<svg><p>no</p></svg>yes<SCRIPT>if (a<b) {}</Script >more", "yesmore"),
        ("<a href='#x'>here</a> <a>there</a></a>", "here there"),
        ('<a class=x HREF="/y?a=1&amp;b=2">here</a>', "here </y?a=1&b=2>"),
        ("<!-- <p>no --><!doctype html><?x?>yes<!-- never closed", "yes"),
        ("<script>never closed", ""),
        ("<p never closed", ""),
    ],
)
def test_the_text_of_a_page(page, text):
    assert page_text(page) == text


@pytest.mark.parametrize(
    "piece",
    ["<", "<a ", "<!--", "<![CDATA[", "&", '<a href="', "<p>", "</", "<script>", "<a href='x'>", "</a", " href="],
)
def test_no_page_takes_more_than_its_length_asks_for(piece):
    def seconds(length):
        began = time.thread_time()
        page_text(piece * (length // len(piece)))
        return time.thread_time() - began

    small = min(seconds(20_000) for _ in range(3))
    assert seconds(200_000) < 40 * max(small, 0.002)
