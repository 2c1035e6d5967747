"""KeySource: where a policy says that a key, certificate or password is to be had.

Only the description lives here (KumoMTA option type `keysource`): a file path, the data itself,
an event of the policy, or a HashiCorp Vault path. Reading it is the policy room's work.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from kumo_py.core.suggest import nearest

_SHAPES = "a key source is a file path, or a table with one of key_data, event_name or vault_path"
Octet = Annotated[int, msgspec.Meta(ge=0, le=255)]


class KeySource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of `path`, `key_data`, `event_name` or `vault_path` is set."""

    option_type = "string|KeySource"

    path: str | None = None
    key_data: str | tuple[Octet, ...] | None = None
    """The key itself; as octets where it is no UTF-8, which is how Lua strings become plain data."""
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
            raise ValueError(_SHAPES)
        if self.vault_path is not None and self.vault_mount is None:
            raise ValueError("a key source with vault_path needs vault_mount too")

    @classmethod
    def from_option(cls, value: object) -> KeySource:
        """From a Lua value: a string is a file's path."""
        if isinstance(value, KeySource):
            return value
        if isinstance(value, str):
            return cls(path=value)
        if not isinstance(value, dict):
            raise ValueError(_SHAPES)
        if value.get("event_args") == {}:  # Lua's one empty table
            value = {**value, "event_args": []}
        for name, item in value.items():
            if name not in cls.__struct_fields__:
                near = nearest(str(name), cls.__struct_fields__)
                raise ValueError(
                    f"unknown option '{name}'" + (f" (did you mean '{near}'?)" if near else f"; {_SHAPES}")
                )
            if name not in ("key_data", "event_args") and not isinstance(item, str):
                raise ValueError(f"option '{name}' must be a string")
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as err:
            raise ValueError(str(err)) from None

    def to_option(self) -> object:
        if self.path is not None:
            return self.path
        return {k: v for k, v in msgspec.structs.asdict(self).items() if v is not None}

    def inline_bytes(self) -> bytes | None:
        """The key when the policy carries it itself. What is in it (PEM, base64, a password) is its user's business."""
        if self.key_data is None:
            return None
        return self.key_data.encode() if isinstance(self.key_data, str) else bytes(self.key_data)
