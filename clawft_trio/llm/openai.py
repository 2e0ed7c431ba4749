"""Any server that speaks the OpenAI-compatible dialect, which is nearly every server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import attrs

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.assembly import ids_in
from clawft_trio.llm.exchange import ApiKey, HttpOptions
from clawft_trio.llm.failures import RETRYABLE_STATUSES, Now, utc_now
from clawft_trio.llm.http_model import HttpModel
from clawft_trio.llm.openai_answer import OpenAIReading
from clawft_trio.llm.openai_request import Quirks, request_body
from clawft_trio.llm.reading import MAX_ANSWER, Answer

_NO_QUIRKS = Quirks()


@attrs.frozen
class _OpenAI:
    name: str
    quirks: Quirks

    def path(self, model: str) -> str:  # noqa: ARG002 - the protocol's
        return "/chat/completions"

    @property
    def listing(self) -> str:
        return "/models"

    def headers(self, key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, request: ChatRequest, model: str) -> Mapping[str, Any]:
        return request_body(request, model, self.quirks)

    def reading(self, request: ChatRequest, model: str) -> OpenAIReading:
        answer = Answer(provider=self.name, model=model, taken_ids=ids_in(request))
        return OpenAIReading(answer, ends_with=self.quirks.ends_with, returns=self.quirks.returns)


class OpenAICompatible(HttpModel):
    """A provider: `POST {base_url}/chat/completions`, streamed or not.

    An answer counts as whole when its finish reason has come; `Quirks.ends_with` names the servers for which
    something else must do. It never retries: that is for whoever calls it.

        async with OpenAICompatible("groq", base_url="https://api.groq.com/openai/v1", api_key=key) as groq:
            response = await groq.complete(ChatRequest([Message.user("Hi")], model="llama-3.3-70b"), Call())

    Args:
      name: what it is called in logs, errors and targets.
      base_url: up to and including the version (`https://api.openai.com/v1`).
      api_key: a key, something that gives the current one for each call, or None for a server that needs none.
      model: what is asked when a request names no model.
      headers: more headers for every request.
      quirks: where this server differs.
      key_variable: the environment variable that an error about the key names.
      retryable_statuses: after which the same request may be sent here again.
      linger: seconds that usage may come after the finish reason.
      unstreamed: seconds that the headers of an answer may take that is not streamed: they come when it is whole.
      max_answer: characters that an answer may have, reasoning and tool arguments included.
      now: calendar time, for a `Retry-After` that is a date.
      http: passed on to `HttpEndpoint`: `connections`, `clocks`, `proxy`, `verify`, `client` and the others.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: ApiKey = None,
        model: str = "",
        headers: Mapping[str, str] | None = None,
        quirks: Quirks = _NO_QUIRKS,
        key_variable: str = "",
        retryable_statuses: Iterable[int] = RETRYABLE_STATUSES,
        linger: float = 2.0,
        unstreamed: float = 600.0,
        max_answer: int = MAX_ANSWER,
        now: Now = utc_now,
        **http: Unpack[HttpOptions],
    ) -> None:
        super().__init__(
            name,
            _OpenAI(name, quirks),
            base_url=base_url,
            api_key=api_key,
            model=model,
            headers=headers,
            key_variable=key_variable,
            retryable_statuses=retryable_statuses,
            linger=linger,
            unstreamed=unstreamed,
            max_answer=max_answer,
            now=now,
            http=http,
        )
