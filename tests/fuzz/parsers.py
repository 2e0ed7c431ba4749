"""Fuzz the parsers that take bytes from outside, with atheris (https://github.com/google/atheris).

    python tests/fuzz/parsers.py -max_total_time=60

Each input goes to every parser. Only the errors that a parser documents may come out.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["clawft_trio"]):
    from clawft_trio.codec import decode_json
    from clawft_trio.config import parse_config
    from clawft_trio.context.skill_format import parse_skill_md
    from clawft_trio.errors import ClawftError
    from clawft_trio.net.sse import SSEDecoder
    from clawft_trio.observe import redact_secrets
    from clawft_trio.tools.builtin.charset import decode_body
    from clawft_trio.tools.builtin.page import page_text


def server_sent_events(data: bytes) -> None:
    """Split anywhere, the events are the same."""
    whole, parts = SSEDecoder(), SSEDecoder()
    at = len(data) // 2
    assert list(whole.feed(data)) == [*parts.feed(data[:at]), *parts.feed(data[at:])]


def pages(data: bytes) -> None:
    """Any body of any charset."""
    page_text(decode_body(data[8:], f"text/html; charset={data[:8].decode('latin-1')}"))


def texts(data: bytes) -> None:
    """Formats of text files."""
    text = data.decode(errors="replace")
    redact_secrets(text)
    parse_skill_md(text, source="fuzz", level="user")


PARSERS = (server_sent_events, pages, texts, decode_json, parse_config)


def one_input(data: bytes) -> None:
    """Feed all parsers."""
    for parser in PARSERS:
        try:
            parser(data)
        except ClawftError:
            pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
