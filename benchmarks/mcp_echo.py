"""An MCP server that does as little as one can, so that what is measured is the client.

Its tool `echo` gives back `text`, or `size` characters; `flood` sends `count` notifications before it answers.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\n'
_HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "echo", "version": "1"},
}
_TOOLS = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "flood")]}


def main() -> None:
    decode, encode, out = msgspec.json.decode, msgspec.json.encode, sys.stdout.buffer
    for line in sys.stdin.buffer:
        message = decode(line)
        if "id" not in message:
            continue
        method, params = message["method"], message.get("params") or {}
        if method == "initialize":
            result: Any = _HELLO
        elif method == "tools/list":
            result = _TOOLS
        elif method != "tools/call":
            result = {}
        else:
            arguments, text = params["arguments"], ""
            if params["name"] == "flood":
                out.write(NOTE * arguments["count"])
            else:
                text = arguments.get("text") or "x" * arguments["size"]
            result = {"content": [{"type": "text", "text": text}]}
        out.write(encode({"jsonrpc": "2.0", "id": message["id"], "result": result}) + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
