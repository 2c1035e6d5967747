"""Who may do what: a policy's `get_acl_definition`, and the rules that hold where it has none.

The rules of a resource are asked of the policy and kept for a while, and so is what came of a question; another policy
starts afresh. Without a handler of that event only the rules in `data/acl.toml` count.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from kumo_py.core.acl import AclMap, Decision, Subject
from kumo_py.core.lruttl import LruTtl

if TYPE_CHECKING:
    from kumo_py.core.acl import AccessControlList, AuthInfo, Resource
    from kumo_py.logs.audit_log import AuditLog
    from kumo_py.policy.runtime import LuaPolicy

DEFAULT_RULES = Path(__file__).parent / "data" / "acl.toml"
EVENT = "get_acl_definition"
_KEPT = 0.3
"""Seconds, unless the policy says otherwise: as KumoMTA has it, whatever its documentation says."""


class AccessControl:
    """One per policy."""

    def __init__(self, policy: LuaPolicy) -> None:
        self._policy = policy
        self.falls_back = True
        """Whether the default rules hold for what the policy's handler gives none for."""
        self.definitions_kept = _KEPT
        """Seconds for which the rules of a resource hold."""
        self.decisions_kept = _KEPT
        """Seconds for which the answer to a question holds."""
        self.definitions: LruTtl[tuple[int, str], tuple[AccessControlList | None]] = LruTtl(
            "acl_definition", 128
        )
        self.decisions: LruTtl[tuple[int, str, str, Subject], Decision] = LruTtl("acl_check", 128)

    @cached_property
    def default_rules(self) -> AclMap:
        return AclMap.from_toml(DEFAULT_RULES.read_text())

    async def check(self, resource: Resource, auth: AuthInfo, privilege: str) -> Decision:
        """Whether somebody has a privilege. Raises PolicyError or Rejection when the policy's handler fails."""
        subject = Subject.of(auth)
        key = (self._policy.epoch, resource.name, privilege, subject)
        decision = self.decisions.get(key, trio.current_time())
        if decision is None:
            decision = await self._decide(resource, subject, privilege)
            self.decisions.put(key, decision, trio.current_time() + self.decisions_kept)
        audit = self._audit
        if audit is not None:
            await audit.authorized(resource.name, privilege, auth, decision)
        return decision

    async def _decide(self, resource: Resource, subject: Subject, privilege: str) -> Decision:
        asks = self._policy.handles(EVENT)
        for n, name in enumerate(resource.names):
            rules = await self._definition(name) if asks else self.default_rules.get(name)
            rule = None if rules is None else rules.find(subject, privilege)
            if rule is not None:
                return Decision(rule, name, resource.names[:n])
        return Decision(considered=resource.names)

    async def _definition(self, name: str) -> AccessControlList | None:
        key = self._policy.epoch, name
        found = self.definitions.get(key, trio.current_time())
        if found is None:
            rules: AccessControlList | None = await self._policy.ask(EVENT, name)
            if rules is None and self.falls_back:
                rules = self.default_rules.get(name)
            found = (rules,)
            self.definitions.put(key, found, trio.current_time() + self.definitions_kept)
        return found[0]

    @property
    def _audit(self) -> AuditLog | None:
        try:
            return self._policy.env.host.log.audit
        except ValueError:  # nothing runs yet
            return None
