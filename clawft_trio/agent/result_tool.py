"""The tool by which a model reads what it was shown in part: cut and cleared results of tools."""

from __future__ import annotations

from clawft_trio.agent.session_view import READ_RESULT
from clawft_trio.agent.turn_types import SessionStore
from clawft_trio.errors import ToolFailed
from clawft_trio.tools import Tool, ToolContext, tool

_LENGTH = 20_000
"""Characters that one call reads: less than what is cut again."""


def result_tool(sessions: SessionStore) -> Tool:
    """The tool `read_result` over *sessions*; it reads results of the session in which it is called only."""

    @tool(name=READ_RESULT, mode="read_only")
    async def read_result(id: str, context: ToolContext, start: int = 0, length: int = _LENGTH) -> str:
        """Read a result of a tool again, or the part of it that was left out.

        Args:
          id: as it stands beside the part that you see.
          start: the first character to read, from 0.
          length: characters to read, 20000 at most.
        """
        text = await sessions.result(context.session, id)
        if text is None:
            raise ToolFailed(f"there is no result {id!r} in this conversation", tool=READ_RESULT)
        first = max(0, start)
        part = text[first : first + max(1, min(length, _LENGTH))]
        end = first + len(part)
        return f"{part}\n[Characters {first} to {end} of {len(text)}.]"

    return read_result
