"""Hypothesis strategies for requests, answers, failures and scripts.

@given(script=strategies.scripts(), request=strategies.requests())
@in_mock_time
async def test_what_was_seen_is_what_was_returned(script: Script, request: ChatRequest) -> None:
    screen = Screen()
    try:
        response = await ScriptedProvider(script).complete(request, Call(emit=screen.emit))
    except ProviderError:
        return
    screen.check(response)
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from clawft_trio.attempts import Usage
from clawft_trio.chat import ChatRequest, Image, Message, Opaque, Part, Text, ToolCall, ToolSpec
from clawft_trio.codec import encode_json
from clawft_trio.errors import (
    AuthFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidResponse,
    ModelNotFound,
    ProviderError,
    ProviderTimeout,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerError,
    StreamTruncated,
    TransportFailed,
)
from clawft_trio.testing.script import (
    BadJson,
    BadUtf8,
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Fail,
    Fault,
    Finish,
    Garbage,
    Hang,
    InPieces,
    Page,
    Pings,
    Preamble,
    Report,
    ResetConnection,
    Say,
    Script,
    SendHeaders,
    Status,
    Step,
    Think,
    Wait,
    WireScript,
)

_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True)
"""Tool names that both dialects accept."""

_TOKENS = st.integers(0, 1_000_000)

_SURE: tuple[type[ProviderError], ...] = (
    RateLimited,
    QuotaExhausted,
    ServerError,
    AuthFailed,
    ModelNotFound,
    RequestRejected,
    ContextLengthExceeded,
    ContentFiltered,
    TransportFailed,
    InvalidResponse,
    StreamTruncated,
)


def texts(*, min_size: int = 0, max_size: int = 40) -> st.SearchStrategy[str]:
    """Generate any text that UTF-8 can encode, line separators and emoji included."""
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=min_size, max_size=max_size)


def arguments() -> st.SearchStrategy[dict[str, Any]]:
    """Generate arguments of a tool call: small JSON objects."""
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts(max_size=10)
    values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
    return st.dictionaries(texts(max_size=10), values, max_size=4)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Generate usage that adds up: no part is larger than its whole."""
    given, made = draw(_TOKENS), draw(_TOKENS)
    cached = draw(st.integers(0, given))
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cached_tokens=cached,
        cache_write_tokens=draw(st.integers(0, given - cached)),
        reasoning_tokens=draw(st.integers(0, made)),
    )


def tool_calls() -> st.SearchStrategy[ToolCall]:
    """Generate complete tool calls with arguments that parse."""
    return st.builds(
        ToolCall,
        id=st.uuids().map(lambda value: f"call_{value.hex}"),
        name=_NAMES,
        arguments=arguments().map(lambda value: encode_json(value).decode()),
    )


def parts() -> st.SearchStrategy[Part]:
    """Generate text, images by URL and by content, and blocks that only their provider understands."""
    opaque = st.builds(
        Opaque,
        st.sampled_from(["anthropic", "openai"]),
        st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts(), "signature": texts(min_size=1)}),
    )
    seen = st.builds(Image, url=st.just("https://example.org/a.png"))
    sent = st.builds(Image, data=st.binary(min_size=1, max_size=20))
    return texts(min_size=1).map(Text) | seen | sent | opaque


@st.composite
def turns(draw: st.DrawFn) -> list[Message]:
    """Generate a user message with what follows it: an answer, or tool calls with a result for each."""
    asked = Message("user", tuple(draw(st.lists(parts().filter(_not_opaque), min_size=1, max_size=2))))
    wanted = draw(st.lists(tool_calls(), max_size=2, unique_by=lambda call: call.id))
    answer = Message.assistant(draw(texts(min_size=1)), tool_calls=tuple(wanted))
    return [asked, answer, *(Message.tool(draw(texts()), tool_call_id=call.id) for call in wanted)]


def _not_opaque(part: Part) -> bool:
    return not isinstance(part, Opaque)


def conversations() -> st.SearchStrategy[list[Message]]:
    """Generate messages as a provider accepts them: every tool call has a result, and the user or a tool is last."""
    system = st.lists(st.builds(Message.system, texts(min_size=1)), max_size=1)
    history = st.lists(turns(), max_size=2).map(lambda many: [message for turn in many for message in turn])
    last = st.builds(Message.user, texts(min_size=1)).map(lambda message: [message])
    return st.builds(lambda *three: [message for part in three for message in part], system, history, last)


def tool_specs() -> st.SearchStrategy[ToolSpec]:
    """Generate tools to offer."""
    return st.builds(ToolSpec, name=_NAMES, description=texts())


def requests() -> st.SearchStrategy[ChatRequest]:
    """Generate requests that every provider accepts."""
    return st.builds(
        ChatRequest,
        conversations(),
        model=st.sampled_from(["", "m"]),
        tools=st.lists(tool_specs(), max_size=3, unique_by=lambda spec: spec.name),
        max_tokens=st.none() | st.integers(1, 100_000),
        temperature=st.none() | st.floats(0, 2),
        stop=st.lists(texts(min_size=1, max_size=5), max_size=2),
        stream=st.booleans(),
    )


def provider_errors(*, retryable: bool | None = None) -> st.SearchStrategy[ProviderError]:
    """Generate failures of a provider, of every kind; with *retryable* only those with this value."""
    clocks = st.builds(
        ProviderTimeout, clock=st.sampled_from(["connect", "first_byte", "first_content", "gap", "total"])
    )
    waits = st.none() | st.floats(0, 120)
    others: st.SearchStrategy[ProviderError] = st.builds(
        lambda kind, wait: kind("scripted", retry_after=wait), st.sampled_from(_SURE), waits
    )
    every = others | clocks
    return every if retryable is None else every.filter(lambda error: error.retryable is retryable)


def pauses(*, longest: float = 5.0) -> st.SearchStrategy[Wait]:
    """Generate waits in eighths of a second, so that sums of them are exact."""
    return st.integers(0, int(longest * 8)).map(lambda eighths: Wait(eighths / 8))


def contents(*, longest_wait: float = 5.0) -> st.SearchStrategy[list[Step]]:
    """Generate the steps of a model before it ends: text, reasoning, tool calls, waits, usage."""
    calls = st.builds(CallTool, _NAMES, arguments(), fragments=st.integers(1, 4))
    step: st.SearchStrategy[Step] = st.one_of(
        texts(min_size=1).map(Say),
        texts(min_size=1).map(Think),
        calls,
        pauses(longest=longest_wait),
        usages().map(Report),
    )
    return st.lists(step, max_size=8)


def finishes() -> st.SearchStrategy[Finish]:
    """Generate terminal marks."""
    return st.builds(Finish, st.sampled_from([None, None, "stop", "length"]), st.none() | usages())


def healthy_scripts(*, longest_wait: float = 5.0) -> st.SearchStrategy[list[Step]]:
    """Generate complete answers, for both `ScriptedProvider` and `FaultServer`."""
    return st.builds(lambda steps, end: [*steps, end], contents(longest_wait=longest_wait), finishes())


def failing_scripts(*, hang: bool = False) -> st.SearchStrategy[Script]:
    """Generate in-memory answers that fail: raise, just stop, stop inside a tool call or, with *hang*, hang."""
    ends: list[st.SearchStrategy[list[Step | Fail]]] = [
        provider_errors().map(lambda error: [Fail(error)]),
        st.just([]),
        st.just([CallTool("f", '{"a": ')]),
    ]
    if hang:
        ends.append(st.just([Hang()]))
    return st.builds(lambda steps, end: [*steps, *end], contents(), st.one_of(ends))


def scripts(*, hang: bool = False) -> st.SearchStrategy[Script]:
    """Generate healthy and failing answers for `ScriptedProvider`."""
    return st.one_of(healthy_scripts(), failing_scripts(hang=hang))


def pieces() -> st.SearchStrategy[InPieces]:
    """Generate ways to cut the bytes of a body; shrinks towards single bytes."""
    return st.lists(st.integers(1, 40), min_size=1, max_size=6).map(InPieces)


def statuses() -> st.SearchStrategy[Status]:
    """Generate error statuses before any answer."""
    return st.builds(
        Status,
        st.sampled_from([400, 401, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504, 529]),
        retry_after=st.none() | st.integers(0, 3).map(float),
    )


def breaks(*, hang: bool = False) -> st.SearchStrategy[list[Step | Fault]]:
    """Generate irregular ends of a wire script."""
    cuts: list[Step | Fault] = [EndBody(), CloseConnection(), ResetConnection()]
    half: list[Step | Fault] = [CallTool("f", '{"a": "b')]
    others: list[list[Step | Fault]] = [
        [],
        [ErrorEvent("overloaded_error", status=529)],
        [ErrorEvent()],
        [BadUtf8()],
        [BadJson()],
        *([cut] for cut in cuts),
        *([*half, cut] for cut in cuts),
    ]
    silent: list[list[Step | Fault]] = [[Hang()], [Pings(every=0.05)]] if hang else []
    return st.sampled_from([*others, *silent])


def fault_scripts(*, hang: bool = False, longest_wait: float = 0.0) -> st.SearchStrategy[WireScript]:
    """Generate healthy and broken answers for `FaultServer`, with their bytes cut anywhere.

    Args:
      hang: include silence and endless pings; only for clients with short clocks.
      longest_wait: longest wait in seconds; 0 leaves waits out, because they take real time.
    """
    openings: list[Step | Fault] = [SendHeaders(), Preamble(), Pings(every=0.0, times=2)]
    opening = st.lists(st.sampled_from(openings), max_size=2, unique_by=type)
    steps_before = contents(longest_wait=longest_wait).map(lambda steps: [s for s in steps if s != Wait(0)])
    cut = st.lists(pieces(), max_size=1)
    answers: st.SearchStrategy[WireScript] = st.builds(
        lambda *four: [step for part in four for step in part],
        opening,
        cut,
        steps_before,
        breaks(hang=hang) | finishes().map(lambda end: [end]) | finishes().map(lambda end: [end, EndBody()]),
    )
    refusals: st.SearchStrategy[WireScript] = statuses().map(lambda status: [status])
    rubbish: list[WireScript] = [
        [Page(b"<html>no</html>")],
        [Page(b"<html>no</html>", status=502)],
        [Garbage(b"nope\r\n\r\n")],
        [ResetConnection()],
        [CloseConnection()],
    ]
    return st.one_of(answers, refusals, st.sampled_from(rubbish))
