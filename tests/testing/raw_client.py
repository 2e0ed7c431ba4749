"""A plain trio and h11 client: what arrives at a client's socket, without a client's opinions."""

from __future__ import annotations

import json
import math
from urllib.parse import urlsplit

import attrs
import h11
import trio


@attrs.define
class Got:
    status: int | None = None
    headers: dict = attrs.Factory(dict)
    chunks: list = attrs.Factory(list)
    #: "complete", "closed" (EOF too early), "reset"
    end: str = ""

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def events(self) -> list:
        """The decoded `data:` payloads; what is not JSON comes as bytes."""
        found = []
        for block in self.body.split(b"\n\n"):
            for line in block.split(b"\n"):
                if line.startswith(b"data: "):
                    try:
                        found.append(json.loads(line[6:]))
                    except ValueError:
                        found.append(line[6:])
        return found

    def text(self) -> str:
        said = []
        for event in self.events():
            if isinstance(event, dict):
                said += [choice["delta"].get("content") or "" for choice in event.get("choices") or ()]
                said.append(event.get("delta", {}).get("text", ""))
        return "".join(said)


class Client:
    """One connection."""

    def __init__(self, stream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def ask(self, path="/v1/chat/completions", got=None, /, *, bounded=True, **body) -> Got:
        got = Got() if got is None else got
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}], **body}
        await self.send(path, json.dumps(body).encode())
        try:
            with trio.fail_after(20 if bounded else math.inf):
                await self.read(got)
        except h11.RemoteProtocolError:
            got.end = "closed"
        except trio.BrokenResourceError:
            got.end = "reset"
        return got

    async def send(self, path, body: bytes, method="POST") -> None:
        headers = [("host", "x"), ("content-length", str(len(body)))]
        out = self.http.send(h11.Request(method=method, target=path, headers=headers))
        out += self.http.send(h11.Data(data=body)) + self.http.send(h11.EndOfMessage())
        await self.stream.send_all(out)

    async def read(self, got: Got) -> None:
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                got.status = event.status_code
                got.headers = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                got.chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                got.end = "complete"
                if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
                    self.http.start_next_cycle()
                return
            else:
                got.end = "closed"
                return


async def connect(server) -> Client:
    at = urlsplit(server.url)
    return Client(await trio.open_tcp_stream(at.hostname, at.port))


async def ask(server, path="/v1/chat/completions", **body) -> Got:
    client = await connect(server)
    async with client.stream:
        return await client.ask(path, **body)
