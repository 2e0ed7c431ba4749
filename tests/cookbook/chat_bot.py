"""A chat bot: a channel, permissions by sender, a daily budget for each.

Run it: python tests/cookbook/chat_bot.py

The channel is in memory, and the model is scripted. For a real bot, replace `Messenger` by an adapter to your messenger
and leave out `providers=`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from clawft_trio import ChatRequest, InboundMessage, OutboundMessage, Usage, open_agent, parse_config, tool
from clawft_trio.testing import CallTool, Finish, Say, Script, ScriptedProvider

CONFIG = parse_config("""{
  "prices": {"acme/large": {"input": 2.0, "output": 10.0}},
  "agents": {"defaults": {"maxTokens": 1000}},
  "routing": {"permissions": {
    "zeroTrust": {"toolAccess": [], "costBudgetDailyUsd": 0.015},
    "users": {"chat:ana": {"level": 1, "toolAccess": ["weather"], "costBudgetDailyUsd": 5.0}}
  }}
}""")


class Messenger:
    """A channel: `receive` publishes what people write, `send` shows the replies."""

    name = "chat"
    shows_partials = False

    def __init__(self, *written: tuple[str, str]) -> None:
        self._written = written
        self.shown: list[OutboundMessage] = []
        self.answered = trio.Event()

    async def receive(self, publish: Callable[[InboundMessage], Awaitable[object]]) -> None:
        for number, (sender, text) in enumerate(self._written):
            await publish(
                InboundMessage(channel="chat", sender_id=sender, chat_id=sender, content=text, id=f"message-{number}")
            )
        await trio.sleep_forever()

    async def send(self, message: OutboundMessage) -> None:
        await trio.lowlevel.checkpoint()
        self.shown.append(message)
        if len(self.shown) == len(self._written):
            self.answered.set()

    def shown_to(self, sender: str) -> list[OutboundMessage]:
        """The replies in one conversation, in order."""
        return [message for message in self.shown if message.chat_id == sender]


@tool(mode="read_only", total=10.0)
async def weather(city: str) -> str:
    """The weather in a city, now."""
    await trio.lowlevel.checkpoint()
    return f"{city}: rain"


def model_script(request: ChatRequest) -> Script:
    """A model that looks up the weather if it may, at 0.0102 dollars an answer."""
    usage = Usage(input_tokens=100, output_tokens=1000)
    if request.messages[-1].role == "tool":
        return [Say(f"It says: {request.messages[-1].text}"), Finish(usage=usage)]
    if request.tools:
        return [CallTool("weather", {"city": "Oslo"}), Finish(usage=usage)]
    return [Say("I have no tools for you."), Finish(usage=usage)]


async def main() -> None:
    messenger = Messenger(("ana", "Weather?"), ("bob", "Weather?"), ("bob", "And now?"))
    model = ScriptedProvider(choose=model_script, name="acme")
    async with open_agent(
        ["acme/large"], providers={"acme": model}, config=CONFIG, tools=[weather], channels=[messenger]
    ) as agent:
        with trio.fail_after(30):
            await messenger.answered.wait()
        spending = await agent.parts.costs.ledger.spending("sender")

    for message in messenger.shown:
        print(f"to {message.chat_id}: {message.content}")
    for spent in spending:
        print(f"{spent.group['sender']} has spent {spent.cost} dollars")

    assert [reply.content for reply in messenger.shown_to("ana")] == ["It says: Oslo: rain"]
    first, second = messenger.shown_to("bob")
    assert first.content == "I have no tools for you."
    assert second.metadata["error"] == "BudgetExceeded"
    assert [spent.group["sender"] for spent in spending] == ["chat:ana", "chat:bob"]


if __name__ == "__main__":
    trio.run(main)
