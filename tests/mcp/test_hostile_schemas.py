"""Schemas of servers that are no schemas, or cost too much: refused or decided in a thread, never an error of ours."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from clawft_trio.errors import ClawftError, InvalidData
from clawft_trio.mcp.output_schema import OutputCheck
from clawft_trio.mcp.toolset import ToolServer, open_toolset
from clawft_trio.mcp.transports.streams import StreamServer
from clawft_trio.testing.mcp_server import ScriptedMcpServer
from clawft_trio.tools.json_schema import SchemaCheck
from clawft_trio.tools.registry import ToolRegistry
from clawft_trio.tools.schema import schema_check
from clawft_trio.tools.schema_budget import TooComplex

NO_SCHEMAS = [
    {"$schema": 5},
    {"$schema": None},
    {"$schema": {}},
    {"$schema": ["x"]},
    {"$ref": 5},
    {"$ref": "#/nowhere"},
    {"$ref": "http://127.0.0.1:9/x"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "#"},
    {"$dynamicRef": 5},
    {"$id": 5},
    {"$id": "http://[::1"},
    {"$anchor": 5},
    {"$defs": 5},
    {"$defs": {"a": 5}, "$ref": "#/$defs/a"},
    {"type": 5},
    {"type": "thing"},
    {"type": ["string", 5]},
    {"properties": [1]},
    {"properties": {"a": 5}},
    {"required": "a"},
    {"required": [5]},
    {"items": 5},
    {"allOf": {}},
    {"anyOf": []},
    {"oneOf": [5]},
    {"not": 5},
    {"if": 5},
    {"enum": 5},
    {"minimum": "x"},
    {"maxItems": -1},
    {"multipleOf": 0},
    {"multipleOf": "x"},
    {"pattern": 5},
    {"pattern": "("},
    {"patternProperties": {"(": {}}},
    {"dependentRequired": 5},
    {"dependentSchemas": 5},
    {"additionalProperties": 5},
    {"unevaluatedProperties": 5},
    {"contains": 5},
    {"propertyNames": 5},
    {"prefixItems": 5},
    {"uniqueItems": "yes"},
    {"format": 5},
]
VALUES = [{}, {"a": 1}, [], [1, "a"], "text", 5, 1.5, None, True]


@pytest.mark.parametrize("schema", NO_SCHEMAS, ids=str)
async def test_what_is_no_schema_raises_only_our_own_errors(schema):
    for value in VALUES:
        await OutputCheck(schema).find_problem(value)
    with_type = {"type": "object", **schema}
    try:
        check = schema_check(with_type, trusted=False)
    except (InvalidData, ValueError) as exc:
        assert isinstance(exc, ClawftError | ValueError)
        return
    await check.find_problems({"a": 1})


async def test_a_tool_with_such_a_schema_is_withheld_and_the_others_are_offered():
    good = {"name": "good", "inputSchema": {"type": "object"}}
    bad = [{"name": f"bad{number}", "inputSchema": schema} for number, schema in enumerate(NO_SCHEMAS)]
    server = ScriptedMcpServer(tools=[*bad, good])

    async with trio.open_nursery() as nursery:

        async def connect():
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(server.run, far, far)
            return near, near

        registry = ToolRegistry()
        async with open_toolset({"s": ToolServer(StreamServer(connect))}, registry) as toolset:
            assert "s__good" in registry
            assert toolset.failures == {}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {"allOf": [{"properties": {f"k{n}": True}} for n in range(300)], "unevaluatedProperties": False},
            {f"k{n}": 1 for n in range(300)},
        ),
        ({"anyOf": [{"prefixItems": [True] * n} for n in range(200)], "unevaluatedItems": False}, list(range(3000))),
    ],
)
async def test_what_no_step_counts_is_not_done_on_the_event_loop(schema, value):
    check = SchemaCheck(schema, trusted=False)
    with pytest.raises(TooComplex):
        check.problems(value)
    assert isinstance(await check.find_problems(value), list)


@pytest.mark.parametrize("levels", [5, 20, 45])
async def test_a_deep_schema_is_one(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    value = "x"
    for _ in range(min(levels, 15)):
        value = {"a": value}
    check = schema_check(schema, trusted=False)
    problems = await check.find_problems(value)
    assert bool(problems) is (levels > 15)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"not": {"$ref": "#"}},
        {"if": {"$ref": "#"}},
        {"$dynamicAnchor": "n", "allOf": [{"$dynamicRef": "#n"}]},
    ],
    ids=str,
)
async def test_a_schema_that_leads_to_itself_ends_on_any_stack(schema):
    # Where little of the stack is left, a part of the validator in Rust panics, which no `except Exception` catches.
    check = SchemaCheck(schema, trusted=False)

    async def below(frames):
        return await below(frames - 1) if frames else check.problems({})

    for frames in (0, 100, 200):
        assert [problem.path for problem in await below(frames)] == ["$"]
