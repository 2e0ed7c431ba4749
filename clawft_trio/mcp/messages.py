"""Outgoing frames and pending calls of a multiplexer, and the options of a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import attrs
import msgspec
import outcome
import trio
from msgspec import Raw

from clawft_trio.mcp.jsonrpc import Envelope, Id

T = TypeVar("T")

Decode = Callable[[Raw], T]
OnProgress = Callable[["Progress"], object]
OnNotification = Callable[[str, Raw], object]
NotificationCallback = Callable[[str, Raw], Awaitable[None]]


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """A progress report for a call."""

    progress: float
    total: float | None = None
    message: str = ""
    progress_token: int | str = ""


class Outgoing:
    """A frame to be sent."""

    __slots__ = ("cancels", "headers", "id", "line", "method", "name")

    def __init__(
        self, line: bytes, method: str = "", *, key: Id | None = None, name: str = "", cancels: Id | None = None
    ) -> None:
        self.line: bytes = line
        self.method: str = method
        #: id of the request; None when the frame is not a request
        self.id: Id | None = key
        #: name of the tool or prompt, or the URI of the resource: HTTP repeats it in a header
        self.name: str = name
        #: id of the request that this frame cancels
        self.cancels: Id | None = cancels
        #: headers to send with the frame, if the transport has headers
        self.headers: Mapping[str, str] = _NO_HEADERS


_NO_HEADERS: Mapping[str, str] = {}


@attrs.frozen(kw_only=True)
class CallOptions:
    """How one request is sent, and how long its response may take.

    Args:
      name: name of the tool, prompt or resource, for transports that repeat it outside the message.
      total: seconds until the response; None is the client's default.
      longest: if set, each progress report restarts the clock of *total*, up to this many seconds in all.
      on_progress: called with each progress report as it arrives; synchronous and cheap. Its exceptions end the call.
      on_notification: called with each notification that is tagged with this subscription; synchronous and cheap. Its
        exceptions end the call. The peer may then end the call by cancelling it, which counts as an empty response.
      headers: headers to send with the request, if the transport has headers.
      quiet: send no `notifications/cancelled` when the caller is cancelled (`initialize` must not be cancelled).
    """

    name: str = ""
    total: float | None = None
    longest: float | None = None
    on_progress: OnProgress | None = None
    on_notification: OnNotification | None = None
    headers: Mapping[str, str] | None = None
    quiet: bool = False


DEFAULT_OPTIONS = CallOptions()


class Pending(Outgoing):
    """A call that waits for its response."""

    __slots__ = ("deadline", "hard_deadline", "key", "options", "started", "task", "total")

    def __init__(
        self, key: int, line: bytes, method: str, options: CallOptions, *, started: float, total: float
    ) -> None:
        super().__init__(line, method, key=key, name=options.name)
        if options.headers:
            self.headers: Mapping[str, str] = options.headers
        self.key: int = key
        self.options: CallOptions = options
        self.started: float = started
        self.total: float = total
        self.deadline: float = started + total
        self.hard_deadline: float = (
            self.deadline if options.longest is None else max(self.deadline, started + options.longest)
        )
        self.task: trio.lowlevel.Task = trio.lowlevel.current_task()

    def settle(self, result: outcome.Outcome[Envelope]) -> None:
        """Resume the caller with its response, or with an error. Called once."""
        trio.lowlevel.reschedule(self.task, result)
