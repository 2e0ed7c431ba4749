"""Results for the tool calls of a round that was cancelled, timed out or ended by an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from clawft_trio.chat import Message, ToolCall
from clawft_trio.codec import encode_json
from clawft_trio.tools import Tool, ToolJournal, ToolResult
from clawft_trio.tools.truncate import answer_text

_NOT_STARTED = "The call was cancelled before it started."
_STOPPED = "The call was cancelled before it had a result."
_UNKNOWN = "The call was cancelled while it ran. Whether it acted is not known. Check before you repeat it."


class FinishedCalls:
    """A `ToolJournal` that stores which calls started and ended, and passes every record on.

    Args:
      journal: the turn's journal, if it has one.
    """

    def __init__(self, journal: ToolJournal | None) -> None:
        self._journal = journal
        self._started: dict[str, Tool] = {}
        self._ended: dict[str, ToolResult] = {}

    async def started(self, call: ToolCall, tool: Tool) -> None:
        """Record that the call is about to run.

        Cancellation: the call does not run.
        """
        if self._journal is not None:
            await self._journal.started(call, tool)
        self._started[call.id] = tool

    async def ended(self, answer: ToolResult) -> None:
        """Record the result of a started call.

        Cancellation: the result is stored here.
        """
        if answer.outcome == "discarded":
            self._started.pop(answer.call_id, None)
        else:
            self._ended[answer.call_id] = answer
        if self._journal is not None:
            await self._journal.ended(answer)

    def messages(self, calls: Sequence[ToolCall], known: Mapping[str, ToolResult]) -> Iterator[Message]:
        """Yield a result for each of *calls*: its own if it ended, else what is certain about it."""
        for call in calls:
            answer = known.get(call.id) or self._ended.get(call.id)
            text = self._unfinished(call) if answer is None else answer_text(answer.text)
            yield Message.tool(text, tool_call_id=call.id)

    def _unfinished(self, call: ToolCall) -> str:
        tool = self._started.get(call.id)
        if tool is None:
            error, message = "cancelled", _NOT_STARTED
        elif tool.metadata.mode == "read_only":
            error, message = "cancelled", _STOPPED
        else:
            error, message = "outcome_unknown", _UNKNOWN
        return encode_json({"error": error, "message": message}).decode()
