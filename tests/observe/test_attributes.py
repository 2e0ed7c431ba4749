"""What a log, a span or a recording has of an event, and the records of providers that keep none."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from clawft_trio.attempts import Latency, record_attempt
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.config import Secret
from clawft_trio.errors import EmptyAnswer, RateLimited, ServerError, ToolFailed
from clawft_trio.messages import OutboundMessage
from clawft_trio.observe import Noted, RecordedError, Recorder, RoundEnded, Undeliverable
from clawft_trio.observe.attributes import attributes_of, error_attributes
from clawft_trio.observe.recorded import Recorded, recorded, request_options
from clawft_trio.observe.redaction import cut, cut_redacted, cut_redacted_end, make_redactor, redact_address


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, True),
        (7, 7),
        (Decimal("0.5"), 0.5),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        ([None, 1, "a"], [None, 1, "a"]),
        ({"a": {1: None}}, {"a": {"1": None}}),
        ((b"x", object), ["bytes", "type"]),
        ("a" * 300, "a" * 300),
        ("a" * 301, "a" * 299 + "…"),
        ("a\udcff", "a?"),
    ],
    ids=str,
)
def test_every_value_becomes_one_of_json(value: object, shown: object) -> None:
    event = Noted(at=0.0, component="x", what="y", details={"value": value})
    assert attributes_of(event)["details"] == {"value": shown}


def test_an_error_has_its_class_its_text_and_its_typed_fields() -> None:
    error = RateLimited("slow down", status=429, retry_after=5.0)
    assert error_attributes(error) == {
        "error": "RateLimited",
        "error_message": str(error),
        "error_status": 429,
        "error_retry_after": 5.0,
    }
    # Texts of tools and of other programs may quote people.
    assert error_attributes(ToolFailed("said so")) == {"error": "ToolFailed"}
    assert error_attributes(KeyError("a name"), texts=True)["error_message"] == "'a name'"


def test_equal_secrets_have_equal_hashes_and_show_nothing() -> None:
    assert {Secret("a"), Secret("a"), Secret("b")} == {Secret("a"), Secret("b")}
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert (repr(Secret("a")), repr(Secret("")), bool(Secret(""))) == ("Secret(…)", "Secret()", False)


class Wrapper:
    """A user's provider around another one: its own record, and an answer without content."""

    name = "p"

    def __init__(self, outcome: str, *, keeps: bool = True) -> None:
        self._outcome = outcome
        self._keeps = keeps

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        if self._keeps and self._outcome == "failed":
            with pytest.raises(KeyError), record_attempt(call.log, "own/first"):
                raise KeyError("x")
        elif self._keeps:
            with record_attempt(call.log, "own/first"):
                pass
        return ChatResponse(finish_reason="stop", raw_finish_reason="end_turn", id="7", model="m-1")


@pytest.mark.parametrize(
    ("outcome", "keeps", "records"),
    [
        ("ok", True, [("own/first", "failed", "EmptyAnswer")]),
        ("failed", True, [("own/first", "failed", "KeyError")]),
        ("ok", False, [("p/m", "failed", "EmptyAnswer")]),
    ],
)
async def test_an_empty_answer_is_a_failure_in_the_record_of_its_attempt(
    outcome: str, keeps: bool, records: list[tuple[str, str, str]]
) -> None:
    provider, call = recorded(Wrapper(outcome, keeps=keeps), refuse_empty=True), Call()
    with pytest.raises(EmptyAnswer):
        await provider.complete(ChatRequest([Message.user("q")], model="m"), call)
    assert [(one.target, one.outcome, type(one.error).__name__) for one in call.log.records] == records


async def test_a_record_has_the_providers_own_finish_reason_and_ids() -> None:
    call = Call()
    await Recorded(Wrapper("ok", keeps=False)).complete(ChatRequest([Message.user("q")]), call)
    (record,) = call.log.records
    # Of a provider without records it is not known, and what was not sent would cost nothing.
    assert record.sent
    assert (record.target, record.finish_reason, record.response_id, record.response_model) == (
        "p",
        "end_turn",
        "7",
        "m-1",
    )
    assert recorded(provider := Recorded(Wrapper("ok"))) is provider


def test_the_options_of_a_request_are_those_that_are_set() -> None:
    request = ChatRequest([Message.user("q")], stream=False)
    assert request_options(request) == {"stream": False}
    request = ChatRequest([Message.user("q")], max_tokens=5, temperature=0.0, seed=0, stop=("x",), stream=True,
                          response_schema={"type": "object"}, extra={"top_p": 0.5, "n": "2", "other": 1})  # fmt: skip
    assert request_options(request) == {
        "max_tokens": 5,
        "temperature": 0.0,
        "seed": 0,
        "stop": ["x"],
        "stream": True,
        "json": True,
        "top_p": 0.5,
    }


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ana:pass@example.org/a?b=c&d=e#f", "https://***@example.org/a?b=***&d=***#f"),
        ("https://example.org/a", "https://example.org/a"),
        ("see a?b=c", "see a?b=c"),
    ],
)
def test_an_address_is_shown_without_accounts_and_values(address: str, shown: str) -> None:
    assert redact_address(address) == shown


def test_what_is_empty_is_left_out_and_zero_is_not() -> None:
    assert attributes_of(Noted(at=0.0, component="", what="y", details={})) == {"what": "y"}
    ended = RoundEnded(at=1.0, ending="ok", sender="", answered_by="a/m", latency=Latency(total=0.0))
    assert attributes_of(ended) == {"ending": "ok", "answered_by": "a/m", "total": 0.0, "queued": 0.0}


def test_a_message_has_its_address_and_its_text_only_if_texts_are_wanted() -> None:
    event = Undeliverable(at=0.0, message=OutboundMessage(channel="c", chat_id="1", content="my diagnosis"))
    plain, whole = (attributes_of(event, texts=texts)["message"] for texts in (False, True))
    assert (plain["channel"], plain["chat_id"], "content" in plain) == ("c", "1", False)
    assert whole == {**plain, "content": "my diagnosis"}


def test_an_error_in_the_details_has_its_class_and_its_text_if_that_quotes_nobody() -> None:
    details = {"ours": ServerError("down"), "tool": ToolFailed("said so"), "recorded": RecordedError("ToolFailed", "x")}
    assert attributes_of(Noted(at=0.0, component="x", what="y", details=details))["details"] == {
        "ours": {"error": "ServerError", "error_message": "down"},
        "tool": {"error": "ToolFailed"},
        # The recorder has decided what may be read.
        "recorded": {"error": "ToolFailed", "error_message": "x"},
    }


@pytest.mark.parametrize(("length", "shown"), [(3000, "***"), (3001, "…")])
def test_of_a_long_text_the_beginning_is_masked_and_a_word_that_may_go_on_is_left_out(length: int, shown: str) -> None:
    details = {"value": "sk-" + "x" * (length - 3)}
    assert attributes_of(Noted(at=0.0, component="x", what="y", details=details))["details"] == {"value": shown}


def test_recorded_errors_are_equal_by_their_class_and_their_text() -> None:
    error = RecordedError("ServerError", "down")
    assert {error, RecordedError("ServerError", "down")} == {error}
    assert error not in [RecordedError("ServerError", "up"), RecordedError("ClientError", "down"), ServerError("down")]


@pytest.mark.parametrize("limit", [1, 5, 20, 100])
def test_a_recorder_keeps_the_last_events_up_to_its_limit(limit: int) -> None:
    recorder = Recorder(limit)
    for number in range(3 * limit):
        recorder(Noted(at=float(number), component="x", what="y"))
        kept = [event.at for event in recorder.events]
        assert kept == [float(at) for at in range(number + 1 - len(kept), number + 1)]
        # A tenth is dropped at once, because dropping one moves all others.
        assert min(number + 1, limit - limit // 10) <= len(kept) <= limit


@pytest.mark.parametrize("limit", [0, 1, 5, 6])
def test_a_text_is_cut_to_its_limit_with_an_ellipsis(limit: int) -> None:
    assert cut("abcdef", limit) == {0: "", 1: "…", 5: "abcd…", 6: "abcdef"}[limit]


def test_the_beginning_of_a_text_of_many_secrets_ends_with_no_part_of_one() -> None:
    for before in range(0, 210, 3):
        text = "a" * before + " " + f"sk-{'x' * 200} " * 200
        shown = cut_redacted(text, 1000)
        assert shown.endswith("***…")
        assert "x" not in shown
        end = cut_redacted_end(f"sk-{'x' * 200} " * 200 + "a" * before, 1000)
        assert end.startswith("…")
        assert "x" not in end


@pytest.mark.parametrize("limit", [10, 1000])
def test_the_end_of_a_text_is_kept_up_to_its_limit(limit: int) -> None:
    words = "word " * 4000
    for length in (limit, limit + 1, 8 * limit + 4096, 8 * limit + 4097, 20_000):
        text = words[:length]
        assert cut_redacted_end(text, limit) == (text if length == limit else f"…{text[-limit:]}")


def test_known_values_of_four_characters_and_more_are_masked() -> None:
    assert make_redactor(["abc", "abcd", "abcdef"])("abc abcd abcdef") == "abc *** ***"
