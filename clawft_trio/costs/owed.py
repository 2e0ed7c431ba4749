"""Settlements that could not be written to the ledger yet, in a file beside the store.

The file is JSON lines, `<store>.owed`: one settlement per line, appended and synced when writing to the ledger fails.
The next process that opens the store takes the file and settles its entries. A settlement that is written twice counts
once, because a closed charge does not change.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import attrs
import trio

from clawft_trio.attempts import Certainty, Usage
from clawft_trio.chat import new_id
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.costs.records import Bill, ChargeState, Closing
from clawft_trio.errors import InvalidData

_FIELDS = tuple(field.name for field in attrs.fields(Usage) if field.name != "cost")

_MOST = 64 * 1024 * 1024
"""Largest part of the file in bytes that is read: about 200 000 settlements."""


class OwedFile:
    """The file of settlements that are not in the ledger yet.

    Args:
      path: the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    async def append(self, closings: Sequence[Closing]) -> None:
        """Add *closings* and wait until they are on disk.

        Raises:
          OSError: they could not be written.

        Cancellation: they are written or not.
        """
        # A line begins on a new line, because a full disk may have cut the one before.
        data = b"".join(b"\n" + encode_json(_to_json(closing)) + b"\n" for closing in closings)
        await trio.to_thread.run_sync(_append, self.path, data)

    async def take(self) -> tuple[tuple[Closing, ...], Path | None]:
        """Move the file aside and read it; invalid lines are left out.

        Returns:
          The settlements, and the file to delete once they are in the ledger; None when there is no file.

        Raises:
          OSError: the file cannot be moved or read.

        Cancellation: the file is moved or not; the next call finds a moved file.
        """
        return await trio.to_thread.run_sync(_take, self.path)

    async def remove(self, taken: Path) -> None:
        """Delete the file that `take` has moved aside.

        Raises:
          OSError: the file cannot be deleted.

        Cancellation: it is deleted or not.
        """
        await trio.to_thread.run_sync(lambda: taken.unlink(missing_ok=True))


def _append(path: Path, data: bytes) -> None:
    # One write to a file that is open for appending: lines of several processes do not mix.
    descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path | str, flags: int) -> int:
    """Open a file; what is at *path* and is no file, such as a pipe without its other end, is refused at once."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file", str(path))
    return descriptor


def _take(path: Path) -> tuple[tuple[Closing, ...], Path | None]:
    # A unique name, so that two processes never read the same file; an earlier file that was not deleted goes first.
    left = sorted(file for file in path.parent.glob(f"{path.name}.taken-*") if file.is_file())
    if not left and not path.is_file():
        return (), None
    taken = left[0] if left else path.with_name(f"{path.name}.taken-{new_id()}")
    try:
        if not left:
            path.rename(taken)
        with open(taken, "rb", opener=_open) as file:
            data = file.read(_MOST)
    except FileNotFoundError:
        return (), None
    found = [closing for line in data.splitlines() if (closing := _from_json(line)) is not None]
    return tuple(found), taken


def _to_json(closing: Closing) -> dict[str, Any]:
    bill = closing.bill
    return {
        "id": closing.id,
        "owner": closing.owner,
        "state": closing.state,
        "cost": None if bill.cost is None else str(bill.cost),
        "certainty": bill.certainty,
        "outcome": bill.outcome,
        "note": bill.note,
        "usage": {name: value for name in _FIELDS if (value := getattr(bill.usage, name))},
    }


def _from_json(line: bytes) -> Closing | None:
    """Parse the settlement in *line*; None when it is invalid, such as half a line before a power cut."""
    try:
        data: Any = decode_json(line)
        state, certainty, owner = data["state"], data["certainty"], data["owner"]
        known = state in get_args(ChargeState) and certainty in get_args(Certainty)
        if not known or type(data["id"]) is not int or not (isinstance(owner, str) and owner):
            return None
        cost = None if data["cost"] is None else Decimal(data["cost"])
        usage = Usage(**{name: data["usage"][name] for name in _FIELDS if name in data["usage"]})
        bill = Bill(usage=usage, cost=cost, certainty=certainty, outcome=str(data["outcome"]), note=str(data["note"]))
    except (InvalidData, ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return Closing(id=data["id"], state=state, bill=bill, owner=owner)
