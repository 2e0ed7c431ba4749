"""The steps of a scripted model: small frozen steps, one list of them per request.

The same steps are played in memory by `ScriptedProvider` and over real sockets by `FaultServer`:

    [Say("Oslo is "), Wait(0.2), Say("cold."), Finish()]                 # a healthy answer
    [CallTool("weather", {"city": "Oslo"}), Finish()]                    # asks for a tool
    [Say("Oslo is "), ResetConnection()]                                 # breaks (wire only)
    [Say("Oslo is "), Fail(ServerError("down"))]                         # breaks (memory only)

A script that ends without `Finish` is an answer that just stops: no consumer may take it for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import attrs

from clawft_trio.attempts import Usage
from clawft_trio.chat import JsonObject
from clawft_trio.codec import encode_json

_NO_HEADERS: Mapping[str, str] = {}


# --- what both can play -------------------------------------------------------------------------------


@attrs.frozen
class Say:
    """More text, in one delta."""

    text: str


@attrs.frozen
class Think:
    """More reasoning, in one delta."""

    text: str


def _json_text(arguments: str | JsonObject) -> str:
    return arguments if isinstance(arguments, str) else encode_json(arguments).decode()


@attrs.frozen
class CallTool:
    """Ask for a tool.

    Arguments given as text are sent as they are, so that they can be wrong: `CallTool("read", '{"path": "a')`
    followed by a cut is a call that broke off inside its arguments.
    """

    name: str
    #: JSON text
    arguments: str = attrs.field(default="{}", converter=_json_text)
    #: made from the call's position (`call_0`, …) when left empty
    id: str = ""
    #: deltas that the arguments are spread over
    fragments: int = attrs.field(default=3, kw_only=True, validator=attrs.validators.ge(1))


@attrs.frozen
class Wait:
    """Say nothing for *seconds*."""

    seconds: float = attrs.field(validator=attrs.validators.ge(0))


@attrs.frozen
class Hang:
    """Say nothing more, ever, and hold the connection."""


@attrs.frozen
class Report:
    """Report the usage so far."""

    usage: Usage


@attrs.frozen
class Finish:
    """The terminal mark: the answer is whole.

    On the wire it is followed, at the end of the script, by the protocol's last word (`[DONE]`, `message_stop`);
    `EndBody` right after `Finish` leaves that out.
    """

    #: None: `tool_calls` when a tool was asked for, else `stop`
    reason: str | None = None
    #: None: no usage is sent; Anthropic's protocol always has it, so there it is zeros
    usage: Usage | None = None


Step: TypeAlias = Say | Think | CallTool | Wait | Hang | Report | Finish


# --- in memory only -----------------------------------------------------------------------------------


@attrs.frozen
class Fail:
    """Raise *error*: an exception, of which each call gets a copy, or a callable that makes one."""

    error: Exception | Callable[[], Exception]


# --- on the wire only ---------------------------------------------------------------------------------


@attrs.frozen
class Status:
    """Answer with an error status and the dialect's error object, and nothing else."""

    status: int
    #: the dialect's own typed code; by default what it sends with this status
    code: str = ""
    message: str = "scripted"
    #: seconds, sent as `Retry-After` after scaling; None sends no such header
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, kw_only=True)
    #: the parameter that the error names, in the OpenAI dialect
    param: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class Page:
    """Answer with something that is not the protocol: a proxy's HTML, megabytes of error page."""

    body: bytes = attrs.field(repr=False)
    status: int = attrs.field(default=200, kw_only=True)
    content_type: str = attrs.field(default="text/html", kw_only=True)
    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, kw_only=True)


@attrs.frozen
class SendHeaders:
    """Send the response headers now; otherwise they go out with the first bytes of the body."""

    headers: Mapping[str, str] = _NO_HEADERS


@attrs.frozen
class Preamble:
    """Send what the dialect opens with (role chunk, `message_start`) now; otherwise it precedes the first content."""


@attrs.frozen
class Pings:
    """Keep the connection busy and say nothing: SSE comments, or Anthropic's `ping` events."""

    every: float = 1.0
    #: None: for ever
    times: int | None = None


@attrs.frozen
class ErrorEvent:
    """An error inside a stream that began well. Without streaming: an error *status*, or after a 200 the body."""

    code: str = ""
    message: str = "scripted"
    status: int = 500


@attrs.frozen
class BadJson:
    """One event with JSON that breaks off; the stream goes on."""


@attrs.frozen
class BadUtf8:
    """One text delta of bytes that are not UTF-8."""

    data: bytes = b"caf\xe9\xff"


@attrs.frozen
class Raw:
    """Bytes put into the body as they are. Without streaming they take the place of the answer."""

    data: bytes


@attrs.frozen
class Garbage:
    """Bytes put into the connection as they are, past HTTP; the connection is closed afterwards."""

    data: bytes


@attrs.frozen
class EndBody:
    """End the response body as HTTP wants it, whatever the protocol inside was about to say."""


@attrs.frozen
class CloseConnection:
    """Close the connection (FIN) in the middle of the body, or before there is one."""


@attrs.frozen
class ResetConnection:
    """Reset the connection (TCP RST). A `Wait` before it lets the client read what was sent."""


def _sizes(sizes: int | Sequence[int]) -> tuple[int, ...]:
    return (sizes,) if isinstance(sizes, int) else tuple(sizes)


def _positive(_: object, __: object, sizes: tuple[int, ...]) -> None:
    if not sizes or min(sizes) < 1:
        raise ValueError(f"piece sizes must be at least 1, got {sizes}")


@attrs.frozen
class InPieces:
    """From here on, gather the body up to the next pause and send it in pieces of *sizes* bytes, in rotation.

    Each piece is an HTTP chunk of its own, so that the client's reads are cut there and nowhere else.
    """

    sizes: tuple[int, ...] = attrs.field(converter=_sizes, validator=_positive)


Fault: TypeAlias = (
    Status
    | Page
    | SendHeaders
    | Preamble
    | Pings
    | ErrorEvent
    | BadJson
    | BadUtf8
    | Raw
    | Garbage
    | EndBody
    | CloseConnection
    | ResetConnection
    | InPieces
)

Script: TypeAlias = Sequence[Step | Fail]
"""What `ScriptedProvider` plays in one call."""

WireScript: TypeAlias = Sequence[Step | Fault]
"""What `FaultServer` plays for one request."""


def check_scripts(scripts: Iterable[object]) -> None:
    """Refuse what is no list of steps.

    Raises:
      TypeError: one of *scripts* is a single step, or text.
    """
    for script in scripts:
        if isinstance(script, str) or not isinstance(script, Iterable):
            raise TypeError(f"a script is a list of steps, as in [Say('Hello.'), Finish()]; this is none: {script!r}")


def say(text: str, *, every: float = 0.0) -> tuple[Say | Wait, ...]:
    """*text* word by word, *every* so many seconds: `[*say("one two three", every=0.02), Finish()]`."""
    return tuple(_spoken(text, every))


def _spoken(text: str, every: float) -> Iterator[Say | Wait]:
    for word in text.split(" "):
        if every:
            yield Wait(every)
        yield Say(f"{word} ")
