"""What a lookup may raise. Every text names the record type, the name and what went wrong."""

from __future__ import annotations


class DnsError(Exception):
    """No answer this time: a server failure, a timeout. Asking later may help."""

    def __init__(self, name: str, rdtype: str, problem: str) -> None:
        super().__init__(f"{rdtype} lookup for {name} failed: {problem}")
        self.name = name
        self.rdtype = rdtype
        self.problem = problem


class NoSuchDomain(DnsError):
    """The name doesn't exist in the DNS (NXDOMAIN), or cannot: it isn't a domain name."""
