"""A response whose headers have arrived and whose body is being received."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeAlias

import trio

from clawft_trio.errors import ClawftError, InvalidResponse, ProviderError, TransportFailed
from clawft_trio.net.chunked import BadChunk, ChunkedDecoder
from clawft_trio.net.network import SocketConnection
from clawft_trio.nursery import cleanup_scope

MAX_READ = 32 * 1024 * 1024
"""Bytes of a body that is read as a whole: more than any answer or page has."""

# Seconds. Closing a connection waits for nothing; this bounds unexpected waits.
_GRACE = 1.0

# Seconds to read the body of an error status.
_REFUSAL = 5.0

# Values of Content-Encoding that mean no compression. All but `identity` are mistakes of servers, such as a charset.
_NO_COMPRESSION = frozenset({"", "identity", "none", "utf-8", "utf8", "binary", "8bit", "aws-chunked"})

# Bytes requested from the network in one read.
_READ = 64 * 1024

# How a member of a gzip body begins. zlib has accepted or refused a header of its own after as many bytes.
_GZIP = b"\x1f\x8b"

# Largest output of one decompression step, in bytes.
_PIECE = 64 * 1024


class HttpResponse:
    """A response of `HttpEndpoint.request`; usable inside its block only."""

    def __init__(self, raw: Any, *, url: Callable[[], str], errors: tuple[type[Exception], ...], judge: Judge) -> None:
        self._raw = raw
        self._chunks = _Chunks(raw.stream, errors, judge)
        self.status: int = raw.status_code
        #: names in any case; several of one name are joined by commas
        self.headers: Mapping[str, str] = raw.headers
        self._url = url
        #: secret values of the request's headers and of its base URL's query, to be masked everywhere
        self.secrets: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """URL after redirects, without the parts that may be secret."""
        return self._url()

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status} from {self.url}, {self._chunks.received} bytes so far>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.move_on_after(_GRACE, shield=True):
            await self.finish()

    @property
    def content_type(self) -> str:
        """The media type in lower case and without parameters (`text/event-stream`); empty when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the chunks of the body as they arrive, decompressed. Use it once; it may stop at any point.

        Raises, while iterating:
          TransportFailed: the connection broke, or ended before the body did.
          InvalidResponse: the body does not match its content-encoding, or the encoding is not supported.
        """
        named = self.headers.get("content-encoding", "").lower().split(",")
        encoding = ",".join(one for name in named if (one := name.strip()) not in _NO_COMPRESSION)
        if not encoding:
            return self._chunks
        if encoding in {"gzip", "x-gzip", "deflate"}:
            return _Inflated(self._chunks)
        raise InvalidResponse(
            f"the body is compressed by {encoding[:40]!r}, which was not asked for", status=self.status
        )

    async def read(self, *, limit: int = MAX_READ, cut: bool = False) -> bytes:
        """Receive the whole body, at most *limit* bytes.

        Args:
          cut: return the first *limit* bytes instead of raising.

        Raises:
          InvalidResponse: the body is longer, and *cut* is False.
          TransportFailed: the connection broke, or ended before the body did.

        Cancellation: the rest is not received.
        """
        received = bytearray()
        await self._receive(received, limit)
        if len(received) > limit and not cut:
            raise InvalidResponse(f"the body is longer than limit={limit} bytes", status=self.status)
        return bytes(received[:limit])

    async def read_refusal(self, *, limit: int) -> bytes:
        """Receive what can be read within five seconds of a body that may be missing, at most *limit* bytes.

        For errors, which the status and the headers mostly decide, and for answers without content: a body that breaks,
        drips or is badly compressed is cut.

        Cancellation: the rest is not received.
        """
        received = bytearray()
        with trio.move_on_after(_REFUSAL), suppress(ProviderError):
            await self._receive(received, limit)
        await trio.lowlevel.checkpoint()
        return bytes(received[:limit])

    async def _receive(self, received: bytearray, limit: int) -> None:
        """Append the body to *received*, up to the chunk that exceeds *limit* bytes."""
        async for chunk in self.chunks():
            received += chunk
            if len(received) > limit:
                break

    async def finish(self) -> None:
        """End the response without waiting. If the rest of the body has already arrived, the connection can be reused.

        Cancellation: the response is ended nevertheless.
        """
        # A body that is dropped halfway leaves five nested generators to the garbage collector. A cancellation ends
        # them all, from the innermost outwards, and each closes its resources.
        try:
            if not self._chunks.ended:
                with trio.CancelScope(shield=True) as scope:  # noqa: ASYNC912 - cancelled from the start, to that end
                    scope.cancel(reason="the rest of the body is not wanted")
                    with suppress(ClawftError):
                        async for _ in self._chunks:
                            pass
        finally:
            with cleanup_scope(_GRACE):
                await self._raw.aclose()


Judge = Callable[[Exception], Exception]
"""Converts an exception of the HTTP library into an error of this package."""


class _Chunks:
    """The chunks of a body. An object and not a generator, so that an abandoned iteration needs no closing."""

    __slots__ = ("_errors", "_judge", "_next", "ended", "received")

    def __init__(self, body: Any, errors: tuple[type[Exception], ...], judge: Judge) -> None:
        self._next: Callable[[], Any] = body.__aiter__().__anext__
        self._errors = errors
        self._judge = judge
        self.received = 0
        #: whether the body was received to its end
        self.ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk: bytes = await self._next()
        except StopAsyncIteration:
            self.ended = True
            raise
        except self._errors as exc:
            raise self._judge(exc) from exc
        self.received += len(chunk)
        return chunk


Release: TypeAlias = Callable[[], Awaitable[None]]
"""Releases the connection of a body."""


class PlainBody:
    """The body of one response; closing it releases the connection."""

    def __init__(self, stream: Any, release: Release) -> None:
        self._stream = stream
        self._release: Release | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        # httpcore's own iterator, without another layer, which would add a cost to every chunk.
        chunks: AsyncIterator[bytes] = self._stream.__aiter__()
        return chunks

    async def aclose(self) -> None:
        """Release the connection; it is closed when the body was not read to its end.

        Cancellation: the connection is released nevertheless.
        """
        release, self._release = self._release, None
        if release is not None:
            await self._stream.aclose()
            await release()


class ChunkedBody(PlainBody):
    """A chunked body that bypasses the library's parser.

    At its end the parser, which has processed only the head, gets an empty body, so that its state allows the next
    request on this connection.
    """

    def __init__(self, stream: Any, wire: SocketConnection, release: Release, broken: type[Exception]) -> None:
        super().__init__(stream, release)
        self._wire = wire
        self._decoder = ChunkedDecoder()
        self._broken = broken

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        decoder = self._decoder
        while not decoder.ended:
            content = self._decode(await self._wire.read(_READ))
            if content:
                return content
        raise StopAsyncIteration

    def _decode(self, data: bytes) -> bytes:
        if not data:
            raise self._broken("the connection was closed before the body had ended")
        try:
            return self._decoder.feed(data)
        except BadChunk as exc:
            raise self._broken(str(exc)) from exc

    async def aclose(self) -> None:
        """Release the connection; it is ready for the next request when the body was read to its end.

        Cancellation: the connection is released nevertheless.
        """
        if self._release is not None and self._decoder.ended and not self._decoder.leftover:
            self._wire.replay(b"0\r\n\r\n")
            async for _ in self._stream:
                pass
        await super().aclose()


class _Inflated:
    """A gzip or deflate body, decompressed piece by piece: a small body cannot become a large one at once."""

    def __init__(self, chunks: _Chunks) -> None:
        self._chunks = chunks
        # 15 bits of window, and 32 to detect gzip or zlib by its header.
        self._zlib = zlib.decompressobj(wbits=47)
        #: whether the format is known; until then, `_head` has the bytes so far
        self._started = False
        self._head = b""
        #: received bytes that are not decompressed yet; None when there is nothing more to get without new ones
        self._tail: bytes | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = b""
        while not piece:
            if self._zlib.eof and not await self._next_member():
                raise StopAsyncIteration
            if self._tail is None:
                piece = self._inflate(await self._more())
            else:
                # The data of one read may become 64 MiB: other tasks run between the pieces.
                await trio.lowlevel.checkpoint()
                piece = self._inflate(self._tail)
            # After a full piece, zlib may hold more of the text than it has input left.
            rest = self._zlib.unconsumed_tail
            self._tail = rest if rest or len(piece) == _PIECE else None
        return piece

    async def _next_member(self) -> bool:
        """Begin the next member of a gzip body, which may have several (RFC 1952, section 2.2).

        Returns False after the last one. Whatever else follows the end of a compressed body is not a part of it.
        """
        if not self._head.startswith(_GZIP):
            return False
        rest = self._zlib.unused_data
        with suppress(StopAsyncIteration):
            while len(rest) < len(_GZIP):
                rest += await self._chunks.__anext__()
        if not rest.startswith(_GZIP):
            return False
        self._zlib, self._tail = zlib.decompressobj(wbits=47), rest
        return True

    async def _more(self) -> bytes:
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            raise TransportFailed("the compressed body ended before its end") from None

    def _inflate(self, data: bytes) -> bytes:
        try:
            piece = self._zlib.decompress(data, _PIECE)
        except zlib.error as exc:
            if not self._started:
                # Some servers call a raw deflate stream, without the zlib header, `deflate`.
                self._started, self._zlib = True, zlib.decompressobj(wbits=-zlib.MAX_WBITS)
                data, self._head = self._head + data, b""
                return self._inflate(data)
            raise InvalidResponse(f"the body does not match its content-encoding: {exc}") from exc
        if not self._started:
            self._head += data
            self._started = len(self._head) >= len(_GZIP)
        return piece
