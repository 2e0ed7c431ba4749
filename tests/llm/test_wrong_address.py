"""A server without a model API at an address: what its error advises."""

from __future__ import annotations

import pytest

from clawft_trio.llm.wrong_address import describe, has_odd_path, is_foreign

BASE = "POST https://a.example"


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        ("/v1/chat/completions", False),
        ("/v1/chat/completions?api-version=1", False),
        ("/v1beta/openai/chat/completions", False),
        ("/openai/deployments/m/chat/completions", False),
        ("/v4/chat/completions", False),
        ("/chat/completions", True),
        ("/api/v/chat/completions", True),
        ("/xv1/chat/completions", True),
        ("", True),
        ("/v1/v1/chat/completions", True),
        ("/v1/chat/completions/chat/completions", True),
        ("/v1/messages/messages", True),
        ("/v1/responses/responses", True),
        ("/v1/models/models", True),
        ("/v2/v1/chat/completions", False),
    ],
)
def test_a_path_is_odd_without_a_version_or_with_a_part_twice(path: str, odd: bool) -> None:
    assert has_odd_path(BASE + path) is odd


@pytest.mark.parametrize(
    ("path", "anthropic", "foreign"),
    [
        ("/v1/messages", False, True),
        ("/v1/messages", True, False),
        ("/v1/messages?beta=true", False, True),
        ("/v1/chat/completions", False, False),
        ("/v1/chat/completions", True, True),
        ("/v1/responses", True, True),
        ("/v1/responses", False, False),
        ("/v1/models", True, False),
        ("", True, False),
        ("", False, False),
    ],
)
def test_an_error_is_foreign_in_the_envelope_of_another_dialect(path: str, anthropic: bool, foreign: bool) -> None:
    assert is_foreign(BASE + path, anthropic=anthropic) is foreign


@pytest.mark.parametrize(
    ("path", "status", "advice"),
    [
        ("/v1/chat/completions", 404, "check the base URL and that a model server is listening there"),
        ("/v1/chat/completions", 400, "check the base URL and that a model server is listening there"),
        ("/chat/completions", 404, "check the base URL: most end in a version, such as /v1"),
        ("/v1/v1/models", 404, "check the base URL: it must end before the path of the request, usually in /v1"),
        (
            "/v1/chat/completions/chat/completions",
            404,
            "check the base URL: it must end before the path of the request, usually in /v1",
        ),
        ("/v1/models", 399, "it redirects to '': put the address that it means into the base URL"),
        ("/v1/models", 300, "it redirects to '': put the address that it means into the base URL"),
        ("/v1/models", 299, "check the base URL and that a model server is listening there"),
    ],
)
def test_the_advice_fits_the_path_and_the_status(path: str, status: int, advice: str) -> None:
    request = BASE + path
    assert describe(request, status, {}, "") == f"no model API answers {request} (status {status}); {advice}"


def test_a_redirect_and_the_words_of_a_server_are_quoted_without_secrets() -> None:
    headers = {"location": "https://u:p@b.example/v1?key=1"}
    found = describe(BASE + "/v1/models", 301, headers, "Not\nFound")
    assert "(status 301: 'Not\\nFound')" in found
    assert "b.example/v1" in found
    assert "u:p" not in found
    assert "key=1" not in found
    assert len(describe(BASE + "/v1", 404, {}, "x" * 999)) < 500
