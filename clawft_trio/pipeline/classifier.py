"""Classify the kind and the complexity of a task by its words, without a model.

The type is that of the first group below with a word in the request; words are matched whole, with their inflections.
The complexity grows with the length of the request, the number of separate demands, code, the words that mark difficult
work, and the weight of the heaviest group. A greeting is near 0.
"""

from __future__ import annotations

import math
import re

import attrs

from clawft_trio.chat import ChatRequest
from clawft_trio.pipeline.stages import TaskProfile, TaskType

MAX_JUDGED = 32_000
"""Characters of a request that are read; a longer request has the highest complexity."""

GROUPS: tuple[tuple[TaskType, float, str], ...] = (
    ("code_review", 0.20, "review audit lint inspect|code review"),
    (
        "code_generation",
        0.20,
        "code function implement debug fix program script compile refactor class struct module bug unittest",
    ),
    ("research", 0.10, "search find research lookup discover investigate|look up"),
    ("creative", 0.10, "write story stories poem creative compose draft narrative essay"),
    ("analysis", 0.15, "analyze analyse explain summarize summarise compare evaluate assess"),
    ("tool_use", 0.05, "execute|use tool|run tool|call function"),
)
"""Type, weight and words; after a bar, phrases. The first group with a match decides."""

HARD = (
    "prove proof derive optimize optimise concurrent distributed architecture design migrate algorithm tradeoff "
    "trade-off deadlock race complexity formal theorem strategy security thorough comprehensive constraint"
)
"""Words that mark difficult work."""

_SENTENCE = re.compile(r"[.?!;](?:\s|$)|\n\s*(?:[-*•]|\d+[.)])\s", re.UNICODE)
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_WORD = re.compile(r"\w+(?:-\w+)*", re.UNICODE)
# CJK is written without spaces: two of its characters are counted as a word.
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _word_pattern(words: str) -> re.Pattern[str]:
    """Make a pattern for any of *words*, whole, also in a regular inflection (fixes, coded, writing, classes)."""
    alternatives: list[str] = []
    for word in words.split():
        stem = word.removesuffix("e")
        doubled = f"{re.escape(word)}{word[-1]}(?:ed|ing)"
        endings = "e|es|ed|ing|er" if stem != word else "s|es|ed|ing|er|"
        alternatives += [f"{re.escape(stem)}(?:{endings})", doubled]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(alternatives)})(?![\w-])", re.IGNORECASE)


def _phrase_pattern(phrase: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(phrase)}s?(?!\w)".replace(r"\ ", r"\s+(?:\w+\s+)?"), re.IGNORECASE)


@attrs.frozen
class _Group:
    task_type: TaskType
    weight: float
    patterns: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, task_type: TaskType, weight: float, words: str) -> _Group:
        single, *phrases = words.split("|")
        return cls(task_type, weight, (_word_pattern(single), *map(_phrase_pattern, phrases)))

    def hits(self, text: str) -> list[str]:
        return [match.group().lower() for pattern in self.patterns for match in pattern.finditer(text)]


_GROUPS = tuple(_Group.of(*group) for group in GROUPS)
_HARD = _word_pattern(HARD)


class KeywordClassifier:
    """Classifies the last user message: in English by its words, in other languages by length and structure only."""

    def classify(self, request: ChatRequest) -> TaskProfile:
        """Classify *request*; the type is `unknown` without text of the user."""
        asked = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
        return self.judge(asked[: MAX_JUDGED + 1])

    def judge(self, text: str) -> TaskProfile:
        """Classify *text*."""
        if not text.strip():
            return TaskProfile()
        # Code that a prompt quotes is material: its words do not describe the task.
        prose = _FENCE.sub(" ", text) or text
        found = [(group, hits) for group in _GROUPS if (hits := group.hits(prose))]
        keywords = tuple(dict.fromkeys(hit for _, hits in found for hit in hits))
        if not found:
            return TaskProfile("chat", _complexity(text, prose, 0.0), keywords)
        weight = max(group.weight for group, _ in found)
        return TaskProfile(found[0][0].task_type, _complexity(text, prose, weight), keywords)


def _complexity(text: str, prose: str, weight: float) -> float:
    """Return a complexity from 0 to 1; more words after the same text never lower it."""
    if len(text) > MAX_JUDGED:
        return 1.0
    words = len(_WORD.findall(text)) + len(_CJK.findall(text)) // 2
    demands = len(_SENTENCE.findall(prose))
    hard = len({match.group().lower() for match in _HARD.finditer(prose)})
    # Each part saturates, from 0 to 1: the tenth demand counts less than the second.
    length = 1 - math.exp(-max(0, words - 3) / 150)
    structure = 1 - math.exp(-max(0, demands - 1) / 6)
    difficulty = 1 - math.exp(-hard / 2)
    code = 0.1 if "```" in text else 0.0
    return round(min(1.0, weight + code + 0.35 * length + 0.2 * structure + 0.3 * difficulty), 6)
