"""Stores of OAuth tokens: in memory, or in a file that only the user can read."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import attrs
import msgspec
import trio

from clawft_trio.errors import StoreError
from clawft_trio.mcp.auth.records import Credentials, OAuthClient, Token

with suppress(ImportError):  # Windows, where everything still has to import
    import fcntl

MAX_FILE = 1024 * 1024
"""Largest token file in bytes."""

# A pipe must not be waited for, nor a link followed.
_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))

_LOCK_WITHIN = 10.0
"""Seconds that a store waits for the lock of the file. A write takes milliseconds."""

_LOCK_AGAIN = 0.02
"""Seconds between two attempts to get the lock."""


class TokenStore(Protocol):
    """Stores credentials by resource: the canonical URL of an MCP server."""

    async def load(self, resource: str) -> Credentials | None:
        """Return the credentials of *resource*, or None.

        Cancellation: nothing has changed.
        """
        ...

    async def save(self, resource: str, credentials: Credentials | None) -> None:
        """Store *credentials*, replacing older ones of the same resource; None deletes them.

        Cancellation: the new or the older credentials are stored.
        """
        ...


class MemoryTokenStore:
    """Credentials that are kept in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, Credentials] = {}

    async def load(self, resource: str) -> Credentials | None:
        """Return the credentials of *resource*, or None.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        return self._kept.get(resource)

    async def save(self, resource: str, credentials: Credentials | None) -> None:
        """Store *credentials*; None deletes them.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        if credentials is None:
            self._kept.pop(resource, None)
        else:
            self._kept[resource] = credentials


def default_token_file() -> Path:
    """Return the token file of the command line: in the user's configuration folder."""
    return Path.home() / ".clawft" / "mcp_tokens.json"


class FileTokenStore:
    """Credentials in one JSON file with mode 0600, replaced atomically.

    Args:
      path: path of the file; its folder is created with mode 0700 if it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<FileTokenStore {str(self._path)!r}>"

    async def load(self, resource: str) -> Credentials | None:
        """Return the credentials of *resource*, or None.

        Raises:
          StoreError: the file cannot be read, or others may read it.

        Cancellation: nothing has changed.
        """
        async with self._lock:
            return (await trio.to_thread.run_sync(self._read)).get(resource)

    async def save(self, resource: str, credentials: Credentials | None) -> None:
        """Store *credentials*; None deletes them.

        Raises:
          StoreError: the file cannot be written.

        Cancellation: the new or the older credentials are stored.
        """
        async with self._lock, self._folder_lock():
            await trio.to_thread.run_sync(self._update, resource, credentials)

    @asynccontextmanager
    async def _folder_lock(self) -> AsyncGenerator[None, None]:
        """Keep other stores of this file, in any process, from writing it during the block."""
        descriptor = await trio.to_thread.run_sync(self._open_folder)
        try:
            end = trio.current_time() + _LOCK_WITHIN
            while not _try_lock(descriptor):
                if trio.current_time() >= end:
                    raise self._error(f"another process has kept the token file locked for {_LOCK_WITHIN:g} s")
                await trio.sleep(_LOCK_AGAIN)
            yield
        finally:
            os.close(descriptor)

    def _error(self, text: str) -> StoreError:
        return StoreError(f"{self._path}: {text}", path=str(self._path))

    def _open_folder(self) -> int:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise self._error(f"the folder of the token file cannot be used: {exc.strerror}") from exc

    def _update(self, resource: str, credentials: Credentials | None) -> None:
        kept = dict(self._read())
        kept.pop(resource, None)
        if credentials is not None:
            kept[resource] = credentials
        self._write(msgspec.json.encode({key: attrs.asdict(value) for key, value in kept.items()}))

    def _read(self) -> Mapping[str, Credentials]:
        try:
            text = self._read_text()
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise self._error(f"the token file cannot be read: {exc.strerror}") from exc
        if len(text) > MAX_FILE:
            raise self._error(f"the token file is longer than {MAX_FILE} bytes")
        try:
            return {key: _credentials(one) for key, one in msgspec.json.decode(text, type=dict[str, _Kept]).items()}
        except (ValueError, RecursionError):
            # The text contains secrets, and so may the message of the decoder.
            raise self._error("the token file is not what was written there") from None

    def _read_text(self) -> bytes:
        descriptor = os.open(self._path, _READ)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise self._error("the token file cannot be read: it is not a file")
            if os.name == "posix" and mode & 0o077:
                raise self._error("the token file can be read by others: chmod 600 it")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_FILE + 1)
        finally:
            os.close(descriptor)

    def _write(self, text: bytes) -> None:
        try:
            # `mkstemp` creates files with mode 0600.
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(descriptor)
                Path(name).replace(self._path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as exc:
            raise self._error(f"the token file cannot be written: {exc.strerror}") from exc


def _try_lock(folder: int) -> bool:
    """Lock an open folder until it is closed; return False while another store has locked it.

    The token file itself is replaced with each write, and a lock on it would stay with the old one.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # this file system has no locks
    return True


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    issuer: str
    client: dict[str, str | None]
    token: dict[str, str | float | list[str] | None] | None = None
    requested: tuple[str, ...] = ()


def _credentials(kept: _Kept) -> Credentials:
    try:
        token = None
        if kept.token is not None:
            token = Token(**{**kept.token, "scopes": tuple(kept.token.get("scopes") or ())})  # type: ignore[arg-type]
        client = OAuthClient(**kept.client)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError("an unknown field") from None
    return Credentials(issuer=kept.issuer, client=client, token=token, requested=kept.requested)
