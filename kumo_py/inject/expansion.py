"""From a request and a recipient to the octets of a message.

Everything that is the same for all recipients is done once: templates are compiled, attachments encoded. What a
template fills in can neither end a header nor start another one. CPU only; no I/O.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kumo_py.inject.request import Content, ContentError, InjectRequest
from kumo_py.message.address_header import Mailbox, parse_address_list
from kumo_py.message.header_values import UNSTRUCTURED, encode_mailbox, kind_of
from kumo_py.message.headers import HeaderError
from kumo_py.message.mime import MIME_VERSION, Attachment, Header, MessageBuilder, new_binary, parse

if TYPE_CHECKING:
    from kumo_py.core.templates import Template, Templates
    from kumo_py.inject.request import HeaderAddress, Recipient
    from kumo_py.message.mime import Part

_sub_line_end = re.compile(r"\r\n|\r|\n").sub
# Their extension makes the templates escape what they fill in.
_BODIES = {
    "text_body": "text_body.txt",
    "html_body": "html_body.html",
    "amp_html_body": "amp_html_body.html",
}


class Expansion:
    """One request, ready to be expanded. Raises ContentError if that cannot be done for anybody."""

    def __init__(self, request: InjectRequest, templates: Templates) -> None:
        self._request = request
        self._templates = templates
        self._last = ("", b"")
        """The text that the template gave last, and the message made of it."""
        self._attached: list[Part] = []
        self._bodies: dict[str, Template] = {}
        self._headers: dict[str, Template] = {}
        self._last_headers: dict[str, tuple[str, Header]] = {}
        """By name: what its template gave last, and the header made of it."""
        if isinstance(request.content, Content):
            self._compile(request.content)
        else:
            self._whole = self._template("content", "content", request.content)

    def _compile(self, content: Content) -> None:
        if content.text_body is None and content.html_body is None:
            raise ContentError("at least one of text_body and/or html_body must be given")
        for field, name in _BODIES.items():
            source = getattr(content, field)
            if source is not None:
                self._bodies[field] = self._template(f"content.{field}", name, source)
        headers = dict(content.headers)
        if content.from_ is not None:
            headers["From"] = _header_address(content.from_, "content.from")
        if content.reply_to is not None:
            headers["Reply-To"] = _header_address(content.reply_to, "content.reply_to")
        if content.subject is not None:
            headers["Subject"] = content.subject
        for name in sorted(headers):
            self._headers[name] = self._template(f"headers['{name}']", f"headers[{name}]", headers[name])
        for file in content.attachments:
            attachment = Attachment(file.file_name, file.content_id is not None, file.content_id)
            try:
                self._attached.append(new_binary(file.content_type, file.octets(), attachment))
            except HeaderError as err:
                raise ContentError(f"attachment '{file.file_name or file.content_type}': {err}") from None

    def _template(self, field: str, name: str, source: str) -> Template:
        try:
            return self._templates.compile(name, source, self._request.template_dialect)
        except ValueError as err:
            raise ContentError(f"failed parsing field '{field}' as template: {err}") from None

    def expand(self, recipient: Recipient, now: float) -> bytes:
        """The message for a recipient; now: Unix seconds, its Date unless it has one. Raises ValueError."""
        to = Mailbox(recipient.name, *_local_and_domain(recipient.email, "recipient email"))
        values: dict[str, Any] = {**self._request.substitutions, "email": recipient.email}
        if recipient.name is not None:
            values["name"] = recipient.name
        values["to_header"] = encode_mailbox(to).decode()
        values.update(recipient.substitutions)
        if self._bodies:
            return self._build(values, to, now)
        return self._rebuilt(self._whole.render(values), values)

    def _rebuilt(self, text: str, values: dict[str, Any]) -> bytes:
        """A whole message, encoded as mail has to be."""
        if text != self._last[0]:
            read = parse(_with_crlf(text).encode(), strict=True)
            without_breaks = _flat(values)
            if without_breaks != values:
                other = parse(_with_crlf(self._whole.render(without_breaks)).encode(), strict=True)
                if _said(read) != _said(other):
                    raise ValueError("a line break in a substitution would end a header")
            if "\0" in text and any(b"\0" in header.raw_value for header in read.headers):
                raise ValueError("a header has a NUL in it")
            message = read.rebuild()
            if message.headers.first(MIME_VERSION.name) is None:
                message.headers.add(MIME_VERSION)
            self._last = (text, message.to_bytes())
        return self._last[1]

    def _build(self, values: dict[str, Any], to: Mailbox, now: float) -> bytes:
        builder = MessageBuilder()
        bodies = {field: _with_crlf(template.render(values)) for field, template in self._bodies.items()}
        builder.text_plain = bodies.get("text_body")
        builder.text_html = bodies.get("html_body")
        builder.text_amp_html = bodies.get("amp_html_body")
        needs_to = True
        for name, template in self._headers.items():
            needs_to = needs_to and name.lower() != "to"
            text = template.render(values)
            known = self._last_headers.get(name)
            if known is None or known[0] != text:
                known = self._last_headers[name] = (text, _header(name, text))
            builder.headers.add(known[1])
        if needs_to:
            builder.headers.add(Header(b"To", encode_mailbox(to)))
        for part in self._attached:
            builder.attach_part(part)
        return builder.build(now).to_bytes()


def _with_crlf(text: str) -> str:
    """Text with the line ends that mail has; JSON and templates mostly bring LF."""
    if text.count("\r\n") == text.count("\n") == text.count("\r"):
        return text
    return _sub_line_end("\r\n", text)


def _said(message: Part) -> list[tuple[bytes, bytes]]:
    """What its headers say, however they are folded."""
    return [(header.name, b" ".join(header.raw_value.split())) for header in message.headers]


def _flat(value: object) -> object:
    """Plain data, its texts without line breaks."""
    match value:
        case str():
            return " ".join(value.splitlines()) if "\n" in value or "\r" in value else value
        case dict():
            return {_flat(key): _flat(item) for key, item in value.items()}
        case list():
            return [_flat(item) for item in value]
    return value


def _header(name: str, value: str) -> Header:
    """What a template filled in; addresses and the like keep their form when they aren't ASCII."""
    value = value.strip()
    kind = kind_of(name.encode())
    if kind is not UNSTRUCTURED and not value.isascii():
        try:
            return Header.of_kind(name, kind, kind.parse(value.encode()))
        except HeaderError:
            pass
    return Header.make(name, value)


def _header_address(address: HeaderAddress, field: str) -> str:
    try:
        return encode_mailbox(Mailbox(address.name, *_local_and_domain(address.email, field))).decode()
    except ValueError as err:
        raise ContentError(f"failed parsing {field}: {err}") from None


def _local_and_domain(email: str, what: str) -> tuple[str, str]:
    """Raises HeaderError."""
    found = parse_address_list(email.encode())
    if len(found) != 1 or not isinstance(found[0], Mailbox) or found[0].name is not None:
        raise HeaderError(f"{what} {email!r} is not one address")
    return found[0].user, found[0].domain
