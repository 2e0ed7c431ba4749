"""The order of a queue, checked against one list of messages and the rules in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.bus.fair_queue import FairQueue, FifoQueue

LIMIT = 3
SESSIONS = "abc"
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "pop", "pop", "hold", "release", "evict", "remove", "clear"]),
        st.sampled_from(SESSIONS),
        st.booleans(),
    ),
    max_size=60,
)


def among(*, odd: bool) -> Callable[[tuple[str, int]], bool]:
    """Which messages may go: all, or those with an odd number."""
    return lambda item: not odd or item[1] % 2 == 1


class Reference:
    """One list in the order of arrival, the order of turns, and how often each session is held."""

    def __init__(self, *, limited: bool) -> None:
        self.items: list[tuple[str, int]] = []
        self.turns: list[str] = []
        self.held = dict.fromkeys(SESSIONS, 0)
        self.limited = limited

    def of(self, session: str) -> list[tuple[str, int]]:
        return [one for one in self.items if one[0] == session]

    def settle(self) -> None:
        """A session has a turn while it has messages and is not held; a new turn is the last."""
        ready = [one for one in SESSIONS if self.of(one) and not self.held[one]]
        self.turns = [one for one in self.turns if one in ready]

    def give_turn(self, session: str) -> None:
        if self.of(session) and not self.held[session] and session not in self.turns:
            self.turns.append(session)

    def pop(self, *, hold: bool) -> tuple[str, int]:
        if not self.limited:
            return self.items.pop(0)
        session = self.turns.pop(0)
        item = self.of(session)[0]
        self.items.remove(item)
        self.held[session] += hold
        self.give_turn(session)
        return item

    def evict(self, session: str, *, odd: bool) -> tuple[str, int] | None:
        full = self.limited and len(self.of(session)) >= LIMIT
        found = list(filter(among(odd=odd), self.of(session) if full else self.items))
        if not found:
            return None
        self.items.remove(found[0])
        return found[0]


@settings(max_examples=200, deadline=None)
@given(STEPS, st.booleans())
def test_the_queue_does_what_the_rules_say(steps: list[tuple[str, str, bool]], limited: bool) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(lambda item: item[0], weighed=True)
    if limited:
        queue.limit_sessions(LIMIT)
    rules = Reference(limited=limited)
    for number, (step, session, flag) in enumerate(steps):
        match step:
            case "push":
                queue.push(((session, number), number * 10))
                rules.items.append((session, number))
                rules.give_turn(session)
            case "pop" if queue.ready():
                item, weight = queue.pop(hold=flag)
                assert item == rules.pop(hold=flag)
                assert weight == item[1] * 10
            case "hold" if limited:
                queue.hold(session)
                rules.held[session] += 1
            case "release" if rules.held[session]:
                rules.held[session] -= 1
                served = bool(rules.of(session)) and not rules.held[session]
                assert queue.release(session) is served
                rules.give_turn(session)
            case "evict":
                entry = queue.evict(among(odd=flag), (session, number))
                wanted = rules.evict(session, odd=flag)
                assert entry == (None if wanted is None else (wanted, wanted[1] * 10))
            case "remove" if limited:
                found = list(filter(among(odd=flag), rules.of(session)))
                assert list(queue.remove(session, among(odd=flag))) == [(one, one[1] * 10) for one in found]
                rules.items = [one for one in rules.items if one not in found]
            case "clear" if flag:
                assert queue.clear() == [(one, one[1] * 10) for one in rules.items]
                rules.items = []
        rules.settle()
        assert len(queue) == len(rules.items)
        assert sorted(queue) == sorted(rules.items)
        assert queue.ready() == len(rules.turns if limited else rules.items)
        for one in SESSIONS:
            full = limited and len(rules.of(one)) >= LIMIT
            assert queue.is_full_for((one, 0)) is queue.is_session_full(one) is full


def test_what_waits_when_sessions_are_limited_is_served_in_turn() -> None:
    queue: FairQueue[str] = FairQueue(lambda item: item[0], weighed=False)
    for item in ("a1", "a2", "a3", "a4", "b1", "c1"):
        queue.push((item, 0))
    queue.limit_sessions(2)
    assert (len(queue), queue.arrivals.items, queue.session_limit) == (6, type(queue.arrivals.items)(), 2)
    assert [queue.pop()[0] for _ in range(6)] == ["a1", "b1", "c1", "a2", "a3", "a4"]
    assert not queue.ready()


def test_only_the_last_release_of_a_session_with_messages_says_that_it_is_served_again() -> None:
    queue: FairQueue[str] = FairQueue(lambda item: item[0], weighed=False)
    queue.limit_sessions(2)
    queue.hold("a")
    queue.hold("a")
    queue.push("a1")
    assert not queue.release("a")
    assert queue.release("a")
    queue.hold("b")
    assert not queue.release("b")


def test_a_session_that_was_held_and_emptied_gets_a_turn_with_its_next_message() -> None:
    queue: FairQueue[str] = FairQueue(lambda item: item[0], weighed=False)
    queue.limit_sessions(5)
    queue.push(("a1", 0))
    assert queue.pop(hold=True) == ("a1", 0)
    assert queue.release("a") is False
    queue.push(("a2", 0))
    assert queue.ready()
    assert queue.pop() == ("a2", 0)


@pytest.mark.parametrize("weighed", [True, False])
def test_a_fifo_gives_weights_only_when_it_weighs(weighed: bool) -> None:
    queue: FifoQueue[str] = FifoQueue(weighed=weighed)
    for number, item in enumerate("abcd"):
        queue.push((item, number + 5))
    weights = (5, 6, 7, 8) if weighed else (0, 0, 0, 0)
    assert queue.pop() == ("a", weights[0])
    assert queue.evict(lambda item: item == "c") == ("c", weights[2])
    assert queue.evict(lambda item: item == "x") is None
    assert queue.clear() == [("b", weights[1]), ("d", weights[3])]
    assert queue.clear() == []
