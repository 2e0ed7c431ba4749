"""The process of a server: a separate session, a clean environment, captured stderr, and a bounded shutdown."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from clawft_trio.errors import MAX_BODY, CannotStart, PeerGone, Unsupported
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe.redaction import Redactor, cut_redacted, make_redactor, redact_address

INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""Variables that a server inherits. All others, including all our keys, must be passed to it explicitly."""

_LINE = 2000
"""Characters of one line of stderr that are kept."""

_EXIT_GRACE = 0.25
"""Seconds to wait for the exit code and the rest of stderr of a server that has closed its stdout."""

_KILLED_WITHIN = 1.0
"""Seconds until the processes of a group have ended after SIGKILL; one in an uninterruptible wait is abandoned."""

# A shorter value is a flag or a number; masking it would mask half of the text.
_SHORTEST_SECRET = 8

# Characters that could forge a line of a log, or change a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_log = logging.getLogger("clawft_trio.mcp.server")


def _words(command: str | Sequence[str]) -> tuple[str, ...]:
    return (command,) if isinstance(command, str) else tuple(command)


def _has_a_program(_: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    if not value or not all(isinstance(word, str) for word in value) or not value[0]:
        raise ValueError(f"{attribute.name}: expected a program and its arguments, got {value!r}")


def _shown_command(command: tuple[str, ...]) -> str:
    # Any argument may contain a token.
    program = redact_address(command[0])
    return repr(program) if len(command) == 1 else f"{program!r} with {len(command) - 1} arguments"


def _secrets_of(server: StdioServer) -> Iterator[str]:
    """Yield secrets that *server* may write to stderr: its variables, and the values of its options."""
    values = [*server.env.values(), *_values(server.command[1:])]
    # A PEM key is printed line by line.
    return (line for value in values for line in value.splitlines() if len(line) >= _SHORTEST_SECRET)


def _values(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the values of `--token` and similar options, and words like tokens: with a digit, no slash and no space."""
    before = ""
    for word in arguments:
        option, _, value = word.partition("=") if word.startswith("-") else (before, "", word)
        if _SECRET_OPTION.search(option) or _TOKEN.fullmatch(value):
            yield value
        before = word


_SECRET_OPTION = re.compile("key|token|secret|pass|pwd|auth|credential|bearer|cookie|header", re.IGNORECASE)
_TOKEN = re.compile(r"[^\s/0-9]*[0-9][^\s/]*")


@attrs.frozen
class StdioServer:
    """How an MCP server is started as a child process and stopped.

    To stop it, its stdin is closed; after `eof_grace` seconds its process group gets SIGTERM; after `term_grace` more
    seconds SIGKILL.
    """

    #: program and arguments; a string is a program without arguments
    command: tuple[str, ...] = attrs.field(converter=_words, validator=_has_a_program, repr=_shown_command)
    #: environment variables in addition to `inherit`
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False, kw_only=True)
    #: names of environment variables that it inherits
    inherit: tuple[str, ...] = attrs.field(default=INHERITED, kw_only=True)
    cwd: str | None = attrs.field(default=None, kw_only=True)
    eof_grace: float = attrs.field(default=2.0, kw_only=True)
    term_grace: float = attrs.field(default=2.0, kw_only=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of the process."""
        return {name: os.environ[name] for name in self.inherit if name in os.environ} | dict(self.env)


class ServerProcess:
    """A running server; `open_server_process` yields it."""

    def __init__(self, process: trio.Process, server: StdioServer, name: str, on_line: Callable[[str], None]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.name = name
        assert isinstance(process.stdin, trio.lowlevel.FdStream)
        self.stdin: trio.lowlevel.FdStream = process.stdin
        self.stdout: trio.abc.ReceiveStream = process.stdout
        self._stderr = process.stderr
        self._process = process
        self._server = server
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=50)
        self._stderr_ended = trio.Event()
        #: masks the values of its environment and arguments that may be secrets
        self.redact: Redactor = make_redactor(_secrets_of(server))

    def __repr__(self) -> str:
        return f"<ServerProcess {self.name!r} pid={self.pid} exit_code={self.exit_code}>"

    @property
    def pid(self) -> int:
        """Id of the process and of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code as in `subprocess`: negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait_gone(self) -> None:
        """Wait until it has exited, and a moment for the rest of the data in the pipe.

        A grandchild may keep the pipe open forever, so the end of the pipe is not waited for.

        Cancellation: nothing has changed.
        """
        await self._process.wait()
        await trio.sleep(_EXIT_GRACE)

    async def exit_error(self) -> PeerGone:
        """Return the error for its end, with its exit code and last lines of stderr, after a short wait for them.

        Cancellation: nothing has changed.
        """
        with trio.move_on_after(_EXIT_GRACE):
            await self._process.wait()
            await self._stderr_ended.wait()
        words = "\n".join(self._tail)[-MAX_BODY:]
        last = f"; its stderr ended with: {self._tail[-1]}" if self._tail else ""
        return PeerGone(f"the server {self._fate()}{last}", exit_code=self.exit_code, stderr=words, server=self.name)

    def _fate(self) -> str:
        code = self.exit_code
        if code is None:
            return "closed the connection"
        return f"exited with code {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"

    async def _read_stderr(self) -> None:
        rest, noted = b"", False
        try:
            while data := bytes(await self._stderr.receive_some(65_536)):
                *lines, rest = (rest + data).split(b"\n")
                if lines and noted:
                    # The rest of a long line may begin inside of a secret.
                    lines, noted = lines[1:], False
                for line in lines:
                    self._note(line)
                if len(rest) > 4 * _LINE:
                    # No reader needs a longer line; without a bound it would be kept forever.
                    if not noted:
                        self._note(rest)
                    rest, noted = b"", True
            if noted:
                rest = b""
            self._note(rest)
        except trio.BrokenResourceError:
            pass
        finally:
            self._stderr_ended.set()

    def _note(self, line: bytes) -> None:
        words = _CONTROL.sub(" ", line[: 4 * _LINE].decode("utf-8", "replace")).strip()
        text = cut_redacted(words, _LINE, redact=self.redact, partial=len(line) > 4 * _LINE)
        if not text:
            return
        self._tail.append(text)
        _log.info("%s: %s", self.name, text)
        self._on_line(text)

    async def _shut_down(self) -> None:
        """Close stdin, then send SIGTERM and SIGKILL to the group. Shielded; takes the graces and a second at most."""
        await self.stdin.aclose()
        with trio.move_on_after(self._server.eof_grace):
            await self._process.wait()
        if self._signal(signal.SIGTERM):
            with trio.move_on_after(self._server.term_grace):
                await self._wait_group_gone()
        if self._signal(signal.SIGKILL):
            with trio.move_on_after(_KILLED_WITHIN):
                await self._wait_group_gone()

    async def _wait_group_gone(self) -> None:
        await self._process.wait()
        wait = 0.005
        while self._signal(0):
            await trio.sleep(wait)
            wait = min(2 * wait, 0.1)

    def _signal(self, number: int) -> bool:
        """Send a signal to the process group; return whether it had any process."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    async def _drain(self) -> None:
        # A server that writes into a full pipe would never exit by itself.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self.stdout.receive_some(65_536):
                pass


@asynccontextmanager
async def open_server_process(
    server: StdioServer, *, name: str = "", on_line: Callable[[str], None] = lambda _: None
) -> AsyncGenerator[ServerProcess, None]:
    """Run *server* for the duration of the block; at its end no process of its group is left.

    Args:
      server: the server to start.
      name: its name in errors and logs.
      on_line: called with each line of its stderr; sync and cheap.

    Raises:
      CannotStart: there is no such program, or it cannot be executed.
      Unsupported: this platform has no process groups.

    Cancellation: the process is stopped as at the end of the block, within its grace times.
    """
    process = ServerProcess(await _spawn(server, name), server, name, on_line)
    life = trio.CancelScope(shield=True)

    async def accompany() -> None:
        with life:
            async with process._stderr, trio.open_nursery() as helpers:
                helpers.start_soon(process._read_stderr)
                helpers.start_soon(_guard, process.pid)

    async with open_hidden_nursery() as nursery:
        nursery.start_soon(accompany)
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)
            life.cancel(reason="the server has ended")


# Kills the group when its stdin ends. Only this process holds the other end, so that happens when this process ends,
# even by SIGKILL. A parent-death signal is no alternative: it is bound to the thread that forks, and trio ends idle
# threads.
_GUARD = 'read -r _; kill -KILL "-$1"'


async def _guard(group: int) -> None:
    """Run a process that kills *group* when this process ends; until cancelled."""
    try:
        guard = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", _GUARD, "sh", str(group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # It needs no variables, and other processes of the same user can read those of a process.
            env={},
            # A Ctrl-C at the terminal goes to our process group, and must not end it.
            start_new_session=True,
        )
    except OSError as exc:
        _log.info("the server is not ended if this process is killed: %s", exc)
        return
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            # Killed before its stdin is closed, because the number of the group may now belong to other processes.
            guard.kill()
            await guard.wait()
            assert guard.stdin is not None
            await guard.stdin.aclose()


async def _end(process: ServerProcess) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process._drain)
        await process._shut_down()
        nursery.cancel_scope.cancel(reason="the server has ended")
    await process.stdout.aclose()


async def _spawn(server: StdioServer, name: str) -> trio.Process:
    if os.name != "posix":
        raise Unsupported("MCP servers over stdio need POSIX process groups")
    try:
        return await trio.lowlevel.open_process(
            server.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=server.environment(),
            cwd=server.cwd,
            start_new_session=True,
        )
    except OSError as exc:
        # A URL in place of a command may contain a password.
        what = redact_address(str(server.command[0] if exc.filename is None else exc.filename))
        hint = _hint(server.command) if isinstance(exc, FileNotFoundError) else ""
        raise CannotStart(f"the server cannot be started: {what!r}: {exc.strerror or exc}{hint}", server=name) from exc


def _hint(command: Sequence[str]) -> str:
    """Return advice for a *command* with one part that is not a program."""
    first = str(command[0])
    if first.startswith(("http://", "https://")):
        return "; a server over HTTP is HttpServer(url)"
    if len(command) == 1 and " " in first:
        return "; a command with arguments is a list: ['python', 'server.py']"
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
