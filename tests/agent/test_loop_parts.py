"""The parts of the agent loop by themselves: the intake, and the turns that run."""

from __future__ import annotations

from functools import partial

import attrs
import pytest
import trio

from clawft_trio import open_agent
from clawft_trio.agent.background import open_background
from clawft_trio.agent.intake import Intake
from clawft_trio.agent.journal import turn_id_of
from clawft_trio.agent.running_turns import RunningTurns
from clawft_trio.agent.turn_limiter import TurnLimiter
from clawft_trio.config import Config, parse_config
from clawft_trio.errors import StoreError
from clawft_trio.messages import InboundMessage
from clawft_trio.observe import MessageDropped, Noted, Recorder
from clawft_trio.pipeline import FitnessScorer, NoLearner, NoScorer, TrajectoryLearner
from clawft_trio.testing import ScriptedProvider


def asks(id_: str, chat: str = "1") -> InboundMessage:
    return InboundMessage(channel="test", sender_id="ana", chat_id=chat, id=id_, content="?")


@attrs.define
class Journal:
    """Stores each message once; *error* is raised when one is withdrawn."""

    error: Exception | None = None
    stored: set[str] = attrs.field(factory=set)

    async def accepted(self, message: InboundMessage) -> bool:
        await trio.lowlevel.checkpoint()
        new = message.id not in self.stored
        self.stored.add(message.id)
        return new

    async def withdrawn(self, message: InboundMessage) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.stored.discard(message.id)


def intake(journal: Journal | None = None, *, remembered: int = 2) -> tuple[Intake, Recorder]:
    seen = Recorder()
    return Intake(journal, None, written=set(), remembered=remembered, observer=seen), seen  # type: ignore[arg-type]


async def test_a_stored_message_waits_until_it_is_taken_or_withdrawn() -> None:
    own, seen = intake(Journal())
    assert await own.received(asks("a"))
    assert (own.is_waiting(asks("a")), own.is_waiting(asks("b"))) == (True, False)
    assert (own.take(asks("a")), own.take(asks("a")), own.take(asks("b"))) == (True, False, False)
    assert await own.received(asks("b"))
    await own.withdrawn(asks("b"))
    assert not own.is_waiting(asks("b"))
    assert await own.received(asks("b"))
    assert (own.duplicates, seen.events) == (0, [])


async def test_a_message_that_is_stored_already_is_a_duplicate_and_does_not_wait() -> None:
    own, seen = intake(Journal())
    assert await own.accept(asks("a"))
    assert not await own.accept(asks("a"))
    assert not await own.received(asks("a"))
    assert not own.is_waiting(asks("a"))
    assert own.duplicates == 2
    assert [(event.policy, event.message.id) for event in seen.of(MessageDropped)] == [("duplicate", "a")] * 2


async def test_without_a_journal_every_message_is_new_until_its_id_was_seen() -> None:
    own, seen = intake(remembered=2)
    assert await own.accept(asks("a"))
    assert await own.accept(asks("a"))
    assert [own.is_duplicate(asks(one)) for one in "abab"] == [False, False, True, True]
    # The oldest of three ids is forgotten.
    assert [own.is_duplicate(asks(one)) for one in "cba"] == [False, True, False]
    assert own.duplicates == len(seen.of(MessageDropped)) == 3
    await own.withdrawn(asks("a"))


async def test_a_message_that_cannot_be_withdrawn_is_noted() -> None:
    own, seen = intake(Journal(StoreError("away")))
    await own.received(asks("a"))
    await own.withdrawn(asks("a"))
    assert not own.is_waiting(asks("a"))
    assert [event.what for event in seen.of(Noted)] == ["message not removed from the journal"]


def test_running_turns_are_stopped_one_by_one_by_session_or_all() -> None:
    turns = RunningTurns()
    messages = [asks("a"), asks("b", "2"), asks("c", "2"), asks("d", "3")]
    with (
        turns.run(messages[0]) as a,
        turns.run(messages[1]) as b,
        turns.run(messages[2]) as c,
        turns.run(messages[3]) as d,
    ):
        assert list(turns) == [turn_id_of(message) for message in messages]
        assert (len(turns), turn_id_of(asks("a")) in turns, "other" in turns) == (4, True, False)
        assert (turns.stop(turn_id_of(asks("a")), "first"), turns.stop("other", "first")) == (True, False)
        assert turns.stop_session(messages[1].session_key, "second") == 2
        turns.lose(messages[3].session_key)
        assert turns.stop_all("third") == 4
        assert [one.stopped for one in (a, b, c)] == ["first", "second", "second"]
        assert [one.lost for one in (a, b, c, d)] == [False, False, False, True]
        assert all(one.scope.cancel_called for one in (a, b, c, d))
    assert len(turns) == 0


def test_a_turn_that_began_again_stays_registered_when_its_first_run_ends() -> None:
    turns = RunningTurns()
    first, second = turns.run(asks("a")), turns.run(asks("a"))
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        assert len(turns) == 1
    assert len(turns) == 0


async def test_a_slot_is_freed_once() -> None:
    slots = TurnLimiter(2)
    one, _ = await slots.take(), await slots.take()
    assert slots.free == 0
    one.free()
    one.free()
    assert slots.free == 1


@pytest.mark.parametrize(
    ("pipeline", "scorer", "learner"),
    [
        ({}, NoScorer, NoLearner),
        ({"scorer": "fitness"}, FitnessScorer, NoLearner),
        ({"learner": "trajectory"}, NoScorer, TrajectoryLearner),
    ],
    ids=str,
)
async def test_scorer_and_learner_are_those_of_the_configuration(
    pipeline: dict[str, str], scorer: type, learner: type
) -> None:
    config: Config = parse_config(f'{{"pipeline": {str(pipeline).replace(chr(39), chr(34))}}}')
    model = ScriptedProvider.saying("Hello.", name="p")
    async with open_agent(["p/m"], providers={"p": model}, config=config) as agent:
        models = agent.parts.turns.models
    assert (type(models.scorer), type(models.learner)) == (scorer, learner)


async def test_background_work_is_one_task_of_a_session_and_none_after_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[str] = []
    go_on = trio.Event()

    async def work(name: str, error: Exception | None = None) -> None:
        await go_on.wait()
        done.append(name)
        if error is not None:
            raise error

    async with open_background() as background:
        assert background.start("one", partial(work, "a", StoreError("away")))
        assert not background.start("one", partial(work, "b"))
        assert background.start("two", partial(work, "c", ValueError("a bug")))
        await background.wait("three")
        assert done == []
        go_on.set()
        for session in ("one", "two"):
            await background.wait(session)
        assert sorted(done) == ["a", "c"]
        assert background.start("one", partial(work, "d"))
        await background.wait("one")
    assert not background.start("one", partial(work, "e"))
    assert sorted(done) == ["a", "c", "d"]
    # What may happen is a warning, and a bug has its traceback.
    assert [
        (one.levelname, one.exc_info is not None) for one in sorted(caplog.records, key=lambda one: one.levelno)
    ] == [
        ("WARNING", False),
        ("ERROR", True),
    ]
