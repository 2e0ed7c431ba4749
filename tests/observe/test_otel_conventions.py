"""Spans of one turn against OpenTelemetry's conventions for generative AI, attribute by attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from judged import ScriptedProvider, open_fault_server
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from pytest_genai_semconv import assert_genai_span_compliant

from clawft_trio import Anthropic, OpenAICompatible, TurnPolicy, Usage, open_agent, tool
from clawft_trio.errors import ServerError
from clawft_trio.observe.otel import OtelObserver
from clawft_trio.observe.otel_names import PROVIDERS
from clawft_trio.testing import CallTool, Fail, Finish, Say, Status

USAGE = Usage(input_tokens=100, output_tokens=20, cached_tokens=40, cache_write_tokens=10, reasoning_tokens=5)

# Attribute, and its type in the conventions' registry.
TYPES: dict[str, type | tuple[type, ...]] = {
    "gen_ai.operation.name": str,
    "gen_ai.provider.name": str,
    "gen_ai.request.model": str,
    "gen_ai.request.max_tokens": int,
    "gen_ai.request.temperature": float,
    "gen_ai.request.seed": int,
    "gen_ai.request.stream": bool,
    "gen_ai.response.id": str,
    "gen_ai.response.model": str,
    "gen_ai.response.finish_reasons": tuple,
    "gen_ai.response.time_to_first_chunk": float,
    "gen_ai.usage.input_tokens": int,
    "gen_ai.usage.output_tokens": int,
    "gen_ai.usage.cache_read.input_tokens": int,
    "server.address": str,
    "server.port": int,
    "gen_ai.conversation.id": str,
}
OPERATIONS = {"chat", "invoke_agent", "execute_tool"}


class Backend:
    def __init__(self) -> None:
        self.exporter, self.provider = InMemorySpanExporter(), TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.observer = OtelObserver(tracer_provider=self.provider)
        self.tracer = self.provider.get_tracer("app")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def one(self, start: str) -> ReadableSpan:
        (found,) = (span for span in self.spans if span.name.startswith(start))
        return found

    def parent(self, name: str) -> str:
        names = {span.context.span_id: span.name for span in self.spans}
        (found,) = (span.parent for span in self.spans if span.name == name)
        return "" if found is None else names[found.span_id]


def openai(url: str) -> OpenAICompatible:
    return OpenAICompatible("openai", base_url=url, api_key="k")


def anthropic(url: str) -> Anthropic:
    return Anthropic("anthropic", base_url=url, api_key="k")


@pytest.mark.parametrize(
    ("name", "made", "dialect"), [("openai", openai, "openai"), ("anthropic", anthropic, "anthropic")]
)
async def test_a_chat_span_has_every_attribute_that_is_known(name: str, made: Any, dialect: str) -> None:
    backend, policy = Backend(), TurnPolicy(temperature=1, max_tokens=100)
    async with open_fault_server([Say("hi"), Finish(usage=USAGE)]) as server:
        async with (
            made(server.url) as provider,
            open_agent([f"{name}/m"], providers={name: provider}, observers=[backend.observer], turn=policy) as agent,
        ):
            await agent.ask("q")
    chat = backend.one("chat")
    attributes = dict(chat.attributes or {})
    for attribute in TYPES.keys() - {"gen_ai.request.seed"}:
        assert isinstance(attributes[attribute], TYPES[attribute]), attribute
    assert (chat.name, chat.kind) == ("chat m", SpanKind.CLIENT)
    assert attributes["gen_ai.provider.name"] == name
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.cache_read.input_tokens"]) == (100, 40)
    assert attributes["server.address"] == "127.0.0.1"
    assert "error.type" not in attributes


async def test_usage_is_on_one_span_and_every_span_is_valid_on_its_own() -> None:
    backend = Backend()
    failing = ScriptedProvider([Say("x"), Fail(ServerError("down", status=500))], [Say("ok"), Finish(usage=USAGE)])
    async with open_agent(["s/m"], providers={"s": failing}, observers=[backend.observer]) as agent:
        await agent.ask("q")
    counted = [span.name for span in backend.spans if "gen_ai.usage.input_tokens" in (span.attributes or {})]
    assert counted == ["chat m"]
    attempts = [span for span in backend.spans if span.name.startswith("attempt")]
    assert len(attempts) == 2
    for span in backend.spans:
        attributes = dict(span.attributes or {})
        assert attributes["gen_ai.operation.name"] in OPERATIONS, span.name
        if attributes["gen_ai.operation.name"] == "chat":
            assert attributes["gen_ai.provider.name"] and attributes["gen_ai.request.model"] == "m"
    failed = next(span for span in attempts if span.status.status_code.name == "ERROR")
    assert failed.attributes is not None and failed.attributes["error.type"] == "ServerError"


async def test_spans_that_a_tool_makes_are_inside_of_its_span_also_in_threads() -> None:
    backend = Backend()

    @tool(mode="read_only")
    async def awaited() -> str:
        """Work in a task."""
        with backend.tracer.start_as_current_span("in a task"):
            await trio.sleep(0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
        return "done"

    async def child() -> None:
        with backend.tracer.start_as_current_span("in a child task"):
            await trio.sleep(0)

    @tool(mode="read_only")
    def blocking() -> str:
        """Work in a thread."""
        with backend.tracer.start_as_current_span("in a thread"):
            return "done"

    model = ScriptedProvider([CallTool("awaited", {}), CallTool("blocking", {}), Finish()], [Say("ok"), Finish()])
    async with open_agent(
        ["s/m"], providers={"s": model}, tools=[awaited, blocking], observers=[backend.observer]
    ) as agent:
        with backend.tracer.start_as_current_span("request"):
            reply = await agent.ask("q")
            with backend.tracer.start_as_current_span("after"):
                pass
    assert [result.outcome for result in reply.tools] == ["ok", "ok"]
    assert backend.parent("in a task") == "execute_tool awaited"
    assert backend.parent("in a child task") == "in a task"
    assert backend.parent("in a thread") == "execute_tool blocking"
    assert backend.parent("invoke_agent clawft") == "request"
    assert backend.parent("after") == "request"


async def test_two_turns_at_once_keep_their_tools_apart() -> None:
    backend = Backend()

    @tool(mode="read_only")
    async def slow(n: int) -> str:
        """Work."""
        await trio.sleep(0.01 * n)
        with backend.tracer.start_as_current_span(f"work {n}"):
            return str(n)

    def script(request: Any) -> Any:
        number = request.messages[-1].text if request.messages[-1].role == "user" else ""
        return [CallTool("slow", {"n": int(number)}), Finish()] if number else [Say("ok"), Finish()]

    async with open_agent(
        ["s/m"], providers={"s": ScriptedProvider(choose=script)}, tools=[slow], observers=[backend.observer]
    ) as agent:
        async with trio.open_nursery() as nursery:
            for number in (1, 2, 3):
                nursery.start_soon(lambda n=number: agent.ask(str(n), session=f"s{n}"))
    tools = {span.context.span_id: span for span in backend.spans if span.name == "execute_tool slow"}
    work = [span for span in backend.spans if span.name.startswith("work")]
    assert len(work) == 3 and {span.parent.span_id for span in work if span.parent} == set(tools)


def test_names_of_providers_are_those_of_the_registry() -> None:
    registered = {
        "openai", "gcp.gen_ai", "gcp.vertex_ai", "gcp.gemini", "anthropic", "cohere", "azure.ai.inference",
        "azure.ai.openai", "ibm.watsonx.ai", "aws.bedrock", "perplexity", "x_ai", "deepseek", "groq", "mistral_ai",
        "moonshot_ai",
    }  # fmt: skip
    assert set(PROVIDERS.values()) <= registered


async def test_the_spans_pass_the_checks_of_pytest_genai_semconv() -> None:
    backend = Backend()

    @tool(mode="read_only")
    async def weather(city: str) -> str:
        """The weather."""
        return "rain"

    async with open_fault_server(
        [CallTool("weather", {"city": "Oslo"}), Finish(usage=USAGE)], [Say("hi"), Finish(usage=USAGE)], [Status(500)]
    ) as server:
        async with (
            openai(server.url) as provider,
            open_agent(
                ["openai/m"], providers={"openai": provider}, tools=[weather], observers=[backend.observer]
            ) as agent,
        ):
            await agent.ask("q")
    assert len(backend.spans) >= 6
    for span in backend.spans:
        assert_genai_span_compliant(span)
