"""The `kumo.encode` module: binary data as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.encodings import ENCODINGS
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BYTES

if TYPE_CHECKING:
    from kumo_py.core.encodings import Encoding
    from kumo_py.policy.context import LuaContext

encode = Owner("kumo.encode")

_SINCE = "2023.08.22-4d895015"


def _declare(encoding: Encoding) -> None:
    name = encoding.name

    def to_text(ctx: LuaContext, data: bytes) -> bytes:
        return encoding.encode(data)

    def from_text(ctx: LuaContext, text: bytes) -> bytes:
        try:
            return encoding.decode(text)
        except ValueError as err:
            raise ValueError(f"the text {err}") from None

    to_text.__doc__ = f"The bytes as {name}."
    from_text.__doc__ = f"The bytes that a {name} text stands for; an error if it is none."
    encode.function(f"{name}_encode", Param("data", BYTES), result=BYTES, since=_SINCE)(to_text)
    encode.function(f"{name}_decode", Param("text", BYTES), result=BYTES, since=_SINCE)(from_text)


for _encoding in ENCODINGS.values():
    _declare(_encoding)
