"""An MCP server that wants a login, its authorization server, and a person: scripted, on loopback sockets."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qs, urlencode, urlsplit

import trio


class Web:
    """A tiny HTTP server: paths and what they answer; every request is kept."""

    def __init__(self):
        self.routes = {}
        self.requests = []
        self.url = ""

    async def serve(self, stream):
        buffer = b""
        async with stream:
            while b"\r\n\r\n" not in buffer:
                chunk = await stream.receive_some()
                if not chunk:
                    return
                buffer += chunk
            head, _, body = buffer.partition(b"\r\n\r\n")
            line, *fields = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            while len(body) < int(headers.get("content-length", 0)):
                body += await stream.receive_some()
            method, target, _ = line.split()
            request = Web.Request(method, target, headers, body)
            self.requests.append(request)
            answer = self.routes.get(request.path)
            status, given, content = (404, {}, b"") if answer is None else await answer(request)
            fields = {"content-length": str(len(content)), "connection": "close", **given}
            text = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            try:
                await stream.send_all(text.encode() + b"\r\n" + content)
            except trio.BrokenResourceError:
                pass

    class Request:
        def __init__(self, method, target, headers, body):
            url = urlsplit(target)
            self.method, self.path, self.headers, self.body = method, url.path, headers, body
            self.query = url.query

        @property
        def form(self):
            return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    def paths(self):
        return [request.path for request in self.requests]


def as_json(status, document, **headers):
    return status, {"content-type": "application/json", **headers}, json.dumps(document).encode()


class World:
    """The resource, the authorization server and the person; a test changes what is to be different."""

    uri = "http://127.0.0.1:1/callback"

    def __init__(self):
        self.resource = Web()
        self.issuer = Web()
        self.metadata = {}
        self.resource_metadata = {}
        self.challenge = {}
        #: access tokens that the resource accepts, and their scopes
        self.valid = {}
        self.wants = {}
        self.redirect = {}
        self.visits = []
        self.registrations = []
        self.token_requests = []
        self.token_response = {}
        self.count = 0
        self.expires_in = 3600
        self.refreshes = True

    @asynccontextmanager
    async def listen(self):
        yield self

    async def visit(self, address):
        await trio.lowlevel.checkpoint()
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        self.visits.append(query)
        answer = {"code": "the-code", "state": query["state"], "iss": self.issuer.url, **self.redirect}
        return f"{query['redirect_uri']}?{urlencode({k: v for k, v in answer.items() if v is not None})}"

    async def server_metadata(self, _):
        await trio.lowlevel.checkpoint()
        url = self.issuer.url
        document = {
            "issuer": url,
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "registration_endpoint": f"{url}/register",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            **self.metadata,
        }
        return as_json(200, {key: value for key, value in document.items() if value is not None})

    async def register(self, request):
        await trio.lowlevel.checkpoint()
        self.registrations.append(json.loads(request.body))
        return as_json(201, {"client_id": f"client-{len(self.registrations)}", "token_endpoint_auth_method": "none"})

    async def token(self, request):
        await trio.lowlevel.checkpoint()
        self.token_requests.append(request)
        if not self.refreshes and request.form["grant_type"] == "refresh_token":
            return as_json(400, {"error": "invalid_grant"})
        self.count += 1
        token = f"secret-token-{self.count}"
        self.valid = {token: request.form.get("scope", self.visits[-1].get("scope", "") if self.visits else "").split()}
        document = {
            "access_token": token,
            "token_type": "Bearer",
            "refresh_token": f"secret-refresh-{self.count}",
            "expires_in": self.expires_in,
            **self.token_response,
        }
        return as_json(200, {key: value for key, value in document.items() if value is not None})

    async def metadata_of_resource(self, _):
        await trio.lowlevel.checkpoint()
        document = {"resource": f"{self.resource.url}/mcp", "authorization_servers": [self.issuer.url]}
        return as_json(200, {**document, **self.resource_metadata})

    async def mcp(self, request):
        await trio.lowlevel.checkpoint()
        if request.method != "POST":
            return 405, {}, b""
        message = json.loads(request.body)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        named = f'resource_metadata="{self.resource.url}/.well-known/oauth-protected-resource/mcp"'
        if token not in self.valid:
            extra = "".join(f', {name}="{value}"' for name, value in self.challenge.items())
            return as_json(401, {"error": f"bad token {token}"}, **{"www-authenticate": f"Bearer {named}{extra}"})
        missing = set(self.wants.get(message["method"], ())) - set(self.valid[token])
        if missing:
            header = f'Bearer error="insufficient_scope", scope="{" ".join(sorted(missing))}", {named}'
            return as_json(403, {}, **{"www-authenticate": header})
        if "id" not in message:
            return 202, {}, b""
        results = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "r"}},
            "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "fine"}]},
        }
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] not in results:
            return as_json(200, {**answer, "error": {"code": -32601, "message": "unknown method"}})
        return as_json(200, {**answer, "result": results[message["method"]]})


@asynccontextmanager
async def world():
    """Yields a running `World`."""
    made = World()
    made.resource.routes = {
        "/mcp": made.mcp,
        "/.well-known/oauth-protected-resource/mcp": made.metadata_of_resource,
    }
    made.issuer.routes = {
        "/.well-known/oauth-authorization-server": made.server_metadata,
        "/register": made.register,
        "/token": made.token,
    }
    async with trio.open_nursery() as nursery:
        for web in (made.resource, made.issuer):
            listeners = await nursery.start(partial(trio.serve_tcp, web.serve, 0, host="127.0.0.1"))
            web.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield made
        nursery.cancel_scope.cancel(reason="the test is over")


def basic_of(request):
    """The client id and secret of a token request."""
    return base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().split(":")
