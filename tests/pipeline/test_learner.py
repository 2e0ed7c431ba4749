"""What is remembered of rounds: a bounded ring, and what people thought of them."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio

from clawft_trio.attempts import Latency
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import ServerError
from clawft_trio.pipeline import QualityScore, ResponseOutcome, RoutingDecision, Target, TrajectoryLearner

DECISION = RoutingDecision((Target("p", "a"), Target("p", "b")), sender_id="telegram:ana")


def outcome(quality: float | None = 0.9, ending: str = "ok", answered_by: str = "p/a", **kwargs) -> ResponseOutcome:
    score = None if quality is None else QualityScore(quality)
    return ResponseOutcome(ending=ending, latency=Latency(total=1.0), quality=score, answered_by=answered_by, **kwargs)


def ask(text: str = "hi") -> ChatRequest:
    return ChatRequest([Message.system("secret instructions"), Message.user(text)])


async def test_the_oldest_is_forgotten_first() -> None:
    learner = TrajectoryLearner(capacity=3)
    for n in range(10):
        learner.record(ask(), DECISION, outcome(), Call(id=f"c{n}"))
    assert [t.call_id for t in learner.trajectories] == ["c7", "c8", "c9"]
    assert learner.statistics().recorded == 10


async def test_a_trajectory_is_a_note_and_not_the_conversation() -> None:
    learner = TrajectoryLearner()
    request = ask("why " * 10_000)
    gone = weakref.ref(request.messages[1].content[0])
    learner.record(request, DECISION, outcome(), Call(id="c"))
    (trajectory,) = learner.trajectories
    assert len(trajectory.question) == 200
    assert "secret" not in repr(trajectory) and "why" not in repr(trajectory)
    del request
    gc.collect()
    assert gone() is None


async def test_a_failed_round_is_worth_nothing_and_a_cancelled_one_is_not_judged() -> None:
    learner = TrajectoryLearner()
    learner.record(ask(), DECISION, outcome(None, "failed", "", error=ServerError("down")), Call(id="failed"))
    learner.record(ask(), DECISION, outcome(None, "cancelled", ""), Call(id="cancelled"))
    learner.record(ask(), DECISION, outcome(0.5), Call(id="poor"))
    learner.record(ask(), DECISION, outcome(0.9), Call(id="good"))
    assert [t.call_id for t in learner.poor()] == ["failed", "poor"]
    assert [t.error for t in learner.trajectories] == ["ServerError", "", "", ""]


async def test_feedback_counts_more_than_the_score() -> None:
    learner = TrajectoryLearner()
    learner.record(ask(), DECISION, outcome(0.9), Call(id="c"))
    assert learner.feedback("c", -1.0)
    assert [t.value for t in learner.poor()] == [0.0]
    assert learner.feedback("c", 1.0)
    assert learner.poor() == ()


async def test_feedback_on_what_is_forgotten_says_so() -> None:
    learner = TrajectoryLearner(capacity=1)
    learner.record(ask(), DECISION, outcome(), Call(id="one"))
    learner.record(ask(), DECISION, outcome(), Call(id="two"))
    assert not learner.feedback("one", 1.0)
    assert learner.feedback("two", 1.0)


@pytest.mark.parametrize("value", [-1.1, 1.1, float("nan")])
async def test_feedback_out_of_range_is_refused(value) -> None:
    with pytest.raises(ValueError):
        TrajectoryLearner().feedback("c", value)


async def test_the_value_of_each_target_is_told() -> None:
    learner = TrajectoryLearner()
    for n, (quality, target) in enumerate([(1.0, "p/a"), (0.5, "p/a"), (0.2, "p/b")]):
        learner.record(ask(), DECISION, outcome(quality, answered_by=target), Call(id=str(n)))
    learner.record(ask(), DECISION, outcome(None, "failed", ""), Call(id="x"))
    assert learner.statistics().value_by_target == {"p/a": 0.75, "p/b": 0.2}
    assert (learner.statistics().poor, learner.statistics().remembered) == (3, 4)


async def test_a_turns_rounds_are_remembered_apart_and_judged_together() -> None:
    learner = TrajectoryLearner()
    for call in (Call(id="one", turn_id="t"), Call(id="two", turn_id="t"), Call(id="other"), Call()):
        learner.record(ask(), DECISION, outcome(), call)
    assert learner.feedback("t", -1.0) == 2
    assert learner.feedback("two", 0.5) == 1
    assert [t.feedback for t in learner.trajectories] == [-1.0, 0.5, None, None]


async def test_feedback_about_nothing_is_about_nothing() -> None:
    learner = TrajectoryLearner()
    learner.record(ask(), DECISION, outcome(), Call())
    assert learner.feedback("", 1.0) == 0


def test_a_ring_without_room_is_refused() -> None:
    with pytest.raises(ValueError):
        TrajectoryLearner(capacity=0)


async def test_it_is_remembered_when(autojump_clock) -> None:
    await trio.sleep(5)
    learner = TrajectoryLearner()
    learner.record(ask(), DECISION, outcome(), Call(id="c"))
    assert learner.trajectories[0].at == 5
