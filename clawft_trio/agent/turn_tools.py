"""The tools of one turn: which are offered, which calls may start early, and how calls are run."""

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
    """Offers tools to the models of one turn, and runs their calls."""

    question: TurnRequest
    tools: ToolRegistry
    policy: TurnPolicy
    #: the history, if it stores complete results; None: it does not
    store: SessionStore | None
    context: ContextBuilder | None
    journal: TurnJournal | None
    workspace: Path | None
    observer: Callable[[Any], None]
    #: the turns of sub-agents
    nested: list[NestedTurn] = attrs.field(factory=list)
    #: calls of the earlier rounds that succeeded: only they can have loaded a skill
    succeeded: list[ToolCall] = attrs.field(factory=list)
    # Made when there is something to read, because making a tool costs as much CPU as the rest of a turn.
    _reading: ToolRegistry | None = attrs.field(default=None, init=False)

    @property
    def readable(self) -> bool:
        """Whether the sender can read results of the session again with a tool: every sender with any tool can."""
        if self.store is None or READ_RESULT in self.tools:
            return False
        return bool(self.tools.allowed(self.question.auth.permissions))

    def offered(self, messages: Sequence[Message]) -> tuple[ToolSpec, ...]:
        """Return the tools to offer. The tool that reads results is added once *messages* have a shortened result."""
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
        """Open the early calls of this round; the value is None if no call may start early."""
        eager = self.policy.eager
        permissions = self.question.auth.permissions
        may_start = _may_repeat if eager == "idempotent" else _only_reads
        # Skills can pre-approve calls only when the answer is complete.
        approving = self.context is not None and self.context.may_preapprove()
        if last or eager == "off" or approving:
            return nullcontext()
        if not any(map(may_start, self.tools.allowed(permissions))):
            return nullcontext()
        return self.tools.open_early_calls(self._context(number), journal=journal, may_start=may_start)

    async def known(self, number: int, response: ChatResponse, *, refused: bool) -> dict[str, ToolResult]:
        """Return the results of calls that need not, or must not, be run.

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
        """Run *calls*. Calls that read results use a separate registry, because every sender with tools may read them.

        Cancellation: running calls are cancelled and awaited.
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

    def approval(self, asked: Message) -> Approve | None:
        """Return the registry's approval function, which is skipped for calls that a skill in use pre-approves.

        A skill is in use if *asked*, the message of the turn, or a call of an earlier round has started it.
        """
        ask, context = self.tools.approve, self.context
        if ask is None or context is None:
            return ask
        loads = Message.assistant(tool_calls=tuple(self.succeeded))
        skills = context.preapproval((asked, loads, Message.assistant()))

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
        # Arguments that were cut off can look complete: half a file is a file.
        return "The answer was cut off by its limit of tokens before this call was certain. Ask for less at once."
    return ""


def _only_reads(tool: Tool) -> bool:
    """Whether a call of *tool* changes nothing and may be repeated. Calls of a sub-agent, which cost money, may not."""
    return tool.metadata.mode == "read_only" and tool.metadata.idempotent


def _may_repeat(tool: Tool) -> bool:
    """Whether a call of *tool* may be repeated."""
    return tool.metadata.idempotent
