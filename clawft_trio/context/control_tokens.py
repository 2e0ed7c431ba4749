"""Removal of control tokens, which some models read as the end of a message and the beginning of another."""

from __future__ import annotations

import re

import attrs

_PASSES = 10
"""Number of passes: removing a token may join its neighbours into another; text that needs more passes is malicious."""

_TOKENS = re.compile(
    r"</?system>|<\|(?:im_start|im_end|im_sep|endoftext|system|user|assistant)\|>|\[/?INST\]|<</?SYS>>",
    re.IGNORECASE,
)


@attrs.frozen
class Cleaned:
    """Text without control tokens."""

    text: str
    #: number of removed tokens
    removed: int = 0
    #: False when some are left after `_PASSES` passes
    clean: bool = True


def without_control_tokens(text: str) -> Cleaned:
    """Remove the control tokens of chat templates from *text*, in upper and lower case.

    Text from files becomes part of a prompt. A `<|im_end|>` in it could end the system message and start one in the
    user's name. The list is that of the original clawft.
    """
    removed = 0
    for _ in range(_PASSES):
        # Almost every text has none, and this test is far cheaper than the pattern.
        if not ("<" in text or "[" in text):
            break
        text, found = _TOKENS.subn("", text)
        if not found:
            break
        removed += found
    else:
        return Cleaned(text, removed, not _TOKENS.search(text))
    return Cleaned(text, removed)
