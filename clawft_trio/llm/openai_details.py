"""Collects the fields of a chat completion that no other field of the response holds, for `provider_details`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clawft_trio.llm import lenient
from clawft_trio.llm.lenient import NotDecodable
from clawft_trio.llm.openai_events import READ_OF_CHOICE, READ_OF_MESSAGE
from clawft_trio.llm.response_builder import ResponseBuilder

# These fields are read one by one; all others are kept.
_READ = frozenset({"id", "object", "model", "choices", "error", "service_tier", "obfuscation"})


class Details:
    """Stores in *answer* the fields that no field of a `ChatResponse` holds."""

    def __init__(self, answer: ResponseBuilder) -> None:
        self._answer = answer

    def keep(self, name: str, value: Any) -> None:
        self._answer.details[name] = _joined(self._answer.details.get(name), value)
        self._answer.count(value)

    def keep_unread(self, where: str, fields: Mapping[str, Any], read: frozenset[str]) -> None:
        """Keep the fields that nothing reads: lists grow, objects are merged, other values are replaced."""
        known = self._answer.details.get(where, {})
        for name, value in fields.items():
            if name in read or not value or value == known.get(name):
                continue
            known = known | {name: _joined(known.get(name), lenient.scrubbed(value))}
            self._answer.count(name, lenient.scrubbed(value))
        if known:
            self._answer.details[where] = known

    def note_logprobs(self, logprobs: Any) -> None:
        if isinstance(logprobs, dict):
            known = self._answer.details.setdefault("logprobs", {})
            for name, tokens in logprobs.items():
                if isinstance(tokens, list):
                    known.setdefault(name, []).extend(tokens)
                    # Approximate number of characters of one token with its alternatives.
                    self._answer.kept += 100 * len(tokens)

    def note_event(self, data: bytes) -> None:
        """Keep the fields that nothing reads; called for the first event, the last events and those with usage."""
        try:
            raw = lenient.decode_scrubbed(data)
        except NotDecodable:
            return
        answer = self._answer
        if isinstance(raw.get("service_tier"), str):
            answer.service_tier = raw["service_tier"]
        # A usage of zeros at the end does not replace earlier numbers, as in `ResponseBuilder.note_usage`.
        if not (isinstance(raw.get("usage"), dict) and any(raw["usage"].values())):
            raw.pop("usage", None)
        answer.note_details({name: value for name, value in raw.items() if name not in _READ})
        choices = raw.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else choices
        if not isinstance(choice, dict):
            return
        if isinstance(choice.get("usage"), dict):
            answer.details.setdefault("usage", choice["usage"])
        self._merge("choice", choice, READ_OF_CHOICE)
        message = choice.get("delta") or choice.get("message")
        if isinstance(message, dict):
            self._merge("message", message, READ_OF_MESSAGE)

    def _merge(self, where: str, fields: Mapping[str, Any], read: frozenset[str]) -> None:
        known = self._answer.details.get(where, {})
        # A list that grew over several events must not be replaced by the part in one event.
        more = {
            name: value
            for name, value in fields.items()
            if name not in read and value is not None and not isinstance(known.get(name), list)
        }
        if more:
            self._answer.details[where] = known | more


def _joined(before: Any, value: Any) -> Any:
    """Return the value of a repeated field: lists grow, objects are merged, other values are replaced."""
    if isinstance(before, list) and isinstance(value, list):
        return [*before, *value]
    return before | value if isinstance(before, dict) and isinstance(value, dict) else value
