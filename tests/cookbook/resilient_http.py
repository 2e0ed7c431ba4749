"""An httpx client that retries, stops asking hosts that fail, and limits its requests for each host.

Run it: python tests/cookbook/resilient_http.py

The strategies know nothing of httpx: they wrap any async function. Without `on`, `Retry` retries what httpx raises for
broken connections, and what `raise_for_status` raises for statuses after which the same request may succeed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import trio

from clawft_trio import Bulkhead, CircuitBreaker, CircuitOpen, Retry, Timeout, compose

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class ResilientClient:
    """Gets pages of any hosts. Breaker and bulkhead keep a state for each host."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        policy = compose(
            Retry(max_retries=2, first_wait=0.01),  # outermost: each retry is a request of its own for the others
            CircuitBreaker(minimum_calls=3, open_for=30.0, by=host_of),
            Bulkhead(max_concurrent=8, queue=100, by=host_of),
            Timeout(total=10.0),
        )
        self.get = policy(self._get)

    async def _get(self, url: str) -> str:
        response = await self._http.get(url)
        response.raise_for_status()
        return response.text


def host_of(url: str) -> str:
    """What breakers and bulkheads are kept by: the arguments of the call go in."""
    return httpx.URL(url).netloc.decode()


@asynccontextmanager
async def open_server(*answers: bytes) -> AsyncGenerator[tuple[str, list[bytes]], None]:
    """A server on loopback that plays *answers*, the last one again and again; yields its URL and the requests."""
    seen: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        seen.append(await stream.receive_some(65536))
        await stream.send_all(answers[min(len(seen), len(answers)) - 1])
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/", seen
        nursery.cancel_scope.cancel()


async def main() -> None:
    async with (
        open_server(BUSY, ANSWER) as (flaky, asked_flaky),
        open_server(BUSY) as (dead, asked_dead),
        httpx.AsyncClient(trust_env=False) as http,
    ):
        client = ResilientClient(http)
        assert await client.get(flaky) == "hello"
        assert len(asked_flaky) == 2  # one failure, one retry
        print(f"flaky host: answered after {len(asked_flaky)} requests")

        try:
            await client.get(dead)
        except (httpx.HTTPStatusError, CircuitOpen) as error:
            print("dead host:", type(error).__name__)
        else:
            raise AssertionError("a dead host answered")
        before = len(asked_dead)
        try:
            await client.get(dead)
        except CircuitOpen:
            print("dead host: its breaker is open, nothing was sent")
        assert len(asked_dead) == before
        assert await client.get(flaky) == "hello"  # other hosts are not affected


if __name__ == "__main__":
    trio.run(main)
