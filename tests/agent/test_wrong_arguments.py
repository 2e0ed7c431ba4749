"""Arguments of a wrong type are refused at once, with the argument and what it takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import (
    ChatRequest,
    CircuitBreaker,
    Resilient,
    Retry,
    Timeout,
    compose,
    open_agent,
    parse_config,
    subagent,
    tool,
)
from clawft_trio.agent import TurnPolicy
from clawft_trio.asyncio_guest import Guest
from clawft_trio.bus import BusConfig
from clawft_trio.errors import AgentClosed, PermissionDenied
from clawft_trio.testing import CallTool, Finish, Say, open_fault_server
from clawft_trio.tools import ApprovalRequest


class Nothing:
    """No provider and no channel."""


def plain(text: str) -> str:
    """Return the text."""
    return text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"providers": [ScriptedProvider.saying("a")]}, "providers is a mapping by name"),
        (
            {"providers": {"s": Nothing()}},
            "providers['s'] is a Nothing, which is no provider: a provider has name, com",
        ),
        ({"providers": {"s": ScriptedProvider}}, "providers['s'] is the class ScriptedProvider"),
        ({"channels": Nothing()}, "channels is a list, as in channels=[…], not a Nothing"),
        ({"tools": tool(plain)}, "tools is a list, as in tools=[…], not a Tool"),
        ({"tools": "files"}, "tools is a list, as in tools=[…], not a str"),
        ({"channels": [Nothing()]}, "a channel is a Nothing, which is no channel: a channel has name, send, receive"),
        ({"mcp": ["npx", "server"]}, "mcp is a mapping by name"),
        ({"config": {"retry": {}}}, "config is a path or a Config"),
        ({"config": ' {"retry": {}}'}, "parse_config(text)"),
        ({"tools": [plain]}, "plain is no tool: write @tool above the function, or pass tool(plain)"),
    ],
)
async def test_open_agent_names_the_argument(arguments: dict[str, Any], message: str) -> None:
    known = {"providers": {"s": ScriptedProvider.saying("a")}, **arguments}
    with pytest.raises(TypeError) as caught:
        async with open_agent(["s/m"], **known):
            raise AssertionError("it was opened")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tool(timeout=3)(plain), "tool() has no keyword 'timeout'; its keywords are name, description, "),
        (lambda: tool(mode="write")(plain), "'mode' must be one of 'read_only', 'mutating', 'exclusive': 'write'"),
        (lambda: subagent("a", ["s/m"], description="d", cost=3), "subagent() has no keyword 'cost'; its keywords are"),
        (lambda: TurnPolicy(eager="yes"), "'eager' must be one of 'off', 'read_only', 'idempotent': 'yes'"),
        (lambda: BusConfig(overflow_policy="drop"), "'overflow_policy' must be one of 'block', "),
        (lambda: compose(Retry, Timeout(total=1.0)), "Retry is a class; compose() takes what it makes: Retry(…)"),
        (lambda: compose(plain), "has no method `run`"),
        (lambda: compose([Retry(), Timeout(total=1.0)]), "takes its strategies one by one"),
        (lambda: Resilient(ScriptedProvider.saying("a"), Retry), "takes a policy, not the class Retry"),
        (lambda: Resilient(ScriptedProvider.saying("a"), [Retry()]), "takes a policy, not a list; compose(…) makes"),
        (lambda: Retry()(ScriptedProvider.saying("a")), "Resilient(provider, policy)"),
        (lambda: CircuitBreaker(by="host"), "'by' must be callable"),
        (lambda: ScriptedProvider(Say("a"), Finish()), "a script is a list of steps"),
        (lambda: ScriptedProvider("Hello."), "a script is a list of steps, as in [Say"),
        (lambda: ChatRequest("Hello?"), "messages are a list: ChatRequest([Message.user('Hello?')])"),
        (lambda: parse_config({"retry": {}}), "parse_config() takes JSON text, not a dict"),
    ],
)
def test_a_wrong_value_is_refused_where_it_is_given(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert message in str(caught.value)
    assert "Attribute(" not in str(caught.value)


async def test_a_fault_server_refuses_steps_that_are_in_no_list() -> None:
    with pytest.raises(TypeError, match="a script is a list of steps"):
        async with open_fault_server(Say("a"), Finish()):
            raise AssertionError("it was opened")


async def test_as_tool_names_an_unknown_keyword_and_ask_a_wrong_session() -> None:
    async with open_agent(["s/m"], providers={"s": ScriptedProvider.saying("a")}) as agent:
        with pytest.raises(TypeError, match=r"as_tool\(\) has no keyword 'cost'"):
            agent.as_tool("a", description="d", cost=3)
        with pytest.raises(TypeError, match="'session' must be of type str: 3"):
            await agent.ask("Hello?", session=3)
        with pytest.raises(TypeError, match="'content' must be of type Message: b'Hello"):
            await agent.ask(b"Hello?")


async def test_a_policy_refuses_a_coroutine_and_shows_how_to_pass_the_function() -> None:
    async def fetch(url: str) -> str:
        raise AssertionError("never run")

    with pytest.raises(TypeError, match=r"await policy\(fetch, url\)"):
        await Retry()(fetch("u"))
    await trio.lowlevel.checkpoint()


async def test_a_failing_approval_is_a_refusal_that_names_the_class_and_keeps_the_cause() -> None:
    async def approve(request: ApprovalRequest) -> bool:
        raise ZeroDivisionError("secret")

    @tool
    async def delete(name: str) -> str:
        """Delete a file."""
        raise AssertionError("never called")

    model = ScriptedProvider.using_tools(CallTool("delete", {"name": "a"}), then="No.")
    async with open_agent(["s/m"], providers={"s": model}, tools=[delete], approve=approve) as agent:
        (result,) = (await agent.ask("Delete a.")).tools
    assert result.outcome == "refused"
    assert "the approval failed with ZeroDivisionError" in result.text
    assert "secret" not in result.text
    assert isinstance(result.error, PermissionDenied)
    assert isinstance(result.error.__cause__, ZeroDivisionError)


def test_under_asyncio_ask_and_stream_point_to_the_guest() -> None:
    async def main() -> None:
        opening = open_agent(["s/m"], providers={"s": ScriptedProvider.saying("a")})
        async with Guest(opening) as guest:
            with pytest.raises(RuntimeError, match=r"await guest\.call\(guest\.value\.ask, question\)"):
                await guest.value.ask("Hello?")
            with pytest.raises(RuntimeError, match=r"await guest\.call\(guest\.value\.ask, question\)"):
                async with guest.value.stream("Hello?"):
                    raise AssertionError("it was opened")
            assert (await guest.call(guest.value.ask, "Hello?")).text == "a"

    asyncio.run(main())


async def test_an_agent_whose_block_was_left_is_named_so() -> None:
    async with open_agent(["s/m"], providers={"s": ScriptedProvider.saying("a")}) as agent:
        pass
    with pytest.raises(AgentClosed, match="ask inside of its block"):
        await agent.ask("Hello?")


@pytest.mark.parametrize("messages", [["hi"], [None], [{"role": "user", "content": "hi"}]])
def test_messages_are_of_their_class(messages: list[Any]) -> None:
    with pytest.raises(TypeError, match="messages are `Message`s"):
        ChatRequest(messages)
