"""Each check of OpenAI's Responses API complains of what it names, as often as it is there, and of no more."""

from __future__ import annotations

import pytest

from clawft_trio.testing.vendor_responses import (
    calls_have_outputs,
    contents,
    ids,
    items_of,
    options,
    reasoning_is_followed,
    required_fields,
    tools,
)

USER = {"role": "user", "content": "q"}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A"}]}
THOUGHTS = {"type": "reasoning", "id": "rs_1"}


def body(*items, **more):
    return {"model": "m", "input": list(items), **more}


def made(id_="c", name="f"):
    return {"type": "function_call", "call_id": id_, "name": name}


def output(id_="c"):
    return {"type": "function_call_output", "call_id": id_, "output": "r"}


def offered(*names):
    return [{"type": "function", "name": name} for name in names]


def saying(*kinds, role="user"):
    return {"role": role, "content": [{"type": kind} for kind in kinds]}


CASES = [
    (required_fields, body(USER), []),
    (required_fields, {"input": "q"}, []),
    (required_fields, {}, ["must be provided"]),
    (required_fields, body(), ["must be provided"]),
    *((required_fields, {"input": [], name: "x"}, []) for name in ("previous_response_id", "conversation", "prompt")),
    (required_fields, body(USER, messages=[], seed=1), ["Unknown parameter", "Unknown parameter"]),
    (ids, body({**SAID, "id": "msg_1"}, {**made(), "id": "fc_1"}, THOUGHTS, {**output(), "id": "any"}, USER), []),
    (ids, body({**SAID, "id": "x"}, {**made(), "id": "msg_1"}), ["'input[0].id': 'x'", "begins with 'fc'"]),
    (ids, body({**USER, "id": "item"}, {**THOUGHTS, "id": ""}), ["begins with 'msg'", "begins with 'rs'"]),
    (reasoning_is_followed, body(THOUGHTS, made(), output(), THOUGHTS, SAID, USER), []),
    (reasoning_is_followed, body(THOUGHTS, THOUGHTS, SAID), []),
    (reasoning_is_followed, body(USER, THOUGHTS), ["'rs_1'"]),
    (reasoning_is_followed, body(THOUGHTS, USER, THOUGHTS, output()), ["'rs_1'", "'rs_1'"]),
    (calls_have_outputs, body(made("a"), made("b" * 64), output("b" * 64), output("a")), []),
    (calls_have_outputs, body(made("a"), made("b"), output("b")), ["call a."]),
    (calls_have_outputs, body(made(""), output("")), ["too long"]),
    (calls_have_outputs, body(made("b" * 65), output("b" * 65)), ["too long"]),
    (calls_have_outputs, body(output("a")), ["call_id a."]),
    (calls_have_outputs, body(output("a"), previous_response_id="resp_1"), []),
    (calls_have_outputs, body(made("a"), made("a"), output("a")), ["Duplicate"]),
    (contents, body(USER, saying("input_text", "input_image", "input_file", "input_audio"), SAID, made()), []),
    (contents, body(saying("output_text", "refusal", role="assistant")), []),
    (contents, body(saying("text", "output_text"), saying("input_text", role="assistant")), ["'text'", "'output_text'", "'input_text'"]),
    (contents, body({"role": "user"}, saying(), {**USER, "content": ""}), ["input[0]", "input[1]", "input[2]"]),
    (tools, body(USER, tools=offered("a", "b" * 64), tool_choice="auto"), []),
    (tools, body(USER, tools=[{"type": "web_search", "name": "not ours"}]), []),
    (tools, body(made(name="a b"), made(name="f"), tools=offered("b" * 65, "")), ["'" + "b" * 65, "''", "'a b'"]),
    (tools, body(USER, tools=offered("a", "a")), ["unique"]),
    (tools, body(USER, tools=offered(*(f"f{n}" for n in range(128)))), []),
    (tools, body(USER, tools=offered(*(f"f{n}" for n in range(129)))), ["too long"]),
    (tools, body(USER, tool_choice="auto"), ["with tools"]),
    (options, body(USER, max_output_tokens=16), []),
    (options, body(USER, max_output_tokens=15), [">= 16"]),
    (options, body(USER), []),
]  # fmt: skip


@pytest.mark.parametrize(("check", "asked", "expected"), CASES)
def test_a_check_complains_of_each_fault_that_it_names(check, asked, expected):
    messages = [complaint.message for complaint in check(asked)]
    assert len(messages) == len(expected), messages
    assert all(part in message for part, message in zip(expected, messages, strict=True)), messages


def test_a_text_is_one_message_of_the_user():
    assert items_of({"input": "q"}) == [{"type": "message", **USER}]
    assert items_of({"input": ["text", USER]}) == [USER]
    assert items_of({}) == []
