"""The `kumo.uuid` module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from kumo_py.core.uuids import UuidSource, parse_uuid
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BYTES, TEXT

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

uuid = Owner("kumo.uuid")
kind = Kind("uuid", UUID)

_SINCE = "2024.09.02-c5476b89"


class _Uuids(UuidSource):
    """The node's own."""

    def __init__(self) -> None:
        super().__init__(_node(), int.from_bytes(os.urandom(2)))


def _node() -> bytes:
    """The address of the first network interface that has one; else chance, marked as such (RFC 9562 §6.10)."""
    for file in sorted(Path("/sys/class/net").glob("*/address")):
        try:
            address = bytes.fromhex(file.read_text().strip().replace(":", ""))
        except (OSError, ValueError):
            continue
        if len(address) == 6 and any(address):
            return address
    chance = os.urandom(6)
    return bytes([chance[0] | 1]) + chance[1:]


def _now(ctx: LuaContext) -> int:
    return int(ctx.env.host.wall() * 1e9)


@uuid.function("parse", Param("text", TEXT), result=kind.type, since=_SINCE)
def parse(ctx: LuaContext, text: str) -> UUID:
    """A UUID from its plain, hyphenated, braced or URN form."""
    return parse_uuid(text)


@uuid.function("new_v1", result=kind.type, since=_SINCE)
def new_v1(ctx: LuaContext) -> UUID:
    """A UUID of the time and this machine's network address."""
    return ctx.env.state(_Uuids).v1(_now(ctx))


@uuid.function("new_v4", result=kind.type, since=_SINCE)
def new_v4(ctx: LuaContext) -> UUID:
    """A random UUID."""
    return uuid4()


@uuid.function("new_v6", result=kind.type, since=_SINCE)
def new_v6(ctx: LuaContext) -> UUID:
    """As new_v1, but UUIDs sort by their time."""
    return ctx.env.state(_Uuids).v6(_now(ctx))


@uuid.function("new_v7", result=kind.type, since=_SINCE)
def new_v7(ctx: LuaContext) -> UUID:
    """A UUID of the time and random bits; sorts by its time."""
    return ctx.env.state(_Uuids).v7(_now(ctx), os.urandom(10))


@kind.field("hyphenated", TEXT)
def hyphenated(ctx: LuaContext, value: UUID) -> str:
    """Such as 69994630-3e27-11ef-91fc-cc28aa0a5c5a."""
    return str(value)


@kind.field("simple", TEXT)
def simple(ctx: LuaContext, value: UUID) -> str:
    """The 32 hex digits alone."""
    return value.hex


@kind.field("braced", TEXT)
def braced(ctx: LuaContext, value: UUID) -> str:
    """The hyphenated form in braces."""
    return f"{{{value}}}"


@kind.field("urn", TEXT)
def urn(ctx: LuaContext, value: UUID) -> str:
    """The hyphenated form after urn:uuid:."""
    return value.urn


@kind.field("bytes", BYTES)
def bytes_(ctx: LuaContext, value: UUID) -> bytes:
    """The 16 bytes."""
    return value.bytes


@kind.meta("tostring", result=TEXT)
def tostring(ctx: LuaContext, value: UUID) -> str:
    """The hyphenated form."""
    return str(value)
