"""The tool with which a model reads tool results that it received only in part or as one line."""

from __future__ import annotations

from clawft_trio.agent.session_view import READ_RESULT
from clawft_trio.agent.turn_types import SessionStore
from clawft_trio.errors import ToolFailed
from clawft_trio.tools import Tool, ToolContext, tool

_LENGTH = 20_000
"""Largest number of characters that one call reads: fewer than a result may have before it is cut."""


def result_tool(sessions: SessionStore) -> Tool:
    """Make the tool `read_result` for *sessions*; it reads only results of the session of its call."""

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
