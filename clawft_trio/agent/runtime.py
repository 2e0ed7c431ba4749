"""Everything an agent is made of, opened and closed together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import attrs
import trio

from clawft_trio.agent.providers import open_providers
from clawft_trio.agent.sessions import MemorySessions
from clawft_trio.agent.turn import AgentEvent, History, Question, Reply, TurnPolicy, Turns
from clawft_trio.auth import LOCAL_CHANNEL, AuthContext
from clawft_trio.chat import Call, Message, Provider
from clawft_trio.context import ContextBuilder, Memory, Skills, memory_tools, skill_tool
from clawft_trio.files import FileCache
from clawft_trio.llm import provider_named
from clawft_trio.llm.stream import Iteration, consuming
from clawft_trio.observe import Event, Observer, fan_out
from clawft_trio.pipeline import Pipeline, StaticRouter, Target, Targets, open_targets
from clawft_trio.resilience import CircuitBreaker, Failover, Policy, Resilient, Retry, RetryBudget, Timeout, compose
from clawft_trio.tools import Approve, Tool, ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy, register_builtins

AgentCallback: TypeAlias = Callable[[AgentEvent], bool | Awaitable[bool | None] | None]
"""Sees everything of a turn as it happens; False ends it early."""


class Answer(Iteration[AgentEvent, Reply]):
    """A turn to iterate over. Made by `Agent.stream`."""

    @property
    def reply(self) -> Reply:
        """The whole reply, once the loop has ended.

        Raises:
          StreamEnded: it is not there yet, or there will be none.
        """
        return self.result


@attrs.frozen(kw_only=True)
class AgentParts:
    """What an agent is made of, each replaceable by one's own."""

    turns: Turns
    tools: ToolRegistry
    history: History
    targets: Targets
    notify: Callable[[Event], None]


class Agent:
    """A running agent. Made by `open_agent`."""

    def __init__(self, parts: AgentParts) -> None:
        self.parts = parts
        self._lines: dict[str, _Line] = {}

    def __repr__(self) -> str:
        return f"<Agent: {len(self.parts.tools)} tools, {len(self._lines)} sessions at work>"

    @property
    def tools(self) -> ToolRegistry:
        """The tools that it has."""
        return self.parts.tools

    async def ask(
        self,
        content: str | Message,
        *,
        sender_id: str = "local",
        session: str | None = None,
        model: str = "",
        on_event: AgentCallback | None = None,
    ) -> Reply:
        """Ask as the local process, and wait for the whole reply.

        Args:
          content: what is said.
          sender_id: who asks; the session is `local:{sender_id}` unless *session* says otherwise.
          model: `provider/model`, instead of what the router would choose.
          on_event: sees everything as it happens. False ends the turn early; what it raises comes out as it is.

        Raises:
          ClawftError: there is no answer; the typed reason, with every attempt.

        Cancellation: models and tools are cancelled and waited for; what was done is in the session.
        """
        question = self._question(content, sender_id, session, model)
        if on_event is None:
            return await self._turn(question, None)
        return await consuming(partial(self._turn, question), on_event)

    @asynccontextmanager
    async def stream(
        self,
        content: str | Message,
        *,
        sender_id: str = "local",
        session: str | None = None,
        model: str = "",
    ) -> AsyncGenerator[Answer, None]:
        """Ask as the local process, and iterate over what happens: `async for event in answer`.

        Leaving the block early cancels the turn.

        Raises:
          ClawftError: out of the loop, when there is no answer.

        Cancellation: as `ask`.
        """
        question = self._question(content, sender_id, session, model)
        async with Answer.open(partial(self._turn, question)) as answer:
            yield answer

    def _question(self, content: str | Message, sender_id: str, session: str | None, model: str) -> Question:
        return Question(
            content=Message.user(content) if isinstance(content, str) else content,
            auth=AuthContext.local(sender_id),
            session=session or f"{LOCAL_CHANNEL}:{sender_id}",
            model=model,
        )

    async def _turn(self, question: Question, show: Callable[[AgentEvent], Awaitable[None]] | None) -> Reply:
        call = Call(id=question.turn_id, turn_id=question.turn_id, notify=self.parts.notify)
        if show is not None:
            call = call.showing(show)
        bound = Timeout(total=self.parts.turns.policy.total)
        async with self._in_line(question.session):
            return await bound.run(partial(self.parts.turns.answer, question), call)

    @asynccontextmanager
    async def _in_line(self, session: str) -> AsyncGenerator[None, None]:
        """One turn of a session at a time, in order of arrival; nothing is kept of a session at rest."""
        line = self._lines.setdefault(session, _Line())
        line.length += 1
        try:
            async with line.lock:
                yield
        finally:
            line.length -= 1
            if line.length == 0:
                del self._lines[session]


class _Line:
    """Those who wait for their turn in one session."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.length = 0


def default_policy(budget: RetryBudget) -> Policy:
    """What every target of an agent has around it, unless told otherwise: the layers of `resilient_chain`."""
    return compose(
        Retry(max_retries=2, budget=budget),
        CircuitBreaker(),
        Timeout(first_content=60.0, gap=25.0, tool_gap=180.0),
    )


@asynccontextmanager
async def open_agent(
    models: Sequence[str] = (),
    *,
    tools: Iterable[Tool] = (),
    workspace: str | Path | None = None,
    providers: Mapping[str, Provider] | None = None,
    make_provider: Callable[[str], Provider] = provider_named,
    policy: Policy | None = None,
    hedge_after: float | None = 10.0,
    turn: TurnPolicy | None = None,
    builtins: BuiltinPolicy | None = None,
    approve: Approve | None = None,
    history: History | None = None,
    observers: Iterable[Observer] = (),
) -> AsyncGenerator[Agent, None]:
    """Open everything an agent needs, for the length of the block.

    Args:
      models: `provider/model`, in order of preference. The first that answers, answers.
      tools: what the model may call.
      workspace: a folder. Its SOUL.md, AGENTS.md and the like tell the model who it is; its file tools cannot leave
        it. None: neither.
      providers: providers by the name before the slash, used as they are; others are made by *make_provider*.
      make_provider: makes a provider by its name; by default from the catalog, with keys from the environment.
      policy: the strategies around each target; None is `default_policy`.
      hedge_after: seconds of silence after which the next model is asked beside.
      turn: what bounds a turn.
      builtins: which built-in tools the workspace gets.
      approve: asked before every call that may change something.
      history: where conversations are kept; None keeps them in memory.
      observers: told everything; see `clawft_trio.observe`.

    Raises:
      NotConfigured: a model names an unknown provider, or its key is missing.

    Cancellation: everything is cancelled, waited for and closed, each within its grace.
    """
    notify = fan_out(observers)
    budget = RetryBudget()
    around = policy or default_policy(budget)
    registry = ToolRegistry(tools, approve=approve)
    kept = history or MemorySessions()
    context = None if workspace is None else _context(Path(workspace), registry, builtins)
    async with (
        open_providers(providers, make_provider) as known,
        open_targets(known.at, wrap=lambda provider, _: Resilient(provider, around)) as targets,
    ):
        for model in models:
            # A missing key is told now, and not when the first choice fails at three in the morning.
            targets.reach(Target.parse(model))
        turns = Turns(
            models=Pipeline(
                router=StaticRouter(models),
                transport=targets,
                chain=partial(Failover, hedge_after=hedge_after, budget=budget),
            ),
            tools=registry,
            history=kept,
            context=context,
            policy=turn or TurnPolicy(),
            workspace=None if workspace is None else Path(workspace),
        )
        yield Agent(AgentParts(turns=turns, tools=registry, history=kept, targets=targets, notify=notify))


def _context(workspace: Path, registry: ToolRegistry, builtins: BuiltinPolicy | None) -> ContextBuilder:
    """The workspace's word on who the agent is, and the tools that come with it."""
    cache = FileCache()
    skills = Skills(cache, workspace=workspace / ".clawft" / "skills")
    memory = Memory(workspace, cache, locks=registry.locks)
    register_builtins(registry, workspace, builtins)
    registry.add(skill_tool(skills))
    for tool in memory_tools(memory):
        registry.add(tool)
    return ContextBuilder(workspace, cache=cache, skills=skills, memory=memory)
