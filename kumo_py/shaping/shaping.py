"""Shaping data, merged: the options of an egress path, and the rules that a response matches.

From the least to the most particular: `default`, providers that match, their blocks for the source, the site,
the domain, the site's block for the source, the domain's block for the source. A later layer's option takes the
place of an earlier one's; limits with names of their own are put together.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import orjson

from kumo_py.dns import DnsError
from kumo_py.dns.names import absolute_name
from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.shaping.rule import INTERNAL
from kumo_py.shaping.settings import options_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kumo_py.dns import Resolver
    from kumo_py.shaping.entry import Domain, Provider
    from kumo_py.shaping.rule import Rule
    from kumo_py.shaping.settings import Settings


class MatchedRule(NamedTuple):
    rule: Rule
    rollup: bool
    """It stands for a whole site rather than for the domain: `default`, or a block with `mx_rollup`."""


class Shaping:
    """See the module. Does not change once made."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        sites: dict[str, Domain],
        domains: dict[str, Domain],
        providers: dict[str, Provider],
        warnings: list[str],
        errors: list[str],
    ) -> None:
        self._resolver = resolver
        self.sites = sites
        """Blocks with `mx_rollup`, by site name."""
        self.domains = domains
        """The others, `default` among them."""
        self.providers = providers
        self.warnings = warnings
        self.errors = errors
        self.hash = self._hash()
        """Of all that is in it, in hexadecimal; the same data gives the same hash."""

    async def settings(self, domain: str, source: str, site_name: str) -> Settings:
        """The options of a path, each with where it was written."""
        merged: Settings = {}
        if (default := self.domains.get("default")) is not None:
            merged.update(default.settings)
        belongs_to = await self._providers(domain)
        for provider in belongs_to:
            merged.update(provider.settings)
            provider.apply(source, merged)
        for provider in belongs_to:
            if (settings := provider.sources.get(source)) is not None:
                merged.update(settings)
                provider.apply(source, merged)
        blocks = [
            block for block in (self.sites.get(site_name), self.domains.get(domain)) if block is not None
        ]
        for block in blocks:
            merged.update(block.settings)
        for block in blocks:
            merged.update(block.sources.get(source, {}))
        return merged

    async def egress_path_options(self, domain: str, source: str, site_name: str) -> dict[str, object]:
        """The same as parameters of `kumo.make_egress_path`."""
        return options_of(await self.settings(domain, source, site_name))

    async def _providers(self, domain: str) -> list[Provider]:
        return await matching_providers(self.providers.values(), domain, self._resolver)

    async def match_rules(self, record: Mapping[str, object]) -> list[MatchedRule]:
        """The rules that a delivery log record matches. Raises ValueError if it is none."""
        recipients = record.get("recipient")
        recipient = recipients[0] if isinstance(recipients, list) and recipients else recipients
        if not isinstance(recipient, str):
            raise ValueError("the record has no recipient")
        if recipient.lower() == "postmaster":
            return []
        local, at, domain = recipient.rpartition("@")
        if not (local and at and domain):
            raise ValueError(f"the record's recipient '{recipient}' is not an address")
        source = record.get("egress_source") or "unspecified"
        site_name = str(record.get("site") or "").removeprefix(f"{source}->").removesuffix("@smtp_client")
        response = _response(record.get("response"))
        return await self._match(response, domain, site_name)

    async def _match(self, response: Response, domain: str, site_name: str) -> list[MatchedRule]:
        text = response.to_single_line()
        internal = response.content.startswith(INTERNAL)
        candidates: list[tuple[list[Rule], bool]] = []
        if (default := self.domains.get("default")) is not None:
            candidates.append((default.automation, True))
        candidates += [(provider.automation, False) for provider in await self._providers(domain)]
        if (site := self.sites.get(site_name)) is not None:
            candidates.append((site.automation, True))
        if (block := self.domains.get(domain)) is not None:
            candidates.append((block.automation, False))
        return [
            MatchedRule(rule, rollup)
            for rules, rollup in candidates
            for rule in rules
            if rule.matches(text, internal=internal)
        ]

    def referenced_sources(self) -> dict[str, list[str]]:
        """The sources that blocks of sites and domains name, each with `site:NAME` and `domain:NAME`."""
        found: dict[str, list[str]] = {}
        for kind, blocks in (("site", self.sites), ("domain", self.domains)):
            for name, block in blocks.items():
                for source in block.sources:
                    found.setdefault(source, []).append(f"{kind}:{name}")
        return found

    def _hash(self) -> str:
        parts = {
            "sites": {name: block.to_table() for name, block in self.sites.items()},
            "domains": {name: block.to_table() for name, block in self.domains.items()},
            "providers": [(name, block.to_table()) for name, block in self.providers.items()],
            "warnings": self.warnings,
            "errors": self.errors,
        }
        text = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=str)
        return hashlib.sha256(text).hexdigest()


async def matching_providers(
    providers: Iterable[Provider], domain: str, resolver: Resolver
) -> list[Provider]:
    """Those that a destination belongs to, in the order of the files.

    By its name; or by its mail hosts, of which every one must match. What does not resolve has none.
    """
    if domain.startswith("["):
        return []
    try:
        name = absolute_name(domain, "MX")
    except DnsError:
        return []
    hosts: tuple[str, ...] | None = None
    found = []
    for provider in providers:
        matches = provider.matches
        if any(one.DomainSuffix is not None and name.endswith(one.DomainSuffix) for one in matches):
            found.append(provider)
            continue
        if all(one.DomainSuffix is not None for one in matches):
            continue
        if hosts is None:
            try:
                mx = await resolver.lookup_mx(domain)
                hosts = () if mx.is_null else mx.hosts
            except DnsError:
                hosts = ()
        if hosts and all(any(one.takes_host(host) for one in matches) for host in hosts):
            found.append(provider)
    return found


def _response(found: object) -> Response:
    """The `response` of a log record. Raises ValueError."""
    match found:
        case {"code": int(code), "content": str(content), **rest}:
            enhanced = None
            match rest.get("enhanced_code"):
                case {"class": int(class_), "subject": int(subject), "detail": int(detail)}:
                    enhanced = EnhancedCode(class_, subject, detail)
            return Response(code, enhanced, content)
    raise ValueError("the record has no response with code and content")
