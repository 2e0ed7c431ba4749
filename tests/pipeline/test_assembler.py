"""What a model gets of a conversation: mending, trimming, and what is never left out."""

from __future__ import annotations

import json
import re
from hashlib import sha256

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.auth import ADMIN, USER, ZERO_TRUST
from clawft_trio.chat import ChatRequest, Image, Message, Opaque, Text, ToolCall, ToolSpec
from clawft_trio.errors import ContextLengthExceeded, PermissionDenied
from clawft_trio.llm.conform import NO_RESULT, mend
from clawft_trio.pipeline import Target, TokenBudgetAssembler, trim
from clawft_trio.pipeline.assembler import CUT, SHORTEST
from clawft_trio.pipeline.tokens import count_tokens, message_tokens, request_tokens
from clawft_trio.testing import cancel_everywhere
from clawft_trio.testing.machine import in_mock_time

# Few ids, so that answers go astray, come twice and are missing.
ids = st.sampled_from(["a", "b", "c"])
texts = st.text("abc .é漢", max_size=80)
calls = st.lists(ids.map(lambda made: ToolCall(id=made, name="look", arguments='{"q": "x"}')), min_size=1, max_size=3)
message = st.one_of(
    texts.map(Message.system),
    texts.map(Message.user),
    texts.map(Message.assistant),
    st.builds(lambda text, made: Message.assistant(text, tool_calls=tuple(made)), texts, calls),
    st.builds(lambda text, of: Message.tool(text, tool_call_id=of), st.text("xyz", max_size=1500), ids),
)
histories = st.lists(message, max_size=14)
budgets = st.integers(0, 800)


def tokens(messages) -> int:
    return sum(map(message_tokens, messages))


def answers_follow_calls(messages) -> bool:
    """Each call is answered once, right after it and in call order, and nothing else is answered."""
    expected: list[str] = []
    for each in messages:
        if each.role == "tool":
            if not expected or each.tool_call_id != expected.pop(0):
                return False
        elif expected:
            return False
        else:
            expected = [call.id for call in each.tool_calls]
    return not expected


@given(histories)
@settings(deadline=None, max_examples=200)
def test_a_mended_history_answers_every_call_once_and_nothing_else(history) -> None:
    mended = mend(history)
    assert answers_follow_calls(mended)
    assert mend(mended) == mended
    assert [m for m in mended if m.role != "tool"] == [m for m in history if m.role != "tool"]


@given(histories.map(mend), budgets)
@settings(deadline=None, max_examples=300)
def test_what_is_trimmed_keeps_every_promise(history, budget) -> None:
    trimmed = trim(history, budget)
    kept, shortened = trimmed.messages, trimmed.shortened
    assert trimmed.tokens == tokens(kept)
    assert answers_follow_calls(kept)
    assert [m for m in kept if m.role == "system"] == [m for m in history if m.role == "system"]
    assert [m for m in kept if m.role == "user"][-1:] == [m for m in history if m.role == "user"][-1:]
    if tokens(history) <= budget:
        assert (kept, shortened) == (history, 0)
    else:
        assert kept != history or not shortened
    # In order, and nothing in it that was not there, but for shortened tool answers. What goes is the oldest, so
    # what stays is found from the end.
    remaining = reversed(history)
    for each in reversed(kept):
        original = next(m for m in remaining if m == each or (m.role, m.tool_call_id) == ("tool", each.tool_call_id))
        if each != original:
            assert each.role == "tool"
            assert "characters left out" in each.text
            assert message_tokens(each) < message_tokens(original)
    # What has been trimmed is not trimmed further by the same budget.
    if tokens(kept) <= budget:
        assert trim(kept, budget).messages == kept


@given(histories.map(mend), budgets)
@settings(deadline=None, max_examples=200)
def test_it_fits_unless_nothing_more_may_be_left_out(history, budget) -> None:
    kept = trim(history, budget).messages
    if tokens(kept) > budget:
        question = max((n for n, m in enumerate(kept) if m.role == "user"), default=-1)
        assert all(m.role == "system" or n >= question for n, m in enumerate(kept))
        rounds = [m for n, m in enumerate(kept) if n > question and m.role == "assistant"]
        assert len(rounds) <= 1
        assert all(len(m.text) < 300 for m in kept if m.role == "tool")


def pieces(history):
    """*history* as it came: each message by itself, a call together with its results."""
    ends = [n for n in range(1, len(history) + 1) if n == len(history) or history[n].role != "tool"]
    return [history[:end] for end in ends]


@given(histories.map(mend), budgets)
@settings(deadline=None, max_examples=300)
def test_a_longer_history_begins_as_the_shorter_one_until_a_jump(history, budget) -> None:
    before, seen = (), 0
    for grown in pieces(history):
        trimmed = trim(grown, budget)
        # Shortened results are what a last round alone has: the round after it is built from the whole ones.
        if not trimmed.shortened and before is not None and trimmed.messages[: len(before)] != before:
            assert tokens(before) + tokens(grown[seen:]) > budget
        before, seen = None if trimmed.shortened else trimmed.messages, len(grown)


@given(st.lists(st.integers(0, 120), min_size=1, max_size=40), st.integers(60, 600))
@settings(deadline=None, max_examples=200)
def test_a_jump_goes_down_to_half_unless_the_last_two_turns_are_more(sizes, budget) -> None:
    history: list[Message] = []
    before = 0
    for number, size in enumerate(sizes):
        turn = [Message.user("a" * size), Message.assistant(f"{number}")]
        for message in turn:
            history.append(message)
            kept = trim(history, budget).messages
            start = len(history) - len(kept)
            if start != before:
                assert tokens(history[before:]) > budget
                assert tokens(kept) <= budget // 2 or sum(m.role == "user" for m in kept) <= 2
                assert kept[0].role == "user"
            before = start


def test_whole_turns_go_first_and_the_oldest_of_them_first() -> None:
    history = [
        Message.system("be kind"),
        Message.user("first " * 50),
        Message.assistant("one " * 50),
        Message.user("second " * 50),
        Message.assistant("two " * 50),
        Message.system("a skill"),
        Message.user("now"),
    ]
    kept = trim(history, tokens(history) - 1).messages
    assert kept == (history[0], *history[3:])
    assert trim(history, 0).messages == (history[0], history[5], history[6])


def call(call_id: str) -> ToolCall:
    return ToolCall(id=call_id, name="look")


def tool_rounds(count: int, size: int = 4000) -> list[tuple[Message, Message]]:
    return [
        (Message.assistant("", tool_calls=(call(f"r{n}"),)), Message.tool("x" * size, tool_call_id=f"r{n}"))
        for n in range(count)
    ]


def test_in_a_long_tool_loop_old_results_become_one_line_each() -> None:
    question, rounds = Message.user("Which file holds the bug?"), tool_rounds(5)
    history = [question, *(m for pair in rounds for m in pair)]
    trimmed = trim(history, 1200)
    assert [m for m in trimmed.messages if m.role != "tool"] == [m for m in history if m.role != "tool"]
    *cleared, last = [m for m in trimmed.messages if m.role == "tool"]
    assert last == rounds[-1][1]
    assert {m.text for m in cleared} == {"[Result of look({}), 4000 characters, cleared to save space.]"}
    assert (trimmed.shortened, trimmed.tokens <= 1200) == (0, True)


def test_then_rounds_go_but_never_the_question_and_the_last_round() -> None:
    question, rounds = Message.user("Which file holds the bug?"), tool_rounds(50)
    history = [question, *(m for pair in rounds for m in pair)]
    trimmed = trim(history, 1000)
    assert trimmed.messages[0] == question
    assert trimmed.messages[-2:] == rounds[-1]
    assert 4 < len(trimmed.messages) < len(history)
    trimmed = trim(history, 400)
    assert trimmed.messages[:2] == (question, rounds[-1][0])
    assert (trimmed.tokens <= 400, trimmed.shortened) == (True, 1)
    assert trimmed.messages[2].text.startswith("xxx")
    assert trimmed.messages[2].text.endswith("xxx")


def test_the_tokens_of_a_shortened_result_are_counted_as_it_is_sent() -> None:
    history = [Message.user("?"), *tool_rounds(1)[0]]
    trimmed = trim(history, 400)
    assert trimmed.shortened == 1
    assert trimmed.tokens == tokens(trimmed.messages)
    assert 300 < trimmed.tokens <= 400


def test_the_longest_answer_is_cut_first() -> None:
    history = [
        Message.user("?"),
        Message.assistant("", tool_calls=(call("a"), call("b"))),
        Message.tool("short", tool_call_id="a"),
        Message.tool("y" * 9000, tool_call_id="b"),
    ]
    trimmed = trim(history, 500)
    kept, shortened = trimmed.messages, trimmed.shortened
    assert kept[2] == history[2]
    assert shortened == 1
    assert tokens(kept) <= 500


def test_a_cut_answer_loses_its_middle_and_no_more_than_it_must() -> None:
    text = " ".join(f"line{number}" for number in range(2000))
    history = [
        Message.user("?"),
        Message.assistant("", tool_calls=(call("a"),)),
        Message.tool(text, tool_call_id="a"),
    ]
    trimmed = trim(history, 1000)
    first, _, last = trimmed.messages[2].text.partition("[")
    last = last.partition("]")[2]
    assert text.startswith(first.rstrip())
    assert text.endswith(last.lstrip())
    assert abs(len(first) - len(last)) <= 5
    assert 990 <= tokens(trimmed.messages) <= 1000


def test_a_cut_answer_keeps_its_images() -> None:
    image = Image(url="https://example.org/a.png")
    history = [
        Message.user("?"),
        Message.assistant("", tool_calls=(call("a"),)),
        Message("tool", (Text("y" * 9000), image), tool_call_id="a"),
    ]
    assert image in trim(history, 2200).messages[2].content


def test_an_unanswered_call_is_answered_and_a_stray_answer_goes() -> None:
    asked = Message.assistant("", tool_calls=(call("a"), call("b")))
    history = [
        Message.tool("from before", tool_call_id="z"),
        Message.user("?"),
        asked,
        Message.tool("B", tool_call_id="b"),
        Message.user("hurry"),
        Message.tool("B again", tool_call_id="b"),
    ]
    assert mend(history) == (
        Message.user("?"),
        asked,
        Message.tool(NO_RESULT, tool_call_id="a"),
        Message.tool("B", tool_call_id="b"),
        Message.user("hurry"),
    )


def test_ids_used_again_in_a_later_round_find_their_own_answers() -> None:
    first = Message.assistant("", tool_calls=(call("call_0"),))
    history = (
        Message.user("?"),
        first,
        Message.tool("one", tool_call_id="call_0"),
        first,
        Message.tool("two", tool_call_id="call_0"),
    )
    assert mend(history) == history


SMALL = Target("local", "llama3.2", max_context_tokens=2000)
LARGE = Target("cloud", "big", max_context_tokens=200_000)
OPEN = Target("cloud", "unknown")


async def test_the_budget_is_the_routed_models_and_not_the_largest_ones() -> None:
    request = ChatRequest([Message.user("old " * 2000), Message.assistant("yes"), Message.user("new")])
    small = await TokenBudgetAssembler().assemble(request, SMALL, ADMIN)
    large = await TokenBudgetAssembler().assemble(request, LARGE, ADMIN)
    assert (small.request.messages, small.dropped, small.truncated) == ((Message.user("new"),), 2, True)
    assert (large.request.messages, large.truncated) == (request.messages, False)
    assert (small.request.model, large.request.model) == ("llama3.2", "big")


async def test_tools_and_the_answers_share_come_out_of_the_window() -> None:
    tool = ToolSpec(name="read", description="d" * 2500)
    request = ChatRequest([Message.user("a" * 2500), Message.user("b" * 2500)], max_tokens=600)
    without = await TokenBudgetAssembler().assemble(request, SMALL, ADMIN)
    with_tools = await TokenBudgetAssembler().assemble(attrs.evolve(request, tools=[tool]), SMALL, ADMIN)
    with_output = await TokenBudgetAssembler().assemble(attrs.evolve(request, max_tokens=1000), SMALL, ADMIN)
    assert (without.dropped, with_tools.dropped, with_output.dropped) == (0, 1, 1)
    for fitted in (without, with_tools, with_output):
        assert fitted.token_estimate + fitted.request.max_tokens <= 2000
        assert fitted.token_estimate == request_tokens(fitted.request)


@pytest.mark.parametrize(
    ("asked", "target", "permissions", "expected"),
    [
        (None, OPEN, ZERO_TRUST, 1024),
        (None, OPEN, USER, 4096),
        (500, OPEN, USER, 500),
        (100_000, OPEN, USER, 4096),
        (None, SMALL, ADMIN, 1000),
        (1500, SMALL, ADMIN, 1000),
        (1500, Target("tiny", "one", max_context_tokens=1500), ADMIN, 750),
    ],
)
async def test_the_answer_is_limited_by_request_permission_and_half_the_window(
    asked, target, permissions, expected
) -> None:
    request = ChatRequest([Message.user("hi")], max_tokens=asked)
    assembled = await TokenBudgetAssembler().assemble(request, target, permissions)
    assert assembled.request.max_tokens == expected


async def test_a_sender_may_send_no_more_than_its_permission() -> None:
    request = ChatRequest([Message.user("a " * 12_000), Message.assistant("ok"), Message.user("b")])
    assembled = await TokenBudgetAssembler().assemble(request, LARGE, ZERO_TRUST)
    assert assembled.token_estimate <= ZERO_TRUST.max_context_tokens
    assert assembled.request.messages == (Message.user("b"),)


@pytest.mark.parametrize(
    ("target", "permissions", "elsewhere"),
    [(SMALL, ADMIN, True), (LARGE, USER, False), (SMALL, ZERO_TRUST, True), (LARGE, ZERO_TRUST, False)],
)
async def test_what_cannot_fit_is_not_sent(target, permissions, elsewhere) -> None:
    request = ChatRequest([Message.user("漢" * 20_000)])
    with pytest.raises(ContextLengthExceeded) as caught:
        await TokenBudgetAssembler().assemble(request, target, permissions)
    assert caught.value.target == target.name
    assert caught.value.curable_elsewhere is elsewhere
    assert not caught.value.retryable


async def test_no_output_permitted_is_a_refusal() -> None:
    with pytest.raises(PermissionDenied):
        await TokenBudgetAssembler().assemble(
            ChatRequest([Message.user("hi")]), OPEN, attrs.evolve(USER, max_output_tokens=0)
        )


@pytest.mark.parametrize(("wanted", "allowed", "sent"), [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0)])
async def test_streaming_needs_wish_and_permission(wanted, allowed, sent) -> None:
    request = ChatRequest([Message.user("hi")], stream=bool(wanted))
    permissions = attrs.evolve(USER, streaming_allowed=bool(allowed))
    assembled = await TokenBudgetAssembler().assemble(request, OPEN, permissions)
    assert assembled.request.stream is bool(sent)


async def test_another_tokenizer_counts_when_it_is_handed_in() -> None:
    request = ChatRequest([Message.user("a b c"), Message.user("d")])
    every_character = TokenBudgetAssembler(count=lambda text: len(text) * 4000)
    with pytest.raises(ContextLengthExceeded):
        await every_character.assemble(request, SMALL, ADMIN)


@given(histories, st.integers(50, 3000))
@settings(deadline=None, max_examples=100)
@in_mock_time
async def test_what_is_assembled_fits_or_is_refused(history, window) -> None:
    target = Target("p", "m", max_context_tokens=window)
    try:
        assembled = await TokenBudgetAssembler().assemble(ChatRequest(history), target, ADMIN)
    except ContextLengthExceeded:
        return
    assert assembled.token_estimate + assembled.request.max_tokens <= window
    assert answers_follow_calls(assembled.request.messages)


async def test_assembling_can_be_cancelled_anywhere() -> None:
    async def assemble() -> None:
        await TokenBudgetAssembler().assemble(ChatRequest([Message.user("hi")]), OPEN, USER)

    assert await cancel_everywhere(assemble, trio.lowlevel.checkpoint) >= 1


# Text, and its tokens by o200k_base (tiktoken 0.14).
COUNTED = {
    "english": (
        "Providers fail, streams break, tools hang, servers crash, callers change their mind, and still every message "
        "gets one honest reply. " * 5,
        131,
    ),
    "german": (
        "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller staatlichen "
        "Gewalt. " * 5,
        126,
    ),
    "python": (
        "    async def run(self, attempt: Attempt[T], call: Call) -> T:\n        for retry in range(self.max_retries + 1)"
        ":\n            try:\n                return await attempt(call)\n            except ProviderError as exc:\n"
        "                await trio.sleep(self.wait_before(retry))\n" * 5,
        285,
    ),
    "json": (
        json.dumps([{"id": n, "name": f"user{n}", "mail": f"ana{n}@example.org", "active": True} for n in range(30)]),
        811,
    ),
    "csv": (
        "\n".join(f"{n},user{n},ana{n}@example.org,{n * 1.5:.2f},2026-11-{n % 28 + 1:02d}" for n in range(40)),
        799,
    ),
    "log": (
        "\n".join(
            f"2026-11-21T22:{n:02d}:01.{n * 13 % 1000:03d}Z INFO worker[{n}] GET /v1/items/{n * 37} 200 {n}ms"
            for n in range(40)
        ),
        1331,
    ),
    "html": ('<div class="row"><a href="/x/y?z=1">Hello</a></div>\n' * 20, 420),
    "hex": ("\n".join(sha256(bytes([n])).hexdigest() for n in range(20)), 748),
}
ELSEWHERE = {
    "russian": ("Все люди рождаются свободными и равными в своем достоинстве и правах. " * 5, 86),
    "japanese": ("今日の天気はどうですか。私は明日東京に行きます。新しい本を読みたいです。" * 5, 130),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_the_estimate_is_near_what_a_tokenizer_counts(kind) -> None:
    text, counted = COUNTED[kind]
    assert 0.8 <= count_tokens(text) / counted <= 1.3


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_other_scripts_are_rather_estimated_too_high(kind) -> None:
    text, counted = ELSEWHERE[kind]
    assert 1.0 <= count_tokens(text) / counted <= 2.3


@given(st.text(max_size=50), st.text(max_size=50))
@settings(deadline=None, max_examples=200)
def test_more_text_is_never_fewer_tokens(one, other) -> None:
    assert max(count_tokens(one), count_tokens(other)) <= count_tokens(one + other)
    assert count_tokens(one + other) <= count_tokens(one) + count_tokens(other)
    assert (count_tokens(one) == 0) is (one == "")


def test_everything_in_a_message_counts() -> None:
    bare = message_tokens(Message.user(""))
    for content in (Text("hello"), Image(url="https://example.org/a.png"), Opaque("anthropic", {"thinking": "x" * 99})):
        assert message_tokens(Message.user(content)) > bare
    assert message_tokens(Message.assistant("", tool_calls=(call("a"),))) > bare


@pytest.mark.parametrize("length", [SHORTEST - 1, SHORTEST, 5000])
@pytest.mark.parametrize("budget", [0, 100, 300, 301])
def test_what_a_cut_answer_keeps_is_half_its_beginning_and_half_its_end(length: int, budget: int) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(length))
    history = [Message.user("?"), Message.assistant("", tool_calls=(call("a"),)), Message.tool(text, tool_call_id="a")]
    cut = trim(history, budget).messages[2].text
    found = re.fullmatch(r"(\w*)\n\[\.\.\. (\d+) characters left out to fit \.\.\.\]\n(\w*)", cut)
    if length <= SHORTEST:
        assert cut == text
        return
    assert found is not None
    first, left_out, last = found.groups()
    assert len(first) + int(left_out) + len(last) == length
    assert 0 <= len(first) - len(last) <= 1
    assert text.startswith(first)
    assert text.endswith(last)
    kept = len(first) + len(last)
    if budget == 0:
        assert kept == SHORTEST
    else:
        more = f"{first}..{CUT.format(length - kept - 2)}{last}"
        assert tokens([*history[:2], Message.tool(cut, tool_call_id="a")]) <= budget
        assert tokens([*history[:2], Message.tool(more, tool_call_id="a")]) > budget - 1
