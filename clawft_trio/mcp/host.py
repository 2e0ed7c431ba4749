"""The host: what a client does for its servers (roots, sampling, elicitation, notifications)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import attrs
import msgspec
import trio
from msgspec import UNSET, Raw

from clawft_trio.errors import InvalidData, PeerError
from clawft_trio.large_json import LARGE, decode_large
from clawft_trio.mcp.incoming import IncomingRequest
from clawft_trio.mcp.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from clawft_trio.mcp.types import (
    CreateMessageParams,
    ElicitParams,
    ElicitResult,
    JsonObject,
    Root,
    decode_without_nulls,
)
from clawft_trio.mcp.types.wire import without_nulls
from clawft_trio.tools.json_schema import SchemaCheck

T = TypeVar("T")

MAX_QUESTION = 16_384
"""Characters of a question to a person (`elicitation/create`); a longer one is refused."""

Sample: TypeAlias = Callable[[CreateMessageParams], Awaitable[JsonObject]]
"""Calls a model on behalf of a server; returns a `CreateMessageResult` as JSON. See `sampling.sample_with`."""

Elicit: TypeAlias = Callable[[ElicitParams], Awaitable[ElicitResult]]
"""Asks the person on behalf of a server."""

OnServerNotification: TypeAlias = Callable[[str, Any], Awaitable[object]]
"""Gets a notification's method and decoded parameters, one notification after the other, in order."""


@attrs.frozen(kw_only=True)
class Host:
    """What a client offers its server. The default offers nothing.

    Args:
      roots: folders that the server may use, or a function that returns the current ones (see
        `McpClient.notify_roots_changed`); None does not declare roots.
      sample: calls a model.
      sample_tools: whether *sample* accepts tools; None: as `sample_with` was configured, and False for any other
        function.
      elicit: asks the person; the input is checked against the form.
      extensions: names of protocol extensions and their settings, declared as supported.
      on_notification: gets every notification except progress and cancellation. While it is busy others wait, up to a
        bound. Its exceptions are logged.
    """

    roots: tuple[Root, ...] | Callable[[], Iterable[Root]] | None = None
    sample: Sample | None = None
    sample_tools: bool | None = None
    elicit: Elicit | None = None
    extensions: Mapping[str, JsonObject] = attrs.field(factory=dict)
    on_notification: OnServerNotification | None = None

    @property
    def _samples_with_tools(self) -> bool:
        if self.sample_tools is None:
            return getattr(self.sample, "takes_tools", False) is True
        return self.sample_tools

    def capabilities(self) -> dict[str, Any]:
        """Return the capabilities as the handshake sends them."""
        offered: dict[str, Any] = {}
        if self.roots is not None:
            offered["roots"] = {"listChanged": callable(self.roots)}
        if self.sample is not None:
            offered["sampling"] = {"tools": {}} if self._samples_with_tools else {}
        if self.elicit is not None:
            offered["elicitation"] = {"form": {"applyDefaults": True}, "url": {}}
        if self.extensions:
            offered["extensions"] = dict(self.extensions)
        return offered

    async def answer(self, incoming: IncomingRequest) -> Any:
        """Answer one request of the server.

        Raises:
          PeerError: not supported on this side, or its parameters are invalid.

        Cancellation: as for the function that answers.
        """
        return await self.answer_to(incoming.method, incoming.params)

    async def answer_to(self, method: str, params: Raw) -> Any:
        """Answer the request *method*, which may have been part of a result (2026-07-28) instead of a message.

        Raises:
          PeerError: not supported on this side, or its parameters are invalid.

        Cancellation: as for the function that answers.
        """
        if method == "roots/list" and self.roots is not None:
            await trio.lowlevel.checkpoint()
            return {"roots": list(self.roots() if callable(self.roots) else self.roots)}
        if method == "sampling/createMessage" and self.sample is not None:
            wanted = await _decoded(params, CreateMessageParams)
            if (wanted.tools or wanted.tool_choice) and not self._samples_with_tools:
                raise PeerError("sampling with tools was not offered", code=INVALID_PARAMS)
            return await self.sample(wanted)
        if method == "elicitation/create" and self.elicit is not None:
            asked = await _decoded(params, ElicitParams)
            form = _form(asked)
            given = _with_defaults(asked, await self.elicit(asked))
            return given if form is None else await _checked(form, given)
        raise PeerError(f"unknown method: {method}", code=METHOD_NOT_FOUND)


_DECODERS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (CreateMessageParams, ElicitParams)
}


async def _decoded(params: Raw, kind: type[T]) -> T:
    """Decode the parameters of a request, in a thread if they are large.

    Raises:
      PeerError: they do not fit.
    """
    try:
        if len(memoryview(params)) < LARGE:
            found: T = decode_without_nulls(params, _DECODERS[kind])
            return found
        value = await decode_large(bytes(params))
        return await trio.to_thread.run_sync(
            lambda: msgspec.convert(without_nulls(value), kind), abandon_on_cancel=True
        )
    except (ValueError, RecursionError) as exc:
        raise PeerError(str(exc), code=INVALID_PARAMS) from exc


def _form(asked: ElicitParams) -> SchemaCheck | None:
    """Return the validator of the form; None when the person has to visit a page instead.

    Raises:
      PeerError: it is neither, or a form that cannot be displayed.
    """
    if len(asked.message) > MAX_QUESTION:
        raise PeerError(f"the message is longer than {MAX_QUESTION} characters", code=INVALID_PARAMS)
    if asked.mode == "url":
        address = asked.url or ""
        if not address.startswith(("https://", "http://")) or not address.isprintable() or len(address) > 4096:
            raise PeerError("only web pages can be visited", code=INVALID_PARAMS)
        return None
    if asked.mode != "form":
        raise PeerError(f"unknown mode of elicitation: {asked.mode[:60]!r}", code=INVALID_PARAMS)
    try:
        return SchemaCheck(asked.requested_schema or {}, noun="field", trusted=False)
    except InvalidData as exc:
        raise PeerError(f"the form cannot be used: {exc}", code=INVALID_PARAMS) from exc


async def _checked(form: SchemaCheck, given: ElicitResult) -> ElicitResult:
    """Return *given*, if it is not an acceptance or fits the form.

    Raises:
      PeerError: the input does not fit the form; the server gets no value of it.
    """
    if given.action != "accept":
        await trio.lowlevel.checkpoint()
        return given
    problems = await form.find_problems({} if given.content is UNSET else given.content)
    if problems:
        places = ", ".join(problem.path for problem in problems)
        raise PeerError(f"what was filled in does not fit the form at {places}", code=INTERNAL_ERROR)
    return given


def _with_defaults(asked: ElicitParams, given: ElicitResult) -> ElicitResult:
    """Return the accepted input, with the form's defaults for missing fields (SEP-1034)."""
    if given.action != "accept" or asked.requested_schema is None or not isinstance(given.content, dict):
        return given
    fields = asked.requested_schema.get("properties", {})
    defaults = {
        name: field["default"]
        for name, field in (fields.items() if isinstance(fields, dict) else ())
        if isinstance(field, dict) and "default" in field
    }
    return ElicitResult(action="accept", content={**defaults, **given.content})
