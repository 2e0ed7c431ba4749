"""The tools of one turn: which are offered, which calls may start early, and how each call gets its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import trio

from clawft_trio.agent.result_tool import result_tool
from clawft_trio.agent.session_view import READ_RESULT
from clawft_trio.agent.turn_types import SessionStore, TurnJournal, TurnPolicy, TurnRequest
from clawft_trio.chat import ChatResponse, Message, ToolCall, ToolSpec
from clawft_trio.context import ContextBuilder
from clawft_trio.errors import PermissionDenied
from clawft_trio.tools import (
    ApprovalRequest,
    Approve,
    NestedTurn,
    Tool,
    ToolContext,
    ToolJournal,
    ToolRegistry,
    ToolResult,
)
from clawft_trio.tools.early import EarlyCalls
from clawft_trio.tools.result import error_text


@attrs.define(kw_only=True)
class TurnTools:
    """What one turn does with tools."""

    question: TurnRequest
    tools: ToolRegistry
    policy: TurnPolicy
    #: the history, where results can be read again; None: it keeps none
    store: SessionStore | None
    context: ContextBuilder | None
    journal: TurnJournal | None
    workspace: Path | None
    observer: Callable[[Any], None]
    #: what sub-agents report of their turns
    nested: list[NestedTurn] = attrs.field(factory=list)
    # Made when there is something to read: making a tool costs as much as a whole turn does else.
    _reading: ToolRegistry | None = attrs.field(default=None, init=False)

    @property
    def readable(self) -> bool:
        """Whether results of the session can be read again by a tool: by each sender that may use any."""
        if self.store is None or READ_RESULT in self.tools:
            return False
        return bool(self.tools.allowed(self.question.auth.permissions))

    def offered(self, messages: Sequence[Message]) -> tuple[ToolSpec, ...]:
        """The tools that are offered. The one that reads results is, once there is one that is not shown whole."""
        auth = self.question.auth
        offered = self.tools.specs(auth.permissions)
        marked = any(message.role == "tool" and f"{READ_RESULT}(id=" in message.text for message in messages)
        if marked and self._reading is None and self.readable:
            assert self.store is not None
            self._reading = ToolRegistry([result_tool(self.store)])
        if self._reading is None or not marked:
            return offered
        return tuple(sorted((*offered, *(tool.spec for tool in self._reading)), key=lambda spec: spec.name))

    def early_calls(
        self, number: int, journal: ToolJournal, *, last: bool
    ) -> AbstractAsyncContextManager[EarlyCalls | None]:
        """Where calls of this round may start before its answer is complete; None where none may."""
        eager = self.policy.eager
        permissions = self.question.auth.permissions
        may_start = _may_repeat if eager == "idempotent" else _only_reads
        # Skills that pre-approve calls are asked once the answer is complete.
        approving = self.context is not None and self.context.may_preapprove()
        if last or eager == "off" or approving:
            return nullcontext()
        if not any(map(may_start, self.tools.allowed(permissions))):
            return nullcontext()
        return self.tools.open_early_calls(self._context(number), journal=journal, may_start=may_start)

    async def known(self, number: int, response: ChatResponse, *, refused: bool) -> dict[str, ToolResult]:
        """The results of calls that need not, or must not, be executed.

        Cancellation: nothing is changed.
        """
        known: dict[str, ToolResult] = {}
        if self.journal is not None:
            known |= await self.journal.tool_answers(self.question.turn_id, number, response.tool_calls)
        why = _refusal(response, refused=refused)
        for call in response.tool_calls:
            if why and call.id not in known:
                error = PermissionDenied(why)
                known[call.id] = ToolResult(
                    call.id, name=call.name, text=error_text(error), outcome="refused", error=error
                )
        return known

    async def execute(
        self,
        number: int,
        calls: Sequence[ToolCall],
        journal: ToolJournal,
        early: EarlyCalls | None,
        approve: Approve | None,
    ) -> tuple[ToolResult, ...]:
        """Execute *calls*. Those that read results have a registry of their own: every sender with tools may read.

        Cancellation: what runs is cancelled and waited for.
        """
        own = [call for call in calls if call.name == READ_RESULT and self._reading is not None]
        others = [call for call in calls if call not in own]
        context = self._context(number)
        if early is None:
            answers = await self.tools.execute_all(others, context, approve=approve, journal=journal)
        else:
            answers = await early.results(others)
        if own and self._reading is not None:
            permissions = attrs.evolve(context.auth.permissions, tool_access=(READ_RESULT,), tool_denylist=())
            reading = attrs.evolve(context, auth=attrs.evolve(context.auth, permissions=permissions))
            answers += await self._reading.execute_all(own, reading, journal=journal)
        return answers

    def approval(self, said: Sequence[Message]) -> Approve | None:
        """The registry's approval, not asked for calls that a skill in use pre-approves."""
        ask, context = self.tools.approve, self.context
        if ask is None or context is None:
            return ask
        skills = context.preapproval(said)

        async def approve(request: ApprovalRequest) -> bool | str:
            if skills.approves(request.tool.name, request.arguments):
                await trio.lowlevel.checkpoint()
                return True
            return await ask(request)

        return approve

    def _context(self, number: int) -> ToolContext:
        question = self.question
        return ToolContext(
            auth=question.auth,
            session=question.session,
            workspace=self.workspace,
            turn_id=question.turn_id,
            round=number,
            deadline=trio.current_effective_deadline(),
            observer=self.observer,
            nested=self.nested,
        )


def _refusal(response: ChatResponse, *, refused: bool) -> str:
    if refused:
        return "The turn has used all its rounds of tools."
    if response.finish_reason == "length":
        # Arguments that were cut off can look whole: half a file is a file.
        return "The answer was cut off by its limit of tokens before this call was certain. Ask for less at once."
    return ""


def _only_reads(tool: Tool) -> bool:
    """Whether a call of *tool* changes nothing and may be repeated. A sub-agent, which costs money, may not."""
    return tool.metadata.mode == "read_only" and tool.metadata.idempotent


def _may_repeat(tool: Tool) -> bool:
    """Whether a call of *tool* may be repeated."""
    return tool.metadata.idempotent
