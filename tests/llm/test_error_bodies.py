"""Error objects of providers: what is read of each shape, and what an error page says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clawft_trio.llm.error_body import ProviderErrorBody, is_bare_error, page_text


def parsed(body: Any) -> ProviderErrorBody:
    return ProviderErrorBody.parse(json.dumps(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"error": ["m"]}, "m"),
        ({"error": [{"message": "m"}]}, "m"),
        ([{"error": {"message": "m"}}], "m"),
        ("m", "m"),
        (["m"], "m"),
        ([], ""),
        (3, ""),
        ({"error": '{"message": "m"}'}, "m"),
        ({"error": ' {"error": {"message": "m"}}'}, "m"),
        ({"error": "{m"}, "{m"),
        ({"error": '["m"]'}, '["m"]'),
        ({"error": {}, "message": "m"}, "m"),
        ({"error_message": "m"}, "m"),
        ({"error_msg": "m"}, "m"),
        ({"msg": "m"}, "m"),
        ({"message": "", "detail": "m"}, "m"),
        ({"detail": [{"msg": "m"}]}, "m"),
        ({"detail": []}, ""),
        ({"errors": [{"message": "m"}, {"message": "n"}]}, "m"),
        ({"errors": ["m"]}, "m"),
        ({"base_resp": {"status_msg": "m"}}, "m"),
        ({"message": 3}, ""),
        ({"error": {"error": {"error": {"error": {"message": "m"}}}}}, "m"),
        ({"error": {"error": {"error": {"error": {"error": {"message": "m"}}}}}}, ""),
    ],
    ids=repr,
)
def test_the_message_is_found_in_every_shape(body: Any, message: str) -> None:
    assert parsed(body).message == message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 20_000])
def test_what_is_no_json_has_no_error_object(body: bytes) -> None:
    assert ProviderErrorBody.parse(body) == ProviderErrorBody()


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        ({"code": "c", "type": "t"}, ("c", "t")),
        ({"code": "c", "type": "error"}, ("c",)),
        ({"code": "429", "type": "t"}, ("t",)),
        ({"code": "1113"}, ("1113",)),
        ({"code": "a1"}, ("a1",)),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, ("RESOURCE_EXHAUSTED",)),
        ({"code": "c", "innererror": {"code": "i"}}, ("i", "c")),
        ({"code": "c", "innererror": "i"}, ("c",)),
        ({"details": {"error_code": "d"}}, ("d",)),
        ({"details": [{"reason": "r"}, 3, {"reason": "s"}], "code": "c"}, ("c", "r", "s")),
        ({"metadata": {"error_type": "m"}, "error_type": "e", "error_code": "f"}, ("m", "e", "f")),
        ({"metadata": {"flagged_input": ""}}, ("content_filter",)),
        ({"metadata": "flagged_input"}, ()),
        ({"base_resp": {"status_code": 1002}, "code": "c"}, ("base_resp 1002", "c")),
        ({"base_resp": {"status_code": 0}, "code": ""}, ()),
        ({"base_resp": {"status_code": "1002"}}, ()),
        ({"base_resp": 1002}, ()),
    ],
    ids=repr,
)
def test_codes_are_read_the_most_specific_first(error: Any, codes: tuple[str, ...]) -> None:
    assert parsed({"error": error}).codes == codes
    assert parsed(error).codes == codes


def test_codes_around_an_error_follow_those_inside_it_once_each() -> None:
    assert parsed({"error": {"code": "c", "type": "t"}, "code": "o", "error_type": "t"}).codes == ("c", "t", "o")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 400}, 400),
        ({"code": 599}, 599),
        ({"code": 399}, None),
        ({"code": 600}, None),
        ({"code": "429"}, 429),
        ({"code": "c", "status_code": 503}, 503),
        ({"code": 200, "status": 503}, 503),
        ({"error_code": 429}, 429),
        ({"status": 500, "code": 429}, 429),
        ({"code": "9" * 5000}, None),
        ({"code": "42900"}, None),
        ({"code": 429.0}, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_status_is_read_from_a_code_between_400_and_599(error: Any, status: int | None) -> None:
    assert parsed({"error": error}).status == status


@pytest.mark.parametrize(
    ("body", "found", "wrapped", "plain", "anthropic"),
    [
        ({"error": {"message": "m"}}, True, True, False, False),
        ({"type": "error", "error": {"message": "m"}}, True, True, False, True),
        ({"error": "m"}, True, False, True, False),
        ({"error": '{"message": "m"}'}, True, True, False, False),
        ({"type": "error", "message": "m"}, True, False, False, True),
        ({"object": "error"}, True, False, False, False),
        ({"error_type": "t"}, True, False, False, False),
        ({"message": "m", "code": 3}, True, False, False, False),
        ({"message": "m", "type": "t"}, True, False, False, False),
        ({"message": "m"}, False, False, False, False),
        ({"code": 3, "type": "t"}, False, False, False, False),
        ({"detail": "Not Found"}, False, False, False, False),
        ({}, False, False, False, False),
    ],
    ids=repr,
)
def test_an_error_object_is_found_wrapped_or_bare(
    body: Any, found: bool, wrapped: bool, plain: bool, anthropic: bool
) -> None:
    error = parsed(body)
    assert (error.found, error.wrapped, error.plain, error.anthropic) == (found, wrapped, plain, anthropic)


def test_the_other_fields_of_an_error_are_read_where_they_have_their_type() -> None:
    error = parsed(
        {
            "request_id": "outer",
            "error": {
                "request_id": "inner",
                "param": "model",
                "n_ctx": 4096,
                "n_prompt_tokens": 5000,
                "details": [{"@type": "x"}, {"retryDelay": "34.5s"}, {"retryDelay": "1s"}],
            },
        }
    )
    assert (error.request_id, error.param, error.retry_after) == ("outer", "model", 34.5)
    assert (error.window, error.prompt_tokens) == (4096, 5000)
    assert parsed({"error": {"request_id": "inner"}}).request_id == "inner"
    odd = parsed({"request_id": 3, "error": {"param": 3, "details": [{"retryDelay": 3}]}})
    assert (odd.request_id, odd.param, odd.retry_after) == (None, None, None)


@pytest.mark.parametrize(
    ("value", "window"),
    [(1, 1), (0, None), (-1, None), (True, None), ("9", None), (2**31 - 1, 2**31 - 1), (2**31, None)],
)
@pytest.mark.parametrize("field", ["n_ctx", "max_context_length", "context_window", "max_model_len"])
def test_a_window_is_a_number_of_tokens(field: str, value: Any, window: int | None) -> None:
    assert parsed({"error": {field: value}}).window == window


@pytest.mark.parametrize(
    ("event", "is_error"),
    [
        ({"object": "error"}, True),
        ({"type": "error"}, True),
        ({"base_resp": {"status_code": 1002}}, True),
        ({"base_resp": {"status_code": 0}}, False),
        *(({name: "x"}, True) for name in ("error_type", "error_message", "error_code", "errors", "detail", "error_msg")),
        ({"detail": ""}, False),
        ({"message": "m", "code": None}, True),
        ({"message": "m", "status": 429}, True),
        ({"message": "m", "code": 1, "choices": []}, False),
        ({"message": "", "code": 1}, False),
        ({"message": {"content": "m"}, "code": 1}, False),
        ({"message": "m"}, False),
        ({"code": 1}, False),
    ],
    ids=repr,
)  # fmt: skip
def test_an_event_is_a_bare_error_by_its_fields(event: Any, is_error: bool) -> None:
    assert is_bare_error(event) is is_error


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (502, b"", "Bad Gateway"),
        (599, b"", ""),
        (502, b"upstream failed\nstack", "upstream failed"),
        (502, b"  \n up \n", "up"),
        (502, b"a\x00b", "ab"),
        (502, b"<html><TITLE lang=en> Down </TITLE>", "Down"),
        (502, b"<html><p>x", "Bad Gateway"),
        (502, b"<title></title>", "Bad Gateway"),
        (502, b'{"a": 1}', "Bad Gateway"),
        (502, b"[1]", "Bad Gateway"),
        (502, b'"x"', "Bad Gateway"),
        (502, b" " * 4096 + b"x", "Bad Gateway"),
        (502, b" " * 4095 + b"x", "x"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_page_is_its_first_line_its_title_or_the_name_of_its_status(status: int, body: bytes, text: str) -> None:
    assert page_text(status, body, lambda found: found) == text


def test_the_line_of_a_page_is_masked_and_at_most_200_characters() -> None:
    assert page_text(502, b"key abc", lambda found: found.replace("abc", "***")) == "key ***"
    assert page_text(502, b"x" * 200, lambda found: found) == "x" * 200
    assert len(page_text(502, b"x" * 201, lambda found: found)) <= 200
