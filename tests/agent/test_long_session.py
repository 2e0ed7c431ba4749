"""Sessions of any length: what is sent fits, is in order, begins as before, and costs no more in the end."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings, strategies as st
from judged import ScriptedProvider

from clawft_trio import Config, TurnPolicy, open_agent, tool
from clawft_trio.agent import CompactionPolicy
from clawft_trio.agent.sessions import MemorySessions
from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_types import TurnRequest
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.pipeline import OneProvider, Pipeline, StaticRouter, Windows, by_pattern
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.testing import CallTool, Finish, Say
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.tools import ToolRegistry

SUMMARY = "You summarize"


@tool(mode="read_only")
async def look(size: int) -> str:
    """Look."""
    await trio.lowlevel.checkpoint()
    return "r" * size


def in_pairs(messages: Sequence[Message]) -> bool:
    """Whether each call is answered once, right after it, in call order."""
    expected: list[str] = []
    for message in messages:
        if message.role == "tool":
            if not expected or message.tool_call_id != expected.pop(0):
                return False
        elif expected:
            return False
        else:
            expected = [call.id for call in message.tool_calls]
    return not expected


# A turn: the characters of the question, of each tool result, and of the answer.
spoken = st.tuples(st.integers(1, 300), st.lists(st.integers(0, 2500), max_size=3), st.integers(1, 300))


class Talker:
    """A model that plays turns, keeps what it was sent, and writes a fixed summary."""

    def __init__(self, turns: Sequence[tuple[int, list[int], int]]) -> None:
        self.provider = ScriptedProvider(choose=self._choose, name="p")
        self.turns = turns
        #: by turn
        self.requests: list[list[ChatRequest]] = []

    def _choose(self, request: ChatRequest):
        if SUMMARY in request.messages[0].text:
            return [Say("s" * 200), Finish()]
        self.requests[-1].append(request)
        _, results, answer = self.turns[len(self.requests) - 1]
        done = len(self.requests[-1]) - 1
        if done < len(results):
            name = f"c{len(self.requests)}.{done}"
            return [CallTool("look", {"size": results[done]}, id=name), Finish()]
        return [Say("a" * answer), Finish()]


@given(
    st.lists(spoken, min_size=1, max_size=25),
    st.integers(1500, 8000),
    st.one_of(st.integers(0, 12), st.just(500)),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
@in_mock_time
async def test_what_is_sent_fits_and_changes_only_at_jumps(turns, window, memory_window, summarizing) -> None:
    talker = Talker(turns)
    compaction = CompactionPolicy() if summarizing else CompactionPolicy(compactor=None)
    sessions = MemorySessions()
    agent = Turns(
        models=Pipeline(
            router=StaticRouter(["p/m"]),
            transport=OneProvider(talker.provider),
            windows=Windows(by_pattern({"p/*": window})),
        ),
        tools=ToolRegistry([look]),
        history=sessions,
        policy=TurnPolicy(memory_window=memory_window, compaction=compaction, max_tokens=200),
    )
    for number, (asked, _, _) in enumerate(turns):
        talker.requests.append([])
        question = TurnRequest(
            content=Message.user(f"{number} " + "q" * asked),
            auth=AuthContext.local(),
            session="s",
            turn_id=f"t{number}",
        )
        await agent.answer(question, Call())
    before: tuple[Message, ...] = ()
    jumped = 0
    for requests in talker.requests:
        earlier = [m for m in requests[0].messages[:-1] if m.role != "system"]
        assert len(earlier) <= memory_window
        for request in requests:
            assert request_tokens(request) + (request.max_tokens or 0) <= window
            assert request.messages[0].role == "user"
            assert in_pairs(request.messages)
            if request.messages[: len(before)] != before:
                jumped += 1
            before = request.messages
    if memory_window == 500 and sum(q + sum(r) + a for q, r, a in turns) < window:
        assert jumped == 0
    stored = await sessions.history("s")
    assert sum(message.role == "user" for message in stored) == len(turns)


async def run(path: Path, turns: int) -> tuple[list[int], list[float], list[int]]:
    """Tokens of each request, CPU seconds of each turn on the loop, and objects alive after each tenth, on SQLite."""
    sizes: list[int] = []

    def choose(request: ChatRequest):
        if SUMMARY in request.messages[0].text:
            known = "the word is orange" if "orange" in request.messages[1].text else "nothing"
            return [Say(f"Summary: {known}."), Finish()]
        sizes.append(request_tokens(request))
        last = request.messages[-1]
        if last.role == "user" and " look" in last.text:
            return [CallTool("look", {"size": 1500}, id=f"c{len(sizes)}"), Finish()]
        known = any("orange" in message.text for message in request.messages)
        return [Say(f"{'known' if known else 'unknown'} " + "word " * 40), Finish()]

    config = Config(context_windows={"p/*": 8000})
    provider = ScriptedProvider(choose=choose, name="p")
    seconds: list[float] = []
    memory: list[int] = []
    async with open_agent(
        ["p/m"],
        providers={"p": provider},
        tools=[look],
        config=config,
        store=path / "s.db",
        turn=TurnPolicy(max_tokens=500),
    ) as agent:
        for number in range(turns):
            began = time.thread_time()
            first = "Remember: the word is orange." if number == 0 else ""
            reply = await agent.ask(f"{first} question {number} {'look' if number % 3 == 0 else ''}", session="s")
            seconds.append(time.thread_time() - began)
            assert reply.text.startswith("known")
            provider.requests.clear()
            if number % (turns // 10) == 0:
                gc.collect()
                memory.append(len(gc.get_objects()))
        assert sum(m.role == "user" for m in await agent.history("s")) == turns
    return sizes, seconds, memory


async def test_a_session_of_a_hundred_turns_stays_within_its_window(tmp_path: Path) -> None:
    sizes, _, _ = await run(tmp_path, 100)
    assert max(sizes) <= 7500
    # Later turns are no longer than earlier ones: the window is full after the first thirty.
    assert max(sizes[70:]) <= max(sizes[:70]) * 1.1


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_a_session_of_two_thousand_turns_is_flat_in_cost_and_memory(tmp_path: Path) -> None:
    sizes, seconds, memory = await run(tmp_path, 2000)
    half = len(sizes) // 2
    assert sum(sizes[half:]) <= sum(sizes[:half]) * 1.1
    # Compared to each other, in one run: the second thousand of turns and the first.
    assert sum(seconds[1000:]) <= sum(seconds[:1000]) * 1.3
    assert memory[-1] <= memory[2] * 1.1
    print(
        f"tokens {sum(sizes[:half])} and {sum(sizes[half:])}, seconds {sum(seconds[:1000]):.1f} and "
        f"{sum(seconds[1000:]):.1f}, objects {memory}"
    )
