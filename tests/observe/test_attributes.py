"""What a log, a span or a recording has of an event, and the records of providers that keep none."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from clawft_trio.attempts import record_attempt
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.config import Secret
from clawft_trio.errors import EmptyAnswer, RateLimited, ToolFailed
from clawft_trio.observe import Noted
from clawft_trio.observe.attributes import attributes_of, error_attributes
from clawft_trio.observe.recorded import Recorded, recorded, request_options
from clawft_trio.observe.redaction import redact_address


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
