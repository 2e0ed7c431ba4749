"""Records the answers of a real provider, and replays them in tests: the same pieces, at the same times.

    provider = record(provider_named("openai"), "weather.jsonl")    # once, with a key
    provider = replay("weather.jsonl")                              # in the test, without one

A recording is a file of JSON lines, one call per line: the request, each event with the seconds since the call began,
and the response or the error. Secrets are masked when the file is written.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import cattrs
import trio
from cattrs.strategies import configure_tagged_union

from clawft_trio import errors
from clawft_trio.agent.serialization import message_to_json, response_from_json, response_to_json
from clawft_trio.chat import (
    Call,
    ChatRequest,
    ChatResponse,
    Provider,
    ReasoningDelta,
    Reset,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallSealed,
    UsageReport,
)
from clawft_trio.codec import decode_json, encode_json, make_converter, structure
from clawft_trio.errors import InvalidData, Problem, ProviderError
from clawft_trio.observe import redact_secrets

MAX_SIZE = 64 << 20
"""Largest recording in bytes."""

_MOST_DIFFERENCES = 40
"""Largest number of lines of the difference in the error for a request that was not recorded."""

Recordable: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | ToolCallSealed | ToolCallReady | UsageReport
"""Events in a recording. A `Reset` is not recorded: the events that it retracts are left out."""

RequestKey: TypeAlias = Callable[[ChatRequest], object]
"""Returns the part of a request that must be equal in two equal requests, as a JSON value."""


class NotRecorded(LookupError):
    """The recording does not contain this request."""

    def __init__(self, message: str, *, nearest: object = None, difference: str = "") -> None:
        super().__init__(message + (f"\n{difference}" if difference else ""))
        #: key of the most similar recorded request; None when nothing is recorded
        self.nearest = nearest
        #: unified diff from the nearest recorded request to this one
        self.difference = difference


def request_key(request: ChatRequest) -> dict[str, Any]:
    """Return the parts of *request* that determine its answer, as JSON values with secrets masked.

    The sender, the prompt cache marks, and whether the answer is streamed are left out.
    """
    key: dict[str, Any] = masked(
        {
            "model": request.model,
            "messages": [_message(message) for message in request.messages],
            "tools": [attrs.asdict(tool) for tool in request.tools],
            "tool_choice": request.tool_choice,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stop": list(request.stop),
            "seed": request.seed,
            "reasoning_effort": request.reasoning_effort,
            "thinking_budget": request.thinking_budget,
            "verbosity": request.verbosity,
            "response_schema": request.response_schema,
            "extra": dict(request.extra),
        }
    )
    return key


def _message(message: Any) -> dict[str, Any]:
    fields = decode_json(message_to_json(message))
    return {name: value for name, value in fields.items() if name not in {"origin", "refused"}}


def masked(value: Any) -> Any:
    """Return *value*, a JSON value, with secrets masked in all of its texts."""
    if isinstance(value, str):
        return redact_secrets(value)
    if isinstance(value, Mapping):
        return {str(key): masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return value


class RecordingProvider:
    """Wraps *provider* and writes its answers to a file. Created by `record`."""

    def __init__(self, provider: Provider, file: str | Path, key: RequestKey) -> None:
        self._provider = provider
        self._file = Path(file)
        self._key = key
        self._started = False
        self._writing = trio.Lock()

    def __repr__(self) -> str:
        return f"<RecordingProvider {self._provider!r} to {self._file}>"

    @property
    def name(self) -> str:
        """Name of the wrapped provider."""
        return self._provider.name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Send *request* to the provider, append the call to the file, and return the answer.

        Raises:
          Exception: raised by the provider; a `ProviderError` is recorded, too.
          OSError: the file cannot be written.

        Cancellation: as for the provider; the call is not recorded.
        """
        began = trio.current_time()
        events: list[tuple[float, StreamEvent]] = []

        async def show(event: StreamEvent) -> None:
            if isinstance(event, Reset):
                events.clear()
            else:
                events.append((trio.current_time() - began, event))
            await call.emit(event)

        line: dict[str, Any] = {"provider": self.name, "request": self._key(request)}
        try:
            response = await self._provider.complete(request, call.showing(show))
        except ProviderError as exc:
            # A cancellation during the write is raised instead of the provider's error, which then does not matter.
            await self._write(line | _taken(events, began) | {"error": _error(exc)})  # noqa: ASYNC120
            raise
        await self._write(line | _taken(events, began) | {"response": decode_json(response_to_json(response))})
        return response

    async def _write(self, line: dict[str, Any]) -> None:
        data = encode_json(masked(line)) + b"\n"
        async with self._writing:
            mode = "ab" if self._started else "wb"
            self._started = True
            await trio.to_thread.run_sync(_append, self._file, mode, data)


def _append(file: Path, mode: str, data: bytes) -> None:
    with file.open(mode) as opened:
        opened.write(data)


def _taken(events: list[tuple[float, StreamEvent]], began: float) -> dict[str, Any]:
    return {
        "seconds": round(trio.current_time() - began, 6),
        "events": [[round(at, 6), _CONVERTER.unstructure(event, unstructure_as=Recordable)] for at, event in events],
    }


def _error(exc: ProviderError) -> dict[str, Any]:
    fields = {name: getattr(exc, name, None) for name in _ERROR_FIELDS}
    return {"class": type(exc).__name__, "message": str(exc), **fields}


_ERROR_FIELDS = ("status", "request_id", "retry_after")


@attrs.frozen(kw_only=True)
class RecordedCall:
    """One call of a recording."""

    request: Any
    provider: str
    #: seconds until the response or the error
    seconds: float
    events: tuple[tuple[float, StreamEvent], ...]
    response: ChatResponse | None = None
    error: Mapping[str, Any] | None = None


class ReplayingProvider:
    """A provider that answers from a recording. Created by `replay`."""

    def __init__(self, calls: tuple[RecordedCall, ...], key: RequestKey, file: str, *, timed: bool) -> None:
        self._calls = calls
        self._key = key
        self._file = file
        self._timed = timed
        self._used: dict[str, int] = {}
        #: every request, in order of arrival
        self.requests: list[ChatRequest] = []

    def __repr__(self) -> str:
        return f"<ReplayingProvider {self._file}: {len(self._calls)} calls>"

    @property
    def name(self) -> str:
        """Name of the recorded provider."""
        return self._calls[0].provider if self._calls else "replay"

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Emit the recorded events of the same request at the same times, and return or raise the recorded result.

        Several recordings of one request are used once each, in their order; the last one repeats.

        Raises:
          NotRecorded: there is no such request; the error has the nearest one and the difference.
          ProviderError: the recorded error.

        Cancellation: nothing is left behind; the recording counts as used.
        """
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        recorded = self._find(self._key(request))
        began = trio.current_time()
        for at, event in recorded.events:
            await self._wait(began + at)
            await call.emit(event)
        await self._wait(began + recorded.seconds)
        if recorded.response is None:
            raise _raised(recorded)
        return recorded.response

    async def _wait(self, until: float) -> None:
        if self._timed:
            await trio.sleep_until(until)
        else:
            await trio.lowlevel.checkpoint()

    def _find(self, key: object) -> RecordedCall:
        wanted = _canonical(key)
        same = [call for call in self._calls if _canonical(call.request) == wanted]
        if not same:
            raise self._missed(key)
        number = self._used.get(wanted, 0)
        self._used[wanted] = number + 1
        return same[min(number, len(same) - 1)]

    def _missed(self, key: object) -> NotRecorded:
        if not self._calls:
            return NotRecorded(f"{self._file} has no calls")
        asked = _pretty(key)
        nearest = max(self._calls, key=lambda call: difflib.SequenceMatcher(None, _pretty(call.request), asked).ratio())
        lines = difflib.unified_diff(_pretty(nearest.request), asked, "recorded", "asked", lineterm="", n=1)
        difference = "\n".join(_first(lines, _MOST_DIFFERENCES))
        number = self._calls.index(nearest) + 1
        message = f"{self._file} does not have this request; the nearest is call {number} of {len(self._calls)}:"
        return NotRecorded(message, nearest=nearest.request, difference=difference)


def record(provider: Provider, file: str | Path, *, key: RequestKey = request_key) -> RecordingProvider:
    """Write every answer of *provider* to *file*; the first answer replaces the content of the file.

        async with open_agent(["openai/gpt-5-mini"], providers={"openai": record(provider, "weather.jsonl")}) as agent:
            await agent.ask("What do I wear in Oslo today?")

    A thread writes the file: record with trio's real clock, because a `MockClock` may jump in the meantime.

    Args:
      key: the part of a request that is recorded, to find it by; pass the same function to `replay`.
    """
    return RecordingProvider(provider, file, key)


def replay(file: str | Path, *, key: RequestKey = request_key, timed: bool = True) -> ReplayingProvider:
    """Return a provider that answers from the recording *file*, without a network or a key.

    Blocks while it reads the file. Under a `MockClock` that jumps, the recorded times pass at once.

    Args:
      key: the part of two requests that must be equal; by default everything that determines the answer. A prompt that
        changes from run to run (a temporary folder, a date) needs a smaller key.
      timed: whether to wait between the events as in the recording; otherwise they are emitted at once.

    Raises:
      InvalidData: the file is not a recording; the error has the number of the line.
      OSError: the file cannot be read.
    """
    path = Path(file)
    if path.stat().st_size > MAX_SIZE:
        raise InvalidData([Problem("$", f"more than {MAX_SIZE} bytes")], source=str(path))
    lines = path.read_bytes().splitlines()
    calls = tuple(_call(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip())
    return ReplayingProvider(calls, key, str(path), timed=timed)


@attrs.frozen(kw_only=True)
class _Line:
    """One line of a recording, as it is written."""

    provider: str
    request: Any
    seconds: float
    events: tuple[tuple[float, Recordable], ...]
    response: Any = None
    error: Mapping[str, Any] | None = None


def _call(line: bytes, source: str) -> RecordedCall:
    try:
        decoded = decode_json(line)
        if not isinstance(decoded, dict):
            raise InvalidData([Problem("$", "not an object")])
        read = structure(decoded, _Line, converter=_CONVERTER, source=source)
        response = None if read.response is None else response_from_json(encode_json(read.response))
    except (InvalidData, errors.StoreCorrupt) as exc:
        raise InvalidData([Problem("$", f"no recorded call: {exc}")], source=source) from exc
    if (response is None) == (read.error is None):
        raise InvalidData([Problem("$", "expected a response or an error")], source=source)
    return RecordedCall(
        request=read.request,
        provider=read.provider,
        seconds=read.seconds,
        events=read.events,
        # Its attempts are those of the recorded call; the replay has different ones.
        response=None if response is None else attrs.evolve(response, attempts=()),
        error=read.error,
    )


def _raised(call: RecordedCall) -> ProviderError:
    fields = dict(call.error or {})
    kind = getattr(errors, str(fields.get("class", "")), ProviderError)
    if not (isinstance(kind, type) and issubclass(kind, ProviderError)):
        kind = ProviderError
    given = {name: fields[name] for name in _ERROR_FIELDS if fields.get(name) is not None}
    return kind(str(fields.get("message", "")), provider=call.provider, **given)


def _canonical(key: object) -> str:
    return json.dumps(key, sort_keys=True, default=str)


def _pretty(key: object) -> list[str]:
    return json.dumps(key, sort_keys=True, indent=1, ensure_ascii=False, default=str).splitlines()


def _first(lines: Iterator[str], most: int) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == most:
            yield "…"
            return
        yield line if len(line) <= 300 else f"{line[:299]}…"  # characters of one line


def _make_converter() -> cattrs.Converter:
    converter = make_converter()
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(Decimal, lambda text, _: Decimal(text))
    converter.register_structure_hook_func(lambda kind: kind is Any, lambda value, _: value)
    converter.register_structure_hook_func(lambda kind: kind == Mapping[str, Any], lambda value, _: dict(value))
    configure_tagged_union(Recordable, converter, tag_name="type", tag_generator=lambda kind: kind.__name__)
    return converter


_CONVERTER = _make_converter()
