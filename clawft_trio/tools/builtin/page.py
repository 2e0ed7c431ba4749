"""The text of an HTML page, for a reader that pays by the word."""

from __future__ import annotations

from html.parser import HTMLParser

_UNSEEN = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object"})

# Elements that begin a line of their own.
_BLOCK_NAMES = (
    "address article aside blockquote br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr li main "
    "nav ol p pre section table title tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())


def page_text(html: str) -> str:
    """What a page says: text without markup, a line for each block, an address behind each link. Blocks."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.found).split("\n"))
    return "\n".join(line for line in lines if line)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._unseen: list[str] = []
        self._links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif tag in _BLOCKS:
            self.found.append("\n")
        elif tag == "a":
            self._links.append(dict(attrs).get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen and tag == self._unseen[-1]:
            self._unseen.pop()
        elif tag in _BLOCKS:
            self.found.append("\n")
        elif tag == "a" and self._links:
            address = self._links.pop()
            # Places on the same page and scripts lead nowhere.
            if address and not address.startswith(("#", "javascript:")) and not self._unseen:
                self.found.append(f" <{address}> ")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            # Line breaks in the source are spaces; those that count are put in by the elements.
            self.found.append(data.replace("\n", " "))
