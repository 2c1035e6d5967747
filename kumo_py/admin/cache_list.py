"""The caches that every node has, for `--dump-lruttl-caches`; memoized functions add caches of their own."""

from __future__ import annotations

from typing import Any

_CACHES: tuple[tuple[str, int, str], ...] = (
    ("acl_check", 128, "Decisions of access control lists"),
    ("acl_definition", 128, "Access control lists of resources"),
    ("dkim_key_cache", 1024, "Private keys, by where they come from"),
    ("dkim_signer_cache", 1024, "Signers, by their options"),
    ("dns_resolver_ip", 8192, "Addresses of mail hosts"),
    ("dns_resolver_mx", 65536, "Mail hosts of domains"),
    ("egress_source_pools", 128, "Egress pools, as the policy defines them"),
    ("egress_source_sources", 128, "Egress sources, as the policy defines them"),
    ("http_server_auth", 128, "Answers of the policy to HTTP credentials"),
    ("kumo_py_dns_answers", 8192, "Answers of the DNS; the option cache_size of kumo.dns.configure_resolver"),
    ("mod_filesystem_glob_cache", 32, "What patterns of kumo.fs.glob matched"),
    ("mta_sts_policy", 8192, "MTA-STS policies of domains"),
    ("rustls_client_config", 32, "TLS contexts for sending"),
    ("smtp_dispatcher_broken_tls", 65536, "Ready queues to sites whose TLS is broken"),
    ("smtp_dispatcher_client_certificate", 1024, "Client certificates and their keys"),
    ("smtp_server_tls_config", 128, "TLS contexts of listeners"),
)


def definitions() -> list[dict[str, Any]]:
    """In KumoMTA's format; the capacities are those without kumo.set_lruttl_cache_capacity."""
    return [{"name": name, "capacity": capacity, "doc": doc} for name, capacity, doc in _CACHES]
