"""What a policy's author may have meant by a name that does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.suggest import any_of, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kumo_py.policy.registry import Function, Registry

MEANT: Mapping[str, str] = {
    "kumo.define_egress_pool": "kumo.make_egress_pool, which the get_egress_pool event returns",
    "kumo.define_egress_source": "kumo.make_egress_source, which the get_egress_source event returns",
    "kumo.configure_logging": "kumo.configure_local_logs",
    "kumo.http.get": "kumo.http.build_client {}:get(url)",
    "kumo.http.post": "kumo.http.build_client {}:post(url)",
    "kumo.http.put": "kumo.http.build_client {}:put(url)",
    "kumo.http.request": "kumo.http.build_client {}:get(url)",
    "kumo.resolve_a": "kumo.dns.lookup_addr",
    "kumo.resolve_mx": "kumo.dns.lookup_mx",
    "kumo.string.format": "string.format, which is Lua's own",
    "kumo.string.lower": "string.lower, which is Lua's own",
    "kumo.string.upper": "string.upper, which is Lua's own",
    "kumo.start_spool": "kumo.define_spool",
    "kumo.define_signer": "kumo.dkim.rsa_sha256_signer",
    "kumo.get_signer": "kumo.dkim.rsa_sha256_signer",
    "kumo.configure_dkim_sign": "msg:dkim_sign",
    "kumo.configure_dkim_verify": "msg:dkim_verify",
    "kumo.metrics": "kumo.prometheus_metrics",
    "message.get_header": "get_first_named_header_value",
    "message.header": "get_first_named_header_value",
    "message.set_header": "remove_all_named_headers and append_header",
    "message.remove_header": "remove_all_named_headers",
    "message.subject": "get_first_named_header_value 'Subject'",
    "message.from": "from_header",
    "message.to": "to_header",
    "message.body": "get_data, which has header and body",
    "message.content": "get_data, which has header and body",
    "message.size": "#msg:get_data()",
    "message.domain": "recipient().domain",
    "message.reject": "kumo.reject",
    "message.set_queue": "set_meta('queue', name)",
}
"""Names seen in policies that no such server has, and what does what they are after."""
FEW = 12
"""So many names are listed."""


def hint(registry: Registry, owner: str, wanted: str) -> str:
    """The end of the message that an owner has no such name: "; did you mean …?", or nothing."""
    meant = MEANT.get(f"{owner}.{wanted}")
    if meant is not None:
        return f"; did you mean {meant}?"
    of_kind = registry.kinds.get(owner)
    prefix = "" if of_kind is not None else f"{owner}."
    if owner == "kumo" and wanted in registry.modules:
        return f"; {wanted} is a module of its own: local {wanted} = require '{wanted}'"
    if owner == "kumo":
        elsewhere = [one.label for one in _functions(registry) if one.name == wanted]
        if elsewhere:
            return f"; did you mean {elsewhere[0]}?"
    names = registry.members(owner)
    family = [name for name in names if name.startswith(f"{wanted}_")]
    if family:
        return f"; did you mean {any_of([prefix + name for name in family[:FEW]])}?"
    near = nearest(wanted, names)
    if near is not None:
        return f"; did you mean {prefix}{near}?"
    if of_kind is not None:
        holder = next((kind.name for kind in registry.kinds.values() if wanted in kind.names()), None)
        return f"; a {holder} has one" if holder is not None else ""
    if len(names) <= FEW:
        return f"; {owner} has {', '.join(sorted(names))}"
    labels = {one.name: one.label for one in _functions(registry)}
    near = nearest(wanted, labels, at_least=0.8)
    return "" if near is None else f"; did you mean {labels[near]}?"


def _functions(registry: Registry) -> Iterator[Function]:
    return (one for module in registry.modules.values() for one in module.functions if one.is_public)


def misspelt_events(registry: Registry, handled: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Handled events that nobody fires unless the policy does, with the known ones that they resemble."""
    for name in sorted(handled - registry.events.keys()):
        near = nearest(name, registry.events, at_least=0.8)
        if near is not None:
            yield name, near
