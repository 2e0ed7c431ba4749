"""Many calls over one connection, in both directions.

The multiplexer owns no stream. A `Transport` gives it what came in (`deliver`) and sends what is in its queue
(`outgoing`), so the same routing serves pipes, memory streams and HTTP.

Rules that everything here keeps:

* Each call waits once, in its own task, for whatever settles it first: its answer, its deadline, the end of the
  connection, its cancellation. No call has a cancel scope, a channel or a task of its own; one task watches all
  deadlines.
* A frame is handed out whole or not at all, so no cancelled caller leaves half a line.
* An id lives until its call is settled. What comes for it later is counted and dropped.
* Nothing that the peer sends makes a queue grow without bound, and no slow listener holds up an answer.
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

T = TypeVar("T")

DEFAULT_TOTAL = 30.0
"""Default seconds of a call. The SDKs have none and 60 s."""

WINDOW = 1024
"""Calls that are with the peer at once. What is above waits here, dequeued for free when it is cancelled."""


@attrs.frozen(kw_only=True)
class MultiplexerStatistics:
    """A moment in the life of a `Multiplexer`."""

    #: calls with the peer, or about to be written
    in_flight: int
    #: calls that wait for a place in the window
    waiting: int
    #: frames that the transport has not taken
    outgoing: int
    #: the peer's requests that are being answered, or wait for it
    serving: int
    #: notifications that wait for their listener
    notifications_waiting: int
    #: answers to calls that had ended, or that never were
    stray_answers: int
    #: lines that were no messages
    malformed: int
    #: notifications dropped because the listener was too slow, and answers to a peer that floods us and reads nothing
    dropped: int


class Transport(Protocol):
    """What moves frames between a multiplexer and its peer."""

    async def run(self, mux: Multiplexer) -> McpError:
        """Move frames until the connection has ended; returns why it ended.

        Cancellation: stops at once; a frame that was being written may be cut.
        """
        ...


class Multiplexer:
    """One side of a JSON-RPC conversation.

    Args:
      name: of the peer, for errors.
      serve: answers the peer's requests; None refuses them all.
      listen: gets the peer's notifications one after the other, in order, on a task of its own.
      on_notification_nowait: is shown each notification the moment it comes; sync and cheap.
      window: calls that are with the peer at once.
      patient: never refuse or drop what the peer asks; when too much is unanswered, stop reading instead. Only for a
        side that does not wait for answers itself, because those come the same way.
      on_malformed: is shown each line that was no message; sync and cheap.
      on_other_progress: is shown progress that is of no pending call, such as that of a task; sync and cheap.
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
        self._ended: McpError | None = None
        self._stray = self._malformed = self._dropped = 0
        #: the peer may not ask (2026-07-28), so what it asks is dropped
        self.one_way: bool = False
        #: `trio.current_time()` of the last data from the peer
        self.last_received: float = -math.inf

    def __repr__(self) -> str:
        requests = self._requests
        state = "ended" if self._ended else f"{len(requests.sent)} in flight, {len(requests.waiting)} waiting"
        return f"<Multiplexer {self.name!r}: {state}>"

    def statistics(self) -> MultiplexerStatistics:
        """How busy it is, and what it had to throw away."""
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
        """Why the connection is over; None while it is not."""
        return self._ended

    # --- calls ---------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Decode[T],
        options: CallOptions = DEFAULT_OPTIONS,
    ) -> T:
        """Send one request and wait for its answer.

        Answers may come in any order; each goes to the call that it belongs to. The clock starts now, not when the
        request has been written.

        Args:
          method: what to ask for.
          params: its parameters, a JSON object.
          decode: turns the result's JSON text into what is returned; it raises `ValueError` for what does not fit.
          options: how it is sent and how long its answer may take; without a total it may take `DEFAULT_TOTAL`.

        Raises:
          PeerError: the peer answered with an error object.
          PeerGone: the connection ended first, or had already ended.
          RequestTimeout: no answer in time; the peer was sent a cancellation.
          ProtocolViolation: the answer is not one.
          TypeError: *params* holds something that JSON does not know.

        Cancellation: a request that still waits here is forgotten; otherwise the peer is sent a cancellation
        (`notifications/cancelled`). The id is retired and a late answer is dropped.
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
        return _read_answer(method, answer, decode, server=self.name)

    async def _answer(self, pending: Pending) -> Envelope:
        def leave(_: object) -> trio.lowlevel.Abort:
            self._requests.give_up(pending, "the caller was cancelled")
            return trio.lowlevel.Abort.SUCCEEDED

        self._requests.admit(pending)
        answer: Envelope = await trio.lowlevel.wait_task_rescheduled(leave)
        return answer

    def hold_clocks(self) -> AbstractContextManager[None]:
        """Stop the clocks of all pending calls for the length of the block: a person is asked on this side."""
        return self._requests.hold_clocks()

    # --- the transport's side -------------------------------------------------------------------------------------

    def deliver(self, message: JsonRpcMessage) -> None:
        """Route one message that came in. Never blocks and never raises, whatever it is."""
        if isinstance(message, Malformed):
            self._note_malformed(message)
        elif message.method is UNSET:
            self._deliver_answer(message)
        elif message.id is UNSET:
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
            self._on_malformed(message)
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
        """Settle the call *key* with *error*, if it is still waiting: the transport knows that no answer will come."""
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
        # Only ever later, so the watch need not be moved: it looks again when it wakes.
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

    # --- notices ---------------------------------------------------------------------------------------------------

    def notify_nowait(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Queue a notification. After the end of the connection it goes nowhere.

        Raises:
          trio.WouldBlock: the peer has stopped reading and too much is already queued.
          TypeError: *params* holds something that JSON does not know.
        """
        line = encode_notification(method, UNSET if params is None else params)
        if not self.outgoing.has_room:
            raise trio.WouldBlock
        self.outgoing.put(Outgoing(line, method))

    async def send_answer(self, line: bytes) -> None:
        """Queue an answer to the peer, once there is room.

        Cancellation: it was not queued.
        """
        await trio.lowlevel.checkpoint()
        while not self.outgoing.has_room:
            await self.outgoing.wait_taken()
        self.outgoing.put(Outgoing(line))

    def send_answer_nowait(self, line: bytes) -> None:
        """Queue an answer to the peer, or drop it if the peer floods us and reads nothing."""
        if self._patient or self.outgoing.has_room:
            self.outgoing.put(Outgoing(line))
        else:
            self._dropped += 1

    @property
    def congested(self) -> bool:
        """Whether nothing more should be read for now: the peer asks faster than it reads, or than we answer."""
        return self._patient and (self._answering.queued >= QUEUED or not self.outgoing.has_room)

    async def wait_relieved(self) -> None:
        """Wait until there is something to read for again.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        while self.congested and self._ended is None:
            await self.outgoing.wait_taken()

    async def wait_served(self) -> None:
        """Wait until every request of the peer that came in has its answer queued.

        Cancellation: nothing has changed.
        """
        await self._answering.wait_idle()

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self, transport: Transport) -> McpError:
        """Converse over *transport* until the connection has ended; returns why it did.

        Every call that is still waiting then fails with that error, also when this is cancelled.

        Cancellation: as the end of the connection.
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
        """Declare the connection over. The first word counts."""
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


def _read_answer(method: str, answer: Envelope, decode: Decode[T], *, server: str) -> T:
    # Some servers write both members always, and null for the one that does not apply.
    if answer.error and answer.error != _NULL:
        error = decode_error(answer.error)
        raise PeerError(error.message or "no message", code=error.code, data=error.data, server=server)
    if not answer.result:
        raise ProtocolViolation(f"{method}: the answer has neither result nor error", server=server)
    try:
        return decode(answer.result)
    except (ValueError, RecursionError) as exc:
        raise ProtocolViolation(f"{method}: {exc}", server=server) from exc


def _params(message: Envelope) -> Raw:
    """The parameters of *message*; `null` is none."""
    return Raw() if message.params == _NULL else message.params


def _with_token(params: Mapping[str, Any] | None, token: int) -> dict[str, Any]:
    params = {} if params is None else dict(params)
    params["_meta"] = {**(params.get("_meta") or {}), "progressToken": token}
    return params


def _copy(error: McpError) -> McpError:
    # One exception raised in many tasks would gather all their tracebacks.
    return copy.copy(error)
