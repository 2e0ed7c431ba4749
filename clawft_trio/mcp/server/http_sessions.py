"""Sessions of clients up to 2025-11-25: their running requests, their streams, and requests to them."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import msgspec
import trio

from clawft_trio.errors import PeerError, PeerGone, ProtocolViolation, RequestTimeout
from clawft_trio.mcp.jsonrpc import Envelope, Id, decode_error, encode_notification, encode_request
from clawft_trio.mcp.server.caller import Peer
from clawft_trio.mcp.server.changes import Change
from clawft_trio.mcp.server.event_stream import EventStream
from clawft_trio.mcp.server.options import HttpOptions, TaskOptions
from clawft_trio.mcp.server.tasks import TaskTable
from clawft_trio.mcp.types import JsonObject

STANDALONE = "0"
"""Name of the stream that belongs to no request, which a plain GET reads."""


class _Waiting:
    """A request to the client that waits for its response."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: Envelope | None = None


class Session:
    """One client, from its `initialize` to its end."""

    def __init__(self, peer: Peer, http: HttpOptions) -> None:
        # 256 bits, because without tokens the id is the only proof that a request belongs to the session.
        self.id: str = secrets.token_urlsafe(32)
        self.peer: Peer = peer
        self.last_used: float = trio.current_time()
        #: running requests by their id
        self.running: dict[Id, trio.CancelScope] = {}
        self._http = http
        self._streams: OrderedDict[str, EventStream] = OrderedDict()
        self._stream_numbers = count(1)
        self._request_ids = count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._in_use = 0
        self.standalone: EventStream = self._new_stream(STANDALONE)

    @property
    def idle(self) -> bool:
        """Whether no request runs and no stream is open."""
        return not self._in_use

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the session from being idle inside the block."""
        self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1
            self.last_used = trio.current_time()

    def offer_tasks(self, options: TaskOptions, nursery: trio.Nursery) -> None:
        """Let the client call tools as tasks, which run in *nursery*."""
        self.peer.tasks = TaskTable(options, nursery, _StandaloneChannel(self), self.in_use)

    def open_stream(self) -> EventStream:
        """Return a new stream for one request."""
        name = str(next(self._stream_numbers))
        stream = self._streams[name] = self._new_stream(name)
        return stream

    def stream_of(self, event_id: str) -> tuple[EventStream, int] | None:
        """Return the stream of an event that the client received, and the event's number; None when it is not kept."""
        name, _, number = event_id.partition("-")
        stream = self.standalone if name == STANDALONE else self._streams.get(name)
        if stream is None or not (number.isascii() and number.isdecimal() and len(number) < 16):
            return None
        return stream, int(number)

    def forget(self, stream: EventStream) -> None:
        """Drop a stream that no client can know."""
        self._streams.pop(stream.name, None)

    def prune(self) -> None:
        """Drop the oldest finished streams, as far as there are too many or they are too large."""
        finished = [stream for stream in self._streams.values() if stream.finished]
        size = sum(stream.size for stream in finished)
        for stream in finished:
            if len(finished) <= self._http.replay_streams and size <= self._http.replay_bytes:
                break
            # The newest is kept whatever its size, because its client may be about to reconnect.
            if stream is finished[-1]:
                break
            size -= stream.size
            del self._streams[stream.name]
            finished = finished[1:]

    def note_change(self, change: Change) -> None:
        """Queue the notification of a change for the client's standalone stream."""
        if change.kind == "resource" and change.uri not in self.peer.subscriptions:
            return
        params = {"uri": change.uri} if change.kind == "resource" else {}
        self.standalone.put_once(encode_notification(change.method, params))

    def _new_stream(self, name: str) -> EventStream:
        return EventStream(name, max_events=self._http.replay_events, max_bytes=self._http.replay_bytes)

    async def ask(self, stream: EventStream, method: str, params: JsonObject, *, total: float) -> JsonObject:
        """Send a request on *stream* and wait for its result, at most *total* seconds.

        Raises:
          PeerError: the client responded with an error.
          RequestTimeout: it did not respond in time.
          PeerGone: the session was closed.
          ProtocolViolation: the response is invalid.

        Cancellation: the client is notified; a late response is dropped.
        """
        key = next(self._request_ids)
        waiting = self._waiting[key] = _Waiting()
        stream.put(encode_request(key, method, params))
        try:
            with trio.move_on_after(total):
                await waiting.answered.wait()
        finally:
            del self._waiting[key]
            if not waiting.answered.is_set():
                gone = {"requestId": key, "reason": "no answer in time, or no longer needed"}
                stream.put(encode_notification("notifications/cancelled", gone))
        if not waiting.answered.is_set():
            raise RequestTimeout(f"{method}: no answer within {total:g} s", server="client")
        if waiting.answer is None:
            raise PeerGone("the session was closed", server="client")
        return _result_of(method, waiting.answer)

    def deliver(self, answer: Envelope) -> None:
        """Pass a response to the request that it belongs to; drop unknown ones."""
        key: Any = answer.id
        if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 16:
            key = int(key)
        if isinstance(key, float) and key.is_integer():
            # In JSON 3.0 and 3 are the same number.
            key = int(key)
        waiting = self._waiting.get(key) if isinstance(key, int) else None
        if waiting is not None and not waiting.answered.is_set():
            waiting.answer = Envelope(id=answer.id, result=answer.result.copy(), error=answer.error.copy())
            waiting.answered.set()

    def close(self) -> None:
        """End the session: running requests are cancelled, streams end, requests to the client fail."""
        for scope in self.running.values():
            scope.cancel(reason="the session was closed")
        for stream in (self.standalone, *self._streams.values()):
            stream.finish()
        for waiting in self._waiting.values():
            waiting.answered.set()
        if self.peer.tasks is not None:
            self.peer.tasks.close()


class _StandaloneChannel:
    """Carries messages of a session that belong to no open request: they go to the stream that a plain GET reads."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def notify(self, method: str, params: JsonObject) -> None:
        self._session.standalone.put(encode_notification(method, params))

    async def request(self, method: str, params: JsonObject, *, total: float) -> JsonObject:
        return await self._session.ask(self._session.standalone, method, params, total=total)

    def release(self) -> None:
        """Do nothing: no response belongs to this channel."""


class Sessions:
    """The sessions of one endpoint, bounded in number and in idle time."""

    def __init__(self, http: HttpOptions) -> None:
        self._http = http
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, peer: Peer) -> Session | None:
        """Open a session of *peer*; return None when there is no room.

        When there are too many, the session that has been idle for the longest time is closed.
        """
        if len(self._sessions) >= self._http.max_sessions:
            idle = min((one for one in self._sessions.values() if one.idle), key=_last_used, default=None)
            if idle is None:
                return None
            self.close(idle)
        session = Session(peer, self._http)
        self._sessions[session.id] = session
        return session

    def get(self, session_id: str, identity: str) -> Session | None:
        """Return the session *session_id* if it belongs to *identity*, or None."""
        session = self._sessions.get(session_id)
        if session is None or session.peer.auth.identity != identity:
            return None
        session.last_used = trio.current_time()
        return session

    def close(self, session: Session) -> None:
        """End *session*."""
        self._sessions.pop(session.id, None)
        session.close()

    def note_change(self, change: Change) -> None:
        """Pass a change to every session."""
        for session in self._sessions.values():
            session.note_change(change)

    async def close_idle(self) -> None:
        """Close sessions that have been idle for too long; runs until cancelled.

        Cancellation: the sessions stay open.
        """
        while True:
            await trio.sleep(min(60.0, self._http.session_idle / 2))
            limit = trio.current_time() - self._http.session_idle
            for session in [one for one in self._sessions.values() if one.idle and one.last_used <= limit]:
                self.close(session)


def _last_used(session: Session) -> float:
    return session.last_used


def _result_of(method: str, answer: Envelope) -> JsonObject:
    # Some clients always write both members, and null for the one that does not apply.
    if answer.error and bytes(answer.error) != b"null":
        error = decode_error(answer.error)
        raise PeerError(error.message or "no message", code=error.code, data=error.data, server="client")
    with suppress(ValueError, RecursionError):
        result: JsonObject = _decode_object(answer.result)
        return result
    raise ProtocolViolation(f"{method}: the result is not an object", server="client")


_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
