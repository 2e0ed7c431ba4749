"""Model providers over HTTP: requests, responses and errors of their APIs."""

from typing import TYPE_CHECKING

from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.llm.anthropic import Anthropic as Anthropic
from clawft_trio.llm.catalog import (
    KNOWN as KNOWN,
    KnownProvider as KnownProvider,
    find_key as find_key,
    find_url as find_url,
    known_provider as known_provider,
    provider_named as provider_named,
    split_target as split_target,
)
from clawft_trio.llm.conform import (
    Conformed as Conformed,
    Rules as Rules,
    SchemaRules as SchemaRules,
    VendorRules as VendorRules,
    conform as conform,
)
from clawft_trio.llm.dialect import (
    ApiKey as ApiKey,
    HttpOptions as HttpOptions,
    ProviderOptions as ProviderOptions,
    Sign as Sign,
)
from clawft_trio.llm.http_provider import HttpProvider as HttpProvider
from clawft_trio.llm.openai import Azure as Azure, OpenAICompatible as OpenAICompatible
from clawft_trio.llm.openai_request import Quirks as Quirks
from clawft_trio.llm.responses import OpenAIResponses as OpenAIResponses
from clawft_trio.llm.stream import (
    Stream as Stream,
    StreamCallback as StreamCallback,
    complete as complete,
    open_stream as open_stream,
)
from clawft_trio.llm.vendors import VENDORS as VENDORS
from clawft_trio.retry_hints import RETRYABLE_STATUSES as RETRYABLE_STATUSES

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"HttpModel": "HttpProvider"})

__all__ = [
    "Anthropic",
    "Azure",
    "Conformed",
    "HttpOptions",
    "HttpProvider",
    "KnownProvider",
    "OpenAICompatible",
    "OpenAIResponses",
    "ProviderOptions",
    "Quirks",
    "Rules",
    "SchemaRules",
    "Stream",
    "VendorRules",
    "complete",
    "conform",
    "find_key",
    "find_url",
    "known_provider",
    "open_stream",
    "provider_named",
    "renamed",
    "split_target",
]

_document_fields(__name__)
