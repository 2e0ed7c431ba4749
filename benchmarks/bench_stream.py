"""CPU per streamed chunk: the full stack against a bare loop over the same bytes, in one run.

`python -m benchmarks.bench_stream [rounds]`
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from clawft_trio.chat import ChatRequest, Message, StreamEvent, TextDelta
from clawft_trio.llm import OpenAICompatible
from clawft_trio.llm.stream import complete, open_stream
from clawft_trio.resilience import resilient_chain

DELTAS = 5000
REQUEST = ChatRequest([Message.user("go")], model="bench")


@asynccontextmanager
async def model_server() -> AsyncGenerator[str, None]:
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.model_server", str(port_file), str(DELTAS)])
        try:
            while not (port_file.exists() and port_file.read_text()):
                await trio.sleep(0.02)
            yield f"http://127.0.0.1:{port_file.read_text()}/v1"
        finally:
            process.kill()
            process.wait()


def bare(url: str, client: httpx.AsyncClient) -> Callable[[], Awaitable[int]]:
    """What one would write without any library: httpx, split, json.loads, a callback."""

    async def run() -> int:
        words = 0

        def on_text(text: str) -> None:
            nonlocal words
            words += 1

        body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "go"}]}
        async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
            rest = b""
            async for data in response.aiter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event == b"data: [DONE]":
                        continue
                    chunk = json.loads(event[6:])
                    if chunk["choices"] and (text := chunk["choices"][0]["delta"].get("content")):
                        on_text(text)
        return words

    return run


def with_callback(provider: object) -> Callable[[], Awaitable[int]]:
    async def run() -> int:
        words = 0

        def on_event(event: StreamEvent) -> None:
            nonlocal words
            if type(event) is TextDelta:
                words += 1

        await complete(provider, REQUEST, on_event)
        return words

    return run


def iterated(provider: object) -> Callable[[], Awaitable[int]]:
    async def run() -> int:
        words = 0
        async with open_stream(provider, REQUEST) as stream:
            async for event in stream:
                if type(event) is TextDelta:
                    words += 1
        return words

    return run


def sdk(url: str) -> dict[str, Callable[[], Awaitable[int]]]:
    """The openai SDK, where it is installed."""
    try:
        import openai
    except ImportError:
        return {}
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    async def run() -> int:
        words = 0
        stream = await client.chat.completions.create(
            model="bench", messages=[{"role": "user", "content": "go"}], stream=True
        )
        async for chunk in stream:
            words += bool(chunk.choices and chunk.choices[0].delta.content)
        return words

    return {f"openai {openai.__version__}, async for": run}


async def measure(rounds: int = 7) -> dict[str, float]:
    """CPU microseconds per chunk, median over interleaved rounds."""
    async with (
        model_server() as url,
        httpx.AsyncClient() as client,
        OpenAICompatible("a", base_url=url) as alone,
        OpenAICompatible("b", base_url=url) as first,
    ):
        stack = resilient_chain(first, alone)
        ways = {
            "bare httpx + split + json.loads": bare(url, client),
            "provider alone, callback": with_callback(alone),
            "full stack, callback": with_callback(stack),
            "full stack, async for": iterated(stack),
            **sdk(url),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                start = time.process_time()
                assert await way() == DELTAS, name
                if number:
                    taken[name].append((time.process_time() - start) / DELTAS * 1e6)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    figures = trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    base = figures["bare httpx + split + json.loads"]
    for name, micros in figures.items():
        print(f"{name:36} {micros:6.2f} us  {micros / base:5.2f} x")


if __name__ == "__main__":
    main()
