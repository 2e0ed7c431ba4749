"""The proof key of a login, and the redirect that ends it."""

from __future__ import annotations

import pytest

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp.auth.pkce import challenge_of, new_verifier
from clawft_trio.mcp.auth.records import ServerMetadata
from clawft_trio.mcp.auth.redirect import code_of

ISSUER = "https://as.example.com"
METADATA = ServerMetadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/token", authorization_endpoint=f"{ISSUER}/authorize")
REDIRECT = "http://127.0.0.1:7/callback"


def test_the_code_challenge_is_that_of_rfc_7636_appendix_b():
    octets = bytes(
        [116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186]
        + [22, 212, 37, 77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121]
    )
    verifier = new_verifier(lambda size: octets[:size])
    assert verifier == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("http://127.0.0.1:7/other?code=c&state=s", "another address"),
        ("http://127.0.0.1:8/callback?code=c&state=s", "another address"),
        ("https://evil.com/callback?code=c&state=s", "another address"),
        (f"{REDIRECT}?code=c&state=t", "state"),
        (f"{REDIRECT}?code=c", "state"),
        (f"{REDIRECT}?code=c&state=s&iss=https://evil.com", "another issuer"),
        (f"{REDIRECT}?code=c&state=s&iss={ISSUER}/", "another issuer"),
        (f"{REDIRECT}?code=c&code=d&state=s", "twice"),
        (f"{REDIRECT}?error=access_denied&state=s", "access_denied"),
        (f"{REDIRECT}?error=access_denied&state=s&iss=https://evil.com", "another issuer"),
        (f"{REDIRECT}?state=s", "no code"),
        ("http://[::1?code=c&state=s", "no URL"),
        (f"{REDIRECT}?code=c&state=s" + "&x=1" * 49, "over 50 parameters"),
        (f"{REDIRECT}?code=c&state=s" + "&x=1" * 48, "twice"),
    ],
)
def test_a_redirect_that_is_not_the_answer_gives_no_code(answer, words):
    with pytest.raises(AuthorizationFailed, match=words):
        code_of(answer, REDIRECT, "s", METADATA)


def test_a_redirect_without_the_issuer_is_refused_where_the_server_sends_it():
    strict = ServerMetadata(
        issuer=ISSUER, token_endpoint=f"{ISSUER}/t", authorization_response_iss_parameter_supported=True
    )
    assert code_of(f"{REDIRECT}?code=c&state=s", REDIRECT, "s", METADATA) == "c"
    assert code_of(f"{REDIRECT}?code=c&state=s&iss={ISSUER}", REDIRECT, "s", strict) == "c"
    with pytest.raises(AuthorizationFailed, match="issuer"):
        code_of(f"{REDIRECT}?code=c&state=s", REDIRECT, "s", strict)


def test_a_refusal_has_its_code_and_a_short_printable_text():
    with pytest.raises(AuthorizationFailed) as caught:
        code_of(f"{REDIRECT}?error={'e' * 100}&error_description={'d' * 5000}&state=s", REDIRECT, "s", METADATA)
    assert caught.value.code == "e" * 60
    assert f"refused: {'e' * 60} ddd" in str(caught.value)
    assert 200 < len(str(caught.value)) < 400
    with pytest.raises(AuthorizationFailed) as caught:
        code_of(f"{REDIRECT}?error=x&error_description=a%0Ab&state=s", REDIRECT, "s", METADATA)
    assert caught.value.code == "x"
    assert "\n" not in str(caught.value)


def test_a_redirect_with_an_empty_issuer_names_none():
    strict = ServerMetadata(issuer=ISSUER, token_endpoint="t", authorization_response_iss_parameter_supported=True)
    with pytest.raises(AuthorizationFailed, match="names no issuer"):
        code_of(f"{REDIRECT}?code=c&state=s", REDIRECT, "s", strict)
