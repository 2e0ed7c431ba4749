"""Each check of chat completions and of models complains of what it names, as often as it is there, and of no more."""

from __future__ import annotations

import pytest

from clawft_trio.testing.vendor_checks import (
    arguments_are_objects,
    at_most,
    calls_have_content,
    content_is_there,
    descriptions_at_most,
    first_is_user,
    has_messages,
    ids_fit,
    images_are,
    is_blank,
    known_roles,
    last_is_user_or_tool,
    media_of_users_only,
    messages_of,
    names_fit,
    no_blank_messages,
    no_blank_parts,
    no_developers,
    no_documents,
    no_user_after_tool,
    only_fields,
    only_message_fields,
    results_follow_calls,
    roles_alternate,
    system_comes_first,
    temperature_at_most,
    text_only,
    tools_are_offered,
    values_of,
    without,
)
from clawft_trio.testing.vendor_models import (
    calls_are_signed,
    calls_follow_users,
    kimi_temperature,
    no_forced_tools,
    one_thinking_form,
    reasoning_comes_back,
    temperature_only_unreasoned,
)

USER = {"role": "user", "content": "q"}
SYSTEM = {"role": "system", "content": "s"}
SAID = {"role": "assistant", "content": "A"}


def body(*messages, **more):
    return {"model": "m", "messages": list(messages), **more}


def call(id_="c1", name="f", arguments="{}", **more):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calling(*calls, content=None, **more):
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


def result(id_="c1"):
    return {"role": "tool", "tool_call_id": id_, "content": "r"}


def offered(*names, description="d"):
    return [{"type": "function", "function": {"name": name, "description": description}} for name in names]


def saying(*parts, role="user"):
    return {"role": role, "content": list(parts)}


def text(words):
    return {"type": "text", "text": words}


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


PNG = "data:image/png;base64,UE5H"
PNG_ONLY = images_are("image/png")
NO_URLS = images_are("image/png", urls=False)
SIGNED = {"extra_content": {"google": {"thought_signature": "x"}}}
OFF = {"thinking": {"type": "disabled"}}

MESSAGES = [
    (has_messages, body(), ["too short"]),
    (has_messages, {"messages": "text"}, ["too short"]),
    (has_messages, body("text"), ["too short"]),
    (has_messages, body(USER), []),
    (known_roles, body(USER, SYSTEM, SAID, result(), {"role": "developer"}), []),
    (known_roles, body(USER, {"role": "model"}, {}), ["'model'", "None"]),
    (no_developers, body(USER, {"role": "developer"}), ["messages[1].role"]),
    (content_is_there, body(USER, calling(call())), []),
    (content_is_there, body({"role": "user"}, {**SAID, "content": None}), ["got null", "got null"]),
    (content_is_there, body({**SAID, "tool_calls": []}), ["'tool_calls'"]),
    (results_follow_calls, body(USER, calling(call("a"), call("b")), result("b"), result("a"), USER), []),
    (results_follow_calls, body(calling(call("b"), call("a"))), ["response messages: a, b"]),
    (results_follow_calls, body(calling(call("a"), call("b")), result("a"), USER), ["response messages: b"]),
    (results_follow_calls, body(USER, result("a")), ["must be a response"]),
    (results_follow_calls, body(calling(call("a")), result("a"), result("a")), ["must be a response"]),
    (results_follow_calls, body(calling(call("a"), call("a")), result("a")), ["duplicate"]),
    (results_follow_calls, body(calling(call("a")), SAID, result("a")), ["response messages", "must be a response"]),
    (last_is_user_or_tool, body(), []),
    (last_is_user_or_tool, body(USER, SAID), ["but got assistant"]),
    (last_is_user_or_tool, body(USER, {**SAID, "prefix": True}), []),
    (last_is_user_or_tool, body(SAID, USER), []),
    (last_is_user_or_tool, body(SAID, result()), []),
    (first_is_user, body(), ["the first message"]),
    (first_is_user, body(SYSTEM), ["the first message"]),
    (first_is_user, body(SYSTEM, {"role": "developer"}, SAID, USER), ["the first message"]),
    (first_is_user, body(SYSTEM, {"role": "developer"}, USER, SAID), []),
    (no_user_after_tool, body(result(), USER, result(), SYSTEM, result(), SAID), ["'user' after", "'system' after"]),
    (no_user_after_tool, body(USER, USER, SAID, USER), []),
    (system_comes_first, body(SYSTEM, USER, SAID), []),
    (system_comes_first, body(SYSTEM, SYSTEM), ["at the beginning"]),
    (system_comes_first, body(USER, SAID, SYSTEM), ["at the beginning"]),
    (roles_alternate, body(SYSTEM, SYSTEM, USER, SAID, result(), result(), SAID, USER), []),
    (roles_alternate, body(USER, USER, SAID, SAID), ["'user' in a row", "'assistant' in a row"]),
    (no_blank_messages("user"), body({**USER, "content": " "}, {**SAID, "content": ""}), ["position 0"]),
    (no_blank_messages("assistant"), body({**USER, "content": ""}, calling(call()), {**SAID, "content": ""}), ["position 2"]),
    (no_blank_messages("user"), body(USER, saying(text("q"))), []),
    (no_blank_parts, body(USER, saying(text("q"), image(PNG))), []),
    (no_blank_parts, body(saying(), saying(text("q"), text(" "), {"type": "text"})), ["empty list", "is empty", "is empty"]),
    (calls_have_content, body(USER, calling(call(), content="")), []),
    (calls_have_content, body({**SAID, "content": None}, calling(call())), ["at least one content"]),
]  # fmt: skip

TOOLS = [
    (names_fit("[a-z]{1,3}"), body(calling(call(name="ab")), tools=offered("abc")), []),
    (names_fit("[a-z]{1,3}"), body(calling(call(name="abcd")), tools=offered("A")), ["'A'", "'abcd'"]),
    (names_fit("[a-z]{1,3}"), body(calling({"id": "x", "function": "f"}), tools=[{"type": "function"}]), ["None", "None"]),
    (ids_fit("[a-z]{2}"), body(calling(call("ab")), result("ab"), {"role": "user", "tool_call_id": "X"}), []),
    (ids_fit("[a-z]{2}"), body(calling(call("a"), call("ab"), call("abc")), result("A")), ["'a'", "'abc'", "'A'"]),
    (ids_fit("[a-z]{2}"), body(calling({"type": "function"}), {"role": "tool"}), ["None", "None"]),
    (arguments_are_objects, body(calling(call(arguments='{"a":1}'))), []),
    (arguments_are_objects, body(calling(*(call(arguments=bad) for bad in ("{", "[]", "", {})))), ["'{'", "'[]'", "''", "{}"]),
    (tools_are_offered, body(), []),
    (tools_are_offered, body(tools=offered("f", "g"), tool_choice="auto"), []),
    (tools_are_offered, body(tools=offered("f"), tool_choice={"type": "function", "function": {"name": "f"}}), []),
    (tools_are_offered, body(tools=offered("f"), tool_choice={"type": "function", "function": {"name": "g"}}), ["not in 'tools'"]),
    (tools_are_offered, body(tools=[]), ["too short"]),
    (tools_are_offered, body(tools=[], tool_choice="auto"), ["too short", "only allowed"]),
    (tools_are_offered, body(tool_choice="auto"), ["only allowed"]),
    (tools_are_offered, body(tools=offered("f", "f")), ["unique"]),
    (descriptions_at_most(3), body(tools=[*offered("f", description="abc"), {"type": "function", "function": {}}]), []),
    (descriptions_at_most(3), body(tools=[*offered("f"), *offered("g", description="abcd")]), ["tools[1]"]),
    (at_most("stop", 2), body(stop=["a", "b"]), []),
    (at_most("stop", 2), body(stop="abc"), []),
    (at_most("stop", 2), body(stop=["a", "b", "c"]), ["at most 2"]),
]  # fmt: skip

PARTS = [
    (media_of_users_only, body(saying(image(PNG), text("q")), saying(text("q"), role="tool")), []),
    (media_of_users_only, body(saying(image(PNG), role="tool"), saying(image(PNG), role="assistant")), ["image_url"] * 2),
    (PNG_ONLY, body(USER, saying(text("q"), image(PNG), image("http://a/b"), image("https://a/b"))), []),
    (PNG_ONLY, body(saying({"type": "image_url", "image_url": PNG})), []),
    (PNG_ONLY, body(saying(image("data:image/gif;base64,R0"), image("data:image/png;base64,"))), ["'image/gif'", "'image/png'"]),
    (PNG_ONLY, body(saying(image("data:image/png,UE5H"), image("ftp://a/b"))), ["unsupported image", "image url"]),
    (NO_URLS, body(saying(image(PNG), image("https://a/b"))), ["image url"]),
    (images_are(), body(saying(text("q"))), []),
    (images_are(), body(saying(image(PNG))), ["unknown variant"]),
    (text_only, body(USER, saying(text("q"))), []),
    (text_only, body(saying(text("q"), image(PNG))), ["got image_url"]),
    (no_documents, body(saying(text("q"), image(PNG))), []),
    (no_documents, body(saying(text("q"), {"type": "file"}), saying({"type": "document_url"})), ["'file'", "'file'"]),
]  # fmt: skip

OPTIONS = [
    (without("a", "b"), body(a=None, b=1, c=1), ["'a'", "'b'"]),
    (without("a"), body(b=1), []),
    (without("a", models="^m$"), body(a=1), ["'a'"]),
    (without("a", models="other"), body(a=1), []),
    (without("a", models="other"), {"a": 1}, []),
    (values_of("a", "x", "y"), body(a="y"), []),
    (values_of("a", "x", "y"), body(a=None), []),
    (values_of("a", "x", "y"), body(a="z"), ["'z'"]),
    (values_of("a", "x", models="^m$"), body(a="z"), ["'z'"]),
    (values_of("a", "x", models="other"), body(a="z"), []),
    (temperature_at_most(2), body(temperature=0), []),
    (temperature_at_most(2), body(temperature=2), []),
    (temperature_at_most(2), body(temperature=None), []),
    (temperature_at_most(2), body(temperature=2.01), ["2.01"]),
    (temperature_at_most(2), body(temperature=-0.01), ["-0.01"]),
    (temperature_at_most(2, only=1), body(temperature=1), []),
    (temperature_at_most(2, only=1), body(temperature=0.5), ["0.5"]),
    (temperature_at_most(2, models="^m$"), body(temperature=3), ["3"]),
    (temperature_at_most(2, models="other"), body(temperature=3), []),
    (only_fields("model", "messages"), body(), []),
    (only_fields("model", "messages"), body(seed=1), ["seed"]),
    (only_message_fields("role", "content"), body(USER, {**SAID, "name": "n"}), ["'messages.1': property 'name'"]),
    (one_thinking_form, body(extra_body={"google": {"thinking_config": {}}}, reasoning_effort="low"), ["either"]),
    (one_thinking_form, body(extra_body={"google": {"thinking_config": {}}}), []),
    (one_thinking_form, body(extra_body={"google": None}, reasoning_effort="low"), []),
    (one_thinking_form, body(reasoning_effort="low"), []),
    (kimi_temperature, body(model="kimi-k2.6", temperature=1), []),
    (kimi_temperature, body(model="kimi-k2.6"), []),
    (kimi_temperature, body(model="kimi-k2.6", temperature=0.6), ["only 1"]),
    (kimi_temperature, body(model="kimi-k2.6", temperature=0.6, **OFF), []),
    (kimi_temperature, body(model="kimi-k2.6", temperature=1, **OFF), ["only 0.6"]),
    (kimi_temperature, body(model="kimi-k2.6", temperature=1, thinking={"type": "enabled"}), []),
    (kimi_temperature, body(model="kimi-k2-0711", temperature=0.3), []),
    (no_forced_tools("auto"), body(tool_choice="auto"), []),
    (no_forced_tools("auto"), body(), []),
    (no_forced_tools("auto"), body(tool_choice="required"), ["'required'"]),
    (no_forced_tools("auto"), body(tool_choice={"type": "function"}), ["'function'"]),
    (no_forced_tools("auto", models="other"), body(tool_choice="required"), []),
]  # fmt: skip

REASONING = [
    (reasoning_comes_back("", blank_counts=True), body(calling(call(), reasoning_content="x"), SAID), []),
    (reasoning_comes_back("", blank_counts=True), body(calling(call(), reasoning_content=""), calling(call())), ["missing"] * 2),
    (reasoning_comes_back("", blank_counts=False), body(calling(call(), reasoning_content="")), []),
    (reasoning_comes_back("", blank_counts=False), body(calling(call())), ["missing"]),
    (reasoning_comes_back("", blank_counts=False), body(calling(call()), **OFF), []),
    (reasoning_comes_back("", blank_counts=False), body(calling(call()), thinking={"type": "enabled"}), ["missing"]),
    (reasoning_comes_back("other", blank_counts=False), body(calling(call())), []),
    (calls_are_signed, body(calling(call(**SIGNED), call()), SAID, model="gemini-3-pro"), []),
    (calls_are_signed, body(calling(call(name="a")), calling(call(name="b")), model="gemini-3-pro"), ["`a`", "`b`"]),
    (calls_are_signed, body(calling(call(extra_content={"google": {"thought_signature": ""}})), model="gemini-3"), ["`f`"]),
    (calls_are_signed, body(SAID, calling(call(extra_content={"google": "x"})), model="gemini-3"), ["`f`"]),
    (calls_are_signed, body(calling(call()), model="gemini-2.5-pro"), []),
    (calls_follow_users, body(SYSTEM, USER, SYSTEM, calling(call()), result(), calling(call())), []),
    (calls_follow_users, body(SYSTEM, calling(call())), ["immediately after a user"]),
    (calls_follow_users, body(USER, SAID, {"role": "developer"}, calling(call())), ["immediately after a user"]),
]  # fmt: skip


@pytest.mark.parametrize(("check", "asked", "expected"), [*MESSAGES, *TOOLS, *PARTS, *OPTIONS, *REASONING])
def test_a_check_complains_of_each_fault_that_it_names(check, asked, expected):
    messages = [complaint.message for complaint in check(asked)]
    assert len(messages) == len(expected), messages
    assert all(part in message for part, message in zip(expected, messages, strict=True)), messages


@pytest.mark.parametrize("content", ["", " \n", None, [], [text("")], [text(" "), {"type": "text"}]])
def test_blank_content_has_nothing_visible(content):
    assert is_blank(content)


@pytest.mark.parametrize("content", ["a", [text("a")], [text(""), text("a")], [text(""), image(PNG)]])
def test_content_with_a_word_or_an_image_is_not_blank(content):
    assert not is_blank(content)


def test_entries_that_are_no_objects_are_passed_over():
    assert messages_of(body("text", USER, None)) == [USER]
    assert list(tools_are_offered(body(tools=[1, *offered("f")]))) == []


@pytest.mark.parametrize(
    ("model", "effort", "refused"),
    [
        ("gpt-4o", None, False),
        ("gpt-5-chat", None, False),
        ("o3", None, True),
        ("openai/o4-mini", None, True),
        ("gpt-5-mini", None, True),
        ("gpt-5", "none", True),
        ("gpt-5.2", None, False),
        ("gpt-5.2", "none", False),
        ("gpt-5.2", "low", True),
        ("gpt-5.2-codex", "none", True),
        ("gpt-5.5", None, True),
        ("gpt-5.5", "none", False),
    ],
)
def test_a_temperature_is_refused_while_a_model_of_openai_reasons(model, effort, refused):
    asked = {"model": model, "messages": [USER], **({} if effort is None else {"reasoning_effort": effort})}
    assert [list(temperature_only_unreasoned({**asked, "temperature": only})) for only in (1, None)] == [[], []]
    assert list(temperature_only_unreasoned(asked)) == []
    complaints = list(temperature_only_unreasoned({**asked, "temperature": 0.7}))
    assert [complaint.code for complaint in complaints] == ["unsupported_value"] * refused
