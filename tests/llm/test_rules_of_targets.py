"""Each rule of a target by itself: what it changes in a request, and where it begins to."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.chat import ChatRequest, File, Image, Message, Opaque, Text, ToolCall, ToolSpec
from clawft_trio.llm.conform.conform import Conformed, Conformer
from clawft_trio.llm.conform.order import BEGINNING, CONTINUE, RECEIVED
from clawft_trio.llm.conform.rules import Rules, VendorRules

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
