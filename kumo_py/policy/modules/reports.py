"""Reports about mail: delivery status notifications read and written, feedback reports, the trace header in both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kumo_py.message import headers, trace
from kumo_py.message.arf import parse_arf
from kumo_py.message.dsn import parse_dsn
from kumo_py.message.dsn_report import FailureRecord, ReportParams, generate_dsn
from kumo_py.message.message import Message
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.modules.message import message
from kumo_py.policy.registry import Param
from kumo_py.policy.types import MESSAGE, VALUE, OptionTable
from kumo_py.proto.address import parse_address
from kumo_py.smtp_in.params import TraceHeaders

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


@message.function("parse_rfc3464", result=VALUE, needs_content=True)
def parse_rfc3464(ctx: LuaContext, msg: Message) -> dict[str, Any] | None:
    """The delivery status notification that the message is, with per_message, per_recipient and original_message.

    nil if it is none; an error if it claims to be one and cannot be understood.
    """
    report = parse_dsn(msg.data)
    return None if report is None else report.to_table()


@message.function("parse_rfc5965", result=VALUE, needs_content=True)
def parse_rfc5965(ctx: LuaContext, msg: Message) -> dict[str, Any] | None:
    """The feedback report (ARF) that the message is; supplemental_trace has what our own trace header says.

    nil if it is none; an error if it claims to be one and cannot be understood.
    """
    report = parse_arf(msg.data)
    return None if report is None else report.to_table()


@kumo.function(
    "generate_rfc3464_message",
    Param("params", OptionTable(ReportParams)),
    Param("msg", MESSAGE, optional=True),
    Param("log_record", OptionTable(FailureRecord)),
    result=MESSAGE,
    since="2025.10.06-5ec871ab",
)
async def generate_rfc3464_message(
    ctx: LuaContext, params: ReportParams, msg: Message | None, record: FailureRecord
) -> Message | None:
    """A message that tells the sender of what a Bounce or Expiration record is about, to be injected.

    msg is the message that failed. nil if the params ask for no such report, or the sender is the null sender.
    """
    host = ctx.env.host
    if msg is not None:
        await _load(ctx, msg)
    id, sender = host.new_id(), parse_address(record.sender)
    original = None if msg is None else msg.data
    content = generate_dsn(params, record, original, id=id.hex(), now=host.wall())
    return None if content is None else Message(id, "", (sender,), {}, content)


@kumo.function(
    "apply_supplemental_trace_header",
    Param("msg", MESSAGE),
    Param("params", OptionTable(TraceHeaders), optional=True),
    since="2025.10.06-5ec871ab",
)
async def apply_supplemental_trace_header(ctx: LuaContext, msg: Message, params: TraceHeaders | None) -> None:
    """Put the header on top that feedback reports bring back, by the options of a listener's trace_headers."""
    params = params or TraceHeaders()
    if params.supplemental_header:
        await _load(ctx, msg)
        headers.header_line(params.header_name.encode(), b"")  # the name is checked
        line = trace.supplemental(params.header_name, msg.recipients, msg.meta, params.include_meta_names)
        msg.prepend(line)


async def _load(ctx: LuaContext, msg: Message) -> None:
    if not (msg.meta_loaded and msg.data_loaded):
        await ctx.env.host.load_message(msg)
