"""What status, headers and typed codes mean, as tables."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio import errors as e
from clawft_trio.llm.error_body import ProviderErrorBody
from clawft_trio.llm.failures import Failures
from clawft_trio.llm.secrets import MIN_SECRET, redact
from clawft_trio.retry_hints import RETRYABLE_STATUSES, retry_after

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
FAILURES = Failures(provider="p", now=lambda: NOON)


def judged(status, error=None, headers=None, failures=FAILURES, **more):
    body = b"" if error is None else json.dumps(error).encode()
    return failures.of_response(status=status, headers=headers or {}, body=body, model="m", **more)


def openai(code=None, kind="invalid_request_error", **more):
    return {"error": {"message": "the text", "type": kind, "param": None, "code": code, **more}}


def anthropic(kind, **more):
    return {"type": "error", "error": {"type": kind, "message": "the text", **more}, "request_id": "req_9"}


#                 status  body                                            class                  retryable elsewhere
OPENAI = [
    (400, openai(), e.RequestRejected, False, True),
    (400, openai("context_length_exceeded"), e.ContextLengthExceeded, False, True),
    (400, openai("string_above_max_length"), e.ContextLengthExceeded, False, True),
    (400, openai(kind="exceed_context_size_error"), e.ContextLengthExceeded, False, True),
    (400, openai("content_policy_violation"), e.ContentFiltered, False, False),
    (
        400,
        openai("content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        e.ContentFiltered,
        False,
        False,
    ),
    (400, openai("model_not_found"), e.ModelNotFound, False, True),
    (400, openai("rate_limit_exceeded"), e.RateLimited, True, True),
    (401, openai("invalid_api_key"), e.AuthFailed, False, True),
    (401, None, e.AuthFailed, False, True),
    (402, openai(None, "insufficient_balance"), e.QuotaExhausted, False, True),
    (402, None, e.QuotaExhausted, False, True),
    (403, None, e.AuthFailed, False, True),
    (
        403,
        {"error": {"code": 403, "message": "the text", "metadata": {"flagged_input": "…"}}},
        e.ContentFiltered,
        False,
        False,
    ),
    (404, openai("model_not_found"), e.ModelNotFound, False, True),
    (404, openai("DeploymentNotFound"), e.ModelNotFound, False, True),
    (404, None, e.ModelNotFound, False, True),
    (405, None, e.RequestRejected, False, True),
    (408, None, e.ServerError, True, True),
    (409, None, e.ServerError, True, True),
    (410, None, e.ModelNotFound, False, True),
    (413, None, e.ContextLengthExceeded, False, True),
    (413, openai("rate_limit_exceeded", "tokens"), e.ContextLengthExceeded, False, True),
    (418, None, e.RequestRejected, False, True),
    (422, None, e.RequestRejected, False, True),
    (425, None, e.ServerError, True, True),
    (429, None, e.RateLimited, True, True),
    (429, openai("rate_limit_exceeded", "tokens"), e.RateLimited, True, True),
    (429, openai("insufficient_quota", "insufficient_quota"), e.QuotaExhausted, False, True),
    (429, openai("project_spend_limit_exceeded", "insufficient_quota"), e.QuotaExhausted, False, True),
    (429, openai("a_limit_of_next_year", "insufficient_quota"), e.QuotaExhausted, False, True),
    (429, openai("billing_hard_limit_reached"), e.QuotaExhausted, False, True),
    (429, openai("slow_down"), e.RateLimited, True, True),
    (500, openai(None, "server_error"), e.ServerError, True, True),
    (503, openai("server_is_overloaded"), e.ServerError, True, True),
    (599, None, e.ServerError, True, True),
    (301, None, e.InvalidResponse, False, True),
    (429, openai(None, "exceeded_current_quota_error"), e.QuotaExhausted, False, True),
    (429, openai("1113"), e.QuotaExhausted, False, True),
    (429, openai("1302"), e.RateLimited, True, True),
    (400, openai("Arrearage"), e.QuotaExhausted, False, True),
    (403, openai("AccountOverdueError"), e.QuotaExhausted, False, True),
    (400, openai("400", "budget_exceeded"), e.QuotaExhausted, False, True),
    (400, openai("400", "auth_error"), e.AuthFailed, False, True),
    (400, openai("1301"), e.ContentFiltered, False, False),
    (400, openai("data_inspection_failed"), e.ContentFiltered, False, False),
    (400, openai("InputTextSensitiveContentDetected"), e.ContentFiltered, False, False),
    (400, openai("unknown_model"), e.ModelNotFound, False, True),
    (400, {"object": "error", "type": "invalid_request_prompt", "code": "3051"}, e.ContextLengthExceeded, False, True),
    (400, openai(n_prompt_tokens=9000, n_ctx=8192), e.ContextLengthExceeded, False, True),
    (400, openai(n_prompt_tokens=90, n_ctx=8192), e.RequestRejected, False, True),
    (
        400,
        [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}, None]}}],
        e.AuthFailed,
        False,
        True,
    ),
    # vLLM, Mistral, Google, Ollama, FastAPI: the same news in other shapes
    (
        400,
        {"object": "error", "message": "the text", "type": "BadRequestError", "code": 400},
        e.RequestRejected,
        False,
        True,
    ),
    (404, {"error": "model 'x' not found"}, e.ModelNotFound, False, True),
    (429, [{"error": {"code": 429, "message": "the text", "status": "RESOURCE_EXHAUSTED"}}], e.RateLimited, True, True),
    (
        400,
        [{"error": {"code": 400, "message": "the text", "status": "INVALID_ARGUMENT"}}],
        e.RequestRejected,
        False,
        True,
    ),
    (422, {"detail": [{"loc": ["body"], "msg": "no"}]}, e.RequestRejected, False, True),
]
ANTHROPIC = [
    (400, anthropic("invalid_request_error"), e.RequestRejected, False, True),
    (401, anthropic("authentication_error"), e.AuthFailed, False, True),
    (402, anthropic("billing_error"), e.QuotaExhausted, False, True),
    (403, anthropic("permission_error"), e.AuthFailed, False, True),
    (404, anthropic("not_found_error"), e.ModelNotFound, False, True),
    (413, anthropic("request_too_large"), e.ContextLengthExceeded, False, True),
    (429, anthropic("rate_limit_error"), e.RateLimited, True, True),
    (500, anthropic("api_error"), e.ServerError, True, True),
    (504, anthropic("timeout_error"), e.ServerError, True, True),
    (529, anthropic("overloaded_error"), e.ServerError, True, True),
    (400, anthropic("invalid_request_error", details={"error_code": "model_not_found"}), e.ModelNotFound, False, True),
]


@pytest.mark.parametrize(("status", "body", "kind", "retryable", "elsewhere"), OPENAI + ANTHROPIC)
def test_a_response_becomes_the_error_of_the_table(status, body, kind, retryable, elsewhere):
    error = judged(status, body)
    assert (type(error), error.retryable, error.curable_elsewhere) == (kind, retryable, elsewhere)
    assert (error.provider, error.model, error.status) == ("p", "m", status)


IN_STREAM = [
    ({"error": {"message": "the text", "type": "server_error"}}, e.ServerError, True),
    ({"error": {"type": "overloaded_error", "message": "the text"}, "type": "error"}, e.ServerError, True),
    ({"error": {"type": "rate_limit_error", "message": "the text"}}, e.RateLimited, True),
    ({"error": {"code": "rate_limit_exceeded"}}, e.RateLimited, True),
    ({"error": {"code": "insufficient_quota"}}, e.QuotaExhausted, False),
    ({"error": {"type": "invalid_request_error"}}, e.RequestRejected, False),
    ({"error": {"code": "context_length_exceeded", "type": "invalid_request_error"}}, e.ContextLengthExceeded, False),
    # OpenRouter and vLLM give a status for a code
    ({"error": {"code": 502, "message": "the text"}}, e.ServerError, True),
    ({"error": {"code": 429, "message": "the text"}}, e.RateLimited, True),
    ({"error": {"code": "429", "message": "the text"}}, e.RateLimited, True),
    ({"error": {"code": 400, "message": "the text"}}, e.RequestRejected, False),
    ({"error": {"code": 200, "message": "the text"}}, e.ServerError, True),
    ({"object": "error", "message": "the text", "code": 400}, e.RequestRejected, False),
    ({"error": "the text"}, e.ServerError, True),
    ({"error": None}, e.ServerError, True),
    ({"error": {}}, e.ServerError, True),
    ("the text", e.ServerError, True),
    (None, e.ServerError, True),
]


@pytest.mark.parametrize(("data", "kind", "retryable"), IN_STREAM)
def test_an_error_inside_a_stream_is_judged_by_its_codes(data, kind, retryable):
    error = FAILURES.of_event(data, headers={"x-request-id": "r"})
    assert (type(error), error.retryable, error.status, error.request_id) == (kind, retryable, None, "r")


def test_an_error_names_target_text_status_and_code():
    error = judged(429, openai("rate_limit_exceeded"), {"retry-after": "2"})
    assert str(error) == "p/m: the text (429, rate_limit_exceeded)"


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (502, b"", "Bad Gateway"),
        (407, b"<html></html>", "Proxy Authentication Required"),
        (503, b"upstream connect error\r\nreset reason: overflow", "upstream connect error"),
        (403, b"error code: 1020\n", "error code: 1020"),
        (502, b"<html>\r\n<head><title>502 Bad\x1b[31m Gateway</title>", "502 Bad[31m Gateway"),
        (500, b'{"unknown": 1}', "Internal Server Error"),
        (529, b"", "ServerError"),
    ],
)
def test_an_error_page_without_an_error_object_is_quoted(status, body, text):
    error = FAILURES.of_response(status=status, headers={}, body=body, model="m")
    assert str(error) == f"p/m: {text} ({status})"


def test_a_secret_in_an_error_page_is_masked():
    error = FAILURES.of_response(status=502, headers={}, body=b"no such key: sk-0123456789", secret="sk-0123456789")
    assert "sk-0123456789" not in str(error)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 507, 529, 599])
def test_every_status_of_a_failing_server_is_worth_a_retry(status):
    assert judged(status).retryable
    assert not judged(400).retryable


@pytest.mark.parametrize("status", [501, 505])
def test_a_server_that_can_never_do_it_is_not_asked_again(status):
    assert not judged(status).retryable
    assert judged(status).curable_elsewhere


def test_the_text_of_an_error_decides_nothing():
    for lie in ("rate limit exceeded", "insufficient_quota", "maximum context length", "overloaded", "invalid api key"):
        error = judged(400, {"error": {"message": lie}})
        assert type(error) is e.RequestRejected
        assert error.message == lie


def test_retryable_statuses_are_the_providers_own():
    failures = Failures(provider="p", retryable_statuses=frozenset({404, 429}))
    assert judged(404, failures=failures).retryable
    assert judged(404, openai("model_not_found"), failures=failures).retryable
    assert judged(429, failures=failures).retryable
    assert not judged(503, failures=failures).retryable
    assert not judged(529, anthropic("overloaded_error"), failures=failures).retryable
    assert not judged(429, openai("insufficient_quota"), failures=failures).retryable


def test_the_default_retryable_statuses_are_those_of_the_specification_but_for_what_never_works():
    assert {408, 409, 425, 429, *range(500, 600)} - {501, 505} == RETRYABLE_STATUSES


@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize(("asked", "retryable"), [("true", True), ("false", False)])
def test_the_providers_own_header_on_retries_comes_first(status, asked, retryable):
    assert judged(status, headers={"x-should-retry": asked}).retryable is retryable


RETRY_AFTER = [
    ({}, None),
    ({"retry-after": "2"}, 2.0),
    ({"retry-after": "0.25"}, 0.25),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": "-3"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after-ms": "1500"}, 1.5),
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ({"x-ratelimit-reset-after": "7"}, 7.0),
    ({"retry-after": "Sat, 21 Nov 2026 12:01:30 GMT"}, 90.0),
    ({"retry-after": "Saturday, 21-Nov-26 12:01:30 GMT"}, 90.0),
    ({"retry-after": "Sat Nov 21 12:01:30 2026"}, 90.0),
    ({"retry-after": "Sat, 21 Nov 2026 13:00:30 +0100"}, 30.0),
    ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
    ({"retry-after": "Sat, 99 Nov 2026 11:00:00 GMT"}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), RETRY_AFTER)
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    assert retry_after(headers, lambda: NOON) == seconds
    assert judged(429, headers=headers).retry_after == seconds


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_no_header_is_too_odd_to_be_read(text):
    seconds = retry_after({"retry-after": text, "retry-after-ms": text}, lambda: NOON)
    assert seconds is None or 0 <= seconds < float("inf")


def test_googles_retry_info_is_a_retry_after():
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}, {"@type": "…RetryInfo", "retryDelay": "34.5s"}]
    body = [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "the text", "details": details}}]
    assert judged(429, body).retry_after == 34.5
    assert judged(429, body, {"retry-after": "1"}).retry_after == 1.0


@pytest.mark.parametrize("header", ["x-request-id", "request-id", "x-generation-id"])
def test_the_request_id_is_kept(header):
    assert judged(500, headers={header: "req_1"}).request_id == "req_1"
    assert judged(500, anthropic("api_error")).request_id == "req_9"


def test_the_most_specific_code_is_kept():
    assert (
        judged(429, openai("project_spend_limit_exceeded", "insufficient_quota")).code == "project_spend_limit_exceeded"
    )
    assert judged(529, anthropic("overloaded_error")).code == "overloaded_error"
    assert FAILURES.of_event({"error": {"code": 502}}, headers={}).code == "502"


def test_a_body_is_cut_and_never_holds_the_key():
    key = "sk-" + "k" * 60
    body = ("<html>" + f"{key} and " * 2000).encode()
    error = FAILURES.of_response(status=500, headers={}, body=body, secret=key)
    assert len(error.body) == 2048
    assert key[:20] not in error.body
    assert key not in str(error)


def test_a_message_never_holds_the_key():
    key = "sk-secret"
    body = json.dumps(openai("invalid_api_key") | {"error": {"message": f"Incorrect API key: {key}"}}).encode()
    error = FAILURES.of_response(status=401, headers={}, body=body, secret=key)
    assert key not in f"{error!s} {error!r} {error.body} {error.message}"
    assert "Incorrect API key" in str(error)


@given(st.text("ab", min_size=MIN_SECRET, max_size=8), st.text("ab", max_size=60), st.integers(0, 60))
@settings(deadline=None, max_examples=200)
def test_cutting_uncovers_no_secret(secret, text, cut):
    clean = redact(text, secret)
    assert len(clean) == len(text)
    assert secret not in clean[:cut]


def test_a_short_key_does_not_garble_the_message():
    error = FAILURES.of_response(status=429, headers={}, body=b'{"error": {"message": "limit exceeded"}}', secret="x")
    assert error.message == "limit exceeded"


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("Bearer sk-0123456789", "the key sk-0123456789 is wrong"),
        ("Basic dXNlcjpwYXNzd29yZA==", "user:password or dXNlcjpwYXNzd29yZA=="),
        ('quo"ted-secret', '{"got": "quo\\"ted-secret"}'),
        ("sec/ret+value", "/v1?key=sec%2Fret%2Bvalue"),
    ],
)
def test_a_secret_is_found_in_other_forms(secret, text):
    clean = redact(text, [secret])
    assert len(clean) == len(text)
    for piece in ("sk-0123", "password", "dXNl", "ted-secret", "ret%2B", "value"):
        assert piece not in clean


def test_masking_comes_before_cutting_the_message():
    secret = "s" * 40
    error = FAILURES.of_response(
        status=500, headers={}, body=json.dumps({"error": {"message": "x" * 480 + secret}}).encode(), secret=[secret]
    )
    assert len(error.message) == 500
    assert "s" not in error.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "code", "type", "message", "details", "metadata", "status", "innererror"]),
                inner,
                max_size=4,
            )
        ),
    )
)
@settings(deadline=None, max_examples=300)
def test_no_error_object_is_too_odd_to_be_read(data):
    assert isinstance(FAILURES.of_event(data, headers={}), e.ProviderError)
    ProviderErrorBody.parse(json.dumps(data))


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=100)
def test_no_body_is_too_odd_to_be_read(body):
    assert type(FAILURES.of_response(status=500, headers={}, body=body)) is e.ServerError


@pytest.mark.parametrize(
    ("event", "headers", "expected"),
    [
        ({"error": {"message": "x"}, "request_id": "own"}, {"x-request-id": "of the response"}, "own"),
        ({"error": {"message": "x", "request_id": "own"}}, {"x-request-id": "of the response"}, "own"),
        ({"error": {"message": "x"}}, {"x-request-id": "of the response"}, "of the response"),
        ({"error": {"message": "x"}}, {"request-id": "of the response"}, "of the response"),
        ({"error": {"message": "x"}}, {}, None),
    ],
    ids=repr,
)
def test_an_error_event_has_its_own_request_id_or_that_of_the_response(event, headers, expected):
    assert Failures(provider="p").of_event(event, headers=headers).request_id == expected


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, e.InvalidResponse),
        (399, e.InvalidResponse),
        (400, e.RequestRejected),
        (401, e.AuthFailed),
        (402, e.QuotaExhausted),
        (403, e.AuthFailed),
        (404, e.ModelNotFound),
        (408, e.ServerError),
        (409, e.ServerError),
        (410, e.ModelNotFound),
        (413, e.ContextLengthExceeded),
        (418, e.RequestRejected),
        (425, e.ServerError),
        (429, e.RateLimited),
        (499, e.RequestRejected),
        (500, e.ServerError),
        (599, e.ServerError),
    ],
)
def test_a_status_without_a_known_code_decides_by_itself(status, kind):
    assert type(judged(status, openai("unheard_of"))) is kind


@pytest.mark.parametrize(("prompt", "kind"), [(100, e.RequestRejected), (101, e.ContextLengthExceeded)])
def test_a_prompt_longer_than_the_window_is_too_long(prompt, kind):
    assert type(judged(400, openai("unheard_of", n_ctx=100, n_prompt_tokens=prompt))) is kind


@pytest.mark.parametrize(("status", "seconds"), [(429, 7.0), (503, None), (400, None)])
def test_a_limit_that_is_used_up_gives_the_wait_of_a_rate_limit_only(status, seconds):
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7s"}
    assert Failures(provider="p").of_response(status=status, headers=headers, body=b"{}").retry_after == seconds
