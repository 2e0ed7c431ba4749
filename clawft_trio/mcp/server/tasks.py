"""Tool calls as tasks of a client of 2025-11-25: created, polled, cancelled, and fetched when they have ended.

A task belongs to the connection or session that created it, and continues after the response to the request that
created it. The questions of its tool are sent with the next `tasks/result` request, which waits for the end of the
task and carries its messages until then.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import trio

from clawft_trio.errors import PeerError, PeerGone
from clawft_trio.mcp.incoming import raising_peer_errors
from clawft_trio.mcp.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS
from clawft_trio.mcp.server.caller import Channel
from clawft_trio.mcp.server.options import TaskOptions
from clawft_trio.mcp.types import JsonObject

RELATED_TASK = "io.modelcontextprotocol/related-task"
"""The member of `_meta` that names the task of a message."""

_MOST_MILLISECONDS = 2**53

_ENDED = frozenset(("completed", "failed", "cancelled"))

Run = Callable[[Channel], Awaitable[JsonObject]]


class ServedTask:
    """One task. It is the `Channel` of its tool call.

    Args:
      options: limits.
      ttl: seconds that it is kept, from now on.
      general: carries messages while no `tasks/result` request waits.
    """

    def __init__(self, options: TaskOptions, ttl: float, general: Channel) -> None:
        # 192 bits, because without tokens the id is the only proof that a request may access its task.
        self.id: str = secrets.token_urlsafe(24)
        self.status: str = "working"
        self.scope: trio.CancelScope = trio.CancelScope()
        self.expires: float = trio.current_time() + ttl
        self.result: JsonObject | None = None
        self.error: PeerError | None = None
        #: whether the client was sent the result
        self.fetched: bool = False
        self._options = options
        self._ttl = ttl
        self._general = general
        self._message = ""
        self._created = self._updated = _now()
        self._changed = trio.lowlevel.ParkingLot()
        self._readers: list[Channel] = []

    @property
    def ended(self) -> bool:
        """Whether it has completed, failed, or was cancelled."""
        return self.status in _ENDED

    @property
    def record(self) -> JsonObject:
        """The task as it is sent to clients."""
        return {
            "taskId": self.id,
            "status": self.status,
            **({"statusMessage": self._message} if self._message else {}),
            "createdAt": self._created,
            "lastUpdatedAt": self._updated,
            "ttl": int(self._ttl * 1000),
            "pollInterval": int(self._options.poll * 1000),
        }

    def become(self, status: str, message: str = "") -> None:
        """Set the status and notify the client. A task that has ended does not change."""
        if self.ended:
            return
        self.status, self._message, self._updated = status, message[:500], _now()
        self._changed.unpark_all()
        self._general.notify("notifications/tasks/status", self.record)

    async def wait_ended(self, reader: Channel) -> None:
        """Wait until it has ended; until then *reader* carries its messages.

        Cancellation: the task continues.
        """
        await trio.lowlevel.checkpoint()
        self._readers.append(reader)
        self._changed.unpark_all()
        try:
            while not self.ended:
                await self._changed.park()
        finally:
            self._readers.remove(reader)

    def notify(self, method: str, params: JsonObject) -> None:
        """Send a notification that belongs to the task. Never blocks; may be dropped."""
        reader = self._readers[-1] if self._readers else self._general
        reader.notify(method, self._related(params))

    async def request(self, method: str, params: JsonObject, *, total: float) -> JsonObject:
        """Send a request once the client waits for the result, and wait for its response.

        Raises:
          PeerError, PeerGone, RequestTimeout, ProtocolViolation: there is no result.

        Cancellation: the client is notified, if the request was sent.
        """
        self.become("input_required", method)
        try:
            with trio.move_on_after(total):
                await trio.lowlevel.checkpoint()
                while not self._readers:
                    await self._changed.park()
            if not self._readers:
                raise PeerGone("the client has not come for what the task asks", server="client")
            return await self._readers[-1].request(method, self._related(params), total=total)
        finally:
            self.become("working")

    def release(self) -> None:
        """Do nothing: the request that created the task already has its response."""

    def _related(self, params: JsonObject) -> JsonObject:
        return with_related_task(params, self.id)


class TaskTable:
    """The tasks of one client.

    Args:
      options: limits.
      nursery: runs the tasks.
      general: carries messages while the client has no open request for them.
      in_use: context manager that is entered while a task runs.
    """

    def __init__(
        self,
        options: TaskOptions,
        nursery: trio.Nursery,
        general: Channel,
        in_use: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.options: TaskOptions = options
        self._nursery = nursery
        self._general = general
        self._in_use = in_use
        self._tasks: dict[str, ServedTask] = {}

    def create(self, run: Run, ttl: object) -> ServedTask:
        """Start *run* as a task that is kept for *ttl* milliseconds, or as long as the options say.

        Raises:
          PeerError: *ttl* is invalid, or there are too many tasks.
        """
        self._purge()
        wanted = self.options.ttl if ttl is None else _seconds(ttl)
        if len(self._tasks) >= self.options.max_tasks and not self._drop_fetched():
            raise PeerError(f"more than {self.options.max_tasks} tasks", code=INTERNAL_ERROR)
        task = ServedTask(self.options, min(wanted, self.options.max_ttl), self._general)
        self._tasks[task.id] = task
        self._nursery.start_soon(self._run, task, run)
        return task

    def get(self, task_id: str) -> ServedTask:
        """Return the task *task_id*.

        Raises:
          PeerError: there is none, or it is no longer kept.
        """
        self._purge()
        try:
            return self._tasks[task_id]
        except KeyError:
            raise PeerError("there is no such task, or not any more", code=INVALID_PARAMS) from None

    def list(self) -> list[ServedTask]:
        """Return all tasks, the oldest first."""
        self._purge()
        return [*self._tasks.values()]

    def cancel(self, task_id: str) -> ServedTask:
        """Cancel the task *task_id*.

        Raises:
          PeerError: there is none, or it has ended.
        """
        task = self.get(task_id)
        if task.ended:
            raise PeerError(f"the task has ended: {task.status}", code=INVALID_PARAMS)
        task.become("cancelled", "cancelled by the client")
        task.scope.cancel(reason="the client cancelled the task")
        return task

    async def result(self, task_id: str, reader: Channel) -> JsonObject:
        """Wait until the task *task_id* has ended, and return its result; *reader* carries its messages until then.

        Raises:
          PeerError: there is no such task, or it has no result.

        Cancellation: the task continues.
        """
        task = self.get(task_id)
        await task.wait_ended(reader)
        task.fetched = True
        if task.error is not None:
            raise PeerError(str(task.error), code=task.error.code, data=task.error.data)
        if task.result is None:
            raise PeerError("the task was cancelled", code=INVALID_PARAMS)
        return with_related_task(task.result, task.id)

    def close(self) -> None:
        """Cancel and drop all tasks, because the client has disconnected."""
        for task in self._tasks.values():
            task.become("cancelled", "the client is gone")
            task.scope.cancel(reason="the client is gone")
        self._tasks.clear()

    def _drop_fetched(self) -> bool:
        """Drop the oldest task whose result the client has; return whether there was one."""
        fetched = next((key for key, task in self._tasks.items() if task.fetched), None)
        if fetched is not None:
            del self._tasks[fetched]
        return fetched is not None

    def _purge(self) -> None:
        now = trio.current_time()
        self._tasks = {key: task for key, task in self._tasks.items() if now < task.expires}

    async def _run(self, task: ServedTask, run: Run) -> None:
        task.scope.deadline = task.expires
        try:
            with self._in_use(), task.scope:
                result = await raising_peer_errors("tools/call", run(task))
                if not task.ended:
                    task.result = result
                    task.become("failed" if result.get("isError") else "completed")
        except PeerError as exc:
            task.error = exc
            task.become("failed", str(exc))
        finally:
            task.become("cancelled", "its time was over, or the server ends")


def with_related_task(params: JsonObject, task_id: str) -> JsonObject:
    """Return *params* of a message that belongs to the task *task_id*."""
    meta: Mapping[str, Any] = params.get("_meta") or {}
    return {**params, "_meta": {**meta, RELATED_TASK: {"taskId": task_id}}}


def _seconds(ttl: object) -> float:
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl < math.inf:
        raise PeerError("ttl is a number of milliseconds", code=INVALID_PARAMS)
    # JSON has numbers that no float holds.
    return min(ttl, _MOST_MILLISECONDS) / 1000


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
