"""Recorded answers of real providers, from a folder that an environment variable names, over real sockets."""

import json
import os
import random
from pathlib import Path

import pytest
import trio
from llm.asking import PROVIDERS, Seen, asking
from net.servers import open_server

from clawft_trio import errors as e
from clawft_trio.llm import Quirks

FOLDER = os.environ.get("CLAWFT_TRIO_RECORDINGS", "")
RECORDED = pytest.mark.skipif(not FOLDER, reason="CLAWFT_TRIO_RECORDINGS names no folder with recorded answers")
EACH_DIALECT = pytest.mark.parametrize("dialect", sorted(PROVIDERS))

# The only recordings with status 200 that are no answers: how the source ends, the error, and why.
NO_ANSWERS = {
    "openai": {
        "test_invalid_response.yaml#0": (e.InvalidResponse, "a demo endpoint answers with JSON that has no choices"),
        "test_tool_use_failed_error_streaming.yaml#0": (e.RequestRejected, "an error event: the call fits no schema"),
        "test_tool_use_failed_error_streaming_with_text.yaml#0": (e.RequestRejected, "an error event after some text"),
        "test_openrouter_stream_error.yaml#0": (e.RequestRejected, "an error event: the token limit is reached"),
    },
    "anthropic": {},
    "responses": {
        "test_background_mode_streaming_without_starting_after_vcr.yaml#0": (e.ServerError, "still in its queue"),
        "test_background_mode_vcr.yaml#0": (e.ServerError, "still in its queue"),
        "test_background_mode_with_tool_vcr.yaml#0": (e.ServerError, "still in its queue"),
        "openai-error.1.chunks.txt": (e.QuotaExhausted, "response.failed: no credit"),
        "openai-error.1.json": (e.QuotaExhausted, "an error object"),
        "parallel-tool-call-wrapper.1.chunks.txt": (e.InvalidResponse, "its first and last event lack a brace"),
        "reasoning-model-temperature-error.json": (e.RequestRejected, "an error object"),
    },
}

# Streams that need an option: Snowflake sends `[DONE]` and no finish reason.
OPTIONS = {"test_snowflake_model_streaming.yaml#0": {"quirks": Quirks(ends_with="done")}}


def recordings(dialect):
    return [json.loads(line) for line in Path(FOLDER, f"{dialect}.jsonl").read_text().splitlines()]


def is_document(recorded):
    return recorded["body"].lstrip()[:1] in ("{", "[", "")


def chunked(body, dice):
    """*body* as a chunked HTTP body in random pieces."""
    start = 0
    while start < len(body):
        size = dice.choice([1, 7, 60, 700, 5000])
        piece = body[start : start + size]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        start += size
    yield b"0\r\n\r\n"


def wrong(dialect, recorded, response, failure, seen):
    """Whether what came of *recorded* is not what it should be."""
    listed = NO_ANSWERS[dialect].get(end_of(recorded))
    if recorded["status"] != 200:
        typed = isinstance(failure, e.ProviderError) and not isinstance(failure, e.InvalidResponse)
        return not (typed and failure.status == recorded["status"] and failure.body)
    if listed is not None:
        return type(failure) is not listed[0]
    return failure is not None or seen.text != response.text


def end_of(recorded):
    return recorded["source"].rpartition("/")[2]


@RECORDED
@EACH_DIALECT
async def test_recorded_answers_are_read_over_sockets_in_random_pieces(dialect):
    dice = random.Random(2)
    current = {}

    async def talk(conversation):
        while await conversation.request():
            recorded = current["recorded"]
            kind = "application/json" if is_document(recorded) else "text/event-stream"
            head = f"HTTP/1.1 {recorded['status']} X\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
            await conversation.send(head.encode())
            for piece in chunked(recorded["body"].encode(), dice):
                await conversation.send(piece)

    unexpected = []
    async with open_server(talk) as server:
        for recorded in recordings(dialect):
            current["recorded"] = recorded
            options = OPTIONS.get(end_of(recorded), {})
            seen, response, failure = Seen(), None, None
            async with PROVIDERS[dialect]("p", base_url=server.url, model="m", **options) as model:
                try:
                    with trio.fail_after(20):
                        response = await model.complete(asking(recorded["stream"], allow_empty=True), seen.call)
                except e.ClawftError as exc:
                    failure = exc
            if wrong(dialect, recorded, response, failure, seen):
                unexpected.append((recorded["source"], recorded["status"], repr(failure)))
    assert not unexpected, "\n".join(map(str, unexpected))
    assert {end_of(recorded) for recorded in recordings(dialect)} >= set(NO_ANSWERS[dialect])
