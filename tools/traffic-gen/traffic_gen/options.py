"""What a run may be asked for, and the readers of the command line's little grammars.

Every reader raises ValueError with a message that says what would be right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pathlib import Path

    from .throttle import ThrottleSpec

# RFC 6761 section 6.2: .test never exists in the public DNS, and a local resolver may serve it.
DEFAULT_SUFFIX = "mx-sink.test"

# Weights are a rough picture of a consumer mailing list; the suffix makes each name harmless.
DEFAULT_DOMAINS: tuple[tuple[str, float], ...] = (
    ("gmail.com", 40),
    ("yahoo.com", 14),
    ("outlook.com", 12),
    ("hotmail.com", 12),
    ("icloud.com", 8),
    ("aol.com", 5),
    ("gmx.net", 3),
    ("comcast.net", 3),
    ("orange.fr", 2),
    ("proton.me", 1),
)

Pipelining = Literal["full", "envelope", "off"]

_SIZE = re.compile(r"([0-9][0-9_]*)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_SIZE_UNITS: dict[str, int] = {"": 1, "b": 1} | {
    letter + tail: base**power
    for power, letter in enumerate("kmgt", 1)
    for tail, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_HEADER_NAME = re.compile(r"[!-9;-~]+", re.ASCII)  # RFC 5322 section 3.6.8, ftext
_OWN_HEADERS = frozenset({"from", "to", "message-id", "x-traffic-gen"})


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All that a run can be told.

    duration: seconds after which no new message begins, None = no limit.
    message_count: messages to send, None = as many as the duration allows.
    body_size: bytes of generated text; body_file replaces it.
    domains: (name, weight); the suffix is appended to each unless it is empty.
    timeout: seconds to wait for any one reply.
    """

    target: Target
    concurrency: int = 10
    workers: int = 1
    duration: float | None = None
    message_count: int | None = None
    starttls: bool = False
    pipelining: Pipelining = "full"
    body_file: Path | None = None
    body_size: int = 1024
    domains: tuple[tuple[str, float], ...] = DEFAULT_DOMAINS
    domain_suffix: str = DEFAULT_SUFFIX
    throttle: ThrottleSpec | None = None
    headers: tuple[tuple[str, str], ...] = ()
    http: bool = False
    http_defer_spool: bool = False
    http_defer_generation: bool = False
    http_batch_size: int = 1
    keep_going: bool = False
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if self.duration is None and self.message_count is None:
            raise ValueError("a run needs an end: give a duration, a message count, or both")
        for name, value in (
            ("concurrency", self.concurrency),
            ("workers", self.workers),
            ("HTTP batch size", self.http_batch_size),
            ("message count", self.message_count),
            ("duration", self.duration),
            ("timeout", self.timeout),
        ):
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}, it must be above zero")
        if self.domain_suffix:
            parse_suffix(self.domain_suffix)
        elif self.domains == DEFAULT_DOMAINS:
            raise ValueError(
                "without a domain suffix the built-in domains would be real mailbox providers: "
                "name your own domains, or leave the suffix"
            )
        if not any(weight for _, weight in self.domains):
            raise ValueError("every domain has weight 0: give at least one a weight above zero")
        if self.http and self.starttls:
            raise ValueError("STARTTLS belongs to SMTP: it cannot be used with HTTP injection")


def parse_target(text: str, *, http: bool = False) -> Target:
    """Read ``HOST:PORT`` or ``[IPv6]:PORT``; with `http` also ``http://HOST[:PORT]``."""
    url = text if http and "://" in text else f"{'http' if http else 'smtp'}://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a target: {error}") from None
    if parts.scheme != ("http" if http else "smtp") or parts.path not in ("", "/") or parts.query:
        wanted = "http://HOST:PORT (https is not supported)" if http else "HOST:PORT"
        raise ValueError(f"{text!r} is not a target: write {wanted}")
    if not host or (port is None and url != text):
        raise ValueError(f"{text!r} is not a target: write HOST:PORT, e.g. 127.0.0.1:2025 or [::1]:2025")
    return Target(host, port or 80)


def parse_size(text: str) -> int:
    """Read a number of bytes with an optional unit: 1024, 100kb (1000s), 100KiB (1024s), 5mb."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _SIZE_UNITS:
        raise ValueError(f"{text!r} is not a size: write e.g. 1024, 100kb (of 1000) or 100kib (of 1024)")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


def parse_domain(text: str) -> tuple[str, float]:
    """Read ``NAME`` or ``NAME:WEIGHT``."""
    name, colon, weight_text = text.partition(":")
    _check_domain(name)
    if not colon:
        return name, 1.0
    try:
        weight = float(weight_text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise ValueError(f"{text!r}: the weight after the colon must be a number, zero or above")
    return name, weight


def parse_suffix(text: str) -> str:
    """Read a domain suffix; the empty string means none."""
    if text:
        _check_domain(text)
    return text


def _check_domain(name: str) -> None:
    if not _DOMAIN.fullmatch(name):
        raise ValueError(f"{name!r} is not a domain name: letters, digits, '-' and '.' (IDN as xn--...)")


def parse_header(text: str) -> tuple[str, str]:
    """Read ``NAME:VALUE``; the value is stripped and stays on one line."""
    name, colon, value = text.partition(":")
    if not colon or not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{text!r} is not a header: write NAME:VALUE, the name without blanks")
    if any(forbidden in value for forbidden in "\r\n\0"):
        raise ValueError(f"header {name}: CR, LF and NUL cannot stand in a header's value")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"header {name} is written by traffic-gen itself and cannot be given")
    return name, value.strip()
