"""HTTP and server-sent events: bytes to and from one server."""

from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.net.addresses import (
    AddressPolicy as AddressPolicy,
    special_purpose as special_purpose,
)
from clawft_trio.net.admission import (
    Admission as Admission,
    AdmissionStatistics as AdmissionStatistics,
)
from clawft_trio.net.headers import (
    HeaderValue as HeaderValue,
    bearer as bearer,
)
from clawft_trio.net.http import (
    Clocks as Clocks,
    EndpointStatistics as EndpointStatistics,
    HttpEndpoint as HttpEndpoint,
)
from clawft_trio.net.http_library import (
    HttpClient as HttpClient,
    Library as Library,
)
from clawft_trio.net.response import HttpResponse as HttpResponse
from clawft_trio.net.sse import (
    ServerSentEvent as ServerSentEvent,
    SSEDecoder as SSEDecoder,
)

__all__ = [
    "AddressPolicy",
    "Admission",
    "AdmissionStatistics",
    "Clocks",
    "EndpointStatistics",
    "HttpClient",
    "HttpEndpoint",
    "HttpResponse",
    "SSEDecoder",
    "ServerSentEvent",
    "bearer",
    "special_purpose",
]

_document_fields(__name__)
