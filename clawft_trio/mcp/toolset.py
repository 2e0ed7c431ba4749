"""The tools of many servers in one registry: started together, named by server, filtered, pinned, kept up to date."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from clawft_trio.auth import matches_any
from clawft_trio.chat import unobserved
from clawft_trio.errors import (
    CannotStart,
    ClawftError,
    InvalidData,
    NotConfigured,
    Unsupported,
)
from clawft_trio.mcp.client import McpClient
from clawft_trio.mcp.connect import Server, make_client
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.supervision import RestartHistory, Supervision
from clawft_trio.mcp.tool_call import call_for
from clawft_trio.mcp.tool_pinning import MemoryPins, Pins, fingerprint
from clawft_trio.mcp.types import (
    ToolDefinition,
)
from clawft_trio.nursery import leaves, open_hidden_nursery
from clawft_trio.observe import Event, Noted, fan_out
from clawft_trio.resilience.strategy import Strategy
from clawft_trio.tools.registry import ToolRegistry
from clawft_trio.tools.schema import check_of, schema_check
from clawft_trio.tools.tool import Tool, ToolMetadata
from clawft_trio.tracebacks import shorten_traceback

_LONGEST_NAME = 64
MAX_TOOLS = 2000
"""Largest number of tools of one server that are offered; the others are withheld."""

MAX_DESCRIPTION = 16_384
"""Characters of a tool's description that are kept."""

# Seconds between two reads of a list that keeps changing.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

# Errors that a retry does not cure.
_HOPELESS = (CannotStart, NotConfigured, Unsupported)

_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_-]")


def _patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(patterns)


@attrs.frozen
class ToolServer:
    """One server of a toolset, with its filters and its trust."""

    #: a command, a `StdioServer`, an `HttpServer` or a `StreamServer`
    server: Server
    #: patterns of the tools that are offered; `deny` overrides them
    allow: tuple[str, ...] = attrs.field(default=("*",), converter=_patterns, kw_only=True)
    #: patterns of tools that are not offered
    deny: tuple[str, ...] = attrs.field(default=(), converter=_patterns, kw_only=True)
    #: whether the server is started but its tools are not offered
    internal_only: bool = attrs.field(default=False, kw_only=True)
    #: whether to trust the server's hints that a tool is read-only; otherwise every tool counts as mutating
    trust_hints: bool = attrs.field(default=False, kw_only=True)
    #: seconds that one call may take; None is the client's default
    total: float | None = attrs.field(default=None, kw_only=True)
    #: strategy for the attempts of a call; None: one attempt, because only the server's owner knows whether repeating
    #: is safe
    strategy: Strategy | None = attrs.field(default=None, kw_only=True)
    #: options of its client; None: those of the toolset
    options: McpOptions | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(kw_only=True)
class Withheld:
    """A tool that is not offered."""

    server: str
    tool: str
    reason: str
    #: its current definition, when it has changed since its first use; `Toolset.approve` accepts it
    changed: ToolDefinition | None = None


class Toolset:
    """The running servers and their tools. `open_toolset` yields it."""

    def __init__(self, registry: ToolRegistry, pins: Pins, observer: Callable[[Event], None]) -> None:
        self.registry = registry
        #: clients of the servers that have started
        self.clients: dict[str, McpClient] = {}
        #: errors of the servers that have not started
        self.failures: dict[str, ClawftError] = {}
        self._pins = pins
        self._observer = fan_out([observer])
        self._servers: dict[str, ToolServer] = {}
        self._offered: dict[str, dict[str, Tool]] = {}
        self._withheld: dict[str, list[Withheld]] = {}
        self._refreshing: dict[str, trio.Lock] = {}
        self._seen: dict[str, int] = {}

    def __repr__(self) -> str:
        offered = sum(map(len, self._offered.values()))
        return f"<Toolset: {len(self.clients)} servers, {len(self.failures)} failed, {offered} tools>"

    @property
    def withheld(self) -> tuple[Withheld, ...]:
        """Tools that are not offered, with the reason; without those that `allow` and `deny` exclude."""
        return tuple(one for some in self._withheld.values() for one in some)

    async def approve(self, withheld: Withheld) -> None:
        """Accept the definition in *withheld*, and offer the tool if it still has this definition.

        Raises:
          McpError: the server's tools cannot be read now; the approval is stored.
          ValueError: there is no changed definition to approve.

        Cancellation: the tool is approved and will be offered, or neither.
        """
        if withheld.changed is None:
            raise ValueError(f"{withheld.tool!r} is not withheld for a change: {withheld.reason}")
        await self._pins.keep(withheld.server, {withheld.tool: fingerprint(withheld.changed)})
        await self._refresh(withheld.server)

    async def _refresh(self, name: str) -> None:
        """Read the server's tools, and offer those that are allowed."""
        server = self._servers[name]
        async with self._refreshing.setdefault(name, trio.Lock()):
            # Before the list is read, so that a change during the read is not missed.
            self._seen[name] = self.clients[name].tools_version
            if server.internal_only:
                return
            definitions = await self.clients[name].list_tools()
            pinned = await self._pins.load(name)
            withheld: list[Withheld] = []
            fresh: dict[str, str] = {}
            tools: dict[str, Tool] = {}
            chosen = _chosen(definitions, server)
            for definition in chosen[:MAX_TOOLS]:
                # Compiling a schema takes about a millisecond; other tasks run in between.
                await trio.lowlevel.checkpoint()
                judged = self._judge(name, definition, pinned, tools)
                if isinstance(judged, Withheld):
                    withheld.append(judged)
                    continue
                tools[judged.name] = judged
                if definition.name not in pinned:
                    fresh[definition.name] = fingerprint(definition)
            if left := chosen[MAX_TOOLS:]:
                # One record for all, because a server may list a hundred thousand tools.
                reason = f"more than {MAX_TOOLS} tools: {len(left)} are left out"
                withheld.append(Withheld(server=name, tool=left[0].name, reason=reason))
            await self._pins.keep(name, fresh)
            self._offer(name, tools, withheld)

    def _judge(
        self, name: str, definition: ToolDefinition, pinned: Mapping[str, str], others: Mapping[str, Tool]
    ) -> Tool | Withheld:
        """Return the tool for *definition*, or the reason to withhold it."""
        withhold = partial(Withheld, server=name, tool=definition.name)
        digest = fingerprint(definition)
        if pinned.get(definition.name, digest) != digest:
            return withhold(reason="its definition has changed since it was first used", changed=definition)
        try:
            tool = self._make(name, self._servers[name], definition)
        except (InvalidData, ValueError) as exc:
            return withhold(reason=str(exc))
        return withhold(reason=f"two tools would be called {tool.name}") if tool.name in others else tool

    def _offer(self, name: str, tools: dict[str, Tool], withheld: list[Withheld]) -> None:
        known = {(one.tool, one.reason) for one in self._withheld.get(name, ())}
        self._take_back(name)
        for tool in tools.values():
            if tool.name in self.registry:
                withheld.append(Withheld(server=name, tool=tool.name, reason="another tool has this name"))
            else:
                self.registry.add(tool)
                self._offered.setdefault(name, {})[tool.name] = tool
        for one in withheld:
            if (one.tool, one.reason) not in known:
                self._observer(
                    Noted(
                        component="mcp",
                        what="tool withheld",
                        details={"server": name, "tool": one.tool, "reason": one.reason},
                    )
                )
        self._withheld[name] = withheld

    def _take_back(self, name: str) -> None:
        for tool in self._offered.pop(name, {}):
            if tool in self.registry:
                self.registry.remove(tool)

    def _make(self, name: str, server: ToolServer, definition: ToolDefinition) -> Tool:
        hints = definition.annotations
        check = schema_check(definition.input_schema, trusted=False)
        looks_only = server.trust_hints and hints is not None and hints.read_only_hint is True
        return Tool(
            tool_name(name, definition.name),
            function=partial(
                call_for,
                self.clients[name],
                definition.name,
                total=server.total,
                strategy=server.strategy,
                check=check,
            ),
            description=_cut(definition.description or definition.title or ""),
            parameters=definition.input_schema,
            metadata=ToolMetadata(mode="read_only" if looks_only else "mutating", idempotent=looks_only),
            check=check_of(check),
        )

    async def _bring_up(self, nursery: trio.Nursery, background: trio.Nursery, name: str, options: McpOptions) -> None:
        """Start one server and follow its tools; if it does not start, retry in the background."""
        options = self._servers[name].options or options
        options = attrs.evolve(options, observer=fan_out([options.observer, self._observer]))
        if await self._start(nursery, name, options):
            background.start_soon(self._keep_fresh, name)
            return
        self._observer(
            Noted(
                component="mcp",
                what="server did not start",
                details={"server": name, "error": str(self.failures[name])},
            )
        )
        if options.supervision is not None and not isinstance(self.failures[name], _HOPELESS):
            background.start_soon(self._try_again, nursery, name, options)

    async def _start(self, nursery: trio.Nursery, name: str, options: McpOptions) -> bool:
        client = make_client(self._servers[name].server, name, options)
        try:
            # Shielded: it is closed after the body of the toolset, within the server's grace times.
            await nursery.start(partial(client.run_until_closed, shielded=True))
            self.clients[name] = client
            await self._refresh(name)
        except (ClawftError, ExceptionGroup) as exc:
            # A server that cannot be started at all fails in two tasks at once; its own error comes first.
            known = [leaf for leaf in leaves(exc) if isinstance(leaf, ClawftError)]
            if len(known) < len(leaves(exc)):
                raise
            # Kept for a long time, and a program that logs it with local variables would log keys.
            self.failures[name] = shorten_traceback(known[0])
            await self._give_up(name)
            return False
        self.failures.pop(name, None)
        return True

    async def _try_again(self, nursery: trio.Nursery, name: str, options: McpOptions) -> None:
        history = RestartHistory(options.supervision or Supervision(), options.uniform)
        while True:
            await trio.sleep(history.note_end(trio.current_time(), lived=0.0).wait)
            if await self._start(nursery, name, options):
                await self._keep_fresh(name)

    async def _give_up(self, name: str) -> None:
        client = self.clients.pop(name, None)
        if client is not None:
            await client.aclose()

    async def _keep_fresh(self, name: str) -> None:
        client = self.clients[name]
        pause = _FIRST_PAUSE
        while True:
            began = trio.current_time()
            await client.wait_tools_changed(self._seen[name])
            # A single change is followed at once; a list that keeps changing is read less and less often.
            quiet = trio.current_time() - began
            pause = _FIRST_PAUSE if quiet >= _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
            try:
                await self._refresh(name)
            except ClawftError as exc:
                self._observer(
                    Noted(component="mcp", what="tools not refreshed", details={"server": name, "error": str(exc)})
                )
            await trio.sleep(pause)

    async def _close(self) -> None:
        for name in list(self._offered):
            self._take_back(name)
        async with trio.open_nursery() as nursery:
            for client in self.clients.values():
                nursery.start_soon(client.aclose)


@asynccontextmanager
async def open_toolset(
    servers: Mapping[str, ToolServer | Server],
    registry: ToolRegistry,
    *,
    options: McpOptions | None = None,
    pins: Pins | None = None,
    observer: Callable[[Event], None] = unobserved,
) -> AsyncGenerator[Toolset, None]:
    """Start *servers* concurrently and offer their tools in *registry* as `server__tool` for the duration of the block.

    A server that does not start is listed in `Toolset.failures` and does not stop the others; it is retried according
    to its supervision, unless its program does not exist. Changes of a server's list are followed. A definition that
    differs from the first one is withheld until `Toolset.approve`.

    Args:
      servers: servers by name: each a `Server`, or a `ToolServer` with further settings.
      registry: the tools are added to it, and removed at the end.
      options: options of the clients whose `ToolServer` has none.
      pins: storage of the fingerprints of definitions; None: they are kept during the block.
      observer: gets a `Noted` for each tool that is withheld and each server that does not start, and all events of the
        clients (`McpOptions.observer`).

    Raises:
      ValueError: a server's name cannot be part of a tool's name.

    Cancellation: all servers are stopped concurrently, within their grace times.
    """
    toolset = Toolset(registry, MemoryPins() if pins is None else pins, observer)
    toolset._servers = {
        _checked_name(name): server if isinstance(server, ToolServer) else ToolServer(server)
        for name, server in servers.items()
    }
    async with open_hidden_nursery() as nursery:
        try:
            async with open_hidden_nursery() as background:
                async with open_hidden_nursery() as starting:
                    for name in toolset._servers:
                        starting.start_soon(toolset._bring_up, nursery, background, name, options or McpOptions())
                yield toolset
                background.cancel_scope.cancel(reason="the toolset was closed")
        finally:
            with trio.CancelScope(shield=True):
                await toolset._close()


def tool_name(server: str, tool: str) -> str:
    """Return `server__tool` in a form that every provider accepts: an invalid or too long name is marked by a hash."""
    whole = _FORBIDDEN.sub("_", f"{server}__{tool}")
    if whole == f"{server}__{tool}" and len(whole) <= _LONGEST_NAME:
        return whole
    mark = hashlib.sha256(f"{server}__{tool}".encode(errors="replace")).hexdigest()[:8]
    return f"{whole[: _LONGEST_NAME - 9]}_{mark}"


def _cut(description: str) -> str:
    return description if len(description) <= MAX_DESCRIPTION else f"{description[:MAX_DESCRIPTION]}…"


def _checked_name(name: str) -> str:
    if not name or _FORBIDDEN.search(name) or "__" in name:
        raise ValueError(f"a server is named by letters, digits, '-' and single '_', not {name!r}")
    return name


def _chosen(definitions: Iterable[ToolDefinition], server: ToolServer) -> list[ToolDefinition]:
    return [
        one for one in definitions if matches_any(one.name, server.allow) and not matches_any(one.name, server.deny)
    ]
