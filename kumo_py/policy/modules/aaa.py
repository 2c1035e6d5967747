"""The `kumo.aaa` module: authentication, authorization, accounting."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from kumo_py.core.acl import AccessControlList, AclMap, Decision, Resource, http_resource
from kumo_py.core.cidr import split_host_port
from kumo_py.core.options import to_builtins
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.url import parse_url
from kumo_py.logs.audit_log import AuditLogConfig
from kumo_py.net.transport import format_address
from kumo_py.policy.key_sources import load_key
from kumo_py.policy.modules.secrets import KEY_SOURCE
from kumo_py.policy.params import AuthInfo
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import ACL, BOOLEAN, TEXT, TIME_DELTA, VALUE, OptionTable

if TYPE_CHECKING:
    from typing import Any

    from kumo_py.core.key_source import KeySource
    from kumo_py.policy.context import LuaContext

_SINCE = "2026.03.04-bb93ecb1"

aaa = Owner("kumo.aaa")
acl = Kind("access_control_list", AccessControlList, type=ACL)
acl_map = Kind("acl_map", AclMap)
resource_ = Kind("resource", Resource)
disposition = Kind("acl_disposition", Decision)


# -- rules -----------------------------------------------------------------------------------------------------
@aaa.function("make_access_control_list", Param("rules", VALUE), result=acl.type, since=_SINCE)
def make_access_control_list(ctx: LuaContext, rules: object) -> AccessControlList:
    """An access control list of tables { criteria, privilege, access = 'Allow' or 'Deny' }; the first whose criteria
    and privilege fit decides. Criteria are { Identity = … }, { AllOf = {…} }, { AnyOf = {…} } or { Not = … };
    identities { Any = {} }, { Authenticated = {} }, { Unauthenticated = {} }, { Individual = name }, { Group = name },
    { Machine = address } and { MachineSet = networks }.
    """
    return AccessControlList.from_option(rules)


@aaa.function("load_acl_map", Param("source", KEY_SOURCE), result=acl_map.type, since=_SINCE)
async def load_acl_map(ctx: LuaContext, source: KeySource) -> AclMap:
    """Access control lists by resource, from a TOML file or wherever else a key source says. Each
    [[acl."resource"]] has `allow`, `privileges`, and either `identity` or `criteria`.
    """
    try:
        text = (await load_key(ctx.env, source)).decode()
    except UnicodeDecodeError:
        raise ValueError("access control lists must be UTF-8 text") from None
    return AclMap.from_toml(text)


@acl_map.function("get", Param("resource", TEXT), result=acl.type, since=_SINCE)
def get(ctx: LuaContext, lists: AclMap, resource: str) -> AccessControlList | None:
    """The list of a resource of exactly that name, or nil."""
    return lists.get(resource)


@aaa.function("set_fall_back_to_acl_map", Param("fall_back", BOOLEAN), since=_SINCE, configures=True)
def set_fall_back_to_acl_map(ctx: LuaContext, fall_back: bool) -> None:
    """Whether kumo-py's own rules hold for a resource that a handler of get_acl_definition gives none for; they do
    unless set. Without a handler they always do.
    """
    ctx.env.policy.access.falls_back = fall_back


@aaa.function("set_acl_cache_ttl", Param("duration", TIME_DELTA), since=_SINCE, configures=True)
def set_acl_cache_ttl(ctx: LuaContext, duration: float) -> None:
    """How long what get_acl_definition gave for a resource holds; 300 milliseconds unless set."""
    ctx.env.policy.access.definitions_kept = duration


@aaa.function("set_check_cache_ttl", Param("duration", TIME_DELTA), since=_SINCE, configures=True)
def set_check_cache_ttl(ctx: LuaContext, duration: float) -> None:
    """How long the answer holds whether somebody has a privilege; 300 milliseconds unless set."""
    ctx.env.policy.access.decisions_kept = duration


# -- questions -------------------------------------------------------------------------------------------------
@aaa.function(
    "make_http_url_resource",
    Param("local_addr", TEXT),
    Param("url", TEXT),
    result=resource_.type,
    since=_SINCE,
)
def make_http_url_resource(ctx: LuaContext, local_addr: str, url: str) -> Resource:
    """A URL of the HTTP listener that is bound to an address `ip:port`. Its rules are looked for under
    http_listener/ip:port/path, then http_listener/*/path, each going up to the first part of the path.
    """
    host, port = split_host_port(local_addr)
    if port is None:
        raise ValueError(f"'{local_addr}' has no port: write 'ip:port', such as '127.0.0.1:8000'")
    path = url.partition("?")[0] if url.startswith("/") else parse_url(url).path
    return http_resource(format_address((str(ip_address(host)), port)), path)


@aaa.function(
    "query_resource_access",
    Param("resource", resource_.type),
    Param("auth_info", OptionTable(AuthInfo)),
    Param("privilege", TEXT),
    result=disposition.type,
    since=_SINCE,
)
async def query_resource_access(
    ctx: LuaContext, resource: Resource, auth_info: AuthInfo, privilege: str
) -> Decision:
    """Whether somebody has a privilege on a resource. What get_acl_definition gives for its names decides."""
    auth: Any = to_builtins(auth_info)
    try:
        return await ctx.env.policy.access.check(resource, auth, privilege)
    except (PolicyError, Rejection) as err:
        raise ValueError(str(err)) from None


@disposition.field("allow", BOOLEAN, since=_SINCE)
def allow(ctx: LuaContext, decision: Decision) -> bool:
    """Whether a rule allows it."""
    return decision.allows


@disposition.field("rule", VALUE, since=_SINCE)
def rule(ctx: LuaContext, decision: Decision) -> dict[str, object] | None:
    """The rule that decided, as make_access_control_list takes it; nil if none did, which denies."""
    return None if decision.rule is None else decision.rule.to_option()


@disposition.field("resource", TEXT, since=_SINCE)
def resource(ctx: LuaContext, decision: Decision) -> str | None:
    """The name of the resource whose list has the rule, or nil."""
    return decision.resource


# -- accounting ------------------------------------------------------------------------------------------------
@aaa.function(
    "configure_acct_log",
    Param("params", OptionTable(AuditLogConfig)),
    since=_SINCE,
    only_in_events=True,
    configures=True,
)
async def configure_acct_log(ctx: LuaContext, params: AuditLogConfig) -> None:
    """Log who logs in or tries to, and who is allowed or denied what, in files of their own."""
    await ctx.env.host.log.add_audit(params)
