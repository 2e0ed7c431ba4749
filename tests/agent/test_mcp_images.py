"""Images of MCP servers reach a model that takes images; another one reads what there was."""

import json
import sys

import pytest
from judged import open_fault_server

from clawft_trio import open_agent, provider_named
from clawft_trio.testing import CallTool, Finish, Say

PNG, WAV = "iVBORw0KGgo=", "UklGRg=="
SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    method = message["method"]
    if method == "initialize":
        version = message["params"]["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "shot", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        result = {"content": CONTENT}
    else:
        if "id" in message:  # the question for a newer protocol
            error = {"code": -32601, "message": "Method not found"}
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
TEXT = {"type": "text", "text": "The page:"}
SOUND = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}
EMBEDDED = {"type": "resource", "resource": {"uri": "file:///a.png", "mimeType": "image/png", "blob": PNG}}


async def sent(target, vendor, *content):
    """The messages that *target* gets after a tool of an MCP server has answered *content*."""
    name, _, model = target.partition("/")
    script = [CallTool("pw__shot"), Finish()], [Say("done"), Finish()]
    code = SERVER.replace("CONTENT", repr(list(content)))
    async with open_fault_server(*script, accepts=vendor) as server:
        async with (
            provider_named(name, base_url=server.url, api_key="k", environ={}) as provider,
            open_agent([target], providers={name: provider}, mcp={"pw": [sys.executable, "-c", code]}) as agent,
        ):
            reply = await agent.ask("q")
        assert reply.text == "done"
        assert server.refusals == []
        return server.requests[1].body.get("messages") or server.requests[1].body["input"]


@pytest.mark.parametrize(
    ("target", "vendor", "content"),
    [
        ("anthropic/claude-sonnet-4-5", "anthropic", [IMAGE]),
        ("anthropic/claude-sonnet-4-5", "anthropic", [IMAGE, EMBEDDED, TEXT]),
        ("openai/gpt-4o", "openai", [TEXT, IMAGE]),
        ("openai/gpt-5-pro", "openai", [EMBEDDED]),
        ("gemini/gemini-3-pro-preview", "gemini-openai", [IMAGE]),
        ("mistral/mistral-large-latest", "mistral", [IMAGE, IMAGE]),
    ],
)
async def test_a_model_that_takes_images_gets_them(target, vendor, content):
    messages = json.dumps(await sent(target, vendor, *content))
    assert messages.count(PNG) == sum(block is not TEXT for block in content)
    assert ("The page:" in messages) == (TEXT in content)


@pytest.mark.parametrize(
    ("target", "vendor", "content"),
    [
        ("deepseek/deepseek-chat", "deepseek", [IMAGE]),
        ("groq/llama-3.3-70b-versatile", "groq", [TEXT, EMBEDDED]),
    ],
)
async def test_a_model_that_takes_none_reads_a_placeholder(target, vendor, content):
    (result,) = [message for message in await sent(target, vendor, *content) if message["role"] == "tool"]
    assert PNG not in result["content"]
    assert "image/png" in result["content"]
    assert "does not take images" in result["content"]
    assert ("The page:" in result["content"]) == (TEXT in content)


async def test_recordings_reach_models_that_take_them():
    assert WAV in json.dumps(await sent("gemini/gemini-3-pro-preview", "gemini-openai", SOUND))
    assert "audio/wav" in json.dumps(await sent("openai/gpt-4o", "openai", SOUND))
