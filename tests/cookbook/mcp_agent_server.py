"""An MCP server over HTTP whose tool is an agent; a client with a bearer token asks it.

Run it: python tests/cookbook/mcp_agent_server.py

Needs the extra `server`. The address is on loopback and the model is scripted.
"""

from __future__ import annotations

from functools import partial

import trio

from clawft_trio import AuthContext, HttpServer, open_agent, open_mcp, tool
from clawft_trio.agent import agent_server
from clawft_trio.errors import McpError
from clawft_trio.mcp import Bearer, HttpOptions, VerifiedToken, serve_mcp_http
from clawft_trio.testing import CallTool, ScriptedProvider

TOKENS = {"token-of-ana": AuthContext.local("ana")}  # in production: check a JWT of your authorization server


async def verify(token: str) -> VerifiedToken | None:
    """Who a token belongs to, and what it allows; None refuses it."""
    await trio.lowlevel.checkpoint()
    auth = TOKENS.get(token)
    return None if auth is None else VerifiedToken(auth=auth, scopes=["agent"])


@tool(mode="read_only", total=10.0)
async def weather(city: str) -> str:
    """The weather in a city, now."""
    await trio.lowlevel.checkpoint()
    return f"{city}: rain"


async def main() -> None:
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Take an umbrella.")
    bearer = Bearer(
        verify=verify,
        resource="https://agent.example.org/mcp",
        authorization_servers=["https://login.example.org"],
        scopes=["agent"],
    )
    async with (
        open_agent(["scripted/model"], providers={"scripted": model}, tools=[weather]) as agent,
        trio.open_nursery() as nursery,
    ):
        serve = partial(serve_mcp_http, agent_server(agent), "127.0.0.1:0", http=HttpOptions(bearer=bearer))
        address = await nursery.start(serve)
        async with open_mcp(HttpServer(address, token="token-of-ana")) as client:
            tools = [definition.name for definition in await client.list_tools()]
            result = await client.call_tool("ask", {"question": "What do I take along?", "session": "trip"}, total=30.0)
        print(tools, result.text)
        assert (tools, result.text) == (["ask"], "Take an umbrella.")

        try:
            async with open_mcp(HttpServer(address, token="a guess")):
                raise AssertionError("a wrong token was accepted")
        except McpError as error:
            print("a wrong token:", type(error).__name__)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
