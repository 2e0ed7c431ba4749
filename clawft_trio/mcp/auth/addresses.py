"""URLs in OAuth metadata: which are accepted, how they are compared, and where metadata is located."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit, urlunsplit

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.observe.redaction import cut_redacted, redact_address

MAX_ADDRESS = 4096
"""Largest length in characters of a URL that a server names."""


def checked_address(address: str, what: str) -> str:
    """Return *address*, if it is `https:`, or `http:` on loopback (RFC 8252, 7.3), without credentials and fragment.

    Raises:
      AuthorizationFailed: it is another URL; it is not opened, and nothing is sent to it.
    """
    try:
        url = urlsplit(address)
        host, _ = url.hostname or "", url.port
    except ValueError:
        url, host = SplitResult("", "", "", "", ""), ""
    secure = url.scheme == "https" or (url.scheme == "http" and is_loopback(host))
    printable = address.isascii() and address.isprintable() and " " not in address and "\\" not in address
    bad = not host or not secure or not printable or url.fragment or "@" in url.netloc or len(address) > MAX_ADDRESS
    if bad:
        raise AuthorizationFailed(f"the {what} is no https: address: {shown_address(address)}")
    return address


def shown_address(address: str) -> str:
    """Return *address* for an error: quoted, without accounts and values of its query, and not too long."""
    return repr(cut_redacted(address, 200, redact=redact_address))


def is_loopback(host: str) -> bool:
    """Return whether *host* is a loopback address, or `localhost`."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Return whether *host* is an IP address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def origin(address: str) -> str:
    """Return scheme, host and port of *address*, in lower case and without a default port."""
    url = urlsplit(address)
    host = (url.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = url.port
    default = {"https": 443, "http": 80}.get(url.scheme)
    return f"{url.scheme.lower()}://{host}" + ("" if port is None or port == default else f":{port}")


def canonical_resource(address: str) -> str:
    """Return the resource indicator of an MCP server (RFC 8707): its URL without query, fragment and a lone slash."""
    path = urlsplit(address).path
    return origin(address) + ("" if path == "/" else path)


def covers(resource: str, server: str) -> bool:
    """Return whether metadata of *resource* applies to *server*: the URLs are equal, or *resource* is a parent."""
    if origin(resource) != origin(server) or urlsplit(resource).query:
        return False
    parent, path = (urlsplit(one).path.rstrip("/") for one in (resource, server))
    return path == parent or path.startswith(f"{parent}/")


def resource_metadata_addresses(server: str) -> list[str]:
    """Return the possible URLs of the metadata of *server* (RFC 9728, 3.1): for its path, then for its origin."""
    path = urlsplit(server).path.rstrip("/")
    well_known = f"{origin(server)}/.well-known/oauth-protected-resource"
    return [well_known + path, well_known] if path else [well_known]


def server_metadata_addresses(issuer: str) -> list[str]:
    """Return the possible URLs of the metadata of *issuer* (RFC 8414, 3.1; OpenID Connect Discovery, 4.1), in order."""
    url = urlsplit(issuer)
    path = url.path.rstrip("/")
    found = [
        _with_path(url, f"/.well-known/oauth-authorization-server{path}"),
        _with_path(url, f"/.well-known/openid-configuration{path}"),
    ]
    return [*found, _with_path(url, f"{path}/.well-known/openid-configuration")] if path else found


def _with_path(url: SplitResult, path: str) -> str:
    return urlunsplit((url.scheme, url.netloc, path, "", ""))
