"""Whatever a model's server sends without an end is refused at the bound of an answer, in memory that has a bound."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from hostile.loop_time import bounded_loop
from llm.asking import asking
from net.servers import open_server

from clawft_trio.chat import Call
from clawft_trio.errors import InvalidResponse
from clawft_trio.llm import Anthropic, OpenAICompatible, OpenAIResponses

LIMIT = 200_000
BIG = "x" * 1000

CHAT: dict[str, dict[str, Any]] = {
    "text": {"content": BIG},
    "reasoning": {"reasoning_content": BIG},
    "arguments": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": BIG}}]},
    "a name": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": BIG}}]},
    "refusal": {"refusal": BIG},
    "citations": {"annotations": [{"type": "url_citation", "url_citation": {"url": "http://x", "title": BIG}}]},
    "empty citations": {"annotations": [{}]},
    "details": {"reasoning_details": [{"type": "reasoning.encrypted", "data": BIG}]},
    "images": {"images": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BIG}"}}]},
    "audio": {"audio": {"data": BIG}},
}

BLOCKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({"type": "text", "text": ""}, {"type": "text_delta", "text": BIG}),
    "thinking": ({"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": BIG}),
    "signature": ({"type": "thinking", "thinking": ""}, {"type": "signature_delta", "signature": BIG}),
    "arguments": (
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": BIG},
    ),
    "a server's tool": (
        {"type": "server_tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": BIG},
    ),
    "an unknown block": ({"type": "new", "text": ""}, {"type": "new_delta", "text": BIG}),
    "an unknown list": ({"type": "new", "list": []}, {"type": "new_delta", "list": [BIG]}),
    "citations": ({"type": "text", "text": ""}, {"type": "citations_delta", "citation": {"cited_text": BIG}}),
}

ITEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({"type": "message", "content": []}, {"type": "response.output_text.delta", "delta": BIG}),
    "reasoning": (
        {"type": "reasoning", "summary": []},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": BIG},
    ),
    "arguments": (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
        {"type": "response.function_call_arguments.delta", "delta": BIG},
    ),
    "annotations": (
        {"type": "message", "content": []},
        {"type": "response.output_text.annotation.added", "annotation": {"type": "url_citation", "title": BIG}},
    ),
    "items": (
        {"type": "message", "content": []},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
    ),
}


def sse(event: dict[str, Any]) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def chat(kind: str) -> Iterator[bytes]:
    while True:
        yield sse({"choices": [{"index": 0, "delta": CHAT[kind]}]})


def unknown_fields(_: str) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield sse({"choices": [{"index": 0, "delta": {f"k{number}": BIG}}], f"field{number}": BIG})


def messages(kind: str) -> Iterator[bytes]:
    message = {"id": "m", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1}}
    yield sse({"type": "message_start", "message": message})
    block, delta = BLOCKS[kind]
    yield sse({"type": "content_block_start", "index": 0, "content_block": block})
    while True:
        yield sse({"type": "content_block_delta", "index": 0, "delta": delta})


def empty_blocks(_: str) -> Iterator[bytes]:
    yield from (sse({"type": "message_start", "message": {"id": "m", "content": []}}),)
    number = 0
    while True:
        number += 1
        yield sse({"type": "content_block_start", "index": number, "content_block": {"type": "thinking"}})


def responses(kind: str) -> Iterator[bytes]:
    item, event = ITEMS[kind]
    yield sse({"type": "response.created", "response": {"id": "r"}})
    yield sse({"type": "response.output_item.added", "output_index": 0, "item": item})
    while True:
        yield sse({"output_index": 0, **event})


CASES = [
    *((OpenAICompatible, chat, kind) for kind in CHAT),
    (OpenAICompatible, unknown_fields, "unknown fields"),
    *((Anthropic, messages, kind) for kind in BLOCKS),
    (Anthropic, empty_blocks, "empty blocks"),
    *((OpenAIResponses, responses, kind) for kind in ITEMS),
]


@pytest.mark.parametrize(("make", "events", "kind"), CASES, ids=[f"{make.__name__}-{kind}" for make, _, kind in CASES])
async def test_a_stream_without_end_is_refused_at_its_bound(make, events, kind: str) -> None:
    async def talk(conversation) -> None:
        await conversation.request()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for event in events(kind):
            await conversation.send(event)

    async with open_server(talk) as server:
        url = server.url if make is Anthropic else f"{server.url}/v1"
        async with make(name="p", base_url=url, api_key="k", model="m", max_answer=LIMIT) as provider:
            tracemalloc.start()
            try:
                async with bounded_loop():
                    with trio.fail_after(60), pytest.raises(InvalidResponse):
                        await provider.complete(asking(), Call())
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak < 60 * LIMIT
