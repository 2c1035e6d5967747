"""What log records of one connection have in common.

A dispatcher or a session makes one LogContext when its connection stands (a session another one after EHLO
and STARTTLS) and passes it with each record. Its JSON is made with the first record: treat it as frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.logs.json_text import to_json

if TYPE_CHECKING:
    from kumo_py.logs.counts import DeliveryCounts


@dataclass(slots=True)
class Peer:
    """`peer_address`. name: the MX host when sending, the EHLO name when receiving, "" for HTTP.

    addr: IP address, ip:port or path of a socket. is_secure: its lookup was validated (DNSSEC).
    """

    name: str
    addr: str
    is_secure: bool = False


@dataclass(slots=True)
class Tls:
    """`tls_cipher`, `tls_protocol_version` and `tls_peer_subject_name`."""

    cipher: str
    protocol_version: str
    subject_name: list[str]


@dataclass(slots=True)
class SourceAddress:
    """`source_address`, as ip:port. server and protocol (haproxy, socks5): only with a proxy."""

    address: str
    server: str | None = None
    protocol: str | None = None


class ContextJson(NamedTuple):
    """The constant stretches of a record's line, in its order; `end` holds what is left out when unset."""

    site: bytes
    peer: bytes
    egress: bytes
    delivery_protocol: bytes
    end: bytes
    session_end: bytes


@dataclass(slots=True)
class LogContext:
    """The constant part of records.

    site: ready queue name for delivery, else "". session_id: text of a UUID. counts: the ready queue's.
    """

    site: str = ""
    peer: Peer | None = None
    tls: Tls | None = None
    egress_pool: str | None = None
    egress_source: str | None = None
    source_address: SourceAddress | None = None
    delivery_protocol: str | None = None
    provider_name: str | None = None
    session_id: str | None = None
    counts: DeliveryCounts | None = None
    _json: ContextJson | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def json(self) -> ContextJson:
        made = self._json
        if made is None:
            made = self._json = self._make_json()
        return made

    def _make_json(self) -> ContextJson:
        peer: dict[str, object] | None = None
        if self.peer is not None:
            peer = {"name": self.peer.name, "addr": self.peer.addr}
            if self.peer.is_secure:
                peer["is_secure"] = True
        source: dict[str, object] | None = None
        if self.source_address is not None:
            address = self.source_address
            source = {"address": address.address} | _given(server=address.server, protocol=address.protocol)
        session = _given(session_id=self.session_id)
        end: dict[str, object] = {}
        if self.tls is not None:
            end["tls_cipher"] = self.tls.cipher
            end["tls_protocol_version"] = self.tls.protocol_version
            end["tls_peer_subject_name"] = self.tls.subject_name
        return ContextJson(
            site=to_json(self.site),
            peer=to_json(peer),
            egress=b'"egress_pool":%b,"egress_source":%b,"source_address":%b'
            % (to_json(self.egress_pool), to_json(self.egress_source), to_json(source)),
            delivery_protocol=to_json(self.delivery_protocol),
            end=_members(end | _given(provider_name=self.provider_name) | session),
            session_end=_members(session),
        )


def _given(**members: str | None) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _members(values: dict[str, object]) -> bytes:
    """The members of a JSON object that go after others, and its end."""
    return b"," + to_json(values)[1:] if values else b"}"
