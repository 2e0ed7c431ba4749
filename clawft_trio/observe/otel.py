"""Events as OpenTelemetry spans and metrics, by the conventions for generative AI. Needs the extra `otel`.

    invoke_agent clawft                      the turn
      chat gpt-5-mini                        a model call, however many attempts it takes
        attempt openai/gpt-5-mini            the attempts, retries and hedges among them
        attempt anthropic/claude-haiku-4-5
      execute_tool files__read               a tool call
        tools/call read                      its request to an MCP server

The spans of a turn and of its tool calls start together with them, and the span of a tool call is the current span
while the tool runs, also in its thread: spans that a tool creates are its children. All other spans are created when
the turn ends, with the original times. No span has the text of a user, a model or a tool.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import attrs
import trio

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as _missing:
    raise ImportError("OpenTelemetry is not installed: pip install 'clawft-trio[otel]'") from _missing

from clawft_trio.observe.attributes import error_class
from clawft_trio.observe.events import (
    Event,
    RoundEnded,
    ServerGone,
    ServerStarted,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from clawft_trio.observe.otel_metrics import Metrics
from clawft_trio.observe.otel_names import FRACTIONS, OPTIONS, PROVIDERS, VERSIONS, Names, Version
from clawft_trio.observe.recording import Now, utc_now
from clawft_trio.observe.redaction import Redactor, redact_secrets
from clawft_trio.observe.spans import Span, spans_of
from clawft_trio.target import split_name

SCOPE = "clawft_trio"

_Value = str | int | float | bool | list[str]


@attrs.frozen
class _LiveTool:
    """The span of a running tool call, and the context to restore after it."""

    span: trace.Span
    #: None when the span was not made current, because the event did not come from the task of the call
    before: Context | None


@attrs.define
class _Growing:
    """The events of a turn that has not ended, or of a model or tool call outside of turns."""

    #: context in which it began, which contains its parent span
    context: Context
    #: calendar time in nanoseconds at the trio time `zero`
    wall: int
    zero: float
    events: list[Event] = attrs.field(factory=list)
    #: span of the turn; None when its start was not seen
    root: trace.Span | None = None
    #: running tool calls by id
    running: dict[str, _LiveTool] = attrs.field(factory=dict)
    #: spans of tool calls by id, in the order of their start
    tools: dict[str, list[trace.Span]] = attrs.field(factory=dict)


class OtelObserver:
    """An observer that creates spans and metrics: `open_agent(..., observers=[OtelObserver()])`.

    A turn becomes a child of the span that is current where it starts. The spans of a call outside of a turn are
    created when it ends. Behind a queue (`open_queue`), spans that tools create are not children of `execute_tool`.

    Args:
      tracer_provider: by default the global one.
      meter_provider: by default the global one.
      version: version of the names; see `otel_names`.
      agent: name of the agent in `invoke_agent …`.
      depths: returns the number of messages in each queue, for the gauge `clawft.bus.depth`; called by the SDK in its
        own thread. Without it the gauge has the depth in the last warning about a full queue.
      redact: applied to every text.
      most_turns: largest number of running turns; beyond it the oldest is dropped without its spans.
      most_events: events of one turn that are kept.
      now: returns calendar time.
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
        self._conventions = _Conventions(names, agent)
        self._redact = redact
        self._most_turns = most_turns
        self._most_events = most_events
        self._now = now
        self._growing: OrderedDict[str, _Growing] = OrderedDict()

    def __repr__(self) -> str:
        return f"<OtelObserver: {len(self._growing)} turns under way>"

    def __call__(self, event: Event) -> None:
        """Count *event*, and keep it until its turn ends."""
        self._metrics.take(event)
        key = event.turn_id or event.call_id or _tool_or_server(event)
        if not key:
            return
        growing = self._growing.get(key) or self._begin(key, event)
        if len(growing.events) < self._most_events or isinstance(event, TurnEnded):
            growing.events.append(event)
        if isinstance(event, ToolStarted) and growing.events[-1] is event:
            self._tool_started(event, growing)
        elif isinstance(event, ToolEnded):
            _tool_ended(event, growing)
        if _ends(event):
            del self._growing[key]
            self._export(growing)

    def _begin(self, key: str, event: Event) -> _Growing:
        wall = round(self._now().timestamp() * 1e9)
        growing = self._growing[key] = _Growing(context.get_current(), wall, event.at)
        if isinstance(event, TurnStarted):
            made = self._conventions.turn(event.turn_id)
            growing.root = self._started(made, growing.context, event.at, growing)
        if len(self._growing) > self._most_turns:
            # The spans of the dropped turn are never ended, and so never exported.
            self._growing.popitem(last=False)
        return growing

    def _tool_started(self, event: ToolStarted, growing: _Growing) -> None:
        parent = growing.context if growing.root is None else trace.set_span_in_context(growing.root, growing.context)
        made = self._conventions.tool(event.tool, event.tool_call_id)
        span = self._started(made, parent, event.at, growing)
        growing.tools.setdefault(event.tool_call_id, []).append(span)
        before = None
        if _in_a_task():
            # All spans that the tool creates from here on, in its task or in a thread, are children of this span.
            before = context.get_current()
            context.attach(trace.set_span_in_context(span, before))
        growing.running[event.tool_call_id] = _LiveTool(span, before)

    def _started(self, made: _Made, parent: Context, at: float, growing: _Growing) -> trace.Span:
        start = _nanoseconds(at, growing)
        return self._tracer.start_span(made.name, parent, made.kind, made.attributes, start_time=start)

    def _export(self, growing: _Growing) -> None:
        for root in spans_of(growing.events, redact=self._redact).roots:
            self._span(root, growing.context, growing)
        _end_live(growing)

    def _span(self, span: Span, parent: Context, growing: _Growing, *, session: str = "") -> None:
        described = self._conventions.of(span)
        if described is None:
            return
        session = session or str(span.attributes.get("session", ""))
        if session:
            described.attributes["gen_ai.conversation.id"] = session
        made = _live(span, growing) or self._started(described, parent, span.start, growing)
        made.set_attributes(described.attributes)
        inner = trace.set_span_in_context(made, parent)
        for mark in span.marks:
            made.add_event(mark.name, _flat(mark.attributes), _nanoseconds(mark.at, growing))
        if span.status == "failed":
            made.set_status(Status(StatusCode.ERROR, str(span.attributes.get("error_message", "")) or None))
        for child in span.children:
            self._span(child, inner, growing, session=session)
        end = span.end if span.end is not None else growing.events[-1].at
        made.end(_nanoseconds(end, growing))


def _in_a_task() -> bool:
    """Return whether this code runs in a trio task, where the call itself runs, and not in the thread of a queue."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def _tool_ended(event: ToolEnded, growing: _Growing) -> None:
    live = growing.running.pop(event.tool_call_id, None)
    if live is not None and live.before is not None and trace.get_current_span() is live.span:
        context.attach(live.before)


def _live(span: Span, growing: _Growing) -> trace.Span | None:
    """Return the OpenTelemetry span that was started when *span* began; None when there is none."""
    if span.kind == "turn":
        root, growing.root = growing.root, None
        return root
    waiting = growing.tools.get(span.id, []) if span.kind == "tool" else []
    return waiting.pop(0) if waiting else None


def _end_live(growing: _Growing) -> None:
    """End the spans that no event ended."""
    for span in (*(one for waiting in growing.tools.values() for one in waiting), growing.root):
        if span is not None:
            span.end()


def _nanoseconds(at: float, growing: _Growing) -> int:
    return growing.wall + round((at - growing.zero) * 1e9)


def _tool_or_server(event: Event) -> str:
    """Return the key of an event outside of turns and model calls: each such tool call or server is a separate tree."""
    if isinstance(event, ServerStarted | ServerGone):
        return f"server {event.server}"
    tool_call_id = getattr(event, "tool_call_id", "")
    return f"tool {tool_call_id}" if tool_call_id else ""


def _ends(event: Event) -> bool:
    """Return whether *event* is the last one of its tree."""
    if isinstance(event, RoundEnded):
        return not event.turn_id
    if isinstance(event, ToolEnded):
        return not event.turn_id and not event.call_id
    return isinstance(event, TurnEnded | ServerGone)


@attrs.frozen
class _Made:
    name: str
    kind: SpanKind
    attributes: dict[str, _Value]


@attrs.frozen
class _Conventions:
    """Creates descriptions of spans with the names and attributes of the conventions."""

    names: Names
    agent: str

    def of(self, span: Span) -> _Made | None:
        made = self._described(span)
        if made is None:
            return None
        if span.status == "failed":
            made.attributes["error.type"] = _failure(span)
        elif span.status != "ok":
            made.attributes["clawft.status"] = span.status
        return made

    def _described(self, span: Span) -> _Made | None:  # noqa: PLR0911  # a table of kinds
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
                return _Made(f"mcp {span.id}", SpanKind.CLIENT, {"clawft.mcp.server": span.id})
            case _:
                # A wait is an event on the span that waits, not a span.
                return None

    def turn(self, turn_id: str) -> _Made:
        """Describe the span of a turn that begins."""
        attributes: dict[str, _Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": self.agent,
            "clawft.turn.id": turn_id,
        }
        return _Made(f"invoke_agent {self.agent}", SpanKind.INTERNAL, attributes)

    def tool(self, name: str, call_id: str) -> _Made:
        """Describe the span of a tool call that begins."""
        attributes: dict[str, _Value] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.type": "function",
        }
        return _Made(f"execute_tool {name}", SpanKind.INTERNAL, attributes)

    def _turn(self, span: Span) -> _Made:
        made = self.turn(span.id)
        made.attributes.update(_some(span, {"rounds": "clawft.turn.rounds"}))
        return made

    def _tool(self, span: Span) -> _Made:
        made = self.tool(span.name, span.id)
        made.attributes.update(_some(span, {"outcome": "clawft.tool.outcome", "waited": "clawft.tool.waited"}))
        return made

    def _call(self, span: Span) -> _Made:
        """Describe a call, with the answer and usage of its deciding attempt; no other span has usage attributes."""
        recorded = {"cost": "clawft.cost", "charged": "clawft.charged", "first_content": _FIRST_CHUNK}
        attempts = [child for child in span.children if child.kind == "attempt"]
        deciding = _deciding(span, attempts)
        target = span.name if "/" in span.name else "" if deciding is None else deciding.name
        attributes: dict[str, _Value] = {
            **self._common(target),
            **({} if deciding is None else self._exchange(deciding) | self._tokens(deciding)),
            **self._tokens(span),
            **_some(span, recorded),
            "clawft.attempts": len(attempts),
        }
        return _Made(f"chat {target.partition('/')[2]}".strip(), SpanKind.CLIENT, attributes)

    def _attempt(self, span: Span) -> _Made:
        """Describe an attempt, without the usage attributes of its call, which would be counted twice."""
        recorded = {
            "outcome": "clawft.attempt.outcome",
            "why": "clawft.attempt.why",
            "certainty": "clawft.attempt.certainty",
            "queued": "clawft.attempt.queued",
            "first_content": _FIRST_CHUNK,
            "error_status": "http.response.status_code",
            "input_tokens": "clawft.attempt.input_tokens",
            "output_tokens": "clawft.attempt.output_tokens",
        }
        attributes = {**self._common(span.name), **self._exchange(span), **_some(span, recorded)}
        if span.role:
            attributes["clawft.attempt.role"] = span.role
        return _Made(f"attempt {span.name}", SpanKind.CLIENT, attributes)

    def _common(self, target: str) -> dict[str, _Value]:
        provider, model = split_name(target)
        found: dict[str, _Value] = {
            "gen_ai.operation.name": "chat",
            self.names.provider: PROVIDERS.get(provider, provider) or "_OTHER",
        }
        return found | ({"gen_ai.request.model": model} if model else {})

    def _exchange(self, attempt: Span) -> dict[str, _Value]:
        """Return the options, server and answer of an attempt."""
        found = _some(
            attempt,
            {
                "server_address": "server.address",
                "server_port": "server.port",
                "response_id": "gen_ai.response.id",
                "response_model": "gen_ai.response.model",
            },
        )
        reason = attempt.attributes.get("finish_reason")
        if isinstance(reason, str):
            found["gen_ai.response.finish_reasons"] = [reason]
        options = attempt.attributes.get("options")
        return found | (self._options(options) if isinstance(options, dict) else {})

    def _options(self, options: Mapping[str, object]) -> dict[str, _Value]:
        found: dict[str, _Value] = {}
        for option, name in OPTIONS.items():
            value = options.get(option)
            if isinstance(value, list):
                found[name] = [str(one) for one in value]
            elif isinstance(value, str | int | float):
                # The conventions define some whole numbers as doubles.
                found[name] = float(value) if name in FRACTIONS else value
        if options.get("json"):
            found["gen_ai.output.type"] = "json"
        return found

    def _request(self, span: Span) -> _Made:
        attributes = _some(span, {"method": "mcp.method.name", "server": "clawft.mcp.server"})
        if attributes.get("mcp.method.name") == "tools/call":
            attributes["gen_ai.operation.name"] = "execute_tool"
            attributes["gen_ai.tool.name"] = str(span.attributes.get("target", ""))
        return _Made(span.name, SpanKind.CLIENT, attributes)

    def _tokens(self, span: Span) -> dict[str, _Value]:
        names = {
            "input_tokens": "gen_ai.usage.input_tokens",
            "output_tokens": "gen_ai.usage.output_tokens",
            "cached_tokens": self.names.cached_tokens,
            "cache_write_tokens": self.names.cache_write_tokens,
            "reasoning_tokens": self.names.reasoning_tokens,
        }
        return _some(span, names)


def _deciding(call: Span, attempts: list[Span]) -> Span | None:
    """Return the attempt that decided the call's ending: the last at the target that answered, else the last."""
    ended = [one for one in attempts if one.status == call.status] or attempts
    named = [one for one in ended if one.name == call.name]
    chosen = named or ended
    return chosen[-1] if chosen else None


def _failure(span: Span) -> str:
    return str(span.attributes.get("outcome", "_OTHER")) if span.error is None else error_class(span.error)


_PLAIN = str | int | float | bool

_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"


def _some(span: Span, names: Mapping[str, str]) -> dict[str, _Value]:
    """Return the attributes of *span* that are set, under the names of the conventions."""
    found = {name: span.attributes.get(fact) for fact, name in names.items()}
    return {name: value for name, value in found.items() if isinstance(value, _PLAIN)}


def _flat(recorded: Mapping[str, object]) -> dict[str, _Value]:
    return {f"clawft.{key}": value if isinstance(value, _PLAIN) else str(value) for key, value in recorded.items()}
