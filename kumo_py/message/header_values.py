"""What headers say, by their names: how each is read and written (RFC 5322 §3.6, RFC 2045 §3, RFC 8601 §2.2).

Addresses are the Mailbox and Group of address_header; message ids are text without the angle brackets.
All errors are HeaderError; what is written can neither end its header nor start another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kumo_py.message.address_header import Group, Mailbox, parse_address_list
from kumo_py.message.authentication_results import AuthenticationResults
from kumo_py.message.cfws import (
    octets_of,
    quote,
    quoted_string,
    refuse_controls,
    skip_cfws,
    text_of,
    without_controls,
)
from kumo_py.message.date import format_date, parse_date
from kumo_py.message.headers import HeaderError, decoded, encoded
from kumo_py.message.mime_params import MimeParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_ATEXT = r"[^\x00-\x20()<>\[\]:;@\\,.\"\x7f]"
_is_atom = re.compile(rf"{_ATEXT}+").fullmatch
_is_phrase = re.compile(rf"{_ATEXT}+(?: {_ATEXT}+)*").fullmatch
_is_dot_atom = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*").fullmatch
_is_domain = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*\.?|\[[^\x00-\x20\[\]\\\x7f]*\]").fullmatch
_match_id = re.compile(r"<([^<>]*+)>").match


@dataclass(frozen=True, slots=True)
class HeaderKind(Generic[T]):
    """A type of header values: `parse` gets a raw value, `encode` gives one. Both raise HeaderError."""

    name: str
    parse: Callable[[bytes], T]
    encode: Callable[[T], bytes]


# -- reading ---------------------------------------------------------------------------------------------------
def parse_unstructured(raw: bytes) -> str:
    """Text, with encoded words decoded and folds removed."""
    try:
        return decoded(raw).decode()
    except UnicodeDecodeError as err:
        raise HeaderError(f"octet {err.start + 1} is not UTF-8") from None


def parse_addresses(raw: bytes) -> list[Mailbox | Group]:
    """One address or group at least."""
    found = parse_address_list(raw)
    if not found:
        raise HeaderError("there is no address")
    return found


def parse_mailboxes(raw: bytes) -> list[Mailbox]:
    """One address at least, and no group."""
    found = parse_addresses(raw)
    mailboxes = [one for one in found if isinstance(one, Mailbox)]
    if len(mailboxes) < len(found):
        raise HeaderError("there is a group where only addresses may be")
    return mailboxes


def parse_mailbox(raw: bytes) -> Mailbox:
    """Exactly one address."""
    found = parse_mailboxes(raw)
    if len(found) > 1:
        raise HeaderError("there are several addresses where only one may be")
    return found[0]


def parse_message_ids(raw: bytes) -> list[str]:
    """One id at least; what stands between the brackets need not be `left@right`."""
    text = text_of(raw)
    ids: list[str] = []
    at = skip_cfws(text, 0)
    while at < len(text) or not ids:
        match = _match_id(text, at)
        if match is None:
            raise HeaderError(f"'<' id '>' is wanted instead of {text[at : at + 40]!r}")
        ids.append(_unquoted_id(match[1]))
        at = skip_cfws(text, match.end())
    return ids


def parse_message_id(raw: bytes) -> str:
    """Exactly one id."""
    ids = parse_message_ids(raw)
    if len(ids) > 1:
        raise HeaderError("there are several ids where only one may be")
    return ids[0]


def _unquoted_id(text: str) -> str:
    text = without_controls(text)
    quoted = quoted_string(text, 0)
    if quoted and text.startswith("@", quoted[1]):
        return quoted[0] + text[quoted[1] :]
    return text


# -- writing ---------------------------------------------------------------------------------------------------
def encode_unstructured(text: str) -> bytes:
    return encoded(octets_of(text))


def encode_mailbox(mailbox: Mailbox) -> bytes:
    """`Name <user@domain>`, the name as it must be written."""
    user, domain = mailbox.user, mailbox.domain
    refuse_controls(user, "the local part")
    if not _is_domain(domain):
        raise HeaderError(f"'{domain[:60]}' is not a domain")
    spec = f"{user if _is_dot_atom(user) else quote(user)}@{domain}"
    if mailbox.name is None:
        return octets_of(f"<{spec}>")
    return octets_of(f"{_phrase(mailbox.name)} <{spec}>")


def encode_address(address: Mailbox | Group) -> bytes:
    if isinstance(address, Mailbox):
        return encode_mailbox(address)
    name = address.name or ""
    shown = name if _is_phrase(name) and name.isascii() else _phrase(name)
    return octets_of(f"{shown}:") + encode_addresses(address.mailboxes) + b";"


def encode_addresses(addresses: Iterable[Mailbox | Group]) -> bytes:
    """One to a line."""
    return b",\r\n\t".join(encode_address(one) for one in addresses)


def encode_message_id(text: str) -> bytes:
    refuse_controls(text, "the id")
    if "<" in text or ">" in text:
        raise HeaderError(f"the id '{text[:60]}' must have no '<' or '>' in it")
    return octets_of(f"<{text}>")


def encode_message_ids(ids: Iterable[str]) -> bytes:
    return b"\r\n\t".join(encode_message_id(one) for one in ids)


def _phrase(name: str) -> str:
    if not name.isascii():
        return text_of(encoded(octets_of(name)))
    refuse_controls(name, "a name")
    return name if _is_atom(name) else quote(name)


# -- by name ---------------------------------------------------------------------------------------------------
UNSTRUCTURED = HeaderKind("text", parse_unstructured, encode_unstructured)
MAILBOX = HeaderKind("mailbox", parse_mailbox, encode_mailbox)
MAILBOX_LIST = HeaderKind("list of mailboxes", parse_mailboxes, encode_addresses)
ADDRESS_LIST = HeaderKind("list of addresses", parse_addresses, encode_addresses)
MESSAGE_ID = HeaderKind("message id", parse_message_id, encode_message_id)
MESSAGE_ID_LIST = HeaderKind("list of message ids", parse_message_ids, encode_message_ids)
CONTENT_TYPE = HeaderKind("content type", MimeParameters.parse_type, MimeParameters.encode)
MIME_PARAMS = HeaderKind("MIME parameters", MimeParameters.parse, MimeParameters.encode)
DATE = HeaderKind("date", parse_date, format_date)
AUTHENTICATION_RESULTS = HeaderKind(
    "authentication results", AuthenticationResults.parse, AuthenticationResults.encode
)

KINDS: dict[str, HeaderKind[Any]] = {
    "From": MAILBOX_LIST,
    "Resent-From": MAILBOX_LIST,
    "To": ADDRESS_LIST,
    "Reply-To": ADDRESS_LIST,
    "Cc": ADDRESS_LIST,
    "Bcc": ADDRESS_LIST,
    "Resent-To": ADDRESS_LIST,
    "Resent-Cc": ADDRESS_LIST,
    "Resent-Bcc": ADDRESS_LIST,
    "Sender": MAILBOX,
    "Resent-Sender": MAILBOX,
    "Date": DATE,
    "Message-ID": MESSAGE_ID,
    "Content-ID": MESSAGE_ID,
    "References": MESSAGE_ID_LIST,
    "Subject": UNSTRUCTURED,
    "Comments": UNSTRUCTURED,
    "Mime-Version": UNSTRUCTURED,
    "Content-Type": CONTENT_TYPE,
    "Content-Disposition": MIME_PARAMS,
    "Content-Transfer-Encoding": MIME_PARAMS,
    "Authentication-Results": AUTHENTICATION_RESULTS,
}
_BY_NAME = {name.lower().encode(): (name.encode(), kind) for name, kind in KINDS.items()}


def kind_of(name: bytes) -> HeaderKind[Any]:
    """How a header of that name is read; text if it is not known."""
    return _BY_NAME.get(name.lower(), (name, UNSTRUCTURED))[1]


def canonical_name(name: bytes) -> bytes:
    """The name as rebuilt messages have it; as it is if it is not known."""
    return _BY_NAME.get(name.lower(), (name, UNSTRUCTURED))[0]
