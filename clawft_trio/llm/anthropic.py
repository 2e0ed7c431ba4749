"""A provider for Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import attrs

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.anthropic_request import request_body
from clawft_trio.llm.anthropic_response import AnthropicResponseReader, EndsWith
from clawft_trio.llm.conform import Rules, VendorRules
from clawft_trio.llm.dialect import ProviderOptions
from clawft_trio.llm.http_provider import HttpProvider
from clawft_trio.llm.response_builder import ResponseBuilder
from clawft_trio.llm.tool_calls import ids_in
from clawft_trio.llm.vendors_large import ANTHROPIC

VERSION = "2023-06-01"
"""Version of the API that this module implements."""

MAX_TOKENS = 8192
"""Output tokens of a request that sets no limit; the API requires a limit, and every current model allows this one."""


@attrs.frozen(kw_only=True)
class _Messages:
    name: str
    max_tokens: int
    ends_with: EndsWith
    vendor: VendorRules

    def path(self, model: str) -> str:
        return "/messages"

    @property
    def listing(self) -> str:
        # The largest page size that the API accepts; the default page has 20 models.
        return "/models?limit=1000"

    def headers(self, key: str) -> Mapping[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        return request_body(request, model, self.max_tokens, rules)

    def reading(self, request: ChatRequest, model: str) -> AnthropicResponseReader:
        answer = ResponseBuilder(provider=self.name, model=model, taken_ids=ids_in(request))
        return AnthropicResponseReader(answer, ends_with=self.ends_with)


class Anthropic(HttpProvider):
    """A provider that sends `POST {base_url}/messages`, streamed or not.

    Thinking is emitted as `ReasoningDelta` and kept in the response as `Opaque` blocks with their signatures. The API
    requires these blocks in the next request; they are sent when `ChatResponse.message` is put into the history.
    An answer is complete when `message_stop` has arrived. The provider never retries; the caller may.

    Args:
      name: the provider's name in logs, errors and targets.
      base_url: the URL up to and including the version.
      max_tokens: output limit of requests that set none.
      ends_with: the event that proves a stream complete; some imitations of this API need `stop_reason`.
      accepts: what the server's models accept; requests are conformed to it.
      options: the keys of `ProviderOptions`: `api_key`, `model`, `headers`, `clocks`, `proxy` and others.
    """

    def __init__(
        self,
        name: str = "anthropic",
        *,
        base_url: str = "https://api.anthropic.com/v1",
        max_tokens: int = MAX_TOKENS,
        ends_with: EndsWith = "message_stop",
        accepts: VendorRules = ANTHROPIC,
        **options: Unpack[ProviderOptions],
    ) -> None:
        options.setdefault("key_variable", "ANTHROPIC_API_KEY")
        super().__init__(
            name,
            _Messages(name=name, max_tokens=max_tokens, ends_with=ends_with, vendor=accepts),
            base_url=base_url,
            **options,
        )
