"""Requests of a tool to the MCP client that called it: input of a person, text of a model, folders, log lines.

A tool gets the client as `ToolContext.client`. Outside MCP, and without the needed capability, requests raise
`ClientLacksCapability`; logging does nothing.

Revisions up to 2025-11-25 send each request while the tool waits. Revision 2026-07-28 has no such requests: the call
is answered with the questions, and the client repeats it with the answers. The tool function then **runs again from
its start**, and each question that is already answered returns at once. So ask first and act afterwards, and ask the
same questions in the same order each time; `key` identifies a question if the order may vary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs
import trio

from clawft_trio.chat import JsonObject
from clawft_trio.errors import ClientLacksCapability, ProtocolViolation
from clawft_trio.tools.json_schema import SchemaCheck

LogLevel: TypeAlias = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
"""Severities of RFC 5424, lowest first."""


@attrs.frozen
class ClientRequest:
    """One request to the client, by its MCP name: `elicitation/create`, `sampling/createMessage` or `roots/list`."""

    method: str
    params: JsonObject = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Elicited:
    """The person's reaction to a form or an address: `content` is the filled-in form, and empty unless accepted."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the person agreed."""
        return self.action == "accept"


@attrs.frozen(kw_only=True)
class Sampled:
    """The answer of the client's model. `content` holds the blocks unchanged; `text` is their plain text."""

    text: str
    content: tuple[JsonObject, ...] = ()
    model: str = ""
    stop_reason: str = ""


@attrs.frozen(kw_only=True)
class ClientRoot:
    """A folder in which the client lets servers work."""

    uri: str
    name: str = ""


class ToolClient:
    """The client that made a tool call. This base class stands in for a missing client: it has no capabilities."""

    def __init__(self, capabilities: JsonObject | None = None) -> None:
        #: capabilities that the client declared; empty when there is no client
        self.capabilities: JsonObject = {} if capabilities is None else capabilities
        self._keys: dict[str, int] = {}

    def supports(self, capability: str) -> bool:
        """Whether the client declared *capability*: `sampling`, `elicitation`, `roots`, or a part, `sampling.tools`."""
        found: Any = self.capabilities
        for key in capability.split("."):
            if not isinstance(found, Mapping) or key not in found or found[key] is None or found[key] is False:
                return False
            found = found[key]
        return True

    async def ask_all(self, requests: Mapping[str, ClientRequest]) -> Mapping[str, JsonObject]:
        """Send several requests at once; return the client's result for each key.

        Raises:
          ClientLacksCapability: the client did not declare a capability that one of them needs.
          PeerError: the client answered one of them with an error.
          PeerGone: the connection to the client ended.
          RequestTimeout: no answer in time.

        Cancellation: the client is notified; late answers are dropped.
        """
        await trio.lowlevel.checkpoint()
        self.require(requests)
        raise ClientLacksCapability("No MCP client called this tool.", capabilities={})

    def log(self, level: LogLevel, data: object, *, logger: str = "") -> None:
        """Send a log line to the client, if it asked for lines of this level. Never blocks; may be dropped."""

    def release_stream(self) -> None:
        """Close the HTTP stream of this call; the client fetches the result later (2025-11-25 only).

        Useful before a long wait, during which no connection stays open. Elsewhere it does nothing.
        """

    async def elicit(self, message: str, schema: JsonObject, *, key: str | None = None) -> Elicited:
        """Ask the person to fill in a form: a flat JSON Schema of strings, numbers, booleans and choices.

        Raises:
          ProtocolViolation: the answer is invalid, or the filled-in form does not fit *schema*.
          ClientLacksCapability, PeerError, PeerGone, RequestTimeout: as for `ask_all`.

        Cancellation: the client is notified; late answers are dropped.
        """
        params = {"mode": "form", "message": message, "requestedSchema": schema}
        answer = await self._ask(ClientRequest("elicitation/create", params), "elicitation", key)
        return read_elicited(answer, schema)

    async def elicit_url(self, message: str, url: str, *, elicitation_id: str, key: str | None = None) -> Elicited:
        """Ask the person to open *url*, for input that must not pass through the client (credentials, payment).

        Raises:
          ProtocolViolation: the answer is invalid.
          ClientLacksCapability, PeerError, PeerGone, RequestTimeout: as for `ask_all`.

        Cancellation: the client is notified; late answers are dropped.
        """
        params = {"mode": "url", "message": message, "url": url, "elicitationId": elicitation_id}
        answer = await self._ask(ClientRequest("elicitation/create", params), "elicitation", key)
        return read_elicited(answer, None)

    async def sample(
        self, messages: str | Sequence[JsonObject], *, max_tokens: int, key: str | None = None, **options: Any
    ) -> Sampled:
        """Request an answer of the client's model.

        Args:
          messages: one user message, or MCP sampling messages (`role`, `content`).
          max_tokens: limit on the tokens of the answer.
          key: identifies the question, see the module.
          options: other fields of the request by their MCP names: `systemPrompt`, `temperature`, `tools`…

        Raises:
          ProtocolViolation: the answer is invalid.
          ClientLacksCapability, PeerError, PeerGone, RequestTimeout: as for `ask_all`.

        Cancellation: the client is notified; late answers are dropped.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": {"type": "text", "text": messages}}]
        params = {"messages": list(messages), "maxTokens": max_tokens, **options}
        answer = await self._ask(ClientRequest("sampling/createMessage", params), "sampling", key)
        return read_sampled(answer)

    async def list_roots(self, *, key: str | None = None) -> tuple[ClientRoot, ...]:
        """Request the folders in which the client lets servers work.

        Raises:
          ProtocolViolation: the answer is invalid.
          ClientLacksCapability, PeerError, PeerGone, RequestTimeout: as for `ask_all`.

        Cancellation: the client is notified; late answers are dropped.
        """
        return read_roots(await self._ask(ClientRequest("roots/list"), "roots", key))

    def require(self, requests: Mapping[str, ClientRequest]) -> None:
        """Check that the client declared the capabilities that *requests* need.

        Raises:
          ClientLacksCapability: a capability is missing.
        """
        for request in requests.values():
            capability = _needed(request)
            # `elicitation: {}` means forms, because the name `form` exists only since 2025-11-25.
            plain = capability == "elicitation.form" and self.supports("elicitation")
            if not (self.supports(capability) or (plain and not self.supports("elicitation.url"))):
                raise ClientLacksCapability(
                    f"The client did not declare the capability {capability!r}.", capabilities=_nested(capability)
                )

    async def _ask(self, request: ClientRequest, kind: str, key: str | None) -> JsonObject:
        self.require({kind: request})
        if key is None:
            self._keys[kind] = number = self._keys.get(kind, 0) + 1
            key = f"{kind}-{number}"
        answers = await self.ask_all({key: request})
        return answers[key]


NO_CLIENT = ToolClient()
"""The client for tools that no MCP client called."""


def read_elicited(answer: JsonObject, schema: JsonObject | None) -> Elicited:
    """Parse the answer to an elicitation; with a *schema*, check an accepted form.

    Raises:
      ProtocolViolation: the answer is invalid, or the form does not fit.
    """
    action, content = answer.get("action"), answer.get("content")
    if action not in ("accept", "decline", "cancel"):
        raise ProtocolViolation("elicitation: the answer names no action of accept, decline and cancel")
    if action != "accept":
        return Elicited(action=action)
    content = {} if content is None else content
    if not isinstance(content, Mapping):
        raise ProtocolViolation("elicitation: the content is not an object")
    problems = [] if schema is None else SchemaCheck(schema, noun="field").problems(content)
    if problems:
        raise ProtocolViolation("elicitation: " + "; ".join(map(str, problems)))
    return Elicited(action=action, content=content)


def read_sampled(answer: JsonObject) -> Sampled:
    """Parse the answer to a sampling request.

    Raises:
      ProtocolViolation: the answer is invalid.
    """
    content = answer.get("content")
    blocks: list[Any] = content if isinstance(content, list) else [content]
    if not all(isinstance(block, Mapping) for block in blocks):
        raise ProtocolViolation("sampling: the answer has no content")
    texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
    model, reason = answer.get("model"), answer.get("stopReason")
    return Sampled(
        text="\n".join(texts),
        content=tuple(blocks),
        model=model if isinstance(model, str) else "",
        stop_reason=reason if isinstance(reason, str) else "",
    )


def read_roots(answer: JsonObject) -> tuple[ClientRoot, ...]:
    """Parse the answer to `roots/list`; entries without an address are left out.

    Raises:
      ProtocolViolation: the answer is invalid.
    """
    roots = answer.get("roots")
    if not isinstance(roots, list):
        raise ProtocolViolation("roots: the answer has no list of roots")
    return tuple(
        ClientRoot(uri=root["uri"], name=name if isinstance(name := root.get("name"), str) else "")
        for root in roots
        if isinstance(root, Mapping) and isinstance(root.get("uri"), str)
    )


def _needed(request: ClientRequest) -> str:
    if request.method == "elicitation/create":
        return "elicitation.url" if request.params.get("mode") == "url" else "elicitation.form"
    if request.method == "sampling/createMessage":
        return "sampling.tools" if "tools" in request.params else "sampling"
    return request.method.partition("/")[0]


def _nested(capability: str) -> JsonObject:
    nested: dict[str, Any] = {}
    for key in reversed(capability.split(".")):
        nested = {key: nested}
    return nested
