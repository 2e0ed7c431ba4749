"""The system prompt as a value: its parts, with source and estimated tokens."""

from __future__ import annotations

import attrs

SEPARATOR = "\n\n---\n\n"
"""Separator of parts, as in the original clawft; models read it as a break."""


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of *text*: a quarter of its UTF-8 bytes, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


@attrs.frozen(kw_only=True)
class PromptPart:
    """One part of the system prompt."""

    #: for example `SOUL.md`, `Skills`, `Memory`
    title: str
    #: path of its file, or what made it
    source: str
    text: str = attrs.field(repr=False)
    tokens: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "tokens", estimated_tokens(self.text))


@attrs.frozen
class SystemPrompt:
    """A system prompt and its parts."""

    parts: tuple[PromptPart, ...]
    #: one line for each file that could not be used, or was changed
    problems: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    #: the text that the model gets
    text: str = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "text", SEPARATOR.join(part.text for part in self.parts))

    @property
    def tokens(self) -> int:
        """Estimated tokens of the whole text."""
        return estimated_tokens(self.text)
