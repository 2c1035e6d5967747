"""Configurations and what follows from them as KumoMTA's API shows them: plain data, with the names of its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.options import to_builtins
from kumo_py.dns import dotted
from kumo_py.queue.config import SmtpProtocol

if TYPE_CHECKING:
    from kumo_py.dns import MailExchanger
    from kumo_py.queue.config import DeliveryProtocol, EgressPath, QueueConfig
    from kumo_py.queue.constraints import Ceiling, Constraints


def shown_queue(config: QueueConfig) -> dict[str, object]:
    """KumoMTA's QueueConfig."""
    return to_builtins(config) | {"protocol": _shown_protocol(config.protocol)}


def shown_path(path: EgressPath) -> dict[str, object]:
    """KumoMTA's EgressPathConfig."""
    return to_builtins(path)


def shown_mx(mx: MailExchanger | None) -> dict[str, object] | None:
    """KumoMTA's MxResolution; host names have their final dot."""
    if mx is None:
        return None
    return {
        "site_name": mx.site_name,
        "by_preference": {
            str(preference): [host if mx.is_domain_literal else dotted(host) for host in hosts]
            for preference, hosts in mx.by_pref.items()
        },
        "is_mx": mx.is_mx,
        "is_domain_literal": mx.is_domain_literal,
        "is_secure": mx.is_secure,
    }


def shown_constraints(constraints: Constraints) -> dict[str, object]:
    """KumoMTA's EffectiveConstraints."""
    return {
        "max_concurrent_dispatchers": _shown_ceiling(constraints.max_concurrent_dispatchers),
        "max_message_rate": _shown_ceiling(constraints.max_message_rate),
        "max_message_rate_declared": constraints.max_message_rate_declared,
        "max_connection_rate": _shown_ceiling(constraints.max_connection_rate),
        "max_source_selection_rate": _shown_ceiling(constraints.max_source_selection_rate),
    }


def _shown_ceiling(ceiling: Ceiling | None) -> dict[str, object] | None:
    if ceiling is None:
        return None
    source: dict[str, str] = {"kind": ceiling.source.kind}
    if ceiling.source.name is not None:
        source["name"] = ceiling.source.name
    return {"value": ceiling.value, "source": source, "display": ceiling.display}


def _shown_protocol(protocol: DeliveryProtocol) -> dict[str, object] | None:
    """The one that is used, with its options; None for what no policy can choose."""
    if protocol.name in ("defersmtpinject", "httpinject"):
        return None
    if protocol.maildir_path is not None:
        return {name: getattr(protocol, name) for name in ("maildir_path", "dir_mode", "file_mode")}
    if protocol.custom_lua is not None:
        return {"custom_lua": to_builtins(protocol.custom_lua)}
    if protocol.xfer is not None:
        return {"xfer": to_builtins(protocol.xfer)}
    return {"smtp": to_builtins(protocol.smtp or SmtpProtocol())}
