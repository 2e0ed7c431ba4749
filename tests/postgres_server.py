"""A PostgreSQL server for the tests: Debian's, on a socket in a temporary folder, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
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

    @property
    def address(self) -> str:
        return f"postgresql://clawft@/postgres?host={self.folder}"

    def _run(self, program: str, *options: str) -> None:
        command = [self._bin / program, "-D", self.folder / "data", *options]
        subprocess.run(command, user=_user(), cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def create(self) -> None:
        self._run("initdb", "-U", "clawft", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self._fsync else "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "log_min_messages": "fatal",
        }
        with (self.folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it as a daemon, so that a test which asks for the children of this process does not find it."""
        self._run("pg_ctl", "-l", str(self.folder / "log"), "-w", "start")

    def wait_ready(self) -> None:
        """Wait until it accepts connections again, up to 30 s."""
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.address, connect_timeout=5).close()
                return
            except psycopg.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The id of the running server's main process."""
        return int((self.folder / "data" / "postmaster.pid").read_text("utf-8").split()[0])

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` rolls back and writes everything, `immediate` is a crash. Stopped already: nothing happens."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-m", mode, "-w", "stop")

    def restart(self, mode: str) -> None:
        """Stop it as `stop` does, and start it. One function: cancelling a test between the two would leave none running."""
        self.stop(mode)
        self.start()

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
