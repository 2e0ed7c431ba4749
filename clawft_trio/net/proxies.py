"""The proxy of an endpoint: from the environment or given, with its setting for error messages."""

from __future__ import annotations

import os
import urllib.request
from typing import Any

import attrs

from clawft_trio.errors import NotConfigured


@attrs.frozen
class NamedProxy:
    """A proxy, and the setting that names it."""

    #: `http:`, `https:` or `socks5:` URL; it may contain credentials
    url: str = attrs.field(repr=False)
    #: an environment variable, or `proxy=`
    setting: str

    def __str__(self) -> str:
        """Return the setting and the proxy's host, without credentials."""
        shown = self.url.rpartition("@")[2] if "@" in self.url else self.url.partition("://")[2]
        return f"the proxy of {self.setting} ({shown.partition('/')[0][:200]})"


def given_proxy(url: str) -> NamedProxy:
    """Return the proxy that the program sets itself."""
    return NamedProxy(url, "proxy=")


def environment_proxy(url: Any) -> NamedProxy | None:
    """Return the proxy that the environment sets for *url*; None when there is none."""
    if urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    for kind in (url.scheme, "all"):
        found = proxies.get(kind, "").strip()
        if found:
            # Without a scheme it is an HTTP proxy, as curl and httpx read it.
            return NamedProxy(found if "://" in found else f"http://{found}", _variable(kind, found))
    return None


def _variable(kind: str, value: str) -> str:
    """Return the variable with *value*: names in lower case override those in upper case."""
    for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY"):
        if os.environ.get(name, "").strip() == value:
            return name
    return "the system's settings"


def proxy_pool(proxy: NamedProxy, http: Any, core: Any, settings: dict[str, Any]) -> Any:
    """Return the pool of the library *http*, with its core, that connects through *proxy*.

    Raises:
      NotConfigured: the proxy's URL is invalid, or the library lacks support for SOCKS.
    """
    try:
        by = http.Proxy(url=proxy.url)
        if not by.url.host:
            raise ValueError("it has no host")
    except (ValueError, TypeError, http.InvalidURL):
        kinds = "http://host:port, https://host:port or socks5://host:port"
        raise NotConfigured(f"{proxy.setting} is not the URL of a proxy: expected {kinds}") from None
    where = core.URL(scheme=by.url.raw_scheme, host=by.url.raw_host, port=by.url.port, target=by.url.raw_path)
    pool = core.AsyncSOCKSProxy if by.url.scheme.startswith("socks") else core.AsyncHTTPProxy
    try:
        return pool(where, proxy_auth=by.raw_auth, **settings)
    except (ImportError, RuntimeError) as exc:
        need = f"pip install '{http.__name__}[socks]', or unset {proxy.setting}"
        raise NotConfigured(f"{proxy} is a SOCKS proxy, for which a package is missing: {need}") from exc
