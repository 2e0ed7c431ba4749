"""Limits of tools at their boundaries, and the defaults of `@tool`."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio

from clawft_trio.auth import UserPermissions
from clawft_trio.chat import ToolCall
from clawft_trio.errors import InvalidArguments, ProtocolViolation, ToolDenied, ToolFailed, ToolTimeout, UnknownTool
from clawft_trio.tools import (
    ToolContext,
    check_schema,
    error_text,
    outcome_of,
    repair_ids,
    tool,
    tool as as_tool,
)
from clawft_trio.tools.call_ids import MAX_ID
from clawft_trio.tools.child_process import ChildPolicy, run_child
from clawft_trio.tools.client import read_roots, read_sampled
from clawft_trio.tools.result import contained
from clawft_trio.tools.truncate import MOST_ITEMS
from clawft_trio.tools.workspace import Workspace

CONTEXT = ToolContext()


async def plain(a: int = 1) -> int:
    """One line."""
    return a


@pytest.mark.parametrize(("level", "allowed"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_tool_is_allowed_from_its_level_on(level: int, allowed: bool) -> None:
    permissions = UserPermissions(level=level, tool_access=("*",))
    assert tool(required_level=2)(plain).allowed(permissions) is allowed
    assert tool(plain).allowed(permissions)


def test_a_tool_asks_for_each_of_its_custom_permissions() -> None:
    needy = tool(custom_permissions={"region": "eu", "beta": True})(plain)
    both = {"region": "eu", "beta": True, "other": 1}
    assert needy.allowed(UserPermissions(tool_access=("*",), custom_permissions=both))
    for given in ({}, {"region": "eu"}, {"beta": True}, {"region": "us", "beta": True}):
        assert not needy.allowed(UserPermissions(tool_access=("*",), custom_permissions=given))


def test_an_allowed_alias_allows_a_tool_and_a_denied_alias_denies_it() -> None:
    aliased = tool(aliases="simple")(plain)
    assert aliased.allowed(UserPermissions(tool_access=("simple",)))
    assert aliased.allowed(UserPermissions(tool_access=("plain",)))
    assert not aliased.allowed(UserPermissions(tool_access=("other",)))
    assert not aliased.allowed(UserPermissions(tool_access=("*",), tool_denylist=("simple",)))
    assert not aliased.allowed(UserPermissions(tool_access=("simple",), tool_denylist=("plain",)))


def test_a_given_description_replaces_the_docstring_also_when_it_is_empty() -> None:
    assert tool(plain).description == "One line."
    assert tool(description="Other.")(plain).description == "Other."
    assert tool(description="")(plain).description == ""


def test_a_keyword_that_is_none_has_its_default() -> None:
    made = tool(name=None, total=None, idempotent=None)(plain)
    assert (made.name, made.metadata) == ("plain", tool(plain).metadata)


def test_a_tool_is_not_made_of_a_tool() -> None:
    with pytest.raises(TypeError, match="plain is a tool already"):
        as_tool(tool(plain))


async def test_the_items_of_a_wrapped_async_generator_are_a_list() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inside

    @tool
    @logged
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    assert await count.run({"to": 3}, CONTEXT) == [0, 1, 2]
    assert await count.run({"to": 0}, CONTEXT) == []


async def test_an_async_generator_gives_as_many_items_as_an_iterator_and_is_closed() -> None:
    closed = []

    @tool
    async def endless() -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            closed.append(number)

    assert await endless.run({}, CONTEXT) == list(range(MOST_ITEMS))
    assert closed == [MOST_ITEMS - 1]


async def test_an_iterable_parameter_is_a_list_and_an_object_is_anything() -> None:
    @tool
    async def take(some: Iterable[int], anything: object, bare: Iterable) -> Any:
        return some, anything, bare

    properties = take.parameters["properties"]
    assert properties["some"] == {"type": "array", "items": {"type": "integer"}}
    assert properties["bare"] == {"type": "array", "items": {}}
    assert await take.run({"some": [1], "anything": {"a": None}, "bare": ["x", 1]}, CONTEXT) == (
        [1],
        {"a": None},
        ["x", 1],
    )
    with pytest.raises(InvalidArguments):
        await take.run({"some": ["x"], "anything": 1, "bare": []}, CONTEXT)


def problems_of(schema: dict[str, Any], arguments: dict[str, Any], *, trusted: bool = True) -> list[str]:
    with pytest.raises(InvalidArguments) as caught:
        check_schema({"type": "object", **schema}, trusted=trusted)(arguments)
    return [str(one) for one in caught.value.problems]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(("wrong", "reported"), [(1, 1), (7, 7), (8, 8), (9, 8), (100, 8)])
def test_the_first_eight_problems_are_reported(wrong: int, reported: int, trusted: bool) -> None:
    schema = {"properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    found = problems_of(schema, {"a": ["x"] * wrong}, trusted=trusted)
    assert [one.partition(":")[0] for one in found] == [f"$.a[{number}]" for number in range(reported)]


def test_the_first_eight_unknown_names_are_reported_and_two_of_them_have_suggestions() -> None:
    schema = {"properties": {"count": {}, "sort": {}}, "additionalProperties": False}
    found = problems_of(schema, {f"coun{number}": 1 for number in range(20)})
    suggestion, known = "; did you mean 'count'?", "; known: count, sort"
    assert found == [f"$.coun{number}: unknown argument{suggestion if number < 2 else known}" for number in range(8)]


@pytest.mark.parametrize(("names", "listed"), [(0, 0), (1, 1), (40, 40), (41, 40)])
def test_forty_known_names_are_listed(names: int, listed: int) -> None:
    known = [f"k{number}" for number in range(names)]
    schema = {"properties": dict.fromkeys(known, {}), "additionalProperties": False}
    (problem,) = problems_of(schema, {"unlike the others": 1})
    assert problem == f"$.unlike the others: unknown argument; known: {', '.join(known[:listed]) or 'none'}"


@pytest.mark.parametrize(("longer", "mark"), [(0, ""), (1, "…")])
def test_a_list_of_known_names_has_at_most_three_hundred_characters(longer: int, mark: str) -> None:
    known = ["a" * 100, "b" * (300 - 100 - len(", ") + longer)]
    schema = {"properties": dict.fromkeys(known, {}), "additionalProperties": False}
    (problem,) = problems_of(schema, {"???": 1})
    assert problem.partition("known: ")[2] == ", ".join(known)[: 300 - len(mark)] + mark


def test_a_long_unknown_name_is_cut() -> None:
    (problem,) = problems_of({"properties": {}, "additionalProperties": False}, {"n" * 1000: 1})
    assert problem.partition(":")[0] == "$." + "n" * 59 + "…"


@pytest.mark.parametrize(("longer", "cut"), [(0, False), (1, True)])
def test_a_problem_has_three_hundred_characters_of_which_the_last_are_kept(longer: int, cut: bool) -> None:
    schema = {"properties": {"a": {"type": "integer"}}}
    (shortest,) = problems_of(schema, {"a": ""})
    room = 300 - len(shortest.removeprefix("$.a: "))
    (problem,) = problems_of(schema, {"a": "x" * (room + longer)})
    assert problem.startswith("$.a: …") is cut
    assert len(problem.removeprefix("$.a: ")) == 300 + cut
    assert problem[-8:] == shortest[-8:]


def test_an_unknown_name_inside_of_an_argument_is_reported_at_the_argument() -> None:
    inner = {"type": "object", "properties": {"b": {}}, "additionalProperties": False}
    (problem,) = problems_of({"properties": {"a": inner}}, {"a": {"c": 1}})
    assert problem.startswith("$.a: ")
    assert "'c'" in problem


@pytest.mark.parametrize(("longer", "left_out"), [(0, 0), (1, 1), (70_000, 70_000), (200_000, 200_000)])
async def test_an_output_of_the_longest_size_is_whole_and_of_a_longer_one_the_middle_is_left_out(
    longer: int, left_out: int
) -> None:
    size = 1024 + longer
    output = bytes(97 + position % 26 for position in range(size))
    finished = await run_child(
        ["/bin/cat"], cwd="/", environment={}, stdin=output, policy=ChildPolicy(total=60.0, longest_output=1024)
    )
    text = output.decode()
    note = f"\n[{left_out} of {size} bytes left out]\n"
    assert finished.stdout == (text[:512] + note + text[-512:] if left_out else text)
    assert (finished.exit_code, finished.stderr, finished.left_something) == (0, "", False)


async def test_a_command_has_the_environment_and_the_directory_that_it_is_given(tmp_path: Path) -> None:
    script = "pwd; echo $A; echo err >&2; exit 3"
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        for place in (str(tmp_path), descriptor):
            finished = await run_child(
                ["/bin/sh", "-c", script], cwd=place, environment={"A": "b"}, stdin=b"", policy=ChildPolicy()
            )
            assert (finished.stdout, finished.stderr) == (f"{tmp_path.resolve()}\nb\n", "err\n")
            assert finished.exit_code == 3
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("id_", "usable"), [("x", True), ("x" * MAX_ID, True), ("x" * (MAX_ID + 1), False), ("", False), ("a\ud800", False)]
)
def test_an_id_of_a_call_that_cannot_be_stored_is_replaced(id_: str, usable: bool) -> None:
    (call,) = repair_ids((ToolCall(id=id_, name="a"),))
    assert call.id == (id_ if usable else "call_0")


def test_ids_that_repeat_get_numbers_that_no_other_call_has() -> None:
    ids = ["a", "a", "a_2", "a", "", "call_4"]
    assert [one.id for one in repair_ids(tuple(ToolCall(id=id_, name="n") for id_ in ids))] == [
        "a",
        "a_3",
        "a_2",
        "a_4",
        "call_4_2",
        "call_4",
    ]


@pytest.mark.parametrize(
    ("error", "outcome", "word"),
    [
        (UnknownTool("x"), "unknown", "unknown_tool"),
        (ToolDenied("x"), "refused", "unknown_tool"),
        (ToolTimeout("x"), "timeout", "timeout"),
        (ToolFailed("x"), "error", "failed"),
        (ValueError("x"), "error", "failed"),
    ],
)
def test_an_error_of_a_tool_has_an_outcome_and_a_word_for_the_model(error: Exception, outcome: str, word: str) -> None:
    assert outcome_of(error) == outcome
    assert json.loads(error_text(error))["error"] == word


def test_the_text_of_an_error_for_a_model_has_at_most_two_thousand_characters() -> None:
    def message(text: str) -> str:
        return json.loads(error_text(ValueError(text)))["message"]

    assert message("") == ""
    assert message("x " * 1000) == "x " * 1000
    assert message("x " * 1000 + "y") == ("x " * 1000)[:1999] + "…"


def test_everything_that_a_tool_raises_is_one_error_but_an_interrupt_goes_on() -> None:
    late = contained(ExceptionGroup("", [trio.TooSlowError("a"), trio.TooSlowError("b")]), tool="t")
    assert isinstance(late, ToolTimeout)
    mixed = contained(ExceptionGroup("", [trio.TooSlowError("a"), ValueError("b")]), tool="t")
    assert isinstance(mixed, ToolFailed)
    assert "TooSlowError: a; ValueError: b" in str(mixed)
    own = ToolFailed("own", tool="t")
    assert contained(own, tool="t") is own
    assert contained(ExceptionGroup("", [own]), tool="t") is own
    assert "tried to end the program" in str(contained(SystemExit(3), tool="t"))
    for stop in (KeyboardInterrupt, GeneratorExit):
        with pytest.raises(stop):
            contained(BaseExceptionGroup("", [ValueError("b"), stop()]), tool="t")
    with pytest.raises(KeyboardInterrupt):
        contained(BaseExceptionGroup("", [GeneratorExit(), KeyboardInterrupt()]), tool="t")


@pytest.mark.parametrize(("links", "followed"), [(1, True), (40, True), (41, False)])
def test_a_path_of_a_workspace_has_at_most_forty_symlinks(links: int, followed: bool, tmp_path: Path) -> None:
    (tmp_path / "link0").write_text("end")
    for number in range(links):
        (tmp_path / f"link{number + 1}").symlink_to(f"link{number}")
    with (
        nullcontext() if followed else pytest.raises(ToolFailed),
        Workspace(tmp_path).open_file(f"link{links}") as file,
    ):
        assert os.read(file, 100) == b"end"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"type": "text", "text": "a"}, "a"),
        ([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"text": 7}], ""),
        ([], ""),
    ],
)
def test_the_texts_of_a_sampled_answer_are_joined(content: Any, text: str) -> None:
    found = read_sampled({"content": content, "model": 7, "stopReason": "endTurn"})
    assert (found.text, found.model, found.stop_reason) == (text, "", "endTurn")
    assert found.content == tuple(content if isinstance(content, list) else [content])
    named = read_sampled({"content": content, "model": "m", "stopReason": None})
    assert (named.model, named.stop_reason) == ("m", "")


@pytest.mark.parametrize("content", [None, "text", 7, ["text"], [{"text": "a"}, None]])
def test_a_sampled_answer_without_content_is_refused(content: Any) -> None:
    with pytest.raises(ProtocolViolation, match="sampling: "):
        read_sampled({"content": content})


def test_roots_without_an_address_are_left_out() -> None:
    roots = [{"uri": "file:///a", "name": "A"}, {"uri": "file:///b", "name": 7}, {"name": "C"}, {"uri": 7}, "d", None]
    found = read_roots({"roots": roots})
    assert [(one.uri, one.name) for one in found] == [("file:///a", "A"), ("file:///b", "")]
    for wrong in (None, {}, "x"):
        with pytest.raises(ProtocolViolation, match="roots: "):
            read_roots({"roots": wrong})
