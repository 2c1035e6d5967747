"""Connection metadata: what is known of the client while its session lasts.

The policy sees it as `conn_meta`; at DATA a copy of it becomes each message's metadata (KumoMTA
README: later changes do not flow).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kumo_py.core.acl import AuthInfo


class ConnectionMeta:
    """A session's metadata, JSON values under string keys, and who its client turned out to be."""

    __slots__ = ("groups", "identities", "peer_ip", "values")

    def __init__(self, values: dict[str, object] | None = None, peer_ip: str | None = None) -> None:
        self.values: dict[str, object] = {} if values is None else values
        self.peer_ip = peer_ip
        self.identities: tuple[tuple[str, str], ...] = ()
        """Identity, and how we know of it: KumoMTA's `context`."""
        self.groups: tuple[str, ...] = ()

    def auth_info(self) -> AuthInfo:
        """KumoMTA's AuthInfo, as plain data; a copy."""
        return {
            "peer_address": self.peer_ip,
            "identities": [{"identity": name, "context": context} for name, context in self.identities],
            "groups": list(self.groups),
        }

    def get(self, key: str) -> object:
        return self.values.get(key)

    def text(self, key: str, default: str = "") -> str:
        """The value if it is a string, else the default."""
        value = self.values.get(key)
        return value if isinstance(value, str) else default
