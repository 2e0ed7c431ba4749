"""Both providers against a real server on loopback: what fails, there or here."""

from functools import partial

import pytest
import trio
from llm.asking import BOTH_WAYS, DIALECTS, KEY, PROVIDERS, Seen, asking, provider

from clawft_trio import errors as e
from clawft_trio.chat import Call
from clawft_trio.net import Clocks, response
from clawft_trio.testing import (
    BadJson,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Finish,
    Garbage,
    Hang,
    Page,
    Preamble,
    Raw,
    ResetConnection,
    Say,
    Status,
    Wait,
    open_fault_server,
    refused_url,
)

STATUSES = [
    (400, e.RequestRejected), (401, e.AuthFailed), (402, e.QuotaExhausted), (403, e.AuthFailed), (404, e.ModelNotFound),
    (408, e.ServerError), (413, e.ContextLengthExceeded), (429, e.RateLimited), (500, e.ServerError), (503, e.ServerError),
    (529, e.ServerError),
]  # fmt: skip


@DIALECTS
@BOTH_WAYS
@pytest.mark.parametrize(("status", "kind"), STATUSES)
async def test_a_status_becomes_its_error(dialect, stream, status, kind):
    seen = Seen()
    async with open_fault_server([Status(status, retry_after=7)]) as server, provider(dialect, server) as model:
        with pytest.raises(e.ProviderError) as caught:
            await model.complete(asking(stream), seen.call)
        assert len(server.requests) == 1
    error = caught.value
    assert (type(error), error.status, error.retry_after, error.target) == (kind, status, 7.0, "p/m")
    assert error.request_id == "req_0"
    assert seen.events == []
    assert (seen.record.outcome, seen.record.sent, seen.record.latency.first_content) == ("failed", True, None)


@DIALECTS
@pytest.mark.parametrize(
    "script",
    [
        [Status(503)],
        [Status(429, retry_after=0)],
        [ResetConnection()],
        [Say("one"), BadJson()],
        [ErrorEvent()],
        [EndBody()],
    ],
)
async def test_a_provider_sends_each_request_once(dialect, script):
    async with open_fault_server(script, [Say("Hi"), Finish()]) as server, provider(dialect, server) as model:
        with pytest.raises(e.ProviderError) as caught:
            await model.complete(asking(), Call())
        assert caught.value.retryable
        assert len(server.requests) == 1


@DIALECTS
@pytest.mark.parametrize("before", [[], [Preamble()], [Say("one "), Say("two")]], ids=["first", "preamble", "content"])
async def test_an_error_event_under_status_200_is_typed(dialect, before):
    code = {"openai": "rate_limit_exceeded", "anthropic": "overloaded_error", "responses": "rate_limit_exceeded"}[
        dialect
    ]
    kind = {"openai": e.RateLimited, "anthropic": e.ServerError, "responses": e.RateLimited}[dialect]
    seen = Seen()
    async with open_fault_server([*before, ErrorEvent(code)]) as server, provider(dialect, server) as model:
        with pytest.raises(kind) as caught:
            await model.complete(asking(), seen.call)
    assert (caught.value.code, caught.value.retryable, caught.value.status) == (code, True, None)
    assert caught.value.partial.text == seen.text


@DIALECTS
async def test_a_broken_line_is_an_invalid_response_and_worth_a_retry(dialect):
    seen = Seen()
    async with (
        open_fault_server([Say("one "), BadJson(), Say("two"), Finish()]) as server,
        provider(dialect, server) as model,
    ):
        with pytest.raises(e.InvalidResponse) as caught:
            await model.complete(asking(), seen.call)
    assert caught.value.retryable
    assert caught.value.partial.text == seen.text == "one "


@DIALECTS
async def test_a_cut_document_is_an_invalid_response(dialect):
    async with open_fault_server([Say("one"), EndBody()]) as server, provider(dialect, server) as model:
        with pytest.raises(e.InvalidResponse) as caught:
            await model.complete(asking(stream=False), Call())
        assert caught.value.retryable
        assert caught.value.body.startswith("{")


@DIALECTS
@BOTH_WAYS
@pytest.mark.parametrize("status", [200, 404, 502])
async def test_a_web_page_is_typed_bounded_and_without_the_key(dialect, stream, status):
    page = (f"<html>{KEY} " * 300_000).encode()
    async with open_fault_server([Page(page, status=status)]) as server, provider(dialect, server) as model:
        with pytest.raises(e.ProviderError) as caught:
            await model.complete(asking(stream), Call())
    error = caught.value
    assert type(error) is {200: e.InvalidResponse, 404: e.WrongAddress, 502: e.ServerError}[status]
    assert len(error.body) <= 2048
    assert KEY not in f"{error!s} {error!r} {error.body}"
    assert error.body.startswith("<html>")


@DIALECTS
async def test_an_echoed_key_is_taken_out(dialect):
    async with open_fault_server([Status(401, message=f"Incorrect API key provided: {KEY}")]) as server:
        async with provider(dialect, server) as model:
            with pytest.raises(e.AuthFailed) as caught:
                await model.complete(asking(), Call())
    assert "Incorrect API key" in str(caught.value)
    assert KEY not in f"{caught.value!s} {caught.value!r} {caught.value.body}"
    assert KEY not in repr(model)


@DIALECTS
async def test_an_error_page_that_never_ends_is_not_waited_for(dialect, monkeypatch):
    monkeypatch.setattr(response, "_REFUSAL", 0.05)
    raw = b"HTTP/1.1 503 no\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nabc"

    async def serve(stream):
        await stream.receive_some()
        await stream.send_all(raw)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        async with PROVIDERS[dialect]("p", base_url=f"http://127.0.0.1:{port}", api_key=KEY, model="m") as model:
            with trio.fail_after(5), pytest.raises(e.ServerError) as caught:
                await model.complete(asking(), Call())
        nursery.cancel_scope.cancel(reason="test over")
    assert caught.value.status == 503


@DIALECTS
async def test_a_refused_connection_is_a_transport_failure(dialect):
    seen = Seen()
    with refused_url() as url:
        async with PROVIDERS[dialect]("p", base_url=url, api_key=KEY, model="m") as model:
            with pytest.raises(e.TransportFailed) as caught:
                await model.complete(asking(), seen.call)
    assert caught.value.retryable
    assert caught.value.target == "p/m"
    assert seen.record.sent is False


@DIALECTS
@pytest.mark.parametrize("script", [[ResetConnection()], [CloseConnection()], [Garbage(b"\x00\x01 not http\r\n\r\n")]])
async def test_what_breaks_before_the_headers_is_a_transport_failure(dialect, script):
    async with open_fault_server(script) as server, provider(dialect, server) as model:
        with pytest.raises(e.TransportFailed):
            await model.complete(asking(), Call())


@DIALECTS
async def test_a_silent_server_runs_into_the_first_byte_clock(dialect):
    async with (
        open_fault_server([Hang()]) as server,
        provider(dialect, server, clocks=Clocks(first_byte=0.05)) as model,
    ):
        with pytest.raises(e.ProviderTimeout) as caught:
            await model.complete(asking(), Call())
        assert (caught.value.clock, caught.value.target) == ("first_byte", "p/m")


@DIALECTS
async def test_an_answer_that_is_not_streamed_has_a_separate_clock(dialect):
    script = [Wait(0.2), Say("Hi"), Finish()]
    async with open_fault_server(script) as server, provider(dialect, server, clocks=Clocks(first_byte=0.05)) as model:
        assert (await model.complete(asking(stream=False), Call())).text == "Hi"
    async with open_fault_server(script) as server, provider(dialect, server, clocks=Clocks(unstreamed=0.05)) as model:
        with pytest.raises(e.ProviderTimeout):
            await model.complete(asking(stream=False), Call())


@DIALECTS
async def test_an_endless_event_is_refused_in_time(dialect):
    script = [Raw(b"data: " + b"x" * 1024 * 1024) for _ in range(10)]
    async with open_fault_server([*script, Finish()]) as server, provider(dialect, server) as model:
        with pytest.raises(e.EventTooLarge) as caught:
            await model.complete(asking(), Call())
    assert caught.value.target == "p/m"
    assert not caught.value.retryable


@DIALECTS
async def test_a_closed_provider_refuses(dialect):
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        async with provider(dialect, server) as model:
            await model.complete(asking(), Call())
        with pytest.raises(trio.ClosedResourceError):
            await model.complete(asking(), Call())
        await server.wait_for(lambda now: now.connections_open == 0)


@DIALECTS
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_key_may_be_asked_for_at_every_call(dialect, asynchronous):
    keys = iter(["first", "second\n"])

    async def later():
        await trio.lowlevel.checkpoint()
        return next(keys)

    async with open_fault_server([Say("Hi"), Finish()]) as server:
        given = later if asynchronous else (lambda: next(keys))
        async with PROVIDERS[dialect]("p", base_url=server.url, api_key=given, model="m") as model:
            await model.complete(asking(), Call())
            await model.complete(asking(), Call())
        name = {"openai": "authorization", "anthropic": "x-api-key", "responses": "authorization"}[dialect]
        assert [request.headers[name].removeprefix("Bearer ") for request in server.requests] == ["first", "second"]


@DIALECTS
@pytest.mark.parametrize(
    "key", ["", "  ", "sk\nx: y", "schlüssel", '"sk-1"', "'sk-1'", "Bearer sk-1", "<your key>", "sk-1 # mine"]
)
async def test_a_key_that_is_none_is_named_before_anything_is_sent(dialect, key):
    seen = Seen()
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        async with PROVIDERS[dialect]("p", base_url=server.url, api_key=key, model="m", key_variable="MY_KEY") as model:
            with pytest.raises(e.NotConfigured, match="MY_KEY") as caught:
                await model.complete(asking(), seen.call)
        assert server.requests == []
    assert (seen.record.outcome, seen.record.sent) == ("failed", False)
    if key.strip():
        assert key not in str(caught.value)


@DIALECTS
async def test_no_model_is_named_before_anything_is_sent(dialect):
    async with open_fault_server([Say("Hi"), Finish()]) as server:
        async with PROVIDERS[dialect]("p", base_url=server.url, api_key=KEY) as model:
            with pytest.raises(e.NotConfigured, match="no model"):
                await model.complete(asking(), Call())
        assert server.requests == []


@DIALECTS
async def test_retryable_statuses_can_be_chosen(dialect):
    async with (
        open_fault_server(
            [Status(404)],
        ) as server,
        provider(dialect, server, retryable_statuses={404}) as model,
    ):
        with pytest.raises(e.ModelNotFound) as caught:
            await model.complete(asking(), Call())
        assert caught.value.retryable
