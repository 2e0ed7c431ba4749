"""A model server that answers as fast as a socket, or as slowly as it is told, in a process of its own.

`python -m benchmarks.model_server` prints its port and serves until its standard input ends. The first part of the path
says how it behaves; what follows `~` only tells one client's requests from another's:

| path                         | the answer                                                                   |
|------------------------------|------------------------------------------------------------------------------|
| `/burst-N/…`                 | N words at once, in pieces of 16 KiB                                         |
| `/paced-N-MS/…`              | N words, one every MS milliseconds                                           |
| `/slow-PERCENT-BASE-MS/…`    | one word after BASE ms, or, in that share of requests, after MS              |
| `/turn-N/…`                  | a call of the tool `look`, or N words once a message with its result is there|
| `/down/…`                    | 503                                                                          |
| `GET /count/MODE`            | how many requests that mode has had                                          |

Both dialects: `…/v1/chat/completions` and `…/v1/messages`, streamed when the request says so.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache

import attrs
import trio

PIECE = 16_384

_CHUNK = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    '"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}\n\n'
)
_USAGE = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    '"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'
)
_STATUS = {200: b"200 OK", 503: b"503 Service Unavailable"}


@attrs.frozen
class Dialect:
    """The events of a streamed answer, and the body of one that is not."""

    first: bytes
    #: two of equal length, in turns: a hundred times the same is a fault to some clients
    words: tuple[bytes, bytes]
    last: Callable[[int], bytes]
    whole: Callable[[int], bytes]

    def body(self, words: int) -> bytes:
        """All events of an answer of so many words."""
        one, other = self.words
        return self.first + (one + other) * (words // 2) + one * (words % 2) + self.last(words)


def _event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()


def _openai_whole(words: int) -> bytes:
    message = {"role": "assistant", "content": " word" * words}
    usage = {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "bench"}
    return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


def _anthropic_message(words: int, *, whole: bool) -> dict[str, object]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "bench",
        "content": [{"type": "text", "text": " word" * words}] if whole else [],
        "stop_reason": "end_turn" if whole else None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": words},
    }


OPENAI = Dialect(
    (_CHUNK % ('{"role":"assistant","content":""}', "null")).encode(),
    (
        (_CHUNK % ('{"content":" word"}', "null")).encode(),
        (_CHUNK % ('{"content":" text"}', "null")).encode(),
    ),
    lambda words: (_CHUNK % ("{}", '"stop"') + _USAGE % (words, words + 10)).encode(),
    _openai_whole,
)
ANTHROPIC = Dialect(
    _event("message_start", message=_anthropic_message(1, whole=False))
    + _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    (
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": " word"}),
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": " text"}),
    ),
    lambda words: (
        _event("content_block_stop", index=0)
        + _event(
            "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": words}
        )
        + _event("message_stop")
    ),
    lambda words: json.dumps(_anthropic_message(words, whole=True)).encode(),
)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@cache
def streamed(dialect: Dialect, words: int) -> bytes:
    """A whole response of *words*, ready to be sent."""
    body = dialect.body(words)
    pieces = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
    return _STREAM_HEAD + b"".join(map(_chunked, pieces)) + b"0\r\n\r\n"


def plain(body: bytes, status: int = 200) -> bytes:
    """A whole response that is not streamed."""
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (_STATUS[status], len(body)) + body


_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"place": "Oslo"}'}}


@cache
def tool_call(*, stream: bool) -> bytes:
    """A response that calls the tool `look`, in the dialect of chat completions."""
    if stream:
        delta = json.dumps({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **_CALL}]})
        body = (_CHUNK % (delta, "null") + _CHUNK % ("{}", '"tool_calls"') + _USAGE % (10, 20)).encode()
        return _STREAM_HEAD + _chunked(body) + b"0\r\n\r\n"
    message = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
    whole = json.loads(_openai_whole(1))
    whole["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    return plain(json.dumps(whole).encode())


def answer(dialect: Dialect, words: int, *, stream: bool) -> bytes:
    return streamed(dialect, words) if stream else plain(dialect.whole(words))


@attrs.frozen
class Asked:
    """A request, as far as this server reads it."""

    path: str
    dialect: Dialect
    stream: bool
    #: whether a message with the result of a tool is in it
    has_result: bool

    @property
    def mode(self) -> str:
        return self.path.split("/")[1]


class Models:
    """All modes, and how often each was asked."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        # Seeded, so that every contender meets the same slow requests.
        self._chances: dict[str, random.Random] = {}

    async def reply(self, stream: trio.SocketStream, asked: Asked) -> None:
        if asked.path.startswith("/count/"):
            count = self._counts[asked.path.removeprefix("/count/")]
            await stream.send_all(plain(json.dumps(count).encode()))
            return
        self._counts[asked.mode] += 1
        kind, *numbers = asked.mode.split("~")[0].split("-")
        if kind == "burst":
            await stream.send_all(answer(asked.dialect, int(numbers[0]), stream=asked.stream))
        elif kind == "turn" and not asked.has_result:
            await stream.send_all(tool_call(stream=asked.stream))
        elif kind == "turn":
            await stream.send_all(answer(asked.dialect, int(numbers[0]), stream=asked.stream))
        elif kind == "paced":
            await _paced(stream, asked.dialect, int(numbers[0]), float(numbers[1]) / 1000)
        elif kind == "slow":
            await trio.sleep(self._wait(asked.mode, *map(float, numbers)))
            await stream.send_all(answer(asked.dialect, 1, stream=asked.stream))
        else:
            await stream.send_all(plain(b'{"error":{"message":"down","type":"server_error","code":null}}', 503))

    def _wait(self, mode: str, percent: float, base_ms: float, slow_ms: float) -> float:
        chance = self._chances.setdefault(mode, random.Random(0))
        return (slow_ms if chance.uniform(0, 100) < percent else base_ms) / 1000

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection, one after another."""
        seen = b""
        async with stream:
            try:
                while data := await stream.receive_some(65_536):
                    seen += data
                    while (request := _request(seen)) is not None:
                        asked, length = request
                        seen = seen[length:]
                        await self.reply(stream, asked)
            except trio.BrokenResourceError:
                # A client that gave up: the loser of a hedge.
                pass


async def _paced(stream: trio.SocketStream, dialect: Dialect, words: int, gap: float) -> None:
    await stream.send_all(_STREAM_HEAD + _chunked(dialect.first))
    for number in range(words):
        await trio.sleep(gap)
        await stream.send_all(_chunked(dialect.words[number % 2]))
    await stream.send_all(_chunked(dialect.last(words)) + b"0\r\n\r\n")


def _request(seen: bytes) -> tuple[Asked, int] | None:
    """The first whole request in *seen* and its length."""
    head_end = seen.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = seen[:head_end].lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
    end = head_end + 4 + length
    if len(seen) < end:
        return None
    path = seen.split(b" ", 2)[1].decode()
    dialect = ANTHROPIC if path.endswith("/messages") else OPENAI
    body = seen[head_end:end].replace(b" ", b"")
    return Asked(path, dialect, b'"stream":true' in body, b'"role":"tool"' in body), end


async def main() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listener.socket.getsockname()[1], flush=True)
    models = Models()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, models.serve, [listener])
        # Whoever started this process holds the other end; when it is gone, so is the server.
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
