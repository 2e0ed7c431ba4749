"""The ways in which model servers break, by name: what any client of them should be tested against.

    @pytest.mark.parametrize("name", FAULTS)
    async def test_a_broken_primary_is_not_noticed(name: str) -> None:
        async with open_fault_server(FAULTS[name].script, [Say("Hello."), Finish()]) as server:
            ...

Each was seen in the wild or is in the reports of a public benchmark (failoverbench). Refused connections are no
script: `refused_url` has them.
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

_SAID = "one two three "

_TOLD: tuple[Step | Fault, ...] = (Say("one "), Say("two "), Say("three "))

_READ = Wait(0.02)
"""Lets a client read what was sent before a reset makes its system forget it (macOS)."""


@attrs.frozen
class NamedFault:
    """One way to break."""

    #: what the server plays
    script: WireScript
    #: the text that a stream's client has been sent before it breaks
    shown: str = attrs.field(default="", kw_only=True)
    #: the dialects in which a streamed answer is complete all the same: a client that fails on it is too strict
    whole: tuple[DialectName, ...] = attrs.field(default=(), kw_only=True)
    #: nothing ends it but the client's own clock
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
        "deltas, then a clean end": NamedFault([*_TOLD, EndBody()], shown=_SAID),
        "deltas, then closed": NamedFault([*_TOLD, _READ, CloseConnection()], shown=_SAID),
        "deltas, then a reset": NamedFault([*_TOLD, _READ, ResetConnection()], shown=_SAID),
        "deltas, then an error": NamedFault([*_TOLD, ErrorEvent("overloaded_error", status=529)], shown=_SAID),
        "deltas, then silence": NamedFault([*_TOLD, Hang()], shown=_SAID, endless=True),
        "deltas, then pings for ever": NamedFault([*_TOLD, Pings(every=0.05)], shown=_SAID, endless=True),
        "a malformed event": NamedFault([*_TOLD, BadJson(), Say("four"), Finish()], shown=_SAID),
        "cut inside tool arguments": NamedFault(
            [*_TOLD, CallTool("read_file", '{"path": "a.t'), _READ, ResetConnection()], shown=_SAID
        ),
        "tool arguments that are not JSON": NamedFault(
            [*_TOLD, CallTool("read_file", '{"path": "a.t'), Finish()], shown=_SAID
        ),
        # odd, and complete: where `[DONE]` follows the finish reason, but not where `message_stop` is the terminal mark
        "no last word": NamedFault([*_TOLD, Finish(), EndBody()], shown=_SAID, whole=("openai",)),
        "bytes that are not UTF-8": NamedFault(
            [*_TOLD, BadUtf8(b"\xff"), Finish()], shown=f"{_SAID}\ufffd", whole=("openai", "anthropic")
        ),
    }
)
"""Every fault, by name."""
