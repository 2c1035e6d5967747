"""Names as policies, envelopes and zones write them, made ready to be looked up.

A name that is looked up is always absolute: lower case, A-labels (RFC 5890), no trailing dot.
Search lists never apply, or a mistyped domain could end up with a host of our own.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

import dns.exception
import dns.name

from kumo_py.dns.errors import NoSuchDomain

_MAX_NAME = 253
_MAX_PORT = 65535
_ASCII_NAME = re.compile(r"(?:[!-\-/-\[\]-~]{1,63}\.)*[!-\-/-\[\]-~]{1,63}")
"""Labels of printable ASCII but `.` and the zone file's escape, the backslash (RFC 1035 section 2.3.4)."""

_HOST_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*(?=[0-9-]*[a-z_])[a-z0-9_-]{1,63}")
"""Letters, digits and hyphens (RFC 1123 section 2.1), and the underscore that people use; not an address."""


def absolute_name(text: str, rdtype: str) -> str:
    """The name to ask for. Raises NoSuchDomain for what no zone can hold."""
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            encoded = dns.name.from_unicode(name, dns.name.root, dns.name.IDNA_2008_Practical)
        except (dns.exception.DNSException, UnicodeError) as error:
            raise NoSuchDomain(text, rdtype, f"not a domain name: {error}") from None
        name = encoded.to_text(omit_final_dot=True)
    if len(name) > _MAX_NAME or not _ASCII_NAME.fullmatch(name):
        raise NoSuchDomain(
            text,
            rdtype,
            f"not a domain name: labels are of 1 to 63 octets without spaces, all of it {_MAX_NAME} at most",
        )
    return name.lower()


def is_host_name(name: str) -> bool:
    """Whether a mail host can have this name (lower case, no trailing dot).

    Site names and queue names are made of host names, so nothing may come from a
    stranger's zone that means something there: `|`, `?`, `(`, `->` or `@`.
    """
    return _HOST_NAME.fullmatch(name) is not None


def split_port(text: str) -> tuple[str, int | None]:
    """Split `host:port` and `[literal]:port`. A bare IPv6 address has no port."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        return text, None
    if ":" in host and not host.endswith("]"):
        return text, None
    return host, int(port)


def join_port(host: str, port: int | None) -> str:
    """The reverse of `split_port`, as site names and host lists have it."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_literal(text: str) -> str:
    """The address inside `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3), or a bare one.

    An IPv6 literal without its tag is accepted, as KumoMTA does. Raises ValueError.
    """
    inner = text
    if text.startswith("["):
        if not text.endswith("]"):
            raise ValueError(f"'{text}' has no closing bracket: write [192.0.2.1] or [IPv6:2001:db8::1]")
        inner = text[1:-1]
    tagged = inner[:5].lower() == "ipv6:"
    try:
        address = ip_address(inner[5:] if tagged else inner)
    except ValueError:
        address = None
    if address is None or "%" in inner or (tagged and not isinstance(address, IPv6Address)):
        raise ValueError(f"'{text}' is no address literal: write [192.0.2.1] or [IPv6:2001:db8::1]")
    return str(address)


def reverse_name(address: str) -> str:
    """The name that PTR records of an IP address have (RFC 1035 section 3.5, RFC 3596 section 2.5).

    Raises ValueError if it is none.
    """
    return ip_address(address).reverse_pointer


def dotted(host: str) -> str:
    """A name with its final dot, in front of the port if there is one: as KumoMTA shows names."""
    name, port = split_port(host)
    name = name if name.endswith(".") else f"{name}."
    return name if port is None else f"{name}:{port}"
