"""Keeps other web pages from using a browser that may use the node.

A trusted host needs no password, so any page that is open in a browser there could send requests in its name. What
holds for each request to a listener, before anything else of it is looked at:

- `Sec-Fetch-Site` that says anything but `same-origin` or `none` (typed in, a bookmark) gets 403. Browsers send it
  to https and to loopback addresses, and no page can change it (W3C Fetch Metadata).
- `Origin` must be the node's own, as the request's Host has it, or the answer is 403: cross-origin requests that
  are more than a plain GET carry one (RFC 6454, Fetch standard).
- A browser's request must have a Host that is an IP address, `localhost`, or the name of the node or the listener;
  403 otherwise. So a name of somebody else's that is made to resolve to the node's address (DNS rebinding), under
  which a page of theirs would be of the same origin as the node, leads nowhere.

What is left is a plain GET from elsewhere over http to an address that is not loopback, of which a browser says
nothing: GET changes nothing here, and the page that asked cannot read the answer.

A browser is known by `Sec-Fetch-Site`, `Origin`, `Referer`, `Cookie` or `Accept-Language`, one of which browsers
always send and pages cannot suppress. Other clients may use any name, which load balancers make necessary; so may
fetch() of Node.js, which sends `Sec-Fetch-Mode` alone, as no browser does.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kumo_py.admin.exchange import Refusal
from kumo_py.core.cidr import split_host_port

if TYPE_CHECKING:
    from collections.abc import Collection

    from kumo_py.admin.exchange import Request

_MARKS = (b"sec-fetch-site", b"origin", b"referer", b"cookie", b"accept-language")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def refuse_foreign(request: Request, names: Collection[str]) -> None:
    """Raises Refusal for what another page has a browser send. names: of the node, in lower case."""
    site = request.header(b"sec-fetch-site")
    if site not in (None, b"same-origin", b"none"):
        raise Refusal(403, "requests from other web sites are not answered: type the address in")
    host = (request.header(b"host") or b"").decode("latin-1").lower()
    origin = request.header(b"origin")
    if origin is not None and not _is_own(origin.decode("latin-1").lower(), host):
        raise Refusal(403, "requests from pages of another origin are not answered")
    if _is_browser(request) and not _is_ours(host, names):
        raise Refusal(
            403,
            f"'{host[:100]}' is not known as a name of this node: use its IP address or {_listed(names)}, or set "
            "hostname in kumo.start_http_listener",
        )


def _is_browser(request: Request) -> bool:
    sent = {name for name, _ in request.headers}
    if b"sec-fetch-mode" in sent and b"sec-fetch-site" not in sent:
        return False
    return not sent.isdisjoint(_MARKS)


def _is_own(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
        port = _DEFAULT_PORTS[parts.scheme]
        return bool(parts.netloc) and _split(parts.netloc, port) == _split(host, port)
    except (KeyError, ValueError):  # such as "null", which a sandboxed page has
        return False


def _split(authority: str, default_port: int) -> tuple[str, int]:
    """Raises ValueError."""
    host, port = split_host_port(authority)
    return host, default_port if port is None else port


def _is_ours(host: str, names: Collection[str]) -> bool:
    try:
        name = split_host_port(host)[0]
    except ValueError:
        return False
    if name == "localhost" or name.removesuffix(".") in names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _listed(names: Collection[str]) -> str:
    return " or ".join(("localhost", *sorted(names)))
