"""The system prompt as a value: its parts, where each came from, and what each costs."""

from __future__ import annotations

import attrs

SEPARATOR = "\n\n---\n\n"
"""Between parts: what the original puts there, and what models read as a break."""


def estimated_tokens(text: str) -> int:
    """About how many tokens *text* is: a quarter of its UTF-8 bytes, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


@attrs.frozen(kw_only=True)
class PromptPart:
    """One part of the system prompt."""

    #: `SOUL.md`, `Skills`, `Memory`
    title: str
    #: the path it came from, or what made it
    source: str
    text: str = attrs.field(repr=False)
    tokens: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "tokens", estimated_tokens(self.text))


@attrs.frozen
class SystemPrompt:
    """A system prompt and how it came about."""

    parts: tuple[PromptPart, ...]
    #: what was found and could not be used, a line each
    problems: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    #: exactly what the model gets
    text: str = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "text", SEPARATOR.join(part.text for part in self.parts))

    @property
    def tokens(self) -> int:
        """The estimate for the whole."""
        return estimated_tokens(self.text)
