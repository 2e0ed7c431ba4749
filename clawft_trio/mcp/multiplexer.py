"""Many calls over one connection, in both directions.

The multiplexer owns no stream. A `Transport` passes received messages to it (`deliver`) and sends the frames in its
queue (`outgoing`), so the same routing serves pipes, memory streams and HTTP.

Invariants:

* Each call waits once, in its own task, for what settles it first: its response, its deadline, the end of the
  connection, its cancellation. No call has its own cancel scope, channel or task; one task watches all deadlines.
* A frame is passed to the transport completely or not at all, so a cancelled caller leaves no partial line.
* An id is valid until its call is settled. Later messages for it are counted and dropped.
* No message of the peer makes a queue grow without bound, and no slow listener delays a response.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import attrs
import outcome
import trio
from msgspec import UNSET, Raw

from clawft_trio.errors import McpError, PeerError, PeerGone, ProtocolViolation, SessionLost
from clawft_trio.mcp.incoming import QUEUED, IncomingRequests, Serve
from clawft_trio.mcp.jsonrpc import (
    Envelope,
    Id,
    JsonRpcMessage,
    Malformed,
    decode_error,
    encode_notification,
    encode_request,
)
from clawft_trio.mcp.messages import (
    DEFAULT_OPTIONS,
    CallOptions,
    Decode,
    NotificationCallback,
    Outgoing,
    Pending,
    Progress,
)
from clawft_trio.mcp.notifications import (
    NOTIFICATIONS,
    SUBSCRIPTION_TAG,
    NotificationQueue,
    decode_cancelled,
    decode_progress,
    decode_tagged,
)
from clawft_trio.mcp.request_table import RequestTable
from clawft_trio.mcp.send_queue import SendQueue
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe.redaction import Redactor, cut_redacted, redact_secrets

T = TypeVar("T")

DEFAULT_TOTAL = 30.0
"""Default seconds of a call. The SDKs have none and 60 s."""

WINDOW = 1024
"""Largest number of calls that the peer has at once. Others wait here; the peer never sees them when cancelled."""


@attrs.frozen(kw_only=True)
class MultiplexerStatistics:
    """Current counts of a `Multiplexer`."""

    #: calls that the peer has, or that are about to be written
    in_flight: int
    #: calls that wait for a place in the window
    waiting: int
    #: frames that the transport has not taken
    outgoing: int
    #: requests of the peer that are being answered, or wait to be
    serving: int
    #: notifications that wait for their listener
    notifications_waiting: int
    #: responses to calls that had ended or never existed
    stray_answers: int
    #: lines that were not messages
    malformed: int
    #: notifications dropped because the listener was too slow, and responses to a peer that floods us and does not read
    dropped: int


class Transport(Protocol):
    """Moves frames between a multiplexer and its peer."""

    async def run(self, mux: Multiplexer) -> McpError:
        """Move frames until the connection has ended; return why it ended.

        Cancellation: stops at once; a frame that was being written may be cut.
        """
        ...


class Multiplexer:
    """One side of a JSON-RPC connection.

    Args:
      name: name of the peer, for errors.
      serve: answers the peer's requests; None refuses them all.
      listen: gets the peer's notifications one after the other, in order, in a separate task.
      on_notification_nowait: called with each notification when it arrives; sync and cheap.
      window: largest number of calls that the peer has at once.
      patient: never refuse or drop requests of the peer; stop reading when too many are unanswered. Only for a side
        that does not wait for responses itself, because they arrive on the same stream.
      on_malformed: called with each line that is not a message; sync and cheap.
      on_other_progress: called with progress that belongs to no pending call, such as that of a task; sync and cheap.
    """

    def __init__(
        self,
        *,
        name: str = "",
        serve: Serve | None = None,
        listen: NotificationCallback | None = None,
        on_notification_nowait: Callable[[str, Raw], None] | None = None,
        window: int = WINDOW,
        patient: bool = False,
        on_malformed: Callable[[Malformed], None] | None = None,
        on_other_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.name: str = name
        self._on_notification_nowait = on_notification_nowait
        self._on_malformed = on_malformed
        self._on_other_progress = on_other_progress
        self._patient = patient
        self._last_id = 0
        #: frames that the transport has to send
        self.outgoing: SendQueue = SendQueue(window + NOTIFICATIONS)
        self._requests = RequestTable(self.outgoing, window, name)
        self._notifications = NotificationQueue(listen)
        self._answering = IncomingRequests(
            self.send_answer, self.send_answer_nowait, serve, limit=math.inf if patient else QUEUED
        )
        #: masks the secrets that the transport has given to the peer; set by the transport
        self.redact: Redactor = redact_secrets
        self._ended: McpError | None = None
        self._stray = self._malformed = self._dropped = 0
        #: whether the peer may send no requests (2026-07-28); they are dropped
        self.one_way: bool = False
        #: `trio.current_time()` of the last data from the peer
        self.last_received: float = -math.inf

    def __repr__(self) -> str:
        requests = self._requests
        state = "ended" if self._ended else f"{len(requests.sent)} in flight, {len(requests.waiting)} waiting"
        return f"<Multiplexer {self.name!r}: {state}>"

    def statistics(self) -> MultiplexerStatistics:
        """Return the current counts."""
        return MultiplexerStatistics(
            in_flight=len(self._requests.sent),
            waiting=len(self._requests.waiting),
            outgoing=len(self.outgoing),
            serving=self._answering.active,
            notifications_waiting=self._notifications.waiting,
            stray_answers=self._stray,
            malformed=self._malformed,
            dropped=self._dropped + self._notifications.dropped,
        )

    @property
    def ended(self) -> McpError | None:
        """Why the connection has ended; None while it has not."""
        return self._ended

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Decode[T],
        options: CallOptions = DEFAULT_OPTIONS,
    ) -> T:
        """Send one request and wait for its response.

        Responses may arrive in any order; each goes to its call. The clock starts now, not when the request has been
        written.

        Args:
          method: method of the request.
          params: parameters, a JSON object.
          decode: converts the result's JSON text to the return value; raises `ValueError` for a result that does not
            fit.
          options: how the request is sent and how long its response may take; without a total it may take
            `DEFAULT_TOTAL`.

        Raises:
          PeerError: the peer responded with an error object.
          PeerGone: the connection ended first, or had already ended.
          RequestTimeout: no response in time; the peer was sent a cancellation.
          ProtocolViolation: the response is invalid.
          TypeError: *params* contains a value that JSON cannot represent.

        Cancellation: a request that still waits here is dropped; otherwise the peer is sent a cancellation
        (`notifications/cancelled`). The id is retired and a late response is dropped.
        """
        if self._ended is not None:
            await trio.lowlevel.checkpoint()
            raise _copy(self._ended)
        self._last_id = key = self._last_id + 1
        if options.on_progress is not None or options.longest is not None:
            params = _with_token(params, key)
        line = encode_request(key, method, UNSET if params is None else params)
        total = DEFAULT_TOTAL if options.total is None else options.total
        pending = Pending(key, line, method, options, started=trio.current_time(), total=total)
        answer = await self._answer(pending)
        return _read_answer(method, answer, decode, server=self.name, redact=self.redact)

    async def _answer(self, pending: Pending) -> Envelope:
        def leave(_: object) -> trio.lowlevel.Abort:
            self._requests.give_up(pending, "the caller was cancelled")
            return trio.lowlevel.Abort.SUCCEEDED

        self._requests.admit(pending)
        answer: Envelope = await trio.lowlevel.wait_task_rescheduled(leave)
        return answer

    def hold_clocks(self) -> AbstractContextManager[None]:
        """Stop the clocks of all pending calls during the block, because a person is asked on this side."""
        return self._requests.hold_clocks()

    def deliver(self, message: JsonRpcMessage) -> None:
        """Route one received message. Never blocks and never raises, whatever it is."""
        if isinstance(message, Malformed):
            self._note_malformed(message)
        elif message.method is UNSET:
            self._deliver_answer(message)
        elif message.id is UNSET or (message.id is None and message.method.startswith("notifications/")):
            self._deliver_notification(message.method, _params(message))
        elif self.one_way:
            self._dropped += 1
        elif isinstance(message.id, int | str):
            self._answering.request(message.id, message.method, _params(message))
        else:
            self._note_malformed(Malformed(reason=f"a request with the id {message.id}", has_method=True))

    def _deliver_answer(self, message: Envelope) -> None:
        pending = self._requests.find(message.id)
        if pending is None:
            self._stray += 1
        else:
            self._requests.settle(pending, outcome.Value(message))

    def _note_malformed(self, message: Malformed) -> None:
        self._malformed += 1
        if self._on_malformed is not None:
            partial = len(message.sample.encode(errors="replace")) >= _WHOLE_SAMPLE
            shown = cut_redacted(message.sample, _SHOWN_SAMPLE, redact=self.redact, partial=partial)
            self._on_malformed(attrs.evolve(message, sample=shown))
        pending = None if message.has_method else self._requests.find(message.id)
        if pending is None:
            return
        if message.repaired is not None and pending.method.endswith("/list"):
            # One cut text in one entry must not cost all entries.
            self._requests.settle(pending, outcome.Value(message.repaired))
            return
        error = ProtocolViolation(f"{pending.method}: {message.reason}", server=self.name)
        self._requests.settle(pending, outcome.Error(error))

    def fail(self, key: Id, error: Exception) -> None:
        """Settle the call *key* with *error*, if it still waits: the transport knows that no response will come."""
        pending = self._requests.sent.get(key)
        if pending is not None:
            self._requests.settle(pending, outcome.Error(error))

    def _deliver_notification(self, method: str, params: Raw) -> None:
        if method == "notifications/progress":
            self._note_progress(params)
        elif method == "notifications/cancelled":
            self._note_cancelled(params)
        else:
            if SUBSCRIPTION_TAG in bytes(params):
                self._note_subscription(method, params)
            if self._on_notification_nowait is not None:
                self._on_notification_nowait(method, params)
            self._notifications.put(method, params)

    def _note_progress(self, params: Raw) -> None:
        try:
            progress = decode_progress(params)
        except (ValueError, RecursionError):
            return
        pending = self._requests.find(progress.progress_token)
        if pending is None:
            if self._on_other_progress is not None:
                self._on_other_progress(progress)
            return
        # Only postponed, so the timer need not be moved: it checks again when it wakes up.
        pending.deadline = min(trio.current_time() + pending.total, pending.hard_deadline)
        if pending.options.on_progress is None:
            return
        self._show(pending, pending.options.on_progress, progress)

    def _note_subscription(self, method: str, params: Raw) -> None:
        try:
            tagged = decode_tagged(params)
        except (ValueError, RecursionError):
            return
        pending = self._requests.find(tagged.meta.subscription_id)
        if pending is not None and pending.options.on_notification is not None:
            self._show(pending, pending.options.on_notification, method, params)

    def _show(self, pending: Pending, callback: Callable[..., object], *what: object) -> None:
        try:
            callback(*what)
        except Exception as exc:  # noqa: BLE001 - it is the caller's, and goes to the caller
            self._requests.give_up(pending, "its caller failed")
            pending.settle(outcome.Error(exc))

    def _note_cancelled(self, params: Raw) -> None:
        try:
            notice = decode_cancelled(params)
        except (ValueError, RecursionError):
            return
        pending = self._requests.find(notice.request_id)
        if pending is not None and pending.options.on_notification is not None:
            self._requests.settle(pending, outcome.Value(Envelope(id=pending.id, result=Raw(b"{}"))))
        elif notice.request_id is not None:
            self._answering.cancel(notice.request_id, notice.reason)

    def notify_nowait(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Queue a notification. After the end of the connection it is dropped.

        Raises:
          trio.WouldBlock: the peer has stopped reading and too much is already queued.
          TypeError: *params* contains a value that JSON cannot represent.
        """
        line = encode_notification(method, UNSET if params is None else params)
        if not self.outgoing.has_room:
            raise trio.WouldBlock
        self.outgoing.put(Outgoing(line, method))

    async def send_answer(self, line: bytes) -> None:
        """Queue a response to the peer, once there is room.

        Cancellation: it was not queued.
        """
        await trio.lowlevel.checkpoint()
        while not self.outgoing.has_room:
            await self.outgoing.wait_taken()
        self.outgoing.put(Outgoing(line))

    def send_answer_nowait(self, line: bytes) -> None:
        """Queue a response to the peer, or drop it if the peer floods us and does not read."""
        if self._patient or self.outgoing.has_room:
            self.outgoing.put(Outgoing(line))
        else:
            self._dropped += 1

    @property
    def congested(self) -> bool:
        """Whether reading should pause: the peer sends requests faster than it reads, or than they are answered."""
        return self._patient and (self._answering.queued >= QUEUED or not self.outgoing.has_room)

    async def wait_relieved(self) -> None:
        """Wait until reading should continue.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        while self.congested and self._ended is None:
            await self.outgoing.wait_taken()

    async def wait_served(self) -> None:
        """Wait until the response to every request of the peer that was received is queued.

        Cancellation: nothing has changed.
        """
        await self._answering.wait_idle()

    async def run(self, transport: Transport) -> McpError:
        """Exchange messages over *transport* until the connection has ended; return why it ended.

        Every pending call then fails with that error, even when this function is cancelled.

        Cancellation: as at the end of the connection.
        """
        try:
            async with open_hidden_nursery() as nursery:
                nursery.start_soon(self._requests.run)
                nursery.start_soon(self._notifications.run)
                self._answering.use(nursery)
                ended = await transport.run(self)
                self.end(ended)
                nursery.cancel_scope.cancel(reason="the connection has ended")
            return ended
        finally:
            self.end(PeerGone("the connection was closed here", server=self.name))

    def end(self, why: McpError) -> None:
        """Declare that the connection has ended. Only the first call has an effect."""
        if self._ended is not None:
            return
        self._ended = why
        unsent = self._requests.unsent()
        self.outgoing.close()
        self._notifications.clear()
        for pending in self._requests.clear():
            error = _copy(why)
            if isinstance(error, SessionLost):
                error.refused = pending in unsent
            pending.settle(outcome.Error(error))


_NULL = Raw(b"null")

_SHOWN_SAMPLE = 200
"""Characters of a malformed line in logs and events."""

_WHOLE_SAMPLE = 4000
"""Bytes of a sample from which on it may be only the beginning of a line."""


def _read_answer(method: str, answer: Envelope, decode: Decode[T], *, server: str, redact: Redactor) -> T:
    # Some servers always write both members, and null for the one that does not apply.
    if answer.error and answer.error != _NULL:
        error = decode_error(answer.error)
        raise PeerError(redact(error.message or "no message"), code=error.code, data=error.data, server=server)
    if not answer.result:
        raise ProtocolViolation(f"{method}: the answer has neither result nor error", server=server)
    try:
        return decode(answer.result)
    except (ValueError, RecursionError) as exc:
        raise ProtocolViolation(f"{method}: {exc}", server=server) from exc


def _params(message: Envelope) -> Raw:
    """Return the parameters of *message*; `null` means none."""
    return Raw() if message.params == _NULL else message.params


def _with_token(params: Mapping[str, Any] | None, token: int) -> dict[str, Any]:
    params = {} if params is None else dict(params)
    params["_meta"] = {**(params.get("_meta") or {}), "progressToken": token}
    return params


def _copy(error: McpError) -> McpError:
    # One exception that is raised in many tasks would collect all their tracebacks.
    return copy.copy(error)
