"""Both providers against a real server on loopback that breaks on purpose."""

import gc
import json
import tracemalloc
from contextlib import suppress
from functools import partial

import pytest
import trio
from llm.spoken import DONE, chunk, spoken

from clawft_trio import errors as e
from clawft_trio.attempts import AttemptLog, Usage
from clawft_trio.chat import Call, ChatRequest, Message, TextDelta, ToolCallDelta, ToolCallReady, ToolSpec, UsageReport
from clawft_trio.errors import ConsumerLeft
from clawft_trio.llm import Anthropic, OpenAICompatible, Quirks, exchange
from clawft_trio.net import Clocks
from clawft_trio.observe import AttemptEnded, AttemptStarted
from clawft_trio.testing import (
    BadJson,
    BadUtf8,
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Finish,
    Garbage,
    Hang,
    InPieces,
    Page,
    Pings,
    Preamble,
    Raw,
    Report,
    ResetConnection,
    Say,
    SendHeaders,
    Status,
    Think,
    Wait,
    cancel_everywhere,
    open_fault_server,
    refused_url,
    say,
)
from clawft_trio.testing.leaks import nothing_left

KEY = "sk-secret-0123456789"
PROVIDERS = {"openai": OpenAICompatible, "anthropic": Anthropic}
DIALECTS = pytest.mark.parametrize("dialect", list(PROVIDERS))
BOTH_WAYS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])


def provider(dialect, server, **options):
    return PROVIDERS[dialect]("p", base_url=server.url, api_key=KEY, model="m", **options)


def asking(stream=True, **more):
    return ChatRequest([Message.user("Hi")], stream=stream, **more)


class Seen:
    """A consumer that keeps what it is shown, and the log of the call."""

    def __init__(self):
        self.events = []
        self.log = AttemptLog()

    async def emit(self, event):
        self.events.append(event)

    @property
    def call(self):
        return Call(emit=self.emit, log=self.log)

    @property
    def text(self):
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def record(self):
        (record,) = self.log.records
        return record


# --- answers ------------------------------------------------------------------------------------------


@DIALECTS
@BOTH_WAYS
async def test_an_answer_comes_through_with_its_record(dialect, stream):
    usage = Usage(input_tokens=30, output_tokens=4, cached_tokens=5)
    script = [Think("hm"), *say("one two three"), CallTool("read", {"path": "a"}), Finish(usage=usage)]
    seen = Seen()
    async with open_fault_server(script) as server, provider(dialect, server) as model:
        response = await model.complete(asking(stream), seen.call)
    assert (response.text, response.reasoning) == ("one two three ", "hm")
    assert (response.provider, response.model, response.finish_reason) == ("p", "m", "tool_calls")
    assert response.usage == usage
    assert seen.text == response.text
    assert [event.call for event in seen.events if isinstance(event, ToolCallReady)] == list(response.tool_calls)
    assert response.attempts == seen.log.records
    record = seen.record
    assert (record.target, record.outcome, record.usage, record.certainty, record.sent) == (
        "p/m",
        "ok",
        usage,
        "exact",
        True,
    )
    assert 0 < record.latency.first_byte <= record.latency.first_content <= record.latency.total
    assert response.latency.first_content == record.latency.first_content


@DIALECTS
async def test_every_read_may_be_cut_anywhere(dialect):
    script = [InPieces((1, 2, 3, 7)), *say("zwölf Bären 🐻 tanzen"), CallTool("read", {"p": "ß"}), Finish()]
    seen = Seen()
    async with open_fault_server(script) as server, provider(dialect, server) as model:
        response = await model.complete(asking(), seen.call)
    assert response.text == seen.text == "zwölf Bären 🐻 tanzen "
    assert json.loads(response.tool_calls[0].arguments) == {"p": "ß"}


@DIALECTS
async def test_bytes_that_are_not_utf_8_cost_only_themselves(dialect):
    async with (
        open_fault_server([Say("a "), BadUtf8(b"caf\xe9"), Finish()]) as server,
        provider(dialect, server) as model,
    ):
        assert (await model.complete(asking(), Call())).text == "a caf\N{REPLACEMENT CHARACTER}"


@DIALECTS
async def test_what_a_server_makes_of_the_wish_to_stream_is_its_own_affair(dialect):
    """A JSON document for who asked for a stream, a stream for who did not."""
    async with open_fault_server([Say("Hi"), Finish()]) as server, provider(dialect, server) as model:
        whole = await model.complete(asking(extra={"stream": False}), Call())
        streamed = await model.complete(asking(stream=False, extra={"stream": True}), Call())
    assert whole.text == streamed.text == "Hi"


async def test_a_stream_under_the_wrong_name_is_read():
    async with open_fault_server([Page(chunk_bytes("Hi"), content_type="application/octet-stream")]) as server:
        async with provider("openai", server) as model:
            assert (await model.complete(asking(), Call())).text == "Hi"


def chunk_bytes(text):
    return chunk({"content": text}) + chunk({}, "stop") + DONE


@DIALECTS
async def test_the_connection_is_kept_for_the_next_call(dialect):
    async with open_fault_server([Say("Hi"), Finish()]) as server, provider(dialect, server) as model:
        for stream in (True, False, True):
            await model.complete(asking(stream), Call())
        assert (model.statistics().requests, model.statistics().idle) == (3, 1)
        assert server.statistics().connections_accepted == 1


@DIALECTS
async def test_the_model_of_the_request_comes_first(dialect):
    async with open_fault_server([Say("Hi"), Finish()]) as server, provider(dialect, server) as model:
        seen = Seen()
        await model.complete(asking(model="other"), seen.call)
        assert server.requests[0].model == "other"
        assert seen.record.target == "p/other"


@DIALECTS
@pytest.mark.parametrize("script", [[Say("Hi"), Finish()], [Status(500)]])
async def test_an_observer_is_told_of_each_attempt(dialect, script):
    told = []
    log = AttemptLog()
    async with open_fault_server(script) as server, provider(dialect, server) as model:
        with suppress(e.ServerError):
            await model.complete(asking(), Call(log=log, notify=told.append, id="c", turn_id="t"))
    started, ended = told
    assert (type(started), started.target, started.call_id, started.turn_id) == (AttemptStarted, "p/m", "c", "t")
    assert (type(ended), ended.record, ended.call_id, ended.turn_id) == (AttemptEnded, log.records[0], "c", "t")


# --- the end of a stream -----------------------------------------------------------------------------

TRUNCATIONS = {
    "nothing at all": [EndBody()],
    "preamble only": [Preamble(), EndBody()],
    "clean end": [*say("one two"), EndBody()],
    "clean end, usage told": [*say("one two"), Report(Usage(input_tokens=3, output_tokens=2)), EndBody()],
    "cut inside arguments": [Say("a"), CallTool("rm", '{"path": "/tmp'), EndBody()],
    "cut behind whole arguments": [CallTool("rm", {"path": "/tmp"}), EndBody()],
}


@DIALECTS
@pytest.mark.parametrize("name", TRUNCATIONS)
async def test_a_truncated_stream_is_never_a_success(dialect, name):
    seen = Seen()
    async with open_fault_server(TRUNCATIONS[name]) as server, provider(dialect, server) as model:
        with pytest.raises(e.StreamTruncated) as caught:
            await model.complete(asking(), seen.call)
    error = caught.value
    assert (error.retryable, error.curable_elsewhere, error.blames_target) == (True, True, True)
    assert error.partial.text == seen.text
    assert error.partial.finish_reason == "incomplete"
    assert not any(isinstance(event, ToolCallReady) for event in seen.events)
    assert (seen.record.outcome, seen.record.error, error.attempts) == ("failed", error, seen.log.records)
    assert seen.record.certainty in (None, "at_least")
    assert error.request_id


@DIALECTS
@pytest.mark.parametrize("cut", [CloseConnection(), ResetConnection()])
async def test_a_broken_connection_keeps_what_had_come(dialect, cut):
    seen = Seen()
    async with open_fault_server([*say("one two"), CallTool("rm", '{"p'), Wait(0.05), cut]) as server:
        async with provider(dialect, server) as model:
            with pytest.raises(e.TransportFailed) as caught:
                await model.complete(asking(), seen.call)
    assert caught.value.partial.text == seen.text == "one two "
    assert caught.value.partial.tool_calls[0].arguments == '{"p'
    assert caught.value.target == "p/m"


ENDLESS = Raw(b"data: " + b"x" * 9 * 1024 * 1024)


@pytest.mark.parametrize(
    "ending",
    [EndBody(), CloseConnection(), ResetConnection(), Hang(), Pings(0.005), ENDLESS],
    ids=lambda it: type(it).__name__,
)
async def test_a_finish_reason_without_done_is_enough(ending):
    seen = Seen()
    usage = Usage(input_tokens=3, output_tokens=2)
    script = [Say("Hi"), CallTool("now", {}), Finish(usage=usage), ending]
    async with open_fault_server(script) as server, provider("openai", server, linger=0.1) as model:
        with trio.fail_after(5):
            response = await model.complete(asking(), seen.call)
    assert (response.text, response.usage, seen.record.outcome) == ("Hi", usage, "ok")
    assert seen.events[-1] == ToolCallReady(response.tool_calls[0])


async def test_usage_may_come_a_little_later_than_the_finish_reason():
    usage = Usage(input_tokens=3, output_tokens=2)
    script = [Say("Hi"), Finish(), Wait(0.05), Report(usage), Hang()]
    async with open_fault_server(script) as server, provider("openai", server, linger=0.5) as model:
        assert (await model.complete(asking(), Call())).usage == usage


async def test_a_slow_consumer_does_not_shorten_the_wait_for_usage():
    usage = Usage(input_tokens=3, output_tokens=2)

    async def slow(event):
        await trio.sleep(0.3)

    script = [Say("Hi"), Finish(), Say("!"), Wait(0.35), Report(usage), Hang()]
    async with open_fault_server(script) as server, provider("openai", server, linger=0.25) as model:
        assert (await model.complete(asking(), Call(emit=slow))).usage == usage


async def test_anthropics_last_word_is_waited_for_and_then_missed():
    script = [Say("Hi"), Finish(), EndBody()]
    async with open_fault_server(script) as server:
        async with (
            provider("anthropic", server) as strict,
            provider("anthropic", server, ends_with="stop_reason") as lenient,
        ):
            with pytest.raises(e.StreamTruncated):
                await strict.complete(asking(), Call())
            assert (await lenient.complete(asking(), Call())).text == "Hi"


async def test_servers_without_finish_reasons_are_believed_by_exception_only():
    script = [Say("Hi"), Raw(b"data: [DONE]\n\n"), EndBody()]
    async with open_fault_server(script) as server:
        async with (
            provider("openai", server) as strict,
            provider("openai", server, quirks=Quirks(ends_with="done")) as lenient,
        ):
            with pytest.raises(e.StreamTruncated):
                await strict.complete(asking(), Call())
            assert (await lenient.complete(asking(), Call())).finish_reason == "stop"


# --- failures -----------------------------------------------------------------------------------------

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
@pytest.mark.parametrize("before", [[], [Preamble()], [Say("one "), Say("two")]], ids=["first", "preamble", "content"])
async def test_an_error_event_under_status_200_is_typed(dialect, before):
    code = {"openai": "rate_limit_exceeded", "anthropic": "overloaded_error"}[dialect]
    kind = {"openai": e.RateLimited, "anthropic": e.ServerError}[dialect]
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
    assert type(error) is {200: e.InvalidResponse, 404: e.ModelNotFound, 502: e.ServerError}[status]
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
    monkeypatch.setattr(exchange, "_ERROR_PAGE", 0.05)
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
async def test_nobody_there_is_a_transport_failure(dialect):
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
async def test_an_answer_that_is_not_streamed_has_a_clock_of_its_own(dialect):
    script = [Wait(0.2), Say("Hi"), Finish()]
    async with open_fault_server(script) as server, provider(dialect, server, clocks=Clocks(first_byte=0.05)) as model:
        assert (await model.complete(asking(stream=False), Call())).text == "Hi"
    async with open_fault_server(script) as server, provider(dialect, server, unstreamed=0.05) as model:
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


# --- keys and configuration ---------------------------------------------------------------------------


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
        name = {"openai": "authorization", "anthropic": "x-api-key"}[dialect]
        assert [request.headers[name].removeprefix("Bearer ") for request in server.requests] == ["first", "second"]


@DIALECTS
@pytest.mark.parametrize("key", ["", "  ", "sk\nx: y", "schlüssel"])
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


# --- consumers, cancellation, memory ---------------------------------------------------------------------


@DIALECTS
async def test_a_consumer_that_leaves_closes_the_connection_at_once(dialect):
    class Enough(Seen):
        async def emit(self, event):
            await super().emit(event)
            if len(self.text) > 4:
                raise ConsumerLeft

    seen = Enough()
    async with open_fault_server([*say("one two three four"), Hang()]) as server, provider(dialect, server) as model:
        with trio.fail_after(5):
            with pytest.raises(ConsumerLeft):
                await model.complete(asking(), seen.call)
            await server.wait_for(lambda now: now.connections_open == 0)
        assert server.exchanges[0].ending == "client_left"
    assert (seen.record.outcome, seen.record.error, seen.record.sent) == ("aborted", None, True)


@DIALECTS
async def test_a_cancelled_call_is_on_record_with_its_reason(dialect):
    seen = Seen()
    async with open_fault_server([Say("one"), Hang()]) as server, provider(dialect, server) as model:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(model.complete, asking(), seen.call)
            while not seen.text:
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel(reason="the user went away")
        await server.wait_for(lambda now: now.connections_open == 0)
    assert (seen.record.outcome, seen.record.why, seen.record.sent) == ("cancelled", "the user went away", True)
    assert seen.record.latency.first_content is not None


@DIALECTS
@BOTH_WAYS
async def test_cancelled_anywhere_nothing_is_left(dialect, stream):
    script = [Say("one "), CallTool("now", {}), Finish(usage=Usage(input_tokens=3, output_tokens=2))]
    async with open_fault_server(script) as server:
        log = AttemptLog()

        async def ask():
            async with provider(dialect, server) as model:
                await model.complete(asking(stream), Call(log=log))

        await ask()
        left = nothing_left()

        async def check():
            await server.wait_for(lambda now: now.connections_open == 0)
            await left()

        steps = await cancel_everywhere(ask, check)
    assert steps > 10
    assert {record.outcome for record in log.records} == {"ok", "cancelled"}


@DIALECTS
async def test_a_stream_keeps_its_text_and_nothing_for_each_delta(dialect):
    """30 000 deltas of one character: what is held in the end is the text, a few bytes for each."""
    deltas = 30_000
    body = many_deltas(dialect, deltas)
    async with (
        open_fault_server([Page(body, content_type="text/event-stream")]) as server,
        provider(dialect, server) as model,
    ):
        await model.complete(asking(), Call())
        held = []

        async def measure(event):
            if isinstance(event, UsageReport) and event.usage.output_tokens == 99:
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])

        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            response = await model.complete(asking(), Call(emit=measure))
        finally:
            tracemalloc.stop()
    assert len(response.text) == deltas
    # A kept event would be 50 bytes at the least, a kept piece of text as much again.
    assert held[0] - before < 10 * deltas


def many_deltas(dialect, deltas):
    usage = Usage(input_tokens=3, output_tokens=99)
    return spoken(dialect, [*[Say("x")] * deltas, Finish(usage=usage)])


async def test_tools_are_offered_and_calls_shown_as_they_grow():
    tool = ToolSpec(name="read", parameters={"type": "object"})
    seen = Seen()
    script = [CallTool("read", {"path": "a"}, fragments=4), CallTool("read", {"path": "b"}), Finish()]
    async with open_fault_server(script) as server, provider("openai", server) as model:
        response = await model.complete(asking(tools=[tool]), seen.call)
        assert server.requests[0].body["tools"][0]["function"]["name"] == "read"
    fragments = [event for event in seen.events if isinstance(event, ToolCallDelta)]
    assert len(fragments) > 6
    assert ["".join(f.arguments for f in fragments if f.index == n) for n in (0, 1)] == [
        c.arguments for c in response.tool_calls
    ]


async def test_headers_without_content_do_not_count_as_content():
    seen = Seen()
    async with open_fault_server([SendHeaders(), Preamble(), Wait(0.1), Say("Hi"), Finish()]) as server:
        async with provider("openai", server) as model:
            await model.complete(asking(), seen.call)
    assert seen.record.latency.first_content - seen.record.latency.first_byte >= 0.09
