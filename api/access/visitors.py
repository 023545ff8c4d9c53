"""Who stands at the door, before he has said who he is: his address, and whether a page elsewhere sent him.

Behind a proxy the address is what the nearest untrusted hop was, as the trusted ones before us wrote it down.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from api.http.problems import Problem

_NOWHERE: Final = "unknown"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS: Final = frozenset({"same-origin", "none"})
_PREFIX_BITS: Final = 64  # of IPv6: what one subscriber has, and can change his address within

Address = IPv4Address | IPv6Address


class Visitors:
    """`trusted_proxies`: the setting of that name. Raises `ValueError` where it names no address or network."""

    def __init__(self, trusted_proxies: str) -> None:
        texts = [text.strip() for text in trusted_proxies.split(",")]
        self._trusted = [ip_network(text, strict=False) for text in texts if text]

    def address(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """Of the client. What cannot be told is `unknown`."""
        here = _peer(scope)
        if here is None:
            return _NOWHERE
        for text in reversed(headers.get("x-forwarded-for", "").split(",")):
            if not _is_in(here, self._trusted) or (before := _address(text.strip())) is None:
                break
            here = before
        return str(here)

    def is_secure(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        """Whether he came by https."""
        peer = _peer(scope)
        if peer is not None and _is_in(peer, self._trusted) and "x-forwarded-proto" in headers:
            return headers["x-forwarded-proto"].rpartition(",")[2].strip().lower() == "https"
        return scope.get("scheme") in {"https", "wss"}


def counted_as(address: str) -> str:
    """Under which name the requests of an address are counted: itself, or the IPv6 network it is in."""
    if ":" not in address:
        return address
    return str(ip_network((address, _PREFIX_BITS), strict=False))


def is_allowed(address: str, networks: Sequence[str]) -> bool:
    """Whether one of the networks has the address. None at all: everybody may."""
    if not networks:
        return True
    known = _address(address)
    return known is not None and _is_in(known, [ip_network(each, strict=False) for each in networks])


def refuse_foreign(method: str, headers: Mapping[str, str]) -> None:
    """For what a cookie is enough for: another site's page must not do it in its reader's name. Raises `Problem` (403).

    Browsers say where a request comes from (`Sec-Fetch-Site`, by https; `Origin`); what says nothing is no browser.
    """
    if method in _SAFE:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_ours = site in _OURS
    else:
        is_ours = origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    if not is_ours:
        raise Problem(403, "cross-site-request", "Forbidden operation", "a page of another site asks for this")


def _peer(scope: Mapping[str, Any]) -> Address | None:
    client = scope.get("client")
    return None if client is None else _address(client[0])


@lru_cache(4096)
def _address(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _is_in(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
