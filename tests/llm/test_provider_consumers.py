"""Both providers and those who listen: leaving, cancelling, and what is held meanwhile."""

import gc
import tracemalloc

import pytest
import trio
from llm.asking import BOTH_WAYS, DIALECTS, Seen, asking, provider
from llm.spoken import spoken

from clawft_trio.attempts import AttemptLog, Usage
from clawft_trio.chat import Call, ToolCallDelta, ToolSpec, UsageReport
from clawft_trio.errors import ConsumerLeft
from clawft_trio.testing import (
    CallTool,
    Finish,
    Hang,
    Page,
    Preamble,
    Say,
    SendHeaders,
    Wait,
    cancel_everywhere,
    open_fault_server,
    say,
)
from clawft_trio.testing.leaks import nothing_left


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
