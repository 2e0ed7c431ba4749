"""The text of an HTML page, without markup, which costs a model fewer tokens.

A page may be malicious, so the time is linear in its length for any content. (The standard library's HTMLParser takes
minutes for 300 kB of `<a <a <a`, and holds the interpreter meanwhile.) The grammar is simplified: a `>` inside an
attribute ends the tag.
"""

from __future__ import annotations

import html
import re

# Elements that a browser does not show as text.
_UNSEEN = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object"})

# Elements that start a new line.
_BLOCK_NAMES = (
    "address article aside blockquote br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr li main "
    "nav ol p pre section table title tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())

_NAME = re.compile(r"/?[a-zA-Z][a-zA-Z0-9-]*")
# An unclosed quote ends with the tag, because a search for its end at every `href=` would be quadratic.
_ADDRESS = re.compile(r"""\shref=("[^"]*|'[^']*|[^\s"']+)""", re.IGNORECASE)

_LONGEST_TAG = 4096
"""Characters of a tag that are searched for an address."""


def page_text(page: str) -> str:
    """Extract the text of a page: no markup, a line per block, the address after each link. Blocks the thread."""
    reader = _Reader(page)
    reader.read()
    lines = (" ".join(line.split()) for line in html.unescape("".join(reader.found)).split("\n"))
    return "\n".join(line for line in lines if line)


class _Reader:
    def __init__(self, page: str) -> None:
        self.found: list[str] = []
        self._page = page
        self._links: list[str] = []

    def read(self) -> None:
        at = 0
        while (start := self._page.find("<", at)) >= 0:
            self._text(self._page[at:start])
            at = self._markup(start)
        self._text(self._page[at:])

    def _text(self, text: str) -> None:
        # Line breaks in the source are spaces; only elements start a new line.
        self.found.append(text.replace("\n", " "))

    def _markup(self, start: int) -> int:
        """Read the markup that begins with the `<` at *start*, and return the index of its end."""
        if self._page.startswith("<!--", start):
            return self._behind("-->", start + 4)
        if self._page[start + 1 : start + 2] in {"!", "?"}:
            return self._behind(">", start)
        name = _NAME.match(self._page, start + 1)
        if name is None:
            self.found.append("<")
            return start + 1
        end = self._behind(">", name.end())
        tag = name[0].lower()
        if tag in _UNSEEN:
            closing = re.compile(f"</{tag}", re.IGNORECASE).search(self._page, end)
            return closing.start() if closing else len(self._page)
        self._tag(tag, self._page[name.end() : min(end, name.end() + _LONGEST_TAG)].removesuffix(">"))
        return end

    def _behind(self, mark: str, start: int) -> int:
        found = self._page.find(mark, start)
        return len(self._page) if found < 0 else found + len(mark)

    def _tag(self, tag: str, rest: str) -> None:
        if tag.removeprefix("/") in _BLOCKS:
            self.found.append("\n")
        elif tag == "a":
            found = _ADDRESS.search(rest)
            self._links.append(found[1].strip("\"'") if found else "")
        elif tag == "/a" and self._links:
            address = self._links.pop()
            # Addresses of places on the same page and of scripts are useless for a model.
            if address and not address.lower().startswith(("#", "javascript:")):
                self.found.append(f" &lt;{address}&gt; ")
