"""A provider for OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import attrs

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.conform import Rules, VendorRules
from clawft_trio.llm.dialect import ProviderOptions
from clawft_trio.llm.http_provider import HttpProvider
from clawft_trio.llm.response_builder import ResponseBuilder
from clawft_trio.llm.responses_request import ResponsesOptions, request_body
from clawft_trio.llm.responses_response import ResponsesResponseReader
from clawft_trio.llm.tool_calls import ids_in
from clawft_trio.llm.vendors_large import RESPONSES


@attrs.frozen(kw_only=True)
class ResponsesDialect:
    """Requests and answers of a server with the Responses API."""

    name: str
    options: ResponsesOptions = ResponsesOptions()
    vendor: VendorRules = RESPONSES

    def path(self, model: str) -> str:
        """Return the path of the request, relative to the base URL."""
        return "/responses"

    @property
    def listing(self) -> str:
        """Path that lists the models, relative to the base URL."""
        return "/models"

    def headers(self, key: str) -> Mapping[str, str]:
        """Return the headers of a request; *key* may be empty."""
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        """Return the body of a request, ready to encode as JSON."""
        return request_body(request, model, self.options)

    def reading(self, request: ChatRequest, model: str) -> ResponsesResponseReader:
        """Return a new reader for the answer."""
        answer = ResponseBuilder(provider=self.name, model=model, taken_ids=ids_in(request))
        return ResponsesResponseReader(answer, stateful=self.options.stateful)


class OpenAIResponses(HttpProvider):
    """A provider that sends `POST {base_url}/responses`, streamed or not.

    Reasoning is emitted as `ReasoningDelta` when the model sends it, and kept in the response as `Opaque` blocks. These
    blocks and the items of built-in tools are sent with the next request when `ChatResponse.message` is put into the
    history. An answer is complete when `response.completed` or `response.incomplete` has arrived. It never retries.

        async with OpenAIResponses(api_key=key) as openai:
            response = await openai.complete(ChatRequest([Message.user("Hi")], model="gpt-5.1-codex"), Call())

    Args:
      name: the provider's name in logs, errors and targets.
      base_url: the URL up to and including the version.
      accepts: what the models accept.
      stateful: let the server store responses (`store: true`) and continue from the last one by `previous_response_id`.
      encrypted_reasoning: request encrypted reasoning, to send it back; None decides by the model's name.
      options: the keys of `ProviderOptions`: `api_key`, `model`, `headers`, `clocks`, `proxy` and others.
    """

    def __init__(
        self,
        name: str = "openai",
        *,
        base_url: str = "https://api.openai.com/v1",
        accepts: VendorRules = RESPONSES,
        stateful: bool = False,
        encrypted_reasoning: bool | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        options.setdefault("key_variable", "OPENAI_API_KEY")
        asked = ResponsesOptions(stateful=stateful, encrypted_reasoning=encrypted_reasoning)
        super().__init__(
            name,
            ResponsesDialect(name=name, options=asked, vendor=accepts),
            base_url=base_url,
            **options,
        )
