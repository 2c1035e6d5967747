"""KeySource: where a policy says that a key, certificate or password is to be had.

Only the description lives here (KumoMTA option type `keysource`): a file path, the data itself,
an event of the policy, or a HashiCorp Vault path. Reading it is the policy room's work.
"""

from __future__ import annotations

import base64
import binascii

import msgspec


class KeySource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of `path`, `key_data`, `event_name` or `vault_path` is set."""

    path: str | None = None
    key_data: str | None = None
    event_name: str | None = None
    event_args: list[object] | None = None
    vault_address: str | None = None
    vault_token: str | None = None
    vault_mount: str | None = None
    vault_path: str | None = None
    vault_key: str | None = None

    def __post_init__(self) -> None:
        given = (self.path, self.key_data, self.event_name, self.vault_path)
        if sum(item is not None for item in given) != 1:
            raise ValueError(
                "a key source is a file path, or a table with one of key_data, event_name or vault_path"
            )

    @classmethod
    def from_option(cls, value: object) -> KeySource:
        """From a Lua value: a string is a file's path."""
        if isinstance(value, KeySource):
            return value
        if isinstance(value, str):
            return cls(path=value)
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as err:
            raise ValueError(str(err)) from None

    def to_option(self) -> object:
        if self.path is not None:
            return self.path
        return {k: v for k, v in msgspec.structs.asdict(self).items() if v is not None}

    def inline_bytes(self) -> bytes | None:
        """The key when the policy carries it itself: PEM text, or base64 of anything."""
        if self.key_data is None:
            return None
        if self.key_data.lstrip().startswith("-----BEGIN"):
            return self.key_data.encode()
        try:
            return base64.b64decode(self.key_data, validate=True)
        except binascii.Error:
            return self.key_data.encode()
