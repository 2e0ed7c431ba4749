"""Recorded answers of real providers, from a folder that an environment variable names, over real sockets."""

import json
import os
import random
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import attrs
import pytest
import trio
from llm.asking import PROVIDERS, Seen, asking
from llm.key_paths import KEPT, LEFT
from llm.spoken import read_all, reading
from net.servers import open_server

from clawft_trio import errors as e
from clawft_trio.chat import Opaque, Reset
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
    return failure is not None or (
        seen.text != response.text and not any(isinstance(one, Reset) for one in seen.events)
    )


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


LAST = ("message_stop", "response.completed", "response.incomplete", "response.failed")


def leaves(value, path=""):
    """The fields of *value* that hold something, as paths and values."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{path}.@")
    elif value:
        yield path, value


def fields(body, dialect):
    """The fields of an answer up to its end, each behind the type of its event."""
    if body.lstrip()[:1] == "{":
        yield from leaves(json.loads(body))
        return
    for line in body.splitlines():
        if not line.startswith("data: {"):
            continue
        value = json.loads(line[6:])
        kind = value.get("type") if dialect != "openai" else None
        for path, leaf in leaves(value):
            yield f"{kind}:{path}" if kind else path, leaf
        if kind in LAST:
            return


def held(response):
    """All that a response holds: its texts, one behind the other, and its numbers."""
    texts, numbers = [], set()

    def collect(value):
        if isinstance(value, Mapping):
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list | tuple | set | frozenset):
            for inner in value:
                collect(inner)
        elif attrs.has(type(value)):
            for field in attrs.fields(type(value)):
                collect(getattr(value, field.name))
        elif isinstance(value, str):
            texts.append(value)
        elif value is not None:
            numbers.add(value)

    collect(response)
    for call in response.tool_calls:
        collect(json.loads(call.arguments))
    for part in response.content:
        if isinstance(part, Opaque) and "input" in part.block:
            # It came as JSON text, in pieces.
            texts.append(json.dumps(part.block["input"], ensure_ascii=False))
            texts.append(json.dumps(part.block["input"], ensure_ascii=False, separators=(",", ":")))
    return "\0".join(texts), numbers


def matched(path, patterns):
    return next((pattern for pattern in patterns if fnmatchcase(path, pattern)), None)


@RECORDED
@EACH_DIALECT
def test_each_field_is_kept_or_left_for_a_reason(dialect):
    unknown, lost = {}, {}
    for recorded in recordings(dialect):
        if recorded["status"] != 200 or end_of(recorded) in {**NO_ANSWERS[dialect], **OPTIONS}:
            continue
        reader, body = reading(dialect), recorded["body"]
        events = reader.feed_whole(body.encode()) if is_document(recorded) else read_all(reader, body.encode())
        if any(isinstance(event, Reset) for event in events):
            continue
        texts, numbers = held(reader.answer.whole(reader.answer.finish_reason))
        for path, value in fields(body, dialect):
            if matched(path, LEFT[dialect]):
                continue
            if not matched(path, KEPT[dialect]):
                unknown.setdefault(path, recorded["source"])
            found = value in texts if isinstance(value, str) else value in numbers or json.dumps(value) in texts
            if not found:
                lost.setdefault(path, (str(value)[:80], recorded["source"]))
    assert not unknown, "\n".join(f"{path}  {source}" for path, source in unknown.items())
    assert not lost, "\n".join(f"{path}  {value}" for path, value in lost.items())
