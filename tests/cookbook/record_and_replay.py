"""Record a conversation with a model once, and replay it under test, without keys and in no time.

Run it: python tests/cookbook/record_and_replay.py

`record` is a provider around a provider: it asks the real one and writes each answer to a file. `replay` makes a
provider of the file. A request that was not recorded is an error that shows the difference, so a test notices when
prompts or tools have changed.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import trio
import trio.testing

from clawft_trio import OpenAICompatible, Provider, open_agent, tool
from clawft_trio.testing import CallTool, Finish, NotRecorded, Say, open_fault_server, record, replay


@tool(mode="read_only", total=10.0)
async def weather(city: str) -> str:
    """The weather in a city, now."""
    await trio.lowlevel.checkpoint()
    return f"{city}: rain"


async def converse(model: Provider, *questions: str) -> list[str]:
    """The program that is recorded and tested: questions in one session."""
    async with open_agent(["vendor/m"], providers={"vendor": model}, tools=[weather]) as agent:
        return [(await agent.ask(question, session="trip")).text for question in questions]


async def record_it(file: Path) -> None:
    """Record against a model behind HTTP, on the real clock: the file is written in a thread.

    Here the model is scripted; for a real one, give its address and key, or use `provider_named`.
    """
    scripts = (
        [CallTool("weather", {"city": "Oslo"}), Finish()],
        [Say("Rain in Oslo."), Finish()],
        [Say("Still rain."), Finish()],
    )
    async with (
        open_fault_server(*scripts) as server,
        OpenAICompatible("vendor", base_url=server.url, model="m") as model,
    ):
        print("recorded:", await converse(record(model, file), "Weather in Oslo?", "And tomorrow?"))


async def replay_it(file: Path) -> None:
    """The test: the same pieces at the same times. Under a `MockClock` that jumps they take no time."""
    assert await converse(replay(file), "Weather in Oslo?", "And tomorrow?") == ["Rain in Oslo.", "Still rain."]
    try:
        await converse(replay(file), "Weather in Bergen?")
    except NotRecorded as error:
        assert "Weather in Bergen?" in error.difference
        print("a question that was not recorded:", error)
    else:
        raise AssertionError("a request that was not recorded was answered")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        conversation = Path(folder) / "conversation.jsonl"
        trio.run(record_it, conversation)
        trio.run(replay_it, conversation, clock=trio.testing.MockClock(autojump_threshold=0))
        print("replayed")
