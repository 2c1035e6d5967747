"""All resolvers of a node: the default one, and those to which the policy gave names.

The default resolver is one object for the node's whole life: whoever holds it follows a reconfiguration. The same
configuration given again changes nothing, because a policy file runs anew for every Lua context and its caches
should not be lost each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
import trio

from kumo_py.core.suggest import nearest
from kumo_py.dns.mta_sts import MtaSts
from kumo_py.dns.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kumo_py.core.lruttl import LruTtl
    from kumo_py.dns.answer import Backend
    from kumo_py.dns.configure import ConfiguredResolver

log = structlog.get_logger("kumo_py.dns")


class Resolvers:
    """Owned by the node. Nothing is asked or read before the first lookup."""

    def __init__(
        self, clock: Callable[[], float] = trio.current_time, backend: Backend | None = None
    ) -> None:
        self._clock = clock
        self.mta_sts = MtaSts(clock)
        self.default = Resolver(clock=clock, backend=backend)
        self.default.mta_sts = self.mta_sts
        self._named: dict[str, Resolver] = {}
        self._specs: dict[str | None, object] = {}
        self._warned: set[str] = set()

    def get(self, name: str | None) -> Resolver:
        """The resolver of that name, the default one for None. Raises ValueError."""
        if name is None:
            return self.default
        found = self._named.get(name)
        if found is None:
            near = nearest(name, self._named)
            hint = (
                f"did you mean '{near}'?"
                if near is not None
                else "define it with kumo.dns.define_resolver in the init event"
            )
            raise ValueError(f"resolver {name} is not defined; {hint}")
        return found

    def knows(self, name: str | None, spec: object) -> bool:
        """Whether the resolver of that name was configured with just this."""
        return name in self._specs and self._specs[name] == spec

    def configure(self, name: str | None, spec: object, configured: ConfiguredResolver) -> None:
        """Make the resolver of that name, the default one for None, as `spec` says; `configured` is made of it."""
        config, backend = configured.config, configured.backend
        known = self.default if name is None else self._named.get(name)
        if known is not None:
            known.reconfigure(config, backend)
        else:
            assert name is not None
            resolver = self._named[name] = Resolver(config, self._clock, backend)
            resolver.mta_sts = self.mta_sts
            resolver.mx_timeout = self.default.mx_timeout
            resolver.mx_negative_ttl = self.default.mx_negative_ttl
            resolver.resize_mx_cache(self.default.mx_capacity)
            resolver.resize_address_cache(self.default.address_capacity)
            resolver.concurrency.total_tokens = self.default.concurrency.total_tokens
        self._specs[name] = spec
        self._warn(configured.notices)

    def set_mx_timeout(self, seconds: float) -> None:
        for resolver in self.all():
            resolver.mx_timeout = seconds

    def set_mx_negative_ttl(self, seconds: float) -> None:
        for resolver in self.all():
            resolver.mx_negative_ttl = seconds

    def set_mx_concurrency(self, limit: int) -> None:
        """Raises ValueError below one."""
        if limit < 1:
            raise ValueError(f"{limit} lookups at a time would never end one; the limit must be at least 1")
        for resolver in self.all():
            resolver.concurrency.total_tokens = limit

    def resize_mx_caches(self, capacity: int) -> None:
        for resolver in self.all():
            resolver.resize_mx_cache(capacity)

    def resize_address_caches(self, capacity: int) -> None:
        for resolver in self.all():
            resolver.resize_address_cache(capacity)

    def set_mta_sts_enabled(self, enabled: bool) -> None:
        """Mail hosts that were found so far are forgotten if this changes anything."""
        if enabled != self.mta_sts.enabled:
            self.mta_sts.enabled = enabled
            self._forget_exchangers()

    def use_fixed_mta_sts(self, policies: Mapping[str, str]) -> None:
        """See `MtaSts.use_fixed`. Raises ValueError."""
        self.mta_sts.use_fixed(policies)
        self._forget_exchangers()

    def _forget_exchangers(self) -> None:
        for resolver in self.all():
            resolver.forget_exchangers()

    @property
    def caches(self) -> Iterable[LruTtl[Any, Any]]:
        """All that they remember."""
        return self.mta_sts.kept, *(cache for resolver in self.all() for cache in resolver.caches)

    def all(self) -> Iterable[Resolver]:
        return self.default, *self._named.values()

    def _warn(self, notices: Iterable[str]) -> None:
        """Log each notice once in the node's life."""
        for notice in notices:
            if notice not in self._warned:
                self._warned.add(notice)
                log.warning(notice)
