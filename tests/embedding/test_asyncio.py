"""`asyncio_guest.Guest`: trio in an asyncio application, cancelled from the asyncio side, and nothing is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from embedding.hosts import children, descriptors

from clawft_trio import OpenAICompatible, Retry, TextDelta, open_agent, tool
from clawft_trio.asyncio_guest import Guest
from clawft_trio.errors import NotConfigured, ServerError
from clawft_trio.testing import CallTool, Fail, Finish, Hang, Say, ScriptedProvider, Wait, open_fault_server, say
from clawft_trio.testing.mcp_server import scripted_server


def scripted(model: ScriptedProvider, **more: Any) -> Any:
    return open_agent(["p/m"], providers={"p": model}, **more)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run *main* with asyncio, and assert that no task, thread, process or descriptor is left."""
    complaints: list[dict[str, Any]] = []
    threads, processes, files = set(threading.enumerate()), children(), descriptors()

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())
    assert complaints == []
    assert children() <= processes
    assert descriptors() <= files
    # Trio keeps the thread that waits for sockets for its next use, idle; the count of them must not grow.
    assert len(set(threading.enumerate()) - threads) <= 2


async def settled(task: asyncio.Task[Any]) -> BaseException | None:
    """Wait for *task*'s end, whatever it is."""
    [ended] = await asyncio.gather(task, return_exceptions=True)
    return ended if isinstance(ended, BaseException) else None


def test_asyncio_asks_and_is_answered() -> None:
    async def main() -> None:
        async with Guest(scripted(ScriptedProvider.saying("Wear a coat."))) as guest:
            replies = await asyncio.gather(
                *(guest.call(guest.value.ask, "hello", sender_id=f"sender-{number}") for number in range(20))
            )
        assert {reply.text for reply in replies} == {"Wear a coat."}

    run(main)


def test_an_asyncio_cancellation_ends_the_turn_in_trio() -> None:
    model = ScriptedProvider([Say("Wear "), Hang()])

    async def main() -> None:
        async with Guest(scripted(model)) as guest:
            before = await guest.call(trio_tasks)
            heard = asyncio.Event()
            task = asyncio.create_task(guest.call(guest.value.ask, "hello", on_event=lambda _: heard.set()))
            await heard.wait()
            assert await guest.call(trio_tasks) > before
            task.cancel()
            assert isinstance(await settled(task), asyncio.CancelledError)
            # It has really ended, and not only been told to.
            assert model.running == 0
            assert await guest.call(trio_tasks) == before
            assert not guest.value._lines

    run(main)


async def trio_tasks() -> int:
    """How many tasks live in trio, this one among them."""
    await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    return trio.lowlevel.current_statistics().tasks_living


def test_an_asyncio_timeout_cancels_too() -> None:
    model = ScriptedProvider([Hang()])

    async def main() -> None:
        async with Guest(scripted(model)) as guest:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await guest.call(guest.value.ask, "hello")
            assert model.running == 0

    run(main)


def test_cancelled_after_any_number_of_steps_nothing_is_left_running() -> None:
    @tool(mode="read_only")
    async def weather(city: str) -> str:
        """The weather in a city."""
        await trio.lowlevel.checkpoint()
        return f"{city}: rain"

    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Rain.")
    endings: set[type[BaseException] | None] = set()

    async def main() -> None:
        async with Guest(scripted(model, tools=[weather])) as guest:
            for steps in range(120):
                task = asyncio.create_task(guest.call(guest.value.ask, "hello"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                ended = await settled(task)
                endings.add(type(ended) if ended else None)
                assert (model.running, guest.value._lines) == (0, {})

    run(main)
    assert endings == {asyncio.CancelledError, None}


def test_over_real_sockets_a_cancelled_turn_closes_its_connection() -> None:
    @asynccontextmanager
    async def with_server() -> AsyncGenerator[Any, None]:
        async with (
            open_fault_server([*say("Wear a coat.", every=0.01), Hang()]) as server,
            open_agent(["p/m"], make_provider=lambda name: OpenAICompatible(name, base_url=server.url)) as agent,
        ):
            yield agent, server

    async def main() -> None:
        async with Guest(with_server()) as guest:
            agent, server = guest.value
            heard = asyncio.Event()
            task = asyncio.create_task(guest.call(agent.ask, "hello", on_event=lambda _: heard.set()))
            await heard.wait()
            task.cancel()
            await settled(task)
            while server.statistics().connections_open:
                await asyncio.sleep(0.01)

    run(main)


def test_servers_are_started_and_ended_under_asyncio() -> None:
    model = ScriptedProvider.using_tools(CallTool("one__sleep", {"seconds": 60}), then="Done.")

    async def main() -> None:
        async with Guest(scripted(model, mcp={"one": scripted_server()})) as guest:
            heard = asyncio.Event()
            task = asyncio.create_task(guest.call(guest.value.ask, "hello", on_event=lambda _: heard.set()))
            await heard.wait()
            await asyncio.sleep(0.05)
            task.cancel()
            assert isinstance(await settled(task), asyncio.CancelledError)

    run(main)


def test_what_cannot_be_opened_is_raised_bare() -> None:
    async def main() -> None:
        with pytest.raises(NotConfigured):
            async with Guest(open_agent(["nobody/m"])):
                raise AssertionError("there is no such provider")

    run(main)


def test_an_error_is_raised_to_the_asyncio_task_that_asked_and_the_agent_goes_on() -> None:
    model = ScriptedProvider([Fail(lambda: LookupError("mistake"))], [Say("Well."), Finish()])

    async def main() -> None:
        async with Guest(scripted(model)) as guest:
            with pytest.raises(LookupError, match="mistake"):
                await guest.call(guest.value.ask, "hello")
            assert (await guest.call(guest.value.ask, "hello")).text == "Well."

    run(main)


def test_provider_errors_keep_their_fields() -> None:
    model = ScriptedProvider([Fail(lambda: ServerError("down", status=500))])

    async def main() -> None:
        async with Guest(scripted(model, policy=Retry(max_retries=0))) as guest:
            with pytest.raises(ServerError) as caught:
                await guest.call(guest.value.ask, "hello")
            assert (caught.value.status, len(caught.value.attempts)) == (500, 1)

    run(main)


def test_closed_while_somebody_asks_both_sides_end() -> None:
    model = ScriptedProvider([Hang()])

    async def main() -> None:
        async with Guest(scripted(model)) as guest:
            task = asyncio.create_task(guest.call(guest.value.ask, "hello"))
            while not model.running:
                await asyncio.sleep(0)
        assert isinstance(await settled(task), RuntimeError)
        assert model.running == 0
        with pytest.raises(trio.RunFinishedError):
            await guest.call(guest.value.ask, "too late")

    run(main)


def test_cancelled_while_it_opens_nothing_is_left() -> None:
    async def main() -> None:
        for steps in range(40):

            async def serve() -> None:
                async with Guest(scripted(ScriptedProvider([Wait(0), Finish()]))):
                    await asyncio.sleep(3600)

            task = asyncio.create_task(serve())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            assert isinstance(await settled(task), asyncio.CancelledError)

    run(main)


def test_an_answer_is_streamed_through_a_queue_of_asyncios() -> None:
    async def main() -> None:
        async with Guest(scripted(ScriptedProvider([Say("Wear "), Say("a coat."), Finish()]))) as guest:
            events: asyncio.Queue[Any] = asyncio.Queue()
            ask = partial(guest.value.ask, "hello", on_event=events.put_nowait)
            reply = await guest.call(ask)
            seen = [events.get_nowait() for _ in range(events.qsize())]
        assert "".join(event.text for event in seen if isinstance(event, TextDelta)) == reply.text == "Wear a coat."

    run(main)


class Lost:
    """A messenger whose connection is lost for good."""

    name = "chat"
    shows_partials = False

    async def send(self, message: object) -> None:
        raise AssertionError("nothing is sent to it")

    async def receive(self, publish: object) -> None:
        await trio.sleep(0.01)
        raise ConnectionError("the token was revoked")


def test_what_ended_the_agent_meanwhile_is_raised_on_leaving_and_to_whoever_asks() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionError, match="revoked"):
            async with Guest(scripted(ScriptedProvider([Hang()]), channels=[Lost()])) as guest:
                with pytest.raises(RuntimeError):
                    await guest.call(guest.value.ask, "hello")

    run(main)


def test_what_is_no_exception_ends_the_run_and_comes_out_bare() -> None:
    class Unheard(BaseException):
        pass

    async def broken() -> None:
        await trio.lowlevel.checkpoint()
        raise Unheard

    async def main() -> None:
        with pytest.raises(Unheard):
            async with Guest(scripted(ScriptedProvider([Hang()]))) as guest:
                with pytest.raises(RuntimeError):
                    await guest.call(broken)

    run(main)


def test_a_second_cancellation_does_not_leave_a_turn_behind() -> None:
    model = ScriptedProvider([Say("Wear "), Hang()])
    ended: list[float] = []

    async def reluctant() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
            ended.append(trio.current_time())

    async def main() -> None:
        async with Guest(scripted(model)) as guest:
            task = asyncio.ensure_future(guest.call(reluctant))
            await asyncio.sleep(0.05)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.02)
            assert isinstance(await settled(task), asyncio.CancelledError)
            assert ended

    run(main)


def test_a_cancellation_while_it_closes_waits_for_the_end() -> None:
    closed: list[bool] = []

    @asynccontextmanager
    async def slow_to_close() -> AsyncGenerator[str, None]:
        try:
            yield "open"
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
            closed.append(True)

    async def use() -> None:
        async with Guest(slow_to_close()):
            pass

    async def main() -> None:
        task = asyncio.ensure_future(use())
        await asyncio.sleep(0.1)
        task.cancel()
        assert isinstance(await settled(task), asyncio.CancelledError)
        assert closed

    run(main)
