"""The tool web_fetch: read a page of the public web.

The address policy is checked for the connection and again for every redirect, and the connection is made to the checked
address. The request contains nothing of this process: no proxy, no cookies, no headers that a model chooses. A model
can still put text into an address; to prevent that, require approval or list the domains.
"""

from __future__ import annotations

from typing import Annotated, Any

import attrs
import trio
from msgspec import Meta

from clawft_trio.errors import ProviderError, ProviderTimeout, ToolFailed, ToolTimeout
from clawft_trio.net import AddressPolicy, Clocks, HttpEndpoint, HttpResponse
from clawft_trio.tools.builtin.charset import decode_body
from clawft_trio.tools.builtin.page import page_text
from clawft_trio.tools.tool import Tool, tool

_TEXTUAL = frozenset({"json", "xml", "javascript", "x-ndjson", "yaml", "x-yaml", "toml", "sql", "x-sh"})


@attrs.frozen(kw_only=True)
class FetchPolicy:
    """Allowed addresses and limits of web_fetch."""

    #: the default allows the public internet, and no private, loopback or otherwise special address
    addresses: AddressPolicy = attrs.field(factory=AddressPolicy)
    #: largest number of redirects
    redirects: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    #: largest part of a body in bytes; the rest is not read
    longest_body: int = attrs.field(default=2 * 1024 * 1024, validator=attrs.validators.ge(1024))
    #: seconds for the whole call, redirects included
    total: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    user_agent: str = "clawft-trio (web_fetch)"


def fetch_tool(policy: FetchPolicy) -> Tool:
    """Make the tool web_fetch."""

    @tool(mode="read_only", total=policy.total)
    async def web_fetch(url: Annotated[str, Meta(min_length=1, max_length=8192)], raw: bool = False) -> dict[str, Any]:
        """Read a page of the web. HTML is reduced to its text.

        Args:
          url: An `http:` or `https:` address.
          raw: Return HTML unchanged.
        """
        try:
            # Reading the certificates takes 20 ms, too long for the event loop.
            endpoint = await trio.to_thread.run_sync(_endpoint, url, policy)
            async with endpoint, endpoint.request("GET") as response:
                return await _result(response, policy, raw=raw)
        except ProviderTimeout as exc:
            raise ToolTimeout(f"no answer: {exc}") from exc
        except ProviderError as exc:
            raise ToolFailed(str(exc)) from exc

    return web_fetch


def _endpoint(url: str, policy: FetchPolicy) -> HttpEndpoint:
    return HttpEndpoint(
        url,
        headers={"user-agent": policy.user_agent, "accept": "text/*, application/json, */*;q=0.1"},
        connections=1,
        clocks=Clocks(first_byte=policy.total),
        redirects=policy.redirects,
        policy=policy.addresses,
        trust_env=False,
    )


async def _result(response: HttpResponse, policy: FetchPolicy, *, raw: bool) -> dict[str, Any]:
    kind = response.content_type
    if not _is_textual(kind):
        raise ToolFailed(f"{response.url} is {kind}, not text (status {response.status})")
    body = await response.read(limit=policy.longest_body + 1, cut=True)
    header = response.headers.get("content-type", "")
    text = await trio.to_thread.run_sync(_text_of, body[: policy.longest_body], kind, header, raw)
    result = {"url": response.url, "status": response.status, "content_type": kind, "content": text}
    return result | ({"note": f"cut after {policy.longest_body} bytes"} if len(body) > policy.longest_body else {})


def _is_textual(kind: str) -> bool:
    family, _, detail = kind.partition("/")
    # Servers that send no content type mostly send text.
    return family in {"", "text"} or bool(_TEXTUAL & {detail, detail.rpartition("+")[2]})


def _text_of(body: bytes, kind: str, content_type: str, raw: bool) -> str:
    """Decode and extract the text of a body. Blocks the thread; other threads run every few milliseconds."""
    text = decode_body(body, content_type)
    if "\0" in text:
        raise ToolFailed("the response is not text")
    return page_text(text) if kind in {"text/html", "application/xhtml+xml"} and not raw else text
