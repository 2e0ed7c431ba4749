"""Records of an OAuth client: no secret in a `repr`, no header in a token."""

from __future__ import annotations

import pytest

from clawft_trio.mcp import Credentials, OAuthClient, Token

KEPT = Credentials(
    issuer="https://as.example.com",
    client=OAuthClient(client_id="c", client_secret="top-secret-1"),
    token=Token(access_token="top-secret-2", refresh_token="top-secret-3"),
)


def test_no_repr_shows_a_secret():
    client = OAuthClient(client_id="c", client_secret="top-secret", private_key="top-secret")
    assert "top-secret" not in repr(KEPT) + repr(client)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nx: y", "é", '"a"'])
def test_a_token_that_could_forge_a_header_is_none(token):
    with pytest.raises(ValueError, match="access_token"):
        Token(access_token=token)
