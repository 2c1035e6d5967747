"""SMTP commands as a client sends them: one line in, one Command out (RFC 5321 §4.1).

A line that is not UTF-8, or a known verb with bad syntax, raises CommandError, which carries KumoMTA's reply.
A verb nobody knows is no error here: it is a Command too, so that the session counts and answers it.
MAIL and RCPT, two of every three lines, are read by one regular expression; all else takes the slow road.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from kumo_py.proto.address import (
    ASCII_MAILBOX,
    AddressError,
    ParameterError,
    Params,
    parse_mail_path,
    parse_params,
    parse_rcpt_path,
    valid_domain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Verb: TypeAlias = Literal[
    "AUTH", "BDAT", "DATA", "EHLO", "EXPN", "HELO", "HELP", "LHLO", "MAIL", "NOOP", "QUIT", "RCPT", "RSET",
    "STARTTLS", "UNKNOWN", "VRFY", "XCLIENT",
]  # fmt: skip

_SYNTAX = "Syntax error in command or arguments"


class CommandError(ValueError):
    """A command that cannot be carried out as written; `code` and `text` are the reply it gets."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class Command(msgspec.Struct, frozen=True, gc=False):
    """One command. Which fields have a meaning follows from the verb:

    argument: EHLO/HELO/LHLO domain or address literal; MAIL/RCPT address; AUTH mechanism as spelled;
        NOOP/HELP/VRFY/EXPN text; UNKNOWN the whole line.
    params: MAIL/RCPT ESMTP parameters; XCLIENT attributes, decoded. Names are upper-cased.
    initial: AUTH initial response, still in base64; None if the client sent none, "" for "=".
    size, last: BDAT chunk size in bytes, and whether it is the last chunk.
    """

    verb: Verb
    argument: str = ""
    params: Params = {}
    initial: str | None = None
    size: int = 0
    last: bool = False


_match_envelope = re.compile(rf"(?ai:(MAIL FROM)|RCPT TO):<({ASCII_MAILBOX})>(?: (.+))?").fullmatch
_match_word = re.compile(r"([A-Za-z0-9]++)(?:[ \t]++(.*))?", re.DOTALL).fullmatch
_match_from = re.compile(r"(?ai:FROM):").match
_match_to = re.compile(r"(?ai:TO):").match
_match_auth = re.compile(r"([A-Za-z0-9-]++)(?:[ \t]++([A-Za-z0-9+/=]++))?").fullmatch
_match_bdat = re.compile(r"([0-9]{1,20})([ \t]++(?ai:LAST))?").fullmatch
_match_attribute = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)=((?:[!-*,-~]|\+[0-9A-Fa-f]{2})++)").fullmatch
_sub_escape = re.compile(rb"\+(..)").sub
_find_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


def parse_command(line: bytes) -> Command:
    """Read one command line, given without its CRLF. Raises CommandError."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise CommandError(501, "5.5.2 Invalid UTF-8 in command") from None
    match = _match_envelope(text)
    if match is not None:
        is_mail, address, params = match.groups()
        if len(address) <= 254:
            verb: Verb = "MAIL" if is_mail else "RCPT"
            return Command(verb, address) if params is None else Command(verb, address, _params(params))
    return _BARE.get(text) or _parse(text)


def _parse(text: str) -> Command:
    match = _match_word(text.rstrip(" \t"))
    if match is None:
        raise CommandError(501, _SYNTAX)
    read = _READERS.get(match[1].upper())
    return Command("UNKNOWN", text) if read is None else read(match[2] or "")


def _params(text: str) -> Params:
    try:
        return parse_params(text.strip(" \t"))
    except ParameterError:
        raise CommandError(501, _SYNTAX) from None


def _mail(rest: str) -> Command:
    prefix = _match_from(rest)
    if prefix is None:
        raise CommandError(501, _SYNTAX)
    try:
        return Command("MAIL", *parse_mail_path(rest[prefix.end() :]))
    except ParameterError:
        raise CommandError(501, _SYNTAX) from None
    except AddressError:
        raise CommandError(501, "5.1.7 Bad sender's mailbox address syntax") from None


def _rcpt(rest: str) -> Command:
    prefix = _match_to(rest)
    if prefix is None:
        raise CommandError(501, _SYNTAX)
    try:
        return Command("RCPT", *parse_rcpt_path(rest[prefix.end() :]))
    except ParameterError:
        raise CommandError(501, _SYNTAX) from None
    except AddressError:
        raise CommandError(501, "5.1.3 Invalid recipient address syntax") from None


def _auth(rest: str) -> Command:
    """RFC 4954 §4: "=" stands for an initial response that is empty."""
    match = _match_auth(rest)
    if match is None:
        raise CommandError(501, _SYNTAX)
    mechanism, initial = match.groups()
    return Command("AUTH", mechanism, initial="" if initial == "=" else initial)


def _bdat(rest: str) -> Command:
    """RFC 3030 §2."""
    match = _match_bdat(rest)
    if match is None:
        raise CommandError(501, _SYNTAX)
    return Command("BDAT", size=int(match[1]), last=match[2] is not None)


def _xclient(rest: str) -> Command:
    """Postfix XCLIENT_README: attributes whose values are xtext (RFC 3461 §4)."""
    params: Params = {}
    for attribute in rest.replace("\t", " ").split(" "):
        if not attribute:
            continue
        match = _match_attribute(attribute)
        if match is None:
            raise CommandError(501, _SYNTAX)
        try:
            value = _sub_escape(lambda escape: bytes.fromhex(escape[1].decode()), match[2].encode()).decode()
        except UnicodeDecodeError:
            raise CommandError(501, _SYNTAX) from None
        if _find_control(value):
            raise CommandError(501, _SYNTAX)
        params[match[1].upper()] = value
    if not params:
        raise CommandError(501, _SYNTAX)
    return Command("XCLIENT", params=params)


def _greeting(verb: Verb) -> Callable[[str], Command]:
    def read(rest: str) -> Command:
        if not valid_domain(rest):
            raise CommandError(501, _SYNTAX)
        return Command(verb, rest)

    return read


def _free_text(verb: Verb) -> Callable[[str], Command]:
    def read(rest: str) -> Command:
        if _find_control(rest):
            raise CommandError(501, _SYNTAX)
        return Command(verb, rest)

    return read


def _no_argument(verb: Verb) -> Callable[[str], Command]:
    def read(rest: str) -> Command:
        if rest:
            raise CommandError(501, _SYNTAX)
        return Command(verb)

    return read


_READERS: Mapping[str, Callable[[str], Command]] = {
    "AUTH": _auth,
    "BDAT": _bdat,
    "DATA": _no_argument("DATA"),
    "EHLO": _greeting("EHLO"),
    "EXPN": _free_text("EXPN"),
    "HELO": _greeting("HELO"),
    "HELP": _free_text("HELP"),
    "LHLO": _greeting("LHLO"),
    "MAIL": _mail,
    "NOOP": _free_text("NOOP"),
    "QUIT": _no_argument("QUIT"),
    "RCPT": _rcpt,
    "RSET": _no_argument("RSET"),
    "STARTTLS": _no_argument("STARTTLS"),
    "VRFY": _free_text("VRFY"),
    "XCLIENT": _xclient,
}
_BARE: Mapping[str, Command] = {verb: _READERS[verb]("") for verb in ("DATA", "NOOP", "QUIT", "RSET")}
