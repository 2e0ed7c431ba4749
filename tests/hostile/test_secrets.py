"""A secret in every field that a user can fill is searched in everything that comes out."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
import trio
from hostile.planting import MARK, echo, secret, shown_of_a_failed_question, told
from net.servers import open_server

from clawft_trio import open_agent, tool
from clawft_trio.config import parse_config
from clawft_trio.errors import ClawftError
from clawft_trio.mcp.transports.process import StdioServer, _secrets_of
from clawft_trio.observe import LogObserver, Recorder, open_recording, spans_of, timeline_html
from clawft_trio.testing import CallTool, ScriptedProvider

# Writes its arguments and its environment to stderr, as servers do that are called wrongly.
COMPLAINS = "import os, sys; sys.stderr.write(' '.join(sys.argv) + ' ' + os.environ['SERVER']); raise SystemExit(3)"


def planted(url: str) -> dict[str, object]:
    def provider(base: str) -> dict[str, object]:
        return {"apiBase": f"{base}/v1?k={secret()}", "apiKey": secret(), "extraHeaders": {"X-Team": secret()}}

    return {
        "providers": {name: provider(url) for name in ("corp", "anthropic")} | {"away": provider("http://127.0.0.1:9")},
        "retry": {"maxRetries": 1, "baseDelayMs": 1},
        "tools": {
            "mcpServers": {
                "a": {
                    "command": sys.executable,
                    "args": ["-c", COMPLAINS, "--token", secret(), f"--password={secret()}", secret()],
                    "env": {"SERVER": secret()},
                },
                "b": {
                    "url": f"{url.replace('://', f'://u:{secret()}@')}/mcp?key={secret()}",
                    "headers": {"Authorization": f"Bearer {secret()}", "X-K": secret()},
                },
                "c": {"url": f"http://127.0.0.1:9/mcp?tok={secret()}"},
                "d": {"command": "/nonexistent/server", "args": [secret()], "env": {"K": secret()}},
            }
        },
    }


async def test_no_secret_of_the_configuration_comes_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, name)
    models = ["corp/m", "anthropic/m", "away/m"]
    async with open_server(echo) as server:
        config = parse_config(json.dumps(planted(server.url)))
        out = await shown_of_a_failed_question(
            config, tmp_path, models=models, failing_servers=4, observers=[LogObserver()]
        )
    out["logs"] = caplog.text
    assert all(text.strip() for text in out.values())
    assert {where for where, text in out.items() if MARK in text} == set()


@tool(mode="read_only")
async def leaky() -> str:
    """Raise what another program wrote."""
    line = f"Authorization: Bearer {secret()}"
    raise RuntimeError(f"first line\n{line}\napi_key={secret()}\n{'x' * 5000}\ntoken: {secret()}")


async def test_no_line_of_a_tools_exception_shows_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    model = ScriptedProvider.using_tools(CallTool("leaky", {}), then="fine", name="p")
    seen = Recorder()
    async with open_recording(tmp_path / "r.jsonl") as record:
        observers = [LogObserver(), seen, record]
        async with open_agent(["p/m"], providers={"p": model}, tools=[leaky], observers=observers) as agent:
            reply = await agent.ask("q")
    shown = reply.tools[0].text
    assert "first line" in shown
    for text in (shown, repr(reply), (tmp_path / "r.jsonl").read_text(), timeline_html(spans_of(seen.events))):
        assert MARK not in text
    assert MARK not in caplog.text


@pytest.mark.parametrize("before", range(1985, 2010))
async def test_a_secret_across_a_cut_is_not_shown_in_part(before: int) -> None:
    """The body of an error is cut to 2 KiB: of a key that lies across the end no part may be left."""
    key = secret() + "abcdefghijkl"

    async def talk(conversation) -> None:
        await conversation.request()
        body = json.dumps({"error": {"message": "no"}, "x": "y" * before + key}).encode()
        await conversation.send(f"HTTP/1.1 400 No\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    async with open_server(talk) as server:
        config = parse_config(json.dumps({"providers": {"c": {"apiBase": f"{server.url}/v1", "apiKey": key}}}))
        async with open_agent(["c/m"], config=config) as agent:
            with pytest.raises(ClawftError) as caught:
                await agent.ask("q")
    assert caught.value.attempts
    for record in caught.value.attempts:
        assert MARK[:6] not in record.error.body


def test_a_server_may_repeat_no_value_of_its_options_or_variables() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----"
    server = StdioServer(
        (
            "npx",
            "-y",
            "@org/server",
            "/home/ana/notes",
            "--token",
            "abcdefgh1",
            "--key=ijklmnop2",
            "qrstuvwx3",
            "plainword",
        ),
        env={"A": "yzabcdef4", "KEY": key, "SHORT": "abc"},
    )
    found = set(_secrets_of(server))
    assert found >= {"abcdefgh1", "ijklmnop2", "qrstuvwx3", "yzabcdef4", "MIIEvQIBADANBgkq"}
    assert not found & {"npx", "@org/server", "/home/ana/notes", "plainword", "abc"}


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{MARK}@127.0.0.1:9/db",
        f"postgresql://127.0.0.1:9/db?password={MARK}",
        f"postgresql://127.0.0.1:9/db?options={MARK}",
        f"postgresql://127.0.0.1:9/db?sslpassword={MARK}",
        f"postgres://u:{MARK}@[bad/db",
        f"postgres://u:{MARK}@127.0.0.1:99999999/db",
    ],
)
async def test_no_error_of_a_store_shows_its_password(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    model = ScriptedProvider.saying("x")
    with trio.fail_after(60):
        with pytest.raises(ClawftError) as caught:
            async with open_agent(["p/m"], providers={"p": model}, store=address):
                pass
    assert MARK not in told(caught.value)
