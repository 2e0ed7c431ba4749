"""What one answer over HTTP becomes, however its body arrives."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from llm.asking import KEY
from llm.spoken import DONE, chunk, data, reading

from clawft_trio.attempts import AttemptInProgress, Usage
from clawft_trio.chat import Call, ChatRequest, Message, TextDelta, ToolCallDelta, ToolCallReady, UsageReport
from clawft_trio.errors import AnswerTooLarge, EmptyAnswer, InvalidResponse, ServerError, StreamTruncated
from clawft_trio.llm.conform import Conformed
from clawft_trio.llm.failures import Failures
from clawft_trio.llm.http_answer import MAX_ERROR, HttpAnswer
from clawft_trio.net import Clocks
from clawft_trio.retry_hints import RETRYABLE_STATUSES, utc_now

REQUEST = ChatRequest([Message.user("q")], stream=True)
USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
COUNTED = Usage(input_tokens=3, output_tokens=2)
WHOLE = {"model": "m1", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}


@attrs.define
class Answered:
    """An answer over a body of *pieces*: bytes, or seconds of silence."""

    pieces: tuple[bytes | float, ...]
    content_type: str = "text/event-stream"
    max_answer: int = 1000
    clocks: Clocks = Clocks(linger=2.0)
    request: ChatRequest = REQUEST
    conformed: Conformed = Conformed(request=REQUEST)
    events: list[Any] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    pulses: list[tuple[str, float]] = attrs.field(factory=list)
    noted: list[Any] = attrs.field(factory=list)
    consumes: float = 0.0
    attempt: AttemptInProgress = attrs.field(factory=lambda: AttemptInProgress("p/m", 0.0))
    #: number of pieces that were not read
    left: int = attrs.field(default=attrs.Factory(lambda self: len(self.pieces), takes_self=True))

    async def emit(self, event: Any) -> None:
        self.events.append(event)
        self.times.append(trio.current_time())
        await trio.sleep(self.consumes)

    def __aiter__(self) -> Answered:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while self.left:
            piece = self.pieces[-self.left]
            self.left -= 1
            if isinstance(piece, bytes):
                return piece
            await trio.sleep(piece)
        raise StopAsyncIteration

    async def page(self, limit: int) -> bytes:
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))[:limit]

    async def read(self):
        response: Any = SimpleNamespace(
            status=200,
            headers={"x-request-id": "r1"},
            content_type=self.content_type,
            url="http://h/v1",
            chunks=lambda: self,
            read_refusal=self.page,
        )
        call = Call(emit=self.emit, pulse=lambda *pulse: self.pulses.append(pulse), observer=self.noted.append, id="c")
        answer = HttpAnswer(
            provider="p",
            failures=Failures(provider="p", retryable_statuses=RETRYABLE_STATUSES, now=utc_now),
            clocks=self.clocks,
            max_answer=self.max_answer,
            response=response,
            reading=reading("openai"),
            call=call,
            attempt=self.attempt,
            model="m",
            request=self.request,
            secrets=(KEY,),
            conformed=self.conformed,
        )
        return await answer.read()

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


END = chunk({}, "stop")
SSE = (chunk({"content": "Hi"}), END + DONE)


@pytest.mark.parametrize("blank", [b"", b" ", b"\n", b"\r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
@pytest.mark.parametrize("label", ["text/event-stream", "application/json", ""])
@pytest.mark.parametrize("body", [SSE, (b": comment\n\n", *SSE), (json.dumps(WHOLE).encode(),)])
async def test_blanks_before_a_body_of_any_kind_mean_nothing(
    blank: bytes, label: str, body: tuple[bytes, ...], autojump_clock: trio.testing.MockClock
) -> None:
    answered = Answered((*(blank[at : at + 1] for at in range(len(blank))), *body), content_type=label)
    assert (await answered.read()).text == answered.text == "Hi"


@pytest.mark.parametrize(
    ("label", "error"), [("text/event-stream", StreamTruncated), ("text/plain", InvalidResponse), ("", InvalidResponse)]
)
async def test_a_body_of_another_kind_is_a_stream_if_it_is_labelled_so(label: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Answered((b"Not found",), content_type=label).read()


async def test_an_array_is_a_document_whatever_its_label() -> None:
    with pytest.raises(InvalidResponse) as caught:
        await Answered((b"[1, 2]",)).read()
    assert (caught.value.body, caught.value.status, caught.value.request_id) == ("[1, 2]", 200, "r1")


async def test_blanks_without_end_are_not_collected() -> None:
    answered = Answered((b" " * 1024,) * 1000)
    with pytest.raises(StreamTruncated):
        await answered.read()
    blanks = Answered((b" " * 1024,) * 1000, content_type="text/plain", max_answer=2 * MAX_ERROR)
    with pytest.raises((StreamTruncated, InvalidResponse, AnswerTooLarge)):
        await blanks.read()


async def test_a_document_may_have_as_many_bytes_as_an_answer_characters() -> None:
    document = json.dumps(WHOLE).encode()
    pieces = (document[:10], document[10:])
    assert (await Answered(pieces, max_answer=len(document)).read()).text == "Hi"
    long = Answered((*pieces, b" ", b" " * 9, b" "), max_answer=len(document))
    with pytest.raises(AnswerTooLarge) as caught:
        await long.read()
    # What follows is not read.
    assert (caught.value.limit, long.left, long.events) == (len(document), 2, [])


async def test_a_stream_may_hold_as_many_characters_as_an_answer() -> None:
    size = 50
    pieces = (chunk({"content": "x" * 25}), chunk({"content": "y" * 25}), chunk({"content": "z"}), END)
    with pytest.raises(AnswerTooLarge) as caught:
        await Answered(pieces, max_answer=size).read()
    assert (caught.value.limit, caught.value.partial.text) == (size, "x" * 25 + "y" * 25 + "z")
    assert (await Answered((*pieces[:2], END), max_answer=size).read()).text == "x" * 25 + "y" * 25


async def test_a_web_page_is_shown_up_to_a_bound_and_without_secrets() -> None:
    answered = Answered((KEY.encode() + b"x" * (2 * MAX_ERROR),), content_type="text/html")
    with pytest.raises(InvalidResponse, match="check the base URL") as caught:
        await answered.read()
    assert len(caught.value.body) <= MAX_ERROR
    assert KEY not in str(caught.value) + caught.value.body


async def test_content_begins_with_the_first_event_that_is_no_usage(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    usage = data({"choices": [], **USAGE})
    answered = Answered((usage, 1.0, chunk({"content": "a"}), 1.0, chunk({"content": "b"}), END + DONE))
    response = await answered.read()
    assert [type(event) for event in answered.events] == [UsageReport, TextDelta, TextDelta]
    assert answered.attempt.first_content == begun + 1.0
    assert (response.usage, answered.attempt.usage, answered.attempt.certainty) == (COUNTED, COUNTED, "exact")


@pytest.mark.parametrize(
    ("usage", "certainty", "problem"),
    [
        ({}, None, ""),
        (USAGE, "exact", ""),
        ({"usage": {**USAGE["usage"], "total_tokens": 9}}, "estimated", "does not add up"),
        ({"usage": {"prompt_tokens": -3, "completion_tokens": 2}}, None, "is refused"),
    ],
)
async def test_usage_is_exact_when_it_adds_up(usage: dict[str, Any], certainty: str | None, problem: str) -> None:
    answered = Answered((chunk({"content": "Hi"}, "stop", **usage), DONE))
    response = await answered.read()
    assert (answered.attempt.certainty, answered.attempt.usage) == (certainty, response.usage)
    assert [problem in noted.what for noted in answered.noted] == [True] * bool(problem)
    assert all((noted.call_id, noted.details["provider"]) == ("c", "p") for noted in answered.noted)


async def test_usage_of_a_stream_that_breaks_is_a_lower_bound() -> None:
    answered = Answered((chunk({"content": "Hi"}, **USAGE),))
    with pytest.raises(StreamTruncated) as caught:
        await answered.read()
    assert (answered.attempt.certainty, answered.attempt.usage) == ("at_least", COUNTED)
    assert (caught.value.partial.text, caught.value.status, caught.value.request_id) == ("Hi", 200, "r1")


@pytest.mark.parametrize(
    ("then", "total", "text"),
    [
        # Nothing more: as long as `linger`.
        ((30.0,), 2.0, "Hi"),
        # Keep-alive comments do not make it longer.
        ((*[1.5, b": x\n\n"] * 9,), 2.0, "Hi"),
        # Usage that comes in time, after which the rest of the time is waited for.
        ((1.5, data({"choices": [], **USAGE}), 30.0), 2.0, "Hi"),
        # More content: the finish reason came too early, and the time begins anew.
        ((1.5, chunk({"content": "!"}, "stop"), 1.5, chunk({"content": "?"}, "stop"), 30.0), 5.0, "Hi!?"),
        # The last event: 50 ms for the end of the body.
        ((1.0, DONE, 30.0), 1.05, "Hi"),
        ((1.0, DONE, 0.04), 1.04, "Hi"),
        # What follows the last event is not read.
        ((1.0, DONE, 0.01, chunk({"content": "!"}), 30.0), 1.05, "Hi"),
        # The end of the body.
        ((1.0,), 1.0, "Hi"),
    ],
)
async def test_after_its_finish_reason_an_answer_waits_briefly_for_more(
    then: tuple[bytes | float, ...], total: float, text: str, autojump_clock: trio.testing.MockClock
) -> None:
    begun = trio.current_time()
    answered = Answered((chunk({"content": "Hi"}), END, *then))
    assert (await answered.read()).text == text
    assert trio.current_time() - begun == pytest.approx(total)


async def test_only_the_server_is_timed_after_a_finish_reason(autojump_clock: trio.testing.MockClock) -> None:
    usage = (1.0, data({"choices": [], **USAGE}), 0.9, data({"choices": [], "usage": {"prompt_tokens": 4}}))
    answered = Answered((chunk({"content": "Hi"}), END, *usage, 30.0), consumes=5.0)
    response = await answered.read()
    assert response.usage is not None
    assert response.usage.input_tokens == 4


@pytest.mark.parametrize("thinking", [None, 7.0])
async def test_bytes_without_an_event_may_be_signs_of_life(thinking: float | None) -> None:
    thought = data({"choices": [{"delta": {"reasoning_content": ""}}]})
    answered = Answered((thought, b": ping\n\n", *SSE), clocks=Clocks(thinking=thinking))
    await answered.read()
    assert answered.pulses == [("thinking", thinking or math.inf), ("alive", thinking or math.inf)]


CALL = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "sent", "arguments": "{}"}}]}


async def test_calls_are_shown_under_the_tools_own_names() -> None:
    conformed = Conformed(request=REQUEST, names={"sent": "own.name"})
    answered = Answered((chunk(CALL), chunk({}, "tool_calls"), DONE), conformed=conformed)
    await answered.read()
    assert [event.name for event in answered.events if isinstance(event, ToolCallDelta) and event.name] == ["own.name"]
    assert [event.call.name for event in answered.events if isinstance(event, ToolCallReady)] == ["own.name"]


@pytest.mark.parametrize(("finish", "refused"), [("tool_calls", True), ("stop", True), ("length", False)])
async def test_a_call_that_may_run_has_a_name(finish: str, refused: bool) -> None:
    nameless = {"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]}
    answered = Answered((chunk({"content": "Hi"}), chunk(nameless), chunk({}, finish), DONE))
    if refused:
        with pytest.raises(InvalidResponse, match="no name"):
            await answered.read()
    else:
        assert (await answered.read()).finish_reason == finish


@pytest.mark.parametrize("allowed", [False, True])
async def test_an_answer_without_content_is_an_error_unless_it_is_allowed(allowed: bool) -> None:
    answered = Answered((END, DONE), request=attrs.evolve(REQUEST, allow_empty=allowed))
    if allowed:
        assert (await answered.read()).is_empty
    else:
        with pytest.raises(EmptyAnswer) as caught:
            await answered.read()
        assert (caught.value.status, caught.value.request_id, caught.value.partial.is_empty) == (200, "r1", True)


@pytest.mark.parametrize(("before", "partial"), [((), ""), ((chunk({"content": "Hi"}),), "Hi")])
async def test_an_error_in_a_stream_keeps_what_had_arrived(before: tuple[bytes, ...], partial: str) -> None:
    error = data({"error": {"message": f"down {KEY}", "code": 503}})
    with pytest.raises(ServerError) as caught:
        await Answered((*before, error)).read()
    assert caught.value.partial.text == partial
    assert KEY not in str(caught.value)
