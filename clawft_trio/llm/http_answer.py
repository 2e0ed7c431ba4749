"""Reads the answer to one request over HTTP: decodes its bytes, emits its events, checks that it is complete."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import suppress

import attrs
import trio

from clawft_trio.attempts import AttemptInProgress
from clawft_trio.chat import CALLS_MAY_RUN, CONTENT, Call, ChatRequest, ChatResponse, StreamEvent, UsageReport
from clawft_trio.errors import (
    AnswerTooLarge,
    EmptyAnswer,
    InvalidResponse,
    ProviderError,
    StreamTruncated,
)
from clawft_trio.llm.conform import Conformed
from clawft_trio.llm.failures import Failures, request_id
from clawft_trio.llm.life_signs import LifeSigns
from clawft_trio.llm.response_builder import ResponseReader, closing_events
from clawft_trio.llm.secrets import redact
from clawft_trio.net.http import Clocks
from clawft_trio.net.response import HttpResponse
from clawft_trio.observe.events import Noted

# Bytes read of an error page at most; larger than any real error object.
MAX_ERROR = 64 * 1024

# May precede a JSON document or an event stream: whitespace that keeps a connection alive, and a byte order mark.
_BLANK = b" \t\r\n\xef\xbb\xbf"

# First bytes of an event stream: `data`, `event`, `error`, `id`, `retry`, a comment; or an empty body.
_STREAM = frozenset({b"d", b"e", b"i", b"r", b":", b""})

# Characters of an answer that takes milliseconds to join.
_LARGE = 1024 * 1024

# Seconds. After the last event of its protocol a server ends the body at once or not at all; the connection can be
# reused only after the body has ended.
_DRAIN = 0.05


@attrs.define
class HttpAnswer:
    """An answer that is being received over HTTP, in any dialect."""

    provider: str
    failures: Failures
    clocks: Clocks
    max_answer: int
    response: HttpResponse
    reading: ResponseReader
    call: Call
    attempt: AttemptInProgress
    model: str
    request: ChatRequest = attrs.field(repr=False)
    secrets: tuple[str, ...] = attrs.field(repr=False)
    conformed: Conformed

    async def read(self) -> ChatResponse:
        """Receive the answer to its end and return it.

        Raises:
          ProviderError: the response is an error, or nothing proves that it is complete; `partial` is what had arrived.

        Cancellation: what had arrived is lost; the caller closes the response.
        """
        if not 200 <= self.response.status < 300:
            raise self.failures.of_response(
                status=self.response.status,
                headers=self.response.headers,
                body=await self.response.read_refusal(limit=MAX_ERROR),
                model=self.model,
                secret=self.secrets,
                request=f"POST {self.response.url}",
            )
        try:
            await self._receive()
        except ProviderError as exc:
            exc.partial = exc.partial or self.reading.answer.partial()
            if isinstance(exc, AnswerTooLarge):
                # Joining the text took tens of milliseconds and its retraction takes as long: let other tasks run now.
                await trio.lowlevel.cancel_shielded_checkpoint()
            raise
        finally:
            self._report_usage_problem()
        return await self._conclude()

    def _report_usage_problem(self) -> None:
        """Report a problem of the reported usage to observers."""
        problem = self.reading.answer.usage_problem
        if problem:
            counted = "does not add up" if self.reading.answer.usage else "is refused, and the answer is estimated"
            self.call.observer(
                Noted(
                    component="llm",
                    what=f"the usage that {self.provider} reports {counted}",
                    details={"provider": self.provider, "model": self.model, "problem": problem},
                    call_id=self.call.id,
                    turn_id=self.call.turn_id,
                )
            )

    async def _receive(self) -> None:
        content_type = self.response.content_type
        if content_type == "text/html":
            how = f"a web page answers POST {self.response.url}: check the base URL"
            raise self._invalid(how, body=await self.response.read_refusal(limit=MAX_ERROR))
        # The server may ignore the `stream` option and send a wrong content type: the first byte decides.
        chunks = aiter(self.response.chunks())
        # In a list, so that `_stream` can take it out and no frame references it during the stream.
        begun = [await self._beginning(chunks)]
        first = begun[0][:1]
        labelled = content_type == "text/event-stream"
        if first in (b"{", b"[") or (first not in _STREAM and not labelled):
            await self._read_whole(begun.pop(), chunks)
        else:
            await self._stream(begun, chunks)

    async def _beginning(self, chunks: AsyncIterator[bytes]) -> bytes:
        """Return the first chunk that is not blank, without its leading blanks; nothing when `MAX_ERROR` are blank."""
        blank = 0
        async for data in chunks:
            if begun := data.lstrip(_BLANK):
                return begun
            blank += len(data)
            if blank > MAX_ERROR:
                break
        return b""

    async def _read_whole(self, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        limit = self.max_answer
        body = bytearray(head)
        async for data in chunks:
            body += data
            if len(body) > limit:
                break
        if len(body) > limit:
            raise AnswerTooLarge(limit=limit, partial=self.reading.answer.partial())
        whole = bytes(body)
        await self._show(self.reading.feed_whole(whole))
        if self.reading.violation:
            raise self._invalid(self.reading.violation, body=whole[:MAX_ERROR])

    async def _stream(self, begun: list[bytes], chunks: AsyncIterator[bytes]) -> None:
        reading, limit, signs = self.reading, self.max_answer, LifeSigns()
        data: bytes | None = begun.pop()
        while data is not None:
            events = reading.feed(data)
            if events:
                await self._show(events)
            elif sign := signs.of(data):
                self.call.pulse(sign, self.clocks.thinking or math.inf)
            if reading.answer.size > limit:
                raise AnswerTooLarge(limit=limit)
            if reading.finished or reading.ended:
                break
            data = await anext(chunks, None)
        else:
            await self._show(reading.feed_end())
        if reading.finished:
            await self._linger(chunks)

    async def _late_events(self, chunks: AsyncIterator[bytes], limit: float) -> list[StreamEvent] | None:
        """Return the events that arrive within *limit* seconds; None when the body ends or none arrive in time."""
        # The answer is complete: a failure now loses at most its usage.
        with suppress(ProviderError), trio.move_on_after(limit):
            data = await anext(chunks, None)
            if data is not None:
                return [] if self.reading.ended else self.reading.feed(data)
        return None

    async def _linger(self, chunks: AsyncIterator[bytes]) -> None:
        # Only the wait for the server counts, not the time that the consumer takes.
        left = self.clocks.linger
        while left > 0:
            left = min(left, _DRAIN) if self.reading.ended else left
            started = trio.current_time()
            events = await self._late_events(chunks, left)
            if events is None:
                return
            left -= trio.current_time() - started
            if any(isinstance(event, CONTENT) for event in events):
                # The finish reason came too early (some servers send it with every chunk): more content may follow.
                left = self.clocks.linger
            await self._show(events)

    # Has no checkpoint of its own: the read before it was one.
    async def _show(self, events: list[StreamEvent]) -> None:
        answer, attempt = self.reading.answer, self.attempt
        if answer.usage is not attempt.usage:
            attempt.usage = answer.usage
            attempt.certainty = None if answer.usage is None else "at_least"
        if attempt.first_content is None and any(type(event) is not UsageReport for event in events):
            attempt.first_content = trio.current_time()
        if self.conformed.restores:
            events = list(map(self.conformed.restored_event, events))
        emit = self.call.emit
        for event in events:
            await emit(event)

    async def _conclude(self) -> ChatResponse:
        reading, answer = self.reading, self.reading.answer
        if reading.error is not None:
            raise self.failures.of_event(
                reading.error,
                headers=self.response.headers,
                model=self.model,
                secret=self.secrets,
                partial=answer.partial(),
                request="" if answer.size else f"POST {self.response.url}",
            )
        if reading.violation:
            raise self._invalid(reading.violation)
        if not reading.finished or answer.finish_reason is None:
            raise StreamTruncated(
                "the stream ended without its terminal mark",
                status=self.response.status,
                request_id=request_id(self.response.headers),
                partial=answer.partial(),
            )
        if self.attempt.usage is not None:
            self.attempt.certainty = "estimated" if answer.usage_problem else "exact"
        if answer.size > _LARGE:
            # Joining and checking a large answer take tens of milliseconds each: other tasks run in between.
            await trio.lowlevel.cancel_shielded_checkpoint()
        response = answer.whole(answer.finish_reason)
        if answer.size > _LARGE:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if response.finish_reason in CALLS_MAY_RUN and not all(call.name for call in response.tool_calls):
            raise self._invalid("a tool call has no name")
        if response.is_empty and not self.request.allow_empty:
            raise EmptyAnswer(
                "the answer has no text and no tool call",
                status=self.response.status,
                request_id=request_id(self.response.headers),
                partial=response,
            )
        await self._show([*answer.calls.late_fragments(), *closing_events(response)])
        return response

    def _invalid(self, how: str, *, body: bytes = b"") -> InvalidResponse:
        return InvalidResponse(
            redact(how, self.secrets),
            status=self.response.status,
            request_id=request_id(self.response.headers),
            body=redact(body.decode(errors="replace"), self.secrets),
            partial=self.reading.answer.partial(),
        )
