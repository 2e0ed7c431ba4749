"""Policy for addresses that come from a model, a page or a redirect: which of them may be reached.

The policy is checked when the connection is opened, on the addresses that the name resolves to at that moment, and
the connection goes only to one of these addresses. So neither a redirect nor a name that resolves differently between
check and use (DNS rebinding) evades it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import attrs

from clawft_trio.errors import AddressRefused

IpNetwork = IPv4Network | IPv6Network

# The special-purpose registries of IANA (RFC 6890 and its successors), and one address that is in no registry.
# Written out, because the result of `ipaddress.is_global` differs between patch versions of Python.
_SPECIAL: tuple[tuple[str, IPv4Network], ...] = tuple(
    (why, IPv4Network(network))
    for why, network in (
        ("unspecified", "0.0.0.0/8"),
        ("private", "10.0.0.0/8"),
        ("shared by a carrier's customers", "100.64.0.0/10"),
        ("loopback", "127.0.0.0/8"),
        ("cloud metadata", "169.254.169.254/32"),
        ("cloud metadata", "168.63.129.16/32"),
        ("link-local", "169.254.0.0/16"),
        ("private", "172.16.0.0/12"),
        ("reserved", "192.0.0.0/24"),
        ("documentation", "192.0.2.0/24"),
        ("a 6to4 relay", "192.88.99.0/24"),
        ("private", "192.168.0.0/16"),
        ("for benchmarks", "198.18.0.0/15"),
        ("documentation", "198.51.100.0/24"),
        ("documentation", "203.0.113.0/24"),
        ("multicast", "224.0.0.0/4"),
        ("reserved", "240.0.0.0/4"),
    )
)
_SPECIAL6: tuple[tuple[str, IPv6Network], ...] = tuple(
    (why, IPv6Network(network))
    for why, network in (
        ("unspecified", "::/128"),
        ("loopback", "::1/128"),
        ("private", "fc00::/7"),
        ("link-local", "fe80::/10"),
        ("multicast", "ff00::/8"),
        ("a protocol's own (Teredo, ORCHID)", "2001::/23"),
        ("documentation", "2001:db8::/32"),
        ("a 6to4 tunnel", "2002::/16"),
        ("documentation", "3fff::/20"),
    )
)
# All other addresses are reserved (RFC 4291), except the two ranges that contain IPv4 addresses.
_GLOBAL6 = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")


def special_purpose(address: IPv4Address | IPv6Address) -> str:
    """Return the purpose of *address* when it is not a public unicast address; an empty string when it is.

    An IPv4 address inside an IPv6 address (v4-mapped, NAT64) is judged as the IPv4 address.
    """
    if isinstance(address, IPv6Address):
        if address in _MAPPED or address in _NAT64:
            return special_purpose(IPv4Address(int(address) & 0xFFFF_FFFF))
        found = next((why for why, network in _SPECIAL6 if address in network), "")
        return found or ("" if address in _GLOBAL6 else "reserved")
    return next((why for why, network in _SPECIAL if address in network), "")


def policy_near(peers: Iterable[str]) -> AddressPolicy:
    """Return a policy that allows public addresses, and the special kinds of address that all *peers* have.

    It is for addresses that the server at *peers* names: a server on loopback may name loopback addresses, and a public
    server must not lead to private ones. Cloud metadata is never allowed.
    """
    kinds = {special_purpose(ip_address(peer.partition("%")[0])) for peer in peers}
    if not kinds or "" in kinds:
        return AddressPolicy()
    kinds.discard("cloud metadata")
    allowed: list[str | IpNetwork] = [network for why, network in _SPECIAL if why in kinds]
    allowed += [network for why, network in _SPECIAL6 if why in kinds]
    return AddressPolicy(allowed_networks=allowed)


def _domain(name: str) -> str:
    name = name.strip().lower().rstrip(".")
    return name if name.isascii() else name.encode("idna").decode()


def _domains(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_domain(name).removeprefix("*.").removeprefix(".") for name in names)


def _networks(networks: Iterable[str | IpNetwork]) -> tuple[IpNetwork, ...]:
    return tuple(ip_network(network) for network in networks)


@attrs.frozen(kw_only=True)
class AddressPolicy:
    """Allows public addresses only, and limits domains.

    A domain includes its subdomains (`example.com` also allows `www.example.com`).
    """

    #: the only allowed domains; empty: all domains
    allowed_domains: tuple[str, ...] = attrs.field(default=(), converter=_domains)
    #: refused domains; they override `allowed_domains`
    blocked_domains: tuple[str, ...] = attrs.field(default=(), converter=_domains)
    #: allowed although they are private, loopback or otherwise special: `10.1.0.0/16`, `127.0.0.1`
    allowed_networks: tuple[IpNetwork, ...] = attrs.field(default=(), converter=_networks)

    def check_host(self, host: str) -> None:
        """Check a name before it is resolved.

        Raises:
          AddressRefused: the name is blocked, or not among the allowed domains.
        """
        name = _domain(host)
        if _is_below(name, self.blocked_domains):
            raise AddressRefused(f"{name} is blocked", host=name)
        if self.allowed_domains and not _is_below(name, self.allowed_domains):
            raise AddressRefused(f"{name} is not among the allowed domains", host=name)

    def check_address(self, host: str, address: str) -> None:
        """Check one address that *host* resolves to.

        Raises:
          AddressRefused: the address is special and not allowed, or is not an IP address.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            raise AddressRefused(f"{host} leads to no IP address", host=host, address=address) from None
        why = special_purpose(parsed)
        if why and not any(parsed in network for network in self.allowed_networks):
            raise AddressRefused(f"{host} leads to {address}, which is {why}", host=host, address=address)


def _is_below(name: str, domains: tuple[str, ...]) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)
