"""The bytes of a message, built once for a whole run (RFC 5321, RFC 5322).

All messages of a run share one immutable tail: the constant headers and the body.  What differs
stands in a short head before it: ``From``, ``To``, ``Message-ID`` and

    X-Traffic-Gen: RUN/SEQUENCE/TIME

RUN names the run, SEQUENCE counts its messages from 0 without gaps, TIME is when the message was
sent (Unix seconds with microseconds).  A sink that keeps them can tell losses from duplicates and
compute end-to-end times.

A body file that begins with a header block is a whole message: of the head it gets X-Traffic-Gen
alone, and a Message-ID if it has none.  Any other file is a body.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from email.utils import formatdate
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .options import Options

# sequence, sender address, recipient address
Envelope: TypeAlias = tuple[int, bytes, bytes]

_LINE = 76  # characters of text in a generated line
_PICKS = 1024  # envelopes drawn at a time
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "xo", "zu")
_HEADER_BLOCK = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*)+(?:\r\n|\Z)")
_MESSAGE_ID = re.compile(rb"^message-id:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Content:
    """What all messages of a run have in common.

    tail: everything after the head, CRLF line ends, dots as they are.
    omitted: how many of From, To, Message-ID the head leaves to the tail.
    """

    tail: bytes
    omitted: int

    def head_template(self, run: str, line_end: str, sequence: str) -> bytes:
        """A %-template for the values that `head_values` gives."""
        fields = (
            "From: <%b>",
            "To: <%b>",
            f"Message-ID: <{run}.{sequence}@traffic-gen.invalid>",
            f"X-Traffic-Gen: {run}/{sequence}/%.6f",
        )
        return "".join(field + line_end for field in fields[self.omitted :]).encode()


def load_content(options: Options) -> Content:
    """Read the body file or make up a text; OSError if the file can't be read."""
    given = b"".join(f"{name}: {value}\r\n".encode() for name, value in options.headers)
    if options.body_file is None:
        text = nonsense(options.body_size)
    else:
        text = re.sub(rb"\r?\n", b"\r\n", options.body_file.read_bytes())
        if not text.endswith(b"\r\n"):
            text += b"\r\n"
        block = _HEADER_BLOCK.match(text)
        if block:
            if not block[0].endswith(b"\r\n\r\n"):
                text += b"\r\n"
            return Content(given + text, 3 if _MESSAGE_ID.search(block[0]) else 2)
    date = formatdate(usegmt=True)
    constant = {"Subject": f"test {date}", "Date": date, "X-Mailer": "kumo-py traffic-gen"}
    replaced = {name.lower() for name, _ in options.headers}
    own = "".join(f"{name}: {value}\r\n" for name, value in constant.items() if name.lower() not in replaced)
    return Content(own.encode() + given + b"\r\n" + text, 0)


def nonsense(size: int) -> bytes:
    """`size` bytes of made-up words in CRLF-ended lines: the same for the same size.

    Nothing for 0; a single byte is not possible and gives an empty line.
    """
    if not size:
        return b""
    draw = random.Random(size)
    lines = []
    for _ in range(64):
        line = ""
        while len(line) < _LINE:
            line += "".join(draw.choices(_SYLLABLES, k=draw.randint(1, 4))) + " "
        lines.append(line[:_LINE].rstrip() + "\r\n")

    block = "".join(lines)
    room = max(0, size - 2)
    text = (block * (room // len(block) + 1))[:room].rstrip("\r\n")
    return text.ljust(room, "x").encode() + b"\r\n"


def envelopes(options: Options, first: int, step: int) -> Iterator[Envelope]:
    """Envelopes without end, drawn by the domains' weights; sequences begin at `first`, `step` apart."""
    suffix = f".{options.domain_suffix}" if options.domain_suffix else ""
    domains = [f"{name}{suffix}".encode() for name, _ in options.domains]
    senders = [b"noreply@" + domain for domain in domains]
    weights = list(accumulate(weight for _, weight in options.domains))
    draw = random.Random()
    user = draw.getrandbits(40)
    sequence = first
    while True:
        some_senders = draw.choices(senders, cum_weights=weights, k=_PICKS)
        some_domains = draw.choices(domains, cum_weights=weights, k=_PICKS)
        for sender, domain in zip(some_senders, some_domains, strict=True):
            yield sequence, sender, b"user-%d@%b" % (user + sequence, domain)
            sequence += step


class SmtpPayload:
    """A message as it goes over an SMTP connection: dots doubled (RFC 5321 4.5.2), final dot included."""

    __slots__ = ("_omitted", "_template", "eight_bit", "message_bytes", "tail")

    def __init__(self, options: Options, run: str) -> None:
        content = load_content(options)
        # The head ends with CRLF, so the tail begins a line.
        stuffed = (b"\r\n" + content.tail).replace(b"\r\n.", b"\r\n..")[2:]
        self.tail = stuffed + b".\r\n"
        self.eight_bit = not content.tail.isascii()
        self._omitted = content.omitted
        self._template = content.head_template(run, "\r\n", "%d")
        self.message_bytes = _message_bytes(content, options, run)

    def head(self, envelope: Envelope, when: float) -> bytes:
        """What stands before the tail in this message; `when` is Unix time."""
        sequence, sender, recipient = envelope
        return self._template % (sender, recipient, sequence, sequence, when)[self._omitted :]


class HttpPayload:
    """Requests of KumoMTA's POST /api/inject/v1, one message per recipient.

    In a batch the head's values are template variables that every recipient substitutes, so that
    each message is as unique as over SMTP.
    """

    __slots__ = ("_content", "_flags", "_head", "_omitted", "_template", "message_bytes", "tail")

    def __init__(self, options: Options, run: str) -> None:
        content = load_content(options)
        try:
            self.tail = json.dumps(content.tail.decode())[1:].encode() + b"}"
        except UnicodeDecodeError as error:
            raise ValueError(f"{options.body_file}: HTTP injection needs UTF-8 ({error})") from None
        self._flags = b'"deferred_spool":%b,"deferred_generation":%b' % (
            json.dumps(options.http_defer_spool).encode(),
            json.dumps(options.http_defer_generation).encode(),
        )
        self._head = (
            f"POST /api/inject/v1 HTTP/1.1\r\nHost: {options.target}\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        ).encode()
        self._omitted = content.omitted
        self._template = content.head_template(run, "\\r\\n", "%b")
        self.message_bytes = _message_bytes(content, options, run)

    def request(self, batch: Sequence[Envelope], when: float) -> bytes:
        """What stands before the tail in the request for these messages; `when` is Unix time."""
        sequence, sender, recipient = batch[0]
        if len(batch) == 1:
            recipients = b'{"email":"%b"}' % recipient
            number = b"%d" % sequence
        else:
            recipients = b",".join(
                b'{"email":"%b","substitutions":{"sequence":%d}}' % (recipient, sequence)
                for sequence, _, recipient in batch
            )
            recipient, number = b"{{ email }}", b"{{ sequence }}"
        head = self._template % (sender, recipient, number, number, when)[self._omitted :]
        start = b'{"envelope_sender":"%b",%b,"recipients":[%b],"content":"%b' % (
            sender,
            self._flags,
            recipients,
            head,
        )
        return self._head % (len(start) + len(self.tail)) + start


def _message_bytes(content: Content, options: Options, run: str) -> int:
    """The size of a run's first message, head included; the others differ by a few bytes."""
    sequence, sender, recipient = next(envelopes(options, 0, 1))
    values = (sender, recipient, sequence, sequence, 0.0)[content.omitted :]
    return len(content.head_template(run, "\r\n", "%d") % values) + len(content.tail)
