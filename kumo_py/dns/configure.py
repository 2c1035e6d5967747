"""A resolver from the argument of `kumo.dns.configure_resolver` or `define_resolver`, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from kumo_py.core.options import OptionError, convert
from kumo_py.dns.answer import Answer, Backend, RecordType
from kumo_py.dns.config import ResolverConfig, without_effect
from kumo_py.dns.errors import DnsError
from kumo_py.dns.upstream import UpstreamBackend
from kumo_py.dns.zones import ZoneBackend, ZoneText

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNBOUND_OPTIONS = ("validate", "trust_anchor_file", "use_hosts_file")
"""What KumoMTA's Unbound heeds; any other option given to it is an error there, and so here."""


class _TestZones(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`Test = { zones = {...}, servfail = {...} }`."""

    zones: list[str | ZoneText]
    servfail: list[str] = []


class AggregateBackend:
    """Several backends in one: the first to know the name answers (KumoMTA `Aggregate`)."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends

    async def query(self, name: str, rdtype: RecordType) -> Answer:
        failure: DnsError | None = None
        for backend in self._backends:
            try:
                answer = await backend.query(name, rdtype)
            except DnsError as error:
                failure = error
            else:
                if not answer.nxdomain:
                    return answer
        if failure is not None:
            raise failure
        return Answer(nxdomain=True)


@dataclass(frozen=True, slots=True)
class ConfiguredResolver:
    """What a `Resolver` is made of."""

    config: ResolverConfig
    backend: Backend
    notices: tuple[str, ...] = ()
    """Of each option that changes nothing here, a sentence that says so."""


def parse_resolver(spec: object, what: str) -> ConfiguredResolver:
    """Make what `spec` describes; `what` opens error messages. Raises OptionError.

    `spec` is "HickorySystemConfig", a table with one of Hickory, Unbound, Test and
    Aggregate, or the options of Hickory as such. Hickory and Unbound, KumoMTA's two DNS
    libraries, are the same here: we ask name servers and don't resolve from the root.
    """
    if spec == "HickorySystemConfig":
        config = ResolverConfig()
        return ConfiguredResolver(config, UpstreamBackend(config))
    if not isinstance(spec, dict):
        raise OptionError(f"{what}: expected 'HickorySystemConfig' or a table")
    kind, inner = next(iter(spec.items())) if len(spec) == 1 else (None, None)
    match kind:
        case "Test":
            return ConfiguredResolver(ResolverConfig(), _test_backend(inner, f"{what}: Test"))
        case "Aggregate":
            return _aggregate(inner, f"{what}: Aggregate")
        case "Hickory":
            return _upstream(inner, f"{what}: Hickory")
        case "Unbound":
            return parse_unbound(inner, f"{what}: Unbound")
    return _upstream(spec, what)


def parse_unbound(spec: object, what: str) -> ConfiguredResolver:
    """As `parse_resolver`, for the options of Unbound as such. Raises OptionError."""
    options = spec.get("options") if isinstance(spec, dict) else None
    for name in options if isinstance(options, dict) else ():
        if name not in _UNBOUND_OPTIONS:
            raise OptionError(
                f"{what}: options.{name}: Unbound has no such option, only {', '.join(_UNBOUND_OPTIONS)}; "
                "kumo.dns.configure_resolver has more"
            )
    configured = _upstream(spec, what)
    if configured.config.name_servers:
        return configured
    notice = "the Unbound resolver has no name_servers: those of /etc/resolv.conf are asked, not the root's"
    return replace(configured, notices=(*configured.notices, notice))


def _upstream(spec: object, what: str) -> ConfiguredResolver:
    config = convert(spec, ResolverConfig, what)
    return ConfiguredResolver(config, UpstreamBackend(config), tuple(without_effect(config)))


def _aggregate(spec: object, what: str) -> ConfiguredResolver:
    if not isinstance(spec, list):
        raise OptionError(f"{what}: expected a list of resolvers")
    parts = [parse_resolver(part, f"{what}[{number}]") for number, part in enumerate(spec, 1)]
    notices = tuple(notice for part in parts for notice in part.notices)
    return ConfiguredResolver(ResolverConfig(), AggregateBackend([part.backend for part in parts]), notices)


def _test_backend(spec: object, what: str) -> ZoneBackend:
    # Lua's empty table is a dict to us.
    zones = convert({"zones": spec} if isinstance(spec, list) or spec == {} else spec, _TestZones, what)
    try:
        return ZoneBackend(zones.zones, dict.fromkeys(zones.servfail, "SERVFAIL"))
    except ValueError as error:
        raise OptionError(f"{what}: {error}") from None
