"""URLs of the web as a client needs them: parsed, made safe to send, joined, extended by parameters.

What a policy writes is made regular as browsers do it (WHATWG URL): the host in lower case and in ASCII, the
scheme's own port left out, "." and ".." resolved, and every character that may not stand in a request
percent-encoded; what is encoded already stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urljoin, urlsplit

import idna

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PORTS: Mapping[str, int] = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_IN_PATH = "!$%&'()*+,-./:;=@[\\]^_|~"
_IN_QUERY = "!$%&()*+,-./:;=?@[\\]^_`{|}~"
_PLAIN_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed URL; `parse_url` makes it."""

    scheme: str
    host: str
    """A name in ASCII or an address; an IPv6 address without brackets."""
    port: int
    path: str = "/"
    query: str | None = None
    username: str | None = None
    """Percent-decoded, as is the password."""
    password: str | None = None

    @property
    def authority(self) -> str:
        """Host and, if it is not the scheme's own, port: what the Host header says (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """Path and query: what the request line says (RFC 9112 §3.2.1)."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("https", "wss")

    def __str__(self) -> str:
        user = ""
        if self.username is not None:
            secret = "" if self.password is None else f":{quote(self.password, safe='')}"
            user = f"{quote(self.username, safe='')}{secret}@"
        return f"{self.scheme}://{user}{self.authority}{self.target}"

    def params(self) -> list[tuple[str, str]]:
        """The query as names and values, decoded."""
        return parse_qsl(self.query or "", keep_blank_values=True)

    def with_params(self, params: Iterable[tuple[str, str]]) -> Url:
        """The URL with further names and values at the end of its query."""
        added = form_encode(params)
        if not added:
            return self
        return replace(self, query=f"{self.query}&{added}" if self.query else added)

    def join(self, reference: str) -> Url:
        """The URL that a reference on this page means (RFC 3986 §5). Raises ValueError."""
        return parse_url(urljoin(str(replace(self, username=None, password=None)), reference))


def parse_url(text: str, schemes: tuple[str, ...] = ("http", "https")) -> Url:
    """Parse an absolute URL. Raises ValueError, saying what is wrong with it."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as err:
        raise ValueError(f"{text!r} is not a URL: {err}") from None
    if parts.scheme not in schemes:
        raise ValueError(
            f"{text!r} is not a URL that begins with {' or '.join(f'{one}://' for one in schemes)}"
        )
    username, password = parts.username, parts.password
    return Url(
        parts.scheme,
        _host(parts.hostname or "", text),
        _PORTS[parts.scheme] if port is None else port,
        _path(parts.path),
        quote(parts.query, safe=_IN_QUERY) if parts.query else None,
        None if username is None else unquote(username),
        None if password is None else unquote(password),
    )


def form_encode(params: Iterable[tuple[str, str]]) -> str:
    """Names and values as application/x-www-form-urlencoded."""
    return "&".join(f"{_form_text(name)}={_form_text(value)}" for name, value in params)


def _form_text(text: str) -> str:
    return quote_plus(text, safe="*").replace("~", "%7E")


def _host(host: str, text: str) -> str:
    if _PLAIN_HOST.fullmatch(host):
        return host
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except AddressValueError as err:
            raise ValueError(f"{text!r} is not a URL: {err}") from None
    try:
        return idna.encode(unquote(host), uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise ValueError(f"{text!r} is not a URL: '{host}' is no host name") from None


def _path(path: str) -> str:
    path = quote(path or "/", safe=_IN_PATH)
    if "/." not in path:
        return path
    kept: list[str] = []
    *folders, last = path.split("/")[1:]
    for name in folders:
        if name == "..":
            del kept[-1:]
        elif name != ".":
            kept.append(name)
    if last == "..":
        del kept[-1:]
    kept.append("" if last in (".", "..") else last)
    return "/" + "/".join(kept)
