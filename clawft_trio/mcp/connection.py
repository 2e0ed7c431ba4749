"""The connection to one MCP server: started, initialized, probed, and restarted when it ends."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import attrs
import trio
from msgspec import Raw

from clawft_trio.codec import decode_json
from clawft_trio.errors import ClawftError, InvalidData, McpError, PeerGone, RequestTimeout, ServerDown, SessionLost
from clawft_trio.large_json import decode_any
from clawft_trio.mcp.auto_reset_event import AutoResetEvent
from clawft_trio.mcp.handshake import Agreement, detect, detect_by_initialize, discover, initialize
from clawft_trio.mcp.jsonrpc import Malformed
from clawft_trio.mcp.messages import DEFAULT_OPTIONS, CallOptions, Decode
from clawft_trio.mcp.multiplexer import Multiplexer, MultiplexerStatistics, Transport
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.stateless import InputRequired, answer_questions, or_input_required
from clawft_trio.mcp.supervision import RestartHistory, Supervision
from clawft_trio.mcp.task_progress import TaskProgress
from clawft_trio.nursery import cleanup_scope, open_hidden_nursery
from clawft_trio.observe import ServerGone, ServerOutput, ServerStarted, fan_out
from clawft_trio.observe.trace_context import current_trace
from clawft_trio.tracebacks import shorten_traceback

T = TypeVar("T")

_log = logging.getLogger("clawft_trio.mcp")


class _ProbeEndedServer(PeerGone):
    """The server exited when it was asked for its revision: it has to be restarted with the `initialize` handshake."""


def _gone(exc: ClawftError, server: str) -> PeerGone:
    gone = PeerGone(str(exc), server=server)
    gone.__cause__ = exc
    return gone


class Connection:
    """The connection to one server, over as many starts of the server as its supervision allows.

    While the server restarts, calls wait for it, within their own time limit. A call that the server had when it ended
    fails with `PeerGone`: it is unknown whether the call took effect, so it is never repeated here. A call that was
    refused because the server dropped the session did not run, and is sent once more in a new session.

    Args:
      name: name of the server, in errors, events and logs.
      options: options of the client.
      transport: returns the transport for one start of the server.
      handshake_first: whether `detect` begins with `initialize`, because the server may exit on anything else.
      on_start: called after each successful handshake; synchronous and cheap.
      on_notification: called with each notification as it arrives; synchronous and cheap.
    """

    def __init__(
        self,
        name: str,
        options: McpOptions,
        transport: Callable[[], Transport],
        *,
        handshake_first: bool,
        on_start: Callable[[], None],
        on_notification: Callable[[str, Raw], None],
    ) -> None:
        self.name = name
        self.options = options
        self._transport = transport
        self._handshake_first = handshake_first
        self._on_start = on_start
        self._on_notification = on_notification
        self._observer = fan_out([options.observer])
        self._mux: Multiplexer | None = None
        self._agreement: Agreement | None = None
        self._meta: Mapping[str, Any] | None = None
        self._era = options.protocol
        self._unavailable: McpError | None = None
        self._next_probe = math.inf
        self._changed = trio.lowlevel.ParkingLot()
        self._suspected = AutoResetEvent()
        self._life = trio.CancelScope()
        self._closed = trio.Event()
        self._history: RestartHistory | None = None
        #: progress reports that are of no pending call
        self.task_progress: TaskProgress = TaskProgress(name)

    def __repr__(self) -> str:
        return f"<Connection {self.name!r}: {self.state}>"

    @property
    def state(self) -> str:
        """`starting`, `closed`, `down`, or the number of running calls."""
        if self._closed.is_set():
            return "closed"
        if self._unavailable is not None:
            return "down"
        return "starting" if self._mux is None else repr(self._mux)

    def statistics(self) -> MultiplexerStatistics:
        """Return the counts of the connection's calls; all zeros while there is no connection."""
        return (self._mux or Multiplexer()).statistics()

    @property
    def agreement(self) -> Agreement:
        """The result of the handshake.

        Raises:
          PeerGone: there was no handshake yet.
        """
        if self._agreement is None:
            raise PeerGone("the server has not answered the handshake yet", server=self.name)
        return self._agreement

    @property
    def restarts(self) -> int:
        """Number of restarts of the server."""
        return 0 if self._history is None else self._history.restarts

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Decode[T],
        options: CallOptions = DEFAULT_OPTIONS,
    ) -> T:
        """Send one request and wait for its answer; see `Multiplexer.call`.

        A server of 2026-07-28 may respond with questions; the host answers them, and the request is repeated. A request
        that was refused because the server dropped the session is sent once more in a new session.

        Raises:
          PeerError: the server responded with an error.
          PeerGone: the server ended while it had the request, or the client is closed.
          ServerDown: the server has ended too often; nothing was sent.
          RequestTimeout: no response in time.
          ProtocolViolation: the response is invalid.

        Cancellation: the server is notified, the id is retired, a late response is dropped.
        """
        trace = current_trace()
        if trace:
            # Makes the server's spans children of ours; values that the caller set there have precedence.
            params = {**(params or {}), "_meta": {**trace, **((params or {}).get("_meta") or {})}}
        total = self.options.total if options.total is None else options.total
        deadline = trio.current_time() + total
        try:
            try:
                return await self._call_once(method, params, decode, options, total)
            except SessionLost as exc:
                if not exc.refused or self.options.supervision is None:
                    raise
            await self._wait_ready(method, deadline - trio.current_time(), lost=self._mux)
            return await self._call_once(method, params, decode, options, deadline - trio.current_time())
        except Exception as exc:
            if isinstance(exc, RequestTimeout):
                self._suspected.set()
            shorten_traceback(exc)
            raise

    async def _call_once(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        decode: Decode[T],
        options: CallOptions,
        total: float,
    ) -> T:
        mux = self._mux
        if mux is None or mux.ended is not None:
            started = trio.current_time()
            mux = await self._wait_ready(method, total)
            total -= trio.current_time() - started
        if total != options.total:
            options = attrs.evolve(options, total=total)
        if self._meta is None:
            return await mux.call(method, params, decode=decode, options=options)
        return await self._call_in_rounds(mux, method, params, decode, options)

    async def _call_in_rounds(
        self,
        mux: Multiplexer,
        method: str,
        params: Mapping[str, Any] | None,
        decode: Decode[T],
        options: CallOptions,
    ) -> T:
        asked = {**(params or {}), "_meta": {**((params or {}).get("_meta") or {}), **(self._meta or {})}}
        decode_either = or_input_required(decode)
        added: Mapping[str, Any] = {}
        round_ = 0
        while True:
            answer = await mux.call(method, {**asked, **added}, decode=decode_either, options=options)
            if not isinstance(answer, InputRequired):
                return answer
            round_ += 1
            added = await answer_questions(self.options.host, answer, round_, server=self.name)

    async def _wait_ready(self, method: str, total: float, *, lost: Multiplexer | None = None) -> Multiplexer:
        """Wait for a connection other than *lost*, whose session the server has forgotten."""
        with trio.move_on_after(max(0.0, total)):
            while True:
                if self._unavailable is not None:
                    await trio.lowlevel.checkpoint()
                    self._refuse(self._unavailable)
                mux = self._mux
                if mux is not None and mux is not lost and (mux.ended is None or self._is_last_start):
                    return mux
                await self._changed.park()
        raise RequestTimeout(f"{method}: the server was not up within {total:g} s", server=self.name)

    @property
    def _is_last_start(self) -> bool:
        return self.options.supervision is None or self._life.cancel_called

    def _refuse(self, why: McpError) -> NoReturn:
        if self._next_probe == math.inf:
            raise copy.copy(why)
        wait = max(0.0, self._next_probe - trio.current_time())
        raise ServerDown(f"down, next try in {wait:.3g} s: {why}", retry_after=wait, server=self.name)

    def notify_nowait(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Queue a notification; it is dropped while there is no connection.

        Raises:
          trio.WouldBlock: the server has stopped reading.
        """
        if self._mux is not None:
            self._mux.notify_nowait(method, params)

    async def aclose(self) -> None:
        """Close the connection and stop the server; pending calls fail with `PeerGone`. Idempotent.

        Cancellation: closing continues, within the server's grace times.
        """
        self._life.cancel(reason="the client was closed")
        with cleanup_scope(60.0):
            await self._closed.wait()

    async def run(self, started: Callable[[], None], *, shielded: bool = False) -> None:
        """Keep the server running until `aclose`, or until it has ended and is not restarted.

        Args:
          started: called after the first handshake.
          shielded: after the first handshake only `aclose` ends the connection; cancelling the surrounding nursery does
            not.

        Raises:
          McpError: the first start failed.

        Cancellation: the server is stopped, within its grace times.
        """

        def note_started() -> None:
            started()
            # A shield would undo a cancellation that is already being delivered.
            if trio.current_effective_deadline() > -math.inf:
                self._life.shield = shielded

        try:
            with self._life:
                await self._supervise(note_started)
        finally:
            self._mux = None
            self._set_unavailable(PeerGone("the client is closed", server=self.name), math.inf)
            self._closed.set()

    async def _supervise(self, started: Callable[[], None]) -> None:
        """Start the server, and restart it as long as the supervision allows. The first start must succeed."""
        policy = self.options.supervision
        history = self._history = RestartHistory(policy or Supervision(), self.options.uniform)
        running: list[bool] = []

        def ready() -> None:
            if not running:
                running.append(True)
                started()

        while True:
            began = trio.current_time()
            ended = await self._live_contained(ready, first=not running)
            if not running:
                # The transport ended before the handshake had a chance to fail.
                raise ended
            lived = trio.current_time() - began
            self._mux = None
            if policy is None:
                self._observer(ServerGone(server=self.name, error=ended))
                self._set_unavailable(ended, math.inf)
                return
            verdict = history.note_end(trio.current_time(), lived=lived)
            self._observer(ServerGone(server=self.name, error=ended, restart_in=verdict.wait))
            if verdict.down:
                self._set_unavailable(ended, trio.current_time() + verdict.wait)
            await trio.sleep(verdict.wait)

    def _set_unavailable(self, why: McpError, next_probe: float) -> None:
        self._unavailable = why
        self._next_probe = next_probe
        self._changed.unpark_all()

    async def _live_contained(self, ready: Callable[[], None], *, first: bool) -> McpError:
        try:
            return await self._live(ready)
        except _ProbeEndedServer:
            self._era = "handshake"
        except ClawftError as exc:
            if first:
                raise
            return exc if isinstance(exc, McpError) else _gone(exc, self.name)
        return await self._live_contained(ready, first=first)

    async def _live(self, ready: Callable[[], None]) -> McpError:
        """Run one start of the server to its end, and return why it ended.

        Raises:
          McpError: the handshake failed.
          ClawftError: the transport could not be started: its own error, not that of the calls that failed with it.
        """
        options = self.options
        mux = Multiplexer(
            name=self.name,
            serve=options.host.answer,
            listen=self._deliver_notification if options.host.on_notification is not None else None,
            on_notification_nowait=self._on_notification,
            window=options.window,
            on_malformed=self._note_malformed,
            on_other_progress=self.task_progress.note,
        )
        failures: list[ClawftError] = []
        try:
            async with open_hidden_nursery() as nursery:

                async def converse() -> None:
                    try:
                        await mux.run(self._transport())
                    except ClawftError as exc:
                        failures.append(exc)
                    nursery.cancel_scope.cancel(reason="the connection has ended")

                nursery.start_soon(converse)
                self._agreement = await self._initialize(mux)
                nursery.start_soon(self._watch_for_hang, mux, nursery.cancel_scope)
                self._set_available(mux, self._agreement)
                ready()
        except McpError:
            if not failures:
                raise
        if failures:
            raise failures[0]
        assert mux.ended is not None
        return mux.ended

    async def _initialize(self, mux: Multiplexer) -> Agreement:
        options = self.options
        start, client = options.start, options.client
        if self._era == "handshake":
            return await initialize(mux, options.host, total=start, client=client)
        level = options.log_level
        if self._era == "stateless":
            return await discover(mux, options.host, total=start, log_level=level, client=client)
        # At least half of the time is left for the handshake.
        probe = min(options.probe, start / 2)
        try:
            ask = detect_by_initialize if self._handshake_first else detect
            agreement = await ask(mux, options.host, total=start, probe=probe, log_level=level, client=client)
        except PeerGone as exc:
            if self._handshake_first:
                raise
            raise _ProbeEndedServer(str(exc), server=self.name) from exc
        self._era = "handshake" if agreement.meta is None else "stateless"
        return agreement

    def _set_available(self, mux: Multiplexer, agreement: Agreement) -> None:
        self._meta = agreement.meta
        self._mux = mux
        self._unavailable = None
        self._on_start()
        self._changed.unpark_all()
        self._observer(ServerStarted(server=self.name, protocol=agreement.protocol_version, restarts=self.restarts))

    async def _watch_for_hang(self, mux: Multiplexer, life: trio.CancelScope) -> None:
        """After each call that timed out, find out whether the server is busy or hung."""
        policy = self.options.supervision
        while policy is not None and policy.ping is not None:
            await self._suspected.wait()
            asked = trio.current_time()
            method = "ping" if self._meta is None else "server/discover"  # 2026-07-28 has no ping
            params = None if self._meta is None else {"_meta": self._meta}
            try:
                await mux.call(method, params, decode=decode_json, options=CallOptions(total=policy.ping))
            except RequestTimeout:
                if mux.last_received < asked:
                    mux.end(PeerGone(f"the server is hung: it sent nothing for {policy.ping:g} s", server=self.name))
                    life.cancel(reason="the server is hung")
            except McpError:
                pass  # an error is also a response, and the end of the connection is noticed elsewhere
        await trio.sleep_forever()

    async def _deliver_notification(self, method: str, params: Raw) -> None:
        on_notification = self.options.host.on_notification
        assert on_notification is not None
        try:
            await on_notification(method, await decode_any(bytes(params)) if params else {})
        except InvalidData:
            _log.warning("%s: %s: unreadable parameters", self.name, method)
        except Exception:  # noqa: BLE001 - a listener that fails must not end the connection
            _log.exception("the listener failed on %s of %s", method, self.name)

    def _note_malformed(self, message: Malformed) -> None:
        _log.info("%s wrote a line that is no message (%s): %r", self.name, message.reason, message.sample)
        self._observer(ServerOutput(server=self.name, text=message.sample))
