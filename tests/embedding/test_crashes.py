"""What reaches an app when a part of the agent in it crashes.

The policy; `.github/docs/failures.md` has it as a table:

1. What a part does wrong stays with that part: a tool's error is told to the model, an observer's is logged, a
   channel's is tried again, a server's is an answer to its calls.
2. What a caller must know is raised to that caller: one error, as it was raised, never in a group of ours. A message
   of the bus has no caller; it gets a failure as its reply.
3. What says that there is no going on ends everything, and is the one error that comes out: a channel that is lost
   for good, KeyboardInterrupt, and whatever else is no `Exception`.
4. The app's own errors and cancellations are the app's: the agent ends within its graces and adds nothing.

After each of them no task, descriptor or process is left.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from embedding.hosts import Shape, app, asks_for, leaving_nothing, reaches

from clawft_trio import (
    Agent,
    AllProvidersExhausted,
    InboundMessage,
    OutboundMessage,
    Retry,
    ToolContext,
    ToolRegistry,
    open_agent,
    open_bus,
    open_mcp,
    open_store,
    open_toolset,
    parse_config,
    serve_agent,
    serve_channel,
    tool,
)
from clawft_trio.agent import LoopPolicy, Sessions
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.auth import AuthContext
from clawft_trio.bus import Publish
from clawft_trio.chat import ToolCall
from clawft_trio.errors import CannotStart, PeerGone, ServerError, StoreBusy, StoreError
from clawft_trio.mcp import McpOptions, connect_mcp
from clawft_trio.observe import Event
from clawft_trio.testing import Fail, Finish, Hang, Say, ScriptedProvider, Wait
from clawft_trio.testing.mcp_server import scripted_server
from clawft_trio.tools import Tool

SHAPES = pytest.mark.parametrize("shape", ["block", "nursery"])
TRUSTED = parse_config(json.dumps({"routing": {"permissions": {"users": {"chat:ana": {"level": 2}}}}}))


class Unheard(BaseException):
    """What nobody expects: no `Exception`."""


def crashing(make: Callable[[], BaseException]) -> Tool:
    @tool(mode="read_only")
    async def crash() -> str:
        """Crash."""
        await trio.lowlevel.checkpoint()
        raise make()

    return crash


async def reply_by_bus(agent: Agent) -> OutboundMessage:
    """Send one message by the bus, and wait for its final reply."""
    await agent.bus.publish_inbound(InboundMessage(channel="chat", sender_id="ana", chat_id="1", content="hello"))
    async for message in agent.bus.outbound("chat"):
        if message.kind == "final":
            return message
    raise AssertionError("the bus was closed before there was a reply")


@pytest.mark.parametrize(
    "make",
    [
        lambda: RuntimeError("out of order"),
        lambda: SystemExit(3),
        lambda: ExceptionGroup("two things", [ValueError("one"), OSError("two")]),
    ],
    ids=["error", "exit", "group"],
)
@SHAPES
async def test_what_a_tool_raises_is_told_to_the_model(
    shape: Shape, make: Callable[[], BaseException], autojump_clock: object
) -> None:
    async with leaving_nothing(), app(shape, tools=[crashing(make)], config=TRUSTED) as agent:
        reply = await agent.ask("crash")
        assert (reply.text, [answer.outcome for answer in reply.tools]) == ("Done.", ["error"])
        assert (await reply_by_bus(agent)).content == "Done."


@SHAPES
async def test_what_an_observer_raises_is_logged(
    shape: Shape, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("the disk of the logs is full")

    with caplog.at_level(logging.ERROR, "clawft_trio.observe"):
        async with leaving_nothing(), app(shape, ScriptedProvider.saying("Well."), observers=[broken]) as agent:
            assert (await agent.ask("hello")).text == "Well."
    assert "the disk of the logs is full" in caplog.text


class Chat:
    """A messenger whose connection breaks as it is told."""

    name = "chat"
    shows_partials = False

    def __init__(self, *, fails: int = 0, lost: BaseException | None = None, says: bool = True) -> None:
        self.sent: list[str] = []
        self._says = says
        self._fails = fails
        self._lost = lost

    async def send(self, message: OutboundMessage) -> None:
        await trio.lowlevel.checkpoint()
        if self._fails:
            self._fails -= 1
            raise ConnectionError("try again")
        self.sent.append(message.content)

    async def receive(self, publish: Publish) -> None:
        if self._says:
            await publish(InboundMessage(channel="chat", sender_id="ana", chat_id="1", content="hello"))
        if self._lost is not None:
            raise self._lost
        await trio.sleep_forever()


@SHAPES
async def test_a_channel_that_cannot_send_is_tried_again(shape: Shape, autojump_clock: object) -> None:
    chat = Chat(fails=3)
    async with leaving_nothing(), app(shape, ScriptedProvider.saying("Well."), channels=[chat]):
        await trio.sleep(60)
        assert chat.sent == ["Well."]


@SHAPES
async def test_a_server_that_dies_is_an_answer_to_its_calls(shape: Shape) -> None:
    model = asks_for("broken__die")
    async with leaving_nothing(), app(shape, model, mcp={"broken": scripted_server()}) as agent:
        reply = await agent.ask("die")
        assert (reply.text, [answer.outcome for answer in reply.tools]) == ("Done.", ["error"])


@pytest.mark.parametrize(
    "server", [["no-such-program"], scripted_server("--die", "3")], ids=["no such program", "dies at once"]
)
@SHAPES
async def test_a_server_that_cannot_start_stops_nobody(shape: Shape, server: list[str]) -> None:
    model = ScriptedProvider.saying("Well.")
    async with leaving_nothing(), app(shape, model, mcp={"broken": server}) as agent:
        assert (await agent.ask("hello")).text == "Well."


@SHAPES
async def test_what_a_provider_raises_by_mistake_is_the_callers(shape: Shape, autojump_clock: object) -> None:
    wrong = ScriptedProvider([Fail(KeyError("choices"))])
    async with leaving_nothing(), app(shape, wrong) as agent:
        with pytest.raises(KeyError, match="choices"):
            await agent.ask("hello")
        async with agent.stream("hello") as answer:
            with pytest.raises(KeyError, match="choices"):
                [event async for event in answer]
        assert (await reply_by_bus(agent)).metadata["error"] == "KeyError"
        with pytest.raises(KeyError, match="choices"):  # and the agent goes on
            await agent.ask("again")


@SHAPES
async def test_when_no_model_answers_it_is_one_typed_error_with_every_attempt(
    shape: Shape, autojump_clock: object
) -> None:
    down = ScriptedProvider([Fail(ServerError("down"))])
    models = {"models": ["p/m", "p/n"], "policy": Retry(max_retries=1, first_wait=0.1)}
    async with leaving_nothing(), app(shape, down, **models) as agent:
        with pytest.raises(AllProvidersExhausted) as caught:
            await agent.ask("hello")
        assert [record.outcome for record in caught.value.attempts] == ["failed"] * 4
        assert (await reply_by_bus(agent)).metadata["error"] == "AllProvidersExhausted"


@SHAPES
async def test_what_the_caller_did_not_catch_is_the_apps_error(shape: Shape, autojump_clock: object) -> None:
    async with leaving_nothing():
        with reaches(shape, KeyError, "choices"):
            async with app(shape, ScriptedProvider([Fail(KeyError("choices"))])) as agent:
                await agent.ask("hello")


@SHAPES
async def test_what_a_callback_raises_is_the_callers(shape: Shape, autojump_clock: object) -> None:
    def broken(event: object) -> None:
        raise LookupError("no such window")

    async with leaving_nothing(), app(shape, ScriptedProvider.saying("Well.")) as agent:
        with pytest.raises(LookupError, match="no such window"):
            await agent.ask("hello", on_event=broken)


class BrokenContext:
    """A context builder with a mistake in it."""

    async def build(self, *args: object, **kwargs: object) -> object:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError("a mistake in the template")

    def __getattr__(self, name: str) -> object:
        return self.build


@SHAPES
async def test_what_the_context_builder_raises_is_the_callers(shape: Shape, autojump_clock: object) -> None:
    async with leaving_nothing(), app(shape, ScriptedProvider.saying("Well.")) as agent:
        turns = attrs.evolve(agent.parts.turns, context=BrokenContext())  # type: ignore[arg-type]  # on purpose
        agent.parts = attrs.evolve(agent.parts, turns=turns)
        with pytest.raises(ZeroDivisionError, match="mistake in the template"):
            await agent.ask("hello")


@SHAPES
async def test_a_store_that_cannot_be_opened_is_told_at_once(shape: Shape, tmp_path: Path) -> None:
    async with leaving_nothing():
        with reaches(shape, StoreError):
            async with app(shape, ScriptedProvider.saying("Well."), store=tmp_path):
                raise AssertionError("a folder was taken for a file")


def fill_up(connection: sqlite3.Connection) -> None:
    # As a disk without room: the file may not grow any more.
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def make_room(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count = 1000000")


def open_turns(connection: sqlite3.Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM turns WHERE message IS NOT NULL").fetchone()
    return int(count)


async def finals_by_bus(agent: Agent, names: str) -> tuple[Counter[str], Counter[str]]:
    """Publish messages: those that were accepted, and the final replies that come until each has one."""
    accepted: Counter[str] = Counter()
    for name in names:
        message = InboundMessage(channel="chat", sender_id="ana", chat_id=name, id=name, content="hello")
        with suppress(StoreError):
            accepted[message.id] += await agent.bus.publish_inbound(message)
    replies: Counter[str] = Counter()
    replying = agent.bus.outbound("chat")
    with trio.fail_after(60):
        while replies.total() < accepted.total():
            message = await anext(replying)
            replies[message.reply_to or ""] += message.kind == "final"
    return accepted, replies


@SHAPES
async def test_a_full_disk_is_the_callers_and_each_accepted_message_has_one_reply(shape: Shape, tmp_path: Path) -> None:
    model = ScriptedProvider.saying("Well. " * 10_000)
    loop = LoopPolicy(poll=0.05, lease=1.0)
    async with leaving_nothing(), app(shape, model, store=tmp_path / "agent.db", loop=loop) as agent:
        await agent.parts.store.read(fill_up)
        await agent.parts.store.transact(fill_up)
        with pytest.raises(StoreError):
            await agent.ask("hello")
        accepted, replies = await finals_by_bus(agent, "abcde")
        assert replies == accepted
        await agent.parts.store.read(make_room)
        await agent.parts.store.transact(make_room)
        with trio.fail_after(60):
            while await agent.parts.store.read(open_turns):
                await trio.sleep(0.05)
        # A second reply to a message of before would be among these.
        accepted, replies = await finals_by_bus(agent, "vwxyz")
        assert replies == accepted == Counter("vwxyz")


@SHAPES
async def test_a_locked_store_is_the_callers(shape: Shape, tmp_path: Path) -> None:
    file = tmp_path / "agent.db"
    async with (
        leaving_nothing(),
        app(shape, ScriptedProvider.saying("Well.")) as agent,
        open_store(file, migrations=MIGRATIONS, busy=0.1) as store,
    ):
        turns = attrs.evolve(agent.parts.turns, history=Sessions(store))
        agent.parts = attrs.evolve(agent.parts, turns=turns)
        other = sqlite3.connect(file, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy):
                await agent.ask("hello")
        finally:
            other.close()
        assert (await agent.ask("hello")).text == "Well."


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Unheard])
@SHAPES
async def test_what_is_no_exception_comes_out_of_a_tool_bare(
    shape: Shape, kind: type[BaseException], autojump_clock: object
) -> None:
    async with leaving_nothing():
        with reaches(shape, kind):
            async with app(shape, tools=[crashing(kind)]) as agent:
                await agent.ask("crash")


def notifications_waiting(*_: object) -> None:
    raise Unheard


class Silenced(Chat):
    """A messenger that breaks altogether when it is to show something."""

    async def send(self, message: OutboundMessage) -> None:
        await trio.lowlevel.checkpoint()
        raise Unheard


@pytest.mark.parametrize(
    "part",
    [
        {"observers": [notifications_waiting]},
        {"model": ScriptedProvider([Fail(Unheard)])},  # type: ignore[arg-type]  # on purpose
        {"model": ScriptedProvider.saying("Well."), "channels": [Silenced()]},
    ],
    ids=["observer", "provider", "channel"],
)
@SHAPES
async def test_and_out_of_every_other_part(shape: Shape, part: dict[str, Any], autojump_clock: object) -> None:
    async with leaving_nothing():
        with reaches(shape, Unheard):
            async with app(shape, **part) as agent:
                await agent.ask("hello")
                await trio.sleep_forever()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Unheard])
@SHAPES
async def test_in_a_turn_of_the_bus_it_ends_the_agent(
    shape: Shape, kind: type[BaseException], autojump_clock: object
) -> None:
    async with leaving_nothing():
        with reaches(shape, kind):
            async with app(shape, tools=[crashing(kind)], config=TRUSTED) as agent:
                reply = await reply_by_bus(agent)
                assert reply.metadata["error"] == "TurnCancelled"  # the message has its reply nevertheless
                await trio.sleep_forever()


@SHAPES
async def test_a_channel_that_is_lost_for_good_ends_the_agent(shape: Shape, autojump_clock: object) -> None:
    chat = Chat(lost=ConnectionError("the token was revoked"))
    async with leaving_nothing():
        with reaches(shape, ConnectionError, "revoked"):
            async with app(shape, ScriptedProvider.saying("Well."), channels=[chat]):
                await trio.sleep_forever()
    assert chat.sent in ([], ["Well."])


async def test_keyboard_interrupt_comes_before_other_errors(autojump_clock: object) -> None:
    chat = Chat(lost=ConnectionError("the token was revoked"))
    async with leaving_nothing():
        with pytest.raises(KeyboardInterrupt):
            async with app("block", ScriptedProvider([Hang()]), channels=[chat]):
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyboardInterrupt  # at the moment at which the channel's own error ends the agent


async def test_the_apps_own_error_beside_the_agent_is_the_only_one(autojump_clock: object) -> None:
    model = ScriptedProvider([Hang()])
    ended: list[str] = []

    async def own_work() -> None:
        await trio.sleep(1)
        raise RuntimeError("the app's own mistake")

    async def asks(agent: Agent) -> None:
        try:
            await agent.ask("hello")
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async with leaving_nothing():
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="the app's own mistake")):
            async with trio.open_nursery() as nursery:
                agent = await nursery.start(serve_agent, open_agent(["p/m"], providers={"p": model}))
                nursery.start_soon(asks, agent)
                nursery.start_soon(own_work)
    assert (ended, model.running) == (["cancelled"], 0)


async def test_the_apps_cancellation_ends_the_agent_without_an_error(autojump_clock: object) -> None:
    model = ScriptedProvider([Hang()])
    async with leaving_nothing():
        with trio.move_on_after(1) as scope:
            async with app("nursery", model) as agent:
                await agent.ask("hello")
    assert scope.cancelled_caught
    assert model.running == 0


async def test_a_group_of_the_apps_own_is_that_very_group(autojump_clock: object) -> None:
    mine = ExceptionGroup("mine", [ValueError("one"), ValueError("two")])
    async with leaving_nothing():
        with pytest.raises(ExceptionGroup) as caught:
            async with app("block"):
                raise mine
    assert caught.value is mine


async def test_an_error_on_its_way_out_is_not_lost_to_a_cancellation_that_comes_meanwhile() -> None:
    model = ScriptedProvider.saying("Well.")
    ends: list[type[BaseException]] = []

    async def fail_while_cancelled(scope: trio.CancelScope, steps: int) -> None:
        async def cancel_later() -> None:
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel(reason="meanwhile")

        async with trio.open_nursery() as nursery:
            try:
                async with app("block", model, channels=[Chat()], mcp={"none": ["no-such-program"]}) as agent:
                    await agent.ask("hello")
                    nursery.start_soon(cancel_later)
                    raise Unheard
            except BaseException as exc:
                ends.append(type(exc))

    for steps in range(60):
        with trio.CancelScope() as scope:
            await fail_while_cancelled(scope, steps)
    assert ends == [Unheard] * 60


async def test_when_the_block_ends_its_turns_finish_and_their_replies_are_sent(autojump_clock: object) -> None:
    chat, model = Chat(), ScriptedProvider([Wait(3), Say("Well."), Finish()])
    async with leaving_nothing():
        async with app("block", model, channels=[chat]):
            await trio.testing.wait_all_tasks_blocked()
    assert (trio.current_time(), chat.sent) == (3.0, ["Well."])


async def test_when_it_is_cancelled_they_do_not_and_the_next_process_sends_the_reply(tmp_path: Path) -> None:
    file, model = tmp_path / "agent.db", ScriptedProvider([Hang()])
    async with leaving_nothing():
        with trio.CancelScope() as scope:
            async with app("block", model, channels=[Chat()], store=file):
                while not model.running:
                    await trio.sleep(0.01)
                scope.cancel(reason="the app is done")
        quiet = Chat(says=False)
        async with app("block", ScriptedProvider.saying("unused"), channels=[quiet], store=file):
            while not quiet.sent:
                await trio.sleep(0.01)
    assert quiet.sent == ["Stopped."]


async def test_a_channel_served_by_itself_raises_what_it_raised(autojump_clock: object) -> None:
    async with leaving_nothing():
        with pytest.raises(ConnectionError, match="revoked"):
            async with open_bus() as bus:
                await serve_channel(bus, Chat(lost=ConnectionError("the token was revoked")))


async def test_a_server_by_itself_that_cannot_start_raises_that() -> None:
    async with leaving_nothing():
        with pytest.raises(CannotStart):
            async with open_mcp(["no-such-program"]):
                raise AssertionError("there is no such program")
        with pytest.raises(PeerGone):
            async with open_mcp(scripted_server("--die", "3"), options=McpOptions(supervision=None)):
                raise AssertionError("it is dead")


async def test_in_the_apps_nursery_a_server_that_cannot_start_raises_that_from_connecting() -> None:
    async with leaving_nothing(), trio.open_nursery() as nursery:
        with pytest.raises(CannotStart):
            await connect_mcp(nursery, ["no-such-program"])
        # The nursery is the app's, and goes on.
        assert not nursery.cancel_scope.cancel_called


async def test_in_the_apps_nursery_a_server_that_dies_fails_its_calls_and_not_the_app() -> None:
    async with leaving_nothing(), trio.open_nursery() as nursery:
        client = await connect_mcp(nursery, scripted_server(), options=McpOptions(supervision=None))
        with pytest.raises(PeerGone):
            await client.call_tool("die", {"code": 3})
        assert not nursery.cancel_scope.cancel_called
        await client.aclose()


async def test_the_body_of_a_toolset_raises_what_it_raised() -> None:
    registry = ToolRegistry()
    async with leaving_nothing():
        with pytest.raises(LookupError, match="mine"):
            async with open_toolset({"one": scripted_server(), "two": "no-such-program"}, registry):
                call = ToolCall(id="c", name="one__die", arguments="{}")
                [answer] = await registry.execute_all([call], ToolContext(auth=AuthContext.local()))
                assert answer.outcome == "error"
                raise LookupError("mine")


def test_control_c_ends_an_app_with_an_agent_in_it_with_one_keyboard_interrupt() -> None:
    program = """
import os, signal, trio
from clawft_trio import open_agent
from clawft_trio.testing import Hang, ScriptedProvider

async def main() -> None:
    async with open_agent(["p/m"], providers={"p": ScriptedProvider([Hang()])}) as agent:
        await agent.ask("hello", on_event=lambda _: os.kill(os.getpid(), signal.SIGINT))

try:
    trio.run(main)
except BaseException as exc:
    print(type(exc).__name__)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout.strip(), done.returncode) == ("KeyboardInterrupt", 0), done.stderr
