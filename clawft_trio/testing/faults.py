"""The ways in which model servers fail, by name, for tests of any client.

    @pytest.mark.parametrize("name", FAULTS)
    async def test_a_broken_primary_is_not_noticed(name: str) -> None:
        async with open_fault_server(FAULTS[name].script, [Say("Hello."), Finish()]) as server:
            ...

Each fault was observed in practice or is in the reports of a public benchmark (failoverbench). Refused connections
need no script: use `refused_url`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from clawft_trio.testing.dialects import DialectName
from clawft_trio.testing.script import (
    BadJson,
    BadUtf8,
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Fault,
    Finish,
    Garbage,
    Hang,
    Page,
    Pings,
    Preamble,
    ResetConnection,
    Say,
    SendHeaders,
    Status,
    Step,
    Wait,
    WireScript,
)

_DELTAS_TEXT = "one two three "

_DELTAS: tuple[Step | Fault, ...] = (Say("one "), Say("two "), Say("three "))

_READ = Wait(0.02)
"""Lets a client read what was sent before a reset makes its system discard it (macOS)."""


@attrs.frozen
class NamedFault:
    """One kind of failure."""

    #: script that the server plays
    script: WireScript
    #: text that a streaming client receives before the failure
    shown: str = attrs.field(default="", kw_only=True)
    #: dialects in which a streamed answer is complete nevertheless: a client that fails on it is too strict
    whole: tuple[DialectName, ...] = attrs.field(default=(), kw_only=True)
    #: whether only a clock of the client ends it
    endless: bool = attrs.field(default=False, kw_only=True)


FAULTS: Mapping[str, NamedFault] = MappingProxyType(
    {
        # before there is an answer
        "429": NamedFault([Status(429)]),
        "429 with Retry-After": NamedFault([Status(429, retry_after=1)]),
        "500": NamedFault([Status(500)]),
        "503": NamedFault([Status(503)]),
        "529 overloaded": NamedFault([Status(529, "overloaded_error")]),
        "reset before headers": NamedFault([ResetConnection()]),
        "closed before headers": NamedFault([CloseConnection()]),
        "silence": NamedFault([Hang()], endless=True),
        "an HTML page": NamedFault([Page(b"<!doctype html><title>Sign in</title>")]),
        "5 MB of error page": NamedFault([Page(b"<p>Bad gateway</p>" * 290_000, status=502)]),
        "not HTTP": NamedFault([Garbage(b"SSH-2.0-OpenSSH_9.6\r\n")]),
        # 200, and no content
        "200, then silence": NamedFault([SendHeaders(), Hang()], endless=True),
        "200, then an error": NamedFault([SendHeaders(), ErrorEvent("overloaded_error", status=529)]),
        "200, then a reset": NamedFault([SendHeaders(), _READ, ResetConnection()]),
        "200, then a clean end": NamedFault([SendHeaders(), EndBody()]),
        "preamble, then a reset": NamedFault([Preamble(), _READ, ResetConnection()]),
        "pings for ever": NamedFault([Pings(every=0.05)], endless=True),
        # content, and then
        "deltas, then a clean end": NamedFault([*_DELTAS, EndBody()], shown=_DELTAS_TEXT),
        "deltas, then closed": NamedFault([*_DELTAS, _READ, CloseConnection()], shown=_DELTAS_TEXT),
        "deltas, then a reset": NamedFault([*_DELTAS, _READ, ResetConnection()], shown=_DELTAS_TEXT),
        "deltas, then an error": NamedFault([*_DELTAS, ErrorEvent("overloaded_error", status=529)], shown=_DELTAS_TEXT),
        "deltas, then silence": NamedFault([*_DELTAS, Hang()], shown=_DELTAS_TEXT, endless=True),
        "deltas, then pings for ever": NamedFault([*_DELTAS, Pings(every=0.05)], shown=_DELTAS_TEXT, endless=True),
        "a malformed event": NamedFault([*_DELTAS, BadJson(), Say("four"), Finish()], shown=_DELTAS_TEXT),
        "cut inside tool arguments": NamedFault(
            [*_DELTAS, CallTool("read_file", '{"path": "a.t'), _READ, ResetConnection()], shown=_DELTAS_TEXT
        ),
        "tool arguments that are not JSON": NamedFault(
            [*_DELTAS, CallTool("read_file", '{"path": "a.t'), Finish()], shown=_DELTAS_TEXT
        ),
        # Unusual but complete when `[DONE]` follows the finish reason; not when `message_stop` is the terminal mark.
        "no last word": NamedFault([*_DELTAS, Finish(), EndBody()], shown=_DELTAS_TEXT, whole=("openai",)),
        "bytes that are not UTF-8": NamedFault(
            [*_DELTAS, BadUtf8(b"\xff"), Finish()], shown=f"{_DELTAS_TEXT}\ufffd", whole=("openai", "anthropic")
        ),
    }
)
"""Every fault, by name."""
