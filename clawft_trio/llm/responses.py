"""A provider for OpenAI's Responses API, with its own items, events and errors."""

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
    """How a server with the Responses API is asked."""

    name: str
    options: ResponsesOptions = ResponsesOptions()
    vendor: VendorRules = RESPONSES

    def path(self, model: str) -> str:
        """The path of the request, below the base URL."""
        return "/responses"

    @property
    def listing(self) -> str:
        """The path at which the models are listed."""
        return "/models"

    def headers(self, key: str) -> Mapping[str, str]:
        """The headers of a request; *key* may be empty."""
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        """The body of a request, ready for JSON."""
        return request_body(request, model, self.options)

    def reading(self, request: ChatRequest, model: str) -> ResponsesResponseReader:
        """The reader of the answer."""
        answer = ResponseBuilder(provider=self.name, model=model, taken_ids=ids_in(request))
        return ResponsesResponseReader(answer, stateful=self.options.stateful)


class OpenAIResponses(HttpProvider):
    """A provider: `POST {base_url}/responses`, streamed or not.

    Reasoning comes as `ReasoningDelta` where the model shows it, and stays in the response as `Opaque` blocks. They
    and the items of built-in tools go back with the next turn as long as `ChatResponse.message` is what goes into the
    history. An answer counts as whole when `response.completed` (or `response.incomplete`) has come. It never retries.

        async with OpenAIResponses(api_key=key) as openai:
            response = await openai.complete(ChatRequest([Message.user("Hi")], model="gpt-5.1-codex"), Call())

    Args:
      name: its name in logs, errors and targets.
      base_url: up to and including the version.
      accepts: what its models accept.
      stateful: let the server store responses (`store: true`) and continue from the last one by `previous_response_id`.
      encrypted_reasoning: ask for reasoning in encrypted form, to send it back; None goes by the model's name.
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
