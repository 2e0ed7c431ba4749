"""A provider for Anthropic's Messages API, with its own events, blocks and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import attrs

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.anthropic_request import request_body
from clawft_trio.llm.anthropic_response import AnthropicResponseReader, EndsWith
from clawft_trio.llm.conform import Rules, VendorRules
from clawft_trio.llm.http_provider import HttpProvider
from clawft_trio.llm.model_endpoint import ApiKey, HttpOptions, Sign
from clawft_trio.llm.response_builder import MAX_ANSWER, ResponseBuilder
from clawft_trio.llm.tool_calls import ids_in
from clawft_trio.llm.vendors_large import ANTHROPIC
from clawft_trio.net.http import Clocks
from clawft_trio.retry_hints import RETRYABLE_STATUSES, Now, utc_now

VERSION = "2023-06-01"
"""The version of the API that this file implements."""

MAX_TOKENS = 8192
"""Output tokens of a request that sets no limit: the API requires one, and every current model allows this."""


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
        # One page of the most there can be; by default a page has 20.
        return "/models?limit=1000"

    def headers(self, key: str) -> Mapping[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        return request_body(request, model, self.max_tokens, rules)

    def reading(self, request: ChatRequest, model: str) -> AnthropicResponseReader:
        answer = ResponseBuilder(provider=self.name, model=model, taken_ids=ids_in(request))
        return AnthropicResponseReader(answer, ends_with=self.ends_with)


class Anthropic(HttpProvider):
    """A provider: `POST {base_url}/messages`, streamed or not.

    Thinking comes as `ReasoningDelta` and stays in the response as `Opaque` blocks with their signatures, which
    have to go back with the next turn and do, as long as `ChatResponse.message` is what goes into the history.
    An answer counts as whole when `message_stop` has come. It never retries; the caller may.

    Args:
      name: its name in logs, errors and targets.
      base_url: up to and including the version.
      api_key: a key, a callable that returns the current one for each call, or None where none is needed.
      model: the model of requests that name none.
      max_tokens: for requests that set none.
      headers: more headers for every request (`anthropic-beta`).
      ends_with: what proves that a stream was whole; imitations may need `stop_reason`.
      accepts: what the server's models accept; requests are conformed to it.
      key_variable: the environment variable that an error about the key names.
      retryable_statuses: after which the same request may be sent here again.
      max_answer: characters that an answer may have, reasoning and tool arguments included.
      now: calendar time, for a `Retry-After` that is a date.
      sign: signs each request: gets method, URL and body, and returns headers.
      model_clocks: by model, where they differ from the clocks of the server.
      http: passed on to `HttpEndpoint`: `connections`, `clocks`, `proxy`, `verify`, `client` and the others.
    """

    def __init__(
        self,
        name: str = "anthropic",
        *,
        base_url: str = "https://api.anthropic.com/v1",
        api_key: ApiKey = None,
        model: str = "",
        max_tokens: int = MAX_TOKENS,
        headers: Mapping[str, str] | None = None,
        ends_with: EndsWith = "message_stop",
        accepts: VendorRules = ANTHROPIC,
        key_variable: str = "ANTHROPIC_API_KEY",
        retryable_statuses: Iterable[int] = RETRYABLE_STATUSES,
        max_answer: int = MAX_ANSWER,
        now: Now = utc_now,
        sign: Sign | None = None,
        model_clocks: Mapping[str, Clocks] | None = None,
        **http: Unpack[HttpOptions],
    ) -> None:
        super().__init__(
            name,
            _Messages(name=name, max_tokens=max_tokens, ends_with=ends_with, vendor=accepts),
            base_url=base_url,
            api_key=api_key,
            model=model,
            headers=headers,
            key_variable=key_variable,
            retryable_statuses=retryable_statuses,
            max_answer=max_answer,
            now=now,
            sign=sign,
            model_clocks=model_clocks,
            http=http,
        )
