"""Plays one scenario of the public MCP conformance suite over streamable HTTP.

Run by the suite itself, which names the scenario in the environment and gives its server's address:

    conformance client --command "python tests/mcp/conformance_client.py" --scenario tools_call --spec-version 2025-11-25
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio

from clawft_trio.errors import AuthorizationFailed, McpError
from clawft_trio.mcp import Host, HttpServer, McpOptions, OAuth, OAuthClient, open_mcp
from clawft_trio.mcp.types import ElicitResult

CLIENT_METADATA = "https://conformance-test.local/client-metadata.json"


class NoPerson:
    """Asks the authorization server itself, which grants everything at once."""

    uri = "http://localhost:3000/callback"

    @asynccontextmanager
    async def listen(self):
        """Be ready; there is nothing to listen on."""
        yield self

    async def visit(self, address):
        """Return where the authorization endpoint redirects to."""
        return await trio.to_thread.run_sync(location_of, address)


def location_of(address):
    """Where *address* redirects to."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    try:
        connection.request("GET", f"{url.path}?{url.query}")
        return connection.getresponse().headers["location"]
    finally:
        connection.close()


def login(context):
    """How the scenario wants the client to log in."""
    if "private_key_pem" in context:
        client = OAuthClient(
            client_id=context["client_id"],
            private_key=context["private_key_pem"],
            algorithm=context.get("signing_algorithm", "ES256"),
        )
        return OAuth(client=client, grant="client_credentials")
    if "client_id" in context:
        client = OAuthClient(client_id=context["client_id"], client_secret=context.get("client_secret"))
        if os.environ["MCP_CONFORMANCE_SCENARIO"] == "auth/client-credentials-basic":
            return OAuth(client=client, grant="client_credentials")
        return OAuth(client=client, user_agent=NoPerson())
    return OAuth(user_agent=NoPerson(), client_metadata_url=CLIENT_METADATA)


async def accept(_):
    """Accept every form as it is: the client fills in its defaults."""
    await trio.lowlevel.checkpoint()
    return ElicitResult(action="accept", content={})


async def sample(_):
    """Answer for a model."""
    await trio.lowlevel.checkpoint()
    return {"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "none"}


async def sse_retry(client):
    await client.call_tool("test_reconnection")


async def tools_call(client):
    result = await client.call_tool("add_numbers", {"a": 5, "b": 3})
    assert not result.is_error


async def elicitation(client):
    await client.call_tool("test_client_elicitation_defaults")


async def preservation(client):
    tools = {tool.name: tool for tool in await client.list_tools()}
    [echo] = [name for name in tools if name != "json_schema_2020_12_tool"]
    await client.call_tool(echo, {"schema": tools["json_schema_2020_12_tool"].input_schema})


async def request_state(client):
    async with trio.open_nursery() as nursery:
        for tool in await client.list_tools():
            nursery.start_soon(call_contained, client, tool.name, {})


async def given_calls(client):
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    for call in context.get("toolCalls", []):
        await call_contained(client, call["name"], call["arguments"])


async def standard_headers(client):
    for tool in await client.list_tools():
        await call_contained(client, tool.name, {})
    for resource in await client.list_resources():
        await client.read_resource(resource.uri)
    for prompt in await client.list_prompts():
        await client.get_prompt(prompt.name)


async def invalid_tool_headers(client):
    for tool in await client.list_tools():
        await call_contained(client, tool.name, {"region": "us-west1"})


async def call_contained(client, name, arguments):
    """Call a tool; whether the call succeeds is not what the scenario asks."""
    try:
        await client.call_tool(name, arguments)
    except McpError as exc:
        print(f"{name}: {exc!r}", file=sys.stderr)


async def nothing_more(client):
    pass


async def after_login(client):
    """Call each tool twice: the second call shows whether a token that stopped serving is renewed."""
    for _ in range(2):
        for tool in await client.list_tools():
            await client.call_tool(tool.name)


SCENARIOS = {
    "initialize": nothing_more,
    "tools_call": tools_call,
    "elicitation-sep1034-client-defaults": elicitation,
    "sse-retry": sse_retry,
    "json-schema-2020-12-preservation": preservation,
    "request-metadata": nothing_more,
    "sep-2322-client-request-state": request_state,
    "http-standard-headers": standard_headers,
    "http-custom-headers": given_calls,
    "http-invalid-tool-headers": invalid_tool_headers,
    "json-schema-ref-no-deref": nothing_more,
}


async def main() -> None:
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    version = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    era = "stateless" if version >= "2026" else "handshake"
    options = McpOptions(protocol=era, host=Host(roots=(), sample=sample, elicit=accept), supervision=None)
    is_auth = scenario.startswith("auth/")
    server = HttpServer(sys.argv[1], auth=login(context) if is_auth else None)
    async with open_mcp(server, name="conformance", options=options) as client:
        await client.list_tools()
        await (after_login if is_auth else SCENARIOS[scenario])(client)


if __name__ == "__main__":
    try:
        trio.run(main)
    except AuthorizationFailed as exc:
        # Scenarios of hostile authorization servers want this very end.
        sys.exit(f"no login: {exc}")
