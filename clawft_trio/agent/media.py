"""Conversion of a bus message's attachments to parts for a model: images and files.

A `data:` URL contains the data. A path is read only within the workspace. A web address is passed to the model after a
check by the address policy; nothing is fetched here. An attachment that is refused is replaced by a line of text with
the reason, so that nothing is left out silently.
"""

from __future__ import annotations

import os
from base64 import b64decode
from binascii import Error as BinasciiError
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import trio

from clawft_trio.chat import File, Image, Part, Text
from clawft_trio.errors import ClawftError, Refused
from clawft_trio.net import AddressPolicy
from clawft_trio.observe import Event, Noted
from clawft_trio.observe.redaction import cut_redacted, redact_address
from clawft_trio.tools.workspace import Workspace

LARGEST = 20 * 1024 * 1024
"""Largest size of one attachment in bytes: as base64 it still fits into one request of the large vendors."""

MOST = 20
"""Largest number of attachments of one message."""

_LONGEST_TEXT = 100_000
"""Largest number of characters of a text file in a message."""


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
      media: as in `InboundMessage.media`; the first `MOST` are attached.
      workspace: the folder of paths; None: paths are refused.
      policy: decides which web addresses may be passed on.
      observer: receives a `Noted` for each attachment that is left out.
      turn_id: id of the turn.

    Cancellation: a read that has begun is awaited; nothing is changed.
    """
    await trio.lowlevel.checkpoint()
    parts: list[Part] = []
    for number, one in enumerate(media):
        try:
            if number >= MOST:
                raise Refused(f"more than {MOST} attachments")
            parts.append(await _part(one, workspace, policy))
        except (ClawftError, OSError, ValueError) as exc:
            shown = one[:60] if one.startswith("data:") else cut_redacted(one, 200, redact=redact_address)
            parts.append(Text(f"[attachment {shown} left out: {exc}]"))
            details = {"attachment": shown, "error": str(exc)}
            observer(Noted(component="agent", what="attachment left out", details=details, turn_id=turn_id))
    return tuple(parts)


async def _part(one: str, workspace: Path | None, policy: AddressPolicy) -> Part:
    if one.startswith("data:"):
        return _from_data_url(one)
    if "://" in one:
        return _from_address(one, policy)
    if workspace is None:
        raise Refused("there is no workspace")
    data = await trio.to_thread.run_sync(_read, workspace, one)
    return _made(data, guess_type(one)[0] or "application/octet-stream", Path(one).name)


def _from_data_url(url: str) -> Part:
    head, comma, body = url.partition(",")
    if not comma:
        raise ValueError("it is no data: URL")
    if len(body) > LARGEST * 4 // 3 + 4:
        raise ValueError(f"larger than {LARGEST} bytes")
    kind, *options = head.removeprefix("data:").split(";")
    try:
        data = b64decode(body, validate=True) if "base64" in options else unquote_to_bytes(body)
    except BinasciiError as exc:
        raise ValueError("its content is not base64") from exc
    return _made(data, kind.lower() or "text/plain", "")


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


def _read(workspace: Path, path: str) -> bytes:
    """Read the file at *path* in *workspace*. Blocks."""
    with Workspace(workspace).open_file(path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    return data


def _made(data: bytes, kind: str, name: str) -> Part:
    if not data:
        raise ValueError("it is empty")
    if len(data) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    if kind.startswith("image/"):
        return Image(data=data, media_type=kind)
    if kind.startswith("text/") or kind in {"application/json", "application/xml", "application/yaml"}:
        text = data.decode(errors="replace")
        cut = f"\n[{len(text) - _LONGEST_TEXT} characters left out]" if len(text) > _LONGEST_TEXT else ""
        return Text(f"[attachment {name or kind}]\n{text[:_LONGEST_TEXT]}{cut}")
    return File(data=data, media_type=kind, name=name)
