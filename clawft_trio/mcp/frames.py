"""What travels through a multiplexer: frames on their way out, calls that wait, and what carries them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import outcome
import trio
from msgspec import Raw

from clawft_trio.errors import McpError
from clawft_trio.mcp.jsonrpc import Envelope, Id

if TYPE_CHECKING:
    from clawft_trio.mcp.multiplexer import Multiplexer

T = TypeVar("T")

Decode = Callable[[Raw], T]
OnProgress = Callable[["Progress"], object]
OnNotice = Callable[[str, Raw], object]
Listener = Callable[[str, Raw], Awaitable[None]]


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """How far a call has come, as its peer says."""

    progress: float
    total: float | None = None
    message: str = ""
    progress_token: int | str = ""


class Outgoing:
    """A frame on its way out."""

    __slots__ = ("cancels", "headers", "id", "line", "method", "name")

    def __init__(
        self, line: bytes, method: str = "", *, key: Id | None = None, name: str = "", cancels: Id | None = None
    ) -> None:
        self.line: bytes = line
        self.method: str = method
        #: of the request that this is; None in everything else
        self.id: Id | None = key
        #: of the tool or prompt, or the URI of the resource: HTTP repeats it in a header
        self.name: str = name
        #: the request that this notice takes back
        self.cancels: Id | None = cancels
        #: to be sent beside the frame, where the transport has headers
        self.headers: Mapping[str, str] = _NO_HEADERS


_NO_HEADERS: Mapping[str, str] = {}


class Pending(Outgoing):
    """A call that waits for its answer."""

    __slots__ = ("deadline", "hard_deadline", "on_notice", "on_progress", "quiet", "started", "task", "total")

    def __init__(self, key: int, line: bytes, method: str, name: str, started: float, total: float) -> None:
        super().__init__(line, method, key=key, name=name)
        self.started: float = started
        self.total: float = total
        self.deadline: float = started + total
        self.hard_deadline: float = self.deadline
        self.on_progress: OnProgress | None = None
        self.on_notice: OnNotice | None = None
        #: the peer is not told when nobody waits any more
        self.quiet: bool = False
        self.task: trio.lowlevel.Task = trio.lowlevel.current_task()

    def settle(self, result: outcome.Outcome[Envelope]) -> None:
        """Wake the caller with its answer, or with an error. Once."""
        trio.lowlevel.reschedule(self.task, result)


class Transport(Protocol):
    """What moves frames between a multiplexer and its peer."""

    async def run(self, mux: Multiplexer) -> McpError:
        """Move frames until the connection has ended; returns why it did.

        Cancellation: stops at once; a frame that was being written may be cut.
        """
        ...
