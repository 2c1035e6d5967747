"""The XCLIENT attributes that say who talks to whom: of Postfix' XCLIENT_README the four KumoMTA knows."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.proto.command import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping


class XclientEndpoints(NamedTuple):
    """What the client wants the session to believe; None leaves as it is."""

    addr: str | None = None
    port: int | None = None
    destaddr: str | None = None
    destport: int | None = None


def xclient_endpoints(params: Mapping[str, str | None]) -> XclientEndpoints:
    """Judge the attributes of an XCLIENT command. Raises CommandError with KumoMTA's reply."""
    addresses: dict[str, str] = {}
    ports: dict[str, int] = {}
    for name, value in params.items():
        text = value or ""
        if name not in ("ADDR", "PORT", "DESTADDR", "DESTPORT"):
            raise CommandError(501, f"parameter {name} is not supported")
        try:
            if name.endswith("PORT"):
                ports[name] = _port(text)
            else:
                addresses[name] = _address(text)
        except ValueError:
            raise CommandError(501, f"{name} {text} is invalid") from None
    return XclientEndpoints(
        addresses.get("ADDR"), ports.get("PORT"), addresses.get("DESTADDR"), ports.get("DESTPORT")
    )


def _address(text: str) -> str:
    """An IP address in its usual form; Postfix puts "IPV6:" in front of a long one."""
    if "%" in text:  # a scope is no business of another host
        raise ValueError
    return str(ip_address(text[5:] if text[:5].upper() == "IPV6:" else text))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError
    return int(text)
