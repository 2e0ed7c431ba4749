"""Decode the body of a page by the charset of its header, from a table of charsets that decode in linear time.

Some of Python's codecs take time that grows with the square of the input (`punycode`: 38 s for 2 MiB), and a codec's
name from outside could import any module of `encodings`. So names are looked up in the table, never by
`codecs.lookup`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping

# The labels of the web (https://encoding.spec.whatwg.org/#names-and-labels) by the names of Python's codecs, each of
# which takes time linear in the input. Where browsers use a superset of a label's charset, so does this table.
_CODECS = {
    "utf_8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8",
    "cp866": "866 cp866 csibm866 ibm866",
    "iso8859_2": ("csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2"),
    "iso8859_3": ("csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3"),
    "iso8859_4": ("csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4"),
    "iso8859_5": ("csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988"),
    "iso8859_6": (
        "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 "
        "iso-8859-6-e iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 "
        "iso_8859-6:1987"
    ),
    "iso8859_7": (
        "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 "
        "iso88597 iso_8859-7 iso_8859-7:1987 sun_eu_greek"
    ),
    "iso8859_8": (
        "csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 "
        "iso88598 iso_8859-8 iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical"
    ),
    "iso8859_10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso8859_13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859_14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859_15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    "iso8859_16": "iso-8859-16",
    "koi8_r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8_u": "koi8-ru koi8-u",
    "mac_roman": "csmacintosh mac macintosh x-mac-roman",
    "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
    "cp1250": "cp1250 windows-1250 x-cp1250",
    "cp1251": "cp1251 windows-1251 x-cp1251",
    "cp1252": (
        "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 "
        "iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 "
        "x-cp1252"
    ),
    "cp1253": "cp1253 windows-1253 x-cp1253",
    "cp1254": (
        "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 "
        "iso_8859-9:1989 l5 latin5 windows-1254 x-cp1254"
    ),
    "cp1255": "cp1255 windows-1255 x-cp1255",
    "cp1256": "cp1256 windows-1256 x-cp1256",
    "cp1257": "cp1257 windows-1257 x-cp1257",
    "cp1258": "cp1258 windows-1258 x-cp1258",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "gb18030": ("chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030"),
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc_jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
    "iso2022_jp": "csiso2022jp iso-2022-jp",
    "cp932": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    "cp949": (
        "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949"
    ),
    "utf_16_be": "unicodefffe utf-16be",
    "utf_16_le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le",
    "cp437": "cp437 ibm437 437",
    "cp850": "cp850 ibm850 850",
}

_SEPARATORS = str.maketrans("", "", "-_.: \t\"'")
"""Characters in which spellings of one label differ (`latin1`, `Latin-1`), and quotes."""

_LABELS: Mapping[str, str] = {
    label.translate(_SEPARATORS): codec for codec, labels in _CODECS.items() for label in labels.split()
}

_MARKS = ((codecs.BOM_UTF8, "utf_8"), (codecs.BOM_UTF16_BE, "utf_16_be"), (codecs.BOM_UTF16_LE, "utf_16_le"))
"""Byte order marks, which override the label."""

_PIECE = 1 << 13
"""Bytes decoded in one call. A call holds the interpreter: at most 2 ms for 8 KiB."""


def decode_body(body: bytes, content_type: str) -> str:
    """Decode *body*; invalid bytes are replaced by U+FFFD. Blocks the thread.

    Args:
      body: any bytes; the time is linear in their number.
      content_type: the header's value. A charset that is missing or not one of the web's is UTF-8.
    """
    codec = next((codec for mark, codec in _MARKS if body.startswith(mark)), None) or _codec(content_type)
    decoder = codecs.getincrementaldecoder(codec)("replace")
    return "".join(_pieces(decoder, body)).removeprefix("\ufeff")


def _pieces(decoder: codecs.IncrementalDecoder, body: bytes) -> Iterator[str]:
    for start in range(0, len(body), _PIECE):
        yield decoder.decode(body[start : start + _PIECE])
    yield decoder.decode(b"", final=True)


def _codec(content_type: str) -> str:
    """Return the codec for the charset in *content_type*; UTF-8 when it is missing or unknown."""
    for parameter in content_type.lower().split(";")[1:]:
        name, _, label = parameter.partition("=")
        if name.strip() == "charset":
            return _LABELS.get(label.translate(_SEPARATORS), "utf_8")
    return "utf_8"
