"""Separates reasoning that a server sends within the text, between `<think>` and `</think>`.

Servers without a parser for the model's reasoning (Ollama, llama.cpp, vLLM) send it in this form. Only a block at the
start of the answer, or directly after another such block, is reasoning: elsewhere an answer may mention the tags.
"""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkTags:
    """Splits text into text and reasoning while it arrives, wherever it is cut. Holds back less than one tag."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        # `start`: only blanks so far; `inside`: in a block; `after`: only blanks after a block; `text`: the answer.
        self._state: str = "start"
        self._held = ""

    def split(self, piece: str) -> tuple[str, str]:
        """Return the text and the reasoning that *piece* completes."""
        if self._state == "text":
            return piece, ""
        text, thoughts = "", ""
        self._held += piece
        while self._held and self._state != "text":
            if self._state == "inside":
                thought, more = self._inside()
                thoughts += thought
                if not more:
                    break
            elif not self._before_text():
                break
        if self._state == "text":
            text, self._held = self._held, ""
        return text, thoughts

    def rest(self) -> tuple[str, str]:
        """Return what is held back at the end of the answer, as text and as reasoning."""
        rest, self._held = self._held, ""
        return ("", rest) if self._state == "inside" else (rest, "")

    def _before_text(self) -> bool:
        """Look for an opening tag, and return whether there is one; its first characters alone need more input."""
        if self._state == "after":
            # Blank lines after a block are dropped; at the start they belong to the text that follows.
            self._held = self._held.lstrip()
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._held, self._state = begun[len(_OPEN) :], "inside"
            return True
        if not _OPEN.startswith(begun):
            self._state = "text"
        return False

    def _inside(self) -> tuple[str, bool]:
        """Return the reasoning so far, and whether its block was closed."""
        thought, closed, behind = self._held.partition(_CLOSE)
        if closed:
            self._held, self._state = behind, "after"
            return thought, True
        keep = next((size for size in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:size])), 0)
        self._held = thought[len(thought) - keep :]
        return thought[: len(thought) - keep], False
