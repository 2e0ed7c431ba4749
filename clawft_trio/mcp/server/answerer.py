"""The answer to each request of a client, in either kind of revision. Knows nothing of pipes and HTTP."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import attrs
import msgspec
import trio
from msgspec import Raw

from clawft_trio.chat import ToolCall, new_id
from clawft_trio.errors import ClientLacksCapability, PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Id
from clawft_trio.mcp.server.caller import (
    LEVELS,
    Channel,
    ConnectedClient,
    InputRequired,
    Peer,
    ProgressReporter,
    Rounds,
)
from clawft_trio.mcp.server.content import prompt_messages, resource_contents, tool_result
from clawft_trio.mcp.server.input_state import StateSigner, request_digest
from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.pages import page_of
from clawft_trio.mcp.server.resources import Complete, ServedResource, unknown_resource
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.mcp.server.tasks import TaskTable
from clawft_trio.mcp.server.wire import (
    CallParams,
    CompleteParams,
    InitializeParams,
    InputParams,
    LevelParams,
    ListParams,
    PromptParams,
    TaskParams,
    TraceParams,
    UriParams,
    decode_params,
)
from clawft_trio.mcp.stateless import SERVER_INFO
from clawft_trio.mcp.types import HANDSHAKE_VERSIONS, LATEST_HANDSHAKE, STATELESS_VERSION, JsonObject
from clawft_trio.nursery import leaves
from clawft_trio.observe.trace_context import continuing
from clawft_trio.tools.tool import Tool, ToolContext

T = TypeVar("T")

MISSING_CAPABILITY = -32021
"""The client would have to declare a capability; `data.requiredCapabilities` holds it."""

RESOURCE_NOT_FOUND = -32002
"""Up to 2025-11-25; later revisions use `INVALID_PARAMS`."""

MAX_COMPLETIONS = 100
"""Values of one completion; the specification's own limit."""


@attrs.frozen(kw_only=True)
class ServerRequest:
    """One request, who sent it and what carries its messages."""

    id: Id
    method: str
    params: Raw
    peer: Peer
    channel: Channel


class Answerer:
    """Answers requests about what *server* offers."""

    def __init__(self, server: McpServer, options: ServeOptions) -> None:
        self.server: McpServer = server
        self.options: ServeOptions = options
        common: dict[str, Callable[[ServerRequest], Awaitable[Any]]] = {
            "tools/list": self._list_tools,
            "tools/call": self._call_tool,
            "resources/list": self._list_resources,
            "resources/templates/list": self._list_templates,
            "resources/read": self._read_resource,
            "prompts/list": self._list_prompts,
            "prompts/get": self._get_prompt,
            "completion/complete": self._complete,
        }
        self._stateless = {**common, "server/discover": self._discover}
        self._handshake = {
            **common,
            "ping": self._ping,
            "logging/setLevel": self._set_level,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "tasks/get": self._get_task,
            "tasks/list": self._list_tasks,
            "tasks/result": self._task_result,
            "tasks/cancel": self._cancel_task,
        }

    async def answer(self, request: ServerRequest) -> JsonObject:
        """The result of *request*.

        Raises:
          PeerError: it is answered with an error.

        Cancellation: what runs for it is cancelled and awaited.
        """
        peer = request.peer
        methods = self._stateless if peer.stateless else self._handshake
        method = methods.get(request.method)
        if method is None or not self._offers(request.method, peer):
            raise PeerError(f"unknown method: {request.method[:100]}", code=METHOD_NOT_FOUND)
        if not (peer.stateless or peer.initialized or request.method == "ping"):
            raise PeerError("not initialized", code=INVALID_REQUEST)
        try:
            bytes(request.params).decode()
        except UnicodeDecodeError as exc:
            raise PeerError("the message is not UTF-8", code=PARSE_ERROR) from exc
        with continuing(_trace_of(request.params)):
            result: dict[str, Any] = await method(request)
        if peer.stateless:
            result.setdefault("resultType", "complete")
            result["_meta"] = {**result.get("_meta", {}), SERVER_INFO: self.options.server}
        return result

    def initialize(self, peer: Peer, params: Raw) -> JsonObject:
        """Note what the client declares, and answer its `initialize`. Sync, so that what is read next finds it done.

        Raises:
          PeerError: the parameters are none.
        """
        hello = decode_params(params, InitializeParams)
        peer.version = hello.protocol_version if hello.protocol_version in HANDSHAKE_VERSIONS else LATEST_HANDSHAKE
        peer.capabilities = hello.capabilities
        peer.initialized = True
        result = {
            "protocolVersion": peer.version,
            "capabilities": self._capabilities(peer),
            "serverInfo": self.options.server,
        }
        return {**result, "instructions": self.options.instructions} if self.options.instructions else result

    def _offers(self, method: str, peer: Peer) -> bool:
        if method.startswith("tasks/"):
            return self._tasks(peer) is not None
        if method.startswith("resources/"):
            return bool(self.server.resources)
        if method.startswith("prompts/"):
            return bool(self.server.prompts)
        return method != "completion/complete" or self._completes

    @property
    def _completes(self) -> bool:
        return bool(self.server.prompts) or any(resource.is_template for resource in self.server.resources)

    def _tasks(self, peer: Peer) -> TaskTable | None:
        """The tasks of *peer*; None where its revision has none, or they are not offered."""
        return peer.tasks if peer.version == LATEST_HANDSHAKE else None

    def _capabilities(self, peer: Peer) -> JsonObject:
        offered: dict[str, JsonObject] = {"tools": {"listChanged": True}, "logging": {}}
        if self.server.resources:
            offered["resources"] = {"subscribe": True, "listChanged": True}
        if self.server.prompts:
            offered["prompts"] = {"listChanged": True}
        if self._completes:
            offered["completions"] = {}
        if self._tasks(peer) is not None:
            offered["tasks"] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
        return offered

    # --- the connection itself -------------------------------------------------------------------------------------

    async def _ping(self, _: ServerRequest) -> dict[str, Any]:
        return {}

    async def _discover(self, request: ServerRequest) -> dict[str, Any]:
        found = {
            "supportedVersions": [STATELESS_VERSION],
            "capabilities": self._capabilities(request.peer),
            **self._caching(),
        }
        return {**found, "instructions": self.options.instructions} if self.options.instructions else found

    async def _set_level(self, request: ServerRequest) -> dict[str, Any]:
        level = decode_params(request.params, LevelParams).level
        if level not in LEVELS:
            raise PeerError(f"unknown level; known: {', '.join(LEVELS)}", code=INVALID_PARAMS)
        request.peer.log_level = level
        return {}

    # --- tools ----------------------------------------------------------------------------------------------------

    def allowed_tools(self, peer: Peer) -> list[Tool]:
        """The tools that *peer* may use, sorted by name."""
        return [tool for tool in self.server.tools if tool.allowed(peer.auth.permissions)]

    async def _list_tools(self, request: ServerRequest) -> dict[str, Any]:
        tasks = self._tasks(request.peer)
        entries = []
        for tool in self.allowed_tools(request.peer):
            entry = _tool_entry(tool)
            if tasks is not None:
                entry["execution"] = {"taskSupport": tasks.options.support(tool.name)}
            entries.append((tool.name, entry))
        return self._page("tools", entries, request)

    async def _call_tool(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, CallParams)
        tasks = self._tasks(request.peer)
        if tasks is not None:
            support = tasks.options.support(asked.name)
            if asked.task is not None:
                return self._create_task(tasks, request, asked, support)
            if support == "required":
                raise PeerError("this tool is called as a task only", code=METHOD_NOT_FOUND)
        return await self._run_tool(request, asked)

    def _create_task(self, tasks: TaskTable, request: ServerRequest, asked: CallParams, support: str) -> dict[str, Any]:
        if asked.name not in {tool.name for tool in self.allowed_tools(request.peer)}:
            raise _unknown_tool(asked.name)
        if support == "forbidden":
            raise PeerError("this tool is not called as a task", code=METHOD_NOT_FOUND)
        # The parameters are part of a buffer that goes when the request has been answered.
        asked = msgspec.structs.replace(asked, arguments=asked.arguments.copy())
        request = attrs.evolve(request, params=request.params.copy())

        async def run(channel: Channel) -> JsonObject:
            return await self._run_tool(attrs.evolve(request, channel=channel), asked)

        return {"task": tasks.create(run, (asked.task or {}).get("ttl")).record}

    async def _run_tool(self, request: ServerRequest, asked: CallParams) -> dict[str, Any]:
        registry = self.server.tools
        context = self._context(request, asked.name, asked, bytes(asked.arguments))
        # Clients count their requests alike, and events of two clients must not mix.
        call = ToolCall(id=new_id(), name=asked.name, arguments=bytes(asked.arguments).decode())
        try:
            [answer] = await registry.execute_all([call], context)
        except InputRequired as required:
            return dict(required.result)
        if answer.outcome == "unknown" or (answer.outcome == "refused" and asked.name not in registry):
            raise _unknown_tool(asked.name)
        if isinstance(answer.error, ClientLacksCapability) and request.peer.stateless:
            raise _lacks(answer.error)
        return tool_result(registry.get(asked.name), answer)

    async def _get_task(self, request: ServerRequest) -> dict[str, Any]:
        return dict(self._own_tasks(request).get(_task_id(request)).record)

    async def _list_tasks(self, request: ServerRequest) -> dict[str, Any]:
        entries = [(f"{number:09}", task.record) for number, task in enumerate(self._own_tasks(request).list())]
        return self._page("tasks", entries, request)

    async def _task_result(self, request: ServerRequest) -> dict[str, Any]:
        return dict(await self._own_tasks(request).result(_task_id(request), request.channel))

    async def _cancel_task(self, request: ServerRequest) -> dict[str, Any]:
        return dict(self._own_tasks(request).cancel(_task_id(request)).record)

    def _own_tasks(self, request: ServerRequest) -> TaskTable:
        tasks = self._tasks(request.peer)
        assert tasks is not None
        return tasks

    # --- resources ------------------------------------------------------------------------------------------------

    def _allowed_resources(self, request: ServerRequest) -> list[ServedResource]:
        level = request.peer.auth.permissions.level
        return [one for one in self.server.resources if one.required_level <= level]

    async def _list_resources(self, request: ServerRequest) -> dict[str, Any]:
        allowed = self._allowed_resources(request)
        entries: list[tuple[str, Any]] = [(one.uri, one.definition) for one in allowed if not one.is_template]
        for folder in self.server.folders:
            entries += await folder.list_files()
        entries.sort(key=lambda entry: entry[0])
        return self._page("resources", entries, request)

    async def _list_templates(self, request: ServerRequest) -> dict[str, Any]:
        allowed = self._allowed_resources(request)
        entries = [(one.uri, one.definition) for one in allowed if one.is_template]
        return self._page("resourceTemplates", entries, request)

    async def _read_resource(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, UriParams)
        context = self._context(request, asked.uri, asked, b"")
        # What has no variables comes first: a template may fit its address, too.
        for resource in sorted(self._allowed_resources(request), key=lambda one: one.is_template):
            variables = resource.match(asked.uri)
            if variables is not None:
                found = await self._with_input(resource.read(variables, context))
                if isinstance(found, InputRequired):
                    return dict(found.result)
                contents = resource_contents(found, asked.uri, resource.mime_type)
                return {"contents": contents, **(self._caching() if request.peer.stateless else {})}
        missing = unknown_resource(asked.uri)
        raise PeerError(
            str(missing), code=INVALID_PARAMS if request.peer.stateless else RESOURCE_NOT_FOUND, data=missing.data
        )

    async def _subscribe(self, request: ServerRequest) -> dict[str, Any]:
        uri = decode_params(request.params, UriParams).uri
        if len(request.peer.subscriptions) >= self.options.max_subscriptions:
            raise PeerError(f"more than {self.options.max_subscriptions} subscriptions", code=INVALID_PARAMS)
        request.peer.subscriptions.add(uri)
        return {}

    async def _unsubscribe(self, request: ServerRequest) -> dict[str, Any]:
        request.peer.subscriptions.discard(decode_params(request.params, UriParams).uri)
        return {}

    # --- prompts --------------------------------------------------------------------------------------------------

    async def _list_prompts(self, request: ServerRequest) -> dict[str, Any]:
        level = request.peer.auth.permissions.level
        entries = [
            (name, prompt.definition)
            for name, prompt in sorted(self.server.prompts.items())
            if prompt.required_level <= level
        ]
        return self._page("prompts", entries, request)

    async def _get_prompt(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, PromptParams)
        prompt = self.server.prompts.get(asked.name)
        if prompt is None or prompt.required_level > request.peer.auth.permissions.level:
            raise PeerError(f"unknown prompt: {asked.name[:100]}", code=INVALID_PARAMS)
        prompt.check(asked.arguments)
        context = self._context(request, asked.name, asked, msgspec.json.encode(asked.arguments))
        found = await self._with_input(prompt.fill(asked.arguments, context))
        if isinstance(found, InputRequired):
            return dict(found.result)
        messages = {"messages": prompt_messages(found)}
        return {**messages, "description": prompt.description} if prompt.description else messages

    async def _complete(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, CompleteParams)
        complete = self._completer(request, asked)
        known = asked.context.arguments
        found = [] if complete is None else complete(asked.argument.value, known)
        values = await found if inspect.isawaitable(found) else found
        shown = list(values[:MAX_COMPLETIONS])
        return {"completion": {"values": shown, "total": len(values), "hasMore": len(values) > len(shown)}}

    def _completer(self, request: ServerRequest, asked: CompleteParams) -> Complete | None:
        level = request.peer.auth.permissions.level
        if asked.ref.type == "ref/prompt":
            prompt = self.server.prompts.get(asked.ref.name)
            if prompt is not None and prompt.required_level <= level:
                return prompt.complete.get(asked.argument.name)
        elif asked.ref.type == "ref/resource":
            for resource in self._allowed_resources(request):
                if asked.ref.uri == resource.uri:
                    return resource.complete.get(asked.argument.name)
        raise PeerError("there is nothing of that name to complete", code=INVALID_PARAMS)

    # --- shared ---------------------------------------------------------------------------------------------------

    def _context(self, request: ServerRequest, name: str, asked: InputParams, arguments: bytes) -> ToolContext:
        options, peer = self.options, request.peer
        rounds = self._rounds(request, name, asked, arguments) if peer.stateless else None
        return ToolContext(
            auth=peer.auth,
            workspace=options.workspace,
            observer=ProgressReporter(request.channel, asked.meta.get("progressToken"), options.observer),
            client=ConnectedClient(peer, request.channel, total=options.client_answer, rounds=rounds),
        )

    def _rounds(self, request: ServerRequest, name: str, asked: InputParams, arguments: bytes) -> Rounds:
        options = self.options

        def signer() -> StateSigner:
            return StateSigner(
                secret=options.state_secret,
                principal=request.peer.auth.identity,
                request=request_digest(request.method, name, _canonical(arguments)),
            )

        def sign(answers: Mapping[str, JsonObject]) -> str:
            return signer().sign(answers, expires=options.now().timestamp() + options.state_lifetime)

        known: Mapping[str, JsonObject] = {}
        if asked.request_state is not None:
            known = signer().verify(asked.request_state, now=options.now().timestamp())
        return Rounds(sign, {**known, **(asked.input_responses or {})})

    async def _with_input(self, running: Awaitable[T]) -> T | InputRequired:
        """What *running* returns; or what it asks the client first."""
        try:
            return await running
        except ClientLacksCapability as exc:
            raise _lacks(exc) from exc
        except (InputRequired, BaseExceptionGroup) as exc:
            found = leaves(exc)
            required = [leaf for leaf in found if isinstance(leaf, InputRequired)]
            if not required or len(required) < len([leaf for leaf in found if not isinstance(leaf, trio.Cancelled)]):
                raise
            return required[0]

    def _page(self, key: str, entries: list[tuple[str, Any]], request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, ListParams)
        shown, cursor = page_of(entries, asked.cursor, self.options.page_size)
        page: dict[str, Any] = {key: shown, **({} if cursor is None else {"nextCursor": cursor})}
        return {**page, **self._caching()} if request.peer.stateless else page

    def _caching(self) -> JsonObject:
        # Private: what is shown depends on who asks.
        return {"ttlMs": int(self.options.cache * 1000), "cacheScope": "private"}


def _trace_of(params: Raw) -> Mapping[str, Any]:
    """The `_meta` of *params* where it names a trace that goes on here."""
    if b'"traceparent"' not in bytes(params):
        return {}
    try:
        return decode_params(params, TraceParams).meta
    except PeerError:
        return {}


def _task_id(request: ServerRequest) -> str:
    return decode_params(request.params, TaskParams).task_id


def _unknown_tool(name: str) -> PeerError:
    return PeerError(f"unknown tool: {name[:100]}", code=INVALID_PARAMS)


def _tool_entry(tool: Tool) -> dict[str, Any]:
    metadata = tool.metadata
    entry: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.parameters,
        "annotations": {"readOnlyHint": metadata.mode == "read_only", "idempotentHint": metadata.idempotent},
    }
    if tool.output_schema is not None:
        entry["outputSchema"] = tool.output_schema
    return entry


def _canonical(arguments: bytes) -> bytes:
    # The client may write the same arguments in another order when it repeats the call.
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments or b"{}"), order="sorted")
    except (ValueError, RecursionError):
        return arguments


def _lacks(error: ClientLacksCapability) -> PeerError:
    return PeerError(str(error), code=MISSING_CAPABILITY, data={"requiredCapabilities": error.capabilities})


def error_parts(error: PeerError) -> Mapping[str, Any]:
    """The error object of an answer."""
    return {"code": error.code, "message": str(error), **({} if error.data is None else {"data": error.data})}
