"""Text, reasoning, images and files of one message, in the form that a target accepts."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from collections import Counter
from fnmatch import fnmatchcase

import attrs

from clawft_trio.chat import File, Image, Message, Opaque, Part, Text
from clawft_trio.llm.conform.rules import Rules
from clawft_trio.target import split_name

REASONING = "openai:reasoning_content"
SIGNATURES = "openai:extra_content"
"""Dialects of the blocks that hold a message's `reasoning_content` and its calls' `extra_content`."""

_READABLE = ("text/", "application/json", "application/xml", "application/yaml", "application/x-yaml")
"""Media types of files that every model can read as text."""

_LONGEST_TEXT = 400_000
"""Bytes of a file that are converted to text: about the size of the smaller context windows."""

SEE_BELOW = "[{} shown in the message after the tool results]"
"""Text of a tool result whose images and files follow in a user message."""


def legal_content(message: Message, rules: Rules, origin: str, changes: Counter[str]) -> Message:
    """Return *message* with the parts that the target at *origin* accepts; itself when all are accepted."""
    content = message.content
    if len(content) == 1 and type(content[0]) is Text:
        # The usual message. Whether a blank one is allowed depends on its place in the conversation.
        return message
    parts: list[Part] = []
    for part in content:
        kept = _legal_part(part, message, rules, origin, changes)
        if kept is not None:
            parts.append(kept)
    if message.role in {"user", "tool"} and len(parts) > 1:
        parts = [part for part in parts if not isinstance(part, Text) or _shows(part)] or parts[:1]
    if len(parts) == len(content) and all(map(_same, parts, content)):
        return message
    return attrs.evolve(message, content=tuple(parts))


def _same(one: Part, other: Part) -> bool:
    return one is other


def _legal_part(part: Part, message: Message, rules: Rules, origin: str, changes: Counter[str]) -> Part | None:
    if isinstance(part, Text):
        return part
    if isinstance(part, Opaque):
        if _takes_block(part, message, rules, origin):
            return part
        changes["reasoning of another model left out"] += 1
        return None
    kept = _legal_media(part, message, rules)
    if isinstance(kept, Text):
        changes[f"{_noun(part)} replaced by a placeholder"] += 1
    return kept


def _takes_block(part: Opaque, message: Message, rules: Rules, origin: str) -> bool:
    if part.dialect not in rules.opaque:
        return False
    if not message.origin or message.origin == origin:
        return True
    same_provider = split_name(message.origin)[0] == split_name(origin)[0]
    return same_provider and part.block.get("type") in rules.shared_blocks


def _legal_media(part: Image | File, message: Message, rules: Rules) -> Part:
    part = inline(part)
    if not part.url and not part.data:
        return Text(f"[{_noun(part)} without content]")
    if message.role in {"system", "assistant"}:
        return Text(f"[{describe(part)}: not repeated]")
    if why := _not_taken(part, rules):
        if isinstance(part, File) and part.data and part.media_type.startswith(_READABLE):
            text = part.data[:_LONGEST_TEXT].decode(errors="replace")
            cut = "\n[cut]" if len(part.data) > _LONGEST_TEXT else ""
            return Text(f"[{describe(part)}]\n{text}{cut}")
        return Text(f"[{describe(part)}: this model does not take {why}]")
    return part


def _not_taken(part: Image | File, rules: Rules) -> str:
    """Return what of *part* the target does not accept; empty when it accepts the part."""
    image = isinstance(part, Image)
    kinds = rules.image_types if image else rules.file_types
    if not kinds:
        return f"{_noun(part)}s"
    if part.url:
        if not (rules.image_urls if image else rules.file_urls):
            return "web addresses"
        if part.url.partition(":")[0].lower() not in rules.url_schemes:
            return "such addresses"
        if image:
            # Only the server at the URL knows the image format.
            return ""
    return "" if any(fnmatchcase(part.media_type, one) for one in kinds) else "this format"


def inline(part: Image | File) -> Image | File:
    """Return *part* with its content, if its URL is a base64 `data:` URL."""
    if not part.url.startswith("data:"):
        return part
    head, _, body = part.url.partition(",")
    kind, _, encoding = head.removeprefix("data:").rpartition(";")
    try:
        data = b64decode(body, validate=True) if encoding == "base64" else b""
    except NotBase64:
        data = b""
    return attrs.evolve(part, url="", data=data, media_type=kind.partition(";")[0] or part.media_type)


def describe(part: Image | File) -> str:
    """Return one line about *part*: its kind, format, and size or URL."""
    where = part.url[:200] if part.url else f"{len(part.data)} bytes"
    name = f" {part.name[:100]}" if isinstance(part, File) and part.name else ""
    return f"{_noun(part)}{name} {part.media_type}, {where}"


def _noun(part: Image | File) -> str:
    return "image" if isinstance(part, Image) else "file"


def _shows(part: Text) -> bool:
    # `strip` would copy a text of megabytes.
    return bool(part.text) and not part.text.isspace()


def split_media(message: Message) -> tuple[Message, tuple[Image | File, ...]]:
    """Return a tool result without its images and files, and these separately."""
    media = tuple(part for part in message.content if isinstance(part, Image | File))
    rest = tuple(part for part in message.content if not isinstance(part, Image | File))
    if not any(isinstance(part, Text) and _shows(part) for part in rest):
        rest = (Text(SEE_BELOW.format(", ".join(map(describe, media)))),)
    return attrs.evolve(message, content=rest), media


def with_stand_ins(message: Message, rules: Rules) -> Message:
    """Return a message with calls, with placeholders for missing reasoning; itself when nothing is missing."""
    content = message.content
    if rules.reasoning_stand_in is not None and not _block(message, REASONING).get("reasoning_content"):
        stand_in = Opaque(REASONING, {"reasoning_content": rules.reasoning_stand_in})
        content = (*(part for part in content if not _is(part, REASONING)), stand_in)
    if rules.signature_stand_in is not None and not _is_signed(message):
        first = message.tool_calls[0].id
        signature = {"google": {"thought_signature": rules.signature_stand_in}}
        kept = {**_block(message, SIGNATURES), first: signature}
        content = (*(part for part in content if not _is(part, SIGNATURES)), Opaque(SIGNATURES, kept))
    return (
        message if content is message.content or content == message.content else attrs.evolve(message, content=content)
    )


def _is(part: Part, dialect: str) -> bool:
    return isinstance(part, Opaque) and part.dialect == dialect


def _block(message: Message, dialect: str) -> dict[str, object]:
    return next(
        (dict(part.block) for part in message.content if isinstance(part, Opaque) and part.dialect == dialect), {}
    )


def _is_signed(message: Message) -> bool:
    """Return whether the first call has a signature: parallel calls of one answer share one, on the first call."""
    extra = _block(message, SIGNATURES).get(message.tool_calls[0].id)
    google = extra.get("google") if isinstance(extra, dict) else None
    return isinstance(google, dict) and bool(google.get("thought_signature"))


def with_new_call_ids(message: Message, new_ids: dict[str, str]) -> Message:
    """Return *message* with the ids in its signature blocks replaced by *new_ids*."""
    parts = tuple(
        Opaque(part.dialect, {new_ids.get(key, key): value for key, value in part.block.items()})
        if isinstance(part, Opaque) and part.dialect == SIGNATURES
        else part
        for part in message.content
    )
    return message if parts == message.content else attrs.evolve(message, content=parts)
