"""Addresses of MCP servers that hold a password: refused with a sentence, and never shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli.program import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes")

PASSWORD = "s3cretpassw0rd"

ADDRESSES = [
    f"https://user:{PASSWORD}@127.0.0.1:1/mcp",
    f"https://{PASSWORD}@127.0.0.1:1/",
    f"HTTPS://user:{PASSWORD}@127.0.0.1:1/?key={PASSWORD}",
    f"https://user:{PASSWORD}@",
    f"https://user:{PASSWORD}@[::1",
    f"ftp://user:{PASSWORD}@host/",
    f"user:{PASSWORD}@host/mcp",
    f"http://127.0.0.1:1/?token={PASSWORD}",
]


async def test_the_doctor_finds_them_wrong_and_says_no_password(tmp_path: Path) -> None:
    servers = {f"server{number}": {"url": address} for number, address in enumerate(ADDRESSES)}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"tools": {"mcpServers": servers}}))
    done = await run("doctor", "--json", "--config", str(config))
    assert PASSWORD.encode() not in done.stdout + done.stderr
    found = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "mcp"]
    assert [one["outcome"] for one in found] == ["problem"] * len(ADDRESSES)
    assert all(one["message"] and "Error" not in one["message"].partition(":")[0] for one in found)


@pytest.mark.parametrize("address", [ADDRESSES[0], ADDRESSES[5], ADDRESSES[6]])
async def test_listing_a_servers_tools_says_no_password(address: str) -> None:
    done = await run("mcp", "list", address)
    assert done.returncode != 0
    assert PASSWORD.encode() not in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
