"""Each check of Anthropic's Messages API complains of what it names, as often as it is there, and of no more."""

from __future__ import annotations

import pytest

from clawft_trio.testing.vendor_anthropic import (
    answers,
    blocks_of,
    contents,
    media,
    required_fields,
    roles,
    sampling,
    thinking,
    tool_use,
    tools,
)

USER = {"role": "user", "content": "q"}
SAID = {"role": "assistant", "content": "A"}
OLD, NEW = "claude-sonnet-4-5", "claude-opus-4-8"


def body(*messages, model=OLD, **more):
    return {"model": model, "max_tokens": 4000, "messages": list(messages), **more}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def made(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def use(id_="a", name="f", given=None):
    return {"type": "tool_use", "id": id_, "name": name, "input": {} if given is None else given}


def result(id_="a", content="r"):
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


def text(words):
    return {"type": "text", "text": words}


def shown(kind="image", **source):
    return {"type": kind, "source": {"type": "base64", "media_type": "image/png", "data": "eA==", **source}}


def offered(*names):
    return {"tools": [{"name": name, "input_schema": {}} for name in names]}


def formed(schema, model=OLD):
    return body(USER, model=model, output_config={"format": {"type": "json_schema", "schema": schema}})


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
ON = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
ADAPTIVE = {"thinking": {"type": "adaptive"}}
CLOSED = {"type": "object", "properties": {}, "additionalProperties": False}

TURNS = [
    (required_fields, body(USER), []),
    (required_fields, body(USER, max_tokens=1), []),
    (required_fields, body(USER, max_tokens=0), ["max_tokens"]),
    (required_fields, body(USER, max_tokens="1"), ["max_tokens"]),
    (required_fields, {"model": "m", "messages": []}, ["max_tokens", "at least one message"]),
    (required_fields, body(USER, seed=1, system="s"), ["seed: Extra inputs"]),
    (roles, body(), []),
    (roles, body(USER, SAID, USER), []),
    (roles, body(USER, {"role": "system"}, USER), ["messages.1.role"]),
    (roles, body(SAID, USER), ["first message"]),
    (roles, body(USER, SAID), []),
    (roles, body(USER, SAID, model=NEW), ["prefill"]),
    (roles, body(USER, SAID, USER, model=NEW), []),
    (roles, body(USER, {**SAID, "content": "A "}), ["trailing whitespace"]),
    (roles, body(USER, made(text("A "), text("B"))), []),
    (roles, body(USER, made(use())), []),
    (roles, body(USER, made()), []),
    (contents, body(USER, made(text("A"), use())), []),
    (contents, body(user(), {"role": "user"}), ["messages.0: all", "messages.1: all"]),
    (contents, body(USER, user(text(" "), text("q"), {"type": "text"})), ["messages.1: text", "messages.1: text"]),
    (contents, body(user(result(content=[text(""), text("r")]))), ["messages.0: text"]),
    (contents, body(USER, system=[text("s")]), []),
    (contents, body(USER, system="s"), []),
    (contents, body(USER, system=[text("s"), text(" "), {"type": "text"}]), ["system", "system"]),
]

PAIRS = [
    (tool_use, body(USER, made(use("a"), use("b")), user(result("b"), result("a"), text("q")), made(use("c")), user(result("c"))), []),
    (tool_use, body(USER, made(use("a"))), ["without tool_result"]),
    (tool_use, body(USER, made(use("a")), USER), ["messages.2: tool_use ids"]),
    (tool_use, body(USER, made(use("a"), use("b")), user(result("a"))), ["messages.2: tool_use ids"]),
    (tool_use, body(USER, made(use("a")), SAID, user(result("a"))), ["messages.2: tool_use ids", "messages.3: unexpected"]),
    (tool_use, body(user(result("a"))), ["messages.0: unexpected"]),
    (tool_use, body(USER, made(use("a")), user(result("a"), result("a"))), ["messages.2: unexpected"]),
    (tool_use, body(USER, made(use("a")), user(result("a"), result("b"))), ["messages.2: unexpected"]),
    (tool_use, body(USER, made(use("a")), user(text("q"), result("a"))), ["must come first"]),
    (tool_use, body(user(use("a")), user(result("a"))), ["can only be in assistant"]),
    (tool_use, body(made(use("a")), user(result("a")), made(use("a")), user(result("a"))), ["must be unique"]),
    (tool_use, body(made(use("a", "g" * 128)), user(result("a"))), []),
    (tool_use, body(made(use("a", "g" * 129)), user(result("a"))), ["tool_use.name"]),
    (tool_use, body(made(use("a", "")), user(result("a"))), ["tool_use.name"]),
    (tool_use, body(made(use("a.b")), user(result("a.b"))), ["tool_use.id"]),
    (tool_use, body(made(use("a", given="x")), user(result("a"))), ["tool_use.input"]),
    (tools, body(USER), []),
    (tools, body(USER, **offered("a", "b" * 128), tool_choice={"type": "tool", "name": "a"}), []),
    (tools, body(USER, **offered("a b", "b" * 129)), ["tools.name", "tools.name"]),
    (tools, body(USER, tools=[{"type": "web_search", "name": "not ours"}]), []),
    (tools, body(USER, **offered("a", "a")), ["unique"]),
    (tools, body(USER, tool_choice={"type": "auto"}), ["while providing tools"]),
    (tools, body(USER, **offered("a"), tool_choice="any"), []),
    (tools, body(USER, **offered("a"), tool_choice={"type": "tool", "name": "b"}), ["not in tools"]),
    (tools, body(USER, **offered("a"), tool_choice={"type": "any", "name": "b"}), []),
    (tools, body(USER, **offered("a"), tool_choice={"type": "any"}, model="claude-fable-5"), ["forces"]),
    (tools, body(USER, **offered("a"), tool_choice={"type": "tool", "name": "a"}, model="claude-fable-5"), ["forces"]),
    (tools, body(USER, **offered("a"), tool_choice={"type": "auto"}, model="claude-fable-5"), []),
]  # fmt: skip

MEDIA = [
    (media, body(user(text("q"), shown(), shown(media_type="image/webp"), shown("document", media_type="application/pdf"))), []),
    (media, body(user({"type": "image"}, {"type": "other", "source": {}}), SAID), []),
    (media, body(made(shown())), ["messages.0: image blocks"]),
    (media, body(user(shown(media_type="image/tiff"), shown(data=""))), ["image.source.media_type"] * 2),
    (media, body(user(shown("document"))), ["document.source.media_type"]),
    (media, body(user({"type": "document", "source": {"type": "text", "data": "words"}})), []),
    (media, body(user(shown(type="url", url="https://a/b"))), []),
    (media, body(user(shown(type="url", url="http://a/b"))), ["Only HTTPS"]),
    (media, body(user(result(content=[shown(media_type="image/tiff")]))), ["image.source.media_type"]),
]  # fmt: skip

THINKING = [
    (thinking, body(USER, made(THOUGHT, REDACTED, use()), user(result())), []),
    (thinking, body(USER, made({**THOUGHT, "signature": ""}, text("A"))), ["signature: Field required"]),
    (thinking, body(USER, made({"type": "openai:reasoning"}, text("A"))), ["Input tag"]),
    (thinking, body(USER, made({"type": "x", "reasoning_content": "r"}, text("A"))), ["Input tag"]),
    (thinking, body(USER, made(THOUGHT), made(REDACTED)), ["The final block"] * 2),
    (thinking, body(USER, thinking={"type": "disabled"}, temperature=0.5, tool_choice={"type": "any"}), []),
    (thinking, body(USER, thinking="on", temperature=0.5), []),
    (thinking, body(USER, **ON), []),
    (thinking, body(USER, max_tokens=1025, **ON), []),
    (thinking, body(USER, max_tokens=1024, **ON), ["must be greater"]),
    (thinking, {"messages": [USER], **ON}, ["must be greater"]),
    (thinking, body(USER, thinking={"type": "enabled", "budget_tokens": 1023}), ["equal to 1024"]),
    (thinking, body(USER, thinking={"type": "enabled"}), ["equal to 1024"]),
    (thinking, body(USER, model=NEW, **ON), ["'enabled' is not supported"]),
    (thinking, body(USER, model=NEW, **ADAPTIVE), []),
    (thinking, body(USER, **ADAPTIVE), ["adaptive"]),
    (thinking, body(USER, temperature=1, **ON), []),
    (thinking, body(USER, temperature=0.5, **ON), ["only be set to 1"]),
    (thinking, body(USER, tool_choice={"type": "auto"}, **ON), []),
    (thinking, body(USER, tool_choice={"type": "any"}, **ON), ["forces tool use"]),
    (thinking, body(USER, tool_choice={"type": "tool"}, **ON), ["forces tool use"]),
    (thinking, body(USER, tool_choice="any", **ON), []),
    (thinking, body(USER, SAID, **ON), ["must start with a thinking"]),
    (thinking, body(USER, made(), **ON), []),
    (thinking, body(USER, made(THOUGHT, text("A")), **ON), []),
    (thinking, body(USER, made(REDACTED, text("A")), **ON), []),
    (thinking, body(SAID, USER, **ON), []),
    (thinking, body(**ON), []),
    (thinking, body(user(result()), **ON), []),
    (thinking, body(made(use()), user(result()), **ON), ["but found"]),
    (thinking, body(made(use()), user(text("q"), result()), **ON), ["but found"]),
    (thinking, body(USER, made(), user(result()), **ON), ["but found"]),
    (thinking, body(USER, made(REDACTED, use()), user(result()), **ON), []),
    (thinking, body(USER, made(use()), user(result()), USER, **ON), []),
    (thinking, body(USER, made(use()), user(result()), model=NEW, **ADAPTIVE), []),
]

OPTIONS = [
    (sampling, body(USER), []),
    *((sampling, body(USER, temperature=value), []) for value in (0, 1, None)),
    *((sampling, body(USER, temperature=value), ["range"]) for value in (-0.01, 1.01)),
    (sampling, body(USER, temperature=1, model=NEW), ["sampling parameters"]),
    (sampling, body(USER, model=NEW), []),
    (sampling, body(USER, stop_sequences=["END", "\n", ""]), ["non-whitespace"] * 2),
    *((sampling, body(USER, model=NEW, output_config={"effort": one}), []) for one in ("low", "medium", "high", "xhigh", "max")),
    (sampling, body(USER, model=NEW, output_config={"effort": "none"}), ["effort parameter"]),
    (sampling, body(USER, output_config={"effort": "low"}), ["effort parameter"]),
    (sampling, body(USER, output_config={}), []),
    (answers, body(USER), []),
    (answers, body(USER, output_config={"format": "json"}), []),
    (answers, formed(CLOSED), []),
    (answers, formed(CLOSED, model="claude-3-5-haiku"), ["structured outputs"]),
    (answers, formed(CLOSED, model="claude-sonnet-4-0"), ["structured outputs"]),
    (answers, formed({"type": "object"}), ["must be false, at "]),
    (answers, formed({**CLOSED, "properties": {"x": {"type": "object", "additionalProperties": True}}}), ["at /properties/x"]),
    *(
        (answers, formed({**CLOSED, "properties": {"x": {keyword: []}}}), [f"{keyword} is not supported, at /properties/x"])
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems", "oneOf", "prefixItems")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("check", "asked", "expected"), [*TURNS, *PAIRS, *MEDIA, *THINKING, *OPTIONS])
def test_a_check_complains_of_each_fault_that_it_names(check, asked, expected):
    messages = [complaint.message for complaint in check(asked)]
    assert len(messages) == len(expected), messages
    assert all(part in message for part, message in zip(expected, messages, strict=True)), messages


def test_a_text_is_one_block():
    assert blocks_of(USER) == [text("q")]
    assert blocks_of(user(use(), "text")) == [use()]
