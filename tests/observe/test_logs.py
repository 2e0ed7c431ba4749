"""Events as log records."""

from __future__ import annotations

import logging

import attrs
import pytest
from observe.turns import play

from clawft_trio.attempts import AttemptRecord, Latency
from clawft_trio.errors import RateLimited, ToolFailed
from clawft_trio.messages import InboundMessage
from clawft_trio.observe import (
    AttemptEnded,
    BreakerChanged,
    BusPressure,
    LogObserver,
    MessageDropped,
    Noted,
    ServerOutput,
    ToolEnded,
    TurnEnded,
    TurnStarted,
    make_redactor,
    redact_secrets,
)


@attrs.define
class UndeliveredReply(logging.Handler):
    records: list[logging.LogRecord] = attrs.field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    __hash__ = object.__hash__


def logged(*events: object, level: int = logging.DEBUG, **options: object) -> list[logging.LogRecord]:
    logger, kept = logging.Logger("test", level), UndeliveredReply()  # noqa: LOG001 - one that nobody else has
    logger.addHandler(kept)
    observer = LogObserver(logger, **options)
    for event in events:
        observer(event)
    return kept.records


FAILED = AttemptEnded(
    at=9.0,
    call_id="t1.1",
    turn_id="t1",
    record=AttemptRecord(
        target="a/one",
        outcome="failed",
        started=3.0,
        latency=Latency(total=6.0),
        error=RateLimited("slow down", provider="a", model="one", status=429, retry_after=7.0),
    ),
)


def test_an_event_is_one_line_with_its_facts_beside_it() -> None:
    (record,) = logged(FAILED)
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        'attempt_ended target=a/one outcome=failed total=6 queued=0 error=RateLimited error_message="a/one: slow down '
        '(429)" error_status=429 error_retry_after=7 sent=false turn=t1 call=t1.1'
    )
    assert (record.event, record.at, record.turn_id, record.call_id) == ("attempt_ended", 9.0, "t1", "t1.1")
    assert record.attributes["error_retry_after"] == 7.0


def test_a_text_cannot_forge_a_second_line() -> None:
    said = ServerOutput(at=0.0, server="files\nERROR root hacked", text="x\r\ny\x1b[31m\u2028z")
    (record,) = logged(said, texts=True)
    assert len(record.getMessage().splitlines()) == 1
    assert "\x1b" not in record.getMessage()


def test_texts_are_logged_only_when_requested() -> None:
    message = InboundMessage(channel="chat", sender_id="ana", chat_id="1", content="my diagnosis")
    events = [
        MessageDropped(at=0.0, queue="in", policy="drop_oldest", message=message),
        ServerOutput(at=0.0, server="files", text="my diagnosis"),
        ToolEnded(at=0.0, tool="t", tool_call_id="c", outcome="error", duration=0.0, error=ToolFailed("my diagnosis")),
        TurnEnded(at=0.0, session="s", message_id="m", outcome="error", duration=0.0, error=ValueError("my diagnosis")),
    ]
    assert not [record for record in logged(*events) if "diagnosis" in str(vars(record))]
    assert all("diagnosis" in record.getMessage() for record in logged(*events, texts=True))


def test_the_level_follows_the_severity_and_decides_what_is_written() -> None:
    started = TurnStarted(at=0.0, session="s", sender="ana", message_id="m")
    lost = TurnEnded(at=0.0, session="s", message_id="m", outcome="error", duration=1.0)
    assert [record.levelname for record in logged(started, FAILED, lost)] == ["INFO", "WARNING", "ERROR"]
    assert [record.event for record in logged(started, FAILED, lost, level=logging.ERROR)] == ["turn_ended"]
    assert logged(started, levels={TurnStarted: logging.CRITICAL})[0].levelname == "CRITICAL"


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (BreakerChanged(at=0.0, target="a/one", state="open"), "WARNING"),
        (BreakerChanged(at=0.0, target="a/one", state="closed"), "INFO"),
        (Noted(at=0.0, component="mcp", what="server did not start", details={}), "WARNING"),
        (Noted(at=0.0, component="mcp", what="anything", details={}), "INFO"),
        (attrs.evolve(FAILED, record=attrs.evolve(FAILED.record, outcome="ok", error=None)), "INFO"),
        (attrs.evolve(FAILED, record=attrs.evolve(FAILED.record, outcome="cancelled", error=None)), "INFO"),
        *(
            (ToolEnded(at=0.0, tool="t", tool_call_id="c", outcome=outcome, duration=0.0), level)
            for outcome, level in {
                "ok": "INFO",
                "refused": "INFO",
                "error": "WARNING",
                "timeout": "WARNING",
                "unknown": "WARNING",
            }.items()
        ),
        (TurnEnded(at=0.0, session="s", message_id="m", outcome="ok", duration=1.0), "INFO"),
        (BusPressure(at=0.0, queue="inbound", depth=80, capacity=100), "WARNING"),
    ],
)
def test_what_went_wrong_and_goes_on_is_a_warning(event: object, level: str) -> None:
    assert [record.levelname for record in logged(event)] == [level]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abc.def-123456", "Authorization: ***"),
        ("used sk-proj-abcdefghijklmnop here", "used *** here"),
        ("OPENAI_API_KEY=hunter2hunter2 and on", "OPENAI_API_KEY=*** and on"),
        ("postgres://ana:hunter2@db/x", "postgres://***@db/x"),
        ('{"api_key": "hunter2"}', '{"api_key": "***"}'),
        ("ghp_0123456789abcdefABCD", "***"),
        ("max_tokens: 4096 is too many tokens for gpt-5-mini", "max_tokens: 4096 is too many tokens for gpt-5-mini"),
        ("the token was refused", "the token was refused"),
    ],
)
def test_what_is_shaped_like_a_secret_is_masked(text: str, masked: str) -> None:
    assert redact_secrets(text) == masked


def test_given_secrets_are_masked_unless_they_are_too_short() -> None:
    redact = make_redactor(["correct horse", "correct horse battery", "a"])
    assert redact("a correct horse battery, a correct horse") == "a ***, a ***"


@pytest.mark.parametrize(
    "piece", ["a", "a.", "token", "token ", "sk-", "a://a:", "secret_", "Bearer ", "x=", "-", "eyJ", "://"]
)
def test_masking_a_long_text_of_anything_comes_back(piece: str) -> None:
    # With one unbounded repetition in front of another this takes hours, and a hostile server would know.
    assert redact_secrets(piece * 100_000)


async def test_every_event_of_a_troubled_turn_is_one_line(autojump_clock: object) -> None:
    logger, kept = logging.Logger("test", logging.DEBUG), UndeliveredReply()  # noqa: LOG001
    logger.addHandler(kept)
    seen = await play(LogObserver(logger))
    assert len(kept.records) == len(seen.events) > 20
    assert not [record for record in kept.records if "What do I wear" in str(vars(record))]
