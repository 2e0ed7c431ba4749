"""The messages of one HTTP response: as JSON, or as a stream of events that is resumed when it breaks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec
import trio
from msgspec import UNSET

from clawft_trio.backoff import backoff
from clawft_trio.errors import ProtocolViolation, ProviderError
from clawft_trio.mcp.jsonrpc import Envelope, parse
from clawft_trio.mcp.messages import Outgoing
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.net import HttpResponse, SSEDecoder

JSON = "application/json"
EVENTS = "text/event-stream"

FIRST_RETRY = 1.0
"""Seconds before a broken stream is resumed, when the server named no time."""

LONGEST_RETRY = 30.0

_SHORTEST_RETRY = 0.1
"""Seconds; a server may ask for less, and would be called in a busy loop."""

_STEADY = 5.0
"""Seconds after which a stream that ends does not count as one that ended at once."""

LONGEST_WITH_MESSAGES = 5.0
"""Longest wait in seconds after streams that ended at once, but had messages, or are waited for by a call."""

_log = logging.getLogger("clawft_trio.mcp")


class Reconnects:
    """Waits between streams, which grow while the streams end at once.

    Args:
      shortest: first wait in seconds, if the server's own wait is not longer.
      longest: longest wait in seconds, if the server's own wait is not longer.
    """

    def __init__(self, *, shortest: float = 0.0, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._short = 0

    def reset(self) -> None:
        """Begin with the first wait again."""
        self._short = 0

    def wait_after(self, lived: float, *, retry: float) -> float:
        """Return the seconds to wait after a stream of *lived* seconds, at least *retry*, the server's own wait."""
        if lived >= _STEADY:
            self.reset()
            return retry
        self._short += 1
        return max(retry, backoff(self._short, first=max(retry, self._shortest), longest=self._longest))


_LARGE = 1024 * 1024
"""Bytes of a message that is read in another pass of the event loop than the one that received its end."""


class AnswerStream:
    """Passes the messages of a response to the multiplexer, and records where its stream broke.

    Args:
      mux: receives the messages.
      frame: the request of the response; it has no id when it is not a request.
      limit: largest message in bytes.
      server: name of the server, for errors.
      on_version: called with the protocol version in the response to `initialize`, before that is delivered.
    """

    def __init__(
        self, mux: Multiplexer, frame: Outgoing, *, limit: int, server: str, on_version: Callable[[str], None]
    ) -> None:
        self.frame: Outgoing = frame
        #: whether the response to the request has arrived
        self.answered: bool = False
        #: id of the last event, to resume the stream
        self.last_event_id: str = ""
        #: seconds before the stream is resumed
        self.retry: float = FIRST_RETRY
        #: number of events with a message so far
        self.messages: int = 0
        self._mux = mux
        self._limit = limit
        self._server = server
        self._on_version = on_version

    async def receive(self, response: HttpResponse) -> None:
        """Receive a response with the status 200.

        Raises:
          ProtocolViolation: it cannot contain the response.
          ProviderError: the connection broke before a complete JSON body.

        Cancellation: the messages so far were delivered.
        """
        if response.content_type == EVENTS:
            await self.receive_events(response)
        elif response.content_type == JSON:
            self.deliver(await response.read(limit=self._limit))
            if not self.answered and self.frame.id is not None:
                raise ProtocolViolation(f"{self.frame.method}: the body holds no answer", server=self._server)
        elif self.frame.id is not None:
            kind = response.content_type[:60] or "nothing"
            raise ProtocolViolation(f"{self.frame.method}: the answer is {kind!r}", server=self._server)

    async def receive_events(self, response: HttpResponse) -> None:
        """Receive events until the response has arrived, or the stream has ended or broken.

        Cancellation: the messages so far were delivered.
        """
        decoder = SSEDecoder(max_event=self._limit)
        try:
            async for chunk in response.chunks():
                for event in decoder.feed(chunk):
                    if event.data.strip():
                        if len(event.data) > _LARGE:
                            # Joining its pieces and reading it take tens of milliseconds each.
                            await trio.lowlevel.checkpoint()
                        self.messages += 1
                        self.deliver(event.data)
                if self.answered:
                    return
        except ProviderError as exc:
            # A connection that breaks in the middle of a stream is resumed later.
            _log.info("%s: a stream broke: %s", self._server, exc)
        finally:
            self.last_event_id = decoder.last_event_id or self.last_event_id
            if decoder.retry is not None:
                self.retry = min(max(decoder.retry / 1000, _SHORTEST_RETRY), LONGEST_RETRY)

    def deliver(self, data: bytes) -> None:
        """Pass the messages in *data* to the multiplexer."""
        self._mux.last_received = trio.current_time()
        for message in parse(data):
            if isinstance(message, Envelope) and message.method is UNSET and message.id == self.frame.id:
                self._note_version(message)
                self.answered = True
            elif message.id is not UNSET and message.id == self.frame.id and not isinstance(message, Envelope):
                self.answered = True
            self._mux.deliver(message)

    def _note_version(self, answer: Envelope) -> None:
        if self.frame.method == "initialize" and answer.result:
            with suppress(ValueError, RecursionError):  # the call that waits for the answer reports the problem
                self._on_version(_decode_version(answer.result).protocol_version)


class _Version(msgspec.Struct, rename="camel"):
    protocol_version: str = ""


_decode_version = msgspec.json.Decoder(_Version).decode
