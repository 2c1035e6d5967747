"""msg:import_headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message.header_import import ImportRule
from kumo_py.message.header_import import import_headers as find
from kumo_py.policy.modules.message import message
from kumo_py.policy.registry import Param
from kumo_py.policy.types import ListOf, OptionTable

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext


@message.function(
    "import_headers",
    Param("specs", ListOf(OptionTable(ImportRule))),
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
