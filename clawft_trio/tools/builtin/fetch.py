"""The tool web_fetch: a page of the public web, and nothing that is not public.

Which addresses may be reached is asked where the connection is made, for every redirect again, and the connection
goes to the address that was asked about. Nothing of this process goes along: no proxy, no cookies, no headers that
a model chooses. What a model can still do is put what it knows into an address; who minds asks for approval, or
names the domains.
"""

from __future__ import annotations

from typing import Annotated, Any

import attrs
import trio
from msgspec import Meta

from clawft_trio.errors import ProviderError, ProviderTimeout, ToolFailed, ToolTimeout
from clawft_trio.net import AddressPolicy, Clocks, HttpEndpoint, HttpResponse
from clawft_trio.tools.builtin.page import page_text
from clawft_trio.tools.tool import Tool, tool

_TEXTUAL = frozenset({"json", "xml", "javascript", "x-ndjson", "yaml", "x-yaml", "toml", "sql", "x-sh"})


@attrs.frozen(kw_only=True)
class FetchPolicy:
    """What web_fetch may reach, and what bounds it."""

    #: by default the public internet, and no private, loopback or otherwise special address
    addresses: AddressPolicy = attrs.field(factory=AddressPolicy)
    #: redirects that are followed
    redirects: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    #: bytes of a body that are read; the rest is left out
    longest_body: int = attrs.field(default=2 * 1024 * 1024, validator=attrs.validators.ge(1024))
    #: seconds for all of it
    total: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    user_agent: str = "clawft-trio (web_fetch)"


def fetch_tool(policy: FetchPolicy) -> Tool:
    """The tool web_fetch."""

    @tool(mode="read_only", total=policy.total)
    async def web_fetch(url: Annotated[str, Meta(min_length=1, max_length=8192)], raw: bool = False) -> dict[str, Any]:
        """Read a page of the web. HTML is reduced to its text.

        Args:
          url: An `http:` or `https:` address.
          raw: Give HTML as it is.
        """
        try:
            # Reading the certificates takes 20 ms, which nobody else should wait for.
            endpoint = await trio.to_thread.run_sync(_endpoint, url, policy)
            async with endpoint, endpoint.request("GET") as response:
                return await _told(response, policy, raw=raw)
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


async def _told(response: HttpResponse, policy: FetchPolicy, *, raw: bool) -> dict[str, Any]:
    kind = response.content_type
    if not _is_textual(kind):
        raise ToolFailed(f"{response.url} is {kind}, not text (status {response.status})")
    body = await response.read(limit=policy.longest_body + 1, cut=True)
    text = _decoded(body[: policy.longest_body], response.headers.get("content-type", ""))
    if kind in {"text/html", "application/xhtml+xml"} and not raw:
        text = await trio.to_thread.run_sync(page_text, text)
    told = {"url": response.url, "status": response.status, "content_type": kind, "content": text}
    return told | ({"note": f"cut after {policy.longest_body} bytes"} if len(body) > policy.longest_body else {})


def _is_textual(kind: str) -> bool:
    family, _, detail = kind.partition("/")
    # Servers that say nothing mostly send text.
    return family in {"", "text"} or bool(_TEXTUAL & {detail, detail.rpartition("+")[2]})


def _decoded(body: bytes, content_type: str) -> str:
    _, found, charset = content_type.partition("charset=")
    try:
        # `bytes.decode` knows no codecs that make anything but text (zip, hex, rot13).
        text = body.decode(charset.partition(";")[0].strip(" \"'") if found else "utf-8", "replace")
    except (LookupError, ValueError):
        text = body.decode(errors="replace")
    if "\0" in text:
        raise ToolFailed("what came back is not text")
    return text.removeprefix("\ufeff")
