"""The steps of a scripted model: small frozen steps, one list of them per request.

`ScriptedProvider` plays them in memory, and `FaultServer` plays the same steps over real sockets:

    [Say("Oslo is "), Wait(0.2), Say("cold."), Finish()]                 # a healthy answer
    [CallTool("weather", {"city": "Oslo"}), Finish()]                    # asks for a tool
    [Say("Oslo is "), ResetConnection()]                                 # breaks (wire only)
    [Say("Oslo is "), Fail(ServerError("down"))]                         # breaks (memory only)

A script that ends without `Finish` is an answer that just stops: no consumer may accept it as complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import attrs

from clawft_trio.attempts import Usage
from clawft_trio.chat import JsonObject
from clawft_trio.codec import encode_json

_NO_HEADERS: Mapping[str, str] = {}


@attrs.frozen
class Say:
    """Emit text, in one delta."""

    text: str


@attrs.frozen
class Think:
    """Emit reasoning, in one delta."""

    text: str


def _json_text(arguments: str | JsonObject) -> str:
    return arguments if isinstance(arguments, str) else encode_json(arguments).decode()


@attrs.frozen
class CallTool:
    """Emit a tool call.

    Arguments given as text are sent unchanged, so that they can be invalid: `CallTool("read", '{"path": "a')` followed
    by a fault that ends the stream is a call that is cut off inside its arguments.
    """

    name: str
    #: arguments as JSON text
    arguments: str = attrs.field(default="{}", converter=_json_text)
    #: id of the call; when empty, made from its position (`call_0`, …)
    id: str = ""
    #: number of deltas that the arguments are split into
    fragments: int = attrs.field(default=3, kw_only=True, validator=attrs.validators.ge(1))


@attrs.frozen
class Wait:
    """Send nothing for *seconds*."""

    seconds: float = attrs.field(validator=attrs.validators.ge(0))


@attrs.frozen
class Hang:
    """Send nothing more, and hold the connection open."""


@attrs.frozen
class Report:
    """Report the usage so far."""

    usage: Usage


@attrs.frozen
class Finish:
    """The terminal mark: the answer is complete.

    On the wire the protocol's own mark (`[DONE]`, `message_stop`) follows at the end of the script; `EndBody` right
    after `Finish` leaves it out.
    """

    #: finish reason; None: `tool_calls` when there was a tool call, else `stop`
    reason: str | None = None
    #: usage; None: none is sent, or zeros in Anthropic's protocol, which always has usage
    usage: Usage | None = None


Step: TypeAlias = Say | Think | CallTool | Wait | Hang | Report | Finish


@attrs.frozen
class Fail:
    """Raise *error*: an exception, of which each call gets a copy, or a callable that returns one."""

    error: Exception | Callable[[], Exception]


@attrs.frozen
class Status:
    """Respond with an error status and the dialect's error object, and nothing else."""

    status: int
    #: the dialect's typed code; by default the one that it sends with this status
    code: str = ""
    message: str = "scripted"
    #: seconds, sent as `Retry-After` after scaling; None sends no such header
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, kw_only=True)
    #: parameter that the error names, in the OpenAI dialect
    param: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class Page:
    """Respond with a body that is not the protocol: a proxy's HTML, megabytes of error page."""

    body: bytes = attrs.field(repr=False)
    status: int = attrs.field(default=200, kw_only=True)
    content_type: str = attrs.field(default="text/html", kw_only=True)
    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, kw_only=True)


@attrs.frozen
class SendHeaders:
    """Send the response headers now; otherwise they are sent with the first bytes of the body."""

    headers: Mapping[str, str] = _NO_HEADERS


@attrs.frozen
class Preamble:
    """Send the dialect's opening (role chunk, `message_start`) now; otherwise it precedes the first content."""


@attrs.frozen
class Pings:
    """Keep the connection busy without content: SSE comments, or Anthropic's `ping` events."""

    every: float = 1.0
    #: number of pings; None: without end
    times: int | None = None


@attrs.frozen
class ErrorEvent:
    """Send an error inside a stream that began well. Without streaming: an error *status*, or after a 200 the body."""

    code: str = ""
    message: str = "scripted"
    status: int = 500


@attrs.frozen
class BadJson:
    """Send one event whose JSON is cut off; the stream continues."""


@attrs.frozen
class BadUtf8:
    """Send one text delta with bytes that are not UTF-8."""

    data: bytes = b"caf\xe9\xff"


@attrs.frozen
class Raw:
    """Send bytes in the body unchanged. Without streaming they replace the answer."""

    data: bytes


@attrs.frozen
class Garbage:
    """Send bytes on the connection unchanged, bypassing HTTP, and close the connection."""

    data: bytes


@attrs.frozen
class EndBody:
    """End the response body correctly by HTTP, whatever the inner protocol would send next."""


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
    """From here on, collect the body up to the next pause and send it in pieces of *sizes* bytes, in rotation.

    Each piece is a separate HTTP chunk, so that the client's reads are cut exactly there.
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
"""The steps that `ScriptedProvider` plays in one call."""

WireScript: TypeAlias = Sequence[Step | Fault]
"""The steps that `FaultServer` plays for one request."""


def check_scripts(scripts: Iterable[object]) -> None:
    """Check that each script is a list of steps.

    Raises:
      TypeError: one of *scripts* is a single step, or text.
    """
    for script in scripts:
        if isinstance(script, str) or not isinstance(script, Iterable):
            raise TypeError(f"a script is a list of steps, as in [Say('Hello.'), Finish()]; this is none: {script!r}")


def say(text: str, *, every: float = 0.0) -> tuple[Say | Wait, ...]:
    """Return steps that say *text* word by word, *every* so many seconds: `[*say("one two", every=0.02), Finish()]`."""
    return tuple(_spoken(text, every))


def _spoken(text: str, every: float) -> Iterator[Say | Wait]:
    for word in text.split(" "):
        if every:
            yield Wait(every)
        yield Say(f"{word} ")
