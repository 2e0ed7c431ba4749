"""What `config show` shows of addresses and commands, and what it does not."""

from __future__ import annotations

import pytest
from steps import growth

from clawft_trio.codec import encode_json
from clawft_trio.config import parse_config
from clawft_trio.config.effective import settings_in
from clawft_trio.config.redaction import redacted, redacted_arguments, show_address, show_arguments

# Shaped like nothing: only its place tells.
PLAIN = "correcthorse"


@pytest.mark.parametrize(
    "words",
    [
        ["--token", PLAIN],
        ["--api-key", PLAIN],
        [f"--api-key={PLAIN}"],
        ["--apiKey", PLAIN],
        [f"--secret={PLAIN} and {PLAIN}"],
        ["--password", f"-{PLAIN}"],
        ["--db-pass", PLAIN],
        ["--auth", PLAIN],
        ["--header", f"x-team: {PLAIN}"],
        ["-H", f"Cookie: {PLAIN}"],
        ["-e", f"GITHUB_TOKEN={PLAIN}"],
        ["-e", f"MY_AUTH={PLAIN}"],
        ["-c", f"serve --token {PLAIN} --port 80"],
        ["-c", f"TOKEN='{PLAIN} {PLAIN}' serve"],
        [f"postgres://ana:{PLAIN}@example.org/db"],
        [f"https://{PLAIN}@example.org"],
        [f"https://example.org/mcp?a=b&t={PLAIN}#here"],
        [f"--url=https://example.org/mcp?t={PLAIN}"],
        ["--token", f"{PLAIN}${{MORE}}"],
        [f"--secret={PLAIN}${{MORE}}"],
        [f"https://ana:{PLAIN}@${{HOST}}/"],
    ],
    ids=" ".join,
)
def test_a_secret_in_a_command_is_not_shown(words: list[str]) -> None:
    shown = " ".join(redacted_arguments(words))
    assert PLAIN not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "words",
    [
        ["-y", "@modelcontextprotocol/server-filesystem", "."],
        ["--path", "/srv", "--author", "ana", "--port=80"],
        ["--token", "--verbose"],
        ["--token", "${MY_TOKEN}", "--api-key=${MY_KEY}"],
        ["-H", "${HEADER}"],
        ["-c", "serve --token ${MY_TOKEN}"],
        ["https://example.org/mcp?t=${MY_TOKEN}"],
        ["https://example.org/docs#part"],
        ["token", "ring"],
    ],
    ids=" ".join,
)
def test_what_is_no_secret_is_shown_as_it_is_written(words: list[str]) -> None:
    assert list(redacted_arguments(words)) == words


def test_an_address_keeps_what_says_where_it_is() -> None:
    assert redacted("https://ana:x@example.org:8443/mcp?key=1&v=2#top") == (
        "https://***@example.org:8443/mcp?key=***&v=***#top"
    )


def test_a_configuration_shows_neither_arguments_nor_addresses_with_their_secrets() -> None:
    given = {
        "providers": {"mine": {"api_base": f"https://example.org/v1?sig={PLAIN}"}},
        "tools": {
            "mcp_servers": {
                "files": {"command": "files", "args": ["--token", PLAIN, "."]},
                "docs": {"url": f"https://{PLAIN}@example.org/mcp?t={PLAIN}"},
                "bare": {"command": "bare"},
            }
        },
    }
    shown = {one.path: one.value for one in settings_in(parse_config(encode_json(given)), given)}
    assert PLAIN not in str(shown)
    servers = "$.tools.mcp_servers"
    assert [shown[f"{servers}['files'].args[{number}]"] for number in range(3)] == ["--token", "***", "."]
    assert shown[f"{servers}['bare'].args"] == []
    assert shown[f"{servers}['docs'].url"] == "https://***@example.org/mcp?t=***"


@pytest.mark.parametrize("piece", ["a", "key", "--key ", "://", "?a=", "token=", "-", "'"])
def test_its_time_is_linear_in_the_text(piece: str) -> None:
    def read(size: int) -> None:
        word = (piece * size)[:size] + " x"
        list(redacted_arguments([word, word]))

    limit = 40  # linear is 8 times, quadratic 64
    assert growth(read, 10_000, 80_000, below=limit) < limit


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("a1b2c3d4e5f6", "***"),
        ("A1_b2-c3+d4=", "***"),
        ("a1b2c3d4e5f", "a1b2c3d4e5f"),
        ("abcdefghijklmnop", "abcdefghijklmnop"),
        ("123456789012", "123456789012"),
        ("a1b2c3/d4e5f6", "a1b2c3/d4e5f6"),
        ("", ""),
    ],
)
def test_a_word_of_letters_and_digits_that_is_long_enough_is_taken_for_a_token(word: str, shown: str) -> None:
    assert list(redacted_arguments(["serve", word, "now"])) == ["serve", shown, "now"]


def test_the_repr_of_a_server_shows_its_address_and_arguments_without_secrets() -> None:
    assert show_address("https://ana:pw@example.org/mcp") == "'https://***@example.org/mcp'"
    assert show_address(None) == "None"
    assert show_arguments(["--token", "x", "-v"]) == "('--token', '***', '-v')"
