"""Address lists in headers: From, To and the like (RFC 5322 §3.4, with the obsolete forms of §4.4).

Display names are decoded (RFC 2047); comments are skipped. Linear in the size of the value, and bounded in what
it returns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.message.cfws import comment_end
from kumo_py.message.headers import HeaderError, decoded

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<quoted>"(?:[^"\\]|\\.)*+")
      | (?P<literal>\[[^\[\]\\\r\n]*+\])
      | (?P<special>[<>,:;@])
      | (?P<atom>(?:[^\x00-\x20()<>\[\]:;@\\,"\x7f])++)""",
    re.VERBOSE | re.DOTALL,
)
# Nearly all headers have one of these two forms, which can be read at once.
_PLAIN = r"[!#-'*-+\--9=?A-Z^-~]+"
_QUOTED = r"[!\x23-\x5b\x5d-\x7e]+"
_match_plain = re.compile(
    rf"(?:(?:({_PLAIN}(?:\x20{_PLAIN})*+)|\"({_QUOTED}(?:\x20{_QUOTED})*+)\")\x20)?"
    rf"<({_PLAIN})@({_PLAIN})>|({_PLAIN})@({_PLAIN})".encode()
).fullmatch
_ATOM_ONLY = re.compile(r"""[^\x00-\x20()<>\[\]:;@\\,"\x7f]+""").fullmatch
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)


MAX_MAILBOXES = 2000
"""More of them in one header are an error."""


MAX_TOKENS = 1000
"""More words and marks in one address are an error."""


class Mailbox(NamedTuple):
    """One mailbox; `user` is the local part without its quotes."""

    name: str | None
    user: str
    domain: str

    @property
    def email(self) -> str:
        user = self.user
        if not _ATOM_ONLY(user):
            user = '"' + user.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{user}@{self.domain}"


class Group(NamedTuple):
    """A named group of mailboxes."""

    name: str | None
    mailboxes: tuple[Mailbox, ...]


class _Token(NamedTuple):
    kind: str
    text: str
    spaced: bool
    """White space or a comment stands before it."""


def parse_address_list(value: bytes) -> list[Mailbox | Group]:
    """The mailboxes and groups of a raw header value; none for an empty one. Raises HeaderError."""
    if (plain := _match_plain(value)) and b"=?" not in value:
        name, quoted, user, domain, bare_user, bare_domain = plain.groups(b"")
        named = (quoted or name).decode() or None
        return [Mailbox(named, (user or bare_user).decode(), (domain or bare_domain).decode())]
    return _Parser().parse(_tokens(value.decode("utf-8", "replace")))


def _tokens(text: str) -> Iterator[_Token]:
    at, spaced = 0, False
    while at < len(text):
        if text[at] == "(":
            try:
                at, spaced = comment_end(text, at), True
            except HeaderError as err:
                raise _wrong(str(err)) from None
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(f"unexpected {text[at : at + 20]!r}")
        at = match.end()
        if match.lastgroup == "space":
            spaced = True
        else:
            yield _Token(match.lastgroup or "", match[0], spaced)
            spaced = False


class _Parser:
    """One pass over the tokens. `_words` collects what may become a display name or an address."""

    def __init__(self) -> None:
        self._entries: list[Mailbox | Group] = []
        self._members: list[Mailbox] = []
        self._group: list[_Token] | None = None
        self._words: list[_Token] = []
        self._angle: list[_Token] | None = None
        self._count = 0

    def parse(self, tokens: Iterator[_Token]) -> list[Mailbox | Group]:
        between = True  # nothing stands between an address in angle brackets and the comma after it
        for token in tokens:
            text = token.text if token.kind == "special" else ""
            if self._angle is not None:
                if text == ">":
                    self._add(_mailbox(_without_route(self._angle), self._words))
                    self._words, self._angle, between = [], None, False
                else:
                    _collect(self._angle, token)
            elif text == "," or (text == ";" and self._group is not None):
                self._bare()
                between = True
                if text == ";":
                    self._entries.append(Group(_phrase(self._group or []), tuple(self._members)))
                    self._group, self._members = None, []
            elif text == "<" and between:
                self._angle = []
            elif text == ":" and between and self._group is None:
                self._group, self._words = self._words, []
            elif text in ("", "@") and between:
                _collect(self._words, token)
            else:
                raise _wrong(f"unexpected {token.text[:20]!r}")
        if self._angle is not None:
            raise _wrong("a '<' has no '>'")
        self._bare()
        if self._group is not None:
            raise _wrong("a group does not end with ';'")
        return self._entries

    def _bare(self) -> None:
        if self._words:
            self._add(_mailbox(self._words, []))
            self._words = []

    def _add(self, mailbox: Mailbox) -> None:
        self._count += 1
        if self._count > MAX_MAILBOXES:
            raise _wrong(f"it has more than {MAX_MAILBOXES} of them")
        (self._entries if self._group is None else self._members).append(mailbox)


def _collect(tokens: list[_Token], token: _Token) -> None:
    if len(tokens) == MAX_TOKENS:
        raise _wrong(f"one has more than {MAX_TOKENS} words and marks")
    tokens.append(token)


def _without_route(tokens: list[_Token]) -> list[_Token]:
    """`@a,@b:user@host` without its source route (§4.4)."""
    if tokens and tokens[0].text == "@":
        for n, token in enumerate(tokens):
            if token.text == ":":
                return tokens[n + 1 :]
    return tokens


def _mailbox(spec: list[_Token], name: list[_Token]) -> Mailbox:
    at = next((n for n, token in enumerate(spec) if token.text == "@" and token.kind == "special"), 0)
    local, domain = spec[:at], spec[at + 1 :]
    if (
        not local
        or not domain
        or any(token.kind not in ("atom", "quoted") for token in local)
        or any(token.kind not in ("atom", "literal") for token in domain)
        or any(token.spaced for token in (*local[1:], *domain[1:]))
    ):
        shown = "".join((" " if token.spaced else "") + token.text for token in spec).strip()
        raise _wrong(f"{shown[:60]!r} is not local-part@domain")
    user = "".join(_unquoted(token) for token in local)
    return Mailbox(_phrase(name), user, "".join(token.text for token in domain))


def _phrase(tokens: list[_Token]) -> str | None:
    """A display name: words with single spaces where there was any, quotes removed, encoded words decoded."""
    if not tokens:
        return None
    text = "".join((" " if token.spaced else "") + _unquoted(token) for token in tokens)
    return decoded(text.encode("utf-8", "replace")).decode() or None


def _unquoted(token: _Token) -> str:
    return _UNESCAPE.sub(r"\1", token.text[1:-1]) if token.kind == "quoted" else token.text


def _wrong(what: str) -> HeaderError:
    return HeaderError(f"not a list of addresses: {what}")
