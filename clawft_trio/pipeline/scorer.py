"""Quality scores of answers, without a model as judge."""

from __future__ import annotations

import re

from clawft_trio.chat import ChatRequest, ChatResponse
from clawft_trio.codec import is_json_object
from clawft_trio.pipeline.stages import QualityScore

MAX_JUDGED = 32_000
"""Characters of an answer that are read."""

WEIGHTS = {"completion": 0.4, "efficiency": 0.2, "tools": 0.2, "coherence": 0.2}

TOKEN_BUDGET = 4096
"""Output budget in tokens for a request without a limit."""

GIVES_UP = re.compile(
    r"\b(?:i (?:can ?not|cant|can't|am unable|'m unable|am not able|'m not able|do not have access|don't have access)"
    r"|i'm (?:unable|not able)|as an ai)\b",
    re.IGNORECASE,
)
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\u2018": "'", "`": "'"})
_WORD = re.compile(r"\w{4,}", re.UNICODE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class NoScorer:
    """A scorer that gives every answer the best score."""

    def score(self, request: ChatRequest, response: ChatResponse) -> QualityScore:
        """Return the best score."""
        return QualityScore(1.0)


class FitnessScorer:
    """Scores completion, length, validity of tool calls and repetition.

    An answer with tool calls is scored by the calls: it needs no text.
    """

    def score(self, request: ChatRequest, response: ChatResponse) -> QualityScore:
        """Score *response*."""
        text = response.text[:MAX_JUDGED].translate(_APOSTROPHES).strip()
        completion = _completion(request, response, text)
        coherence = _coherence(text, uses_tools=bool(response.tool_calls))
        parts = {
            "completion": completion,
            "efficiency": _efficiency(request, response),
            "tools": _tools(request, response),
            "coherence": coherence,
        }
        overall = sum(WEIGHTS[name] * value for name, value in parts.items())
        return QualityScore(round(overall, 6), relevance=_relevance(request, response, text), coherence=coherence)


def _completion(request: ChatRequest, response: ChatResponse, text: str) -> float:
    if response.finish_reason == "content_filter":
        return 0.0
    if response.tool_calls:
        return _tools(request, response)
    if not text:
        return 0.0
    penalty = 0.4 * bool(GIVES_UP.search(text)) + 0.3 * (response.finish_reason == "length")
    return max(0.0, 1.0 - penalty)


def _relevance(request: ChatRequest, response: ChatResponse, text: str) -> float:
    """Return the share of the question's longer words in the answer, from 0.5, because good answers use other words."""
    asked = next((m.text for m in reversed(request.messages) if m.role == "user"), "")[:MAX_JUDGED]
    wanted = {word.lower() for word in _WORD.findall(asked)}
    if not wanted or response.tool_calls:
        return 1.0
    if not text:
        return 0.0
    used = {word.lower() for word in _WORD.findall(text)}
    return 0.5 + 0.5 * len(wanted & used) / len(wanted)


def _efficiency(request: ChatRequest, response: ChatResponse) -> float:
    """Return 1 up to half of the output budget, then evenly less, down to 0.5 at all of it."""
    if response.usage is None:
        return 1.0
    ratio = response.usage.output_tokens / (request.max_tokens or TOKEN_BUDGET)
    return max(0.5, min(1.0, 1.5 - ratio))


def _tools(request: ChatRequest, response: ChatResponse) -> float:
    """Return the share of calls that name an offered tool and have an object as arguments; 1 without calls."""
    if not response.tool_calls:
        return 1.0
    offered = {tool.name for tool in request.tools}
    sound = [call for call in response.tool_calls if call.name in offered and is_json_object(call.arguments)]
    return len(sound) / len(response.tool_calls)


def _coherence(text: str, *, uses_tools: bool) -> float:
    """Return 1 less the share of repeated sentences, because a model in a loop repeats its sentences."""
    if not text:
        return 1.0 if uses_tools else 0.0
    sentences = [s.strip().lower() for s in _SENTENCE_END.split(text) if len(s.strip()) > 10]
    if len(sentences) < 3:
        return 1.0
    return len(set(sentences)) / len(sentences)
