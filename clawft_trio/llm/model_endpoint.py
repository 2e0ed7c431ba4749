"""One attempt at one model over HTTP: the part common to all dialects."""

from __future__ import annotations

import inspect
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, TypedDict
from urllib.parse import urlsplit

import attrs
import msgspec
import trio

from clawft_trio.attempts import AttemptInProgress, record_attempt
from clawft_trio.chat import (
    CALLS_MAY_RUN,
    CONTENT,
    Call,
    ChatRequest,
    ChatResponse,
    StreamEvent,
    UsageReport,
    unobserved,
)
from clawft_trio.codec import encode_json
from clawft_trio.errors import (
    AnswerTooLarge,
    EmptyAnswer,
    InvalidResponse,
    NotConfigured,
    ProviderError,
    RequestRejected,
    StreamTruncated,
    TransportFailed,
)
from clawft_trio.llm.conform import Conformed, Conformer, Rules, VendorRules
from clawft_trio.llm.failures import Failures, request_id
from clawft_trio.llm.life_signs import LifeSigns
from clawft_trio.llm.refused_options import MOST_REFUSALS, SCHEMAS, RefusedOptions, refused_parameter
from clawft_trio.llm.response_builder import MAX_ANSWER, ResponseReader, closing_events
from clawft_trio.llm.secrets import redact
from clawft_trio.net.addresses import AddressPolicy
from clawft_trio.net.http import Clocks, HttpClient, HttpEndpoint, Library
from clawft_trio.net.response import HttpResponse
from clawft_trio.nursery import raise_one
from clawft_trio.observe.events import AttemptEnded, AttemptStarted, Noted, RequestConformed
from clawft_trio.observe.recorded import note_response, request_options
from clawft_trio.retry_hints import rate_limits

Sign: TypeAlias = Callable[[str, str, bytes], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Signs a request: gets its method, URL and body, and returns headers that override all others."""

ApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""A key, a callable that returns the current one, or None where none is needed."""

# Most bytes read of an error page (more than any real error object has) and of a list of models.
_MAX_ERROR = 64 * 1024
_MAX_LIST = 32 * 1024 * 1024

# What may stand before a JSON document or an event stream: blanks that keep a connection alive, and a byte order mark.
_BLANK = b" \t\r\n\xef\xbb\xbf"

# First bytes of an event stream: of `data`, `event`, `error`, `id`, `retry` and a comment; or there is none.
_STREAM = frozenset({b"d", b"e", b"i", b"r", b":", b""})

# Seconds for the body of an error status; the status alone mostly decides the error.
_ERROR_PAGE = 5.0

_USUAL_FIRST_BYTE = Clocks().first_byte or math.inf

# Seconds. After the last event of its protocol a server ends the body at once or not at all; only an ended body leaves
# the connection for the next call.
_DRAIN = 0.05


_NOTHING: Mapping[str, Clocks] = MappingProxyType({})


class HttpOptions(TypedDict, total=False):
    """Options of the connection to a provider, documented at `HttpEndpoint`."""

    connections: int
    max_queue: int | None
    clocks: Clocks
    keep_alive: float
    verify: bool | ssl.SSLContext
    proxy: str | None
    trust_env: bool
    policy: AddressPolicy | None
    library: Library
    client: HttpClient | None


class Dialect(Protocol):
    """The requests and responses of a family of servers."""

    @property
    def vendor(self) -> VendorRules:
        """What the server's models accept."""
        ...

    def path(self, model: str) -> str:
        """The path of a request to *model*, below the base URL."""
        ...

    @property
    def listing(self) -> str:
        """The path at which the models are listed."""
        ...

    def headers(self, key: str) -> Mapping[str, str]:
        """The headers of a request; *key* may be empty."""
        ...

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        """The body of a request that *rules* accept, ready for JSON."""
        ...

    def reading(self, request: ChatRequest, model: str) -> ResponseReader:
        """The reader of the answer."""
        ...


@attrs.frozen(kw_only=True)
class ModelEndpoint:
    """Sends one request per call to one provider; it never retries."""

    name: str
    http: HttpEndpoint
    dialect: Dialect
    failures: Failures
    model: str = ""
    api_key: ApiKey = attrs.field(default=None, repr=False)
    #: the environment variable that an error about a missing key names
    key_variable: str = ""
    #: the clocks of the endpoint
    clocks: Clocks = Clocks()
    #: by model, where they differ
    model_clocks: Mapping[str, Clocks] = _NOTHING
    #: characters that an answer may have; of one that is not streamed, bytes of its body
    max_answer: int = attrs.field(default=MAX_ANSWER, validator=attrs.validators.ge(1))
    sign: Sign | None = attrs.field(default=None, repr=False)
    conformer: Conformer = attrs.field(init=False, repr=False)
    refused: RefusedOptions = attrs.field(factory=RefusedOptions, init=False, repr=False)

    @conformer.default
    def _of_the_vendor(self) -> Conformer:
        return Conformer(self.dialect.vendor)

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request*, add the record of the attempt to `call.log` and report it to `call.observer`.

        When a 400 names an optional parameter, the model's later requests are sent without it, and this one is sent
        once more; for at most `MOST_REFUSALS` parameters in one call.

        Raises:
          ProviderError: there is no answer, or no evidence that it is whole.

        Cancellation: the connection is closed.
        """
        model = request.model or self.model
        if not model:
            raise NotConfigured(f"no model: neither the request nor the provider {self.name!r} names one")
        target = f"{self.name}/{model}"
        conformed, body = self._prepared(request, model)
        if all(record.target != target for record in call.log.records):
            self._report(conformed, target, call)
        for left in reversed(range(MOST_REFUSALS + 1)):
            try:
                return await self._ask(conformed, body, model, call)
            except RequestRejected as exc:
                parameter = refused_parameter(exc.body)
                if not left or exc.status not in {400, 422} or not self.refused.learn(model, parameter, body):
                    raise
            details = {"target": target, "parameter": parameter}
            self._note("parameter refused", details, call)
            conformed, body = self._prepared(request, model)
        raise AssertionError("not reached")

    def _prepared(self, request: ChatRequest, model: str) -> tuple[Conformed, Mapping[str, Any]]:
        """*request* as *model* accepts it, and the body that says it, without what the model has refused."""
        rules, refused = self.conformer.rules(model), self.refused.of(model)
        if request.response_schema is not None and not refused.isdisjoint(SCHEMAS):
            rules = attrs.evolve(rules, refuses=rules.refuses | {"response_schema"})
        conformed = self.conformer.conform(request, rules, origin=f"{self.name}/{model}")
        return conformed, self.refused.without(model, self.dialect.body(conformed.request, model, rules))

    def _report(self, conformed: Conformed, target: str, call: Call) -> None:
        """Report to observers what was changed, and each tool that is left out."""
        if not conformed.changes:
            return
        changes = dict(conformed.changes)
        call.observer(RequestConformed(target=target, changes=changes, call_id=call.id, turn_id=call.turn_id))
        for tool, why in conformed.left_out.items():
            self._note("tool left out", {"tool": tool, "reason": why, "target": target}, call)

    def _note(self, what: str, details: dict[str, Any], call: Call) -> None:
        call.observer(Noted(room="llm", what=what, details=details, call_id=call.id, turn_id=call.turn_id))

    async def _ask(self, conformed: Conformed, body: Mapping[str, Any], model: str, call: Call) -> ChatResponse:
        """One attempt with its record."""
        target = f"{self.name}/{model}"
        call.observer(self._started(target, conformed.request, call))
        try:
            with record_attempt(call.log, target) as attempt, _bare_cancellation():
                response = await self._attempt(conformed, encode_json(body), model, call, attempt)
                note_response(attempt, response)
        except ProviderError as exc:
            exc.provider, exc.model = exc.provider or self.name, exc.model or model
            exc.attempts = exc.attempts or call.log.records
            raise
        finally:
            # Nothing has run since the record was made: it is the last one.
            call.observer(AttemptEnded(record=call.log.records[-1], call_id=call.id, turn_id=call.turn_id))
        # The record that was just made has the times of the attempt.
        records = call.log.records
        return attrs.evolve(conformed.restored(response), latency=records[-1].latency, attempts=records, origin=target)

    def _started(self, target: str, request: ChatRequest, call: Call) -> AttemptStarted:
        address = urlsplit(self.http.address(""))
        return AttemptStarted(
            target=target,
            options=request_options(request),
            server_address=address.hostname or "",
            server_port=address.port or {"http": 80, "https": 443}.get(address.scheme),
            call_id=call.id,
            turn_id=call.turn_id,
        )

    async def list_models(self) -> tuple[str, ...]:
        """The models that the provider lists.

        Raises:
          ProviderError: there is no such list.

        Cancellation: the connection is closed.
        """
        key = await self._key()
        with _bare_cancellation():
            async with self.http.request("GET", self.dialect.listing, headers=self.dialect.headers(key)) as response:
                body = await response.read(limit=_MAX_LIST)
                secrets = (key, *response.secrets)
        if not 200 <= response.status < 300:
            raise self.failures.of_response(
                status=response.status,
                headers=response.headers,
                body=body[:_MAX_ERROR],
                secret=secrets,
                request=f"GET {response.url}",
            )
        try:
            return tuple(model.id for model in _listing.decode(body).data)
        except msgspec.DecodeError as exc:
            raise InvalidResponse(
                f"no list of models: {redact(str(exc), secrets)}", provider=self.name, status=response.status
            ) from exc

    async def _key(self) -> str:
        given = self.api_key() if callable(self.api_key) else self.api_key
        return self._checked(await given if inspect.isawaitable(given) else given)

    async def _attempt(
        self, conformed: Conformed, body: bytes, model: str, call: Call, attempt: AttemptInProgress
    ) -> ChatResponse:
        request = conformed.request
        call.pulse("waiting", 0.0)
        clocks = self.model_clocks.get(model, self.clocks)
        quiet = _quiet_before_headers(clocks, streamed=request.stream)
        attempt.on_admission = partial(call.pulse, "admitted", quiet)
        key = await self._key()
        path = self.dialect.path(model)
        headers = {"content-type": "application/json", **self.dialect.headers(key)}
        if self.sign is not None:
            signed = self.sign("POST", self.http.address(path), body)
            headers |= await signed if inspect.isawaitable(signed) else signed
        reading = self.dialect.reading(request, model)
        until_headers = clocks if request.stream else attrs.evolve(clocks, first_byte=clocks.unstreamed)
        async with self.http.request(
            "POST", path, content=body, headers=headers, clocks=until_headers, attempt=attempt
        ) as response:
            secrets = (key, *response.secrets)
            exchange = _Exchange(self, response, reading, call, attempt, model, request, secrets, conformed)
            if call.limits is not unobserved:
                call.limits(rate_limits(response.headers, self.failures.now))
            if quiet and response.content_type == "text/event-stream":
                # From here on the events of the answer show its progress.
                call.pulse("alive", 0.0)
            return await exchange.read()

    def _checked(self, key: str | None) -> str:
        if key is None:
            return ""
        key = key.strip()
        if not key or not (key.isascii() and key.isprintable()):
            advice = f"; set {self.key_variable}" if self.key_variable else ""
            what = "the API key holds what no header may" if key else "there is no API key"
            raise NotConfigured(f"{what} for provider {self.name!r}{advice}")
        return key


def _quiet_before_headers(clocks: Clocks, *, streamed: bool) -> float:
    """Seconds of silence after admission that are normal with these *clocks*."""
    if not streamed:
        return math.inf
    # A longer clock than the usual one is set for servers that load a model first.
    first_byte = clocks.first_byte
    return first_byte if first_byte is not None and first_byte > _USUAL_FIRST_BYTE else 0.0


class _Model(msgspec.Struct):
    """One model of a listing, the same in all dialects."""

    id: str


class _Listing(msgspec.Struct):
    data: list[_Model]


_listing = msgspec.json.Decoder(_Listing)


@contextmanager
def _bare_cancellation() -> Iterator[None]:
    # trio connects in a nursery of its own; a cancellation there is raised as a group.
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(trio.Cancelled)[1] is None:
            raise_one(group)
        raise


@attrs.define
class _Exchange:
    """One response being read."""

    endpoint: ModelEndpoint
    response: HttpResponse
    reading: ResponseReader
    call: Call
    attempt: AttemptInProgress
    model: str
    request: ChatRequest = attrs.field(repr=False)
    secrets: tuple[str, ...] = attrs.field(repr=False)
    conformed: Conformed

    @property
    def clocks(self) -> Clocks:
        return self.endpoint.model_clocks.get(self.model, self.endpoint.clocks)

    async def read(self) -> ChatResponse:
        if not 200 <= self.response.status < 300:
            raise self.endpoint.failures.of_response(
                status=self.response.status,
                headers=self.response.headers,
                body=await self._page(),
                model=self.model,
                secret=self.secrets,
                request=f"POST {self.response.url}",
            )
        try:
            await self._receive()
        except ProviderError as exc:
            exc.partial = exc.partial or self.reading.answer.partial()
            raise
        finally:
            self._report_usage_problem()
        return await self._conclude()

    def _report_usage_problem(self) -> None:
        """Report to observers what is wrong with the reported usage."""
        problem = self.reading.answer.usage_problem
        if problem:
            name = self.endpoint.name
            counted = "does not add up" if self.reading.answer.usage else "is refused, and the answer is estimated"
            details = {"provider": name, "model": self.model, "problem": problem}
            self.endpoint._note(f"the usage that {name} reports {counted}", details, self.call)

    async def _receive(self) -> None:
        if self.response.content_type == "text/html":
            raise self._invalid("the answer is a web page", body=await self._page())
        # The server may ignore the `stream` option and send a wrong content type: the first byte decides.
        chunks = aiter(self.response.chunks())
        # In a list, so that the reading below can take it and no frame keeps it for the length of the stream.
        begun = [await self._beginning(chunks)]
        first = begun[0].lstrip(_BLANK)[:1]
        labelled = self.response.content_type == "text/event-stream"
        if first in (b"{", b"[") or (first not in _STREAM and not labelled):
            await self._read_whole(begun.pop(), chunks)
        else:
            await self._stream(begun, chunks)

    async def _beginning(self, chunks: AsyncIterator[bytes]) -> bytes:
        """The body up to the chunk with its first byte that is not blank."""
        begun = b""
        async for data in chunks:
            begun += data
            if begun.lstrip(_BLANK) or len(begun) > _MAX_ERROR:
                break
        return begun

    async def _read_whole(self, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        limit = self.endpoint.max_answer
        body = bytearray(head)
        async for data in chunks:
            body += data
            if len(body) > limit:
                break
        if len(body) > limit:
            raise AnswerTooLarge(limit=limit, partial=self.reading.answer.partial())
        whole = bytes(body).lstrip(_BLANK)
        await self._show(self.reading.feed_whole(whole))
        if self.reading.violation:
            raise self._invalid(self.reading.violation, body=whole[:_MAX_ERROR])

    async def _page(self) -> bytes:
        with trio.move_on_after(_ERROR_PAGE), suppress(TransportFailed):
            return await self.response.read(limit=_MAX_ERROR, cut=True)
        return b""

    async def _stream(self, begun: list[bytes], chunks: AsyncIterator[bytes]) -> None:
        reading, limit, signs = self.reading, self.endpoint.max_answer, LifeSigns()
        data: bytes | None = begun.pop()
        while data is not None:
            events = reading.feed(data)
            if events:
                await self._show(events)
            elif sign := signs.of(data):
                self.call.pulse(sign, self.clocks.thinking or math.inf)
            if reading.answer.size > limit:
                raise AnswerTooLarge(limit=limit)
            if reading.finished or reading.ended:
                break
            data = await anext(chunks, None)
        else:
            await self._show(reading.feed_end())
        if reading.finished:
            await self._linger(chunks)

    async def _late_events(self, chunks: AsyncIterator[bytes], limit: float) -> list[StreamEvent] | None:
        """What comes within *limit* seconds; None at the end, and when it takes longer."""
        # The answer is complete: a failure now loses its usage at most.
        with suppress(ProviderError), trio.move_on_after(limit):
            data = await anext(chunks, None)
            if data is not None:
                return [] if self.reading.ended else self.reading.feed(data)
        return None

    async def _linger(self, chunks: AsyncIterator[bytes]) -> None:
        # Only the wait for the server counts, not the time that the consumer takes.
        left = self.clocks.linger
        while left > 0:
            left = min(left, _DRAIN) if self.reading.ended else left
            started = trio.current_time()
            events = await self._late_events(chunks, left)
            if events is None:
                return
            left -= trio.current_time() - started
            if any(isinstance(event, CONTENT) for event in events):
                # The finish reason came too early (some servers send it with every chunk): more may follow.
                left = self.clocks.linger
            await self._show(events)

    # Without a checkpoint of its own: the read before it was one.
    async def _show(self, events: list[StreamEvent]) -> None:
        answer, attempt = self.reading.answer, self.attempt
        if answer.usage is not attempt.usage:
            attempt.usage = answer.usage
            attempt.certainty = None if answer.usage is None else "at_least"
        if attempt.first_content is None and any(type(event) is not UsageReport for event in events):
            attempt.first_content = trio.current_time()
        if self.conformed.restores:
            events = list(map(self.conformed.restored_event, events))
        emit = self.call.emit
        for event in events:
            await emit(event)

    async def _conclude(self) -> ChatResponse:
        reading, answer = self.reading, self.reading.answer
        if reading.error is not None:
            raise self.endpoint.failures.of_event(
                reading.error,
                headers=self.response.headers,
                model=self.model,
                secret=self.secrets,
                partial=answer.partial(),
            )
        if reading.violation:
            raise self._invalid(reading.violation)
        if not reading.finished or answer.finish_reason is None:
            raise StreamTruncated(
                "the stream ended without its terminal mark",
                status=self.response.status,
                request_id=request_id(self.response.headers),
                partial=answer.partial(),
            )
        if self.attempt.usage is not None:
            self.attempt.certainty = "estimated" if answer.usage_problem else "exact"
        response = answer.whole(answer.finish_reason)
        if response.finish_reason in CALLS_MAY_RUN and not all(call.name for call in response.tool_calls):
            raise self._invalid("a tool call has no name")
        if response.is_empty and not self.request.allow_empty:
            raise EmptyAnswer(
                "the answer has no text and no tool call",
                status=self.response.status,
                request_id=request_id(self.response.headers),
                partial=response,
            )
        await self._show([*answer.calls.late_fragments(), *closing_events(response)])
        return response

    def _invalid(self, how: str, *, body: bytes = b"") -> InvalidResponse:
        return InvalidResponse(
            redact(how, self.secrets),
            status=self.response.status,
            request_id=request_id(self.response.headers),
            body=redact(body.decode(errors="replace"), self.secrets),
            partial=self.reading.answer.partial(),
        )
