"""Taking out what some models read as the end of one speaker and the beginning of another."""

from __future__ import annotations

import re

import attrs

_PASSES = 10
"""Taking one out may join what was around it into another; text that needs more passes was made to."""

_TOKENS = re.compile(
    r"</?system>|<\|(?:im_start|im_end|im_sep|endoftext|system|user|assistant)\|>|\[/?INST\]|<</?SYS>>",
    re.IGNORECASE,
)


@attrs.frozen
class Cleaned:
    """Text without control tokens."""

    text: str
    #: how many were taken out
    removed: int = 0
    #: False when some are left because there was no end to it
    clean: bool = True


def without_control_tokens(text: str) -> Cleaned:
    """*text* without the control tokens of chat templates, in any case of letters.

    Text from files ends up inside a prompt. A `<|im_end|>` in it could end the system's turn and let the file speak
    for the user. The list is the original's.
    """
    removed = 0
    for _ in range(_PASSES):
        # Almost every text has none, and this is far cheaper than the pattern.
        if not ("<" in text or "[" in text):
            break
        text, found = _TOKENS.subn("", text)
        if not found:
            break
        removed += found
    else:
        return Cleaned(text, removed, not _TOKENS.search(text))
    return Cleaned(text, removed)
