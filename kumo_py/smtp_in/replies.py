"""What a session answers (RFC 5321 §4.2, enhanced codes RFC 3463).

A Reply knows its bytes, so that the answers nearly every session gives are made once. Texts that clients or
log readers match are KumoMTA's.
"""

from __future__ import annotations

from typing import Final

from kumo_py.core.policy import Disconnect
from kumo_py.proto.content import Fault
from kumo_py.proto.reply import format_reply


class Reply:
    """One answer. `text` may have several lines; `closes` ends the session after it."""

    __slots__ = ("closes", "code", "disconnect", "text", "wire")

    def __init__(
        self,
        code: int,
        text: str,
        *,
        disconnect: Disconnect | None = None,
        closes: bool = False,
        wire: bytes | None = None,
    ) -> None:
        self.code = code
        self.text = text
        self.disconnect = disconnect
        self.closes = closes or code == 421 or disconnect not in (None, Disconnect.NO)
        self.wire = format_reply(code, text) if wire is None else wire

    def __repr__(self) -> str:
        return f"Reply({self.code}, {self.text!r})"


class Hangup(Exception):
    """Nobody is there to whom an answer would mean anything: close without a word. The text says why."""


MAIL_OK: Final = Reply(250, "2.1.0 OK")
RCPT_OK: Final = Reply(250, "2.1.5 OK")
GO_AHEAD: Final = Reply(354, "Send body; end with CRLF.CRLF")
RESET: Final = Reply(250, "Reset state")
NOTHING_DONE: Final = Reply(250, "the goggles do nothing")
GOODBYE: Final = Reply(221, "So long, and thanks for all the fish!", closes=True)
START_TLS: Final = Reply(220, "Ready to Start TLS")
TLS_ALREADY: Final = Reply(501, "Cannot STARTTLS as TLS is already active")
TLS_UNAVAILABLE: Final = Reply(454, "4.7.0 TLS not available due to temporary reason")
BDAT_BEGUN: Final = Reply(503, "5.5.1 DATA cannot follow BDAT in one transaction")
AUTH_OK: Final = Reply(235, "2.7.0 AUTH OK!")
AUTH_GO_AHEAD: Final = Reply(334, "")
AUTH_INVALID: Final = Reply(535, "5.7.8 AUTH invalid")
AUTH_TWICE: Final = Reply(503, "5.5.1 AUTH me once, can't get authed again!")
AUTH_IN_TRANSACTION: Final = Reply(503, "5.5.1 AUTH not permitted inside a transaction")
AUTH_IN_CLEAR: Final = Reply(538, "5.7.11 AUTH PLAIN requires an encrypted channel")
AUTH_TOO_LONG: Final = Reply(500, "5.5.6 authentication exchange line too long")
XCLIENT_DENIED: Final = Reply(550, "insufficient authorization")
XCLIENT_IN_TRANSACTION: Final = Reply(503, "mail transaction in progress")
VRFY_NOTHING: Final = Reply(252, "2.5.2 Cannot VRFY user, but will take mail for it and try")
HELP: Final = Reply(214, "2.0.0 See RFC 5321; no help is available here")

UNIMPLEMENTED: Final = Reply(502, "5.5.1 Command unimplemented")
LINE_TOO_LONG: Final = Reply(500, "5.2.3 line too long")
MAIL_TWICE: Final = Reply(503, "5.5.0 MAIL FROM already issued; you must RSET first")
MAIL_FIRST: Final = Reply(503, "5.5.0 MAIL FROM must be issued first")
RCPT_FIRST: Final = Reply(503, "5.5.0 RCPT TO must be issued first")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3 too many recipients")
TOO_MANY_ON_CONNECTION: Final = Reply(452, "4.5.3 too many recipients on this connection")
TOO_BIG: Final = Reply(552, "5.3.4 message too big")
LOOP: Final = Reply(554, "5.4.6 too many hops, this looks like a mail loop")
NOT_RELAYED: Final = Reply(550, "5.7.1 relaying not permitted")

FAULTS: Final = {
    Fault.TOO_BIG: TOO_BIG,
    Fault.LINE_TOO_LONG: LINE_TOO_LONG,
    Fault.BAD_LINE_ENDINGS: Reply(552, "5.6.0 message data must use CRLF for line endings"),
}
"""The answer to a content that was refused."""


def shutting_down(hostname: str) -> Reply:
    return Reply(421, f"4.3.2 {hostname} shutting down")


def idle_too_long(hostname: str) -> Reply:
    return Reply(421, f"4.3.2 {hostname} idle too long")


def technical_difficulties(hostname: str) -> Reply:
    """After an error that is no rejection, of the policy or of ours (KumoMTA README, 11)."""
    return Reply(421, f"4.3.0 {hostname} technical difficulties")
