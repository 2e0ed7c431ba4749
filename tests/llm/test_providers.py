"""Both providers against a real server on loopback: answers, and the ends of streams."""

import json
from contextlib import suppress

import pytest
import trio
from llm.asking import BOTH_WAYS, DIALECTS, Seen, asking, provider
from llm.spoken import DONE, chunk

from clawft_trio import errors as e
from clawft_trio.attempts import AttemptLog, Usage
from clawft_trio.chat import Call, ToolCallReady
from clawft_trio.llm import Quirks
from clawft_trio.net import Clocks
from clawft_trio.observe import AttemptEnded, AttemptStarted
from clawft_trio.testing import (
    BadUtf8,
    CallTool,
    CloseConnection,
    EndBody,
    Finish,
    Hang,
    InPieces,
    Page,
    Pings,
    Preamble,
    Raw,
    Report,
    ResetConnection,
    Say,
    Status,
    Think,
    Wait,
    open_fault_server,
    say,
)


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
async def test_streams_and_whole_bodies_are_read_whichever_was_requested(dialect):
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
@BOTH_WAYS
async def test_the_other_http_library_serves_as_well(dialect, stream):
    async with open_fault_server([Say("Hi"), Finish()]) as server, provider(dialect, server, library="httpx2") as model:
        assert (await model.complete(asking(stream), Call())).text == "Hi"


@DIALECTS
async def test_the_model_of_the_request_comes_first(dialect):
    async with open_fault_server([Say("Hi"), Finish()]) as server, provider(dialect, server) as model:
        seen = Seen()
        await model.complete(asking(model="other"), seen.call)
        assert server.requests[0].model == "other"
        assert seen.record.target == "p/other"


@DIALECTS
@pytest.mark.parametrize("script", [[Say("Hi"), Finish()], [Status(500)]])
async def test_an_observer_gets_each_attempt(dialect, script):
    reported = []
    log = AttemptLog()
    async with open_fault_server(script) as server, provider(dialect, server) as model:
        with suppress(e.ServerError):
            await model.complete(asking(), Call(log=log, observer=reported.append, id="c", turn_id="t"))
    started, ended = reported
    assert (type(started), started.target, started.call_id, started.turn_id) == (AttemptStarted, "p/m", "c", "t")
    assert (type(ended), ended.record, ended.call_id, ended.turn_id) == (AttemptEnded, log.records[0], "c", "t")


TRUNCATIONS = {
    "nothing at all": [EndBody()],
    "preamble only": [Preamble(), EndBody()],
    "clean end": [*say("one two"), EndBody()],
    "clean end, usage reported": [*say("one two"), Report(Usage(input_tokens=3, output_tokens=2)), EndBody()],
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
    async with open_fault_server(script) as server, provider("openai", server, clocks=Clocks(linger=0.1)) as model:
        with trio.fail_after(5):
            response = await model.complete(asking(), seen.call)
    assert (response.text, response.usage, seen.record.outcome) == ("Hi", usage, "ok")
    assert seen.events[-1] == ToolCallReady(response.tool_calls[0])


async def test_usage_may_come_a_little_later_than_the_finish_reason():
    usage = Usage(input_tokens=3, output_tokens=2)
    script = [Say("Hi"), Finish(), Wait(0.05), Report(usage), Hang()]
    async with open_fault_server(script) as server, provider("openai", server, clocks=Clocks(linger=0.5)) as model:
        assert (await model.complete(asking(), Call())).usage == usage


async def test_a_slow_consumer_does_not_shorten_the_wait_for_usage():
    usage = Usage(input_tokens=3, output_tokens=2)

    async def slow(event):
        await trio.sleep(0.3)

    script = [Say("Hi"), Finish(), Say("!"), Wait(0.35), Report(usage), Hang()]
    async with open_fault_server(script) as server, provider("openai", server, clocks=Clocks(linger=0.25)) as model:
        assert (await model.complete(asking(), Call(emit=slow))).usage == usage


async def test_a_finish_reason_that_comes_too_early_cuts_nothing_off():
    # Longer than the wait for usage in all, and never longer at once.
    words = [step for word in "abcd" for step in (Finish(), Wait(0.3), Say(word))]
    async with (
        open_fault_server([*words, Finish(), EndBody()]) as server,
        provider("openai", server, clocks=Clocks(linger=1.0)) as model,
    ):
        assert (await model.complete(asking(), Call())).text == "abcd"


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
