"""Server-sent events out of bytes, as they come off a socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from benchmarks.bench import CPU, Bench, Case, Figure, Open, PlainRound, Setting, Stopwatch
from benchmarks.model_server import OPENAI, PIECE
from clawft_trio.net import SSEDecoder

Decode: TypeAlias = Callable[[list[bytes]], int]
"""The number of events in these pieces of one stream."""


def ours(pieces: list[bytes]) -> int:
    decoder = SSEDecoder()
    return sum(len(decoder.feed(piece)) for piece in pieces)


def splitting(pieces: list[bytes]) -> int:
    """What finds the events and checks nothing."""
    count, rest = 0, b""
    for piece in pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        count += len(events)
    return count


def loading(pieces: list[bytes]) -> int:
    """The same, and what is in them."""
    count, rest = 0, b""
    for piece in pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            if event != b"data: [DONE]":
                json.loads(event[6:])
            count += 1
    return count


def by_httpx_sse() -> Decode:
    import httpx
    from httpx_sse import EventSource

    def decode(pieces: list[bytes]) -> int:
        response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Pieces(pieces))
        return sum(1 for _ in EventSource(response).iter_sse())

    class _Pieces(httpx.SyncByteStream):
        def __init__(self, pieces: list[bytes]) -> None:
            self._pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._pieces)

    return decode


def by_openai() -> Decode:
    from openai._streaming import SSEDecoder as OpenAIDecoder

    return lambda pieces: sum(1 for _ in OpenAIDecoder().iter_bytes(iter(pieces)))


def by_anthropic() -> Decode:
    from anthropic._streaming import SSEDecoder as AnthropicDecoder

    return lambda pieces: sum(1 for _ in AnthropicDecoder().iter_bytes(iter(pieces)))


def decoding(make: Callable[[], Any], words: int = 20_000) -> Open:
    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        count = setting.sized(words, min(words, 50))
        body = OPENAI.body(count)
        pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
        decode: Decode = make()

        def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                events = decode(pieces)
            # The role, the finish, the usage and the `[DONE]` are events too.
            assert events == count + 4, f"{events} events"
            watch.note("mb_s", len(body) / watch.wall / 1e6)

        yield one_round

    return opened


LOADS = "split + json.loads"

BENCH = Bench(
    title="server-sent events out of bytes",
    item="event",
    limit="Finding the blank lines (`bytes.split`); for scale, `json.loads` of what is between them.",
    against=LOADS,
    figures=(CPU, Figure("mb_s", "MB/s")),
    cases=(
        Case("split", decoding(lambda: splitting), role="limit", loop="none"),
        Case(LOADS, decoding(lambda: loading), role="limit", loop="none"),
        Case("SSEDecoder", decoding(lambda: ours), loop="none"),
        Case("httpx-sse", decoding(by_httpx_sse), role="peer", loop="none", needs="httpx-sse"),
        Case("openai's decoder", decoding(by_openai), role="peer", loop="none", needs="openai"),
        Case("anthropic's decoder", decoding(by_anthropic), role="peer", loop="none", needs="anthropic"),
    ),
)
