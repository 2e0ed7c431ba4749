"""Answers a server's `sampling/createMessage` with a model of the client: limited, approved, metered."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import msgspec
import trio

from clawft_trio.chat import Call, ChatRequest, Message, Provider, ToolSpec, new_id, unobserved
from clawft_trio.errors import ClawftError, PeerError, Refused
from clawft_trio.mcp.host import Sample
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.sampling_messages import answer_blocks, chat_messages
from clawft_trio.mcp.types import CreateMessageParams, JsonObject, ToolDefinition

_REJECTED = -1
"""Error code that the protocol's examples use for a request that the person rejected."""

_MOST_STOPS = 64
"""Largest number of stop sequences of one request; providers accept a few."""

_STOP_REASONS = {"stop": "endTurn", "length": "maxTokens"}


@attrs.frozen(kw_only=True)
class SamplingPolicy:
    """Limits for the use of a model by a server. A wrapper of the provider meters the cost."""

    #: largest number of output tokens of one answer, whatever the server requests
    max_tokens: int = attrs.field(default=2048, validator=attrs.validators.ge(1))
    #: largest request in characters of text and bytes of images
    max_prompt: int = attrs.field(default=1_000_000, validator=attrs.validators.ge(1))
    #: whether a server may offer its own tools to the model (2025-11-25)
    tools: bool = True
    #: largest number of answers within any 60 seconds
    per_minute: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    #: largest number of concurrent answers
    concurrent: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    #: seconds that one answer may take
    total: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    #: called before each answer; False rejects the request
    approve: Callable[[CreateMessageParams], Awaitable[bool]] | None = None
    #: gets the events of `observe.events`
    observer: Callable[[Any], None] = attrs.field(default=unobserved, repr=False)


def sample_with(provider: Provider, *, model: str = "", policy: SamplingPolicy = SamplingPolicy()) -> Sample:
    """Return a `Host.sample` that answers with *provider*, within *policy*.

    The server's preference for a model is ignored: the client chooses the model. The server's tools are offered to the
    model; its calls are returned to the server, which runs them and sends another request. No tool runs here.

    Args:
      provider: the provider that answers; wrap it to meter the cost.
      model: the model's name, if the provider needs one.
      policy: limits for the server.
    """
    return _Sampler(provider, model, policy)


class _Sampler:
    def __init__(self, provider: Provider, model: str, policy: SamplingPolicy) -> None:
        #: read by `Host`, which then declares sampling with tools
        self.takes_tools: bool = policy.tools
        self._provider = provider
        self._model = model
        self._policy = policy
        self._recent: deque[float] = deque()
        self._running = 0

    async def __call__(self, params: CreateMessageParams) -> JsonObject:
        request = self._request(params)
        self._admit()
        self._running += 1
        try:
            return await self._answer(params, request)
        finally:
            self._running -= 1

    def _admit(self) -> None:
        now = trio.current_time()
        while self._recent and self._recent[0] <= now - 60.0:
            self._recent.popleft()
        if self._running >= self._policy.concurrent or len(self._recent) >= self._policy.per_minute:
            raise PeerError("too many sampling requests; ask again later", code=_REJECTED)
        self._recent.append(now)

    async def _answer(self, params: CreateMessageParams, request: ChatRequest) -> JsonObject:
        try:
            with trio.fail_after(self._policy.total):
                if self._policy.approve is not None and not await self._policy.approve(params):
                    raise PeerError("the request was rejected", code=_REJECTED)
                response = await self._provider.complete(request, Call(id=new_id(), observer=self._policy.observer))
        except trio.TooSlowError as exc:
            raise PeerError("the model took too long", code=_REJECTED) from exc
        except Refused as exc:
            raise PeerError("not allowed at the moment", code=_REJECTED) from exc
        except PeerError:
            raise
        except ClawftError as exc:
            # Its text may name providers and accounts, which a server must not learn.
            raise PeerError("the model could not answer", code=_REJECTED) from exc
        blocks = answer_blocks(response)
        called = any(block["type"] == "tool_use" for block in blocks)
        return {
            "role": "assistant",
            # A single block is not in a list, because revisions before 2025-11-25 have no lists.
            "content": blocks if called or len(blocks) > 1 else blocks[0],
            "model": response.model or self._model or self._provider.name,
            "stopReason": "toolUse" if called else _STOP_REASONS.get(response.finish_reason, response.finish_reason),
        }

    def _request(self, params: CreateMessageParams) -> ChatRequest:
        if (params.tools or params.tool_choice) and not self._policy.tools:
            raise PeerError("sampling with tools was not offered", code=INVALID_PARAMS)
        size = sum(len(msgspec.json.encode(one)) for one in (*params.messages, *params.tools))
        size += sum(map(len, (params.system_prompt or "", *params.stop_sequences)))
        if size > self._policy.max_prompt or len(params.stop_sequences) > _MOST_STOPS:
            raise PeerError(f"the prompt is longer than {self._policy.max_prompt}", code=INVALID_PARAMS)
        messages = list(chat_messages(params.messages))
        if params.system_prompt:
            messages.insert(0, Message.system(params.system_prompt))
        return ChatRequest(
            tuple(messages),
            model=self._model,
            tools=tuple(map(_tool_spec, params.tools)),
            tool_choice=_tool_choice(params) if params.tools else "auto",
            max_tokens=max(1, min(params.max_tokens, self._policy.max_tokens)),
            temperature=params.temperature,
            stop=params.stop_sequences,
        )


def _tool_spec(tool: ToolDefinition) -> ToolSpec:
    return ToolSpec(name=tool.name, description=tool.description or "", parameters=tool.input_schema)


def _tool_choice(params: CreateMessageParams) -> str:
    mode = (params.tool_choice or {}).get("mode", "auto")
    if mode not in ("auto", "required", "none"):
        raise PeerError("toolChoice.mode is auto, required or none", code=INVALID_PARAMS)
    return str(mode)
