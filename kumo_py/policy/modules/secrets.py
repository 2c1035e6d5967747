"""The `kumo.secrets` module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.key_source import KeySource
from kumo_py.core.options import OptionError
from kumo_py.policy.conversion import LuaValue, plain
from kumo_py.policy.key_sources import load_key
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BYTES

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

secrets = Owner("kumo.secrets")


class _KeySource:
    """A file's path, or a table that says where the key is."""

    name = "string|KeySource"
    structs = (KeySource,)

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> KeySource:
        try:
            return KeySource.from_option(plain(ctx, raw))
        except ValueError as err:
            raise OptionError(f"{what}: {err}") from None

    def to_lua(self, ctx: LuaContext, value: KeySource) -> LuaValue:
        raise NotImplementedError


KEY_SOURCE = _KeySource()


@secrets.function("load", Param("source", KEY_SOURCE), result=BYTES)
async def load(ctx: LuaContext, source: KeySource) -> bytes:
    """Read a secret from a file, an event of the policy, or HashiCorp Vault."""
    return await load_key(ctx.env, source)
