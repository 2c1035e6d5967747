"""kumo.file_type: what kind of file something is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core import file_types
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BYTES, TEXT, VALUE, ListOf

if TYPE_CHECKING:
    from kumo_py.core.file_types import FileType
    from kumo_py.policy.context import LuaContext

file_type = Owner("kumo.file_type")


@file_type.function("from_bytes", Param("bytes", BYTES), result=VALUE, since="2025.12.02-67ee9e96")
def from_bytes(ctx: LuaContext, content: bytes) -> dict[str, object]:
    """The kind of a file by its content, with name, extensions and media_types; of anything unknown, Binary."""
    return _table(file_types.from_bytes(content))


@file_type.function(
    "from_extension", Param("extension", TEXT), result=ListOf(VALUE), since="2025.12.02-67ee9e96"
)
def from_extension(ctx: LuaContext, extension: str) -> list[dict[str, object]]:
    """All kinds that use an extension; none for an unknown one."""
    return [_table(kind) for kind in file_types.from_extension(extension)]


@file_type.function(
    "from_media_type", Param("media_type", TEXT), result=ListOf(VALUE), since="2025.12.02-67ee9e96"
)
def from_media_type(ctx: LuaContext, media_type: str) -> list[dict[str, object]]:
    """All kinds that a media type names; none for an unknown one."""
    return [_table(kind) for kind in file_types.from_media_type(media_type)]


def _table(kind: FileType) -> dict[str, object]:
    return {"name": kind.name, "extensions": list(kind.extensions), "media_types": list(kind.media_types)}
