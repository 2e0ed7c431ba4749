"""Events as OpenTelemetry spans and metrics, by the conventions for generative AI. Needs the extra `otel`.

    invoke_agent clawft                      the turn
      chat gpt-5-mini                        a model call, however many attempts it takes
        attempt openai/gpt-5-mini            the attempts, retries and hedges among them
        attempt anthropic/claude-haiku-4-5
      execute_tool files__read               a tool call
        tools/call read                      its request to an MCP server

A span tree is handed to the SDK when its turn ends, with the times at which everything happened: nothing is kept in the
program's context, and a turn costs its tracing once, after its reply. What people and models said is in no span.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import attrs

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as _missing:
    raise ImportError("OpenTelemetry is not installed: pip install 'clawft-trio[otel]'") from _missing

from clawft_trio.observe.attributes import error_class
from clawft_trio.observe.events import Event, RoundEnded, ServerGone, ServerStarted, TurnEnded
from clawft_trio.observe.otel_metrics import Metrics
from clawft_trio.observe.otel_names import PROVIDERS, VERSIONS, Names, Version
from clawft_trio.observe.recording import Now, utc_now
from clawft_trio.observe.redaction import Redactor, redact_secrets
from clawft_trio.observe.spans import Span, spans_of

SCOPE = "clawft_trio"

_Value = str | int | float | bool


@attrs.define
class _Growing:
    """The events of a turn that has not ended, or of a call outside of turns."""

    #: what was current where it began: its parent
    context: Context
    #: calendar time, in nanoseconds, at the trio time of `zero`
    wall: int
    zero: float
    events: list[Event] = attrs.field(factory=list)


class OtelObserver:
    """An observer that makes spans and metrics: `open_agent(..., observers=[OtelObserver()])`.

    A turn becomes a child of the span that is current where it starts. A call outside of a turn has its spans when
    the pipeline says that it ended.

    Args:
      tracer_provider: by default the global one.
      meter_provider: by default the global one.
      version: which names; see `otel_names`.
      agent: what the agent is called in `invoke_agent …`.
      depths: tells how much waits in which queue now, for the gauge `clawft.bus.depth`; called by the SDK, from its
        own thread. Without it the gauge has the last warning of a queue that was filling up.
      redact: goes over every text.
      most_turns: turns under way that are kept; of more than that the oldest is forgotten.
      most_events: events of one turn that are kept.
      now: calendar time.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        version: Version = "1.44",
        agent: str = "clawft",
        depths: Callable[[], Mapping[str, int]] | None = None,
        redact: Redactor = redact_secrets,
        most_turns: int = 1000,
        most_events: int = 10_000,
        now: Now = utc_now,
    ) -> None:
        names = VERSIONS[version]
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._metrics = Metrics(metrics.get_meter(SCOPE, meter_provider=meter_provider), names, depths)
        self._speech = _Speech(names, agent)
        self._mask = redact
        self._most_turns = most_turns
        self._most_events = most_events
        self._now = now
        self._growing: OrderedDict[str, _Growing] = OrderedDict()

    def __repr__(self) -> str:
        return f"<OtelObserver: {len(self._growing)} turns under way>"

    def __call__(self, event: Event) -> None:
        """Count *event*, and keep it until its turn ends."""
        self._metrics.take(event)
        key = event.turn_id or event.call_id or _server(event)
        if not key:
            return
        growing = self._growing.get(key) or self._begin(key, event)
        if len(growing.events) < self._most_events or isinstance(event, TurnEnded):
            growing.events.append(event)
        if _ends(event):
            del self._growing[key]
            self._export(growing)

    def _begin(self, key: str, event: Event) -> _Growing:
        wall = round(self._now().timestamp() * 1e9)
        growing = self._growing[key] = _Growing(context.get_current(), wall, event.at)
        if len(self._growing) > self._most_turns:
            self._growing.popitem(last=False)
        return growing

    def _export(self, growing: _Growing) -> None:
        for root in spans_of(growing.events, redact=self._mask).roots:
            self._span(root, growing.context, growing)

    def _span(self, span: Span, parent: Context, growing: _Growing, *, session: str = "") -> None:
        told = self._speech.of(span)
        if told is None:
            return
        session = session or str(span.attributes.get("session", ""))
        if session:
            told.attributes["gen_ai.conversation.id"] = session
        made = self._tracer.start_span(
            told.name, parent, told.kind, told.attributes, start_time=_nanoseconds(span.start, growing)
        )
        inner = trace.set_span_in_context(made, parent)
        for mark in span.marks:
            made.add_event(mark.name, _flat(mark.attributes), _nanoseconds(mark.at, growing))
        if span.status == "failed":
            made.set_status(Status(StatusCode.ERROR, str(span.attributes.get("error_message", "")) or None))
        for child in span.children:
            self._span(child, inner, growing, session=session)
        end = span.end if span.end is not None else growing.events[-1].at
        made.end(_nanoseconds(end, growing))


def _nanoseconds(at: float, growing: _Growing) -> int:
    return growing.wall + round((at - growing.zero) * 1e9)


def _server(event: Event) -> str:
    return f"server {event.server}" if isinstance(event, ServerStarted | ServerGone) else ""


def _ends(event: Event) -> bool:
    """Whether nothing more will come that belongs to the same tree."""
    if isinstance(event, RoundEnded):
        return not event.turn_id
    return isinstance(event, TurnEnded | ServerGone)


@attrs.frozen
class _Told:
    name: str
    kind: SpanKind
    attributes: dict[str, _Value]


@attrs.frozen
class _Speech:
    """Spans in the words of the conventions."""

    names: Names
    agent: str

    def of(self, span: Span) -> _Told | None:
        told = self._told(span)
        if told is None:
            return None
        if span.status == "failed":
            told.attributes["error.type"] = _failure(span)
        elif span.status != "ok":
            told.attributes["clawft.status"] = span.status
        return told

    def _told(self, span: Span) -> _Told | None:  # noqa: PLR0911  # a table of kinds
        match span.kind:
            case "turn":
                return self._turn(span)
            case "call":
                return self._call(span)
            case "attempt":
                return self._attempt(span)
            case "tool":
                return self._tool(span)
            case "request":
                return self._request(span)
            case "server":
                return _Told(f"mcp {span.id}", SpanKind.CLIENT, {"clawft.mcp.server": span.id})
            case _:
                # Waiting is an event of what waits, not work of its own.
                return None

    def _turn(self, span: Span) -> _Told:
        attributes: dict[str, _Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": self.agent,
            "clawft.turn.id": span.id,
            **_some(span, {"rounds": "clawft.turn.rounds"}),
        }
        return _Told(f"invoke_agent {self.agent}", SpanKind.INTERNAL, attributes)

    def _call(self, span: Span) -> _Told:
        recorded = {"cost": "clawft.cost", "charged": "clawft.charged", "first_content": _FIRST_CHUNK}
        target = span.name if "/" in span.name else next((c.name for c in span.children if c.kind == "attempt"), "")
        model = target.partition("/")[2]
        attributes: dict[str, _Value] = {
            "gen_ai.operation.name": "chat",
            **self._target(target),
            **self._tokens(span),
            **_some(span, recorded),
            "clawft.attempts": sum(child.kind == "attempt" for child in span.children),
        }
        return _Told(f"chat {model}".strip(), SpanKind.CLIENT, attributes)

    def _attempt(self, span: Span) -> _Told:
        recorded = {
            "outcome": "clawft.attempt.outcome",
            "why": "clawft.attempt.why",
            "certainty": "clawft.attempt.certainty",
            "queued": "clawft.attempt.queued",
            "first_content": _FIRST_CHUNK,
            "error_status": "http.response.status_code",
        }
        attributes = {**self._target(span.name), **self._tokens(span), **_some(span, recorded)}
        if span.role:
            attributes["clawft.attempt.role"] = span.role
        return _Told(f"attempt {span.name}", SpanKind.CLIENT, attributes)

    def _tool(self, span: Span) -> _Told:
        attributes: dict[str, _Value] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": span.name,
            "gen_ai.tool.call.id": span.id,
            "gen_ai.tool.type": "function",
            **_some(span, {"outcome": "clawft.tool.outcome", "waited": "clawft.tool.waited"}),
        }
        return _Told(f"execute_tool {span.name}", SpanKind.INTERNAL, attributes)

    def _request(self, span: Span) -> _Told:
        attributes = _some(span, {"method": "mcp.method.name", "server": "clawft.mcp.server"})
        if attributes.get("mcp.method.name") == "tools/call":
            attributes["gen_ai.tool.name"] = str(span.attributes.get("target", ""))
        return _Told(span.name, SpanKind.CLIENT, attributes)

    def _target(self, target: str) -> dict[str, _Value]:
        provider, _, model = target.partition("/")
        found: dict[str, _Value] = {self.names.provider: PROVIDERS.get(provider, provider)} if provider else {}
        return found | ({"gen_ai.request.model": model} if model else {})

    def _tokens(self, span: Span) -> dict[str, _Value]:
        names = {
            "input_tokens": "gen_ai.usage.input_tokens",
            "output_tokens": "gen_ai.usage.output_tokens",
            "cached_tokens": self.names.cached_tokens,
            "cache_write_tokens": self.names.cache_write_tokens,
            "reasoning_tokens": self.names.reasoning_tokens,
        }
        return _some(span, names)


def _failure(span: Span) -> str:
    return str(span.attributes.get("outcome", "_OTHER")) if span.error is None else error_class(span.error)


_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"


def _some(span: Span, names: Mapping[str, str]) -> dict[str, _Value]:
    """The facts that are there, under the names that they have elsewhere."""
    found = {name: span.attributes.get(fact) for fact, name in names.items()}
    return {name: value for name, value in found.items() if isinstance(value, _Value)}


def _flat(recorded: Mapping[str, object]) -> dict[str, _Value]:
    return {f"clawft.{key}": value if isinstance(value, _Value) else str(value) for key, value in recorded.items()}
