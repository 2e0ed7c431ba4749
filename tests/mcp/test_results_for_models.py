"""Results of a server's tools as text and media for a model, and their check against the output schema."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from clawft_trio.chat import File, Image
from clawft_trio.mcp.output_schema import OutputCheck
from clawft_trio.mcp.tool_call import _MOST_PARTS, _failure, _for_model
from clawft_trio.mcp.tool_results import tool_result_of

PNG = base64.b64encode(b"\x89PNG").decode()


def result(*content: dict[str, Any], **more: Any) -> Any:
    return tool_result_of({"content": list(content), **more})


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def embedded(**resource: Any) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": "file:///a/b.bin", **resource}}


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        (text("hi"), "hi"),
        ({"type": "resource_link", "uri": "file:///a", "name": "a"}, "[resource file:///a]"),
        (embedded(text="inside"), "inside"),
        (embedded(blob=PNG), "[resource file:///a/b.bin, binary]"),
        (embedded(blob=PNG, mimeType="application/zip"), "[resource file:///a/b.bin, application/zip]"),
        (embedded(blob="%", mimeType="image/png"), "[resource file:///a/b.bin, image/png]"),
        ({"type": "image", "data": "%%%%", "mimeType": "image/png"}, "[image image/png, 3 bytes]"),
        ({"type": "audio", "data": "%%%%%%%%", "mimeType": "audio/wav"}, "[audio audio/wav, 6 bytes]"),
        ({"type": "hologram", "x": 1}, "[hologram]"),
        ({"type": "h" * 100}, f"[{'h' * 40}]"),
    ],
)
def test_a_part_has_words_for_a_model(block: dict[str, Any], shown: str) -> None:
    assert _for_model(result(block)) == shown
    assert _for_model(result(text("first"), block)) == f"first\n{shown}"
    assert _failure(result(text("first"), block)) == f"first\n{shown}"


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "image", "data": PNG, "mimeType": "image/png"}, Image(data=b"\x89PNG", media_type="image/png")),
        ({"type": "audio", "data": PNG, "mimeType": "audio/wav"}, File(data=b"\x89PNG", media_type="audio/wav")),
        (embedded(blob=PNG, mimeType="image/png"), Image(data=b"\x89PNG", media_type="image/png")),
        (
            embedded(blob=PNG, mimeType="application/pdf"),
            File(data=b"\x89PNG", media_type="application/pdf", name="b.bin"),
        ),
        (embedded(blob=PNG, mimeType="audio/wav"), File(data=b"\x89PNG", media_type="audio/wav", name="b.bin")),
    ],
)
def test_media_are_parts_beside_the_text(block: dict[str, Any], part: Image | File) -> None:
    assert _for_model(result(text("see"), block)) == ["see", part]


def test_structured_content_is_shown_where_there_is_no_other() -> None:
    assert _for_model(result(structuredContent={"a": 1})) == {"a": 1}
    assert _for_model(result(text("a"), structuredContent={"a": 1})) == "a"
    assert _failure(result(structuredContent={"a": 1})) == '{"a":1}'
    assert _failure(result(text("a"), structuredContent={"a": 1})) == "a"
    assert _for_model(result()) == _failure(result()) == ""


@pytest.mark.parametrize("more", [0, 1, 10])
def test_a_result_has_at_most_so_many_parts(more: int) -> None:
    lines = _for_model(result(*[text("x")] * (_MOST_PARTS + more))).split("\n")
    note = [f"[truncated: {more} of {_MOST_PARTS + more} parts left out]"] if more else []
    assert lines == ["x"] * _MOST_PARTS + note


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


async def test_a_structured_result_is_checked_against_the_schema_of_its_tool() -> None:
    check = OutputCheck(OBJECT)
    for value, place in [({"a": 1}, None), ({"a": "x"}, "$.a: "), ({}, "$: "), (msgspec.UNSET, "missing")]:
        for found in (check.problem_with(value), await check.find_problem(value)):
            assert found is None if place is None else str(found).startswith(place)


async def test_a_schema_that_cannot_be_used_is_a_problem_of_every_result() -> None:
    check = OutputCheck({"type": "nonsense"})
    for _ in range(2):
        assert str(check.problem_with({})).startswith("the output schema cannot be used: ")
        assert str(await check.find_problem({})).startswith("the output schema cannot be used: ")
    assert str(check.problem_with(msgspec.UNSET)).startswith("missing")
