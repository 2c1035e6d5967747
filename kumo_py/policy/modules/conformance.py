"""msg:check_fix_conformance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message import conformance
from kumo_py.message.mime import CheckFixSettings, Conformance
from kumo_py.policy.modules.message import message
from kumo_py.policy.registry import Param
from kumo_py.policy.types import TEXT, OptionTable
from kumo_py.proto.address import split_address

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext


@message.function(
    "check_fix_conformance",
    Param("checks", TEXT),
    Param("fixes", TEXT),
    Param("settings", OptionTable(CheckFixSettings), optional=True),
    result=TEXT,
    since="2023.11.28-b5252a41",
    needs_content=True,
)
def check_fix_conformance(
    ctx: LuaContext, msg: Message, checks: str, fixes: str, settings: CheckFixSettings | None
) -> str | None:
    """Look for the problems in `checks` and repair those in `fixes`; both are names joined by |, or empty.

    Returns what is wrong, for a rejection, and nil if nothing is. MISSING_COLON_VALUE, NON_CANONICAL_LINE_ENDINGS,
    NAME_ENDS_WITH_SPACE, LINE_TOO_LONG, NEEDS_TRANSFER_ENCODING, MISSING_DATE_HEADER, MISSING_MESSAGE_ID_HEADER,
    MISSING_MIME_VERSION, INVALID_MIME_HEADERS.
    """
    host = ctx.env.host
    check, fix = Conformance.from_text(checks), Conformance.from_text(fixes)
    try:
        repaired = conformance.check_fix_conformance(
            msg.data,
            check,
            fix,
            settings or CheckFixSettings(),
            new_message_id=lambda: f"{msg.id.hex()}@{split_address(msg.sender)[1] or host.hostname}",
            now=host.wall(),
        )
    except ValueError as err:
        return str(err)
    if repaired is not None:
        msg.set_data(repaired)
    return None
