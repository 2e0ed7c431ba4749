"""Converts a refusal over HTTP to an error with its reason, and decides whether a login could help."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from clawft_trio.errors import MAX_BODY, McpError, PeerError
from clawft_trio.mcp.auth.challenge import bearer_challenge
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, ErrorObject, Id, decode_error
from clawft_trio.net import HttpResponse
from clawft_trio.retry_hints import RETRYABLE_STATUSES, retry_after

_SHOWN = 200
"""Characters of a refusal's body in the error's message; `PeerError.body` has more of it."""

_KEPT_HEADERS = ("www-authenticate", "retry-after")

_LIKE_SESSION_LOST = frozenset((400, 401, 404, 410, 422))
"""Statuses with which real servers refuse a request in a session that they have forgotten."""

_RESOURCE_NOT_FOUND = -32002

# Codes of errors that concern the one request with whose id they are sent.
_ABOUT_REQUEST = frozenset((METHOD_NOT_FOUND, INVALID_PARAMS, _RESOURCE_NOT_FOUND))


def wants_login(status: int, challenge: str) -> bool:
    """Return whether another token could help."""
    if status == 403:
        bearer = bearer_challenge(challenge)
        return bearer is not None and bearer.params.get("error") == "insufficient_scope"
    return status == 401


def means_no_stream(status: int | None) -> bool:
    """Return whether a GET with *status* is not worth repeating. Limits and temporary failures are."""
    return status is not None and (400 <= status < 500 or status == 501) and status not in (408, 425, 429)


def may_mean_session_lost(response: HttpResponse, body: bytes, key: Id | None) -> bool:
    """Return whether the refusal of the request *key* may mean that the server has forgotten the session.

    A 401 with a challenge requires a login. An error object with the request's id and a code for its method or
    parameters was made by the session.
    """
    if response.status not in _LIKE_SESSION_LOST or (response.status == 401 and "www-authenticate" in response.headers):
        return False
    error = error_in(body)
    return error is None or error.code not in _ABOUT_REQUEST or key is None or id_in(body) != key


def http_error(response: HttpResponse, text: str, method: str, server: str) -> McpError:
    """Return the error for *response*, whose body is *text*: with status, body and relevant headers (`Retry-After`,
    `WWW-Authenticate`), and with message, code and data of the JSON-RPC error in the body, if there is one.
    """
    kept = {name: response.headers[name][:MAX_BODY] for name in _KEPT_HEADERS if name in response.headers}
    found = error_in(text.encode())
    error = PeerError(
        found.message or "no message" if found else f"{method or 'GET'}: HTTP status {response.status}{_reason(text)}",
        code=found.code if found else response.status,
        data=found.data if found else None,
        server=server,
        status=response.status,
        body=text,
        headers=kept,
    )
    error.retryable = response.status in RETRYABLE_STATUSES
    error.retry_after = retry_after(response.headers)
    return error


def error_in(body: bytes) -> ErrorObject | None:
    """Return the error in *body*, a JSON-RPC response; its id may be null, if the server could not read the request."""
    try:
        answer = _decode(body)
    except (ValueError, RecursionError):
        return None
    return decode_error(answer.error) if answer.jsonrpc and answer.error and bytes(answer.error) != b"null" else None


def id_in(body: bytes) -> object:
    """Return the id of *body*, a JSON-RPC response."""
    return _decode(body).id


class _Answer(msgspec.Struct):
    jsonrpc: str = ""
    id: object = None
    error: Raw = Raw()


_decode = msgspec.json.Decoder(_Answer).decode


def _reason(body: str) -> str:
    """Return the first words of *body* on one line, if it is text for people."""
    words = " ".join(body[:_SHOWN].split())
    return f": {words}" if words.isprintable() and words and not words.startswith("<") else ""
