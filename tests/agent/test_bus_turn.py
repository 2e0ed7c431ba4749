"""The turn of a message from the bus: what goes to the channel while it runs, and with its reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest
import trio

from clawft_trio.agent import BusTurn, Reply
from clawft_trio.agent.turn_types import TurnRequest
from clawft_trio.attempts import Latency
from clawft_trio.chat import Call, ChatResponse, Message, Reset, TextDelta
from clawft_trio.errors import BusFull, ServerError, StoreError
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import Recorder
from clawft_trio.pipeline import PermissionResolver
from clawft_trio.pipeline.permissions import PermissionOverrides, PermissionsPolicy

ASKED = InboundMessage(channel="test", sender_id="ana", chat_id="1", id="m1", content="hello")


async def silent(_: Call) -> None:
    await trio.lowlevel.checkpoint()


@attrs.define
class Turns:
    """Answers every question; *speak* shows pieces of the answer before."""

    speak: Callable[[Call], Awaitable[None]] = silent
    cost: Decimal | None = None
    workspace: None = None
    asked: list[TurnRequest] = attrs.field(factory=list)

    async def answer(self, question: TurnRequest, call: Call) -> Reply[None]:
        self.asked.append(question)
        await self.speak(call)
        return Reply(
            text="Hello.",
            finish_reason="stop",
            provider="p",
            model="m",
            usage=None,
            cost=self.cost,
            latency=Latency(total=1.5),
            attempts=(),
            tools=(),
            rounds=(),
            session=question.session,
            turn_id=question.turn_id,
        )


@attrs.define
class Context:
    """Collects what goes to the channel, each with its time; *error* is raised by the first."""

    resumed: bool = False
    error: Exception | None = None
    turn_id: str = "t"
    observer: Recorder = attrs.field(factory=Recorder)
    shown: list[tuple[float, str, str]] = attrs.field(factory=list)

    async def show(self, kind: str, content: str = "", **_: Any) -> bool:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.shown.append((round(trio.current_time() % 1000, 3), kind, content))
        return True


@attrs.define
class Costs:
    error: Exception | None = None
    taken_over: list[str] = attrs.field(factory=list)

    async def take_over(self, turn_id: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.taken_over.append(turn_id)


def permissions(*, streaming: bool = True) -> PermissionResolver:
    return PermissionResolver(PermissionsPolicy(zero_trust=PermissionOverrides(streaming_allowed=streaming)))


async def answered(
    turns: Turns,
    context: Context,
    *,
    message: InboundMessage = ASKED,
    costs: Costs | None = None,
    streaming: bool = True,
) -> OutboundMessage:
    return await BusTurn(turns=turns, permissions=permissions(streaming=streaming), costs=costs)(message, context)


async def spoken(*deltas: tuple[float, str | None]) -> list[tuple[float, str, str]]:
    """What is shown of pieces of text, each after a wait; None is text taken back."""

    async def speak(call: Call) -> None:
        for wait, text in deltas:
            await trio.sleep(wait)
            await call.emit(Reset(ChatResponse(), ServerError("down")) if text is None else TextDelta(text))

    context = Context()
    await answered(Turns(speak), context)
    return context.shown


async def test_text_is_shown_at_once_and_then_four_times_a_second(autojump_clock: object) -> None:
    shown = await spoken((0, "a"), (0.1, "b"), (0.1, "c"), (0.1, "d"), (0.1, "e"), (10, "f"), (0.2, "g"), (0.1, "h"))
    start = shown[0][0]
    assert [(round(at - start, 3), text) for at, _, text in shown] == [
        (0, "a"),
        (0.3, "bcd"),
        (10.4, "ef"),
        (10.7, "gh"),
    ]
    assert {kind for _, kind, _ in shown} == {"partial"}


async def test_text_that_is_taken_back_is_not_shown_later(autojump_clock: object) -> None:
    shown = await spoken((0, "a"), (0.1, "b"), (0.1, None), (0.1, "c"))
    assert [(kind, text) for _, kind, text in shown] == [("partial", "a"), ("reset", ""), ("partial", "c")]


async def test_without_the_permission_nothing_is_shown_before_the_reply() -> None:
    async def speak(call: Call) -> None:
        await call.emit(TextDelta("a"))

    context = Context(resumed=True)
    reply = await answered(Turns(speak), context, streaming=False)
    assert (reply.content, context.shown) == ("Hello.", [])


@pytest.mark.parametrize("error", [None, BusFull("full")])
async def test_what_an_earlier_process_has_shown_is_taken_back(error: Exception | None) -> None:
    context = Context(resumed=True, error=error)
    assert (await answered(Turns(), context)).content == "Hello."
    assert [kind for _, kind, _ in context.shown] == ([] if error else ["reset"])


@pytest.mark.parametrize(
    ("resumed", "error", "taken_over"),
    [(True, None, ["t"]), (False, None, []), (True, StoreError("away"), [])],
)
async def test_a_resumed_turn_takes_over_the_reservations_of_its_earlier_process(
    resumed: bool, error: Exception | None, taken_over: list[str]
) -> None:
    costs = Costs(error)
    assert (await answered(Turns(), Context(resumed=resumed), costs=costs)).content == "Hello."
    assert costs.taken_over == taken_over


@pytest.mark.parametrize(("cost", "told"), [(None, {}), (Decimal("0.25"), {"cost_usd": "0.25"})])
async def test_the_reply_names_its_model_its_time_and_its_cost(cost: Decimal | None, told: dict[str, str]) -> None:
    reply = await answered(Turns(cost=cost), Context())
    assert (reply.channel, reply.chat_id) == ("test", "1")
    assert reply.metadata == {"provider": "p", "model": "m", "latency_ms": 1500.0, "finish_reason": "stop", **told}


@pytest.mark.parametrize("media", [(), ("data:,rain",)])
async def test_the_question_has_the_text_and_the_attachments(media: tuple[str, ...]) -> None:
    turns = Turns()
    await answered(turns, Context(), message=attrs.evolve(ASKED, media=media))
    (question,) = turns.asked
    assert (question.session, question.turn_id, question.auth.sender_id) == (ASKED.session_key, "t", "ana")
    if media:
        assert [part.text.strip() for part in question.content.content] == ["hello", "[attachment text/plain]\nrain"]
    else:
        assert question.content == Message.user("hello")
