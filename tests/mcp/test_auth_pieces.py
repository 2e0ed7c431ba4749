"""The parts of OAuth that are written by hand, against the vectors and examples of their RFCs."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import stat

import pytest
import trio
from hypothesis import given, strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from clawft_trio.errors import AuthorizationFailed, NotConfigured, StoreError
from clawft_trio.mcp import Credentials, FileTokenStore, MemoryTokenStore, OAuthClient, Token
from clawft_trio.mcp.auth import store as store_module
from clawft_trio.mcp.auth.addresses import (
    canonical_resource,
    checked_address,
    covers,
    resource_metadata_addresses,
    server_metadata_addresses,
)
from clawft_trio.mcp.auth.challenge import bearer_challenge, parse_challenges
from clawft_trio.mcp.auth.client_auth import authenticate, basic, client_assertion, method_of
from clawft_trio.mcp.auth.pkce import challenge_of, new_verifier
from clawft_trio.mcp.auth.records import ServerMetadata
from clawft_trio.mcp.auth.redirect import code_of
from clawft_trio.testing import cancel_everywhere

ISSUER = "https://as.example.com"
METADATA = ServerMetadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/token", authorization_endpoint=f"{ISSUER}/authorize")


def test_the_code_challenge_is_that_of_rfc_7636_appendix_b():
    octets = bytes(
        [116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186]
        + [22, 212, 37, 77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121]
    )
    verifier = new_verifier(lambda size: octets[:size])
    assert verifier == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_client_credentials_are_encoded_as_in_rfc_6749_2_3_1():
    assert basic("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw") == "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
    assert base64.b64decode(basic("a:b", "c d+é").removeprefix("Basic ")) == b"a%3Ab:c%20d%2B%C3%A9"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        # RFC 6750, 3
        ('Bearer realm="example"', [("bearer", {"realm": "example"})]),
        (
            'Bearer realm="example", error="invalid_token", error_description="The access token expired"',
            [
                (
                    "bearer",
                    {"realm": "example", "error": "invalid_token", "error_description": "The access token expired"},
                )
            ],
        ),
        # RFC 9728, 5.1
        (
            'Bearer resource_metadata="https://resource.example.com/.well-known/oauth-protected-resource"',
            [("bearer", {"resource_metadata": "https://resource.example.com/.well-known/oauth-protected-resource"})],
        ),
        # RFC 9110, 11.6.1
        (
            'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
            [("basic", {"realm": "simple"}), ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'})],
        ),
        ("Negotiate, Bearer scope=a", [("negotiate", {}), ("bearer", {"scope": "a"})]),
        ('BEARER SCOPE = "a b"', [("bearer", {"scope": "a b"})]),
        ('Bearer scope="a", scope="b"', [("bearer", {"scope": "a"})]),
        ("Negotiate a87421000492aa874209af8bc028==, Bearer a=b", [("negotiate", {}), ("bearer", {"a": "b"})]),
        ("", []),
        ('scope="a"', []),
    ],
)
def test_challenges_are_read_as_rfc_9110_has_them(header, found):
    assert [(one.scheme, dict(one.params)) for one in parse_challenges(header)] == found


@given(st.text(alphabet='ab="\\, \t\r\n;éBearer', max_size=300))
def test_no_header_is_too_strange_to_be_read(header):
    bearer_challenge(header)


def test_a_hostile_header_is_read_in_linear_time():
    assert parse_challenges('Bearer a="' + "\\x" * 1_000_000) == parse_challenges('Bearer a="' + "\\x" * 4000)


def test_metadata_is_looked_for_where_the_rfcs_put_it():
    assert resource_metadata_addresses("https://example.com/public/mcp?x=1") == [
        "https://example.com/.well-known/oauth-protected-resource/public/mcp",
        "https://example.com/.well-known/oauth-protected-resource",
    ]
    assert resource_metadata_addresses("https://example.com/") == [
        "https://example.com/.well-known/oauth-protected-resource"
    ]
    # RFC 8414, 3.1 and 5
    assert server_metadata_addresses("https://example.com/issuer1") == [
        "https://example.com/.well-known/oauth-authorization-server/issuer1",
        "https://example.com/.well-known/openid-configuration/issuer1",
        "https://example.com/issuer1/.well-known/openid-configuration",
    ]
    assert server_metadata_addresses("https://example.com") == [
        "https://example.com/.well-known/oauth-authorization-server",
        "https://example.com/.well-known/openid-configuration",
    ]


@pytest.mark.parametrize(
    ("resource", "server", "fits"),
    [
        ("https://a.com/mcp", "https://a.com/mcp", True),
        ("https://a.com", "https://a.com/mcp", True),
        ("https://a.com/", "https://a.com/mcp", True),
        ("https://A.com:443/mcp", "https://a.com/mcp", True),
        ("https://a.com/m", "https://a.com/mcp", False),
        ("https://a.com/mcp/more", "https://a.com/mcp", False),
        ("http://a.com/mcp", "https://a.com/mcp", False),
        ("https://a.com.evil.com/mcp", "https://a.com/mcp", False),
        ("https://a.com:444/mcp", "https://a.com/mcp", False),
        ("https://b.com/mcp", "https://a.com/mcp", False),
    ],
)
def test_metadata_is_for_a_resource_or_its_parent(resource, server, fits):
    assert covers(resource, server) is fits


def test_a_resource_is_named_without_query_fragment_and_lone_slash():
    assert canonical_resource("HTTPS://Example.com:443/mcp?key=1#x") == "https://example.com/mcp"
    assert canonical_resource("https://example.com/") == "https://example.com"


@pytest.mark.parametrize(
    "address", ["https://a.com/x?y=1", "http://127.0.0.1:3/x", "http://[::1]/x", "http://localhost/x"]
)
def test_an_address_may_be_https_or_loopback(address):
    assert checked_address(address, "thing") == address


@pytest.mark.parametrize(
    "address",
    [
        "http://a.com/",
        "http://localhost.evil.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user:pass@a.com/",
        "https://a.com/#x",
        "https:///x",
        "https://a.com:x/",
        "https://[::1",
        "https://a.com/\n",
        "https://a.com/\\evil",
        "ms-settings:x",
        "",
        "https://a.com/" + "x" * 5000,
        "$(calc.exe)https://a.com",
    ],
)
def test_any_other_address_is_refused(address):
    with pytest.raises(AuthorizationFailed):
        checked_address(address, "thing")


def test_a_client_assertion_is_signed_and_has_the_claims_of_rfc_7523():
    key = ECKey.generate_key("P-256")
    client = OAuthClient(client_id="c", private_key=key.as_pem(private=True).decode())
    token = client_assertion(client, ISSUER, 1000.0)
    decoded = jwt.decode(token, key, algorithms=["ES256"])
    assert decoded.header["alg"] == "ES256"
    claims = decoded.claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("c", "c", ISSUER)
    assert (claims["iat"], claims["exp"]) == (1000, 1060)
    assert (
        claims["jti"] != jwt.decode(client_assertion(client, ISSUER, 1000.0), key, algorithms=["ES256"]).claims["jti"]
    )


def test_a_key_that_does_not_fit_is_an_error_that_does_not_quote_it():
    client = OAuthClient(client_id="c", private_key="-----BEGIN SECRET-----")
    with pytest.raises(NotConfigured) as caught:
        client_assertion(client, ISSUER, 0.0)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("client", "accepted", "method"),
    [
        ({}, None, "none"),
        ({"client_secret": "s"}, None, "client_secret_basic"),
        ({"client_secret": "s"}, ("client_secret_post", "client_secret_basic"), "client_secret_basic"),
        ({"client_secret": "s"}, ("client_secret_post",), "client_secret_post"),
        ({"client_secret": "s"}, ("none",), "none"),
        ({"client_secret": "s", "auth_method": "client_secret_post"}, ("none",), "client_secret_post"),
        ({"private_key": "k"}, ("private_key_jwt",), "private_key_jwt"),
    ],
)
def test_the_authentication_method_is_one_that_both_know(client, accepted, method):
    metadata = ServerMetadata(issuer="i", token_endpoint="t", token_endpoint_auth_methods_supported=accepted)
    assert method_of(OAuthClient(client_id="c", **client), metadata) == method


def test_a_secret_is_never_sent_in_two_places():
    client = OAuthClient(client_id="c", client_secret="s")
    form, headers = authenticate(client, METADATA, {"grant_type": "x"}, lambda: 0.0)
    assert "client_secret" not in form
    assert headers["authorization"].startswith("Basic ")


REDIRECT = "http://127.0.0.1:7/callback"


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


KEPT = Credentials(
    issuer=ISSUER,
    client=OAuthClient(client_id="c", client_secret="top-secret-1"),
    token=Token(access_token="top-secret-2", refresh_token="top-secret-3", expires_at=5.0, scopes=("a",)),
    requested=("a", "b"),
)


def test_no_repr_shows_a_secret():
    client = OAuthClient(client_id="c", client_secret="top-secret", private_key="top-secret")
    assert "top-secret" not in repr(KEPT) + repr(client)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nx: y", "é", '"a"'])
def test_a_token_that_could_forge_a_header_is_none(token):
    with pytest.raises(ValueError, match="access_token"):
        Token(access_token=token)


async def test_a_token_file_is_the_users_alone_and_keeps_what_it_was_given(tmp_path):
    path = tmp_path / "deep" / "tokens.json"
    store = FileTokenStore(path)
    assert await store.load("https://r") is None
    await store.save("https://r", KEPT)
    await store.save("https://q", None)
    assert await FileTokenStore(path).load("https://r") == KEPT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    await store.save("https://r", None)
    assert await store.load("https://r") is None


async def test_stores_of_one_file_keep_each_others_tokens(tmp_path):
    stores = [FileTokenStore(tmp_path / "tokens.json") for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(stores[number % 4].save, f"r{number}", KEPT)
    assert [await stores[0].load(f"r{number}") for number in range(20)] == [KEPT] * 20


async def test_a_token_file_that_stays_locked_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_LOCK_WITHIN", 0.1)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="locked"):
            await FileTokenStore(tmp_path / "tokens.json").save("r", KEPT)
    finally:
        os.close(folder)
    await FileTokenStore(tmp_path / "tokens.json").save("r", KEPT)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"x": 1}', b'{"x": {"issuer": "i", "client": {"top-secret": "s"}}}', b"\xff"]
)
async def test_a_garbled_token_file_is_an_error_without_its_text(tmp_path, text):
    path = tmp_path / "tokens.json"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(StoreError) as caught:
        await FileTokenStore(path).load("x")
    assert "top-secret" not in str(caught.value)
    assert path.read_bytes() == text


async def test_a_token_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({}))
    path.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        await FileTokenStore(path).load("x")


async def test_a_token_file_is_no_symlink(tmp_path):
    (tmp_path / "real").write_text("{}")
    (tmp_path / "tokens.json").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError):
        await FileTokenStore(tmp_path / "tokens.json").load("x")


async def test_cancelled_anywhere_the_file_has_the_old_or_the_new_tokens(tmp_path):
    path = tmp_path / "tokens.json"
    await FileTokenStore(path).save("r", KEPT)

    async def save():
        await FileTokenStore(path).save("r", KEPT)

    async def check():
        assert await FileTokenStore(path).load("r") == KEPT
        assert list(tmp_path.iterdir()) == [path]

    await cancel_everywhere(save, check)


async def test_memory_keeps_by_resource():
    store = MemoryTokenStore()
    await store.save("a", KEPT)
    assert await store.load("a") == KEPT
    assert await store.load("b") is None
    await store.save("a", None)
    assert await store.load("a") is None
