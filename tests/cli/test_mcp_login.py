"""`clawft-trio mcp` against a server that wants a login: a browser is opened, and the tokens are kept."""

from __future__ import annotations

import json
import stat
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from mcp_oauth import world

from clawft_trio.cli.mcp import show_tools


async def test_the_browser_logs_in_once_and_the_tokens_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    opened = []
    async with world() as made:

        def browse(address):
            opened.append(address)
            query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
            answer = urlencode({"code": "c", "state": query["state"], "iss": made.issuer.url})
            with urllib.request.urlopen(f"{query['redirect_uri']}?{answer}") as page:
                assert page.status == 200

        monkeypatch.setattr("webbrowser.open", browse)
        for _ in range(2):
            await show_tools([f"{made.resource.url}/mcp"], as_json=True)
            printed = capsys.readouterr()
            assert [tool["name"] for tool in json.loads(printed.out)] == ["t"]
    assert len(opened) == 1
    file = tmp_path / ".clawft" / "mcp_tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "secret-token" in file.read_text()
