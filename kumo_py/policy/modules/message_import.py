"""msg:import_headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.options import convert
from kumo_py.message.header_import import ImportRule
from kumo_py.message.header_import import import_headers as find
from kumo_py.policy.conversion import LuaValue, plain
from kumo_py.policy.modules.message import message
from kumo_py.policy.registry import Param

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext


class _Rules:
    """A list of rules; errors name the option with its place in the list."""

    name = "ImportRule[]"
    takes = ImportRule

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> list[ImportRule]:
        return convert(plain(ctx, raw), list[ImportRule], what)

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        raise NotImplementedError


@message.function(
    "import_headers",
    Param("specs", _Rules()),
    since="2026.05.12-a6845223",
    needs_content=True,
)
def import_headers(ctx: LuaContext, msg: Message, rules: list[ImportRule]) -> None:
    """Copy headers to metadata by rules, each with a name or prefix*, and perhaps match, transform, target, remove."""
    found, data = find(msg.data, rules)
    if found:
        msg.update_meta(found)
    if data is not msg.data:
        msg.set_data(data)
