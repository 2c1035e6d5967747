"""Scheduled queue names: `campaign:tenant@domain!routing_domain` (KumoMTA's grammar).

A campaign without a tenant is written `campaign:@domain` and parses back with the tenant "",
not None: the two differ in the policy's eyes.
"""

from __future__ import annotations

from typing import NamedTuple


class QueueName(NamedTuple):
    """The components of a queue name; `domain` keeps the case it was given."""

    domain: str
    tenant: str | None = None
    campaign: str | None = None
    routing_domain: str | None = None

    @classmethod
    def parse(cls, text: str) -> QueueName:
        """Never fails: whatever has no separator is a domain."""
        head, at, rest = text.partition("@")
        if not at:
            campaign = tenant = None
            rest = text
        else:
            first, colon, second = head.partition(":")
            campaign, tenant = (first, second) if colon else (None, head)
        domain, bang, routing = rest.partition("!")
        return cls(domain, tenant, campaign, routing if bang else None)

    def __str__(self) -> str:
        text = self.domain
        if self.campaign is not None:
            text = f"{self.campaign}:{self.tenant or ''}@{text}"
        elif self.tenant is not None:
            text = f"{self.tenant}@{text}"
        return text if self.routing_domain is None else f"{text}!{self.routing_domain}"

    @property
    def route(self) -> str:
        """The domain whose MX hosts are used."""
        return self.domain if self.routing_domain is None else self.routing_domain
