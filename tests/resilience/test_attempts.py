"""Records of attempts: where they are kept, which one decided a call, and how long the call took."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.attempts import (
    AttemptInProgress,
    AttemptLog,
    AttemptOutcome,
    AttemptRecord,
    Latency,
    call_latency,
    deciding_attempt,
    record_attempt,
)
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, TextDelta
from clawft_trio.errors import ConsumerLeft, ServerError
from clawft_trio.observe import AttemptEnded, AttemptStarted, Observed, Recorder, RoundEnded
from clawft_trio.resilience import Failover, Resilient, Retry

REQUEST = ChatRequest([Message.user("hello")], model="large")


class Plain:
    """A provider of a user's that keeps no records."""

    name = "plain"

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        await trio.sleep(1.0)
        if self._failures:
            raise self._failures.pop(0)
        await call.emit(TextDelta("hi"))
        return ChatResponse(content="hi", provider=self.name)


async def test_an_observed_provider_without_records_has_its_attempts(autojump_clock: trio.testing.MockClock) -> None:
    seen, call = Recorder(), Call()
    await Observed(Plain(), seen).complete(REQUEST, call)
    assert [(record.target, record.outcome, record.sent) for record in call.log.records] == [
        ("plain/large", "ok", True)
    ]
    (ended,) = seen.of(RoundEnded)
    assert (ended.answered_by, ended.latency.total) == ("plain/large", 1.0)
    assert (len(seen.of(AttemptStarted)), len(seen.of(AttemptEnded))) == (1, 1)


async def test_any_number_of_wrappers_keep_one_record_per_attempt(autojump_clock: trio.testing.MockClock) -> None:
    seen, call = Recorder(), Call()
    inner = Resilient(Plain(ServerError("down")), Retry(first_wait=0.0))
    await Observed(Failover(Observed(inner)), seen).complete(REQUEST, call)
    assert [record.outcome for record in call.log.records] == ["failed", "ok"]
    assert len(seen.of(AttemptEnded)) == 2


def record(outcome: AttemptOutcome, started: float = 0.0, *, shown: bool = False) -> AttemptRecord:
    latency = Latency(total=2.0, first_byte=0.5, queued=0.25, first_content=1.0 if shown else None)
    return AttemptRecord(target=f"{outcome}@{started:g}", outcome=outcome, started=started, latency=latency)


@pytest.mark.parametrize(
    ("outcomes", "ending", "decides"),
    [
        (["failed", "ok"], "ok", 1),
        (["ok*", "ok"], "ok", 0),  # the loser of a race ended after the winner and has shown nothing
        (["failed*", "cancelled*"], "aborted", 1),  # a stream that was left: the attempt that was being read
        (["cancelled", "failed"], "failed", 1),
        (["failed", "cancelled"], "failed", 0),
        (["failed", "cancelled"], "cancelled", 1),
        (["aborted", "failed"], "ok", 0),
        (["cancelled"], "ok", 0),
        ([], "ok", None),
    ],
)
def test_one_rule_finds_the_attempt_that_decided(
    outcomes: list[str], ending: AttemptOutcome, decides: int | None
) -> None:
    records = [record(o.rstrip("*"), n, shown=o.endswith("*")) for n, o in enumerate(outcomes)]  # type: ignore[arg-type]
    assert deciding_attempt(records, ending) is (None if decides is None else records[decides])


async def test_the_latency_of_a_call_counts_from_its_start(autojump_clock: trio.testing.MockClock) -> None:
    await trio.sleep(10.0)
    latency = call_latency(record("ok", started=6.0, shown=True), started=4.0)
    assert latency == Latency(total=6.0, queued=0.25, first_byte=2.5, first_content=3.0)
    assert call_latency(None, started=4.0) == Latency(total=6.0)


async def test_an_attempt_that_its_consumer_ended_is_aborted_and_keeps_what_is_known() -> None:
    log = AttemptLog()
    with pytest.raises(ConsumerLeft), record_attempt(log, "t") as attempt:
        assert isinstance(attempt, AttemptInProgress)
        attempt.sent = True
        attempt.certainty = "at_least"
        raise ConsumerLeft
    (kept,) = log.records
    assert (kept.outcome, kept.why, kept.sent, kept.certainty) == ("aborted", "ConsumerLeft", True, "at_least")


async def test_an_attempt_that_failed_keeps_exact_usage() -> None:
    log = AttemptLog()
    with pytest.raises(ServerError), record_attempt(log, "t") as attempt:
        attempt.certainty = "exact"
        raise ServerError("down")
    assert (log.records[0].outcome, log.records[0].certainty) == ("failed", "exact")
