"""A research agent with a typed answer, a sub-agent and its tests.

Run it: python tests/cookbook/research_agent.py; test it: python -m pytest tests/cookbook/research_agent.py

`make_agent` is what a program would use; the tests give it scripted models.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

import attrs
import trio
import trio.testing

from clawft_trio import Agent, InvalidAnswer, Provider, open_agent, subagent, tool
from clawft_trio.errors import ServerError
from clawft_trio.testing import CallTool, Fail, Finish, Say, ScriptedProvider, cancel_everywhere

PAGES = {"oslo": "Oslo has 717 710 inhabitants (2024).", "bergen": "Bergen has 291 940 inhabitants (2024)."}


@attrs.frozen
class Finding:
    """What the researcher returns."""

    claim: str
    inhabitants: int
    sources: list[str]


@tool(mode="read_only", total=10.0)
async def look_up(topic: str) -> str:
    """The page about a topic.

    Args:
      topic: one word
    """
    await trio.lowlevel.checkpoint()
    return PAGES.get(topic.lower(), "There is no such page.")


def make_agent(providers: Mapping[str, Provider] | None = None) -> AbstractAsyncContextManager[Agent]:
    """An agent whose reader, a cheaper model with a budget, looks things up."""
    reader = subagent(
        "read",
        ["anthropic/claude-haiku-4-5"],
        description="Looks up one topic and returns what the page says.",
        instructions="Use look_up. Answer with the sentence that matters.",
        tools=[look_up],
        budget="0.02",
        total=60.0,
    )
    return open_agent(["openai/gpt-5", "anthropic/claude-sonnet-4-5"], tools=[reader], providers=providers)


async def research(agent: Agent, question: str) -> Finding:
    """Answer *question* with a value; an answer that does not fit is corrected by the model."""
    return await agent.ask(question, answer=Finding)


RIGHT = '{"claim": "Oslo is larger", "inhabitants": 717710, "sources": ["look_up: oslo"]}'
WRONG = '{"claim": "Oslo is larger", "inhabitants": "many", "sources": []}'


def models(*answers: str) -> dict[str, Provider]:
    reads = [CallTool("read", {"task": "Oslo?"}), Finish()]
    return {
        "openai": ScriptedProvider(reads, *([Say(text), Finish()] for text in answers), name="openai"),
        "anthropic": ScriptedProvider.using_tools(
            CallTool("look_up", {"topic": "Oslo"}), then="Oslo has 717 710 inhabitants.", name="anthropic"
        ),
    }


async def test_an_answer_is_a_value() -> None:
    async with make_agent(models(RIGHT)) as agent:
        finding = await research(agent, "How large is Oslo?")
    assert finding == Finding("Oslo is larger", 717710, ["look_up: oslo"])


async def test_an_answer_that_does_not_fit_is_corrected() -> None:
    async with make_agent(models(WRONG, RIGHT)) as agent:
        assert (await research(agent, "How large is Oslo?")).inhabitants == 717710


async def test_an_answer_that_never_fits_is_an_error_with_its_place() -> None:
    async with make_agent(models(WRONG)) as agent:
        try:
            await research(agent, "How large is Oslo?")
        except InvalidAnswer as error:
            assert [problem.path for problem in error.problems] == ["$.inhabitants"]
        else:
            raise AssertionError("an answer that does not fit was returned")


async def test_when_the_first_model_fails_the_second_answers() -> None:
    providers = models(RIGHT)
    providers["openai"] = ScriptedProvider([Say("Os"), Fail(ServerError("down"))], name="openai")
    providers["anthropic"] = ScriptedProvider([Say(RIGHT), Finish()], name="anthropic")
    async with make_agent(providers) as agent:
        reply = await agent.ask("How large is Oslo?")
    assert (reply.text, reply.provider) == (RIGHT, "anthropic")


async def test_cancelled_anywhere_nothing_keeps_running() -> None:
    scripted = ScriptedProvider([Say(RIGHT), Finish()], name="openai")
    providers = {**models(RIGHT), "openai": scripted}

    async def operation() -> None:
        async with make_agent(providers) as agent:
            await research(agent, "How large is Oslo?")

    async def check() -> None:
        await trio.lowlevel.checkpoint()
        assert scripted.running == 0

    await cancel_everywhere(operation, check)


async def main() -> None:
    async with make_agent(models(RIGHT)) as agent:
        print(await research(agent, "How large is Oslo?"))


if __name__ == "__main__":
    trio.run(main)
    for test in [value for name, value in list(globals().items()) if name.startswith("test_")]:
        trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))
        print("passed:", test.__name__)
