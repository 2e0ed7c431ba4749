"""Sub-agents: an agent as a tool of another, with its own models, prompt, tools, deadline and budget.

    researcher = subagent("research", ["openai/gpt-5-mini"], description="Answers one question.", budget="0.05")
    async with open_agent(["openai/gpt-5"], tools=[researcher]) as agent:
        ...

Each call is a turn below the turn of its caller: the same sender pays its costs, under the name of the sub-agent;
budgets of all turns above apply to it, too; its models and tools are cancelled with it. It begins with no conversation,
and stores none. Its tools run with the sender's permissions, and need the same approval.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio
from attrs.validators import ge, gt, optional

from clawft_trio.agent.answer_form import AnswerForm
from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_types import Models, Reply, TurnPolicy, TurnRequest
from clawft_trio.auth import matches_any
from clawft_trio.chat import Call, Message, new_id
from clawft_trio.checks import check_keywords
from clawft_trio.costs import CostTracker, TurnBudget
from clawft_trio.costs.money import limit
from clawft_trio.errors import ClawftError, ToolFailed
from clawft_trio.observe import Noted
from clawft_trio.pipeline import Pipeline, TurnAdmission
from clawft_trio.resilience import Timeout
from clawft_trio.tools import NestedTurn, Tool, ToolContext, ToolMetadata, ToolRegistry
from clawft_trio.tools.tool import fits_every_provider

# Not in the field itself, because type checkers would infer its type from a default that is not None.
_POSITIVE: Any = optional(gt(0))

_TURNS_COUNTED = 1024
"""Number of turns for which calls of a sub-agent are counted at the same time."""

NO_SUCH_TOOL = "a sub-agent's pattern matches no tool"
"""Text of the `Noted` event; its details are `agent` and `pattern`."""

_TASK = {
    "type": "object",
    "properties": {"task": {"type": "string", "description": "What to do, with everything that is needed to do it."}},
    "required": ["task"],
    "additionalProperties": False,
}


@attrs.frozen(kw_only=True)
class SubAgentPolicy:
    """The limits of a sub-agent."""

    #: US dollars for one call with everything below it; None: only the budgets above apply
    budget: Decimal | None = attrs.field(default=None, converter=limit)
    #: tokens for one call with everything below it
    budget_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)))
    #: seconds for one call
    total: float | None = attrs.field(default=300.0, validator=_POSITIVE)
    #: largest number of levels of sub-agents below the turn of a sender, this one included
    max_depth: int = attrs.field(default=3, validator=ge(1))
    #: largest number of calls of this sub-agent in one turn
    max_calls: int = attrs.field(default=16, validator=ge(1))


@attrs.frozen(kw_only=True)
class SubAgent:
    """The description of a sub-agent, from which `open_agent(tools=[...])` makes a tool. Made by `subagent`."""

    name: str = attrs.field(validator=fits_every_provider)
    models: tuple[str, ...]
    description: str
    instructions: str
    #: its own tools, other sub-agents, and patterns of names of the agent's tools: `"files__*"`
    tools: tuple[Tool | SubAgent | str, ...]
    turn: TurnPolicy
    answer: AnswerForm[Any] | None
    policy: SubAgentPolicy


def subagent(
    name: str,
    models: Sequence[str],
    *,
    description: str,
    instructions: str = "",
    tools: Iterable[Tool | SubAgent | str] = (),
    turn: TurnPolicy | None = None,
    answer: type[Any] | AnswerForm[Any] | None = None,
    **policy: Any,
) -> SubAgent:
    """Describe a sub-agent, for the tools of `open_agent`.

    Args:
      name: name of the tool, and of the agent in the ledger.
      models: `provider/model`, in order of preference.
      description: description for the calling model.
      instructions: its system prompt.
      tools: its own tools, other sub-agents, and patterns of names of the agent's tools (`"files__*"`).
      turn: the limits of its turn.
      answer: the type of its answer, or its form; None: text.
      policy: the fields of `SubAgentPolicy`.

    Raises:
      TypeError: *models* is one string, *answer* is a type without a JSON Schema, or a keyword is unknown.
      ValueError: a field of the policy is out of range, or *name* is not a valid name of a tool.
    """
    if isinstance(models, str):
        raise TypeError(f"models are a list: [{models!r}]")
    named = ("name", "models", "description", "instructions", "tools", "turn", "answer")
    check_keywords("subagent", named, SubAgentPolicy, policy)
    return SubAgent(
        name=name,
        models=tuple(models),
        description=description,
        instructions=instructions,
        tools=tuple(tools),
        turn=turn or TurnPolicy(),
        answer=form_of(answer),
        policy=SubAgentPolicy(**policy),
    )


def form_of(answer: type[Any] | AnswerForm[Any] | None) -> AnswerForm[Any] | None:
    """Return the form of a type, or the given form itself."""
    return answer if answer is None or isinstance(answer, AnswerForm) else AnswerForm.of(answer)


class Fresh:
    """The history of a sub-agent, which is always empty."""

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """Return no messages.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        return ()

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        """Store nothing.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()


MakeTurns: TypeAlias = Callable[[ToolContext], Turns]
"""Makes the `Turns` for a call of a sub-agent."""


@attrs.frozen(kw_only=True)
class AgentTool(Tool):
    """A tool that runs an agent. Made by `Agent.as_tool`, and by `open_agent` for a `SubAgent`."""

    delegate: Delegate = attrs.field(repr=False, eq=False, hash=False)

    def charged_to(self, tracker: CostTracker) -> AgentTool:
        """Make the same tool for an agent with its costs in *tracker*."""
        return agent_tool(self.name, self.description, attrs.evolve(self.delegate, account=tracker))


def agent_tool(name: str, description: str, delegate: Delegate) -> AgentTool:
    """Make the tool with which a model calls *delegate*."""
    return AgentTool(
        name,
        description=description,
        function=delegate.call,
        parameters=_TASK,
        # Only its own tools change anything, and they need approval themselves.
        metadata=ToolMetadata(mode="read_only", idempotent=False, total=delegate.policy.total),
        delegate=delegate,
    )


@attrs.frozen(kw_only=True, eq=False)
class Delegate:
    """Runs the calls of one sub-agent.

    Args:
      name: name of the agent.
      turns: makes the `Turns` for a call.
      tracker: prices of its calls.
      account: tracker of the calling agent's costs; None: *tracker*.
    """

    name: str
    turns: MakeTurns
    tracker: CostTracker
    policy: SubAgentPolicy
    form: AnswerForm[Any] | None = None
    account: CostTracker | None = None
    _calls: OrderedDict[str, int] = attrs.field(factory=OrderedDict, init=False)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> object:
        """Do `arguments["task"]` in a new turn below the turn of *context*.

        Raises:
          ToolFailed: too many levels, or too many calls in one turn. No model was called.
          ClawftError: there is no answer.

        Cancellation: its models and tools are cancelled and awaited.
        """
        # With the round, because some models repeat the ids of earlier rounds.
        turn_id = f"{context.turn_id}/{self.name}:{context.round}.{context.call_id or new_id()}"
        budget = TurnBudget(turn_id=turn_id, usd=self.policy.budget, tokens=self.policy.budget_tokens)
        limited = None if budget.usd is None and budget.tokens is None else budget
        with self.tracker.on_behalf(
            turn_id,
            context.auth,
            agent=self.name,
            parent_turn_id=context.turn_id,
            budget=limited,
            account=self.account,
        ) as payer:
            self._check(context.turn_id, len(payer.ancestors))
            reply = await self._answer(str(arguments["task"]), turn_id, context)
        return reply.text if self.form is None else reply.answer

    def _check(self, parent: str, depth: int) -> None:
        if depth > self.policy.max_depth:
            raise ToolFailed(f"{self.name} is {depth} levels of agents deep, and {self.policy.max_depth} are allowed.")
        calls = self._calls.get(parent, 0) + 1
        if calls > self.policy.max_calls:
            raise ToolFailed(f"{self.name} may be called {self.policy.max_calls} times in one turn.")
        self._calls[parent] = calls
        if len(self._calls) > _TURNS_COUNTED:
            self._calls.popitem(last=False)

    async def _answer(self, task: str, turn_id: str, context: ToolContext) -> Reply:
        question = TurnRequest(
            content=Message.user(task),
            auth=context.auth,
            session=f"{context.session}/{self.name}",
            turn_id=turn_id,
            form=self.form,
        )
        call = Call(id=turn_id, turn_id=turn_id, observer=context.observer)
        bound = Timeout(total=self.policy.total)
        error: ClawftError | None = None
        try:
            reply = await bound.run(partial(self.turns(context).answer, question), call)
        except ClawftError as exc:
            exc.attempts = call.log.records
            error = exc
        if error is not None:
            # Without a reply, only the ledger has the cost.
            (spent,) = await (self.account or self.tracker).ledger.spending(turn=turn_id)
            context.nested.append(NestedTurn(agent=self.name, turn_id=turn_id, usage=None, cost=spent.cost))
            raise error
        context.nested.append(NestedTurn(agent=self.name, turn_id=turn_id, usage=reply.usage, cost=reply.cost))
        return reply


def unadmitted(models: Models) -> Models:
    """Remove the admission of *models*: the sender was admitted, and its budgets apply at each reservation."""
    return attrs.evolve(models, admission=TurnAdmission()) if isinstance(models, Pipeline) else models


@attrs.frozen(kw_only=True)
class SubAgents:
    """Makes tools from the sub-agents of one agent.

    Args:
      models: makes the `Models` for names of models in order of preference.
      registry: the agent's tools, which a sub-agent may use by name.
      tracker: the agent's tracker.
      workspace: the agent's workspace.
    """

    models: Callable[[tuple[str, ...]], Models]
    registry: ToolRegistry
    tracker: CostTracker
    workspace: Path | None = None

    def tool(self, given: Tool | SubAgent) -> Tool:
        """Return *given* as a tool of this agent, charged to its account."""
        if isinstance(given, AgentTool):
            return given.charged_to(self.tracker)
        return self._opened(given) if isinstance(given, SubAgent) else given

    def _opened(self, spec: SubAgent) -> AgentTool:
        own = [self.tool(tool) for tool in spec.tools if not isinstance(tool, str)]
        patterns = [pattern for pattern in spec.tools if isinstance(pattern, str)]
        models, history = self.models(spec.models), Fresh()

        def turns(context: ToolContext) -> Turns:
            # Made for each call, because tools of MCP servers may change.
            tools = self.registry.narrowed(own, patterns)
            for pattern in patterns:
                if not any(matches_any(tool.name, (pattern,)) for tool in tools):
                    details = {"agent": spec.name, "pattern": pattern}
                    context.observer(
                        Noted(component="agent", what=NO_SUCH_TOOL, details=details, turn_id=context.turn_id)
                    )
            workspace = context.workspace or self.workspace
            return Turns(
                models=models,
                tools=tools,
                history=history,
                policy=spec.turn,
                workspace=workspace,
                instructions=spec.instructions,
            )

        delegate = Delegate(name=spec.name, turns=turns, tracker=self.tracker, policy=spec.policy, form=spec.answer)
        return agent_tool(spec.name, spec.description, delegate)


def models_by_agent(tools: Iterable[object]) -> Iterator[tuple[str, ...]]:
    """Yield the models of each sub-agent in *tools*, and of each below them."""
    for given in tools:
        if isinstance(given, SubAgent):
            yield given.models
            yield from models_by_agent(given.tools)


def models_of(tools: Iterable[object]) -> tuple[str, ...]:
    """Return the models of all sub-agents in *tools*, and of those below them."""
    return tuple(model for models in models_by_agent(tools) for model in models)
