"""Which errors are retried, are cured elsewhere and count against their target; and which answers are empty."""

from __future__ import annotations

import pytest

from clawft_trio import errors
from clawft_trio.chat import ChatResponse, Image, Opaque, Text, ToolCall
from clawft_trio.errors import ClawftError, ProviderError

RETRIED = {
    "RateLimited",
    "ServerError",
    "TransportFailed",
    "ProviderTimeout",
    "InvalidResponse",
    "EmptyAnswer",
    "StreamTruncated",
    "StoreBusy",
    "PeerGone",
    "SessionLost",
    "RequestTimeout",
}
BLAMES_ITS_TARGET = {
    *RETRIED - {"EmptyAnswer", "StoreBusy"},
    "QuotaExhausted",
    "AuthFailed",
    "ModelNotFound",
    "EventTooLarge",
    "AnswerTooLarge",
    "WrongAddress",
    "ProtocolViolation",
}
# Of errors of providers; others are cured by no other target.
NOT_CURABLE_ELSEWHERE = {"ContentFiltered", "AllProvidersExhausted"}


@pytest.mark.parametrize(
    "kind",
    [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ClawftError)],
    ids=lambda kind: kind.__name__,
)
def test_the_defaults_of_each_error_decide_what_follows_it(kind: type[ClawftError]) -> None:
    assert kind.retryable is (kind.__name__ in RETRIED)
    assert kind.blames_target is (kind.__name__ in BLAMES_ITS_TARGET)
    curable = issubclass(kind, ProviderError) and kind.__name__ not in NOT_CURABLE_ELSEWHERE
    assert kind.curable_elsewhere is curable


def test_an_error_may_state_otherwise() -> None:
    stated = ProviderError("x", retryable=True, curable_elsewhere=False)
    assert (stated.retryable, stated.curable_elsewhere) == (True, False)
    assert (ProviderError("x").retryable, ProviderError("x").curable_elsewhere) == (False, True)


CALL = ToolCall(id="1", name="a", arguments="{}")


@pytest.mark.parametrize(
    ("fields", "empty"),
    [
        ({}, True),
        ({"content": [Text(" \n")]}, True),
        ({"content": [Text("x")]}, False),
        ({"finish_reason": "tool_calls"}, True),
        ({"finish_reason": "length"}, False),
        ({"finish_reason": "content_filter"}, False),
        ({"tool_calls": (CALL,)}, False),
        ({"refusal": "no"}, False),
        ({"content": [Image(url="https://example.org/a.png")]}, False),
        ({"content": [Opaque("anthropic", {"type": "thinking", "thinking": "hm"})]}, True),
        ({"provider_details": {"images": ["x"]}}, False),
        ({"provider_details": {"images": []}}, True),
        ({"provider_details": {"usage": {"total": 1}}}, True),
    ],
    ids=str,
)
def test_an_answer_that_ended_well_without_any_content_is_empty(fields: dict[str, object], empty: bool) -> None:
    assert ChatResponse(**fields).is_empty is empty  # type: ignore[arg-type]
