"""How a client authenticates itself at a token endpoint."""

from __future__ import annotations

import base64

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from clawft_trio.errors import AuthorizationFailed, NotConfigured
from clawft_trio.mcp import OAuthClient
from clawft_trio.mcp.auth.client_auth import authenticate, basic, client_assertion, method_of
from clawft_trio.mcp.auth.records import ServerMetadata

ISSUER = "https://as.example.com"
METADATA = ServerMetadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/token")


def test_client_credentials_are_encoded_as_in_rfc_6749_2_3_1():
    assert basic("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw") == "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
    assert base64.b64decode(basic("a:b", "c d+é").removeprefix("Basic ")) == b"a%3Ab:c%20d%2B%C3%A9"


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


@pytest.mark.parametrize("client", [{"client_secret": "s"}, {"private_key": "k"}])
def test_a_server_that_accepts_no_method_of_the_client_is_refused(client):
    metadata = ServerMetadata(issuer="i", token_endpoint="t", token_endpoint_auth_methods_supported=("other",))
    with pytest.raises(AuthorizationFailed, match="accepts none"):
        method_of(OAuthClient(client_id="c", **client), metadata)


FORM = {"grant_type": "x"}


@pytest.mark.parametrize(
    ("client", "form", "headers"),
    [
        ({}, {**FORM, "client_id": "c"}, {}),
        (
            {"client_secret": "s", "auth_method": "client_secret_post"},
            {**FORM, "client_id": "c", "client_secret": "s"},
            {},
        ),
        ({"client_secret": "s"}, FORM, {"authorization": basic("c", "s")}),
    ],
)
def test_a_token_request_has_the_authentication_of_its_method(client, form, headers):
    assert authenticate(OAuthClient(client_id="c", **client), METADATA, FORM, lambda: 0.0) == (form, headers)


def test_a_client_with_a_key_sends_an_assertion_for_the_issuer():
    key = ECKey.generate_key("P-256")
    client = OAuthClient(client_id="c", auth_method="private_key_jwt", private_key=key.as_pem(private=True).decode())
    form, headers = authenticate(client, METADATA, FORM, lambda: 1000.0)
    assert headers == {}
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert (form["grant_type"], form["client_id"]) == ("x", "c")
    claims = jwt.decode(form["client_assertion"], key, algorithms=["ES256"]).claims
    assert (claims["aud"], claims["iat"]) == (ISSUER, 1000)


@pytest.mark.parametrize(
    ("client", "error", "words"),
    [
        ({"auth_method": "client_secret_basic"}, NotConfigured, "no secret"),
        ({"auth_method": "private_key_jwt"}, NotConfigured, "no private key"),
        ({"auth_method": "tls_client_auth", "client_secret": "s"}, AuthorizationFailed, "tls_client_auth"),
    ],
)
def test_a_method_that_the_client_cannot_use_is_an_error(client, error, words):
    with pytest.raises(error, match=words):
        authenticate(OAuthClient(client_id="c", **client), METADATA, FORM, lambda: 0.0)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES384", lambda: ECKey.generate_key("P-384")),
        ("RS256", lambda: RSAKey.generate_key(2048)),
        ("PS256", lambda: RSAKey.generate_key(2048)),
        ("Ed25519", lambda: OKPKey.generate_key("Ed25519")),
    ],
)
def test_an_assertion_is_signed_with_the_algorithm_of_the_client(algorithm, key):
    made = key()
    client = OAuthClient(client_id="c", algorithm=algorithm, private_key=made.as_pem(private=True).decode())
    decoded = jwt.decode(client_assertion(client, ISSUER, 0.0), made, algorithms=[algorithm])
    assert decoded.header["alg"] == algorithm


def test_a_key_of_another_kind_than_the_algorithm_is_an_error():
    key = ECKey.generate_key("P-256").as_pem(private=True).decode()
    with pytest.raises(NotConfigured, match="RS256"):
        client_assertion(OAuthClient(client_id="c", algorithm="RS256", private_key=key), ISSUER, 0.0)
