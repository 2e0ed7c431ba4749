"""An MCP server that does one hostile thing: `python hostile_mcp_server.py KIND [http]`.

Over stdio; with `http` on a port of its own, which is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KIND = sys.argv[1]
TOOL = {"name": "t", "description": "d", "inputSchema": {"type": "object"}}
MANY = 5_000
LARGE_RESULTS: dict[str, dict[str, Any]] = {
    "picture": {"content": [{"type": "image", "data": "iVBO" * 10_000_000, "mimeType": "image/png"}]},
    "objects": {"content": [], "structuredContent": {"rows": [{"a": 1}] * 100_000}},
}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def doubling() -> dict[str, Any]:
    definitions = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    return {"type": "object", "$defs": {**definitions, "d40": {}}, "allOf": [{"$ref": "#/$defs/d0"}]}


def tools() -> list[dict[str, Any]]:
    if KIND == "description":
        return [{**TOOL, "description": "d" * 40_000_000}]
    if KIND == "schema":
        return [{**TOOL, "inputSchema": {"type": "object", "properties": {f"a{n}": {} for n in range(300_000)}}}]
    if KIND == "deep schema":
        return [{**TOOL, "inputSchema": deep(400)}]
    if KIND == "doubling schema":
        return [{**TOOL, "inputSchema": doubling()}]
    if KIND == "pattern":
        properties = {"a": {"type": "string", "pattern": "^(a+)+$"}}
        return [{**TOOL, "inputSchema": {"type": "object", "properties": properties}}]
    if KIND == "many tools":
        return [TOOL, *({**TOOL, "name": f"t{n}"} for n in range(MANY))]
    if KIND == "names":
        return [TOOL, *({**TOOL, "name": name} for name in ("", "\x1b[2J", "[/x]", "x" * 100_000, "a b", "t", "../t"))]
    if KIND == "types":
        return [TOOL, *({**TOOL, "name": f"t{n}", "description": n, "annotations": [n]} for n in range(50))]
    return [TOOL]


def before(request: dict[str, Any]) -> Iterator[str]:
    """What is sent before the answer to a call."""
    token = request["params"].get("_meta", {}).get("progressToken", 1)
    notifications = {
        "list_changed": {"method": "notifications/tools/list_changed"},
        "logs": {"method": "notifications/message", "params": {"level": "info", "data": "x" * 100}},
        "progress": {"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}},
        "updates": {"method": "notifications/resources/updated", "params": {"uri": "x:y"}},
        "unknown": {"method": "notifications/\x1b[2J", "params": {}},
        "answers": {"id": 10**9, "result": {}},
        "requests": {"id": "z", "method": "ping"},
        "large": {"method": "notifications/message", "params": {"level": "info", "data": [{}] * 1_000_000}},
        "sampling": {"id": "s", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 10**12}},
    }
    if KIND in notifications:
        yield from [json.dumps({"jsonrpc": "2.0", **notifications[KIND]})] * (1 if KIND == "large" else MANY)
    if KIND == "nesting":
        yield "[" * 1_000_000
    if KIND == "no JSON":
        yield "{" + "x" * 100_000


def text() -> str:
    return {"text": "t" * 20_000_000, "escapes": "\x1b]0;x\x07\u202e" * 1000, "surrogates": "\ud800" * 1000}.get(
        KIND, "fine"
    )


def result(request: dict[str, Any]) -> dict[str, Any]:
    method = request.get("method")
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}, "logging": {}}
        info = {"name": "e" * (5_000_000 if KIND == "info" else 1), "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
    if method == "tools/list":
        endless = {"nextCursor": str(request["id"])} if KIND == "pages" else {}
        return {"tools": tools(), **endless}
    if method == "tools/call" and KIND in LARGE_RESULTS:
        return LARGE_RESULTS[KIND]
    if method == "tools/call":
        return {"content": [{"type": "text", "text": text()}] * (MANY if KIND == "parts" else 1)}
    return {}


def answers(request: dict[str, Any]) -> Iterator[str]:
    if request.get("method") == "tools/call":
        yield from before(request)
    yield json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result(request)})


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_DELETE = do_GET  # noqa: N815 - as above

    def do_POST(self) -> None:  # noqa: N802 - as above
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200 if "id" in request and "method" in request else 202)
        if "id" not in request or "method" not in request:
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for answer in answers(request):
            self.wfile.write(f"data: {answer}\n\n".encode())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    if "http" in sys.argv:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Http)
        print(server.server_port, flush=True)
        server.serve_forever()
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            for answer in answers(request):
                sys.stdout.write(answer + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
