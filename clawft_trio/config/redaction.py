"""Masks the secrets that people write into addresses and commands of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from clawft_trio.config.structuring import VARIABLE
from clawft_trio.observe.redaction import redact_address

REDACTED = "***"

# Bounded, so that the time is linear in the text.
_NAME = r"""
    -{0,2} (?: [\w-]{0,40} (?: key | token | secret | passw | passphrase | passcode | credential | bearer ) [\w-]{0,40}
             | (?: [\w-]{0,40} [_-] )? (?: auth | authorization | pat | pwd | pass | cookie | headers? | pin ) )
    """
_NAMES = re.compile(_NAME, re.IGNORECASE | re.VERBOSE)

# A word of letters and digits, like most tokens; not a path, an address or a version.
_TOKEN = re.compile(r"(?=[^0-9]*[0-9]) (?=[^A-Za-z]*[A-Za-z]) [\w+=-]{12,500}", re.VERBOSE)

# `curl -H`: the next word is often a credential.
_HEADER = "-H"

# Inside the single word that a shell gets (`sh -c "serve --token X"`).
_INSIDE = re.compile(
    rf"(?P<name> (?<![\w-]) {_NAME} (?: = | \s+ (?!-) )) (?P<value> '[^']*' | \"[^\"]*\" | \S+ )",
    re.IGNORECASE | re.VERBOSE,
)


def redacted(text: str) -> str:
    """Return *text* without credentials: words that are shaped like one, accounts and queries of addresses.

    A text that names variables (`${NAME}`) is returned unchanged, unless it contains a secret besides them.
    """
    bare = VARIABLE.sub("", text)
    shown = redact_address(bare)
    return text if shown == bare else shown


def show_address(value: str | None) -> str:
    """Return the `repr` of an address in a configuration, masked."""
    return repr(None if value is None else redacted(value))


def show_arguments(words: Sequence[str]) -> str:
    """Return the `repr` of a command's arguments in a configuration, masked."""
    return repr(tuple(redacted_arguments(words)))


def redacted_arguments(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command, with values of options like `--token` masked, in the same word or the next."""
    before = ""
    for word in words:
        yield _argument(word, before)
        before = word


def _argument(word: str, before: str) -> str:
    if not VARIABLE.sub("", word):
        return word
    # A flag without a value is followed by the next flag.
    if (before == _HEADER or (before.startswith("-") and _NAMES.fullmatch(before))) and not word.startswith("--"):
        return REDACTED
    name, equals, value = word.partition("=")
    if equals and VARIABLE.sub("", value) and _NAMES.fullmatch(name):
        return f"{name}={REDACTED}"
    if _TOKEN.fullmatch(word):
        return REDACTED
    if " " in word:
        word = _INSIDE.sub(_without_value, word)
    return redacted(word)


def _without_value(found: re.Match[str]) -> str:
    return found["name"] + (REDACTED if VARIABLE.sub("", found["value"]) else found["value"])
