"""Where mail goes: DNS lookups, a domain's mail hosts, the site they make, the order to try them."""

from kumo_py.dns.answer import Answer, Backend, MxRecord, RecordType, TlsaRecord
from kumo_py.dns.config import IpLookupStrategy, NameServer, ResolverConfig, ResolverOptions, load_resolv_conf
from kumo_py.dns.configure import AggregateBackend, ConfiguredResolver, parse_resolver, parse_unbound
from kumo_py.dns.errors import DnsError, NoSuchDomain
from kumo_py.dns.exchanger import HostAddress, MailExchanger
from kumo_py.dns.mta_sts_fetch import PolicyFetcher
from kumo_py.dns.names import dotted, split_port
from kumo_py.dns.plan import connection_plan
from kumo_py.dns.resolver import Resolver
from kumo_py.dns.resolvers import Resolvers
from kumo_py.dns.site import mx_list_site_name, site_name
from kumo_py.dns.upstream import UpstreamBackend
from kumo_py.dns.zones import ZoneBackend, ZoneText

__all__ = [
    "AggregateBackend",
    "Answer",
    "Backend",
    "ConfiguredResolver",
    "DnsError",
    "HostAddress",
    "IpLookupStrategy",
    "MailExchanger",
    "MxRecord",
    "NameServer",
    "NoSuchDomain",
    "PolicyFetcher",
    "RecordType",
    "Resolver",
    "ResolverConfig",
    "ResolverOptions",
    "Resolvers",
    "TlsaRecord",
    "UpstreamBackend",
    "ZoneBackend",
    "ZoneText",
    "connection_plan",
    "dotted",
    "load_resolv_conf",
    "mx_list_site_name",
    "parse_resolver",
    "parse_unbound",
    "site_name",
    "split_port",
]
