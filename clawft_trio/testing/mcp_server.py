"""A scriptable MCP server: in process over any two streams, or as a child process.

It shares no code with the client that it tests: it uses plain `json` and plain dicts.


In process, a test answers selected requests by hand:

    server = ScriptedMcpServer(hold=["tools/call"])
    nursery.start_soon(server.run, send, receive)
    held = await server.wait_held()
    await held.answer({"content": []})

As a child process (`scripted_server("--ignore-eof")` is its command), its tools act as their arguments demand:

| tool | arguments | does |
|---|---|---|
| `echo` | `text` | returns it |
| `sleep` | `seconds` | takes so long |
| `hold` | | answers when `release` is called |
| `release` | `reverse`, `count` | answers everything that `hold` holds, once it holds so many |
| `die` | `code`, `words` | writes *words* to stderr and exits |
| `raw` | `base64`, `answer` | writes these bytes to stdout; answers itself only with `answer: true` |
| `big` | `size` | a text of so many characters |
| `stderr` | `bytes` | writes so many bytes to stderr |
| `stop_reading` | | answers, and never reads again |
| `close_stdout` | | closes its stdout and lives on |
| `grandchild` | `ignore_term` | starts a child that holds all pipes open; returns its pid |
| `progress` | `steps`, `pause` | reports so often, then answers |
| `notify` | `method`, `params`, `times` | sends notifications, then answers |
| `ask` | `method`, `params`, `id` | sends a request to the client; answers with what the client sent |
| `seen` | | the messages that it got so far |
| `env`, `pid` | | its environment, its pid |
"""

from __future__ import annotations

import argparse
import base64
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import trio
import trio.testing

Json: TypeAlias = dict[str, Any]
RequestCallback: TypeAlias = Callable[[Json], Awaitable[Any]]
"""Answers a request from its `params`; raises `Failure` to respond with an error."""


class Failure(Exception):
    """Makes the server respond with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Held:
    """A request that the server received and that a test answers by hand, once."""

    def __init__(self, server: ScriptedMcpServer, message: Json) -> None:
        self._server = server
        self.id: Any = message["id"]
        self.method: str = message["method"]
        self.params: Json = message.get("params", {})

    def __repr__(self) -> str:
        return f"<Held {self.method} id={self.id!r}>"

    async def answer(self, result: Any) -> None:
        """Respond with *result*.

        Cancellation: the response may have been cut.
        """
        await self._server.write({"jsonrpc": "2.0", "id": self.id, "result": result})

    async def fail(self, code: int, message: str) -> None:
        """Respond with an error.

        Cancellation: the response may have been cut.
        """
        await self._server.write({"jsonrpc": "2.0", "id": self.id, "error": {"code": code, "message": message}})


class ScriptedMcpServer:
    """An MCP server controlled by a test.

    Args:
      hold: methods whose requests wait for the test (`wait_held`).
      answers: functions that answer methods, overriding the built-in ones.
      protocol: the revision that it names in the handshake.
      tools: the content of `tools/list`; None lists the built-in tools.
    """

    def __init__(
        self,
        *,
        hold: Iterable[str] = (),
        answers: Mapping[str, RequestCallback] | None = None,
        protocol: str = "2025-11-25",
        tools: list[Json] | None = None,
    ) -> None:
        self.protocol = protocol
        self.tools = tools
        #: every message that came in, in order
        self.received: list[Json] = []
        self._hold = set(hold)
        self._answers: dict[str, RequestCallback] = {
            "initialize": self._initialize,
            "ping": self._ping,
            "tools/list": self._list_tools,
            "tools/call": self._call_tool,
        }
        self._answers.update(answers or {})
        self._held_in, self._held = trio.open_memory_channel[Held](10_000)
        self._asked: dict[Any, Any] = {}
        self._answered = trio.lowlevel.ParkingLot()
        self._tools = _Tools(self)
        #: False: nothing more is read
        self.reads: bool = True
        self._last_id = 0
        self._lock = trio.Lock()
        self._send: trio.abc.SendStream | None = None

    async def run(self, send: trio.abc.SendStream, receive: trio.abc.ReceiveStream) -> None:
        """Serve until the client closes its end.

        Cancellation: stops at once.
        """
        self._send = send
        buffer = bytearray()
        async with send, receive, trio.open_nursery() as nursery:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for chunk in receive:
                    buffer += chunk
                    *lines, buffer = buffer.split(b"\n")
                    for line in lines:
                        self._take(json.loads(line), nursery)
                    if not self.reads:
                        await trio.sleep_forever()
            nursery.cancel_scope.cancel(reason="the client closed its end")

    async def wait_held(self) -> Held:
        """Return the next request that this test has to answer.

        Cancellation: none is lost.
        """
        return await self._held.receive()

    async def write(self, message: Any) -> None:
        """Write one message.

        Cancellation: it may have been cut.
        """
        await self.write_raw(json.dumps(message).encode() + b"\n")

    async def write_raw(self, data: bytes) -> None:
        """Write these bytes, whatever they are.

        Cancellation: they may have been cut.
        """
        assert self._send is not None, "no client is connected"
        async with self._lock:
            await self._send.send_all(data)

    async def close_output(self) -> None:
        """Close the stream to the client and continue to read.

        Cancellation: it is closed.
        """
        assert self._send is not None, "no client is connected"
        await self._send.aclose()

    async def notify(self, method: str, params: Json | None = None) -> None:
        """Send a notification.

        Cancellation: it may have been cut.
        """
        await self.write({"jsonrpc": "2.0", "method": method, "params": params or {}})

    async def ask(self, method: str, params: Json | None = None, *, request_id: Any = None) -> Json:
        """Send a request to the client and wait for its complete response message.

        Cancellation: a later response is ignored.
        """
        if request_id is None:
            self._last_id += 1
            request_id = f"s{self._last_id}"
        await self.write({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})
        while request_id not in self._asked:
            await self._answered.park()
        response: Json = self._asked.pop(request_id)
        return response

    def _take(self, message: Json, nursery: trio.Nursery) -> None:
        self.received.append(message)
        if "method" not in message:
            self._asked[message.get("id")] = message
            self._answered.unpark_all()
        elif "id" in message:
            if message["method"] in self._hold:
                self._held_in.send_nowait(Held(self, message))
            else:
                nursery.start_soon(self._answer, Held(self, message))

    async def _answer(self, request: Held) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._answer_to(request)

    async def _answer_to(self, request: Held) -> None:
        answer = self._answers.get(request.method)
        if answer is None:
            await request.fail(-32601, f"unknown method {request.method}")
            return
        try:
            result = await answer({**request.params, "request_id": request.id})
        except Failure as exc:
            await request.fail(exc.code, str(exc))
            return
        if result is not None:
            await request.answer(result)

    async def _initialize(self, _: Json) -> Json:
        await trio.lowlevel.checkpoint()
        return {
            "protocolVersion": self.protocol,
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "scripted", "version": "1"},
        }

    async def _ping(self, _: Json) -> Json:
        await trio.lowlevel.checkpoint()
        return {}

    async def _list_tools(self, _: Json) -> Json:
        await trio.lowlevel.checkpoint()
        if self.tools is not None:
            return {"tools": self.tools}
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in _Tools.names()]}

    async def _call_tool(self, params: Json) -> Json | None:
        if params["name"] not in _Tools.names():
            raise Failure(-32602, f"unknown tool {params['name']}")
        tool = getattr(self._tools, params["name"])
        arguments = dict(params.get("arguments", {}))
        arguments["_meta"] = params.get("_meta", {})
        result = await tool(arguments)
        if result is None:
            return None
        return {"content": [{"type": "text", "text": result if isinstance(result, str) else json.dumps(result)}]}


class _Tools:
    """The built-in tools: each method is the tool of its name."""

    def __init__(self, server: ScriptedMcpServer) -> None:
        self._server = server
        self._waiting: list[trio.Event] = []

    @classmethod
    def names(cls) -> list[str]:
        """Names of all tools, sorted."""
        return [name for name, value in sorted(vars(cls).items()) if inspect.iscoroutinefunction(value)]

    async def echo(self, arguments: Json) -> str:
        await trio.lowlevel.checkpoint()
        return str(arguments["text"])

    async def sleep(self, arguments: Json) -> str:
        await trio.sleep(arguments["seconds"])
        return "slept"

    async def hold(self, arguments: Json) -> str:
        event = trio.Event()
        self._waiting.append(event)
        await event.wait()
        return str(arguments.get("text", "released"))

    async def release(self, arguments: Json) -> str:
        while len(self._waiting) < arguments.get("count", 0):
            await trio.testing.wait_all_tasks_blocked(0.001)
        waiting, self._waiting = self._waiting, []
        for event in reversed(waiting) if arguments.get("reverse") else waiting:
            event.set()
            await trio.testing.wait_all_tasks_blocked()
        return str(len(waiting))

    async def die(self, arguments: Json) -> None:
        await trio.lowlevel.checkpoint()
        sys.stderr.write(arguments.get("words", ""))
        sys.stderr.flush()
        os._exit(arguments.get("code", 0))

    async def raw(self, arguments: Json) -> str | None:
        await self._server.write_raw(base64.b64decode(arguments["base64"]))
        return "written" if arguments.get("answer") else None

    async def big(self, arguments: Json) -> str:
        await trio.lowlevel.checkpoint()
        return "x" * int(arguments["size"])

    async def stderr(self, arguments: Json) -> str:
        await trio.lowlevel.checkpoint()
        sys.stderr.write("e" * 99 + "\n")
        sys.stderr.write(("f" * 99 + "\n") * (int(arguments["bytes"]) // 100))
        sys.stderr.flush()
        return "written"

    async def stop_reading(self, _: Json) -> str:
        await trio.lowlevel.checkpoint()
        self._server.reads = False
        return "deaf"

    async def close_stdout(self, _: Json) -> None:
        await self._server.close_output()
        os.close(1)

    async def grandchild(self, arguments: Json) -> str:
        await trio.lowlevel.checkpoint()
        ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if arguments.get("ignore_term") else ""
        program = f"import signal, time; {ignore}print(end='', flush=True); time.sleep(600)"
        # Inherits stdin, stdout and stderr, as the children of `npx` do.
        child = subprocess.Popen([sys.executable, "-c", program])  # noqa: ASYNC220, S603 - nothing here waits for it
        return str(child.pid)

    async def progress(self, arguments: Json) -> str:
        token = arguments["_meta"]["progressToken"]
        steps = int(arguments["steps"])
        for step in range(1, steps + 1):
            await trio.sleep(arguments.get("pause", 0))
            await self._server.notify(
                "notifications/progress",
                {"progressToken": token, "progress": step, "total": steps, "message": f"step {step}"},
            )
        return "done"

    async def notify(self, arguments: Json) -> str:
        for _ in range(arguments.get("times", 1)):
            await self._server.notify(arguments["method"], arguments.get("params"))
        return "sent"

    async def ask(self, arguments: Json) -> Json:
        return await self._server.ask(arguments["method"], arguments.get("params"), request_id=arguments.get("id"))

    async def seen(self, _: Json) -> Any:
        await trio.lowlevel.checkpoint()
        return self._server.received

    async def env(self, _: Json) -> Json:
        await trio.lowlevel.checkpoint()
        return dict(os.environ)

    async def pid(self, _: Json) -> str:
        await trio.lowlevel.checkpoint()
        return str(os.getpid())


def scripted_server(*flags: str) -> tuple[str, ...]:
    """The command that runs a `ScriptedMcpServer` as a child process.

    Flags: `--ignore-eof`, `--ignore-term`, `--silent` (never answers anything), `--banner TEXT` (on stdout, before
    anything else), `--die CODE` (at once, after `--words TEXT` on stderr), `--protocol REVISION`.
    """
    # -P: the folder of this file must not come before the standard library.
    return (sys.executable, "-P", __file__, *flags)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=textwrap.dedent((__doc__ or "").partition("\n")[0]))
    parser.add_argument("--ignore-eof", action="store_true")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--banner", default="")
    parser.add_argument("--die", type=int)
    parser.add_argument("--words", default="")
    parser.add_argument("--protocol", default="2025-11-25")
    return parser.parse_args(arguments)


async def _main(flags: argparse.Namespace) -> None:
    if flags.banner:
        os.write(1, flags.banner.encode() + b"\n")
    if not flags.silent:
        server = ScriptedMcpServer(protocol=flags.protocol)
        # Duplicates, so that closing a stream is not closing the descriptor that grandchildren inherit.
        await server.run(trio.lowlevel.FdStream(os.dup(1)), trio.lowlevel.FdStream(os.dup(0)))
    if flags.silent or flags.ignore_eof:
        await trio.sleep_forever()


def main() -> None:
    """Run as a child process."""
    flags = _parse(sys.argv[1:])
    if flags.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if flags.die is not None:
        sys.stderr.write(flags.words)
        sys.exit(flags.die)
    trio.run(partial(_main, flags))


if __name__ == "__main__":
    main()
