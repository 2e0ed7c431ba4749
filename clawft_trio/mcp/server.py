"""Our tools for other hosts: a registry served over MCP."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import msgspec
import trio
from msgspec import Raw

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall, unobserved
from clawft_trio.errors import McpError, PeerError, Unsupported
from clawft_trio.mcp.handshake import client_info
from clawft_trio.mcp.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MAX_MESSAGE,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Malformed,
    encode_error,
)
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.serving import Incoming
from clawft_trio.mcp.stateless import PROTOCOL_VERSION, SERVER_INFO, UNSUPPORTED_VERSION
from clawft_trio.mcp.streams import StreamTransport
from clawft_trio.mcp.types import (
    HANDSHAKE_VERSIONS,
    LATEST_HANDSHAKE,
    STATELESS_VERSION,
    Implementation,
    JsonObject,
    Wire,
)
from clawft_trio.observe.events import ToolProgress
from clawft_trio.tools.registry import ToolRegistry
from clawft_trio.tools.tool import ToolContext

Streams: TypeAlias = tuple[trio.abc.SendStream, trio.abc.ReceiveStream]


@attrs.frozen(kw_only=True)
class ServeOptions:
    """How a registry is served.

    Args:
      auth: on whose behalf tools run. Over stdio the host has started us: it is the local process.
      server: who we say that we are.
      instructions: what the host's model is told about the tools as a whole.
      workspace: the folder that tools work in.
      notify: gets the frozen records of `observe.events`.
      max_message: bytes of one message from the host.
    """

    auth: AuthContext = attrs.field(factory=lambda: AuthContext.local("mcp"))
    server: Implementation = attrs.field(factory=client_info)
    instructions: str = ""
    workspace: Path | None = None
    notify: Any = attrs.field(default=unobserved, repr=False)
    max_message: int = MAX_MESSAGE


async def serve_mcp(
    registry: ToolRegistry,
    streams: Streams | None = None,
    *,
    options: ServeOptions | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Offer *registry* to an MCP host, until it closes its end.

    Requests are answered side by side, and can be cancelled; progress of tools is passed on. Hosts of every revision
    are served: those that shake hands, and those of 2026-07-28 that do not.

    Args:
      registry: whose tools are offered, as far as `options.auth` may use them.
      streams: what the host reads and what it writes; None: this process's stdout and stdin. Whatever else is
        printed meanwhile goes to stderr.
      options: how.

    Raises:
      Unsupported: this platform cannot wait for stdin.

    Cancellation: running tools are cancelled and awaited; their requests stay unanswered.
    """
    served = _Served(registry, options or ServeOptions())
    async with _standard_streams() if streams is None else nullcontext(streams) as chosen:
        task_status.started()
        await served.run(chosen)


class _Arguments(Wire, frozen=True):
    name: str
    arguments: Raw = Raw(b"{}")
    meta: JsonObject = msgspec.field(name="_meta", default_factory=dict)


class _Hello(Wire, frozen=True):
    protocol_version: str = ""


class _Meta(Wire, frozen=True):
    meta: JsonObject = msgspec.field(name="_meta", default_factory=dict)


class _Served:
    def __init__(self, registry: ToolRegistry, options: ServeOptions) -> None:
        self._registry = registry
        self._options = options
        self._greeted = False
        self._mux = Multiplexer(name="host", serve=self._answer, patient=True, on_malformed=self._refuse)

    async def run(self, streams: Streams) -> McpError:
        return await self._mux.run(StreamTransport(*streams, name="host", limit=self._options.max_message))

    def _refuse(self, message: Malformed) -> None:
        # An answer that is broken is nothing to answer; a request, or what nobody can tell, is.
        if message.id is None or message.has_method:
            code = INVALID_REQUEST if message.has_method else PARSE_ERROR
            self._mux.send_answer_nowait(encode_error(message.id, code, message.reason[:200]))

    async def _answer(self, incoming: Incoming) -> Any:
        if incoming.method == "initialize":
            return await self._initialize(_decoded(incoming.params, _decode_hello))
        modern = self._check_version(incoming)
        if not modern and not self._greeted:
            raise PeerError("not initialized", code=INVALID_REQUEST)
        match incoming.method:
            case "server/discover":
                return await self._discover()
            case "tools/list":
                return await self._list(modern=modern)
            case "tools/call":
                return await self._call(incoming, _decoded(incoming.params, _decode_arguments), modern=modern)
        raise PeerError(f"unknown method: {incoming.method}", code=METHOD_NOT_FOUND)

    def _check_version(self, incoming: Incoming) -> bool:
        """Whether the request carries its revision itself; refuses one that we do not speak."""
        meta = _decoded(incoming.params, _decode_meta).meta if incoming.params else {}
        version = meta.get(PROTOCOL_VERSION)
        if version is None:
            return False
        if version != STATELESS_VERSION:
            supported = [STATELESS_VERSION, *reversed(HANDSHAKE_VERSIONS)]
            raise PeerError("unsupported revision", code=UNSUPPORTED_VERSION, data={"supported": supported})
        return True

    async def _initialize(self, hello: _Hello) -> JsonObject:
        await trio.lowlevel.checkpoint()
        self._greeted = True
        version = hello.protocol_version if hello.protocol_version in HANDSHAKE_VERSIONS else LATEST_HANDSHAKE
        answer = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": self._options.server}
        return {**answer, "instructions": self._options.instructions} if self._options.instructions else answer

    async def _discover(self) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {
            "resultType": "complete",
            "supportedVersions": [STATELESS_VERSION],
            "capabilities": {"tools": {}},
            "instructions": self._options.instructions,
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": {SERVER_INFO: self._options.server},
        }

    async def _list(self, *, modern: bool) -> JsonObject:
        await trio.lowlevel.checkpoint()
        tools = [
            {"name": spec.name, "description": spec.description, "inputSchema": spec.parameters}
            for spec in self._registry.specs(self._options.auth.permissions)
        ]
        return (
            {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
            if modern
            else {"tools": tools}
        )

    async def _call(self, incoming: Incoming, asked: _Arguments, *, modern: bool) -> JsonObject:
        context = ToolContext(
            auth=self._options.auth,
            workspace=self._options.workspace,
            notify=_Progress(self._mux, asked.meta.get("progressToken"), self._options.notify),
        )
        call = ToolCall(id=str(incoming.id), name=asked.name, arguments=bytes(asked.arguments).decode())
        [answer] = await self._registry.execute_all([call], context)
        if answer.outcome == "unknown" or (answer.outcome == "refused" and asked.name not in self._registry):
            raise PeerError(f"unknown tool: {asked.name[:100]}", code=INVALID_PARAMS)
        result = {"content": [{"type": "text", "text": answer.text}], "isError": answer.outcome != "ok"}
        return {**result, "resultType": "complete"} if modern else result


class _Progress:
    """Passes the progress of one call on to the host, and every event to the observer."""

    def __init__(self, mux: Multiplexer, token: object, notify: Any) -> None:
        self._mux = mux
        self._token = token
        self._notify = notify
        self._last: float | None = None

    def __call__(self, event: Any) -> None:
        self._notify(event)
        # Values have to rise: what does not is left out.
        if isinstance(event, ToolProgress) and isinstance(self._token, str | int):
            if self._last is not None and event.done <= self._last:
                return
            self._last = event.done
            params: dict[str, Any] = {"progressToken": self._token, "progress": event.done}
            if event.total is not None:
                params["total"] = event.total
            if event.message:
                params["message"] = event.message
            with suppress(trio.WouldBlock):
                self._mux.notify_nowait("notifications/progress", params)


_decode_arguments = msgspec.json.Decoder(_Arguments).decode
_decode_hello = msgspec.json.Decoder(_Hello).decode
_decode_meta = msgspec.json.Decoder(_Meta).decode


def _decoded(params: Raw, decode: Any) -> Any:
    try:
        return decode(params or Raw(b"{}"))
    except (ValueError, RecursionError) as exc:
        raise PeerError(str(exc)[:200], code=INVALID_PARAMS) from exc


# --- this process's own pipes -------------------------------------------------------------------------------------


@asynccontextmanager
async def _standard_streams() -> AsyncGenerator[Streams, None]:
    """Stdout and stdin for the protocol alone: meanwhile prints go to stderr, and nobody else reads our input."""
    if not hasattr(trio.lowlevel, "FdStream"):
        raise Unsupported("serving over stdio needs POSIX pipes")
    import fcntl  # noqa: PLC0415 - not on Windows, where everything still has to import

    kept_in, kept_out = os.dup(0), os.dup(1)
    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (kept_in, kept_out)]
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        yield trio.lowlevel.FdStream(os.dup(kept_out)), trio.lowlevel.FdStream(os.dup(kept_in))
    finally:
        for fd, kept, mode in ((0, kept_in, flags[0]), (1, kept_out, flags[1])):
            # Non-blocking belongs to the pipe, not to our descriptor: whoever shares it gets it back as it was.
            fcntl.fcntl(kept, fcntl.F_SETFL, mode)
            os.dup2(kept, fd)
            os.close(kept)
