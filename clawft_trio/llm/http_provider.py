"""The provider for models over HTTP, in any dialect: sends one request per call."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack, cast
from urllib.parse import urlsplit

import attrs
import msgspec
import trio

from clawft_trio.attempts import AttemptInProgress, record_attempt
from clawft_trio.chat import Call, ChatRequest, ChatResponse, File, Image, unobserved
from clawft_trio.codec import encode_json
from clawft_trio.errors import InvalidResponse, NotConfigured, ProviderError, RequestRejected
from clawft_trio.llm.conform import Conformed, Conformer
from clawft_trio.llm.dialect import Dialect, HttpOptions, ProviderOptions
from clawft_trio.llm.failures import Failures
from clawft_trio.llm.http_answer import MAX_ERROR, HttpAnswer
from clawft_trio.llm.lenient import NOT_JSON
from clawft_trio.llm.refused_options import MOST_REFUSALS, SCHEMAS, RefusedOptions, refused_parameter
from clawft_trio.llm.response_builder import MAX_ANSWER
from clawft_trio.llm.secrets import redact
from clawft_trio.net.http import Clocks, EndpointStatistics, HttpEndpoint
from clawft_trio.nursery import raise_one
from clawft_trio.observe.events import AttemptEnded, AttemptStarted, Noted, RequestConformed
from clawft_trio.observe.recorded import note_response, request_options
from clawft_trio.replacing import replaced
from clawft_trio.retry_hints import RETRYABLE_STATUSES, rate_limits, utc_now
from clawft_trio.tracebacks import shorten_traceback

# Bytes read of a list of models at most.
_MAX_LIST = 32 * 1024 * 1024

# Bytes of images and files from which on a request is encoded in a thread.
_LARGE_MEDIA = 1024 * 1024

_USUAL_FIRST_BYTE = Clocks().first_byte or math.inf


class HttpProvider:
    """Base class of `OpenAICompatible`, `Anthropic` and `OpenAIResponses`: a `chat.Provider`, used in an `async with`.

    Args:
      name: the provider's name in logs, errors and targets.
      dialect: encodes requests and creates the readers of answers.
      base_url: the URL up to and including the version of the API.
      options: the keys of `ProviderOptions`.
    """

    #: read by strategies: this provider records each attempt itself
    keeps_records = True

    def __init__(self, name: str, dialect: Dialect, *, base_url: str, **options: Unpack[ProviderOptions]) -> None:
        self._model = options.pop("model", "")
        self._api_key = options.pop("api_key", None)
        self._key_variable = options.pop("key_variable", "")
        self._sign = options.pop("sign", None)
        self._max_answer = options.pop("max_answer", MAX_ANSWER)
        if self._max_answer < 1:
            raise ValueError("max_answer must be at least 1")
        statuses, now = options.pop("retryable_statuses", RETRYABLE_STATUSES), options.pop("now", utc_now)
        self._failures = Failures(provider=name, retryable_statuses=frozenset(statuses), now=now)
        self._name = name
        self._clocks = options.get("clocks", Clocks())
        self._model_clocks = options.pop("model_clocks", None) or {}
        self._dialect = dialect
        self._conformer = Conformer(dialect.vendor)
        self._refused = RefusedOptions()
        # The remaining options are those of the connection.
        self._http = HttpEndpoint(base_url, name=name, **cast("HttpOptions", options))
        address = urlsplit(self._http.address(""))
        self._server = (address.hostname or "", address.port or {"http": 80, "https": 443}.get(address.scheme))

    def __repr__(self) -> str:
        # A traceback with local variables also shows an instance whose `__init__` failed.
        return f"<{type(self).__name__} {self.name!r} over {getattr(self, '_http', None)!r}>"

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Running calls fail.

        Cancellation: the connections are closed nevertheless.
        """
        await self._http.aclose()

    @property
    def name(self) -> str:
        """The provider's name in logs, errors and targets."""
        return self._name

    @property
    def base_url(self) -> str:
        """The base URL of the provider's API."""
        return self._http.base_url

    def statistics(self) -> EndpointStatistics:
        """Return the current statistics of the provider's connections."""
        return self._http.statistics()

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Send *request*, pass the events of the answer to `call.emit` as they arrive, and return the answer.

        One request is sent; the record of the attempt is added to `call.log` and reported to `call.observer`. Nothing
        is retried, with one exception: when a 400 or 422 names an optional parameter, the request is sent again without
        it, and later requests to this model omit it, too; at most `MOST_REFUSALS` times in one call.

        Raises:
          ProviderError: there is no answer, or nothing proves that it is complete; `partial` is what had arrived.
          AddressRefused: the address policy forbids the server's address.
          trio.ClosedResourceError: the provider was closed.

        Cancellation: the connection is closed and nothing is left behind; the attempt is recorded.
        """
        model = request.model or self._model
        if not model:
            raise NotConfigured(f"no model: neither the request nor the provider {self.name!r} names one")
        target = f"{self.name}/{model}"
        conformed, body, encoded = await self._prepare(request, model)
        if all(record.target != target for record in call.log.records):
            self._report(conformed, target, call)
        for left in reversed(range(MOST_REFUSALS + 1)):
            try:
                return await self._ask(conformed, encoded, model, call)
            except RequestRejected as exc:
                parameter = refused_parameter(exc.body)
                if not left or exc.status not in {400, 422} or not self._refused.learn(model, parameter, body):
                    shorten_traceback(exc)
                    raise
            except Exception as exc:
                shorten_traceback(exc)
                raise
            details = {"target": target, "parameter": parameter}
            self._note("parameter refused", details, call)
            conformed, body, encoded = await self._prepare(request, model)
        raise AssertionError("not reached")

    async def _prepare(self, request: ChatRequest, model: str) -> tuple[Conformed, Mapping[str, Any], bytes]:
        """Do `_prepared`, in a thread if there are large images or files: 20 MiB as base64 in JSON take 0.1 s."""
        work = partial(self._prepared, request, model)
        if _media_size(request) < _LARGE_MEDIA:
            return work()
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    def _prepared(self, request: ChatRequest, model: str) -> tuple[Conformed, Mapping[str, Any], bytes]:
        """Return *request* conformed to *model*, and its body without the parameters that the model has refused."""
        rules, refused = self._conformer.rules(model), self._refused.of(model)
        if request.response_schema is not None and not refused.isdisjoint(SCHEMAS):
            rules = attrs.evolve(rules, refuses=rules.refuses | {"response_schema"})
        conformed = self._conformer.conform(request, rules, origin=f"{self.name}/{model}")
        body = self._refused.without(model, self._dialect.body(conformed.request, model, rules))
        return conformed, body, encode_json(body)

    def _report(self, conformed: Conformed, target: str, call: Call) -> None:
        """Report to observers what was changed, and each tool that was left out."""
        if not conformed.changes:
            return
        changes = dict(conformed.changes)
        call.observer(RequestConformed(target=target, changes=changes, call_id=call.id, turn_id=call.turn_id))
        for tool, why in conformed.left_out.items():
            self._note("tool left out", {"tool": tool, "reason": why, "target": target}, call)

    def _note(self, what: str, details: dict[str, Any], call: Call) -> None:
        call.observer(Noted(component="llm", what=what, details=details, call_id=call.id, turn_id=call.turn_id))

    async def _ask(self, conformed: Conformed, body: bytes, model: str, call: Call) -> ChatResponse:
        """Make one attempt and record it."""
        target = f"{self.name}/{model}"
        call.observer(self._started(target, conformed.request, call))
        try:
            with record_attempt(call.log, target) as attempt, _bare_cancellation():
                response = await self._attempt(conformed, body, model, call, attempt)
                note_response(attempt, response)
        except ProviderError as exc:
            exc.provider, exc.model = exc.provider or self.name, exc.model or model
            exc.attempts = exc.attempts or call.log.records
            raise
        finally:
            # Nothing has run since the record was added, so it is the last one.
            call.observer(AttemptEnded(record=call.log.records[-1], call_id=call.id, turn_id=call.turn_id))
        # The record that was just added has the times of the attempt.
        records = call.log.records
        return replaced(conformed.restored(response), latency=records[-1].latency, attempts=records, origin=target)

    def _started(self, target: str, request: ChatRequest, call: Call) -> AttemptStarted:
        host, port = self._server
        return AttemptStarted(
            target=target,
            options=request_options(request),
            server_address=host,
            server_port=port,
            call_id=call.id,
            turn_id=call.turn_id,
        )

    async def list_models(self) -> tuple[str, ...]:
        """Return the names of the models that the provider lists. Sends one GET request, which is free of charge.

        Raises:
          ProviderError: the provider was not reached, refuses the key, or has no such list.
          AddressRefused: the address policy forbids the server's address.
          trio.ClosedResourceError: the provider was closed.

        Cancellation: the connection is closed.
        """
        key = await self._key()
        with _bare_cancellation():
            async with self._http.request("GET", self._dialect.listing, headers=self._dialect.headers(key)) as response:
                accepted = 200 <= response.status < 300
                body = await (response.read(limit=_MAX_LIST) if accepted else response.read_refusal(limit=MAX_ERROR))
                secrets = (key, *response.secrets)
        if not accepted:
            raise self._failures.of_response(
                status=response.status,
                headers=response.headers,
                body=body,
                secret=secrets,
                request=f"GET {response.url}",
            )
        try:
            return tuple(model.id for model in _listing.decode(body).data)
        except NOT_JSON as exc:
            raise InvalidResponse(
                f"no list of models: {redact(str(exc), secrets)}", provider=self.name, status=response.status
            ) from exc

    async def _key(self) -> str:
        given = self._api_key() if callable(self._api_key) else self._api_key
        return self._checked(await given if inspect.isawaitable(given) else given)

    async def _attempt(
        self, conformed: Conformed, body: bytes, model: str, call: Call, attempt: AttemptInProgress
    ) -> ChatResponse:
        request = conformed.request
        call.pulse("waiting", 0.0)
        clocks = self._model_clocks.get(model, self._clocks)
        quiet = _quiet_before_headers(clocks, streamed=request.stream)
        attempt.on_admission = partial(call.pulse, "admitted", quiet)
        key = await self._key()
        path = self._dialect.path(model)
        headers = {"content-type": "application/json", **self._dialect.headers(key)}
        if self._sign is not None:
            signed = self._sign("POST", self._http.address(path), body)
            headers |= await signed if inspect.isawaitable(signed) else signed
        reading = self._dialect.reading(request, model)
        until_headers = clocks if request.stream else attrs.evolve(clocks, first_byte=clocks.unstreamed)
        async with self._http.request(
            "POST", path, content=body, headers=headers, clocks=until_headers, attempt=attempt
        ) as response:
            secrets = (key, *response.secrets)
            answer = HttpAnswer(
                provider=self.name,
                failures=self._failures,
                clocks=clocks,
                max_answer=self._max_answer,
                response=response,
                reading=reading,
                call=call,
                attempt=attempt,
                model=model,
                request=request,
                secrets=secrets,
                conformed=conformed,
            )
            if call.limits is not unobserved:
                call.limits(rate_limits(response.headers, self._failures.now))
            if quiet and response.content_type == "text/event-stream":
                # From here on the events of the answer show its progress.
                call.pulse("alive", 0.0)
            return await answer.read()

    def _checked(self, key: str | None) -> str:
        if key is None:
            return ""
        key = key.strip()
        problem = _problem_of(key)
        if problem:
            advice = f"; set {self._key_variable}" if self._key_variable else ""
            raise NotConfigured(f"{problem} for provider {self.name!r}{advice}")
        return key


def _media_size(request: ChatRequest) -> int:
    """Return the number of bytes of all images and files of *request*."""
    parts = (part for message in request.messages for part in message.content)
    return sum(len(part.data) for part in parts if isinstance(part, Image | File))


def _problem_of(key: str) -> str:
    """Return what is wrong with an API key; empty when nothing is. No key of a vendor has quotes or blanks."""
    if not key:
        return "there is no API key"
    if not (key.isascii() and key.isprintable()):
        return "the API key holds what no header may"
    if key.lower().startswith("bearer "):
        return "the API key must be given without 'Bearer'"
    return "the API key has quotes or blanks in it" if any(char in key for char in " \"'`") else ""


def _quiet_before_headers(clocks: Clocks, *, streamed: bool) -> float:
    """Return the seconds of silence after admission that are normal with these *clocks*."""
    if not streamed:
        return math.inf
    # `first_byte` is longer than the default for servers that load a model first.
    first_byte = clocks.first_byte
    return first_byte if first_byte is not None and first_byte > _USUAL_FIRST_BYTE else 0.0


class _Model(msgspec.Struct):
    """One model in a list of models; the same in all dialects."""

    id: str


class _Listing(msgspec.Struct):
    data: list[_Model]


_listing = msgspec.json.Decoder(_Listing)


@contextmanager
def _bare_cancellation() -> Iterator[None]:
    # trio opens the connection inside a nursery; a cancellation there is raised as an exception group.
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(trio.Cancelled)[1] is None:
            raise_one(group)
        raise
