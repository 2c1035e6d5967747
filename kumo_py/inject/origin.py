"""Who injects, and from where. AuthInfo is KumoMTA's: plain data, as events get it and metadata keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kumo_py.core.acl import AuthInfo, Identity

GENERATOR_QUEUE = "generator.kumomta.internal"
"""Where requests wait whose messages are to be made later."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: who sent it, from which address, to which address and host of ours."""

    auth: AuthInfo
    peer_ip: str
    via: str | None = None
    hostname: str | None = None

    def metadata(self) -> dict[str, object]:
        """What every message of the request has."""
        meta: dict[str, object] = {
            "http_auth": _summary(self.auth),
            "reception_protocol": "HTTP",
            "received_from": self.peer_ip,
        }
        if self.via is not None:
            meta["received_via"] = self.via
        if self.hostname is not None:
            meta["hostname"] = self.hostname
        return meta


def local_system() -> Origin:
    """The node itself, which may do anything."""
    address = "127.0.0.1"
    identity: Identity = {"identity": "kumomta.internal", "context": "LocalSystem"}
    return Origin({"peer_address": address, "identities": [identity], "groups": []}, address)


def _summary(auth: AuthInfo) -> str:
    """The metadata `http_auth`: the login if there is one, else the first identity, else the address."""
    identities = auth["identities"]
    for entry in identities:
        if entry["context"] == "HttpBasicAuth":
            return entry["identity"]
    return identities[0]["identity"] if identities else auth["peer_address"] or ""
