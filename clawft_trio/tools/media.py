"""Images and files in tool results: the model receives them beside the text."""

from __future__ import annotations

from typing import TypeAlias

from clawft_trio.chat import File, Image, Text
from clawft_trio.tools.truncate import RESULT_LIMIT, answer_text

Media: TypeAlias = Image | File

MEDIA_LIMIT = 5 * 1024 * 1024
"""Largest size in bytes of one image or file of a result: Anthropic's documented limit for an image."""

MOST_MEDIA = 20
"""Largest number of images and files in one result."""


def split_result(
    value: object, *, limit: int = RESULT_LIMIT, media_limit: int = MEDIA_LIMIT
) -> tuple[str, tuple[Media, ...]]:
    """Split a tool's return value into its text, in at most *limit* bytes, and its images and files.

    A tool returns an `Image` or a `File`, or a list or tuple of these with text between. One that is larger than
    *media_limit* bytes is replaced by a line of text; so is each after the first `MOST_MEDIA`.
    """
    if isinstance(value, Image | File | Text):
        value = [value]
    if not isinstance(value, list | tuple) or not any(isinstance(one, Image | File | Text) for one in value):
        return answer_text(value, limit=limit), ()
    texts: list[str] = []
    media: list[Media] = []
    for one in value:
        if isinstance(one, Image | File):
            why = _too_much(one, len(media), media_limit)
            if why:
                texts.append(why)
            else:
                media.append(one)
        else:
            texts.append(one.text if isinstance(one, Text) else answer_text(one, limit=limit))
    text = "\n".join(text for text in texts if text)
    return (answer_text(text, limit=limit) if text else ""), tuple(media)


def _too_much(one: Media, before: int, limit: int) -> str:
    noun = "image" if isinstance(one, Image) else "file"
    if len(one.data) > limit:
        return f"[{noun} {one.media_type} left out: {len(one.data)} bytes, and {limit} are the most]"
    return f"[{noun} {one.media_type} left out: one of more than {MOST_MEDIA}]" if before >= MOST_MEDIA else ""
