"""SPF (RFC 7208): whether a host may send mail for a domain, by the domain's own word.

What a record can make us do is bounded: `MAX_LOOKUPS` terms that ask the DNS, `MAX_VOID` questions without an
answer, `MAX_NAMES` mail hosts or names of the client for each term (section 4.6.4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Literal

from kumo_py.auth.lookups import TemporaryFailure
from kumo_py.auth.spf_macro import SpfSyntaxError, expand, parse_macros, shortened
from kumo_py.auth.spf_record import Directive, Record, is_spf, parse_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from kumo_py.auth.lookups import Lookups
    from kumo_py.auth.spf_macro import MacroString

Disposition = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]

MAX_LOOKUPS = 10
MAX_VOID = 2
MAX_NAMES = 10
_MAX_EXPLANATION = 500
"""Characters: it ends up in a header or a reply."""

_LABELS = re.compile(r"(?:[^.]{1,63}\.)+[^.]{1,63}")
_MAX_NAME = 253
_PRINTABLE = re.compile(r"[ -~]*")


@dataclass(slots=True, frozen=True)
class SpfResult:
    disposition: Disposition
    reason: str
    """Printable ASCII: what decided, or the domain's own explanation of a failure."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SpfRequest:
    """Who sends (section 4.1)."""

    client: IPv4Address | IPv6Address
    domain: str
    """The domain of the sender, or of HELO."""
    sender: str
    """The envelope sender; without one, `postmaster@` and the domain stand in."""
    helo: str = ""
    receiver: str = "localhost"
    """Who checks: this host's name, for explanations."""
    now: float = 0.0
    """Unix seconds, for explanations."""


async def check_host(request: SpfRequest, lookups: Lookups) -> SpfResult:
    """Evaluate the SPF record of `request.domain`."""
    check = _Check(request, lookups)
    try:
        result = await check.domain(request.domain.removesuffix("."), explaining=True)
    except _Stop as stop:
        result = stop.result
    # Names that macros made may hold anything that a sender or a HELO may.
    return (
        result if _PRINTABLE.fullmatch(result.reason) else replace(result, reason=ascii(result.reason)[1:-1])
    )


class _Stop(Exception):
    """An error that ends the whole evaluation, however deep."""

    def __init__(self, disposition: Disposition, reason: str) -> None:
        super().__init__(reason)
        self.result = SpfResult(disposition, reason)


class _Check:
    """One evaluation: what it knows of the message, and what it has left to spend."""

    __slots__ = ("_client", "_local", "_lookups", "_request", "_sender", "_sender_domain", "_terms", "_void")

    def __init__(self, request: SpfRequest, lookups: Lookups) -> None:
        self._request = request
        self._lookups = lookups
        mapped = request.client.ipv4_mapped if isinstance(request.client, IPv6Address) else None
        self._client = mapped or request.client
        local, _, domain = (request.sender or request.domain).rpartition("@")
        self._local = local or "postmaster"
        self._sender_domain = domain
        self._sender = f"{self._local}@{domain}"
        self._terms = MAX_LOOKUPS
        self._void = MAX_VOID

    # -- records (sections 4.3 to 4.7) ---------------------------------------------------------------
    async def domain(self, domain: str, *, explaining: bool) -> SpfResult:
        """What a domain says. Raises _Stop."""
        if not _is_domain(domain):
            return SpfResult("none", f"invalid domain name: {domain}")
        try:
            found = [text for text in await self._lookups.txt(domain) if is_spf(text)]
        except TemporaryFailure as failure:
            raise _Stop("temperror", str(failure)) from None
        if not found:
            return SpfResult("none", f"no SPF records found for {domain}")
        if len(found) > 1:
            raise _Stop("permerror", f"{domain} has {len(found)} SPF records")
        try:
            record = parse_record(found[0])
        except SpfSyntaxError as error:
            raise _Stop("permerror", f"failed to parse spf record: {error}") from None
        return await self._evaluate(record, domain, explaining=explaining)

    async def _evaluate(self, record: Record, domain: str, *, explaining: bool) -> SpfResult:
        for directive in record.directives:
            if await self._matches(directive, domain):
                reason = f"matched '{directive.text}' directive"
                if directive.result == "fail" and explaining and record.explanation is not None:
                    reason = await self._explanation(record.explanation, domain) or reason
                return SpfResult(directive.result, reason)
        if record.redirect is None:
            return SpfResult("neutral", "default result")
        self._spend_term()
        target = await self._expanded(record.redirect, domain)
        result = await self.domain(target, explaining=explaining)
        if result.disposition == "none":
            raise _Stop("permerror", f"none while evaluating redirect={target}: {result.reason}")
        return result

    # -- mechanisms (section 5) ----------------------------------------------------------------------
    async def _matches(self, directive: Directive, domain: str) -> bool:
        match directive.kind:
            case "all":
                return True
            case "ip4" | "ip6":
                return self._is_within(directive, directive.address, directive.kind == "ip4")
        self._spend_term()
        target = domain if directive.domain is None else await self._expanded(directive.domain, domain)
        if directive.kind == "include":
            return await self._includes(target)
        if not _is_domain(target):
            return False
        match directive.kind:
            case "a":
                return await self._has_address(directive, target)
            case "mx":
                return await self._has_mail_host(directive, target)
            case "ptr":
                return await self._validated_name(target, must_be_below=True) is not None
        return bool(await self._asked(self._lookups.a(target)))

    async def _includes(self, target: str) -> bool:
        try:
            result = await self.domain(target, explaining=False)
        except _Stop as stop:
            result = stop.result
        match result.disposition:
            case "pass":
                return True
            case "fail" | "softfail" | "neutral":
                return False
            case "temperror":
                raise _Stop("temperror", f"temperror while evaluating include:{target}: {result.reason}")
        raise _Stop("permerror", f"{result.disposition} while evaluating include:{target}: {result.reason}")

    async def _has_address(self, directive: Directive, host: str) -> bool:
        is_ipv4 = isinstance(self._client, IPv4Address)
        found = await self._asked(self._lookups.a(host) if is_ipv4 else self._lookups.aaaa(host))
        return any(self._is_within(directive, int(ip_address(text)), is_ipv4) for text in found)

    async def _has_mail_host(self, directive: Directive, domain: str) -> bool:
        for number, host in enumerate(await self._asked(self._lookups.mx(domain))):
            if number == MAX_NAMES:
                raise _Stop("permerror", f"too many MX records for {domain}")
            if _is_domain(host) and await self._has_address(directive, host):
                return True
        return False

    def _is_within(self, directive: Directive, address: int, is_ipv4: bool) -> bool:
        if is_ipv4 != isinstance(self._client, IPv4Address):
            return False
        shift = 32 - directive.prefix4 if is_ipv4 else 128 - directive.prefix6
        return int(self._client) >> shift == address >> shift

    async def _validated_name(self, domain: str, *, must_be_below: bool) -> str | None:
        """A name of the client that leads back to it (section 5.5), of `domain` or below it if there is one."""
        try:
            names = (await self._asked(self._lookups.ptr(str(self._client))))[:MAX_NAMES]
        except _Stop as stop:
            if stop.result.disposition == "temperror":
                return None
            raise
        domain = domain.lower()
        below = [name for name in names if f".{name.lower()}".endswith(f".{domain}")]
        others = [] if must_be_below else [name for name in names if name not in below]
        below.sort(key=lambda name: name.lower() != domain)
        for name in below + others:
            is_ipv4 = isinstance(self._client, IPv4Address)
            try:
                found = await (self._lookups.a(name) if is_ipv4 else self._lookups.aaaa(name))
            except TemporaryFailure:
                continue
            if any(ip_address(text) == self._client for text in found):
                return name
        return None

    # -- macros (section 7) and explanations (section 6.2) ---------------------------------------------
    async def _expanded(self, spec: MacroString, domain: str) -> str:
        return shortened(await self._text(spec, domain))

    async def _text(self, parts: MacroString, domain: str) -> str:
        request, client = self._request, self._client
        values = {
            "s": self._sender,
            "l": self._local,
            "o": self._sender_domain,
            "d": domain,
            "i": _nibbles(client),
            "v": "in-addr" if isinstance(client, IPv4Address) else "ip6",
            "h": request.helo,
            "c": str(client),
            "r": request.receiver,
            "t": str(int(request.now)),
        }
        if any(not isinstance(part, str) and part.letter == "p" for part in parts):
            values["p"] = await self._validated_name(domain, must_be_below=False) or "unknown"
        return expand(parts, values.__getitem__)

    async def _explanation(self, spec: MacroString, domain: str) -> str | None:
        """The domain's words on a failure; None if anything is wrong with them."""
        try:
            target = await self._expanded(spec, domain)
            found = await self._lookups.txt(target) if _is_domain(target) else ()
            if len(found) != 1:
                return None
            text = await self._text(parse_macros(found[0], in_explanation=True), domain)
        except (TemporaryFailure, SpfSyntaxError, _Stop):
            return None
        return text if 0 < len(text) <= _MAX_EXPLANATION and _PRINTABLE.fullmatch(text) else None

    # -- limits (section 4.6.4) ------------------------------------------------------------------------
    def _spend_term(self) -> None:
        if self._terms == 0:
            raise _Stop("permerror", "DNS lookup limits exceeded")
        self._terms -= 1

    async def _asked(self, question: Awaitable[Sequence[str]]) -> Sequence[str]:
        """An answer; one without records counts."""
        try:
            found = await question
        except TemporaryFailure as failure:
            raise _Stop("temperror", str(failure)) from None
        if not found:
            if self._void == 0:
                raise _Stop("permerror", f"more than {MAX_VOID} DNS lookups without an answer")
            self._void -= 1
        return found


def _is_domain(text: str) -> bool:
    """Whether this may be looked up: a name of several labels (section 4.3)."""
    return len(text) <= _MAX_NAME and _LABELS.fullmatch(text) is not None


def _nibbles(client: IPv4Address | IPv6Address) -> str:
    return str(client) if isinstance(client, IPv4Address) else ".".join(f"{int(client):032x}")
