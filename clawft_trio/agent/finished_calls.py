"""What became of the calls of a round that did not end: cancelled, timed out or broken off by an error."""

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
    """A `ToolJournal` that remembers what started and what ended, and hands everything on.

    Args:
      journal: the turn's own, if it has one.
    """

    def __init__(self, journal: ToolJournal | None) -> None:
        self._journal = journal
        self._started: dict[str, Tool] = {}
        self._ended: dict[str, ToolResult] = {}

    async def started(self, call: ToolCall, tool: Tool) -> None:
        """The call is about to run.

        Cancellation: the call does not run.
        """
        if self._journal is not None:
            await self._journal.started(call, tool)
        self._started[call.id] = tool

    async def ended(self, answer: ToolResult) -> None:
        """A started call has its answer.

        Cancellation: it is remembered.
        """
        if answer.outcome == "discarded":
            self._started.pop(answer.call_id, None)
        else:
            self._ended[answer.call_id] = answer
        if self._journal is not None:
            await self._journal.ended(answer)

    def messages(self, calls: Sequence[ToolCall], known: Mapping[str, ToolResult]) -> Iterator[Message]:
        """A result for each of *calls*: of those that ended their own, of the others what is certain of them."""
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
