"""Record a conversation with a model once, and replay it under test, without keys and in no time.

Run it: python tests/cookbook/record_and_replay.py

`Tape` is a provider around a provider. Recording, it asks the real one and writes each answer; replaying, it plays the
answers by request. A request that was not recorded is an error, so a test notices when prompts or tools have changed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
import trio.testing

from clawft_trio import ChatRequest, ChatResponse, OpenAICompatible, Provider, TextDelta, ToolCall, open_agent, tool
from clawft_trio.chat import Call
from clawft_trio.errors import RequestRejected
from clawft_trio.testing import CallTool, Finish, Say, open_fault_server


class Tape:
    """A provider that records answers into a file, or replays them."""

    def __init__(self, path: Path, provider: Provider | None = None, *, name: str = "tape") -> None:
        self.name = name
        self._path = path
        self._provider = provider
        self._answers: dict[str, dict] = json.loads(path.read_text("utf-8")) if provider is None else {}

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        key = self._key(request)
        if self._provider is not None:
            response = await self._provider.complete(request, call)
            calls = [[made.id, made.name, made.arguments] for made in response.tool_calls]
            self._answers[key] = {"text": response.text, "calls": calls, "reason": response.finish_reason}
            self._path.write_text(json.dumps(self._answers, indent=1), "utf-8")
            return response
        if key not in self._answers:
            raise RequestRejected("this request was not recorded", provider=self.name, curable_elsewhere=False)
        answer = self._answers[key]
        await call.emit(TextDelta(answer["text"]))
        return ChatResponse(
            content=answer["text"],
            tool_calls=tuple(ToolCall(id=one, name=name, arguments=given) for one, name, given in answer["calls"]),
            finish_reason=answer["reason"],
            provider=self.name,
            model=request.model,
        )

    def _key(self, request: ChatRequest) -> str:
        """What makes two requests the same: the messages and the tools."""
        messages = [[message.role, message.text, message.tool_call_id] for message in request.messages]
        asked = json.dumps([messages, [offered.name for offered in request.tools]], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()


@tool(mode="read_only", total=10.0)
async def weather(city: str) -> str:
    """The weather in a city, now."""
    await trio.lowlevel.checkpoint()
    return f"{city}: rain"


async def converse(model: Provider) -> list[str]:
    """The program that is recorded and tested: two questions in one session."""
    async with open_agent(["tape/m"], providers={"tape": model}, tools=[weather]) as agent:
        return [(await agent.ask(text, session="trip")).text for text in ("Weather in Oslo?", "And tomorrow?")]


async def record(path: Path) -> list[str]:
    """Record against a model behind HTTP. Here it is scripted; for a real one, give its address and key."""
    scripts = (
        [CallTool("weather", {"city": "Oslo"}), Finish()],
        [Say("Rain in Oslo."), Finish()],
        [Say("Still rain."), Finish()],
    )
    async with (
        open_fault_server(*scripts) as server,
        OpenAICompatible("vendor", base_url=server.url, model="m") as model,
    ):
        return await converse(Tape(path, model))


async def replay(path: Path) -> None:
    assert await converse(Tape(path)) == ["Rain in Oslo.", "Still rain."]
    async with open_agent(["tape/m"], providers={"tape": Tape(path)}, tools=[weather]) as agent:
        try:
            await agent.ask("Weather in Bergen?")
        except RequestRejected as error:
            print("a question that was not recorded:", error)
        else:
            raise AssertionError("a request that was not recorded was answered")


async def main(path: Path) -> None:
    print("recorded:", await record(path))


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        tape = Path(folder) / "conversation.json"
        trio.run(main, tape)
        trio.run(replay, tape, clock=trio.testing.MockClock(autojump_threshold=0))
        print("replayed")
