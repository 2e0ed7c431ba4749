"""The client of one request: what it declared, how to notify it, and how a tool asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.types import JsonObject
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe.events import ToolProgress
from clawft_trio.tools.client import ClientRequest, LogLevel, ToolClient

if TYPE_CHECKING:
    from clawft_trio.mcp.server.tasks import TaskTable

LEVELS: tuple[LogLevel, ...] = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)


class Channel(Protocol):
    """What carries the messages that belong to one request."""

    def notify(self, method: str, params: JsonObject) -> None:
        """Send a notification, or drop it when the client reads too slowly. Never blocks."""
        ...

    async def request(self, method: str, params: JsonObject, *, total: float) -> JsonObject:
        """Send a request and wait for its result, at most *total* seconds. Not in 2026-07-28.

        Raises:
          PeerError, PeerGone, RequestTimeout, ProtocolViolation: there is no result.

        Cancellation: the client is notified.
        """
        ...

    def release(self) -> None:
        """Close the request's HTTP stream; the client comes back for the rest."""
        ...


@attrs.define(kw_only=True, eq=False)
class Peer:
    """What is known of a client: for a connection or session, or in 2026-07-28 for one request."""

    auth: AuthContext
    #: speaks 2026-07-28: no handshake, no requests to it
    stateless: bool = False
    #: the handshake has taken place; always true when stateless
    initialized: bool = False
    version: str = ""
    capabilities: JsonObject = attrs.field(factory=dict)
    #: the lowest level of log lines that it wants; None: none
    log_level: LogLevel | None = "info"
    #: resources it subscribed to
    subscriptions: set[str] = attrs.field(factory=set)
    #: its tool calls that run as tasks; None where there are none
    tasks: TaskTable | None = None


class InputRequired(BaseException):
    """A tool has asked what only the next round of its call can answer. Passes every `except Exception`."""

    def __init__(self, requests: Mapping[str, ClientRequest], state: str) -> None:
        super().__init__("the client has to answer first")
        self.requests: Mapping[str, ClientRequest] = requests
        self.state: str = state

    @property
    def result(self) -> JsonObject:
        """The result that asks."""
        asked = {key: {"method": one.method, "params": one.params} for key, one in self.requests.items()}
        return {"resultType": "input_required", "inputRequests": asked, "requestState": self.state}


@attrs.define(eq=False)
class Rounds:
    """What earlier rounds of a call have answered (2026-07-28)."""

    #: signs the state that carries answers to the next round
    sign: Callable[[Mapping[str, JsonObject]], str]
    #: answers of earlier rounds, and of this one
    known: Mapping[str, JsonObject]
    #: those that the tool has asked for so far: only they go into the next round's state
    _used: dict[str, JsonObject] = attrs.field(factory=dict, init=False)

    def take(self, requests: Mapping[str, ClientRequest]) -> Mapping[str, JsonObject]:
        """The answers to *requests*.

        Raises:
          InputRequired: some are not answered yet.
        """
        answers = {key: self.known[key] for key in requests if key in self.known}
        self._used |= answers
        missing = {key: request for key, request in requests.items() if key not in answers}
        if missing:
            raise InputRequired(missing, self.sign(self._used))
        return answers


class ConnectedClient(ToolClient):
    """The client that called, as its tool sees it."""

    def __init__(self, peer: Peer, channel: Channel, *, total: float, rounds: Rounds | None = None) -> None:
        super().__init__(peer.capabilities)
        self._peer = peer
        self._channel = channel
        self._total = total
        self._rounds = rounds

    async def ask_all(self, requests: Mapping[str, ClientRequest]) -> Mapping[str, JsonObject]:
        """Ask several things at once; returns the client's result for each key.

        Raises:
          ClientLacksCapability: the client did not declare what one of them needs.
          PeerError, PeerGone, RequestTimeout, ProtocolViolation: there is no answer.

        Cancellation: the client is notified; late answers are dropped.
        """
        await trio.lowlevel.checkpoint()
        self.require(requests)
        if self._rounds is not None:
            return self._rounds.take(requests)
        if self._peer.stateless:
            raise PeerError("questions are answered in tools, prompts and resources only", code=INVALID_PARAMS)
        answers: dict[str, JsonObject] = {}

        async def ask(key: str, request: ClientRequest) -> None:
            answers[key] = await self._channel.request(request.method, request.params, total=self._total)

        async with open_hidden_nursery() as nursery:
            for key, request in requests.items():
                nursery.start_soon(ask, key, request)
        return answers

    def log(self, level: LogLevel, data: object, *, logger: str = "") -> None:
        """Send a log line to the client, if it asked for lines of this level. Never blocks; may be dropped."""
        wanted = self._peer.log_level
        if wanted is None or LEVELS.index(level) < LEVELS.index(wanted):
            return
        self._channel.notify(
            "notifications/message", {"level": level, "data": data, **({"logger": logger} if logger else {})}
        )

    def release_stream(self) -> None:
        """Close the HTTP stream of this call and let the client come back for the result (2025-11-25 only)."""
        if not self._peer.stateless:
            self._channel.release()


class ProgressReporter:
    """Passes the progress of one call on to its client, and every event to the observer."""

    def __init__(self, channel: Channel, token: object, observer: Any) -> None:
        self._channel = channel
        self._token = token if isinstance(token, str | int) and not isinstance(token, bool) else None
        self._observer = observer
        self._last: float | None = None

    def __call__(self, event: Any) -> None:
        self._observer(event)
        if self._token is None or not isinstance(event, ToolProgress):
            return
        # Values have to rise: what does not is left out.
        if self._last is not None and event.done <= self._last:
            return
        self._last = event.done
        params: dict[str, Any] = {"progressToken": self._token, "progress": event.done}
        if event.total is not None:
            params["total"] = event.total
        if event.message:
            params["message"] = event.message
        self._channel.notify("notifications/progress", params)
