"""A model server as fast as a socket: one prepared stream of chunks for every request.

`python -m benchmarks.model_server PORT_FILE DELTAS`. It runs in a process of its own, so that what is measured is the
client.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

CHUNK = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    '"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
FIRST = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
)
LAST = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    '"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5000,"total_tokens":5010}}\n\n'
    "data: [DONE]\n\n"
)


def answer(deltas: int) -> bytes:
    """A whole HTTP response that streams *deltas* words, in chunks of about 16 KiB."""
    body = (FIRST + CHUNK * deltas + LAST).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [body[at : at + 16_384] for at in range(0, len(body), 16_384)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def serve(stream: trio.SocketStream, ready: bytes) -> None:
    async with stream:
        seen = b""
        while data := await stream.receive_some(65_536):
            seen += data
            while (head_end := seen.find(b"\r\n\r\n")) >= 0:
                head = seen[:head_end].lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
                if len(seen) < head_end + 4 + length:
                    break
                seen = seen[head_end + 4 + length :]
                await stream.send_all(ready)


async def main(port_file: str, deltas: int) -> None:
    ready = answer(deltas)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    Path(port_file).write_text(str(listener.socket.getsockname()[1]))
    await trio.serve_listeners(lambda stream: serve(stream, ready), [listener])


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
