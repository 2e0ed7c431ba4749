"""A model behind HTTP, in any dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from clawft_trio.chat import Call, ChatRequest, ChatResponse
from clawft_trio.llm.failures import Failures
from clawft_trio.llm.model_endpoint import ApiKey, Dialect, HttpOptions, ModelEndpoint, Sign
from clawft_trio.net.http import Clocks, EndpointStatistics, HttpEndpoint
from clawft_trio.retry_hints import Now


class HttpProvider:
    """What `OpenAICompatible` and `Anthropic` have in common: a `chat.Provider`, used in an `async with`."""

    #: for strategies: the record of each attempt is kept here
    keeps_records = True

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        *,
        base_url: str,
        api_key: ApiKey,
        model: str,
        headers: Mapping[str, str] | None,
        key_variable: str,
        retryable_statuses: Iterable[int],
        max_answer: int,
        now: Now,
        sign: Sign | None,
        model_clocks: Mapping[str, Clocks] | None,
        http: HttpOptions,
    ) -> None:
        self._http = HttpEndpoint(base_url, name=name, headers=headers, **http)
        self._exchange = ModelEndpoint(
            name=name,
            http=self._http,
            dialect=dialect,
            failures=Failures(provider=name, retryable_statuses=frozenset(retryable_statuses), now=now),
            model=model,
            api_key=api_key,
            key_variable=key_variable,
            clocks=http.get("clocks", Clocks()),
            model_clocks=model_clocks or {},
            max_answer=max_answer,
            sign=sign,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} over {self._http!r}>"

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Running calls fail.

        Cancellation: they are closed nevertheless.
        """
        await self._http.aclose()

    @property
    def name(self) -> str:
        """Its name in logs, errors and targets."""
        return self._exchange.name

    @property
    def base_url(self) -> str:
        """The address of its API."""
        return self._http.base_url

    def statistics(self) -> EndpointStatistics:
        """The current statistics of its connections."""
        return self._http.statistics()

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request*, passing events to `call.emit` as they arrive.

        Sends one request; it never retries.

        Raises:
          ProviderError: there is no answer, or no evidence that it is whole; `partial` is what had arrived.
          AddressRefused: the address policy forbids the server's address.
          trio.ClosedResourceError: it was closed.

        Cancellation: the connection is closed and nothing is left behind; the attempt is on record.
        """
        return await self._exchange.complete(request, call)

    async def list_models(self) -> tuple[str, ...]:
        """The names of the models that the provider lists. One GET request, free of charge.

        Raises:
          ProviderError: it was not reached, refuses the key, or has no such list.
          AddressRefused: the address policy forbids the server's address.
          trio.ClosedResourceError: it was closed.

        Cancellation: the connection is closed.
        """
        return await self._exchange.list_models()
