"""The `kumo.dns` module, and how the other modules get at a resolver.

Names in results end with a dot, as KumoMTA has them; those inside of the node do not.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, get_args

from kumo_py.core.options import OptionError
from kumo_py.core.suggest import nearest
from kumo_py.dns import (
    DnsError,
    IpLookupStrategy,
    NoSuchDomain,
    dotted,
    load_resolv_conf,
    parse_resolver,
    parse_unbound,
    split_port,
)
from kumo_py.dns.config import ResolverConfig
from kumo_py.policy.configured import Configured
from kumo_py.policy.conversion import LuaTable, LuaValue, plain, shown
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BOOLEAN, INTEGER, TEXT, TIME_DELTA, VALUE, ListOf, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.dns import ConfiguredResolver, Resolver
    from kumo_py.policy.context import LuaContext

dns = Owner("kumo.dns")

RESOLVER = Param("resolver", TEXT, optional=True)
"""The last argument of whatever asks the DNS: a name that `define_resolver` gave."""

_NAMES = ListOf(TEXT)
_IP = Param("ip", TEXT)


class _ResolverSpec:
    """A resolver's configuration as plain data. `Aggregate` may mix keys and list items, keys first."""

    name = "string|table"
    takes = ResolverConfig

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> object:
        if type(raw) is bytes:
            return raw.decode("utf-8", "replace")
        if type(raw) is not LuaTable:
            raise ValueError(f"must be a table or 'HickorySystemConfig', got {shown(raw)}")
        items: dict[LuaValue, LuaValue] = dict(raw.items())
        parts: LuaValue = items.get(b"Aggregate")
        if len(items) != 1 or type(parts) is not LuaTable:
            return plain(ctx, raw)
        found: dict[LuaValue, LuaValue] = dict(parts.items())
        keyed = [{key.decode(): plain(ctx, part)} for key, part in found.items() if type(key) is bytes]
        listed = [self.from_lua(ctx, found[n], what) for n in range(1, len(parts) + 1)]
        return {"Aggregate": keyed + listed}

    def to_lua(self, ctx: LuaContext, value: object) -> LuaValue:
        raise NotImplementedError


_SPEC = _ResolverSpec()


def resolver_for(ctx: LuaContext, name: str | None) -> Resolver:
    """The resolver that a policy named, the default one for None. Raises ValueError if there is none."""
    return ctx.env.host.resolvers.get(name)


async def txt_records(resolver: Resolver, name: str) -> tuple[str, ...]:
    """A name's TXT records, each as one text.

    None for a name that has none, does not exist (NXDOMAIN) or cannot exist. Raises DnsError for what may work
    later only: a server failure, a timeout.
    """
    try:
        return await resolver.lookup_txt(name)
    except NoSuchDomain:
        return ()


# -- lookups -------------------------------------------------------------------------------------------
@dns.function("lookup_mx", Param("domain", TEXT), RESOLVER, result=VALUE)
async def lookup_mx(ctx: LuaContext, domain: str, resolver: str | None) -> dict[str, object]:
    """The hosts that take a domain's mail, by preference and in a row, and the name of the site they make.

    Without MX records that is the domain itself. Hosts that an MTA-STS policy of the domain does not permit are
    left out. An error if the domain does not exist.
    """
    try:
        mx = await resolver_for(ctx, resolver).lookup_mx(domain)
    except DnsError as err:
        raise ValueError(str(err)) from None
    shown_as = (lambda host: host) if mx.is_domain_literal else dotted
    return {
        "domain_name": shown_as(mx.domain),
        "hosts": [shown_as(host) for host in mx.hosts],
        "site_name": mx.site_name,
        "by_pref": {pref: [shown_as(host) for host in hosts] for pref, hosts in mx.by_pref.items()},
        "is_domain_literal": mx.is_domain_literal,
        "is_secure": mx.is_secure,
        "is_mx": mx.is_mx,
        "mta_sts": mx.mta_sts,
    }


@dns.function(
    "lookup_addr",
    Param("name", TEXT),
    RESOLVER,
    Param("strategy", TEXT, optional=True),
    result=_NAMES,
    since="2023.08.22-4d895015",
)
async def lookup_addr(ctx: LuaContext, name: str, resolver: str | None, strategy: str | None) -> list[str]:
    """A host's IPv4 and IPv6 addresses, none if it has none; `strategy` is as ip_lookup_strategy of an egress path.

    An address, with or without brackets, is its own result.
    """
    found = resolver_for(ctx, resolver)
    try:
        return [address.addr for address in await found.lookup_addresses(name, _strategy(strategy))]
    except DnsError as err:
        raise ValueError(str(err)) from None


def _strategy(text: str | None) -> IpLookupStrategy:
    choices: tuple[IpLookupStrategy, ...] = get_args(IpLookupStrategy)
    for choice in choices:
        if text in (None, choice):
            return choice
    near = nearest(text or "", choices)
    hint = f"; did you mean '{near}'?" if near is not None else ""
    raise ValueError(f"argument 'strategy' must be one of {', '.join(choices)}, got '{text}'{hint}")


@dns.function("lookup_ptr", _IP, RESOLVER, result=_NAMES, since="2025.10.06-5ec871ab")
async def lookup_ptr(ctx: LuaContext, ip: str, resolver: str | None) -> list[str]:
    """The names that the PTR records of an address give; often none."""
    found = resolver_for(ctx, resolver)
    try:
        return [dotted(name) for name in await found.lookup_ptr(_address(ip))]
    except DnsError as err:
        raise ValueError(str(err)) from None


@dns.function("lookup_txt", Param("domain", TEXT), RESOLVER, result=_NAMES, since="2024.09.02-c5476b89")
async def lookup_txt(ctx: LuaContext, domain: str, resolver: str | None) -> list[str]:
    """A name's TXT records, each in one piece; none if there is no such name."""
    try:
        return list(await resolver_for(ctx, resolver).lookup_txt(domain))
    except DnsError as err:
        raise ValueError(str(err)) from None


@dns.function(
    "rbl_lookup",
    _IP,
    Param("base_domain", TEXT),
    RESOLVER,
    result=Values(TEXT, TEXT),
    since="2025.12.02-67ee9e96",
)
async def rbl_lookup(
    ctx: LuaContext, ip: str, base_domain: str, resolver: str | None
) -> tuple[str | None, str | None]:
    """Ask a DNS block list for an address, which may have a port: the listing's address and its reason.

    Both are nil for an address that is not listed; the reason is nil too if it cannot be had.
    """
    found = resolver_for(ctx, resolver)
    name = f"{_reversed(_address(split_port(ip)[0].strip('[]')))}.{base_domain}"
    try:
        addresses = await found.lookup_addresses(name)
    except DnsError as err:
        raise ValueError(str(err)) from None
    if not addresses:
        return None, None
    try:
        return addresses[0].addr, "".join(await found.lookup_txt(name))
    except DnsError:
        return addresses[0].addr, None


@dns.function("ptr_host", _IP, result=TEXT, since="2025.12.02-67ee9e96")
def ptr_host(ctx: LuaContext, ip: str) -> str:
    """The name whose PTR records an address has; nothing is looked up."""
    return ip_address(_address(ip)).reverse_pointer


@dns.function("reverse_ip", _IP, result=TEXT, since="2025.12.02-67ee9e96")
def reverse_ip(ctx: LuaContext, ip: str) -> str:
    """An address backwards, as block lists have it; nothing is looked up."""
    return _reversed(_address(ip))


def _reversed(address: str) -> str:
    return ip_address(address).reverse_pointer.rsplit(".", 2)[0]


def _address(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError(text)
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"'{text}' is not an IP address such as 192.0.2.1 or 2001:db8::1") from None


# -- configuration -------------------------------------------------------------------------------------
def _configure(
    ctx: LuaContext,
    name: str | None,
    spec: object,
    what: str,
    parse: Callable[[object, str], ConfiguredResolver] = parse_resolver,
) -> None:
    """A policy runs again for every context: what was said before costs nothing and keeps its caches.

    Done while a policy is validated too: nothing is asked before a lookup, and lookups should go where they will.
    """
    if ctx.event in ("pre_init", "init"):
        # A reload names what the new `init` wants otherwise.
        label = what.partition(" ")[0]
        ctx.env.configured.append(Configured(label, [spec] if name is None else [name, spec]))
    resolvers = ctx.env.host.resolvers
    said = (parse.__name__, spec)
    if not resolvers.knows(name, said):
        resolvers.configure(name, said, parse(spec, what))


@dns.function("configure_resolver", Param("params", _SPEC), since="2023.08.22-4d895015")
def configure_resolver(ctx: LuaContext, params: object) -> None:
    """Choose where the DNS is asked; without this, the name servers come from /etc/resolv.conf.

    Either 'HickorySystemConfig', or a table with one of the keys Hickory, Unbound, Test and Aggregate, or the
    options of Hickory as such.
    """
    _configure(ctx, None, params, "kumo.dns.configure_resolver")


@dns.function("configure_unbound_resolver", Param("params", _SPEC), since="2023.11.28-b5252a41")
def configure_unbound_resolver(ctx: LuaContext, params: object) -> None:
    """As configure_resolver with the key Unbound. The name servers must validate DNSSEC themselves."""
    _configure(ctx, None, params, "kumo.dns.configure_unbound_resolver", parse_unbound)


@dns.function("configure_test_resolver", Param("zones", VALUE))
def configure_test_resolver(ctx: LuaContext, zones: object) -> None:
    """As configure_resolver with the key Test: answer from zone texts only."""
    _configure(ctx, None, {"Test": zones}, "kumo.dns.configure_test_resolver")


@dns.function("define_resolver", Param("name", TEXT), Param("config", _SPEC), since="2025.12.02-67ee9e96")
def define_resolver(ctx: LuaContext, name: str, config: object) -> None:
    """Name another resolver, for functions that take a resolver's name; `config` is as in configure_resolver."""
    _configure(ctx, name, config, f"kumo.dns.define_resolver '{name}'")


@dns.function("load_resolv_conf", Param("path", TEXT, optional=True), result=VALUE)
def load_resolv_conf_(ctx: LuaContext, path: str | None) -> dict[str, object]:
    """What a resolv.conf says, as a table for configure_resolver that may be changed before."""
    config = load_resolv_conf(path or "/etc/resolv.conf")
    options = config.options
    return {
        "domain": config.domain,
        "search": list(config.search),
        "name_servers": list(config.name_servers),
        "options": {
            "ndots": options.ndots,
            "timeout": options.timeout.to_option(),
            "attempts": options.attempts,
            "edns0": options.edns0,
        },
    }


@dns.function(
    "set_mx_concurrency_limit", Param("limit", INTEGER), since="2025.05.06-b29689af", configures=True
)
def set_mx_concurrency_limit(ctx: LuaContext, limit: int) -> None:
    """How many queries a resolver may have under way at a time; 128 without this."""
    ctx.env.host.resolvers.set_mx_concurrency(limit)


@dns.function("set_mx_timeout", Param("duration", TIME_DELTA), since="2025.03.19-1d3f1f67", configures=True)
def set_mx_timeout(ctx: LuaContext, duration: float) -> None:
    """How long an MX lookup may take in all; 5 seconds without this."""
    ctx.env.host.resolvers.set_mx_timeout(duration)


@dns.function(
    "set_mx_negative_cache_ttl", Param("duration", TIME_DELTA), since="2025.03.19-1d3f1f67", configures=True
)
def set_mx_negative_cache_ttl(ctx: LuaContext, duration: float) -> None:
    """How long a failed MX lookup is remembered; without this, as long as the DNS says, or 30 seconds."""
    ctx.env.host.resolvers.set_mx_negative_ttl(duration)


# -- MTA-STS -------------------------------------------------------------------------------------------
@dns.function("set_mta_sts_enabled", Param("enabled", BOOLEAN), configures=True)
def set_mta_sts_enabled(ctx: LuaContext, enabled: bool) -> None:
    """Whether MTA-STS policies (RFC 8461) restrict the hosts of a domain, and so its site; they do without this."""
    ctx.env.host.resolvers.set_mta_sts_enabled(enabled)


@dns.function("configure_test_mta_sts", Param("policies", VALUE))
def configure_test_mta_sts(ctx: LuaContext, policies: object) -> None:
    """Know these MTA-STS policies, texts by domain, and no others: nothing is fetched any more."""
    if not isinstance(policies, dict) or not all(isinstance(text, str) for text in policies.values()):
        raise OptionError("kumo.dns.configure_test_mta_sts: expected a table of policy texts by domain")
    ctx.env.host.resolvers.use_fixed_mta_sts(policies)
