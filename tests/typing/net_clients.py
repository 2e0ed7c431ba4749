"""Both libraries' clients are what `HttpEndpoint` asks for. Read by the type checkers, never run."""

from __future__ import annotations

import httpx
import httpx2

from clawft_trio.net import HttpClient, HttpEndpoint


def with_httpx(client: httpx.AsyncClient) -> HttpEndpoint:
    needed: HttpClient = client
    return HttpEndpoint("https://example.com", client=needed)


def with_httpx2(client: httpx2.AsyncClient) -> HttpEndpoint:
    needed: HttpClient = client
    return HttpEndpoint("https://example.com", client=needed)
