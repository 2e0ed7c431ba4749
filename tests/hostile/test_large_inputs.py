"""Input just below its bounds: the event loop never computes for long over it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pydantic
import pytest
from hostile.loop_time import bounded_loop
from llm.asking import asking
from net.servers import answering, open_server, response

from clawft_trio import InboundMessage, open_agent, tool
from clawft_trio.agent.compaction import transcript, within
from clawft_trio.agent.media import LARGEST
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, Message, ToolCall, ToolCallReady
from clawft_trio.codec import is_json_object
from clawft_trio.config import load_config
from clawft_trio.errors import ConfigError
from clawft_trio.llm import OpenAICompatible
from clawft_trio.pipeline.tokens import count_tokens
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider
from clawft_trio.tools import Tool, ToolContext, ToolRegistry

MIB = 1024 * 1024
PIECE = 60_000

FIELDS = {
    "text": lambda piece: {"content": piece},
    "reasoning": lambda piece: {"reasoning_content": piece},
    "arguments": lambda piece: {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]},
}


def sse(delta: dict, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'id': 'x', 'model': 'm', 'choices': [choice]})}\n\n".encode()


def answer(field: str, unit: str, size: int) -> Iterator[bytes]:
    piece = unit * (PIECE // len(unit))
    if field == "arguments":
        start = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x": [0'}}
        yield sse({"tool_calls": [start]})
    for _ in range(size // len(piece)):
        yield sse(FIELDS[field](piece))
    yield sse(FIELDS[field]("]}"))
    yield sse({"content": "."}, "tool_calls" if field == "arguments" else "stop")
    yield b"data: [DONE]\n\n"


CASES = [
    ("text", "word ", 31 * MIB),
    ("text", "wörd€ ", 31 * MIB),
    ("text", " ", 31 * MIB),
    ("reasoning", "word ", 31 * MIB),
    ("arguments", ",0", 31 * MIB),
    ("arguments", ",{}", 31 * MIB),
    ("arguments", ",[1,2]", 15 * MIB),
    ("arguments", ',"word word word"', 15 * MIB),
]


@pytest.mark.parametrize(("field", "unit", "size"), CASES)
async def test_an_answer_of_almost_the_largest_size_is_read(field: str, unit: str, size: int) -> None:
    async def talk(conversation) -> None:
        await conversation.request()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for event in answer(field, unit, size):
            await conversation.send(event)
        await conversation.stream.send_eof()

    events: list[object] = []

    async def keep_ready(event: object) -> None:
        events.extend([event] if isinstance(event, ToolCallReady) else [])

    async with (
        open_server(talk) as server,
        OpenAICompatible(name="p", base_url=f"{server.url}/v1", api_key="k", model="m") as provider,
    ):
        async with bounded_loop():
            response = await provider.complete(asking(), Call(emit=keep_ready))
    kept = {"text": response.text, "reasoning": response.reasoning}
    kept["arguments"] = response.tool_calls[0].arguments if response.tool_calls else ""
    assert size - PIECE <= len(kept[field]) <= size + 100
    assert len(events) == (field == "arguments" and size < 16 * MIB)


def rows(count: int) -> list[dict[str, object]]:
    return [{"a": number, "b": f"row {number}", "c": [1, 2]} for number in range(count)]


RESULTS = {
    "rows": rows(100_000),
    "JSON text": json.dumps(rows(100_000)),
    "values in JSON text": f"[{'{},' * 1_500_000}0]",
    "text": "word " * 4_000_000,
    "a long field": {"a": "x" * 20_000_000},
}


async def text_of_result(f: Tool) -> str:
    """The result of a call of *f*, in a turn that never stops the loop for long."""
    model = ScriptedProvider([CallTool("f", {}), Finish()], [Say("fine"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, tools=[f]) as agent:
        async with bounded_loop():
            reply = await agent.ask("q")
    (result,) = reply.tools
    assert reply.text == "fine"
    return result.text


@pytest.mark.parametrize("kind", RESULTS)
async def test_a_large_result_of_a_tool_is_cut_outside_of_the_loop(kind: str) -> None:
    @tool
    async def f() -> object:
        return RESULTS[kind]

    text = await text_of_result(f)
    assert 1000 < len(text) < 70_000
    assert "left out" in text


@attrs.frozen
class Row:
    a: int = 0


class Model(pydantic.BaseModel):
    a: int = 0


@tool
async def anything(x: Any) -> str:
    return "ran"


@tool
async def rows_of_attrs(x: list[Row]) -> str:
    return "ran"


@tool
async def rows_of_pydantic(x: list[Model]) -> str:
    return "ran"


ARGUMENTS = {
    "empty objects": ('{"x": [', "{},", "{}]}"),
    "numbers": ('{"x": [', "0,", "0]}"),
    "nested": ('{"x": [', "[[]],", "0]}"),
    "line ends in a text": ('{"x": "', "a\n", '"}'),
    "escaped quotes without an end": ('{"', '\\"', ""),
    "commas too many": ('{"x": [', '"",', "]}"),
    "text of JSON": ('{"x": "[', "0,", '0]"}'),
}


@pytest.mark.parametrize(
    ("called", "shape", "count"),
    [
        *((rows_of_pydantic, shape, 1) for shape in ARGUMENTS),
        (anything, "numbers", 1),
        (anything, "line ends in a text", 1),
        (rows_of_attrs, "nested", 1),
        (rows_of_pydantic, "empty objects", 100),
    ],
)
async def test_large_arguments_and_many_are_read_outside_of_the_loop(called: Tool, shape: str, count: int) -> None:
    begin, unit, end = ARGUMENTS[shape]
    size = (4 * MIB if count == 1 else 2000) - 20
    text = begin + unit * (size // len(unit)) + end
    registry = ToolRegistry([called])
    calls = [ToolCall(id=str(number), name=called.name, arguments=text) for number in range(count)]
    async with bounded_loop():
        results = await registry.execute_all(calls, ToolContext(auth=AuthContext.local(), session="s"))
    assert {one.outcome for one in results} <= {"ok", "invalid"}
    assert all(len(one.text) < 5000 for one in results)


@pytest.mark.parametrize("unit", ["word ", "x", "://", "token"])
async def test_a_large_error_of_a_tool_is_cut_before_it_is_masked(unit: str, caplog: pytest.LogCaptureFixture) -> None:
    @tool
    async def f() -> object:
        raise ValueError(f"key sk-{'a' * 40} {unit * 1_000_000}")

    caplog.set_level(logging.DEBUG, "clawft_trio.tools")
    text = await text_of_result(f)
    assert "ValueError: key ***" in text
    assert len(text) < 2200
    (traceback,) = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert "in f\n" in traceback
    assert "ValueError: key ***" in traceback
    assert len(traceback) < 8300


MESSAGES = {
    "an image": {"media": ("data:image/png;base64," + "iVBO" * (LARGEST // 3),)},
    "a text with escapes": {"media": ("data:text/plain," + "%41" * 340_000,)},
    "escapes without an end": {"media": ("data:text/plain," + "%41" * 9 * MIB,)},
    "many attachments": {"media": ("missing.png",) * 300_000},
    "many notes": {"metadata": dict.fromkeys(map(str, range(100_000)), 123)},
    "a text": {"content": "word " * 6 * MIB},
}


@pytest.mark.parametrize("case", MESSAGES)
async def test_a_large_message_is_sent_to_the_model(tmp_path: Path, case: str) -> None:
    names = {"channel": "ch", "sender_id": "ana", "chat_id": "1", "content": "q"}
    message = InboundMessage(**(names | MESSAGES[case]))
    body = sse({"content": "fine"}, "stop") + b"data: [DONE]\n\n"
    async with (
        open_server(answering(response(body, headers="content-type: text/event-stream\r\n"))) as server,
        OpenAICompatible(name="p", base_url=f"{server.url}/v1", api_key="k", model="m") as provider,
        open_agent(["p/m"], providers={"p": provider}, store=tmp_path / "s.db") as agent,
    ):
        async with bounded_loop():
            await agent.bus.publish_inbound(message)
            replies = agent.bus.outbound("ch")
            reply = await anext(replies)
            while reply.kind != "final":
                reply = await anext(replies)
    # Not every text fits into the window of the model.
    assert reply.content == "fine" or ("text" in case and reply.metadata["error"] == "ContextLengthExceeded")


@pytest.mark.parametrize("unit", ["word ", "wörd€ "])
@pytest.mark.parametrize("stored", [False, True], ids=["memory", "sqlite"])
async def test_an_answer_of_almost_the_largest_size_is_stored_and_loaded(
    tmp_path: Path, unit: str, stored: bool
) -> None:
    text = unit * (31 * MIB // len(unit))
    model = ScriptedProvider([Say(text), Finish()], [Say("fine"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, store=tmp_path / "s.db" if stored else None) as agent:
        async with bounded_loop():
            assert len((await agent.ask("q", session="s")).text) == len(text)
            assert (await agent.ask("q", session="s")).text == "fine"
        kept = await agent.parts.turns.history.history("s")
    assert kept[1].text == text


async def test_a_history_of_ten_thousand_messages_is_loaded(tmp_path: Path) -> None:
    model = ScriptedProvider(choose=lambda _: [Say("fine"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, store=tmp_path / "s.db") as agent:
        session = (await agent.ask("q", session="s")).session
        history = agent.parts.turns.history
        for _ in range(10):
            await history.append(session, [Message.user("x" * 500), Message.assistant("y" * 500)] * 500)
        async with bounded_loop():
            assert (await agent.ask("q", session="s")).text == "fine"


@pytest.mark.parametrize(
    "settings",
    [
        {"providers": {f"p{number}": {"apiKey": "k"} for number in range(30_000)}},
        {"tools": {"mcpServers": {f"s{number}": {"command": "x", "args": ["a"]} for number in range(20_000)}}},
        {"unknown": [[]] * 200_000},
    ],
    ids=lambda settings: next(iter(settings)),
)
async def test_a_large_configuration_is_parsed_outside_of_the_loop(tmp_path: Path, settings: dict) -> None:
    (tmp_path / "c.json").write_text(json.dumps(settings))
    async with bounded_loop():
        try:
            await load_config(tmp_path / "c.json")
        except ConfigError as error:
            assert "unknown" in str(error)


@pytest.mark.parametrize("size", [64 * 1024 - 20, 64 * 1024 + 1, 15 * MIB])
def test_large_text_is_an_object_only_if_it_is_json(size: int) -> None:
    text = f'{{"a": "{"x" * size}"}}'
    assert is_json_object(text)
    assert is_json_object(f" {text}\n")
    assert not any(
        map(is_json_object, (text[:-1], f"{text}x", f"[{text}]", text.replace("x", "\\q", 1), f'"{text[8:-2]}"'))
    )


def test_more_than_sixteen_mebibytes_are_not_checked() -> None:
    assert not is_json_object(f'{{"a": "{"x" * 16 * MIB}"}}')


@pytest.mark.parametrize("unit", ["word ", "A1{", "wörd€ ", "\n"])
def test_tokens_of_a_long_text_are_estimated_from_samples(unit: str) -> None:
    part = unit * (2 * MIB // len(unit))
    assert abs(count_tokens(part * 4) - 4 * count_tokens(part)) <= 0.001 * count_tokens(part * 4)


def test_a_long_conversation_is_cut_before_it_is_joined() -> None:
    text = "start " + "word " * 6_000_000 + "end"
    shown = transcript([Message.user(text)] * 3, 1000)
    assert len(shown) < 40_000
    assert within(shown, 1000).startswith("user: start")
    assert within(shown, 1000).endswith("end")
