"""An agent as its user opens it."""

from __future__ import annotations

import inspect
import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from judged import ScriptedProvider, open_fault_server
from net.servers import Conversation, open_server, response

from clawft_trio.agent import Agent, AgentOptions, AskOptions, open_agent, serve_agent
from clawft_trio.agent.turn_types import RoundStarted, ToolsAnswered, TurnPolicy
from clawft_trio.attempts import Usage
from clawft_trio.chat import Reset, TextDelta
from clawft_trio.config import parse_config
from clawft_trio.errors import NotConfigured, ProviderTimeout, ServerError
from clawft_trio.llm import OpenAICompatible
from clawft_trio.messages import InboundMessage
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import Recorder, ToolEnded, TurnEnded
from clawft_trio.testing import CallTool, Fail, Finish, Hang, ResetConnection, Say, Status, Wait, cancel_everywhere
from clawft_trio.tools import tool


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city."""
    await trio.sleep(1)
    return f"{city}: rain"


async def test_ask_and_stream_and_the_conversation_between(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Wear a coat.")
    async with open_agent(["p/m"], providers={"p": model}, tools=[weather]) as agent:
        reply = await agent.ask("What do I wear in Oslo?", sender_id="ana", session="trip")
        assert (reply.text, reply.session) == ("Wear a coat.", "trip")
        async with agent.stream("And why?", sender_id="ana", session="trip") as answer:
            events = [event async for event in answer]
        assert answer.reply.text == "Wear a coat."
    assert isinstance(events[0], RoundStarted)
    assert any(isinstance(event, ToolsAnswered) for event in events)
    assert [message.text for message in model.requests[-1].messages if message.role == "user"] == [
        "What do I wear in Oslo?",
        "And why?",
    ]


async def test_the_second_model_answers_when_the_first_breaks(autojump_clock: trio.testing.MockClock) -> None:
    broken = ScriptedProvider([Say("Wear a "), Fail(lambda: ServerError("down"))])
    seen: list[object] = []
    async with open_agent(
        ["a/one", "b/two"], providers={"a": broken, "b": ScriptedProvider.saying("A coat.")}
    ) as agent:
        reply = await agent.ask("What do I wear?", on_event=seen.append)
    assert reply.text == "A coat."
    assert [(record.target, record.outcome) for record in reply.attempts] == [
        *[("scripted/one", "failed")] * 4,
        ("scripted/two", "ok"),
    ]
    assert sum(isinstance(event, Reset) for event in seen) == 4


async def test_a_workspace_gives_the_agent_its_character_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").write_text("You are Nora.")
    (tmp_path / "notes.txt").write_text("rain on Monday")
    model = ScriptedProvider.using_tools(CallTool("read_file", {"path": "notes.txt"}), then="Rain.")
    async with open_agent(["p/m"], providers={"p": model}, workspace=tmp_path) as agent:
        reply = await agent.ask("What is in notes.txt?")
    assert "rain on Monday" in reply.tools[0].text
    assert "You are Nora." in model.requests[0].messages[0].text
    names = [spec.name for spec in model.requests[0].tools]
    assert "read_file" in names
    assert "write_file" not in names  # nobody approves, so nothing that writes is offered


async def test_a_missing_key_is_reported_when_the_agent_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(NotConfigured, match="OPENAI_API_KEY"):
        async with open_agent(["openai/gpt-5-mini"]):
            pass


async def test_turns_of_one_session_wait_for_each_other_and_others_do_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = ScriptedProvider([Wait(10), Say("done"), Finish()])
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        async with trio.open_nursery() as nursery:
            for sender in ("ana", "ana", "ben"):
                nursery.start_soon(lambda who: agent.ask("hello", session=who), sender)
        assert trio.current_time() == 20.0
        assert model.peak == 2


async def test_a_turn_has_a_bound(autojump_clock: trio.testing.MockClock) -> None:
    async with open_agent(["p/m"], providers={"p": ScriptedProvider([Hang()])}, turn=TurnPolicy(total=5.0)) as agent:
        with pytest.raises(ProviderTimeout) as caught:
            await agent.ask("hello")
    assert (caught.value.clock, trio.current_time()) == ("total", 5.0)


async def test_a_callback_that_had_enough_ends_the_turn(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider([Say("one "), Say("two"), Hang()])
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        reply = await agent.ask("count", on_event=lambda event: not isinstance(event, TextDelta))
    assert (reply.text, reply.finish_reason) == ("one ", "aborted")


async def test_observers_see_the_turn_and_cannot_harm_it(autojump_clock: trio.testing.MockClock) -> None:
    seen = Recorder()

    def broken(event: object) -> None:
        raise RuntimeError("observer")

    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Rain.")
    async with open_agent(["p/m"], providers={"p": model}, tools=[weather], observers=[broken, seen]) as agent:
        await agent.ask("hello")
    assert [event.outcome for event in seen.of(ToolEnded)] == ["ok"]
    assert len(seen.of(TurnEnded)) == 1


async def test_over_real_sockets_nothing_is_left_open() -> None:
    async with open_fault_server(
        models={"one": [[Say("Wear a "), ResetConnection()]], "two": [[Say("A coat."), Finish()]]}
    ) as server:
        async with open_agent(
            ["a/one", "a/two"], make_provider=lambda name: OpenAICompatible(name, base_url=server.url)
        ) as agent:
            reply = await agent.ask("What do I wear?")
            assert (reply.text, reply.provider, reply.model) == ("A coat.", "a", "two")
        await server.wait_for(lambda now: now.connections_open == 0)


async def test_cancelled_anywhere_an_agent_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Rain.")

    async def operation() -> None:
        async with open_agent(["p/m"], providers={"p": model}, tools=[weather]) as agent:
            async with agent.stream("hello") as answer:
                async for _ in answer:
                    pass

    async def check() -> None:
        assert model.running == 0

    assert await cancel_everywhere(operation, check, limit=2000) > 10


@pytest.mark.parametrize("graceful", [True, False])
async def test_an_agent_lives_in_a_nursery_of_its_users(autojump_clock: trio.testing.MockClock, graceful: bool) -> None:
    model = ScriptedProvider([Say("Slow."), Wait(1.0), Finish()])
    finals: list[str] = []

    async def carry(agent: Agent) -> None:
        outbox = agent.bus.outbound("chat")
        finals.extend([message.content async for message in outbox if message.kind == "final"])

    async with trio.open_nursery() as carriers:
        async with trio.open_nursery() as nursery:
            agent: Agent = await nursery.start(serve_agent, open_agent(["p/m"], providers={"p": model}))
            carriers.start_soon(carry, agent)
            assert (await agent.ask("hello")).text == "Slow."
            await agent.bus.publish_inbound(InboundMessage(channel="chat", sender_id="ana", chat_id="1", content="hi"))
            await trio.sleep(0.5)
            if graceful:
                await agent.parts.loop.shutdown()
            nursery.cancel_scope.cancel()
        assert model.running == 0
    assert finals == ["Slow." if graceful else "Stopped."]


async def test_serving_an_agent_that_cannot_be_opened_raises_what_opening_does() -> None:
    with pytest.raises(NotConfigured):
        async with open_hidden_nursery() as nursery:
            await nursery.start(serve_agent, open_agent(["nobody/m"]))


async def test_messages_of_the_bus_have_their_senders_rights_and_one_final_reply(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Rain.")
    routing = {"permissions": {"users": {"chat:ana": {"level": 2}}}}
    config = parse_config(json.dumps({"routing": routing}))
    async with open_agent(["p/m"], providers={"p": model}, tools=[weather], config=config) as agent:
        for sender in ("ana", "stranger"):
            await agent.bus.publish_inbound(
                InboundMessage(channel="chat", sender_id=sender, chat_id=sender, content="hello")
            )
        finals = {}
        async for message in agent.bus.outbound("chat"):
            if message.kind == "final":
                finals[message.chat_id] = message
            if len(finals) == 2:
                break
    assert finals["ana"].content == "Rain."
    assert finals["ana"].metadata["provider"] == "scripted"
    offered = {request.auth.identity: len(request.tools) for request in model.requests}
    assert offered == {"chat:ana": 1, "chat:stranger": 0}


async def test_sessions_outlive_the_agent(tmp_path: Path) -> None:
    model = ScriptedProvider.saying("Hello.")
    for text in ("one", "two"):
        async with open_agent(["p/m"], providers={"p": model}, store=tmp_path / "agent.db") as agent:
            await agent.ask(text, session="ana")
    assert [message.text for message in model.requests[-1].messages] == ["one", "Hello.", "two"]


async def test_an_mcp_servers_tools_are_the_agents(tmp_path: Path) -> None:
    model = ScriptedProvider.using_tools(CallTool("echo__echo", {"text": "hi"}), then="Done.")
    server = [sys.executable, "-m", "clawft_trio.testing.mcp_server"]
    async with open_agent(["p/m"], providers={"p": model}, mcp={"echo": server}) as agent:
        names = [tool.name for tool in agent.tools]
        assert names
        assert all(name.startswith("echo__") for name in names)


async def test_the_settings_of_the_configuration_take_effect(tmp_path: Path) -> None:
    async with open_fault_server(models={"m": [[Status(418)], [Say("Hello."), Finish()]]}) as server:
        path = tmp_path / "config.json"
        path.write_text(
            json.dumps(
                {
                    "agents": {"defaults": {"model": "mine/m", "workspace": str(tmp_path)}},
                    "providers": {"mine": {"apiBase": server.url, "apiKey": "${MINE}"}},
                    "retry": {"maxRetries": 1, "baseDelayMs": 1, "retryableStatusCodes": [418]},
                }
            )
        )
        with pytest.raises(NotConfigured, match="MINE"):
            async with open_agent(config=path):
                pass
        config = parse_config(path.read_bytes(), environ={"MINE": "secret-key"})
        async with open_agent(config=config) as agent:
            reply = await agent.ask("hello")
        assert reply.text == "Hello."
        assert [record.outcome for record in reply.attempts] == ["failed", "ok"]
        assert server.requests[0].headers["authorization"] == "Bearer secret-key"


async def test_a_provider_gets_no_more_concurrent_requests_than_the_configuration_allows() -> None:
    running, most = 0, 0

    async def talk(conversation: Conversation) -> None:
        nonlocal running, most
        while await conversation.request() is not None:
            running += 1
            most = max(most, running)
            await trio.sleep(0.1)
            running -= 1
            await conversation.send(response(b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'))

    async with open_server(talk) as server:
        own = {"apiBase": server.url, "apiKey": "k", "concurrency": 2}
        config = parse_config(json.dumps({"providers": {"mine": own}}))
        async with open_agent(["mine/m"], config=config) as agent, trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(agent.ask, "hello")
    assert most == 2


async def test_a_channel_is_served_and_what_it_has_not_sent_is_sent_before_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Chat:
        name = "chat"
        shows_partials = True

        def __init__(self) -> None:
            self.sent: list[object] = []

        async def send(self, message: object) -> None:
            await trio.sleep(1)
            self.sent.append(message)

        async def receive(self, publish: object) -> None:
            await publish(InboundMessage(channel="chat", sender_id="ana", chat_id="1", content="hello", id="m1"))
            await trio.sleep_forever()

    chat = Chat()
    model = ScriptedProvider([Wait(3), Say("Hello."), Finish()])
    async with open_agent(["p/m"], providers={"p": model}, channels=[chat]):
        await trio.sleep(1)
    assert [(message.kind, message.content, message.reply_to) for message in chat.sent] == [("final", "Hello.", "m1")]


async def test_a_channel_that_hangs_is_given_up_after_the_grace_and_its_reply_is_stored(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Chat:
        name = "chat"
        shows_partials = False

        async def send(self, message: object) -> None:
            sending.set()
            await trio.sleep_forever()

        async def receive(self, publish: object) -> None:
            await publish(InboundMessage(channel="chat", sender_id="ana", chat_id="1", content="hello", id="m1"))
            await trio.sleep_forever()

    sending = trio.Event()
    config = parse_config('{"routing": {"permissions": {"channels": {"chat": {"level": 1}}}}}')
    with trio.fail_after(3600):
        async with open_agent(
            ["p/m"], providers={"p": ScriptedProvider.saying("hi")}, config=config, channels=[Chat()]
        ) as agent:
            await sending.wait()
            left = trio.current_time()
        assert trio.current_time() - left == agent.parts.loop.policy.final_reply_grace
    assert agent.parts.bus.statistics().undelivered == {"chat": 1}


async def test_what_an_answer_cost_is_in_the_reply_and_in_the_ledger(tmp_path: Path) -> None:
    usage = Usage(input_tokens=1000, output_tokens=500)
    config = parse_config(json.dumps({"prices": {"p/m": {"input": 2, "output": 8.0}}}))
    model = ScriptedProvider([Say("Hello."), Finish(usage=usage)], name="p")
    async with open_agent(["p/m"], providers={"p": model}, config=config, store=tmp_path / "agent.db") as agent:
        reply = await agent.ask("hello", sender_id="ana")
        [spent] = await agent.parts.costs.ledger.spending("sender", "target")
        entries = await agent.parts.costs.ledger.entries()
    assert reply.cost == Decimal("0.006")
    assert (spent.group, spent.cost) == ({"sender": "local:ana", "target": "p/m"}, Decimal("0.006"))
    assert [(entry.sender, entry.turn, entry.certainty, entry.cost) for entry in entries] == [
        ("local:ana", reply.turn_id, "exact", Decimal("0.006"))
    ]


async def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    for wrong in ("tunr", "max_tokens"):
        with pytest.raises(TypeError, match=rf"no option '{wrong}'; its options are approve, builtins, .*turn"):
            async with open_agent(["p/m"], providers={"p": ScriptedProvider([])}, **{wrong: None}):  # type: ignore[arg-type]
                pass


def test_open_agent_has_ten_named_parameters_and_documented_options() -> None:
    parameters = inspect.signature(open_agent).parameters.values()
    assert len([one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]) <= 10
    assert inspect.getdoc(AgentOptions) is not None
    for option in AgentOptions.__annotations__:
        assert f"      {option}: " in (AgentOptions.__doc__ or "")
        assert f"`{option}`" in (open_agent.__doc__ or "")


async def test_an_unknown_keyword_of_ask_and_stream_is_refused_with_the_known_ones() -> None:
    model = ScriptedProvider([Say("Hi"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        with pytest.raises(TypeError, match=r"ask\(\) has no keyword 'sesion'; its options are .*session"):
            await agent.ask("Hi", sesion="s")
        with pytest.raises(TypeError, match=r"stream\(\) has no keyword 'sender'; its options are sender_id"):
            agent.stream("Hi", sender="ana")
    for option in AskOptions.__annotations__:
        assert f"      {option}: " in (AskOptions.__doc__ or "")
