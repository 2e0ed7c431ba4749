"""Spans and metrics, as the SDK's in-memory exporters see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import attrs
import pytest
from observe.turns import play
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as named
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics as metrics

from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.errors import PeerGone, ServerError, StoreError, ToolDenied, ToolFailed, UnknownTool
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import (
    AttemptEnded,
    BreakerChanged,
    BusPressure,
    CacheBusted,
    Charged,
    Event,
    MessageDropped,
    RoundEnded,
    ServerCalled,
    ServerGone,
    ServerStarted,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    Undeliverable,
)
from clawft_trio.observe.otel import OtelObserver
from clawft_trio.observe.otel_names import TOKENS, VERSIONS

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Backend:
    """An observer, and what arrives behind it."""

    def __init__(self, options: dict[str, object] | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.metrics: dict[str, dict[tuple[object, ...], object]] = {}
        meters = MeterProvider([self.reader])
        self.observer = OtelObserver(
            tracer_provider=self.tracers, meter_provider=meters, now=lambda: BEGAN, **(options or {})
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> dict[tuple[object, ...], object]:
        """Return the values of a metric by the values of its attributes."""
        # Older SDKs report a gauge only once, so what another metric's reading has reported is kept.
        data = self.reader.get_metrics_data()
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
            found = self.metrics.setdefault(metric.name, {})
            for point in metric.data.data_points:
                found[tuple(point.attributes.values())] = getattr(point, "sum", getattr(point, "value", None))
        return self.metrics.get(name, {})

    def outline(self) -> list[tuple[object, ...]]:
        """Each root with what is below it: name, seconds from the first start to its start and end, status."""
        zero = min(span.start_time for span in self.spans)

        def below(parent: int | None) -> list[tuple[object, ...]]:
            found = [s for s in self.spans if (None if s.parent is None else s.parent.span_id) == parent]
            return [
                (
                    *(
                        span.name,
                        (span.start_time - zero) / 1e9,
                        (span.end_time - zero) / 1e9,
                        span.status.status_code.name,
                    ),
                    *below(span.context.span_id),
                )
                for span in sorted(found, key=lambda span: (span.start_time, span.name))
            ]

        return below(None)


async def test_a_turn_with_a_retry_a_failover_a_hedge_and_three_tools(autojump_clock: object) -> None:
    backend = Backend()
    await play(backend.observer)
    assert backend.outline() == [
        (
            *("invoke_agent clawft", 0.0, 14.5, "UNSET"),
            (
                *("chat two", 0.0, 5.0, "UNSET"),
                ("attempt a/one", 0.0, 1.0, "ERROR"),
                ("attempt a/one", 2.0, 3.0, "ERROR"),
                ("attempt b/two", 3.0, 5.0, "UNSET"),
            ),
            ("execute_tool broken", 5.0, 6.0, "ERROR"),
            ("execute_tool weather", 5.0, 7.0, "UNSET"),
            ("execute_tool alone", 7.0, 7.5, "UNSET"),
            (
                *("chat two", 7.5, 14.5, "UNSET"),
                ("attempt a/one", 7.5, 14.5, "UNSET"),
                ("attempt b/two", 12.5, 14.5, "UNSET"),
            ),
        )
    ]
    by_name = {span.name: span for span in backend.spans}
    chats = [span for span in backend.spans if span.name == "chat two"]
    assert [[event.name for event in chat.events] for chat in chats] == [
        ["retry_scheduled", "retracted", "failed_over"],
        ["hedge_started"],
    ]
    first = dict(chats[0].attributes)
    assert first["gen_ai.operation.name"] == "chat"
    assert (first["gen_ai.provider.name"], first["gen_ai.request.model"]) == ("b", "two")
    assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.output_tokens"]) == (100, 20)
    assert (first["gen_ai.response.time_to_first_chunk"], first["clawft.attempts"]) == (4.0, 3)
    assert first["gen_ai.conversation.id"] == "local:ana"
    roles = {
        (s.attributes["clawft.attempt.role"], s.attributes["clawft.attempt.outcome"])
        for s in backend.spans
        if s.name.startswith("attempt")
    }
    assert roles == {
        ("first", "failed"),
        ("retry", "failed"),
        ("failover", "ok"),
        ("first", "cancelled"),
        ("hedge", "ok"),
    }
    broken = by_name["execute_tool broken"]
    assert broken.attributes["error.type"] == "ToolFailed"
    assert broken.attributes["gen_ai.tool.call.id"] == "b"
    assert [span.kind.name for span in (by_name["invoke_agent clawft"], broken, chats[0])] == [
        "INTERNAL",
        "INTERNAL",
        "CLIENT",
    ]
    # Under a mock clock that starts anywhere, calendar times are exact all the same.
    assert by_name["invoke_agent clawft"].start_time == round(BEGAN.timestamp() * 1e9)

    assert backend.points("clawft.retries") == {("TransportFailed",): 1}
    assert backend.points("clawft.failovers") == {("a/one", "b/two", "ServerError"): 1}
    assert backend.points("clawft.hedges") == {("a/one", "b/two"): 1}
    assert backend.points("clawft.resets") == {("TransportFailed",): 1}
    assert backend.points("gen_ai.client.operation.duration") == {("b", "two", "chat"): 12.0}
    assert backend.points("gen_ai.client.operation.time_to_first_chunk") == {("b", "two", "chat"): 11.0}
    assert backend.points("gen_ai.client.token.usage") == {
        ("b", "two", "chat", "input"): 200,
        ("b", "two", "chat", "output"): 40,
    }
    assert backend.points("clawft.invoke_agent.duration") == {("invoke_agent",): 14.5}


@pytest.mark.parametrize(
    ("version", "provider", "duration", "tokens"),
    [
        ("1.36", "gen_ai.system", "gen_ai.client.operation.duration", "gen_ai.client.token.usage"),
        ("1.44", "gen_ai.provider.name", "gen_ai.client.operation.duration", "gen_ai.client.token.usage"),
        (
            "2026-10",
            "gen_ai.provider.name",
            "gen_ai.client.inference.duration",
            "gen_ai.client.inference.usage.input_tokens",
        ),
    ],
)
async def test_the_user_chooses_the_version_of_the_names(
    version: str, provider: str, duration: str, tokens: str, autojump_clock: object
) -> None:
    backend = Backend({"version": version, "agent": "nora"})
    await play(backend.observer)
    (chat, *_) = [span for span in backend.spans if span.name == "chat two"]
    assert chat.attributes[provider] == "b"
    assert backend.points(duration)
    assert sum(backend.points(tokens).values()) in {200, 240}
    assert backend.spans[-1].name == "invoke_agent nora"


def test_the_names_of_1_44_are_those_of_the_python_package() -> None:
    names = VERSIONS["1.44"]
    assert names.provider == named.GEN_AI_PROVIDER_NAME
    assert names.cached_tokens == named.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS
    assert names.cache_write_tokens == named.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS
    assert names.reasoning_tokens == named.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS
    assert names.call_duration == metrics.GEN_AI_CLIENT_OPERATION_DURATION
    assert names.first_chunk == metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK
    assert names.token_usage == metrics.GEN_AI_CLIENT_TOKEN_USAGE
    assert VERSIONS["1.36"].provider == named.GEN_AI_SYSTEM


def told(backend: Backend, *events: Event) -> Backend:
    for event in events:
        backend.observer(event)
    return backend


def test_an_mcp_tool_call_has_its_request_below_it_and_a_server_its_own_span() -> None:
    backend = told(
        Backend(),
        ServerStarted(at=0.0, server="files", protocol="2025-06-18"),
        TurnStarted(at=1.0, session="s", sender="a", message_id="m", turn_id="t"),
        ToolStarted(at=1.0, tool="files__read", tool_call_id="c", turn_id="t"),
        ServerCalled(
            at=3.0,
            server="files",
            method="tools/call",
            target="read",
            tool_call_id="c",
            turn_id="t",
            outcome="timeout",
            duration=2.0,
        ),
        ToolEnded(at=3.0, tool="files__read", tool_call_id="c", turn_id="t", outcome="timeout", duration=2.0),
        TurnEnded(at=4.0, session="s", message_id="m", outcome="ok", duration=3.0, turn_id="t"),
        ServerGone(at=5.0, server="files", error=PeerGone("exit 1")),
    )
    turn, server = backend.outline()
    assert turn[4] == ("execute_tool files__read", 0.0, 2.0, "ERROR", ("tools/call read", 0.0, 2.0, "ERROR"))
    assert server[0] == "mcp files"
    request = next(span for span in backend.spans if span.name == "tools/call read")
    assert dict(request.attributes) == {
        "mcp.method.name": "tools/call",
        "clawft.mcp.server": "files",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "read",
        "error.type": "timeout",
        "gen_ai.conversation.id": "s",
    }
    assert backend.points("mcp.client.operation.duration") == {("tools/call", "files", "timeout"): 2.0}
    assert backend.points("clawft.mcp.gone") == {("files", "PeerGone"): 1}


def test_a_turn_is_a_child_of_what_was_current_where_it_began() -> None:
    backend = Backend()
    with backend.tracers.get_tracer("app").start_as_current_span("request") as outer:
        backend.observer(TurnStarted(at=0.0, session="s", sender="a", message_id="m", turn_id="t"))
    backend.observer(TurnEnded(at=1.0, session="s", message_id="m", outcome="ok", duration=1.0, turn_id="t"))
    assert backend.spans[-1].parent.span_id == outer.get_span_context().span_id
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_call_outside_of_turns_has_its_span_when_it_ends() -> None:
    record = AttemptRecord(
        target="mistral/large", outcome="ok", started=0.0, latency=Latency(total=2.0), usage=Usage(input_tokens=7)
    )
    backend = told(
        Backend(),
        AttemptEnded(at=2.0, record=record, call_id="c"),
        RoundEnded(
            at=2.0, ending="ok", sender="", answered_by="mistral/large", latency=Latency(total=2.0), call_id="c"
        ),
    )
    assert backend.outline() == [("chat large", 0.0, 2.0, "UNSET", ("attempt mistral/large", 0.0, 2.0, "UNSET"))]
    assert backend.spans[-1].attributes["gen_ai.provider.name"] == "mistral_ai"
    assert repr(backend.observer) == "<OtelObserver: 0 turns under way>"


def test_what_happens_beside_turns_is_counted() -> None:
    message = InboundMessage(channel="c", sender_id="s", chat_id="1", content="x")
    charged = {
        "sender": "c:s",
        "target": "a/one",
        "input_tokens": 1,
        "output_tokens": 1,
        "certainty": "exact",
        "call_id": "c",
    }
    backend = told(
        Backend(),
        BreakerChanged(at=0.0, target="a/one", state="open", retry_after=30.0),
        BreakerChanged(at=0.0, target="b/two", state="half_open"),
        BusPressure(at=0.0, queue="inbound", depth=80, capacity=100),
        MessageDropped(at=0.0, queue="inbound", policy="drop_oldest", message=message),
        Charged(at=0.0, cost=Decimal("0.25"), **charged),
        Charged(at=0.0, cost=None, **charged),
    )
    assert backend.points("clawft.breaker.state") == {("a/one",): 2, ("b/two",): 1}
    assert backend.points("clawft.bus.depth") == {("inbound",): 80}
    assert backend.points("clawft.bus.dropped") == {("inbound", "drop_oldest"): 1}
    assert backend.points("clawft.cost") == {("a", "one"): 0.25}


def test_the_depth_of_the_bus_can_be_read_at_any_time() -> None:
    depth = {"inbound": 3}
    backend = Backend({"depths": lambda: depth})
    backend.observer(BusPressure(at=0.0, queue="inbound", depth=80, capacity=100))
    assert backend.points("clawft.bus.depth") == {("inbound",): 3}
    depth["inbound"] = 5
    assert backend.points("clawft.bus.depth") == {("inbound",): 5}


def test_a_model_that_makes_up_tools_makes_up_no_metrics() -> None:
    ends = [
        ToolEnded(
            at=0.0,
            tool=f"made_up_{n}",
            tool_call_id=f"c{n}",
            turn_id="t",
            outcome="unknown",
            duration=0.0,
            error=UnknownTool("no"),
        )
        for n in range(20)
    ]
    assert len(told(Backend(), *ends).points("clawft.execute_tool.duration")) == 1


def test_turns_that_never_end_and_events_without_end_are_forgotten() -> None:
    backend = Backend({"most_turns": 3, "most_events": 5})
    for number in range(10):
        backend.observer(TurnStarted(at=0.0, session="s", sender="a", message_id="m", turn_id=f"t{number}"))
    assert repr(backend.observer) == "<OtelObserver: 3 turns under way>"
    for number in range(50):
        backend.observer(ToolStarted(at=1.0, tool="x", tool_call_id=f"c{number}", turn_id="t9"))
    backend.observer(TurnEnded(at=2.0, session="s", message_id="m", outcome="ok", duration=2.0, turn_id="t9"))
    assert [len(root) - 4 for root in backend.outline()] == [4]


async def test_requests_that_lose_their_prompt_cache_are_counted() -> None:
    backend = Backend()
    for part in ("system", "messages", "messages"):
        backend.observer(CacheBusted(target="openai/m", byte=1, of=2, part=part, index=0))
    points = backend.points("clawft.cache.busts")
    assert sorted(points.values()) == [1, 2]
    assert {part for values in points for part in values} >= {"system", "messages"}


@pytest.mark.parametrize(
    ("attempts", "ending", "answered_by", "response"),
    [
        # The last one at the target that answered, of those with the call's own ending.
        ([("a/m", "failed"), ("b/m", "ok")], "ok", "b/m", "1"),
        ([("b/m", "ok"), ("a/m", "cancelled")], "ok", "b/m", "0"),
        ([("b/m", "failed"), ("b/m", "ok"), ("a/m", "ok")], "ok", "b/m", "1"),
        ([("b/m", "ok"), ("b/m", "ok")], "ok", "b/m", "1"),
        # None of its target: the last with its ending; none with its ending: the last of all.
        ([("a/m", "ok"), ("a/m", "failed")], "ok", "b/m", "0"),
        ([("a/m", "failed"), ("c/m", "failed")], "failed", "b/m", "1"),
        ([("a/m", "failed"), ("c/m", "cancelled")], "ok", "b/m", "1"),
    ],
)
def test_a_call_has_the_answer_of_the_attempt_that_decided_it(
    attempts: list[tuple[str, str]], ending: str, answered_by: str, response: str
) -> None:
    ended = [
        AttemptEnded(
            at=2.0 + number,
            call_id="c",
            record=AttemptRecord(
                target=target,
                outcome=outcome,
                started=float(number),
                latency=Latency(total=2.0),
                response_id=f"{number}",
            ),
        )
        for number, (target, outcome) in enumerate(attempts)
    ]
    done = RoundEnded(
        at=9.0, ending=ending, sender="", answered_by=answered_by, latency=Latency(total=9.0), call_id="c"
    )
    call = told(Backend(), *ended, done).spans[-1]
    assert call.attributes["gen_ai.response.id"] == response
    assert call.attributes["clawft.attempts"] == len(attempts)


STARTED = TurnStarted(at=0.0, session="s", sender="a", message_id="m", turn_id="t")
ENDED = TurnEnded(at=4.0, session="s", message_id="m", outcome="ok", duration=4.0, turn_id="t")
TOOL = ToolStarted(at=1.0, tool="x", tool_call_id="c", turn_id="t")
TOOL_ENDED = ToolEnded(at=2.0, tool="x", tool_call_id="c", turn_id="t", outcome="ok", duration=1.0)


async def test_the_span_of_a_tool_is_current_in_its_task_until_it_ends() -> None:
    backend = Backend()
    with backend.tracers.get_tracer("app").start_as_current_span("request") as outer:
        told(backend, STARTED, TOOL)
        assert trace.get_current_span().name == "execute_tool x"
        told(backend, TOOL_ENDED)
        assert trace.get_current_span() is outer


async def test_a_span_that_a_tool_has_left_current_stays_so() -> None:
    backend = Backend()
    with backend.tracers.get_tracer("app").start_as_current_span("request"):
        told(backend, STARTED, TOOL)
        with backend.tracers.get_tracer("app").start_as_current_span("inner") as inner:
            told(backend, TOOL_ENDED)
            assert trace.get_current_span() is inner


def test_outside_of_tasks_no_span_becomes_current() -> None:
    backend = told(Backend(), STARTED, TOOL)
    assert trace.get_current_span() is trace.INVALID_SPAN
    told(backend, TOOL_ENDED, ENDED)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_span_that_has_not_ended_ends_with_the_last_event() -> None:
    backend = told(Backend(), STARTED, TOOL, ENDED)
    assert backend.outline() == [
        ("invoke_agent clawft", 0.0, 4.0, "UNSET", ("execute_tool x", 1.0, 4.0, "UNSET")),
    ]
    assert [span.attributes.get("clawft.status") for span in backend.spans] == ["open", None]


def attempt(error: Exception | None, outcome: str = "failed") -> AttemptEnded:
    latency = Latency(total=1.0)
    record = AttemptRecord(target="a/one", outcome=outcome, started=0.0, latency=latency, error=error)
    return AttemptEnded(at=1.0, record=record, call_id="c")


@pytest.mark.parametrize(
    ("error", "outcome", "status", "described", "attributes"),
    [
        (ServerError("down"), "failed", "ERROR", "down", {"error.type": "ServerError"}),
        (KeyError("a name"), "failed", "ERROR", None, {"error.type": "KeyError"}),
        (None, "failed", "ERROR", None, {"error.type": "failed"}),
        (None, "ok", "UNSET", None, {}),
        (None, "cancelled", "UNSET", None, {"clawft.status": "cancelled"}),
    ],
)
def test_a_failed_span_has_its_text_if_there_is_one(
    error: Exception | None, outcome: str, status: str, described: str | None, attributes: dict[str, str]
) -> None:
    done = RoundEnded(at=2.0, ending=outcome, sender="", answered_by="", latency=Latency(total=2.0), call_id="c")
    backend = told(Backend(), attempt(error, outcome), done)
    call = next(span for span in backend.spans if span.name.startswith("chat"))
    one = next(span for span in backend.spans if span.name.startswith("attempt"))
    # A call that nobody answered is named by the attempt that decided it.
    assert (one.name, call.name) == ("attempt a/one", "chat one")
    assert (one.status.status_code.name, one.status.description) == (status, described)
    found = {name: one.attributes.get(name) for name in ("error.type", "clawft.status") if name in one.attributes}
    assert found == attributes
    assert backend.points("clawft.attempts") == {
        ("a", "one", outcome, *([] if error is None else [type(error).__name__])): 1,
    }


@pytest.mark.parametrize(
    ("answered_by", "attempts", "name"),
    [("b/small", 0, "chat small"), ("b/small", 1, "chat small"), ("", 1, "chat one"), ("", 0, "chat")],
)
def test_a_call_is_named_by_the_model_that_answered_or_that_was_asked(
    answered_by: str, attempts: int, name: str
) -> None:
    latency = Latency(total=2.0)
    done = RoundEnded(at=2.0, ending="ok", sender="", answered_by=answered_by, latency=latency, call_id="c")
    backend = told(Backend(), *[attempt(None, "ok")] * attempts, done)
    assert backend.spans[-1].name == name


@pytest.mark.parametrize(
    ("outcome", "error", "named"),
    [
        ("ok", None, ("x",)),
        ("error", ToolFailed("no"), ("x", "ToolFailed")),
        ("timeout", None, ("x", "timeout")),
        ("denied", ToolDenied("no"), ("_OTHER", "ToolDenied")),
        ("error", UnknownTool("no"), ("_OTHER", "UnknownTool")),
        ("unknown", None, ("_OTHER", "unknown")),
    ],
)
def test_tool_calls_are_counted_by_name_and_failure(
    outcome: str, error: Exception | None, named: tuple[str, ...]
) -> None:
    backend = told(Backend(), attrs.evolve(TOOL_ENDED, outcome=outcome, error=error, duration=2.0))
    assert backend.points("clawft.execute_tool.duration") == {("execute_tool", *named): 2.0}


def test_replies_without_a_channel_are_counted_by_their_error() -> None:
    message = OutboundMessage(channel="c", chat_id="1", content="x")
    event = Undeliverable(at=0.0, message=message)
    backend = told(Backend(), event, attrs.evolve(event, error=StoreError("away")), event)
    assert backend.points("clawft.bus.undeliverable") == {(): 2, ("StoreError",): 1}


def test_the_boundaries_of_tokens_are_those_of_the_conventions() -> None:
    assert (len(TOKENS), TOKENS[:3], TOKENS[-1]) == (14, (1, 4, 16), 67_108_864)


def test_older_names_count_the_tokens_of_each_kind() -> None:
    record = AttemptRecord(
        target="a/one",
        outcome="ok",
        started=0.0,
        latency=Latency(total=1.0),
        usage=Usage(input_tokens=7, output_tokens=3),
    )
    for version, names in VERSIONS.items():
        backend = told(Backend({"version": version}), AttemptEnded(at=1.0, record=record, call_id="c"))
        points = [backend.points(name) for name in (names.token_usage, names.input_tokens, names.output_tokens) if name]
        assert sorted(value for found in points for value in found.values()) == [3, 7]
