"""A secret in any field of the configuration is in no `repr`, no error and no output of `config show` and `doctor`."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

import pytest

from clawft_trio.cli.config import show
from clawft_trio.cli.doctor import Doctor, doctor
from clawft_trio.cli.options import Chosen
from clawft_trio.config import parse_config
from clawft_trio.errors import ConfigError
from clawft_trio.mcp import HttpServer, StdioServer
from clawft_trio.observe.redaction import make_redactor, redact_address

NUMBERS = count(1)


def secret() -> str:
    return f"hunter2Zq9x{next(NUMBERS)}"


def planted() -> dict[str, object]:
    """A configuration with a secret wherever a user may write one."""
    address = f"http://ana:{secret()}@127.0.0.1:9"
    return {
        "store": f"postgresql://ana:{secret()}@127.0.0.1:9/agents?password={secret()}",
        "providers": {
            "corp": {"apiBase": f"{address}/v1?k={secret()}", "apiKey": secret(), "extraHeaders": {"X-Team": secret()}},
        },
        "tools": {
            "mcpServers": {
                "a": {
                    "command": sys.executable,
                    "args": ["-c", "raise SystemExit(3)", "--token", secret(), f"--password={secret()}"],
                    "env": {"SERVER": secret()},
                },
                "b": {"url": f"http://127.0.0.1:9/mcp?key={secret()}", "headers": {"Authorization": secret()}},
            }
        },
    }


def assert_hidden(text: str) -> None:
    assert text
    assert "hunter2Zq9x" not in text


def test_no_repr_shows_a_secret() -> None:
    assert_hidden(repr(parse_config(json.dumps(planted()))))
    assert_hidden(
        repr(HttpServer(f"https://u:{secret()}@h/mcp?key={secret()}", headers={"A": secret()}, token=secret()))
    )
    assert_hidden(repr(StdioServer(("server", "--token", secret()), env={"A": secret()})))


@pytest.mark.parametrize(
    "wrong",
    [
        {"providers": {"corp": {"apiKey": ["hunter2Zq9x"], "extraHeaders": {"X": ["hunter2Zq9x"]}}}},
        {"providers": {"corp": "hunter2Zq9x"}},
        {"providers": {"corp": {"apiBase": ["hunter2Zq9x"]}}},
        {"tools": {"mcpServers": {"a": {"command": ["hunter2Zq9x"], "args": "hunter2Zq9x", "env": ["hunter2Zq9x"]}}}},
        {"tools": {"mcpServers": {"a": {"url": {"key": "hunter2Zq9x"}, "headers": "hunter2Zq9x"}}}},
    ],
    ids=str,
)
def test_no_error_quotes_a_secret_in_a_wrong_place(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(wrong))
    assert_hidden(str(caught.value) + repr(caught.value))


async def test_the_commands_show_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(planted()))
    await show(path)
    await show(path, as_json=True)
    await doctor(Doctor(chosen=Chosen(config=path), total=5.0))
    out = capsys.readouterr()
    assert_hidden(out.out + out.err + "x")


def test_addresses_are_shown_without_account_and_query() -> None:
    assert redact_address("https://a:b@h/p?x=1&y=2#f") == "https://***@h/p?x=***&y=***#f"
    assert redact_address("no address ?x=1") == "no address ?x=1"


def test_values_of_fewer_than_four_characters_are_left_alone() -> None:
    assert make_redactor(["abc", "abcd"])("abc abcd") == "abc ***"


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("ana:pw@host/x", "***@host/x"),
        ("ana:pw@[::1]:80", "***@[::1]:80"),
        ("a note: ana@host", "a note: ana@host"),
        ("https://ana@host", "https://***@host"),
        ("https://host/a?b=c and ?d=e", "https://host/a?b=*** and ?d=***"),
        ("https://host/#token=x", "https://host/#token=***"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
    ],
)
def test_an_account_and_the_values_of_a_query_are_masked(address: str, masked: str) -> None:
    assert redact_address(address) == masked


@pytest.mark.parametrize(
    ("secrets", "text", "masked"),
    [
        (["abc"], "abc", "abc"),
        (["abcd"], "abcd abcde", "*** ***e"),
        (["abcd", "abcdef"], "abcdef abcd", "*** ***"),
        (["abcdef", "abcd"], "abcdef abcd", "*** ***"),
        (["abcd", ""], "x", "x"),
        ([], "password=hunter22", "password=***"),
        (["abcd"], "password=hunter22 abcd", "password=*** ***"),
    ],
)
def test_known_values_of_four_characters_and_more_are_masked_the_longest_first(
    secrets: list[str], text: str, masked: str
) -> None:
    assert make_redactor(secrets)(text) == masked
