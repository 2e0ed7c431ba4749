"""Scripted models and fault servers that refuse what vendors refuse. The tests of agents use these, not the bare ones."""

from contextlib import AbstractAsyncContextManager

import pytest
from llm.histories import Target

from clawft_trio import testing
from clawft_trio.chat import Call, ChatRequest, ChatResponse
from clawft_trio.errors import RequestRejected
from clawft_trio.testing.fault_server import FaultServer
from clawft_trio.testing.vendor_rules import refusal

# Three vendors that refuse much, and different things.
_TARGETS = (
    Target("anthropic", "claude-sonnet-4-5", "anthropic"),
    Target("openai", "gpt-5-mini", "openai"),
    Target("mistral", "mistral-large-latest", "mistral"),
)


class ScriptedProvider(testing.ScriptedProvider):
    """A scripted model; a request that a vendor would refuse, conformed to that vendor, fails the test."""

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Judge *request*, and play the next script."""
        for target in _TARGETS:
            _judge(request, target)
        return await super().complete(request, call)


def _judge(request: ChatRequest, target: Target) -> None:
    try:
        conformed = target.conform(request)
    except RequestRejected:
        # Refused here, before anything is sent: for example a blank question.
        return
    complaint = refusal(target.vendor, target.written(conformed))
    if complaint is not None:
        # No `Exception`: an agent answers those.
        pytest.fail(f"{target.vendor} refuses a request: {complaint}")


def open_fault_server(
    *scripts: testing.WireScript, accepts: str = "openai", **options: object
) -> AbstractAsyncContextManager[FaultServer]:
    """`testing.open_fault_server`, which refuses what *accepts* refuses."""
    return testing.open_fault_server(*scripts, accepts=accepts, **options)  # type: ignore[arg-type]
