"""Answering a server's `sampling/createMessage` with a model of ours: limited, approved, metered."""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import msgspec
import trio

from clawft_trio.chat import Call, ChatRequest, Image, Message, Part, Provider, Text, new_id, unobserved
from clawft_trio.errors import ClawftError, PeerError, Refused
from clawft_trio.mcp.host import Sample
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.types import CreateMessageParams, JsonObject, SamplingMessage

_REJECTED = -1
"""What the protocol's examples use for a request that the person rejected."""

_STOP_REASONS = {"stop": "endTurn", "length": "maxTokens"}


@attrs.frozen(kw_only=True)
class SamplingPolicy:
    """How much of a model a server may have. The provider's wrapper meters the cost."""

    #: limit on the output tokens of one answer, whatever the server asks for
    max_tokens: int = attrs.field(default=2048, validator=attrs.validators.ge(1))
    #: characters of text and bytes of images in the messages of one request
    max_prompt: int = attrs.field(default=1_000_000, validator=attrs.validators.ge(1))
    #: answers within any 60 seconds
    per_minute: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    #: answers at once
    concurrent: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    #: seconds that one answer may take
    total: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    #: is asked before each answer; False rejects it
    approve: Callable[[CreateMessageParams], Awaitable[bool]] | None = None
    #: gets the frozen records of `observe.events`
    observer: Callable[[Any], None] = attrs.field(default=unobserved, repr=False)


def sample_with(provider: Provider, *, model: str = "", policy: SamplingPolicy = SamplingPolicy()) -> Sample:
    """Let servers ask *provider*, within *policy*.

    The server's wish for a model is a wish: the model is ours to choose. Its tools are not offered.

    Args:
      provider: who answers; wrap it to meter what servers spend.
      model: the model's name, where the provider needs one.
      policy: how much a server may have.
    """
    return _Sampler(provider, model, policy).sample


class _Sampler:
    def __init__(self, provider: Provider, model: str, policy: SamplingPolicy) -> None:
        self._provider = provider
        self._model = model
        self._policy = policy
        self._recent: deque[float] = deque()
        self._running = 0

    async def sample(self, params: CreateMessageParams) -> JsonObject:
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
            # Its text may name providers and accounts: none of a server's business.
            raise PeerError("the model could not answer", code=_REJECTED) from exc
        return {
            "role": "assistant",
            "content": {"type": "text", "text": response.text},
            "model": response.model or self._model or self._provider.name,
            "stopReason": _STOP_REASONS.get(response.finish_reason, response.finish_reason),
        }

    def _request(self, params: CreateMessageParams) -> ChatRequest:
        size = sum(len(msgspec.json.encode(one.content)) for one in params.messages) + len(params.system_prompt or "")
        if size > self._policy.max_prompt:
            raise PeerError(f"the prompt is longer than {self._policy.max_prompt}", code=INVALID_PARAMS)
        messages = [Message(one.role, _parts(one)) for one in params.messages]
        if params.system_prompt:
            messages.insert(0, Message.system(params.system_prompt))
        return ChatRequest(
            tuple(messages),
            model=self._model,
            max_tokens=max(1, min(params.max_tokens, self._policy.max_tokens)),
            temperature=params.temperature,
            stop=params.stop_sequences,
        )


def _parts(message: SamplingMessage) -> tuple[Part, ...]:
    blocks = message.content if isinstance(message.content, list) else [message.content]
    return tuple(map(_part, blocks))


def _part(block: Any) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "image", "data": str(data), "mimeType": str(kind)}:
            try:
                return Image(data=base64.b64decode(data, validate=True), media_type=kind)
            except binascii.Error as exc:
                raise PeerError("an image is not base64", code=INVALID_PARAMS) from exc
    raise PeerError("only text and images can be sampled from", code=INVALID_PARAMS)
