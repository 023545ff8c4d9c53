"""What is changed in the heads of requests and answers on their way between a browser and an app. Pure.

Where apps share a host they share a browser's cookies: ours never reach an app, and none can set or clear them. An app
cannot speak for its neighbours either, so what it says of the whole host (`Alt-Svc`, `Clear-Site-Data`, the domain of a
cookie, HSTS) is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from api.access.signin import COOKIE as SIGN_IN_COOKIE
from api.proxy.circuits import COOKIE

Headers = Sequence[tuple[bytes, bytes]]

_OURS: Final = (COOKIE.encode(), SIGN_IN_COOKIE.encode())
_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te"}
    | {b"trailer", b"upgrade"}
)
_FORWARDED: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)
_OF_HOST: Final = frozenset({b"alt-svc", b"clear-site-data", b"strict-transport-security", b"public-key-pins"})
_UPGRADE: Final = b"upgrade"


def to_app(headers: Headers, address: str, host: str, *, is_secure: bool) -> list[tuple[bytes, bytes]]:
    """Of a request. `address`: the browser's; `host`: by which it came here."""
    dropped = _FORWARDED | _HOP | _named(headers)
    if any(name == b"transfer-encoding" for name, _ in headers):
        dropped |= {b"content-length"}  # two lengths are read by one program this way, by another that way
    kept = [(name, value) for name, value in headers if name not in dropped and name != b"cookie"]
    cookies = [each for name, value in headers if name == b"cookie" for each in _foreign(value)]
    if cookies:
        kept.append((b"cookie", b"; ".join(cookies)))
    kept += _upgrade(headers)
    return [
        *kept,
        (b"x-forwarded-for", address.encode()),
        (b"x-forwarded-host", host.encode()),
        (b"x-forwarded-proto", b"https" if is_secure else b"http"),
    ]


def from_app(headers: Headers, *, switches: bool = False) -> list[tuple[bytes, bytes]]:
    """Of an answer. `switches`: it is a 101."""
    dropped = _OF_HOST | _HOP | _named(headers)
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name == b"set-cookie":
            if not value.lstrip().startswith((*_OURS, b"=")):  # one without a name may be taken for another
                kept.append((name, _without_domain(value)))
        elif name not in dropped:
            kept.append((name, value))
    if switches:
        return kept + _upgrade(headers)
    names = {name for name, _ in kept}
    if not names & {b"x-frame-options", b"content-security-policy"}:
        kept.append((b"x-frame-options", b"SAMEORIGIN"))
    if b"referrer-policy" not in names:
        kept.append((b"referrer-policy", b"same-origin"))
    return kept


def cookie_in(headers: Headers, cookie: str) -> str | None:
    """The value of one of ours."""
    begin = cookie.encode() + b"="
    for name, value in headers:
        if name == b"cookie":
            for each in value.split(b";"):
                if each.strip().startswith(begin):
                    return each.strip()[len(begin) :].decode("latin-1")
    return None


def texts(headers: Headers) -> Mapping[str, str]:
    """By lower-case name; of several the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def wants_upgrade(headers: Headers) -> bool:
    """Whether another protocol is to follow, as WebSockets do."""
    return bool(_upgrade(headers))


def _foreign(cookies: bytes) -> list[bytes]:
    return [each.strip() for each in cookies.split(b";") if each.strip() and not each.strip().startswith(_OURS)]


def _without_domain(cookie: bytes) -> bytes:
    first, *attributes = cookie.split(b";")
    return b";".join([first, *(each for each in attributes if not each.strip().lower().startswith(b"domain"))])


def _named(headers: Headers) -> frozenset[bytes]:
    """What this hop says is meant for the next program only."""
    named = [value for name, value in headers if name == b"connection"]
    return frozenset(each.strip().lower() for value in named for each in value.split(b","))


def _upgrade(headers: Headers) -> list[tuple[bytes, bytes]]:
    wanted = [(name, value) for name, value in headers if name == _UPGRADE]
    return [(b"connection", b"Upgrade"), *wanted] if wanted and _UPGRADE in _named(headers) else []
