"""Conversion of a bus message's attachments to parts for a model: images and files.

A `data:` URL contains the data. A path is read only within the workspace. A web address is passed to the model after a
check by the address policy; nothing is fetched here. An attachment that is refused is replaced by a line of text with
the reason, so that nothing is left out silently.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import trio

from clawft_trio.chat import File, Image, Part, Text
from clawft_trio.codec import decode_base64
from clawft_trio.errors import ClawftError, Refused
from clawft_trio.net import AddressPolicy
from clawft_trio.observe import Event, Noted
from clawft_trio.observe.redaction import cut_redacted, redact_address
from clawft_trio.tools.workspace import Workspace

LARGEST = 20 * 1024 * 1024
"""Largest size of all attachments of a message in bytes: as base64 they still fit into one request of large vendors."""

MOST = 20
"""Largest number of attachments of one message."""

_LONGEST_TEXT = 100_000
"""Largest number of characters of a text file in a message."""

_TOO_LARGE = f"larger than {LARGEST} bytes together with those before it"

_LONGEST_HEAD = 1000
"""Characters of a `data:` URL before its content."""

_LONGEST_ESCAPED = 1024 * 1024
"""Characters of a `data:` URL that is not base64: the library needs fifty times its memory."""


_SHORT = 16 * 1024
"""Characters of a `data:` URL that are decoded on the event loop."""


async def media_parts(
    media: Sequence[str],
    *,
    workspace: Path | None,
    policy: AddressPolicy,
    observer: Callable[[Event], None],
    turn_id: str = "",
) -> tuple[Part, ...]:
    """Return the parts for *media*: `data:` URLs, web addresses, and paths within *workspace*.

    Args:
      media: as in `InboundMessage.media`; the first `MOST` are attached, at most `LARGEST` bytes together.
      workspace: the folder of paths; None: paths are refused.
      policy: decides which web addresses may be passed on.
      observer: receives a `Noted` for each attachment that is left out, and one for all after the first `MOST`.
      turn_id: id of the turn.

    Cancellation: a read that has begun is awaited; nothing is changed.
    """
    await trio.lowlevel.checkpoint()
    parts: list[Part] = []

    def leave_out(shown: str, why: str) -> None:
        parts.append(Text(f"[attachment {shown} left out: {why}]"))
        details = {"attachment": shown, "error": why}
        observer(Noted(component="agent", what="attachment left out", details=details, turn_id=turn_id))

    room = LARGEST
    for one in media[:MOST]:
        try:
            part = await _part(one, workspace, policy, room)
            room -= len(part.data) if isinstance(part, Image | File) else 0
            parts.append(part)
        except (ClawftError, OSError, ValueError) as exc:
            shown = one[:60] if one.startswith("data:") else cut_redacted(one, 200, redact=redact_address)
            leave_out(shown, str(exc))
    if len(media) > MOST:
        leave_out(f"{MOST + 1} to {len(media)}", f"more than {MOST} attachments")
    return tuple(parts)


async def _part(one: str, workspace: Path | None, policy: AddressPolicy, room: int) -> Part:
    if one.startswith("data:"):
        return await _from_data_url(one, room)
    if "://" in one:
        return _from_address(one, policy)
    if workspace is None:
        raise Refused("there is no workspace")
    return await trio.to_thread.run_sync(_from_file, workspace, one, room)


async def _from_data_url(url: str, room: int) -> Part:
    work = partial(_read_data_url, url, room)
    return await trio.to_thread.run_sync(work) if len(url) > _SHORT else work()


def _read_data_url(url: str, room: int) -> Part:
    head, comma, _ = url[:_LONGEST_HEAD].partition(",")
    if not comma:
        raise ValueError("it is no data: URL")
    kind, *options = head.removeprefix("data:").split(";")
    start = len(head) + 1
    base64 = "base64" in options
    if len(url) - start > (room * 4 // 3 + 4 if base64 else _LONGEST_ESCAPED):
        raise ValueError(_TOO_LARGE if base64 else f"longer than {_LONGEST_ESCAPED} characters, and not base64")
    try:
        data = decode_base64(url, start) if base64 else unquote_to_bytes(url[start:])
    except ValueError as exc:
        raise ValueError("its content is not base64") from exc
    return _made(data, kind.lower() or "text/plain", "", room)


def _from_address(url: str, policy: AddressPolicy) -> Part:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
        raise Refused("a web address is https://, without credentials")
    policy.check_host(parts.hostname)
    with suppress(ValueError):
        policy.check_address(parts.hostname, str(ip_address(parts.hostname)))
    kind = guess_type(parts.path)[0] or "image/*"
    name = parts.path.rpartition("/")[2]
    return Image(url=url, media_type=kind) if kind.startswith("image/") else File(url=url, media_type=kind, name=name)


def _from_file(workspace: Path, path: str, room: int) -> Part:
    """Read the file at *path* in *workspace*. Blocks."""
    with Workspace(workspace).open_file(path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(room + 1)
    return _made(data, guess_type(path)[0] or "application/octet-stream", Path(path).name, room)


def _made(data: bytes, kind: str, name: str, room: int) -> Part:
    if not data:
        raise ValueError("it is empty")
    if len(data) > room:
        raise ValueError(_TOO_LARGE)
    if kind.startswith("image/"):
        return Image(data=data, media_type=kind)
    if kind.startswith("text/") or kind in {"application/json", "application/xml", "application/yaml"}:
        text = data.decode(errors="replace")
        cut = f"\n[{len(text) - _LONGEST_TEXT} characters left out]" if len(text) > _LONGEST_TEXT else ""
        return Text(f"[attachment {name or kind}]\n{text[:_LONGEST_TEXT]}{cut}")
    return File(data=data, media_type=kind, name=name)
