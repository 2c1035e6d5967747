"""Connection metadata: what is known of the client while its session lasts.

The policy sees it as `conn_meta`; at DATA a copy of it becomes each message's metadata (KumoMTA
README: later changes do not flow).
"""

from __future__ import annotations


class ConnectionMeta:
    """A session's metadata, JSON values under string keys."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, object] | None = None) -> None:
        self.values: dict[str, object] = {} if values is None else values

    def get(self, key: str) -> object:
        return self.values.get(key)

    def text(self, key: str, default: str = "") -> str:
        """The value if it is a string, else the default."""
        value = self.values.get(key)
        return value if isinstance(value, str) else default
