"""Asking a provider, and what was seen of its answer."""

from __future__ import annotations

import pytest

from clawft_trio.attempts import AttemptLog
from clawft_trio.chat import Call, ChatRequest, Message, TextDelta
from clawft_trio.llm import Anthropic, OpenAICompatible, OpenAIResponses

KEY = "sk-secret-0123456789"
PROVIDERS = {"openai": OpenAICompatible, "anthropic": Anthropic, "responses": OpenAIResponses}
DIALECTS = pytest.mark.parametrize("dialect", list(PROVIDERS))
BOTH_WAYS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])


def provider(dialect, server, **options):
    return PROVIDERS[dialect]("p", base_url=server.url, api_key=KEY, model="m", **options)


def asking(stream=True, **more):
    return ChatRequest([Message.user("Hi")], stream=stream, **more)


class Seen:
    """A consumer that keeps what it is shown, and the log of the call."""

    def __init__(self):
        self.events = []
        self.log = AttemptLog()

    async def emit(self, event):
        self.events.append(event)

    @property
    def call(self):
        return Call(emit=self.emit, log=self.log)

    @property
    def text(self):
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def record(self):
        (record,) = self.log.records
        return record
