"""Decode the body of a page by the charset that its server names, out of a list of charsets that decode fast.

Some of Python's codecs take time that grows with the square of the input (`punycode`: 38 s for 2 MiB), and importing
one by a name from outside would load any module of `encodings`. So names are looked up in a table, never by
`codecs.lookup`.
"""

from __future__ import annotations

import codecs
import encodings.aliases
from collections.abc import Iterator

# The encodings of the web (https://encoding.spec.whatwg.org), by the names of Python's modules. Each takes time linear
# in the input.
_ALLOWED_TEXT = (
    "ascii utf_8 utf_8_sig utf_16 utf_16_le utf_16_be latin_1 iso8859_1 iso8859_2 iso8859_3 "
    "iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9 iso8859_10 iso8859_11 iso8859_13 iso8859_14 "
    "iso8859_15 iso8859_16 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp437 cp850 cp866 cp874 "
    "koi8_r koi8_u mac_roman mac_cyrillic tis_620 gb2312 gbk gb18030 big5 big5hkscs euc_jp iso2022_jp shift_jis "
    "cp932 euc_kr cp949"
)
_ALLOWED = frozenset(_ALLOWED_TEXT.split())

_LONGEST_NAME = 40
"""Characters of a charset's name; the registered ones have fewer."""

_PIECE = 1 << 13
"""Bytes that are decoded in one call: a call holds the interpreter, 8 KiB for at most 2 ms."""


def decode_body(body: bytes, content_type: str) -> str:
    """Decode *body*; what is not valid is replaced by U+FFFD. Blocks the thread.

    Args:
      body: of any bytes; the time is linear in their number.
      content_type: the header's value. A charset that is missing or not one of the web's is UTF-8.
    """
    codec = _codec(content_type)
    if codec == "utf_16":
        # Python's own refuses text without a byte order mark; the web's is little-endian then.
        codec = "utf_16_be" if body.startswith(codecs.BOM_UTF16_BE) else "utf_16_le"
    decoder = codecs.getincrementaldecoder(codec)("replace")
    return "".join(_pieces(decoder, body)).removeprefix("\ufeff")


def _pieces(decoder: codecs.IncrementalDecoder, body: bytes) -> Iterator[str]:
    for start in range(0, len(body), _PIECE):
        yield decoder.decode(body[start : start + _PIECE])
    yield decoder.decode(b"", final=True)


def _codec(content_type: str) -> str:
    """The name of an allowed codec: the one that *content_type* names, or UTF-8."""
    _, found, rest = content_type.lower().partition("charset=")
    label = rest.partition(";")[0].strip(" \"'") if found else ""
    if not label.isascii() or len(label) > _LONGEST_NAME:
        return "utf_8"
    name = label.replace("-", "_").replace(".", "_").replace(" ", "_")
    name = encodings.aliases.aliases.get(name, name)
    return name if name in _ALLOWED else "utf_8"
