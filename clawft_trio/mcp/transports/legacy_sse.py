"""The HTTP+SSE transport of revision 2024-11-05: one event stream delivers every message, and POSTs send them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urljoin

import trio

from clawft_trio.errors import PeerGone, ProtocolViolation, ProviderError
from clawft_trio.mcp.auth.addresses import origin
from clawft_trio.mcp.jsonrpc import parse
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.net import HttpResponse, ServerSentEvent, SSEDecoder

ENDPOINT_WITHIN = 10.0
"""Seconds in which the stream must name the URL for POSTs."""

REFUSALS = frozenset((400, 404, 405))
"""Statuses with which a server of this transport responds to the POST of a newer client."""

_LONGEST_ADDRESS = 4096


@asynccontextmanager
async def open_stream(
    get: AbstractAsyncContextManager[HttpResponse], base: str, *, name: str, limit: int
) -> AsyncGenerator[EventStream | None, None]:
    """Open the event stream of *get*; yield None when the server has none.

    Args:
      get: the GET of the server's URL.
      base: that URL.
      name: name of the server, in errors.
      limit: largest message in bytes.

    Raises:
      ProtocolViolation: the stream names no URL for POSTs, or one of another origin.
      PeerGone: the stream ended first.

    Cancellation: the stream is closed.
    """
    async with get as response:
        if response.status != 200 or response.content_type != "text/event-stream":
            yield None
            return
        stream = EventStream(response, name=name, limit=limit)
        with trio.move_on_after(ENDPOINT_WITHIN):
            await stream.wait_endpoint(base)
        if not stream.endpoint:
            raise ProtocolViolation("the stream names no address for messages", server=name)
        yield stream


class EventStream:
    """The event stream of a server, and its URL for messages."""

    def __init__(self, response: HttpResponse, *, name: str, limit: int) -> None:
        self._chunks = response.chunks().__aiter__()
        self._decoder = SSEDecoder(max_event=limit)
        self._name = name
        self._early: list[ServerSentEvent] = []
        self.endpoint: str = ""

    async def wait_endpoint(self, base: str) -> None:
        """Wait for the event that names the URL.

        Raises:
          ProtocolViolation: the URL has another origin.
          PeerGone: the stream ended first.

        Cancellation: the URL is not known.
        """
        while not self.endpoint:
            for event in await self._next():
                if event.event == "endpoint" and not self.endpoint:
                    self.endpoint = self._checked(base, event.data)
                else:
                    self._early.append(event)

    def _checked(self, base: str, data: bytes) -> str:
        address = ""
        try:
            address = urljoin(base, data[:_LONGEST_ADDRESS].decode().strip())
            same = origin(address) == origin(base)
        except ValueError:
            same = False
        if not same:
            # Our requests carry secrets that only this server may get.
            raise ProtocolViolation("the stream names an address of another origin", server=self._name)
        return address

    async def receive(self, mux: Multiplexer, received: Callable[[bytes], None] = lambda _: None) -> PeerGone:
        """Deliver messages until the stream ends; return why it ended.

        Cancellation: no message is cut.
        """
        events, self._early = self._early, []
        while True:  # noqa: ASYNC913 - `_next` reads
            for event in events:
                if event.event == "message" and event.data.strip():
                    mux.last_received = trio.current_time()
                    received(event.data)
                    for message in parse(event.data):
                        mux.deliver(message)
            try:
                events = await self._next()
            except PeerGone as exc:
                return exc

    async def _next(self) -> list[ServerSentEvent]:
        try:
            return list(self._decoder.feed(await self._chunks.__anext__()))
        except StopAsyncIteration:
            raise PeerGone("the event stream has ended", server=self._name) from None
        except ProviderError as exc:
            raise PeerGone(f"the event stream broke: {exc.message}", server=self._name) from exc
