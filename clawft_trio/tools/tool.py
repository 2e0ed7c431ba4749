"""A tool: a function that a model may call, with its description and its properties."""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import attrs
import trio

from clawft_trio.attempts import Usage
from clawft_trio.auth import AuthContext, UserPermissions, matches_any
from clawft_trio.chat import JsonObject, ToolSpec, unobserved
from clawft_trio.checks import check_keywords, one_of
from clawft_trio.keys import joined_key
from clawft_trio.observe.events import ToolProgress
from clawft_trio.tools.client import NO_CLIENT, ToolClient
from clawft_trio.tools.schema import Check, check_schema, output_schema_of, parameters_of
from clawft_trio.tools.signature import is_async_generator, returns_coroutine
from clawft_trio.tools.thread_pool import ThreadPool
from clawft_trio.tools.truncate import MOST_ITEMS, collected

Mode = Literal["read_only", "mutating", "exclusive"]
"""Effect of a call: it reads, it changes something, or it must run while no other call of its registry does."""

# The narrowest rule of all providers, which is OpenAI's.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen(kw_only=True)
class ToolMetadata:
    """Properties of a tool besides its description for the model."""

    #: seconds that one call may run, without waits for locks and approval; None leaves it to the registry
    total: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    #: `read_only` tools run without approval; others need it, if the registry has an approval function
    mode: Mode = attrs.field(default="mutating", validator=one_of("read_only", "mutating", "exclusive"))
    #: whether a second call has no further effect
    idempotent: bool = attrs.field()
    #: 0 zero trust, 1 user, 2 admin
    required_level: int = 0
    #: values that the sender's custom permissions must have
    custom_permissions: Mapping[str, Any] = attrs.field(factory=dict)
    #: arguments that name a path, or a list of paths, that is read
    reads: tuple[str, ...] = attrs.field(default=(), converter=_names)
    #: arguments that name a path, or a list of paths, that is changed, created or removed
    writes: tuple[str, ...] = attrs.field(default=(), converter=_names)
    #: folder that relative paths start from; None: the context's workspace
    root: Path | None = None
    #: whether to repair frequent mistakes in arguments (`tools.arguments`); off: arguments that do not fit are refused
    lenient: bool = True
    #: other names for it in permissions
    aliases: tuple[str, ...] = attrs.field(default=(), converter=_names)

    @idempotent.default
    def _by_mode(self) -> bool:
        return self.mode == "read_only"


@attrs.frozen(kw_only=True)
class NestedTurn:
    """A turn of a sub-agent that a tool call started, with usage and cost."""

    agent: str
    turn_id: str
    #: None when no provider reported it
    usage: Usage | None
    #: US dollars; None when a part of it has no price
    cost: Decimal | None


@attrs.frozen(kw_only=True)
class ToolContext:
    """The sender, session and workspace that a tool runs for.

    A parameter of a tool function that is annotated with this class receives it, and is hidden from the model.
    """

    #: the sender and its permissions
    auth: AuthContext = attrs.field(factory=AuthContext)
    #: the conversation
    session: str = ""
    #: folder that relative paths start from; None: there is none
    workspace: Path | None = None
    #: the id of the turn, in events, journal and ledger
    turn_id: str = ""
    #: number of the round that requested the call, from 1
    round: int = 0
    #: the id of the call
    call_id: str = ""
    #: name of the tool that runs
    tool: str = ""
    #: `trio.current_time()` at which the call must end, at the latest with all calls of the round
    deadline: float = math.inf
    #: receives the frozen records of `observe.events`
    observer: Callable[[Any], None] = attrs.field(default=unobserved, repr=False)
    #: a logger for the tool
    log: logging.Logger = attrs.field(factory=lambda: logging.getLogger("clawft_trio.tools"), repr=False)
    #: threads for synchronous tools; None: trio's own pool
    threads: ThreadPool | None = attrs.field(default=None, repr=False)
    #: the MCP client that made the call; outside MCP it refuses every request
    client: ToolClient = attrs.field(default=NO_CLIENT, repr=False)
    #: list to which turns of sub-agents that calls of this turn start are added
    nested: list[NestedTurn] = attrs.field(factory=list, repr=False)

    @property
    def idempotency_key(self) -> str:
        """Key that is the same for every execution of this call, in any process, and different for other calls.

        Effects on other systems cannot be fenced: a worker that is stopped for longer than its lease may act after
        another worker has taken over the turn. A service that receives this key can recognise the second request.
        """
        return joined_key(self.turn_id, str(self.round), self.call_id)

    def of_call(self, call_id: str, tool: str, *, deadline: float, threads: ThreadPool) -> ToolContext:
        """Make the context of one call of this turn."""
        # `attrs.evolve` takes five times as long.
        return ToolContext(
            auth=self.auth,
            session=self.session,
            workspace=self.workspace,
            turn_id=self.turn_id,
            round=self.round,
            call_id=call_id,
            tool=tool,
            deadline=deadline,
            observer=self.observer,
            log=self.log,
            threads=threads,
            client=self.client,
            nested=self.nested,
        )

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the progress of the call to observers. From a thread, go through `trio.from_thread.run_sync`."""
        self.observer(
            ToolProgress(
                tool=self.tool,
                tool_call_id=self.call_id,
                turn_id=self.turn_id,
                done=done,
                total=total,
                message=message,
            )
        )


ToolFunction: TypeAlias = Callable[[Mapping[str, Any], ToolContext], Awaitable[object]]
"""The code of a tool: takes valid arguments and the context, returns the result for the model."""


def fits_every_provider(_: object, __: object, value: str) -> None:
    """Check that *value* can be the name of a tool.

    Raises:
      ValueError: a provider would refuse the name.
    """
    if not _NAME.fullmatch(value):
        raise ValueError(f"a tool is named by 1 to 64 letters, digits, '_' and '-', not {value!r}")


@attrs.frozen
class Tool:
    """A function that a model may call.

    `@tool` makes one from a Python function. Made directly, it takes a JSON Schema and an async function; arguments are
    then checked against the schema.
    """

    name: str = attrs.field(validator=fits_every_provider)
    function: ToolFunction = attrs.field(repr=False, kw_only=True)
    description: str = attrs.field(default="", kw_only=True)
    #: JSON Schema of the arguments
    parameters: JsonObject = attrs.field(
        factory=lambda: {"type": "object", "properties": {}}, kw_only=True, repr=False, hash=False
    )
    metadata: ToolMetadata = attrs.field(factory=ToolMetadata, kw_only=True, hash=False)
    #: JSON Schema of its return value, an object; None when the result is only text
    output_schema: JsonObject | None = attrs.field(default=None, kw_only=True, repr=False, hash=False)
    #: converts a decoded JSON object to valid arguments
    check: Check = attrs.field(kw_only=True, repr=False)
    #: the Python function that it was made from
    wrapped: Callable[..., Any] | None = attrs.field(default=None, kw_only=True, repr=False)
    #: the tool as sent to a model; one object, which caches its number of tokens
    spec: ToolSpec = attrs.field(init=False, repr=False, eq=False)

    @check.default
    def _by_schema(self) -> Check:
        return check_schema(self.parameters)

    @spec.default
    def _for_models(self) -> ToolSpec:
        return ToolSpec(name=self.name, description=self.description, parameters=self.parameters)

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> object:
        """Check *arguments* and call the function. The registry adds locks, limits and permissions.

        Raises:
          InvalidArguments: the arguments do not fit; the function was not called.

        Cancellation: as for the function; a function that runs in a thread is awaited.
        """
        return await self.function(self.check(arguments), context)

    def allowed(self, permissions: UserPermissions) -> bool:
        """Whether *permissions* allow calls of the tool. A deny list may use any of its names."""
        names = (self.name, *self.metadata.aliases)
        return (
            named(names, permissions)
            and permissions.level >= self.metadata.required_level
            and all(permissions.custom_permissions.get(k) == v for k, v in self.metadata.custom_permissions.items())
        )


def named(names: Sequence[str], permissions: UserPermissions) -> bool:
    """Whether *permissions* allow a tool known by *names*: one of them allowed and none denied."""
    return any(map(permissions.may_use_tool, names)) and not any(
        matches_any(name, permissions.tool_denylist) for name in names
    )


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    function: Callable[..., Any],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    total: float | None = None,
    mode: Mode = "mutating",
    idempotent: bool | None = None,
    required_level: int = 0,
    custom_permissions: Mapping[str, Any] | None = None,
    reads: str | Sequence[str] = (),
    writes: str | Sequence[str] = (),
    root: Path | None = None,
    aliases: str | Sequence[str] = (),
    lenient: bool = True,
    abandon_thread: bool = False,
) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    total: float | None = None,
    mode: Mode = "mutating",
    idempotent: bool | None = None,
    required_level: int = 0,
    custom_permissions: Mapping[str, Any] | None = None,
    reads: str | Sequence[str] = (),
    writes: str | Sequence[str] = (),
    root: Path | None = None,
    aliases: str | Sequence[str] = (),
    lenient: bool = True,
    abandon_thread: bool = False,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    abandon_thread: bool = False,
    **metadata: Any,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a sync or async function: `@tool`, `@tool(total=10.0, reads="path")`, or `tool(any_callable)`.

    The type hints give the schema (with pydantic models or `Field`, pydantic checks the arguments), the docstring gives
    the description, and its section on arguments (Google, NumPy or Sphinx style) describes them. Bound methods,
    `functools.partial`, callable objects and wrapped functions are accepted, too. A sync function runs in a thread and
    is awaited, also on cancellation; if it returns an awaitable, that is awaited on the event loop. The items of a
    generator are returned as a list.

    Args:
      name: the function's name by default.
      description: the docstring by default.
      abandon_thread: do not wait for the thread on cancellation; it is counted until it ends.
      metadata: the fields of `ToolMetadata`.

    Raises:
      TypeError: the function cannot be called by name with JSON arguments, or a keyword is unknown.
    """
    check_keywords("tool", ("name", "description", "abandon_thread"), ToolMetadata, metadata)

    def make(wrapped: Callable[..., Any]) -> Tool:
        if isinstance(wrapped, Tool):
            raise TypeError(f"{wrapped.name} is a tool already; `attrs.evolve` changes one")
        known = {key: value for key, value in metadata.items() if value is not None}
        return _tool_of(wrapped, name, description, ToolMetadata(**known), abandon=abandon_thread)

    return make if function is None else make(function)


def _tool_of(
    wrapped: Callable[..., Any], name: str | None, description: str | None, metadata: ToolMetadata, *, abandon: bool
) -> Tool:
    takes = parameters_of(wrapped, context_type=ToolContext, name=name)
    missing = [one for one in (*metadata.reads, *metadata.writes) if one not in takes.schema["properties"]]
    if missing:
        raise TypeError(f"{takes.name} has no parameter {missing[0]!r} to read or write")
    return Tool(
        takes.name,
        function=_caller(wrapped, takes.context, abandon=abandon),
        description=takes.description if description is None else description,
        parameters=takes.schema,
        metadata=metadata,
        output_schema=output_schema_of(wrapped),
        check=takes.check,
        wrapped=wrapped,
    )


def _caller(wrapped: Callable[..., Any], context_name: str | None, *, abandon: bool) -> ToolFunction:
    def named_arguments(arguments: Mapping[str, Any], context: ToolContext) -> dict[str, Any]:
        return dict(arguments) if context_name is None else {**arguments, context_name: context}

    def call(**given: Any) -> tuple[Any]:
        # A generator runs in the thread of its function. trio refuses a bare awaitable from a thread, hence the tuple.
        result = wrapped(**given)
        return (collected(result) if isinstance(result, Iterator) else result,)

    async def call_async(arguments: Mapping[str, Any], context: ToolContext) -> object:
        return await wrapped(**named_arguments(arguments, context))

    async def collect_async(arguments: Mapping[str, Any], context: ToolContext) -> object:
        items: list[object] = []
        async with aclosing(wrapped(**named_arguments(arguments, context))) as generator:
            async for item in generator:
                items.append(item)
                if len(items) >= MOST_ITEMS:
                    break
        return items

    async def call_in_thread(arguments: Mapping[str, Any], context: ToolContext) -> object:
        given = named_arguments(arguments, context)
        if context.threads is None:
            (result,) = await trio.to_thread.run_sync(partial(call, **given), abandon_on_cancel=abandon)
        else:
            (result,) = await context.threads.run(
                call, given, abandon=abandon, sender=context.auth.identity, turn=context.turn_id
            )
        return await result if inspect.isawaitable(result) else result

    if is_async_generator(wrapped):
        return collect_async
    return call_async if returns_coroutine(wrapped) else call_in_thread
