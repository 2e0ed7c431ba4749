"""A PostgreSQL server for the tests: Debian's, on a socket in a temporary folder, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import psycopg
except ImportError:
    psycopg = None

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [
    Path(found) for found in [shutil.which("postgres")] if found
]


def missing() -> str:
    """Why there can be no server here; empty when there can."""
    if not BINARIES:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if psycopg is None:
        return "psycopg is not installed: pip install 'clawft-trio[postgres]'"
    return ""


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Server:
    """A server that can be stopped, killed and started again."""

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self.folder = folder
        self._fsync = fsync
        self._bin = BINARIES[-1].parent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"postgresql://clawft@/postgres?host={self.folder}"

    def _run(self, *command: str) -> None:
        subprocess.run(command, user=_user(), cwd=self.folder, check=True, capture_output=True, timeout=60)

    def create(self) -> None:
        self._run(
            str(self._bin / "initdb"), "-D", f"{self.folder}/data", "-U", "clawft", "-A", "trust", "-E", "UTF8",
            "--no-sync", "--locale=C.UTF-8",
        )  # fmt: skip

    def start(self) -> None:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self._fsync else "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "log_min_messages": "fatal",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", f"{self.folder}/data", *settings],
                user=_user(), cwd=self.folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.address, connect_timeout=5).close()
                return
            except psycopg.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        """End it: `fast` rolls back and writes everything, `immediate` is a crash."""
        if self._process is None:
            return
        self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        self._process.wait(timeout=30)
        self._process = None

    def schema(self) -> str:
        """The address of a new, empty schema."""
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.address}&options=-csearch_path%3D{name}"


@contextmanager
def running(*, fsync: bool = False) -> Iterator[Server]:
    # Not under pytest's own folder: its parents are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="clawft-pg-"))
    user = _user()
    if user is not None:
        shutil.chown(folder, user)
    server = Server(folder, fsync=fsync)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with running() as shown:
        print(shown.schema(), flush=True)
        sys.stdin.read()
