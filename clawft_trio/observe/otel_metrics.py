"""Events as OpenTelemetry metrics. Needs the extra `otel`; used by `OtelObserver`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from clawft_trio.errors import ToolDenied, UnknownTool
from clawft_trio.observe.attributes import error_class
from clawft_trio.observe.events import (
    AttemptEnded,
    BreakerChanged,
    BusPressure,
    CacheBusted,
    Charged,
    Event,
    FailedOver,
    HedgeStarted,
    MessageDropped,
    Retracted,
    RetryScheduled,
    RoundEnded,
    ServerCalled,
    ServerGone,
    ToolEnded,
    TurnEnded,
    Undeliverable,
)
from clawft_trio.observe.otel_names import PROVIDERS, SECONDS, TOKENS, Names
from clawft_trio.target import split_name

_BREAKER = {"closed": 0, "half_open": 1, "open": 2}


class Metrics:
    """Creates the instruments and records events in them. No attribute contains a person or a session."""

    def __init__(self, meter: Meter, names: Names, depths: Callable[[], Mapping[str, int]] | None) -> None:
        self._names = names
        self._meter = meter
        self._calls = self._seconds(names.call_duration, "Model calls, from the first attempt to the answer.")
        self._first_chunk = self._seconds(names.first_chunk, "Until the first content of a model call.")
        self._tools = self._seconds(names.tool_duration, "Tool calls.")
        self._turns = self._seconds(names.turn_duration, "Turns of the agent.")
        self._requests = self._seconds("mcp.client.operation.duration", "Requests to MCP servers.")
        self._tokens = _TokenCounts(meter, names)
        self._cost = self._count("clawft.cost", "{USD}", "US dollars charged, of unseen attempts, too.")
        self._attempts = self._count("clawft.attempts", "{attempt}", "Attempts at models.")
        self._retries = self._count("clawft.retries", "{attempt}", "Retries that were scheduled.")
        self._failovers = self._count("clawft.failovers", "{attempt}", "Times that the next target took over.")
        self._hedges = self._count("clawft.hedges", "{attempt}", "Attempts started beside a slow one.")
        self._resets = self._count("clawft.resets", "{reset}", "Times that shown text was taken back.")
        self._cache_busts = self._count("clawft.cache.busts", "{request}", "Requests that lost their prompt cache.")
        self._dropped = self._count("clawft.bus.dropped", "{message}", "Messages dropped by a policy.")
        self._undelivered = self._count("clawft.bus.undeliverable", "{message}", "Replies that had to be stored.")
        self._gone = self._count("clawft.mcp.gone", "{connection}", "Connections to MCP servers that ended.")
        self._breaker = meter.create_gauge("clawft.breaker.state", "1", "0 closed, 1 half open, 2 open.")
        self._depth = None if depths else meter.create_gauge("clawft.bus.depth", "{message}", "At the last warning.")
        if depths is not None:
            self._watch(depths)

    def take(self, event: Event) -> None:  # noqa: PLR0912  # a table of events
        """Record *event*."""
        match event:
            case AttemptEnded():
                self._attempt(event)
            case RoundEnded():
                self._call(event)
            case ToolEnded(tool=tool, duration=duration, outcome=outcome, error=error):
                # The name of an unknown tool was invented by the model, so the number of such names is unbounded.
                named = "_OTHER" if outcome == "unknown" or isinstance(error, UnknownTool | ToolDenied) else tool
                attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": named}
                failure = None if outcome == "ok" else outcome
                self._tools.record(duration, attributes | _failure(error, failure))
            case TurnEnded(duration=duration, outcome=outcome, error=error):
                failure = None if outcome == "ok" else outcome
                self._turns.record(duration, {"gen_ai.operation.name": "invoke_agent"} | _failure(error, failure))
            case ServerCalled(method=method, server=server, duration=duration, error=error, outcome=outcome):
                attributes = {"mcp.method.name": method, "clawft.mcp.server": server}
                self._requests.record(duration, attributes | _failure(error, None if outcome == "ok" else outcome))
            case Charged(cost=cost, target=target) if cost is not None:
                self._cost.add(float(cost), self._target(target))
            case RetryScheduled(error=error):
                self._retries.add(1, _failure(error))
            case FailedOver(failed=failed, target=target, error=error):
                self._failovers.add(1, {"clawft.from": failed, "clawft.to": target} | _failure(error))
            case HedgeStarted(slow=slow, target=target):
                self._hedges.add(1, {"clawft.from": slow, "clawft.to": target})
            case Retracted(cause=cause):
                self._resets.add(1, _failure(cause))
            case CacheBusted(target=target, part=part):
                self._cache_busts.add(1, {"clawft.cache.part": part} | self._target(target))
            case BreakerChanged(target=target, state=state):
                self._breaker.set(_BREAKER[state], {"clawft.target": target})
            case BusPressure(queue=queue, depth=depth) if self._depth is not None:
                self._depth.set(depth, {"clawft.queue": queue})
            case MessageDropped(queue=queue, policy=policy):
                self._dropped.add(1, {"clawft.queue": queue, "clawft.policy": policy})
            case Undeliverable(error=error):
                self._undelivered.add(1, _failure(error))
            case ServerGone(server=server, error=error):
                self._gone.add(1, {"clawft.mcp.server": server} | _failure(error))
            case _:
                pass

    def _attempt(self, event: AttemptEnded) -> None:
        record = event.record
        target = self._target(record.target)
        self._attempts.add(1, target | {"clawft.attempt.outcome": record.outcome} | _failure(record.error))
        if record.usage is not None:
            self._tokens.add(record.usage.input_tokens, record.usage.output_tokens, target)

    def _call(self, event: RoundEnded) -> None:
        attributes = self._target(event.answered_by) | {"gen_ai.operation.name": "chat"}
        failure = None if event.ending in {"ok", "aborted"} else event.ending
        self._calls.record(event.latency.total, attributes | _failure(event.error, failure))
        if event.latency.first_content is not None:
            self._first_chunk.record(event.latency.first_content, attributes)

    def _target(self, target: str) -> dict[str, str]:
        provider, model = split_name(target)
        named = {self._names.provider: PROVIDERS.get(provider, provider), "gen_ai.request.model": model}
        return {name: value for name, value in named.items() if value}

    def _watch(self, depths: Callable[[], Mapping[str, int]]) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(depth, {"clawft.queue": queue}) for queue, depth in depths().items()]

        self._meter.create_observable_gauge("clawft.bus.depth", [observe], "{message}", "Messages that wait.")

    def _seconds(self, name: str, what: str) -> Histogram:
        return self._meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=SECONDS)

    def _count(self, name: str, unit: str, what: str) -> Counter:
        return self._meter.create_counter(name, unit, what)


class _TokenCounts:
    """Records tokens in the instruments of one version: a histogram by token type, or one counter per type."""

    def __init__(self, meter: Meter, names: Names) -> None:
        self._histogram: Histogram | None = None
        self._counters: tuple[Counter, Counter] | None = None
        if names.token_usage:
            self._histogram = meter.create_histogram(
                names.token_usage, "{token}", "Tokens used.", explicit_bucket_boundaries_advisory=TOKENS
            )
        else:
            self._counters = (
                meter.create_counter(names.input_tokens, "{token}", "Input tokens used."),
                meter.create_counter(names.output_tokens, "{token}", "Output tokens used."),
            )

    def add(self, given: int, produced: int, target: Mapping[str, str]) -> None:
        attributes = {**target, "gen_ai.operation.name": "chat"}
        if self._histogram is not None:
            self._histogram.record(given, attributes | {"gen_ai.token.type": "input"})
            self._histogram.record(produced, attributes | {"gen_ai.token.type": "output"})
        elif self._counters is not None:
            self._counters[0].add(given, attributes)
            self._counters[1].add(produced, attributes)


def _failure(error: BaseException | None, outcome: str | None = None) -> dict[str, str]:
    if error is not None:
        return {"error.type": error_class(error)}
    return {"error.type": outcome} if outcome else {}
