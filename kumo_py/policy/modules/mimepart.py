"""The `kumo.mimepart` module: parsed messages, their parts, and the making of new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from kumo_py.message import mime
from kumo_py.message.cfws import octets_of
from kumo_py.message.mime import HeaderMap, MessageBuilder, Part
from kumo_py.policy.modules.headermap import headermap
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BOOLEAN, BYTES, TEXT, VALUE, ListOf, OptionTable

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


@dataclass(frozen=True, slots=True)
class PartRef:
    """A part, and where it was found."""

    part: Part
    path: tuple[int, ...] = ()
    """Its place among the parts of the outermost one: an index for each level."""


class Builder:
    """A message in the making; nothing of it is left once it is built."""

    def __init__(self) -> None:
        self._builder: MessageBuilder | None = MessageBuilder()

    @property
    def open(self) -> MessageBuilder:
        if self._builder is None:
            raise ValueError("builder already built: it makes one message only")
        return self._builder

    def build(self, now: float) -> Part:
        built = self.open.build(now)
        self._builder = None
        return built


class AttachmentOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a part appears as an attachment."""

    file_name: str | None = None
    inline: bool = False
    content_id: str | None = None


mimepart = Owner("kumo.mimepart")
part_kind = Kind("mimepart", PartRef)
builder_kind = Kind("builder", Builder)

_SINCE = "2025.10.06-5ec871ab"
_CONTENT_TYPE = Param("content_type", TEXT)
_TEXT = Param("content", TEXT)
_OCTETS = Param("content", BYTES)
_OPTIONS = Param("options", OptionTable(AttachmentOptions), optional=True)
_PART = Param("part", part_kind.type)


def parsed(ctx: LuaContext, data: bytes) -> PartRef:
    """Parse a message for Lua, which then holds it. Raises MimeError."""
    root = mime.parse(data, strict=True)
    ctx.holds(len(data))
    return PartRef(root)


def _made(ctx: LuaContext, part: Part) -> PartRef:
    ctx.holds(part.size)
    return PartRef(part)


def _attachment(options: AttachmentOptions | None) -> mime.Attachment | None:
    if options is None:
        return None
    return mime.Attachment(options.file_name, options.inline, options.content_id)


@mimepart.function("parse", Param("data", BYTES), result=part_kind.type, since=_SINCE)
def parse(ctx: LuaContext, data: bytes) -> PartRef:
    """A message of its text: header, empty line, body. An error if there is something else among the headers, or if
    it has more than 5,000 parts, 50 levels or 50,000 headers.
    """
    return parsed(ctx, data)


@mimepart.function("new_text", _CONTENT_TYPE, _TEXT, result=part_kind.type, since=_SINCE)
def new_text(ctx: LuaContext, content_type: str, content: str) -> PartRef:
    """A part of UTF-8 text, in quoted-printable or base64 if it needs them."""
    return _made(ctx, mime.new_text(content_type, content))


@mimepart.function("new_text_plain", _TEXT, result=part_kind.type, since=_SINCE)
def new_text_plain(ctx: LuaContext, content: str) -> PartRef:
    """A text/plain part, as new_text makes it."""
    return _made(ctx, mime.new_text("text/plain", content))


@mimepart.function("new_html", _TEXT, result=part_kind.type, since=_SINCE)
def new_html(ctx: LuaContext, content: str) -> PartRef:
    """A text/html part, as new_text makes it."""
    return _made(ctx, mime.new_text("text/html", content))


@mimepart.function("new_binary", _CONTENT_TYPE, _OCTETS, _OPTIONS, result=part_kind.type, since=_SINCE)
def new_binary(
    ctx: LuaContext, content_type: str, content: bytes, options: AttachmentOptions | None
) -> PartRef:
    """A part in base64; with options an attachment of that file name, disposition and Content-ID."""
    return _made(ctx, mime.new_binary(content_type, content, _attachment(options)))


@mimepart.function(
    "new_multipart",
    _CONTENT_TYPE,
    Param("parts", ListOf(part_kind.type)),
    Param("boundary", TEXT, optional=True),
    result=part_kind.type,
    since=_SINCE,
)
def new_multipart(ctx: LuaContext, content_type: str, parts: list[PartRef], boundary: str | None) -> PartRef:
    """A container of copies of the parts; the boundary is random if none is given."""
    return PartRef(mime.new_multipart(content_type, [one.part.copy() for one in parts], boundary))


@mimepart.function("builder", result=builder_kind.type, since=_SINCE)
def builder(ctx: LuaContext) -> Builder:
    """A builder that arranges texts and attachments as a message."""
    return Builder()


# -- parts -----------------------------------------------------------------------------------------------------
@part_kind.field("id", TEXT, since=_SINCE)
def id_(ctx: LuaContext, this: PartRef) -> str:
    """Where the part was in its tree: "" for the outermost, "1.0" for the first part of its second one."""
    return ".".join(str(n) for n in this.path)


@part_kind.field("headers", headermap.type, since=_SINCE)
def headers(ctx: LuaContext, this: PartRef) -> HeaderMap:
    """The headers of the part; changes to them are changes to the part."""
    return this.part.headers


@part_kind.field("body", BYTES, since=_SINCE)
def body(ctx: LuaContext, this: PartRef) -> bytes:
    """The content, decoded: text/… parts as UTF-8 if their charset is known. Assign to replace it."""
    found = this.part.body
    return octets_of(found) if isinstance(found, str) else found


@part_kind.setter("body")
def set_body(ctx: LuaContext, this: PartRef, content: bytes | None) -> None:
    """Replace the content, encoded as it needs; the media type stays."""
    if content is None:
        raise ValueError("must be a string, got nil")
    replace_body(ctx, this, content, None)


@part_kind.function("replace_body", _OCTETS, Param("content_type", TEXT, optional=True), since=_SINCE)
def replace_body(ctx: LuaContext, this: PartRef, content: bytes, content_type: str | None) -> None:
    """Replace the content, and its media type if one is given. UTF-8 is written as text, other octets in base64.

    A part that has parts loses them.
    """
    this.part.replace_body(content, content_type)
    ctx.holds(this.part.size)


@part_kind.function("append_part", _PART, since=_SINCE)
def append_part(ctx: LuaContext, this: PartRef, part: PartRef) -> None:
    """Add a copy of a part after the parts there are."""
    this.part.parts.append(part.part.copy())


@part_kind.function("rebuild", result=part_kind.type, since=_SINCE)
def rebuild(ctx: LuaContext, this: PartRef) -> PartRef:
    """A new part of the same content, with canonical headers, encodings and line ends.

    Headers that cannot be understood are left out.
    """
    return _made(ctx, this.part.rebuild())


@part_kind.function("get_simple_structure", result=VALUE, since=_SINCE)
def get_simple_structure(ctx: LuaContext, this: PartRef) -> dict[str, object]:
    """The parts that matter: text_part, html_part, amp_html_part, header_part, and a list of all other parts as
    attachments, each with file_name, inline, content_id, content_type and part.
    """
    found = this.part.simple_structure()

    def ref(part: Part | None) -> PartRef | None:
        return None if part is None else PartRef(part, this.path + found.paths[id(part)])

    attachments = []
    for part in found.attachments:
        attachment = part.attachment or mime.Attachment(inline=True)
        type_ = part.content_type
        attachments.append(
            {
                "file_name": attachment.file_name,
                "inline": attachment.inline,
                "content_id": attachment.content_id,
                "content_type": type_.value if type_ else "application/octet-stream",
                "part": ref(part),
            }
        )
    return {
        "text_part": ref(found.text_part),
        "html_part": ref(found.html_part),
        "amp_html_part": ref(found.amp_html_part),
        "header_part": this,
        "attachments": attachments,
    }


@part_kind.meta("tostring", result=BYTES)
def text(ctx: LuaContext, this: PartRef) -> bytes:
    """The part as text of a message."""
    return this.part.to_bytes()


# -- builder ---------------------------------------------------------------------------------------------------
@builder_kind.function("set_stable_content", Param("stable", BOOLEAN))
def set_stable_content(ctx: LuaContext, this: Builder, stable: bool) -> None:
    """Use fixed boundaries and a fixed date, for tests."""
    this.open.stable_content = stable


@builder_kind.function("text_plain", _TEXT)
def text_plain(ctx: LuaContext, this: Builder, content: str) -> None:
    """Set the plain text."""
    this.open.text_plain = content


@builder_kind.function("text_html", _TEXT)
def text_html(ctx: LuaContext, this: Builder, content: str) -> None:
    """Set the HTML text."""
    this.open.text_html = content


@builder_kind.function("text_amp_html", _TEXT, since="2026.03.04-bb93ecb1")
def text_amp_html(ctx: LuaContext, this: Builder, content: str) -> None:
    """Set the AMP HTML text; a message must have another text too."""
    this.open.text_amp_html = content


@builder_kind.function("attach", _CONTENT_TYPE, _OCTETS, _OPTIONS)
def attach(
    ctx: LuaContext, this: Builder, content_type: str, content: bytes, options: AttachmentOptions | None
) -> None:
    """Add an attachment; without options it has no Content-Disposition."""
    this.open.attach(content_type, content, _attachment(options))


@builder_kind.function("attach_part", _PART)
def attach_part(ctx: LuaContext, this: Builder, part: PartRef) -> None:
    """Add a copy of a part; one whose disposition is inline goes beside the text."""
    this.open.attach_part(part.part.copy())


@builder_kind.function("build", result=part_kind.type)
def build(ctx: LuaContext, this: Builder) -> PartRef:
    """The message: multipart/alternative, /related and /mixed as far as needed, with Mime-Version and Date.

    The builder is used up.
    """
    return _made(ctx, this.build(ctx.env.host.wall()))
