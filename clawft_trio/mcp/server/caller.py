"""The client of one request: its capabilities, its notifications, and the requests of a tool to it."""

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
    """Carries the messages that belong to one request."""

    def notify(self, method: str, params: JsonObject) -> None:
        """Send a notification, or drop it when the client reads too slowly. Never blocks."""
        ...

    async def request(self, method: str, params: JsonObject, *, total: float) -> JsonObject:
        """Send a request and wait for its result, at most *total* seconds. Not available in 2026-07-28.

        Raises:
          PeerError, PeerGone, RequestTimeout, ProtocolViolation: there is no result.

        Cancellation: the client is notified.
        """
        ...

    def release(self) -> None:
        """Close the request's HTTP stream; the client reconnects for the rest."""
        ...


@attrs.define(kw_only=True, eq=False)
class Peer:
    """A client: of a connection or session, or in 2026-07-28 of one request."""

    auth: AuthContext
    #: whether it uses 2026-07-28: no handshake, no requests to it
    stateless: bool = False
    #: whether the handshake has taken place; always true when stateless
    initialized: bool = False
    version: str = ""
    capabilities: JsonObject = attrs.field(factory=dict)
    #: lowest level of the log messages that it requested; None: no log messages
    log_level: LogLevel | None = "info"
    #: URIs of the resources that it subscribed to
    subscriptions: set[str] = attrs.field(factory=set)
    #: its tool calls that run as tasks; None when tasks are not offered
    tasks: TaskTable | None = None


class InputRequired(BaseException):
    """A tool needs input that only the next round of its call can bring. Passes every `except Exception`."""

    def __init__(self, requests: Mapping[str, ClientRequest], state: str) -> None:
        super().__init__("the client has to answer first")
        self.requests: Mapping[str, ClientRequest] = requests
        self.state: str = state

    @property
    def result(self) -> JsonObject:
        """The result that requests the input."""
        asked = {key: {"method": one.method, "params": one.params} for key, one in self.requests.items()}
        return {"resultType": "input_required", "inputRequests": asked, "requestState": self.state}


@attrs.define(eq=False)
class Rounds:
    """Answers from earlier rounds of a call (2026-07-28)."""

    #: signs the state that carries the answers to the next round
    sign: Callable[[Mapping[str, JsonObject]], str]
    #: answers from earlier rounds, and from this one
    known: Mapping[str, JsonObject]
    #: answers that the tool has requested so far; only these are put into the state of the next round
    _used: dict[str, JsonObject] = attrs.field(factory=dict, init=False)

    def take(self, requests: Mapping[str, ClientRequest]) -> Mapping[str, JsonObject]:
        """Return the answers to *requests*.

        Raises:
          InputRequired: some have no answer yet.
        """
        answers = {key: self.known[key] for key in requests if key in self.known}
        self._used |= answers
        missing = {key: request for key, request in requests.items() if key not in answers}
        if missing:
            raise InputRequired(missing, self.sign(self._used))
        return answers


class ConnectedClient(ToolClient):
    """The client of a call, as its tool uses it."""

    def __init__(self, peer: Peer, channel: Channel, *, total: float, rounds: Rounds | None = None) -> None:
        super().__init__(peer.capabilities)
        self._peer = peer
        self._channel = channel
        self._total = total
        self._rounds = rounds

    async def ask_all(self, requests: Mapping[str, ClientRequest]) -> Mapping[str, JsonObject]:
        """Send several requests to the client at once; return its result for each key.

        Raises:
          ClientLacksCapability: the client did not declare the capability that one of them needs.
          PeerError, PeerGone, RequestTimeout, ProtocolViolation: there is no response.

        Cancellation: the client is notified; late responses are dropped.
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
        """Send a log message to the client, if it requested this level. Never blocks; may be dropped."""
        wanted = self._peer.log_level
        if wanted is None or LEVELS.index(level) < LEVELS.index(wanted):
            return
        self._channel.notify(
            "notifications/message", {"level": level, "data": data, **({"logger": logger} if logger else {})}
        )

    def release_stream(self) -> None:
        """Close the HTTP stream of this call and let the client reconnect for the result (2025-11-25 only)."""
        if not self._peer.stateless:
            self._channel.release()


class ProgressReporter:
    """Reports the progress of one call to its client, and every event to the observer."""

    def __init__(self, channel: Channel, token: object, observer: Any) -> None:
        self._channel = channel
        self._token = token if isinstance(token, str | int) and not isinstance(token, bool) else None
        self._observer = observer
        self._last: float | None = None

    def __call__(self, event: Any) -> None:
        self._observer(event)
        if self._token is None or not isinstance(event, ToolProgress):
            return
        # The protocol requires rising values; others are left out.
        if self._last is not None and event.done <= self._last:
            return
        self._last = event.done
        params: dict[str, Any] = {"progressToken": self._token, "progress": event.done}
        if event.total is not None:
            params["total"] = event.total
        if event.message:
            params["message"] = event.message
        self._channel.notify("notifications/progress", params)
