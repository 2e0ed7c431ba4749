"""Each rule of a target by itself: what it changes in a request, and where it begins to."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from clawft_trio.auth import AuthContext
from clawft_trio.chat import (
    ChatRequest,
    File,
    Image,
    Message,
    Opaque,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallSealed,
    ToolSpec,
)
from clawft_trio.errors import InvalidData, RequestRejected
from clawft_trio.llm.conform.conform import Conformed, Conformer, conform
from clawft_trio.llm.conform.order import BEGINNING, CONTINUE, RECEIVED
from clawft_trio.llm.conform.rules import Rules, SchemaRules, VendorRules, overlay

TOOL = ToolSpec(name="look", description="Look.", parameters={"type": "object", "properties": {}})
ASK = (Message.user("hi"),)
CALL = Message.assistant("", tool_calls=(ToolCall(id="call_1", name="look", arguments="{}"),))
RESULT = Message.tool("seen", tool_call_id="call_1")


def conformed(*messages: Message, rules: Rules, origin: str = "maker/model", **options: Any) -> Conformed:
    return Conformer(VendorRules()).conform(ChatRequest(messages or ASK, **options), rules, origin=origin)


def order(*messages: Message, rules: Rules) -> list[tuple[str, str]]:
    return [(one.role, one.text) for one in conformed(*messages, rules=rules, tools=(TOOL,)).request.messages]


@pytest.mark.parametrize(
    ("temperature", "rules", "sent"),
    [
        (None, Rules(hottest=1.0, only_temperature=1.0), None),
        (1.0, Rules(hottest=1.0), 1.0),
        (1.5, Rules(hottest=1.0), 1.0),
        (2.0, Rules(), 2.0),
        (2.5, Rules(), 2.0),
        (1.0, Rules(only_temperature=1.0), 1.0),
        (0.5, Rules(only_temperature=1.0), None),
        (0.5, Rules(temperature_efforts=("",)), 0.5),
        (0.5, Rules(temperature_efforts=("low",)), None),
        (0.5, Rules(refuses={"temperature"}), None),
    ],
)
def test_a_temperature_is_sent_lowered_or_left_out(temperature: float | None, rules: Rules, sent: float | None) -> None:
    found = conformed(rules=rules, temperature=temperature)
    assert found.request.temperature == sent
    assert sum(found.changes.values()) == (temperature != sent)


@pytest.mark.parametrize(
    ("effort", "known", "sent"),
    [
        (None, ("low",), None),
        ("odd", None, "odd"),
        ("high", ("low", "high"), "high"),
        ("xhigh", ("low", "high"), "high"),
        ("minimal", ("low", "high"), "low"),
        # Of two that are as near, the weaker one.
        ("medium", ("low", "high"), "low"),
        ("none", ("low", "high"), None),
        ("low", ("none",), None),
        ("odd", ("low",), None),
        ("low", (), None),
    ],
)
def test_an_effort_becomes_the_nearest_that_the_model_knows(effort: Any, known: Any, sent: str | None) -> None:
    found = conformed(rules=Rules(efforts=known), reasoning_effort=effort)
    assert found.request.reasoning_effort == sent
    assert sum(found.changes.values()) == (effort != sent)


@pytest.mark.parametrize(
    ("effort", "budget"), [("minimal", 1024), ("low", 2048), ("medium", 8192), ("high", 16_384), ("max", 32_768)]
)
def test_an_effort_is_a_thinking_budget_where_only_budgets_are_known(effort: Any, budget: int) -> None:
    rules = Rules(thinking="anthropic", efforts=())
    found = conformed(rules=rules, reasoning_effort=effort).request
    assert (found.reasoning_effort, found.thinking_budget) == (None, budget)
    given = conformed(rules=rules, reasoning_effort=effort, thinking_budget=5000).request
    assert (given.reasoning_effort, given.thinking_budget) == (None, 5000)


@pytest.mark.parametrize(
    ("budget", "limit", "sent"),
    [
        (1023, None, None),
        (1024, None, 1024),
        (2000, 2001, 2000),
        # Not below the limit: three quarters of it, if that is enough.
        (2000, 2000, 1500),
        (9999, 2000, 1500),
        (2000, 1366, 1024),
        (2000, 1365, None),
    ],
)
def test_a_thinking_budget_is_below_the_answers_limit_or_left_out(budget: int, limit: Any, sent: int | None) -> None:
    rules = Rules(thinking="anthropic")
    assert conformed(rules=rules, thinking_budget=budget, max_tokens=limit).request.thinking_budget == sent


@pytest.mark.parametrize(("choice", "thinks"), [("auto", True), ("none", True), ("required", False), ("look", False)])
def test_no_model_thinks_with_a_forced_tool(choice: str, thinks: bool) -> None:
    found = conformed(rules=Rules(thinking="anthropic"), thinking_budget=2000, tools=(TOOL,), tool_choice=choice)
    assert (found.request.thinking_budget == 2000) is thinks
    without_tools = conformed(rules=Rules(thinking="anthropic"), thinking_budget=2000, tool_choice="required")
    assert without_tools.request.thinking_budget == 2000


@pytest.mark.parametrize(("temperature", "sent"), [(None, None), (1, 1), (0.5, None)])
def test_a_model_that_thinks_takes_no_temperature_but_one(temperature: Any, sent: Any) -> None:
    rules, adaptive = Rules(thinking="anthropic"), Rules(thinking="anthropic", adaptive_thinking=True)
    assert conformed(rules=rules, thinking_budget=2000, temperature=temperature).request.temperature == sent
    assert conformed(rules=adaptive, reasoning_effort="low", temperature=temperature).request.temperature == sent
    assert conformed(rules=adaptive, temperature=temperature).request.temperature == temperature
    assert (
        conformed(rules=adaptive, reasoning_effort="none", temperature=temperature).request.temperature == temperature
    )


def test_a_turn_that_began_without_thinking_continues_without_it() -> None:
    rules = Rules(thinking="anthropic", opaque=("anthropic",))
    thought = Opaque("anthropic", {"type": "thinking", "thinking": "x", "signature": "s"})
    thinking_call = Message("assistant", (thought,), tool_calls=CALL.tool_calls, origin="maker/model")
    for messages, budget in [
        ((*ASK, CALL, RESULT), None),
        ((*ASK, thinking_call, RESULT), 2000),
        ((*ASK, Message.assistant("so")), None),
        ((*ASK, Message.assistant("so"), *ASK), 2000),
        ((*ASK, CALL, RESULT, Message.assistant("so"), *ASK), 2000),
    ]:
        assert conformed(*messages, rules=rules, thinking_budget=2000).request.thinking_budget == budget, messages


@pytest.mark.parametrize(
    ("most", "visible", "sent"),
    [
        (None, False, ("a", " ", "b")),
        (None, True, ("a", "b")),
        (1, False, ("a",)),
        (2, True, ("a", "b")),
        (0, False, ()),
    ],
)
def test_stop_sequences_are_limited(most: int | None, visible: bool, sent: tuple[str, ...]) -> None:
    found = conformed(rules=Rules(most_stops=most, visible_stops=visible), stop=("a", " ", "b"))
    assert found.request.stop == sent
    assert sum(found.changes.values()) == 3 - len(sent)


@pytest.mark.parametrize(
    ("choice", "rules", "sent"),
    [
        ("look", Rules(), "look"),
        ("look", Rules(named_choice=False), "required"),
        ("look", Rules(named_choice=False, tool_choices=("auto",)), "auto"),
        ("required", Rules(tool_choices=("auto", "none")), "auto"),
        ("auto", Rules(tool_choices=()), "auto"),
        ("none", Rules(), "none"),
    ],
)
def test_a_tool_choice_that_is_refused_is_a_weaker_one(choice: str, rules: Rules, sent: str) -> None:
    request = conformed(rules=rules, tools=(TOOL,), tool_choice=choice).request
    assert (request.tool_choice, len(request.tools)) == (sent, 1)


def test_no_tools_are_offered_where_the_choice_of_none_is_refused() -> None:
    request = conformed(rules=Rules(tool_choices=("auto",)), tools=(TOOL,), tool_choice="none").request
    assert (request.tool_choice, request.tools) == ("auto", ())


@pytest.mark.parametrize(("most", "offered"), [(None, 3), (3, 3), (2, 2), (1, 1)])
def test_tools_beyond_the_largest_number_are_left_out(most: int | None, offered: int) -> None:
    tools = tuple(ToolSpec(name=f"t{number}", description="", parameters={"type": "object"}) for number in range(3))
    found = conformed(rules=Rules(most_tools=most), tools=tools)
    assert [tool.name for tool in found.request.tools] == [f"t{number}" for number in range(offered)]
    assert set(found.left_out) == {f"t{number}" for number in range(offered, 3)}


USER, BOT, SYSTEM = Message.user("u"), Message.assistant("a"), Message.system("s")


@pytest.mark.parametrize(
    ("messages", "rules", "sent"),
    [
        # A first message of the user.
        ((BOT, USER), Rules(first_user=True), [("user", BEGINNING), ("assistant", "a"), ("user", "u")]),
        ((BOT, USER), Rules(), [("assistant", "a"), ("user", "u")]),
        ((SYSTEM, BOT), Rules(first_user=True), [("system", "s"), ("user", BEGINNING), ("assistant", "a")]),
        ((SYSTEM, USER), Rules(first_user=True), [("system", "s"), ("user", "u")]),
        ((SYSTEM,), Rules(), [("system", "s"), ("user", BEGINNING)]),
        # A last one.
        ((USER, BOT), Rules(last_user=True), [("user", "u"), ("assistant", "a"), ("user", CONTINUE)]),
        ((USER, BOT), Rules(), [("user", "u"), ("assistant", "a")]),
        # Whitespace at the end.
        ((USER, Message.assistant("a \n")), Rules(blank_end=False), [("user", "u"), ("assistant", "a")]),
        ((USER, Message.assistant("a \n")), Rules(), [("user", "u"), ("assistant", "a \n")]),
        # Two of one role.
        ((USER, USER, BOT, BOT), Rules(alternate=True), [("user", "u\n\nu"), ("assistant", "a\n\na")]),
        ((USER, USER, BOT, BOT), Rules(calls_after_user=True), [("user", "u"), ("user", "u"), ("assistant", "a\n\na")]),
        ((USER, USER), Rules(), [("user", "u"), ("user", "u")]),
        # System messages.
        ((SYSTEM, USER, SYSTEM), Rules(system_first=True), [("system", "s\n\ns"), ("user", "u")]),
        ((USER, SYSTEM), Rules(system_first=True), [("system", "s"), ("user", "u")]),
        ((USER, SYSTEM), Rules(), [("user", "u"), ("system", "s")]),
        ((SYSTEM, USER), Rules(system_role="user"), [("user", "s"), ("user", "u")]),
        # Between a result and a question.
        (
            (USER, CALL, RESULT, USER),
            Rules(user_after_tool=False),
            [("user", "u"), ("assistant", ""), ("tool", "seen"), ("assistant", RECEIVED), ("user", "u")],
        ),
        ((USER, CALL, RESULT), Rules(user_after_tool=False), [("user", "u"), ("assistant", ""), ("tool", "seen")]),
        # Blank messages.
        ((USER, Message.assistant(" \n"), USER), Rules(), [("user", "u"), ("user", "u")]),
        ((Message.user(" "), BOT, USER), Rules(), [("assistant", "a"), ("user", "u")]),
    ],
)
def test_a_rule_of_order_changes_just_what_it_names(messages: Any, rules: Rules, sent: list[tuple[str, str]]) -> None:
    assert order(*messages, rules=rules) == sent


def test_a_blank_result_is_filled_in_where_it_is_refused() -> None:
    blank = Message.tool(" ", tool_call_id="call_1")
    assert order(USER, CALL, blank, rules=Rules(blank_result="(none)"))[-1] == ("tool", "(none)")
    assert order(USER, CALL, blank, rules=Rules())[-1] == ("tool", " ")
    assert order(USER, CALL, RESULT, rules=Rules(blank_result="(none)"))[-1] == ("tool", "seen")


def test_images_of_results_follow_all_results_of_their_round() -> None:
    image = Image(data=b"\x89PNG", media_type="image/png")
    calls = Message.assistant(
        "",
        tool_calls=(
            ToolCall(id="call_1", name="look", arguments="{}"),
            ToolCall(id="call_2", name="look", arguments="{}"),
        ),
    )
    first = Message("tool", (Text("one"), image), tool_call_id="call_1")
    second = Message.tool("two", tool_call_id="call_2")
    moved = conformed(USER, calls, first, second, BOT, USER, rules=Rules(), tools=(TOOL,))
    roles = [(one.role, sum(isinstance(part, Image) for part in one.content)) for one in moved.request.messages]
    assert roles == [
        ("user", 0),
        ("assistant", 0),
        ("tool", 0),
        ("tool", 0),
        ("user", 1),
        ("assistant", 0),
        ("user", 0),
    ]
    at_the_end = conformed(USER, calls, first, second, rules=Rules(), tools=(TOOL,)).request.messages[-1]
    assert (at_the_end.role, at_the_end.content[-1]) == ("user", image)
    kept = conformed(USER, calls, first, second, rules=Rules(media_in_results=True), tools=(TOOL,))
    assert kept.request.messages[2] == first
    assert not kept.changes


@pytest.mark.parametrize(
    ("origin", "block", "rules", "kept"),
    [
        ("maker/model", "reasoning", Rules(opaque=("d",)), True),
        ("", "reasoning", Rules(opaque=("d",)), True),
        ("maker/other", "reasoning", Rules(opaque=("d",)), False),
        ("maker/other", "search", Rules(opaque=("d",), shared_blocks={"search"}), True),
        ("another/model", "search", Rules(opaque=("d",), shared_blocks={"search"}), False),
        ("maker/model", "reasoning", Rules(opaque=("e",)), False),
    ],
)
def test_reasoning_goes_to_the_model_that_wrote_it(origin: str, block: str, rules: Rules, kept: bool) -> None:
    answer = Message("assistant", (Opaque("d", {"type": block}), Text("so")), origin=origin)
    content = conformed(USER, answer, USER, rules=rules).request.messages[1].content
    assert [type(part) for part in content] == ([Opaque, Text] if kept else [Text])


def test_reasoning_alone_is_no_message_but_another_block_alone_is_one() -> None:
    rules = Rules(opaque=("d",))
    for kind, kept in [("thinking", False), ("redacted_thinking", False), ("reasoning", False), ("search", True)]:
        answer = Message("assistant", (Opaque("d", {"type": kind}),), origin="maker/model")
        assert len(conformed(USER, answer, USER, rules=rules).request.messages) == 2 + kept, kind


@pytest.mark.parametrize(
    ("part", "rules", "taken"),
    [
        (Image(data=b"x", media_type="image/png"), Rules(), True),
        (Image(data=b"x", media_type="image/tiff"), Rules(), False),
        (Image(data=b"x", media_type="image/png"), Rules(image_types=()), False),
        (Image(url="https://a.example/x.png"), Rules(), True),
        (Image(url="HTTPS://a.example/x.png"), Rules(), True),
        (Image(url="https://a.example/x.png"), Rules(image_urls=False), False),
        (Image(url="ftp://a.example/x.png"), Rules(), False),
        (File(data=b"x", media_type="application/pdf"), Rules(), False),
        (File(data=b"x", media_type="application/pdf"), Rules(file_types=("application/pdf",)), True),
        (File(url="https://a.example/x.pdf", media_type="application/pdf"), Rules(file_types=("*",)), False),
        (
            File(url="https://a.example/x.pdf", media_type="application/pdf"),
            Rules(file_types=("*",), file_urls=True),
            True,
        ),
    ],
)
def test_an_image_or_file_is_sent_where_its_form_is_taken(part: Image | File, rules: Rules, taken: bool) -> None:
    found = conformed(Message("user", (Text("see"), part)), rules=rules)
    assert (found.request.messages[0].content[1] == part) is taken
    assert bool(found.changes) is not taken


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"firstUser": True}, Rules(first_user=True)),
        ({"first_user": True, "idLength": 9}, Rules(first_user=True, id_length=9)),
        ({"hottest": 1}, Rules(hottest=1)),
        ({"imageTypes": ["image/png"]}, Rules(image_types=("image/png",))),
        ({"refuses": ["seed"]}, Rules(refuses=frozenset({"seed"}))),
        ({"efforts": None, "mostTools": None}, Rules()),
        ({"thinking": "anthropic"}, Rules(thinking="anthropic")),
        ({"systemRole": "developer"}, Rules(system_role="developer")),
        ({"schemas": {"typeLists": False, "items": {}}}, Rules(schemas=SchemaRules(type_lists=False))),
        ({"schemas": SchemaRules(depth=3)}, Rules(schemas=SchemaRules(depth=3))),
    ],
)
def test_rules_are_changed_by_fields_in_snake_or_camel_case(changes: Any, read: Rules) -> None:
    assert overlay(Rules(), changes) == read


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        ({"firstUsr": True}, "$.firstUsr", "unknown key; known: id_pattern, "),
        ({"firstUser": 1}, "$.firstUser", "expected true or false, got int"),
        ({"firstUser": None}, "$.firstUser", "must not be null"),
        ({"idLength": True}, "$.idLength", "expected a whole number, got bool"),
        ({"idLength": 2.5}, "$.idLength", "expected a whole number, got float"),
        ({"hottest": "1"}, "$.hottest", "expected a number, got str"),
        ({"hottest": False}, "$.hottest", "expected a number, got bool"),
        ({"idPrefix": 3}, "$.idPrefix", "expected a text, got int"),
        ({"imageTypes": "image/png"}, "$.imageTypes", "expected a list of texts, got str"),
        ({"imageTypes": ["image/png", 3]}, "$.imageTypes", "expected a list of texts, got list"),
        ({"refuses": {"seed": True}}, "$.refuses", "expected a list of texts, got dict"),
        ({"mostTools": "3"}, "$.mostTools", "expected a whole number, got str"),
        ({"fileForm": "pdf"}, "$.fileForm", "expected a text, got str; one of Literal"),
        ({"schemas": 3}, "$.schemas", "expected an object, got int"),
        ({"schemas": {"typed": "yes"}}, "$.schemas.typed", "expected true or false, got str"),
        ({"schemas": {"items": []}}, "$.schemas.items", "expected an object, got list"),
        ({"idPattern": "("}, "$", "id_pattern is no regular expression: "),
        ({"schemas": {"keyPattern": "("}}, "$.schemas", "key_pattern is no regular expression: "),
    ],
)
def test_a_change_of_the_rules_that_does_not_fit_names_its_path(changes: Any, path: str, problem: str) -> None:
    with pytest.raises(InvalidData) as caught:
        overlay(Rules(), changes)
    (found,) = caught.value.problems
    assert found.path == path
    assert found.message.startswith(problem)
    with pytest.raises(InvalidData):
        VendorRules().with_family("x*", **changes)


def test_a_later_family_overrides_an_earlier_one_for_its_models_only() -> None:
    rules = VendorRules(Rules(hottest=1.5), [("big*", {"hottest": 1.0, "first_user": True})])
    rules = rules.with_family("big-2*", hottest=0.5)
    assert rules.of("small") == Rules(hottest=1.5)
    assert rules.of("Big-1") == Rules(hottest=1.0, first_user=True)
    assert rules.of("big-2b") == Rules(hottest=0.5, first_user=True)


def test_what_was_renamed_in_a_request_is_restored_in_the_answer_and_its_events() -> None:
    tool = ToolSpec(
        name="my tool", description="", parameters={"type": "object", "properties": {"a b": {"type": "array"}}}
    )
    rules = Rules(schemas=SchemaRules(key_pattern="[a-z0-9_]+"))
    found = conformed(rules=rules, tools=(tool,))
    (sent,) = found.request.tools
    (key,) = sent.parameters["properties"]
    assert found.restores
    call = ToolCall(id="c", name=sent.name, arguments=f'{{"{key}": [{{"{key}": 1}}, 2]}}')
    own = ToolCall(id="c", name="my tool", arguments='{"a b":[{"a b":1},2]}')
    assert found.restored_event(ToolCallReady(call)) == ToolCallReady(own)
    assert found.restored_event(ToolCallSealed(call)) == ToolCallSealed(own)
    delta = ToolCallDelta(index=0, id="c", name=sent.name, arguments="{")
    assert found.restored_event(delta) == attrs.evolve(delta, name="my tool")
    other = ToolCallDelta(index=0, id="c", name="look", arguments="{")
    assert found.restored_event(other) is other
    assert found.restored_event(TextDelta("x")) == TextDelta("x")
    for arguments in ("[1]", "{"):
        broken = attrs.evolve(call, arguments=arguments)
        assert found.restored_call(broken) == attrs.evolve(broken, name="my tool")
    assert not conformed(rules=Rules(), tools=(TOOL,)).restores


@pytest.mark.parametrize(("limit", "sent"), [(None, "Look."), (5, "Look."), (4, "Loo…"), (1, "…")])
def test_a_description_is_cut_to_the_longest_that_is_accepted(limit: int | None, sent: str) -> None:
    found = conformed(rules=Rules(description_length=limit), tools=(TOOL,))
    assert found.request.tools[0].description == sent
    assert dict(found.changes) == ({} if sent == TOOL.description else {"tool descriptions cut": 1})


def test_each_change_of_calls_and_tools_is_counted() -> None:
    calls = (ToolCall(id="a b", name="my tool", arguments="null"), ToolCall(id="c", name="look", arguments="{}"))
    history = (
        USER,
        Message.assistant("", tool_calls=calls),
        Message.tool("x", tool_call_id="a b"),
        Message.tool("y", tool_call_id="c"),
    )
    array = {"type": "object", "properties": {"a": {"type": "array", "items": [{"type": "string"}]}}}
    tools = (attrs.evolve(TOOL, name="my tool", parameters=array), TOOL)
    found = conformed(*history, rules=Rules(id_pattern="[a-z]+"), tools=tools)
    assert +found.changes == {
        "call ids rewritten": 1,
        "tool names of calls rewritten": 1,
        "arguments of calls rewritten": 1,
        "tool schemas adapted": 1,
        "tools renamed": 1,
    }
    assert found.request.messages[1].tool_calls[1] is calls[1]


def test_a_call_id_is_made_unique_with_the_prefix_and_length_of_the_target() -> None:
    calls = tuple(ToolCall(id=id_, name="look", arguments="{}") for id_ in ("", "", "a b", "same", "same"))
    history = (
        USER,
        Message.assistant("", tool_calls=calls),
        *(Message.tool("x", tool_call_id=one.id) for one in calls),
    )
    rules = Rules(id_pattern="[a-zA-Z0-9_]+", id_prefix="t_", id_length=12)
    ids = [one.id for one in conformed(*history, rules=rules).request.messages[1].tool_calls]
    assert len(set(ids)) == 5
    assert ids[3] == "same"
    assert {len(one) for one in ids if one != "same"} == {12}
    assert all(one.startswith("t_") for one in ids if one != "same")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        (" null ", "{}"),
        ('" "', "{}"),
        ('"null"', '{"malformed":"\\"null\\""}'),
        ('{"a": 1}', '{"a": 1}'),
        (" \n", "{}"),
    ],
)
def test_arguments_that_are_empty_in_any_form_are_an_empty_object(written: str, sent: str) -> None:
    call = Message.assistant("", tool_calls=(ToolCall(id="call_1", name="look", arguments=written),))
    assert conformed(USER, call, RESULT, rules=Rules()).request.messages[1].tool_calls[0].arguments == sent


@pytest.mark.parametrize(
    ("part", "role", "sent"),
    [
        (Image(), "user", "[image without content]"),
        (File(), "user", "[file without content]"),
        (Image(url="data:image/png;base64,%"), "user", "[image without content]"),
        (Image(url="data:image/png,x"), "user", "[image without content]"),
        (Image(data=b"xy", media_type="image/png"), "assistant", "[image image/png, 2 bytes: not repeated]"),
        (Image(url="https://a.example/" + "x" * 300), "assistant", f"[image image/png, https://a.example/{'x' * 182}: not repeated]"),
        (File(data=b"x", media_type="audio/wav", name="n" * 101), "user", f"[file {'n' * 100} audio/wav, 1 bytes: this model does not take files]"),
        (Image(url="ftp://a.example"), "user", "[image image/png, ftp://a.example: this model does not take such addresses]"),
        (Image(data=b"x", media_type="image/tiff"), "user", "[image image/tiff, 1 bytes: this model does not take this format]"),
        (File(data=b"hi", media_type="text/csv", name="a.csv"), "user", "[file a.csv text/csv, 2 bytes]\nhi"),
        (File(data=b"x" * 400_000, media_type="text/plain"), "user", "[file text/plain, 400000 bytes]\n" + "x" * 400_000),
        (File(data=b"x" * 400_001, media_type="text/plain"), "user", "[file text/plain, 400001 bytes]\n" + "x" * 400_000 + "\n[cut]"),
        (File(data=b"\xff", media_type="text/plain"), "user", "[file text/plain, 1 bytes]\n\ufffd"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_an_image_or_file_that_is_not_taken_is_described_in_its_place(part: Any, role: Any, sent: str) -> None:
    found = conformed(USER, Message(role, (Text("see"), part)), USER, rules=Rules())
    assert found.request.messages[1].content == (Text("see"), Text(sent))
    assert list(found.changes.values()) == [1]


def test_a_data_url_is_sent_as_its_content() -> None:
    found = conformed(Message("user", (Image(url="data:image/png;name=x;base64,aGk="),)), rules=Rules())
    assert found.request.messages[0].content == (Image(data=b"hi", media_type="image/png"),)
    untyped = conformed(Message("user", (Image(url="data:;base64,aGk=", media_type="image/gif"),)), rules=Rules())
    assert untyped.request.messages[0].content == (Image(data=b"hi", media_type="image/gif"),)


def test_blank_texts_beside_other_parts_are_left_out() -> None:
    image = Image(data=b"x", media_type="image/png")
    sent = conformed(Message("user", (Text(" "), image, Text(""))), rules=Rules()).request.messages[0]
    assert sent.content == (image,)
    answer = Message("assistant", (Text(" "), Text("a")))
    assert conformed(USER, answer, USER, rules=Rules()).request.messages[1].content == answer.content


def test_missing_reasoning_of_a_message_with_calls_gets_a_stand_in() -> None:
    dialects = ("openai:reasoning_content", "openai:extra_content")
    rules = Rules(opaque=dialects, reasoning_stand_in="-", signature_stand_in="skip")
    reasoning = Opaque(dialects[0], {"reasoning_content": "-"})
    signed = Opaque(dialects[1], {"call_1": {"google": {"thought_signature": "skip"}}})
    found = conformed(USER, CALL, RESULT, rules=rules)
    assert found.request.messages[1].content == (reasoning, signed)
    assert dict(found.changes)["stand-ins for missing reasoning put in"] == 1
    own = (Opaque(dialects[0], {"reasoning_content": "hm"}), Opaque(dialects[1], {"call_1": {"google": {"thought_signature": "s"}}}))  # fmt: skip
    complete = Message("assistant", own, tool_calls=CALL.tool_calls)
    assert conformed(USER, complete, RESULT, rules=rules).request.messages[1] is complete
    part = Message("assistant", (Opaque(dialects[0], {"reasoning_content": ""}), Opaque(dialects[1], {"x": 1, "call_1": {"google": {}}})), tool_calls=CALL.tool_calls)  # fmt: skip
    filled = conformed(USER, part, RESULT, rules=rules).request.messages[1].content
    assert filled == (reasoning, Opaque(dialects[1], {"x": 1, **signed.block}))
    assert conformed(USER, CALL, RESULT, rules=Rules(opaque=dialects)).request.messages[1] is CALL


def test_signatures_follow_the_ids_of_their_calls() -> None:
    block = Opaque("openai:extra_content", {"a b": {"google": {"thought_signature": "s"}}, "other": 1})
    other = Opaque("openai:reasoning_content", {"a b": "kept"})
    call = Message("assistant", (block, other), tool_calls=(ToolCall(id="a b", name="look", arguments="{}"),))
    rules = Rules(id_pattern="[a-z0-9_]+", opaque=(block.dialect, other.dialect))
    sent = conformed(USER, call, Message.tool("x", tool_call_id="a b"), rules=rules).request.messages[1]
    assert sent.content == (Opaque(block.dialect, {sent.tool_calls[0].id: block.block["a b"], "other": 1}), other)


def test_joined_messages_keep_their_calls_their_origin_and_one_block_of_reasoning() -> None:
    openai = Opaque("openai:reasoning_content", {"reasoning_content": "a"})
    other = Opaque("d", {"type": "search"})
    first = Message("assistant", (openai, other, Text("a")), origin="maker/model")
    again = Message("assistant", (Text("b"),), tool_calls=CALL.tool_calls, origin="maker/model")
    rules = Rules(alternate=True, opaque=("openai:reasoning_content", "d"))
    found = conformed(USER, first, again, RESULT, rules=rules)
    (_, joined, _) = found.request.messages
    assert joined == Message("assistant", (other, Text("a\n\nb")), tool_calls=CALL.tool_calls, origin="maker/model")
    assert +found.changes == {"messages of one role joined": 1}
    plain = attrs.evolve(again, tool_calls=(), origin="maker/other")
    (_, mixed, _) = conformed(USER, first, plain, USER, rules=rules).request.messages
    assert (mixed.content, mixed.origin) == ((openai, other, Text("a\n\nb")), "")


@pytest.mark.parametrize(
    ("content", "calls", "sent"),
    [
        ((Text("a "),), (), (Text("a"),)),
        ((Text("a "), Opaque("d", {"type": "search"})), (), (Text("a"), Opaque("d", {"type": "search"}))),
        ((Text("a "), Text("b ")), (), (Text("a "), Text("b"))),
        ((Opaque("d", {"type": "search"}),), (), (Opaque("d", {"type": "search"}),)),
        ((Text("a"),), (), (Text("a"),)),
    ],
)
def test_only_the_last_text_of_a_begun_answer_loses_its_blank_end(content: Any, calls: Any, sent: Any) -> None:
    begun = Message("assistant", content, tool_calls=calls)
    found = conformed(USER, begun, rules=Rules(blank_end=False, opaque=("d",)))
    assert found.request.messages[-1].content == sent
    assert (found.request.messages[-1] is begun) is (content == sent)
    assert sum(found.changes.values()) == (content != sent)


@pytest.mark.parametrize(
    ("messages", "rules", "change"),
    [
        ((USER, Message.assistant(" "), USER), Rules(), {"blank messages left out": 1}),
        (
            (USER, CALL, Message.tool("", tool_call_id="call_1")),
            Rules(blank_result="x"),
            {"blank tool results filled in": 1},
        ),
        ((SYSTEM, USER), Rules(system_role="user"), {"system messages sent as the user's": 1}),
        ((SYSTEM, USER, SYSTEM, SYSTEM), Rules(system_first=True), {"system messages joined at the beginning": 3}),
        ((USER, USER, USER), Rules(alternate=True), {"messages of one role joined": 2}),
        (
            (USER, CALL, RESULT, SYSTEM, USER),
            Rules(user_after_tool=False),
            {"assistant messages put between results and questions": 1},
        ),
        ((BOT, USER), Rules(first_user=True), {"a first user message put in": 1}),
        ((USER, BOT), Rules(last_user=True), {"a last user message put in": 1}),
        ((USER, CALL), Rules(), {"calls and results paired": 1}),
    ],
)
def test_each_change_of_the_order_is_named_with_its_number(messages: Any, rules: Rules, change: Any) -> None:
    assert +conformed(*messages, rules=rules, tools=(TOOL,)).changes == change


@pytest.mark.parametrize(
    ("messages", "rules"),
    [
        ((SYSTEM, USER), Rules(system_first=True)),
        ((USER,), Rules(system_first=True, system_role="user")),
        ((USER, BOT, USER), Rules(alternate=True, first_user=True, last_user=True, blank_end=False)),
        ((USER, CALL, RESULT, BOT, USER), Rules(user_after_tool=False, calls_after_user=True, blank_result="x")),
        ((USER, CALL, Message.tool("", tool_call_id="call_1")), Rules()),
    ],
)
def test_what_is_accepted_stays_the_same_object(messages: Any, rules: Rules) -> None:
    request = ChatRequest(messages, tools=(TOOL,))
    found = Conformer(VendorRules()).conform(request, rules, origin="maker/model")
    assert found.request is request
    assert not found.changes


def test_images_of_several_results_are_counted_and_described() -> None:
    image, file = Image(data=b"xy"), File(data=b"z", name="a.pdf")
    rules = Rules(file_types=("application/pdf",))
    found = conformed(USER, CALL, Message("tool", (image, file, Text(" ")), tool_call_id="call_1"), rules=rules)
    *_, result, shown = found.request.messages
    assert result.text == (
        "[image image/png, 2 bytes, file a.pdf application/pdf, 1 bytes shown in the message after the tool results]"
    )
    assert shown == Message("user", (image, file))
    assert +found.changes == {"images of tool results sent after them": 2}


@pytest.mark.parametrize("refused", ["temperature", "seed", "reasoning_effort", "thinking_budget", "verbosity", "stop"])
def test_a_refused_option_is_left_out_and_named(refused: str) -> None:
    given: dict[str, Any] = {"temperature": 0.5, "seed": 1, "reasoning_effort": "low", "thinking_budget": 2000, "verbosity": "low", "stop": ("a",)}  # fmt: skip
    found = conformed(rules=Rules(refuses={refused}), **given)
    kept = {name: getattr(found.request, name) for name in given}
    assert kept == given | {refused: () if refused == "stop" else None}
    assert +found.changes == {f"{refused} left out": 1}
    assert not conformed(rules=Rules(refuses={refused})).changes


@pytest.mark.parametrize(
    ("rules", "options", "change"),
    [
        (
            Rules(refuses={"response_schema"}),
            {"response_schema": {"type": "object"}},
            "response_schema written in words",
        ),
        (Rules(efforts=("low",)), {"reasoning_effort": "high"}, "reasoning_effort set to low"),
        (Rules(efforts=()), {"reasoning_effort": "high"}, "reasoning_effort left out"),
        (
            Rules(thinking="anthropic", efforts=()),
            {"reasoning_effort": "high"},
            "reasoning_effort sent as a thinking budget",
        ),
        (
            Rules(thinking="anthropic"),
            {"thinking_budget": 100},
            "thinking left out: the answer's limit leaves no room for it",
        ),
        (Rules(hottest=1.0), {"temperature": 2.0}, "temperature lowered"),
        (Rules(only_temperature=1.0), {"temperature": 2.0}, "temperature left out"),
        (Rules(tool_choices=("auto",)), {"tools": (TOOL,), "tool_choice": "required"}, "tool_choice set to auto"),
    ],
)
def test_a_changed_option_is_named(rules: Rules, options: Any, change: str) -> None:
    assert +conformed(rules=rules, **options).changes == {change: 1}


def test_a_named_tool_that_is_left_out_is_no_longer_chosen() -> None:
    tools = (TOOL, attrs.evolve(TOOL, name="other"))
    assert conformed(rules=Rules(most_tools=1), tools=tools, tool_choice="other").request.tool_choice == "auto"
    assert conformed(rules=Rules(most_tools=1), tools=tools, tool_choice="look").request.tool_choice == "look"


def test_the_rules_of_a_model_are_the_same_object_each_time() -> None:
    conformer = Conformer(VendorRules(Rules(), [("a*", {"first_user": True})]))
    assert conformer.rules("a1") is conformer.rules("a1")
    assert conformer.rules("a1").first_user
    assert not conformer.rules("b").first_user


def test_the_adapted_form_of_a_schema_is_remembered_for_its_object() -> None:
    conformer, rules = Conformer(VendorRules()), Rules()
    tool = attrs.evolve(TOOL, parameters={"type": "object", "properties": {"a": {"type": "str"}}})
    request = ChatRequest(ASK, tools=(tool,))
    first, second = (conformer.conform(request, rules).request.tools[0].parameters for _ in range(2))
    assert first is second
    assert first["properties"] == {"a": {"type": "string"}}


def test_one_request_is_conformed_without_a_conformer() -> None:
    found = conform(ChatRequest(ASK, temperature=2.0, tools=(TOOL,)), Rules(hottest=1.0))
    assert (found.request.temperature, found.request.tools) == (1.0, (TOOL,))
    with pytest.raises(RequestRejected, match="without messages") as empty:
        conform(ChatRequest(()), Rules())
    with pytest.raises(RequestRejected, match="without text, image or file") as blank:
        conform(ChatRequest((*ASK, Message.user(" "))), Rules())
    assert not empty.value.curable_elsewhere
    assert not blank.value.curable_elsewhere
    picture = Message("user", (Text(" "), Image(data=b"x")))
    assert conform(ChatRequest((picture,)), Rules()).request.messages[0].content == (picture.content[1],)


def test_a_request_outside_of_an_agent_is_charged_to_nobody() -> None:
    assert ChatRequest(ASK).sender_id is None
    assert ChatRequest(ASK, auth=AuthContext.local("ana")).sender_id == AuthContext.local("ana").identity
