"""The methods of a connection's metadata (KumoMTA's `connectionmeta` userdata)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message.connection import ConnectionMeta
from kumo_py.policy.registry import Kind, Param
from kumo_py.policy.types import CONNECTION, TEXT, VALUE

if TYPE_CHECKING:
    from kumo_py.core.acl import AuthInfo
    from kumo_py.policy.context import LuaContext

connection = Kind("connection", ConnectionMeta, type=CONNECTION)


@connection.function("get_meta", Param("key", TEXT), result=VALUE, since="2023.08.22-4d895015")
def get_meta(ctx: LuaContext, conn: ConnectionMeta, key: str) -> object:
    """The value of that name, or nil."""
    return conn.get(key)


@connection.function("set_meta", Param("key", TEXT), Param("value", VALUE), since="2023.08.22-4d895015")
def set_meta(ctx: LuaContext, conn: ConnectionMeta, key: str, value: object) -> None:
    """Store a value: anything that JSON can say. It is copied into every message of the session at DATA."""
    conn.values[key] = value


@connection.function("auth_info", result=VALUE, since="2026.03.04-bb93ecb1")
def auth_info(ctx: LuaContext, conn: ConnectionMeta) -> AuthInfo:
    """Who the client is: peer_address, identities (each with identity and context) and groups. A copy."""
    return conn.auth_info()
