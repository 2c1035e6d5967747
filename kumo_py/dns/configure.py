"""A resolver from the argument of `kumo.dns.configure_resolver` or `define_resolver`, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from kumo_py.core.options import OptionError, convert
from kumo_py.dns.answer import Answer, Backend, RecordType
from kumo_py.dns.config import ResolverConfig
from kumo_py.dns.errors import DnsError
from kumo_py.dns.resolver import Resolver
from kumo_py.dns.upstream import UpstreamBackend
from kumo_py.dns.zones import ZoneBackend, ZoneText

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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


def configured_resolver(
    spec: object, what: str = "kumo.dns.configure_resolver", clock: Callable[[], float] = trio.current_time
) -> Resolver:
    """Make the resolver that `spec` describes; `what` opens error messages. Raises OptionError.

    `spec` is "HickorySystemConfig", a table with one of Hickory, Unbound, Test and
    Aggregate, or the options of Hickory as such. Hickory and Unbound, KumoMTA's two DNS
    libraries, are the same here: we ask name servers and don't resolve from the root.
    """
    config, backend = _parse(spec, what)
    return Resolver(config, clock, backend)


def _parse(spec: object, what: str) -> tuple[ResolverConfig, Backend]:
    if spec == "HickorySystemConfig":
        config = ResolverConfig()
        return config, UpstreamBackend(config)
    if not isinstance(spec, dict):
        raise OptionError(f"{what}: expected 'HickorySystemConfig' or a table")
    kind, inner = next(iter(spec.items())) if len(spec) == 1 else (None, None)
    match kind:
        case "Test":
            return ResolverConfig(), _test_backend(inner, f"{what}: Test")
        case "Aggregate":
            if not isinstance(inner, list):
                raise OptionError(f"{what}: Aggregate: expected a list of resolvers")
            parts = [_parse(part, f"{what}: Aggregate[{number}]") for number, part in enumerate(inner, 1)]
            return ResolverConfig(), AggregateBackend([backend for _, backend in parts])
        case "Hickory" | "Unbound":
            spec, what = inner, f"{what}: {kind}"
    config = convert(spec, ResolverConfig, what)
    return config, UpstreamBackend(config)


def _test_backend(spec: object, what: str) -> ZoneBackend:
    zones = convert({"zones": spec} if isinstance(spec, list) else spec, _TestZones, what)
    try:
        return ZoneBackend(zones.zones, dict.fromkeys(zones.servfail, "SERVFAIL"))
    except ValueError as error:
        raise OptionError(f"{what}: {error}") from None
