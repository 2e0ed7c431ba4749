"""`WWW-Authenticate` challenges, by the examples of their RFCs and by hostile ones."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from clawft_trio.mcp.auth.challenge import bearer_challenge, parse_challenges


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


@pytest.mark.parametrize(
    ("header", "scopes"),
    [
        ('Basic realm="a", Bearer scope="a  b", Bearer scope="c"', ("a", "b")),
        ('Bearer error="x"', ()),
        ("Basic", None),
        ("", None),
    ],
)
def test_the_first_bearer_challenge_has_the_scopes(header, scopes):
    found = bearer_challenge(header)
    assert (None if found is None else found.scopes) == scopes


def test_a_header_is_read_up_to_8192_characters():
    start = 'Bearer a="'
    fits = "x" * (8192 - len(start) - 1)
    assert bearer_challenge(f'{start}{fits}"').params == {"a": fits}
    assert bearer_challenge(f'{start}{fits}x"').params == {}
