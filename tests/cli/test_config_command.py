"""`clawft-trio config`: init, show and schema."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from cli.program import run
from jsonschema import Draft202012Validator

from clawft_trio.config import parse_config
from clawft_trio.config.effective import settings_in

KEY = "sk-very-secret-key-of-ana"
PLAIN = "nothing about it looks like a secret"


async def test_init_writes_what_fits_and_never_over_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    done = await run("config", "init", str(path), "-m", "openai/gpt-5-mini", "-m", "ollama/llama3.2")
    assert done.returncode == 0, done.stderr
    assert b"OPENAI_API_KEY is not set" in done.stdout
    assert b"clawft-trio doctor" in done.stdout
    config = parse_config(path.read_bytes())
    assert config.models == ("openai/gpt-5-mini", "ollama/llama3.2")
    assert config.providers["openai"].api_key.variables == ("OPENAI_API_KEY",)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    again = await run("config", "init", str(path), "-m", "ollama/x")
    assert again.returncode == 2
    assert b"--force" in again.stderr
    assert path.read_bytes() == before
    forced = await run("config", "init", str(path), "--force", "-m", "ollama/x")
    assert forced.returncode == 0
    assert parse_config(path.read_bytes()).models == ("ollama/x",)


async def test_init_without_a_model_takes_those_whose_keys_are_set(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert (await run("config", "init", str(path), env={"ANTHROPIC_API_KEY": KEY})).returncode == 0
    assert parse_config(path.read_bytes()).models == ("anthropic/claude-haiku-4-5",)
    assert KEY not in path.read_text()
    assert (await run("config", "init", str(path), "--force")).returncode == 0
    assert parse_config(path.read_bytes()).models == ("ollama/llama3.2",)


async def test_init_refuses_what_it_could_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    wrong = await run("config", "init", str(path), "-m", "opnai/x")
    assert wrong.returncode == 2
    assert b"did you mean 'openai'" in wrong.stderr
    nowhere = await run("config", "init", str(tmp_path / "none" / "config.json"), "-m", "ollama/x")
    assert nowhere.returncode == 2
    assert list(tmp_path.iterdir()) == []


SECRETS = {
    "providers": {
        "openai": {"apiKey": KEY, "extra_headers": {"x-team": KEY}},
        "anthropic": {"api_key": "${MY_KEY}"},
        "mine": {"api_base": "https://ana:" + KEY + "@example.org/v1"},
    },
    "retry": {"count": 7},
    "channels": {"telegram": {"token": PLAIN}},
    "tools": {
        "web": {"search": {"apiKey": PLAIN}},
        "mcp_servers": {
            "files": {
                "command": "files",
                "args": ["--token", "${MY_KEY}", f"--api-key={KEY}"],
                "env": {"TOKEN": KEY},
            },
            "docs": {"url": f"https://example.org/mcp?token={KEY}", "headers": {"authorization": f"Bearer {KEY}"}},
        },
    },
    "routing": {"permissions": {"user": {"custom_permissions": {"key": KEY}}}},
}


async def test_show_says_where_each_setting_is_from_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SECRETS))
    done = await run("config", "show", str(path), env={"MY_KEY": KEY})
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert KEY not in text
    assert PLAIN not in text
    lines = text.splitlines()
    assert "$.providers['openai'].api_key = \"***\"  # file" in lines
    assert "$.providers['anthropic'].api_key = \"***\"  # file, from MY_KEY" in lines
    assert "$.tools.mcp_servers['files'].args[1] = \"${MY_KEY}\"  # file, from MY_KEY" in lines
    assert "$.retry.max_retries = 7  # file" in lines
    assert "$.timeouts.gap_ms = 25000.0  # default" in lines
    told = json.loads((await run("config", "show", str(path), "--json", env={"MY_KEY": KEY})).stdout)
    assert [f"{one['path']} = " for one in told] == [line.split("= ")[0] + "= " for line in lines]


async def test_without_a_file_everything_is_a_default() -> None:
    done = await run("config", "show", "--json")
    assert {one["origin"] for one in json.loads(done.stdout)} == {"default"}


def test_every_setting_is_listed_once() -> None:
    config = parse_config(json.dumps(SECRETS))
    paths = [setting.path for setting in settings_in(config, SECRETS)]
    assert len(paths) == len(set(paths)) > 100


async def test_schema_prints_one() -> None:
    done = await run("config", "schema")
    Draft202012Validator.check_schema(json.loads(done.stdout))
    assert done.returncode == 0
