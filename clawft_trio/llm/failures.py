"""Maps status, headers and typed codes of failed responses to error classes, by tables.

All dialects share the tables, because gateways use one dialect and relay the codes of another. The text of an error
message is for people only and is never used to choose the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from clawft_trio.chat import ChatResponse
from clawft_trio.errors import (
    MAX_BODY,
    AuthFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidResponse,
    ModelNotFound,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerError,
    WrongAddress,
)
from clawft_trio.llm.error_body import ProviderErrorBody, page_text
from clawft_trio.llm.secrets import redact
from clawft_trio.llm.wrong_address import NO_SUCH_API, describe, has_odd_path, is_foreign
from clawft_trio.observe.redaction import cut
from clawft_trio.retry_hints import (
    RETRYABLE_STATUSES,
    Now,
    limit_resets_after,
    retry_after,
    utc_now,
)

CODES: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        # OpenAI, and the vendors that use its codes
        "insufficient_quota": QuotaExhausted,
        "billing_hard_limit_reached": QuotaExhausted,
        "billing_not_active": QuotaExhausted,
        "credit_balance_exhausted": QuotaExhausted,
        "organization_spend_limit_exceeded": QuotaExhausted,
        "organization_usage_limit_exceeded": QuotaExhausted,
        "project_spend_limit_exceeded": QuotaExhausted,
        "insufficient_balance": QuotaExhausted,
        "insufficient_credits": QuotaExhausted,
        "exceeded_current_quota_error": QuotaExhausted,  # Moonshot
        "budget_exceeded": QuotaExhausted,  # LiteLLM
        "Arrearage": QuotaExhausted,  # Alibaba
        "AccountOverdueError": QuotaExhausted,  # Volcengine
        "1113": QuotaExhausted,  # Zhipu
        "rate_limit_exceeded": RateLimited,
        "slow_down": RateLimited,
        "server_is_overloaded": ServerError,
        "context_length_exceeded": ContextLengthExceeded,
        "string_above_max_length": ContextLengthExceeded,
        "exceed_context_size_error": ContextLengthExceeded,  # llama.cpp
        "context_exceeded": ContextLengthExceeded,
        "tokens_limit_reached": ContextLengthExceeded,  # GitHub
        "3051": ContextLengthExceeded,  # Mistral
        "1261": ContextLengthExceeded,  # Zhipu
        "content_policy_violation": ContentFiltered,
        "content_filter": ContentFiltered,
        "ResponsibleAIPolicyViolation": ContentFiltered,  # Azure
        "data_inspection_failed": ContentFiltered,  # Alibaba
        "DataInspectionFailed": ContentFiltered,
        "SensitiveContentDetected": ContentFiltered,  # Volcengine
        "InputTextSensitiveContentDetected": ContentFiltered,
        "OutputTextSensitiveContentDetected": ContentFiltered,
        "InputImageSensitiveContentDetected": ContentFiltered,
        "1301": ContentFiltered,  # Zhipu
        "model_not_found": ModelNotFound,
        "model_not_available": ModelNotFound,
        "model_decommissioned": ModelNotFound,
        "DeploymentNotFound": ModelNotFound,  # Azure
        "unknown_model": ModelNotFound,  # GitHub
        "invalid_api_key": AuthFailed,
        "auth_error": AuthFailed,  # LiteLLM
        "API_KEY_INVALID": AuthFailed,  # Google, with status 400
        "account_deactivated": AuthFailed,
        # Anthropic
        "authentication_error": AuthFailed,
        "permission_error": AuthFailed,
        "billing_error": QuotaExhausted,
        "not_found_error": ModelNotFound,
        "request_too_large": ContextLengthExceeded,
        "rate_limit_error": RateLimited,
        "overloaded_error": ServerError,
        "timeout_error": ServerError,
        # OpenAI's Responses API
        "image_content_policy_violation": ContentFiltered,
        # MiniMax, with status 200 and without an error object
        "base_resp 1002": RateLimited,
        "base_resp 1004": AuthFailed,
        "base_resp 1008": QuotaExhausted,
        "base_resp 1026": ContentFiltered,
        "base_resp 1027": ContentFiltered,
        "base_resp 2049": AuthFailed,
        "base_resp 2013": RequestRejected,
    }
)
"""Codes that are more specific than the status and therefore take precedence."""

# Groq responds 413 with this code when one request alone exceeds the tokens per minute: waiting does not help.
STATUS_AND_CODE: Mapping[tuple[int, str], type[ProviderError]] = MappingProxyType(
    {(413, "rate_limit_exceeded"): ContextLengthExceeded}
)

STATUSES: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        401: AuthFailed,
        402: QuotaExhausted,
        403: AuthFailed,
        404: ModelNotFound,
        # The server gave up; the same request may succeed later.
        408: ServerError,
        409: ServerError,
        410: ModelNotFound,
        413: ContextLengthExceeded,
        425: ServerError,
        429: RateLimited,
    }
)
"""Error class of a status by itself. Any other 4xx is `RequestRejected`, any other 5xx `ServerError`."""

TYPES: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        "invalid_request_error": RequestRejected,
        "BadRequestError": RequestRejected,  # vLLM
        "INVALID_ARGUMENT": RequestRejected,  # Google's names, through its OpenAI-compatible address
        "FAILED_PRECONDITION": RequestRejected,
        "PERMISSION_DENIED": AuthFailed,
        "UNAUTHENTICATED": AuthFailed,
        "NOT_FOUND": ModelNotFound,
        "RESOURCE_EXHAUSTED": RateLimited,
        "invalid_prompt": RequestRejected,
        "tokens": RateLimited,  # OpenAI: which of its limits was hit
        "requests": RateLimited,
    }
)
"""Error types that are less specific than a status; used when there is no status: in a stream under HTTP 200."""


_SHOULD_RETRY: Mapping[str, bool] = MappingProxyType({"true": True, "false": False})


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of a request, from the first header that has one."""
    names = ("x-request-id", "request-id", "x-generation-id", "cf-ray")
    return next((headers[name] for name in names if name in headers), None)


def classify(error: ProviderErrorBody, status: int | None) -> type[ProviderError]:
    """Return the error class for *status* and the typed codes of *error*.

    A code in `STATUS_AND_CODE` or `CODES` decides first, then a prompt that is longer than the window, then the status,
    then `TYPES`. Without any known value it is `ServerError`.
    """
    for code in error.codes:
        known = STATUS_AND_CODE.get((status or 0, code)) or CODES.get(code)
        if known is not None:
            return known
    if error.window is not None and (error.prompt_tokens or 0) > error.window:
        return ContextLengthExceeded
    if status is not None:
        return by_status(status)
    return next((TYPES[code] for code in error.codes if code in TYPES), ServerError)


def by_status(status: int) -> type[ProviderError]:
    """Return the error class of *status* by itself."""
    if status in STATUSES:
        return STATUSES[status]
    if status < 400:
        return InvalidResponse
    return RequestRejected if status < 500 else ServerError


@attrs.frozen(kw_only=True)
class Failures:
    """Creates the errors for one provider's failed responses."""

    provider: str
    retryable_statuses: frozenset[int] = RETRYABLE_STATUSES
    now: Now = utc_now

    def of_response(
        self,
        *,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        model: str = "",
        secret: str | Iterable[str] = "",
        request: str = "",
    ) -> ProviderError:
        """Return the error for an HTTP response without a success status.

        Args:
          status: status of the response.
          headers: headers with names in lower case, or a case-insensitive mapping.
          body: as much of the body as was read.
          model: the requested model.
          secret: one secret or several, masked in every text of the error.
          request: method and URL, named in the error when the server has no such API there.
        """
        secret = secret if isinstance(secret, str) else tuple(secret)
        error = ProviderErrorBody.parse(body)
        cls = classify(error, status)

        def mask(text: str) -> str:
            return redact(text, secret)

        message = cut(mask(error.message), _MAX_MESSAGE) or page_text(status, body, mask)
        if _is_elsewhere(status, error, request):
            message = cut(mask(error.message), _MAX_MESSAGE)
            cls, message = WrongAddress, describe(request, status, headers, message)
        elif request and status == 404 and not _is_of_model(error):
            message += f" (the answer to {request}: check the model's name and the base URL)"
        failure = cls(
            message,
            provider=self.provider,
            model=model,
            status=status,
            code=_cut(next(iter(error.codes), None), secret),
            request_id=_cut(request_id(headers) or error.request_id, secret),
            body=redact(body.decode(errors="replace"), secret)[:MAX_BODY],
            retryable=self._retryable(cls, status, headers),
            retry_after=_first(
                retry_after(headers, self.now),
                error.retry_after,
                limit_resets_after(headers, self.now) if cls is RateLimited else None,
            ),
        )
        return _named_window(failure, error)

    def of_event(
        self,
        data: object,
        *,
        headers: Mapping[str, str],
        model: str = "",
        secret: str | Iterable[str] = "",
        partial: ChatResponse | None = None,
        request: str = "",
    ) -> ProviderError:
        """Return the error for an error event in a response with a success status.

        Args:
          data: the event, or the whole answer.
          request: method and URL, if *data* is the whole answer; named when the server has no such API there.
        """
        secret = secret if isinstance(secret, str) else tuple(secret)
        error = ProviderErrorBody.of(data)
        cls = classify(error, error.status)
        message = cut(redact(error.message, secret), _MAX_MESSAGE) or "the provider sent an error in its stream"
        if request and error.plain and not error.codes and error.status is None and has_odd_path(request):
            # LM Studio answers unknown paths with status 200 and `{"error": "Unexpected endpoint or method."}`.
            cls, message = WrongAddress, describe(request, 200, headers, message)
        failure = cls(
            message,
            provider=self.provider,
            model=model,
            code=_cut(next(iter(error.codes), None if error.status is None else str(error.status)), secret),
            request_id=_cut(error.request_id or request_id(headers), secret),
            retryable=self._retryable(cls, error.status, {}),
            retry_after=error.retry_after,
            partial=partial,
        )
        return _named_window(failure, error)

    def _retryable(self, cls: type[ProviderError], status: int | None, headers: Mapping[str, str]) -> bool:
        asked = _SHOULD_RETRY.get(headers.get("x-should-retry", ""))
        if asked is not None:
            return asked
        if status is not None and cls is by_status(status):
            return status in self.retryable_statuses
        # A code was more specific than the status, so the list of statuses does not apply.
        return cls.retryable


# Characters; longer than any real message, and short enough for one line of a log.
_MAX_MESSAGE = 500

# Characters; longer than any real code or request id.
_MAX_CODE = 200


def _cut(text: str | None, secret: str | tuple[str, ...]) -> str | None:
    return None if text is None else redact(text, secret)[:_MAX_CODE]


def _is_elsewhere(status: int, error: ProviderErrorBody, request: str) -> bool:
    """Whether a server that answers *request* with *status* and *error* has no such API at that address."""
    if not request or status not in NO_SUCH_API or _is_of_model(error):
        return False
    if not error.found or status == 405:
        return True
    # Frameworks answer `{"error": "Not Found"}` (xAI and Hugging Face add a code to such a text), and some servers the
    # dialect's own error for any path.
    foreign = error.wrapped and is_foreign(request, anthropic=error.anthropic)
    return status == 404 and (foreign or (error.plain and not error.codes) or has_odd_path(request))


def _is_of_model(error: ProviderErrorBody) -> bool:
    """Whether a 404 is about the model, by its code or its parameter. Anthropic has one code for models and paths."""
    return not _MODEL_CODES.isdisjoint(error.codes) or error.param == "model"


_MODEL_CODES = frozenset(code for code, cls in CODES.items() if cls is ModelNotFound) - {"not_found_error"}


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _named_window(failure: ProviderError, error: ProviderErrorBody) -> ProviderError:
    if isinstance(failure, ContextLengthExceeded):
        failure.window, failure.prompt_tokens = error.window, error.prompt_tokens
    return failure
