"""The signed state that a client carries between the rounds of a call."""

from __future__ import annotations

import attrs
import pytest

from clawft_trio.errors import PeerError
from clawft_trio.mcp.server.input_state import MAX_STATE, StateSigner, request_digest

SIGNER = StateSigner(secret=b"key", principal="me", request=request_digest("tools/call", "t", b"{}"))
ANSWERS = {"a": {"action": "accept"}}


def test_a_state_holds_its_answers_until_it_expires():
    text = SIGNER.sign(ANSWERS, expires=10.0)
    assert SIGNER.verify(text, now=10.0) == ANSWERS
    with pytest.raises(PeerError, match="not valid") as caught:
        SIGNER.verify(text, now=10.1)
    assert caught.value.code == -32602


@pytest.mark.parametrize("other", [{"secret": b"other"}, {"principal": "you"}, {"request": "other"}])
def test_a_state_is_for_its_key_its_caller_and_its_call(other):
    with pytest.raises(PeerError, match="not valid"):
        attrs.evolve(SIGNER, **other).verify(SIGNER.sign(ANSWERS, expires=10.0), now=0.0)


@pytest.mark.parametrize("text", ["", ".", "a.b", "ä.ü", "\ud800.\ud800", "e30=.{mac}"])
def test_another_text_is_no_state(text):
    with pytest.raises(PeerError, match="not valid"):
        SIGNER.verify(text, now=0.0)


def test_a_state_that_was_changed_is_refused():
    text = SIGNER.sign(ANSWERS, expires=10.0)
    for position in (0, len(text) // 2, len(text) - 1):
        changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
        with pytest.raises(PeerError, match="not valid"):
            SIGNER.verify(changed, now=0.0)


def test_answers_of_more_than_256_kib_are_not_signed():
    assert MAX_STATE == 256 * 1024
    # Base64 takes four characters for three bytes.
    large = {"a": {"text": "x" * (MAX_STATE * 3 // 4 - 500)}}
    assert SIGNER.verify(SIGNER.sign(large, expires=10.0), now=0.0) == large
    with pytest.raises(PeerError, match="too large"):
        SIGNER.sign({"a": {"text": "x" * (MAX_STATE * 3 // 4)}}, expires=10.0)


def test_a_digest_tells_calls_apart():
    calls = [("m", "n", b"{}"), ("m", "n", b"[]"), ("m", "o", b"{}"), ("o", "n", b"{}"), ("m", "\ud800", b"{}")]
    assert len({request_digest(*call) for call in calls}) == len(calls)
