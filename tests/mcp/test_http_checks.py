"""The headers of a request to the HTTP server: which hosts, origins, media types and repeated values pass."""

from __future__ import annotations

import pytest

from clawft_trio.errors import PeerError
from clawft_trio.mcp.server.http_checks import (
    HEADER_MISMATCH,
    accepts,
    check_param_headers,
    check_standard_headers,
    check_version_header,
    host_allowed,
    is_json,
    origin_allowed,
)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000"])
def test_loopback_names_are_served_by_default(host):
    assert host_allowed(host, None) is True


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "localhost.evil.example", "localhost:", "localhost:x", "localhost:²", "::1"]
)
def test_other_names_are_not_served_by_default(host):
    assert host_allowed(host, None) is False


@pytest.mark.parametrize(
    ("host", "allowed", "served"),
    [
        ("app.example:443", ["app.example"], True),
        ("APP.example", ["app.EXAMPLE"], True),
        ("app.example:443", ["app.example:443"], True),
        ("app.example:444", ["app.example:443"], False),
        ("app.example", ["app.example:443"], False),
        ("anything", ["*"], True),
        ("localhost", ["app.example"], False),
        ("localhost", [], False),
        (None, ["*"], False),
    ],
)
def test_a_list_of_hosts_replaces_the_loopback_names(host, allowed, served):
    assert host_allowed(host, allowed) is served


@pytest.mark.parametrize(
    ("origin", "allowed", "served"),
    [
        (None, [], True),
        ("https://app.example", ["*"], True),
        ("https://APP.example", ["https://app.EXAMPLE"], True),
        ("https://app.example:8443", ["https://app.example"], False),
        ("https://other.example", ["https://app.example"], False),
        ("http://localhost", [], True),
        ("https://127.0.0.1:3000", [], True),
        ("http://[::1]:3000", ["https://app.example"], True),
        ("ftp://localhost", [], False),
        ("null", [], False),
        ("http://localhost.evil.example", [], False),
        ("http://localhost/path", [], False),
        ("http://localhost?query", [], False),
        ("http://localhost#fragment", [], False),
        ("http://[::1", [], False),
    ],
)
def test_pages_of_loopback_and_of_the_listed_origins_may_use_the_server(origin, allowed, served):
    assert origin_allowed(origin, allowed) is served


@pytest.mark.parametrize(
    ("header", "kinds", "accepted"),
    [
        (None, ["application/json"], True),
        ("application/json", ["application/json"], True),
        ("Application/JSON; q=0.5 , text/event-stream", ["application/json", "text/event-stream"], True),
        ("application/*", ["application/json"], True),
        ("*/*;q=0.1", ["application/json", "text/event-stream"], True),
        ("application/json", ["application/json", "text/event-stream"], False),
        ("json/*", ["application/json"], False),
        ("text/html", ["application/json"], False),
        ("", ["application/json"], False),
    ],
)
def test_an_accept_header_has_to_allow_every_kind(header, kinds, accepted):
    assert accepts(header, *kinds) is accepted


@pytest.mark.parametrize(
    ("header", "json"),
    [
        ("application/json", True),
        ("Application/JSON ; charset=utf-8", True),
        ("application/jsonl", False),
        ("text/plain; application/json", False),
        (None, False),
    ],
)
def test_the_content_type_says_what_is_json(header, json):
    assert is_json(header) is json


def test_the_version_header_is_the_version_of_the_body():
    check_version_header({"mcp-protocol-version": "2026-07-28"}, "2026-07-28")
    for headers in ({}, {"mcp-protocol-version": "2025-11-25"}):
        with pytest.raises(PeerError, match="MCP-Protocol-Version") as caught:
            check_version_header(headers, "2026-07-28")
        assert caught.value.code == HEADER_MISMATCH == -32020


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "echo"}),
        ("prompts/get", {"name": "echo"}),
        ("resources/read", {"uri": "echo"}),
    ],
)
def test_a_named_method_needs_its_name_in_a_header(method, params):
    check_standard_headers({"mcp-method": method, "mcp-name": "echo"}, method, params)
    check_standard_headers({"mcp-method": method, "mcp-name": "=?base64?ZWNobw==?="}, method, params)
    for name in (None, "other", "=?base64?b3RoZXI=?=", "=?base64?ZWNob?=", "=?base64?ZW*Nobw==?=", "=?base64?/w==?="):
        headers = {"mcp-method": method, **({} if name is None else {"mcp-name": name})}
        with pytest.raises(PeerError, match="Mcp-Name"):
            check_standard_headers(headers, method, params)


def test_other_methods_need_no_name():
    check_standard_headers({"mcp-method": "tools/list"}, "tools/list", {})
    for headers in ({}, {"mcp-method": "tools/call"}):
        with pytest.raises(PeerError, match="Mcp-Method"):
            check_standard_headers(headers, "tools/list", {})


def test_a_refusal_names_the_header_and_what_it_holds():
    with pytest.raises(PeerError) as missing:
        check_standard_headers({}, "tools/list", {})
    assert str(missing.value).endswith("Header mismatch: Mcp-Method is missing")
    with pytest.raises(PeerError) as long:
        check_standard_headers({"mcp-method": "m" * 5000}, "tools/list", {})
    assert "'mmmm" in str(long.value)
    assert len(str(long.value)) < 250


@pytest.mark.parametrize(
    ("value", "header", "same"),
    [
        ("text", "text", True),
        ("text", "Text", False),
        ("ä", "=?base64?w6Q=?=", True),
        ("ä", "ä", False),
        ("=?base64?", "=?base64?", True),
        ("a?=", "a?=", True),
        (True, "true", True),
        (True, "True", False),
        (False, "false", True),
        (False, "0", False),
        (1, "true", False),
        (42, "42", True),
        (42, "42.0", True),
        (-42, "-42", True),
        (42, "43", False),
        (42, "forty", False),
        (42, "--42", False),
        (2**53 + 1, str(2**53 + 1), True),
        (2**53 + 1, str(2**53), False),
        (0, "1e999", False),
        (10**30, str(10**30), True),
        (10**31, str(10**31), False),
        ("text", None, False),
        (None, "text", False),
        (None, None, True),
    ],
)
def test_a_header_of_a_parameter_has_its_value(value, header, same):
    headers = {} if header is None else {"mcp-param-region": header}
    arguments = {"where": {"region": value}} if value is not None else {}
    paths = {("where", "region"): "Region"}
    if same:
        check_param_headers(headers, paths, arguments)
    else:
        with pytest.raises(PeerError, match="Mcp-Param-Region") as caught:
            check_param_headers(headers, paths, arguments)
        assert caught.value.code == HEADER_MISMATCH


def test_every_parameter_is_checked():
    paths = {("absent",): "Absent", ("a",): "A", ("b",): "B"}
    check_param_headers({"mcp-param-a": "1", "mcp-param-b": "2"}, paths, {"a": 1, "b": 2})
    with pytest.raises(PeerError, match="Mcp-Param-B"):
        check_param_headers({"mcp-param-a": "1", "mcp-param-b": "3"}, paths, {"a": 1, "b": 2})
