"""What a policy and the DNS make of a destination: its site, the options of its queue and of the path there.

The same for queues at work and for operators who ask (KumoMTA `resolve-egress-path`), whether a node runs or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kumo_py.dns import DnsError, mx_list_site_name
from kumo_py.message.queue_name import QueueName
from kumo_py.queue.config import EgressPath, NamedHost, QueueConfig
from kumo_py.queue.constraints import path_constraints, queue_constraints, tightest

if TYPE_CHECKING:
    from kumo_py.core.policy import Policy
    from kumo_py.dns import MailExchanger, Resolver
    from kumo_py.queue.config import DeliveryProtocol
    from kumo_py.queue.constraints import Constraints


class ResolvedPath(NamedTuple):
    """From a source to a destination."""

    mx: MailExchanger | None
    """None where the DNS is not asked, or does not know."""
    ready_queue: str
    queue_config: QueueConfig
    path: EgressPath
    constraints: Constraints
    """Of both."""


async def site_of(
    route: str, protocol: DeliveryProtocol, resolver: Resolver
) -> tuple[str, MailExchanger | None]:
    """A destination's site name, and its MX hosts where the protocol goes to these. Raises DnsError."""
    if protocol.name != "smtp_client":
        return route, None
    if protocol.smtp is not None and protocol.smtp.mx_list:
        hosts = [host.addr if isinstance(host, NamedHost) else host for host in protocol.smtp.mx_list]
        return mx_list_site_name(hosts), None
    mx = await resolver.lookup_mx(route)
    return mx.site_name, mx


async def queue_config_of(policy: Policy, queue: str) -> QueueConfig:
    """The options of a scheduled queue, by its name. Raises PolicyError or Rejection."""
    parts = QueueName.parse(queue)
    config: QueueConfig | None = await policy.ask(
        "get_queue_config", parts.domain, parts.tenant, parts.campaign, parts.routing_domain
    )
    return QueueConfig() if config is None else config


async def resolve_path(policy: Policy, resolver: Resolver, queue: str, source: str) -> ResolvedPath:
    """The path from a source for messages of a scheduled queue, most often a domain.

    A destination that the DNS does not know is taken as its own site. Raises PolicyError or Rejection.
    """
    config = await queue_config_of(policy, queue)
    route = QueueName.parse(queue).route
    try:
        site, mx = await site_of(route, config.protocol, resolver)
    except DnsError:
        site, mx = route, None
    path: EgressPath | None = await policy.ask("get_egress_path_config", route, source, site)
    path = EgressPath() if path is None else path
    constraints = tightest(path_constraints(path), queue_constraints(config))
    return ResolvedPath(mx, f"{source}->{site}@{config.protocol.name}", config, path, constraints)
