"""Responses of token and registration endpoints, and what an error shows of them."""

from __future__ import annotations

import base64
import json

import pytest
import trio

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp import OAuthClient, Token
from clawft_trio.mcp.auth.http import Answer
from clawft_trio.mcp.auth.records import ServerMetadata
from clawft_trio.mcp.auth.tokens import refusal, register, request_token

ISSUER = "https://as.example.com"
METADATA = ServerMetadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/token", registration_endpoint=f"{ISSUER}/register")


class Endpoint:
    """Answers every request with one document."""

    def __init__(self, document, status=200):
        self.answer = Answer(status, json.dumps(document).encode())
        self.sent = []

    async def post_form(self, address, what, form, headers=None):
        await trio.lowlevel.checkpoint()
        self.sent.append((address, dict(form), dict(headers or {})))
        return self.answer

    async def post_json(self, address, what, document):
        await trio.lowlevel.checkpoint()
        self.sent.append((address, document))
        return self.answer


async def token_of(response, status=200, **client):
    endpoint = Endpoint(response, status)
    made = OAuthClient(client_id="c", **client)
    form = {"grant_type": "g", "code": "the-code"}
    return await request_token(endpoint, METADATA, made, form, asked=("a", "b"), now=lambda: 1000.0)


async def test_a_token_has_the_scopes_and_the_refresh_token_of_its_response():
    response = {"access_token": "t", "token_type": "BEARER", "refresh_token": "r", "scope": "x  y", "expires_in": 60}
    assert await token_of(response) == Token(access_token="t", refresh_token="r", expires_at=1060.0, scopes=("x", "y"))
    assert await token_of({"access_token": "t"}) == Token(access_token="t", scopes=("a", "b"))
    assert (await token_of({"access_token": "t", "scope": ""})).scopes == ()


@pytest.mark.parametrize(
    ("lifetime", "expires"),
    [
        (60, 1060.0),
        (0.5, 1000.5),
        ("61", 1061.0),
        (10**12, 1000.0 + 10 * 365 * 86_400),
        ("inf", 1000.0 + 10 * 365 * 86_400),
        (0, None),
        (-1, None),
        ("nan", None),
        ("soon", None),
        (None, None),
    ],
)
async def test_a_token_expires_after_its_lifetime_if_that_is_a_positive_number(lifetime, expires):
    assert (await token_of({"access_token": "t", "expires_in": lifetime})).expires_at == expires


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ({"access_token": "t", "token_type": "mac"}, "unknown type: 'mac'"),
        ({"access_token": "a b"}, "access_token"),
        ({"access_token": 7}, "token response"),
        ({}, "token response"),
    ],
)
async def test_a_response_that_is_no_bearer_token_is_refused(response, words):
    with pytest.raises(AuthorizationFailed, match=words):
        await token_of(response)


@pytest.mark.parametrize(("status", "again"), [(400, False), (401, False), (201, False), (429, True), (503, True)])
async def test_a_token_that_is_refused_for_now_may_be_requested_again(status, again):
    with pytest.raises(AuthorizationFailed, match=f"HTTP status {status} invalid_grant used before") as caught:
        await token_of({"error": "invalid_grant", "error_description": "used before"}, status)
    assert caught.value.code == "invalid_grant"
    assert caught.value.retryable is again


async def test_the_error_of_a_refusal_does_not_repeat_what_was_sent():
    client = {"client_secret": "sec/ret+1", "auth_method": "client_secret_post"}
    for repeated in ("the-code", "sec/ret+1", "sec%2Fret%2B1"):
        with pytest.raises(AuthorizationFailed) as caught:
            await token_of({"error": "x", "error_description": f"bad {repeated}!"}, 400, **client)
        assert "bad" in str(caught.value)
        assert repeated not in str(caught.value)
    basic = base64.b64encode(b"c:sec%2Fret%2B1").decode()
    with pytest.raises(AuthorizationFailed) as caught:
        await token_of({"error": "x", "error_description": f"bad {basic}!"}, 400, client_secret="sec/ret+1")
    assert str(caught.value).endswith("bad ***!")
    # What is no credential, such as the kind of grant, may be shown.
    sent = {"grant_type": "authorization_code", "code": "secret-1"}
    answer = Answer(400, b'{"error":"x","error_description":"no authorization_code secret-1"}')
    assert "authorization_code" in str(refusal(answer, "refused", sent))
    assert "secret-1" not in str(refusal(answer, "refused", sent))


def test_a_refusal_shows_a_short_printable_part_of_the_response():
    long = Answer(400, json.dumps({"error": "e" * 100, "error_description": "d" * 5000}).encode())
    error = refusal(long, "refused")
    assert error.code == "e" * 60
    assert 250 < len(str(error)) < 400
    for body in (b"<html>", b'{"error":7}', b'{"error":"a\\nb"}', b"{}"):
        assert str(refusal(Answer(400, body), "refused")).endswith("refused: HTTP status 400")


async def registered(document, status=201, *, redirect="http://127.0.0.1:7/callback", scopes=(), **metadata):
    endpoint = Endpoint(document, status)
    known = {"issuer": ISSUER, "token_endpoint": "t", "registration_endpoint": f"{ISSUER}/register"}
    made = ServerMetadata(**{**known, **metadata})
    client = await register(endpoint, made, name="n", redirect_uri=redirect, scopes=scopes)
    [(address, sent)] = endpoint.sent
    assert address == f"{ISSUER}/register"
    return client, sent


@pytest.mark.parametrize(
    ("accepted", "method"),
    [
        (None, "none"),
        (("client_secret_basic", "none"), "none"),
        (("client_secret_post", "client_secret_basic"), "client_secret_basic"),
        (("client_secret_post",), "client_secret_post"),
        (("private_key_jwt",), "none"),
    ],
)
async def test_a_client_registers_without_a_secret_where_the_server_allows_it(accepted, method):
    _, sent = await registered({"client_id": "c"}, token_endpoint_auth_methods_supported=accepted)
    assert sent["token_endpoint_auth_method"] == method


async def test_a_registration_names_the_client_its_redirect_and_its_scopes():
    _, sent = await registered({"client_id": "c"}, scopes=("a", "b"))
    assert (sent["client_name"], sent["redirect_uris"]) == ("n", ["http://127.0.0.1:7/callback"])
    assert (sent["scope"], sent["application_type"]) == ("a b", "native")
    assert sent["response_types"] == ["code"]
    _, sent = await registered({"client_id": "c"}, redirect="https://app.example/callback")
    assert sent["application_type"] == "web"
    assert "scope" not in sent


@pytest.mark.parametrize("status", [200, 201])
async def test_a_registered_client_has_what_the_server_gave_it(status):
    document = {"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post"}
    client, _ = await registered(document, status)
    assert (client.client_id, client.client_secret) == ("c", "s")
    assert (client.auth_method, client.issuer) == ("client_secret_post", ISSUER)
    client, _ = await registered({"client_id": "c", "client_secret": ""}, status)
    assert (client.client_secret, client.auth_method) == (None, None)


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        ({"error": "no_more"}, 400, "registration was refused: HTTP status 400 no_more"),
        ({"client_id": ""}, 201, "the registration: "),
        ({}, 201, "registration cannot be read"),
        ({"client_id": "c"}, 202, "registration was refused"),
    ],
)
async def test_a_registration_that_gives_no_client_is_an_error(document, status, words):
    with pytest.raises(AuthorizationFailed, match=words):
        await registered(document, status)
