"""A client for one MCP server: opened, shared by many tasks, kept alive, closed."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio
from msgspec import Raw

from clawft_trio.codec import decode_json
from clawft_trio.errors import InvalidData, McpError, PeerGone, RequestTimeout, ServerDown
from clawft_trio.mcp.bell import Bell
from clawft_trio.mcp.calls import Calls
from clawft_trio.mcp.frames import Decode, OnNotice, OnProgress, Transport
from clawft_trio.mcp.handshake import Agreement, detect, discover, greet
from clawft_trio.mcp.jsonrpc import Malformed
from clawft_trio.mcp.multiplexer import Multiplexer, MultiplexerStatistics
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.stateless import InputRequired, answer_questions, or_input_required
from clawft_trio.mcp.supervision import RestartHistory, Supervision
from clawft_trio.mcp.types import EmptyResult
from clawft_trio.nursery import goodbye, open_hidden_nursery
from clawft_trio.observe import ServerGone, ServerSaid, ServerStarted, fan_out

T = TypeVar("T")

_LISTEN_AGAIN = 5.0
"""Seconds after which a subscription that the server has ended is asked for again."""

_log = logging.getLogger("clawft_trio.mcp")
_decode_empty = msgspec.json.Decoder(EmptyResult).decode


class McpClient(Calls):
    """A conversation with one server, over as many lives as the server has.

    Any number of tasks may call through one client; cancelling one leaves the others alone. While the server is
    being started again calls wait for it, on their own clock. A call that was with the server when it died fails
    with `PeerGone`: whether it acted is not known, so it is never repeated here.
    """

    def __init__(self, name: str, options: McpOptions, transport: Callable[[], Transport]) -> None:
        self.name = name
        self._options = options
        self._transport = transport
        self._notify = fan_out([options.notify])
        self._mux: Multiplexer | None = None
        self._agreement: Agreement | None = None
        self._meta: Mapping[str, Any] | None = None
        self._era = options.protocol
        self._unavailable: McpError | None = None
        self._next_probe = math.inf
        self._changed = trio.lowlevel.ParkingLot()
        self._suspicion = Bell()
        self._life = trio.CancelScope()
        self._closed = trio.Event()
        self._history: RestartHistory | None = None
        super().__init__()

    def __repr__(self) -> str:
        if self._closed.is_set():
            state = "closed"
        elif self._unavailable is not None:
            state = "down"
        else:
            state = "starting" if self._mux is None else repr(self._mux)
        return f"<McpClient {self.name!r}: {state}>"

    def statistics(self) -> MultiplexerStatistics:
        """How busy the connection is; all zeros while there is none."""
        return (self._mux or Multiplexer()).statistics()

    @property
    def agreement(self) -> Agreement:
        """What the handshake settled: revision, capabilities, who the server is.

        Raises:
          PeerGone: there has been none yet.
        """
        if self._agreement is None:
            raise PeerGone("the server has not answered the handshake yet", server=self.name)
        return self._agreement

    @property
    def restarts(self) -> int:
        """How often the server has been started again."""
        return 0 if self._history is None else self._history.restarts

    # --- calls ---------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Decode[T],
        name: str = "",
        total: float | None = None,
        longest: float | None = None,
        on_progress: OnProgress | None = None,
        on_notice: OnNotice | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send any request and wait for its answer; `Multiplexer.call` says how.

        A server of 2026-07-28 may answer with questions; the host answers them, and the same is asked again.

        Raises:
          PeerError: the server answered with an error.
          PeerGone: the server died while it had the request, or the client is closed.
          ServerDown: the server has died too often; not tried.
          RequestTimeout: no answer in time.
          ProtocolViolation: the answer is not one.

        Cancellation: the server is told, the id is retired, a late answer is dropped.
        """
        total = self._options.total if total is None else total
        mux = self._mux
        if mux is None or mux.ended is not None:
            started = trio.current_time()
            mux = await self._wait_ready(method, total)
            total -= trio.current_time() - started
        ask = partial(
            mux.call,
            method,
            name=name,
            total=total,
            longest=longest,
            on_progress=on_progress,
            on_notice=on_notice,
            headers=headers,
        )
        try:
            if self._meta is None:
                return await ask(params, decode=decode)
            return await self._call_in_rounds(ask, {**(params or {}), "_meta": self._meta}, decode)
        except RequestTimeout:
            self._suspicion.ring()
            raise

    async def _call_in_rounds(
        self, ask: Callable[..., Awaitable[Any]], params: Mapping[str, Any], decode: Decode[T]
    ) -> T:
        decode_either = or_input_required(decode)
        added: Mapping[str, Any] = {}
        round_ = 0
        while True:
            answer: T | InputRequired = await ask({**params, **added}, decode=decode_either)
            if not isinstance(answer, InputRequired):
                return answer
            round_ += 1
            added = await answer_questions(self._options.host, answer, round_, server=self.name)

    async def listen(
        self,
        on_notice: OnNotice,
        *,
        tools: bool = False,
        prompts: bool = False,
        resources: bool = False,
        uris: Sequence[str] = (),
    ) -> None:
        """Subscribe to changes at a server of 2026-07-28, until it ends the subscription.

        Args:
          on_notice: is shown method and parameters of each notification of this subscription; sync and cheap. The
            first is `notifications/subscriptions/acknowledged`.
          tools: changes of the list of tools; `prompts` and `resources` likewise.
          uris: changes of these resources.

        Raises:
          McpError: see `call`.

        Cancellation: the server is told; nothing more is shown.
        """
        wanted = {"toolsListChanged": tools, "promptsListChanged": prompts, "resourcesListChanged": resources}
        filter_: dict[str, Any] = {key: True for key, value in wanted.items() if value}
        if uris:
            filter_["resourceSubscriptions"] = list(uris)
        await self.call(
            "subscriptions/listen",
            {"notifications": filter_},
            decode=_decode_empty,
            total=math.inf,
            on_notice=on_notice,
        )

    async def _wait_ready(self, method: str, total: float) -> Multiplexer:
        with trio.move_on_after(total):
            while True:
                if self._unavailable is not None:
                    await trio.lowlevel.checkpoint()
                    raise self._refusal(self._unavailable)
                mux = self._mux
                if mux is not None and (mux.ended is None or self._is_last_life):
                    return mux  # noqa: ASYNC910 - it was awaited, or the caller waits
                await self._changed.park()
        raise RequestTimeout(f"{method}: the server was not up within {total:g} s", server=self.name)

    @property
    def _is_last_life(self) -> bool:
        return self._options.supervision is None or self._life.cancel_called

    def _refusal(self, why: McpError) -> McpError:
        if self._next_probe == math.inf:
            return copy.copy(why)
        wait = max(0.0, self._next_probe - trio.current_time())
        return ServerDown(f"down, next try in {wait:.3g} s: {why}", retry_after=wait, server=self.name)

    def notify_nowait(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification, as soon as the pipe takes it. While there is no server it goes nowhere.

        Raises:
          trio.WouldBlock: the server has stopped reading.
        """
        if self._mux is not None:
            self._mux.notify_nowait(method, params)

    # --- life ------------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End the conversation and the server; calls that wait fail with `PeerGone`. Once more does nothing.

        Cancellation: the end goes on, within the server's graces.
        """
        self._life.cancel(reason="the client was closed")
        with goodbye(60.0):
            await self._closed.wait()

    async def _run(self, *, task_status: trio.TaskStatus[McpClient]) -> None:
        try:
            with self._life:
                await self._lead(lambda: task_status.started(self))
        finally:
            self._mux = None
            self._set_unavailable(PeerGone("the client is closed", server=self.name), math.inf)
            self._closed.set()

    async def _lead(self, tell_started: Callable[[], None]) -> None:
        """Live once, and again for as long as the supervision wants it. The first start has to succeed."""
        policy = self._options.supervision
        history = self._history = RestartHistory(policy or Supervision(), self._options.uniform)

        def ready() -> None:
            if not started:
                started.append(True)
                tell_started()

        started: list[bool] = []
        while True:
            born, ended = trio.current_time(), await self._live_contained(ready, first=not started)
            lived = trio.current_time() - born
            self._mux = None
            if policy is None:
                self._notify(ServerGone(server=self.name, error=ended))
                self._set_unavailable(ended, math.inf)
                return
            verdict = history.note_end(trio.current_time(), lived=lived)
            self._notify(ServerGone(server=self.name, error=ended, restart_in=verdict.wait))
            if verdict.down:
                self._set_unavailable(ended, trio.current_time() + verdict.wait)
            await trio.sleep(verdict.wait)

    def _set_unavailable(self, why: McpError, next_probe: float) -> None:
        self._unavailable = why
        self._next_probe = next_probe
        self._changed.unpark_all()

    async def _live_contained(self, ready: Callable[[], None], *, first: bool) -> McpError:
        era = self._era
        try:
            return await self._live(ready)
        except McpError as exc:
            died_of_the_question = era == "detect" and self._era == "handshake"
            if first and not died_of_the_question:
                raise
            ended = exc
        if died_of_the_question:
            # Another life, greeted in the way that everybody knows.
            return await self._live_contained(ready, first=first)
        return ended  # noqa: ASYNC910 - it was awaited

    async def _live(self, ready: Callable[[], None]) -> McpError:
        """One life of the server, from its start to its end; returns why it ended.

        Raises:
          McpError: it did not get through the handshake.
        """
        options = self._options
        mux = Multiplexer(
            name=self.name,
            serve=options.host.answer,
            listen=self._hear if options.host.hear is not None else None,
            overhear=self._overhear,
            window=options.window,
            on_malformed=self._note_malformed,
        )
        async with open_hidden_nursery() as nursery:

            async def converse() -> None:
                await mux.run(self._transport())
                nursery.cancel_scope.cancel(reason="the connection has ended")

            nursery.start_soon(converse)
            self._agreement = await self._greet(mux)
            nursery.start_soon(self._watch_over, mux, nursery.cancel_scope)
            if self._agreement.meta is not None and (self._agreement.capabilities.tools or {}).get("listChanged"):
                nursery.start_soon(self._follow_tools)
            self._set_available(mux)
            ready()
        assert mux.ended is not None
        return mux.ended

    async def _greet(self, mux: Multiplexer) -> Agreement:
        options = self._options
        if self._era == "handshake":
            return await greet(mux, options.host, total=options.start)
        if self._era == "stateless":
            return await discover(mux, options.host, total=options.start, log_level=options.log_level)
        try:
            agreement = await detect(
                mux, options.host, total=options.start, probe=options.probe, log_level=options.log_level
            )
        except PeerGone:
            self._era = "handshake"
            raise
        self._era = "handshake" if agreement.meta is None else "stateless"
        return agreement

    async def _follow_tools(self) -> None:
        while True:
            try:
                await self.listen(lambda *_: None, tools=True)
            except McpError as exc:
                _log.info("%s: changes of the tools are not told: %s", self.name, exc)
                return  # noqa: ASYNC910 - it was awaited, or the caller waits
            await trio.sleep(_LISTEN_AGAIN)

    def _set_available(self, mux: Multiplexer) -> None:
        assert self._agreement is not None
        self._meta = self._agreement.meta
        self._mux = mux
        self._unavailable = None
        self._forget_tools()
        self._changed.unpark_all()
        self._notify(ServerStarted(server=self.name, protocol=self._agreement.protocol_version, restarts=self.restarts))

    async def _watch_over(self, mux: Multiplexer, life: trio.CancelScope) -> None:
        """After each call that timed out: is the server busy, or hung?"""
        policy = self._options.supervision
        while policy is not None and policy.ping is not None:
            await self._suspicion.wait()
            asked = trio.current_time()
            try:
                await mux.call(
                    "ping", None if self._meta is None else {"_meta": self._meta}, decode=decode_json, total=policy.ping
                )
            except RequestTimeout:
                if mux.last_heard < asked:
                    mux.end(PeerGone(f"the server is hung: no sign of life in {policy.ping:g} s", server=self.name))
                    life.cancel(reason="the server is hung")
            except McpError:
                pass  # an error is an answer, too; and if it is gone, that is known already
        await trio.sleep_forever()

    # --- what the server says unasked -----------------------------------------------------------------------------

    def _overhear(self, method: str, _: Raw) -> None:
        if method == "notifications/tools/list_changed":
            self._forget_tools()

    async def _hear(self, method: str, params: Raw) -> None:  # noqa: ASYNC910 - it was awaited, or the caller waits
        hear = self._options.host.hear
        assert hear is not None
        try:
            await hear(method, decode_json(bytes(params)) if params else {})
        except InvalidData:
            _log.warning("%s: %s: unreadable parameters", self.name, method)
        except Exception:  # noqa: BLE001 - a listener that fails must not cost the session
            _log.exception("the listener failed on %s of %s", method, self.name)

    def _note_malformed(self, message: Malformed) -> None:
        _log.info("%s wrote what is no message (%s): %r", self.name, message.reason, message.sample)
        self._notify(ServerSaid(server=self.name, text=message.sample))
