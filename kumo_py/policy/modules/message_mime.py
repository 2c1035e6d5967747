"""The methods of a message that look into its MIME parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.message import mime
from kumo_py.message.mime import MimeError
from kumo_py.policy.modules.message import message
from kumo_py.policy.modules.mimepart import PartRef, parsed, part_kind
from kumo_py.policy.registry import Param
from kumo_py.policy.types import BOOLEAN, TEXT

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.message.mime import Part
    from kumo_py.policy.context import LuaContext

_CONTENT = Param("content", TEXT)


@message.function("parse_mime", result=part_kind.type, since="2025.10.06-5ec871ab", needs_content=True)
def parse_mime(ctx: LuaContext, msg: Message) -> PartRef:
    """The parts of a copy of the message: `msg:set_data(tostring(part))` brings changes back."""
    return parsed(ctx, msg.data)


@message.function(
    "append_text_plain", _CONTENT, result=BOOLEAN, since="2024.06.10-84e84b89", needs_content=True
)
def append_text_plain(ctx: LuaContext, msg: Message, content: str) -> bool:
    """Add lines at the end of the first text/plain part; false if there is none."""
    root = mime.parse(msg.data, strict=True)
    part = root.simple_structure().text_part
    if part is None:
        return False
    part.replace_body(f"{_text(part, 'text/plain')}\r\n{content}", "text/plain")
    msg.set_data(root.to_bytes())
    return True


@message.function(
    "append_text_html", _CONTENT, result=BOOLEAN, since="2024.06.10-84e84b89", needs_content=True
)
def append_text_html(ctx: LuaContext, msg: Message, content: str) -> bool:
    """Add HTML before the last </body> of the first text/html part, or at its end; false if there is none."""
    root = mime.parse(msg.data, strict=True)
    part = root.simple_structure().html_part
    if part is None:
        return False
    text = _text(part, "text/html")
    at = text.rfind("</body>")
    if at < 0:
        at = text.rfind("</BODY>")
    if at < 0:
        at = len(text)
    part.replace_body(f"{text[:at]}\r\n{content}{text[at:]}", "text/html")
    msg.set_data(root.to_bytes())
    return True


def _text(part: Part, type_: str) -> str:
    body = part.body
    if isinstance(body, bytes):
        raise MimeError(f"the {type_} part is not text in its charset, nor in UTF-8")
    return body
