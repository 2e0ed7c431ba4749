"""Separates reasoning that a server sends in the text, between `<think>` and `</think>`.

Servers without a parser for the model's reasoning (Ollama, llama.cpp, vLLM) send it so. Only what stands at the
beginning of the answer, or right behind another such block, is reasoning: the tags may also be what an answer is about.
"""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkTags:
    """Splits text into text and reasoning as it comes, however it is cut. Holds back less than one tag."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        # `start`: only blanks so far; `inside` a block; `after` one, only blanks since; `text`: the answer.
        self._state: str = "start"
        self._held = ""

    def split(self, piece: str) -> tuple[str, str]:
        """The text and the reasoning that *piece* completes."""
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
        """What is held back at the end of the answer, as text and as reasoning."""
        rest, self._held = self._held, ""
        return ("", rest) if self._state == "inside" else (rest, "")

    def _before_text(self) -> bool:
        """Look for an opening tag; False while more has to come."""
        blank = self._held.lstrip()
        if not blank:
            # A model that begins with blank lines has not begun yet; behind a block they belong to nothing.
            self._held = "" if self._state == "after" else self._held
            return False
        if blank.startswith(_OPEN):
            self._held, self._state = blank[len(_OPEN) :], "inside"
            return True
        if _OPEN.startswith(blank):
            return False
        self._held = blank if self._state == "after" else self._held
        self._state = "text"
        return True

    def _inside(self) -> tuple[str, bool]:
        """The reasoning so far, and whether its block was closed."""
        thought, closed, behind = self._held.partition(_CLOSE)
        if closed:
            self._held, self._state = behind, "after"
            return thought, True
        keep = next((size for size in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:size])), 0)
        self._held = thought[len(thought) - keep :]
        return thought[: len(thought) - keep], False
