"""The methods of tasks (2025-11-25)."""

from __future__ import annotations

from typing import Any

from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.requests import Methods, ServerRequest, page, tasks_of
from clawft_trio.mcp.server.tasks import TaskTable
from clawft_trio.mcp.server.wire import TaskParams, decode_params


class TaskMethods:
    """Answers `tasks/get`, `tasks/list`, `tasks/result` and `tasks/cancel` about the tasks of the client."""

    def __init__(self, options: ServeOptions) -> None:
        self._options = options

    def methods(self) -> Methods:
        """Return the functions that answer these methods."""
        return {
            "tasks/get": self._get,
            "tasks/list": self._list,
            "tasks/result": self._result,
            "tasks/cancel": self._cancel,
        }

    async def _get(self, request: ServerRequest) -> dict[str, Any]:
        return dict(_own(request).get(_task_id(request)).record)

    async def _list(self, request: ServerRequest) -> dict[str, Any]:
        entries = [(f"{number:09}", task.record) for number, task in enumerate(_own(request).list())]
        return page(self._options, "tasks", entries, request)

    async def _result(self, request: ServerRequest) -> dict[str, Any]:
        return dict(await _own(request).result(_task_id(request), request.channel))

    async def _cancel(self, request: ServerRequest) -> dict[str, Any]:
        return dict(_own(request).cancel(_task_id(request)).record)


def _own(request: ServerRequest) -> TaskTable:
    tasks = tasks_of(request.peer)
    assert tasks is not None
    return tasks


def _task_id(request: ServerRequest) -> str:
    return decode_params(request.params, TaskParams).task_id
