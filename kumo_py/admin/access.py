"""Who may use an endpoint, and how a client shows who it is.

A client is known by its address, and by what the policy makes of its Authorization header. What the policy says is
kept for a minute, or until another policy takes over; a header is kept as a keyed digest, so that no password is.
Access control lists then decide (policy/access_control.py): those of the policy, or ours.
"""

from __future__ import annotations

import base64
import binascii
import enum
import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from kumo_py.admin.exchange import Refusal
from kumo_py.core.acl import TRUSTED_GROUP
from kumo_py.core.lruttl import LruTtl
from kumo_py.core.policy import PolicyError, Rejection

if TYPE_CHECKING:
    from kumo_py.admin.exchange import Request
    from kumo_py.core.acl import AuthInfo, Identity, Resource
    from kumo_py.logs import DeliveryLog
    from kumo_py.policy import LuaPolicy

log = structlog.get_logger("kumo_py.admin")

KEPT = 60.0
"""Seconds for which an answer of the policy holds."""
CHALLENGE = [(b"www-authenticate", b'Basic realm="kumo-py"')]


class Access(enum.Enum):
    """Who may use an endpoint unless the policy has rules of its own: what our rules come to."""

    ANYBODY = "anybody"
    AUTHENTICATED = "trusted hosts, and whoever the policy knows"
    TRUSTED = "trusted hosts"


class _Node(Protocol):
    @property
    def policy(self) -> LuaPolicy: ...
    @property
    def log(self) -> DeliveryLog: ...


class Authentication:
    """Asks the policy who a client is. One per node."""

    def __init__(self, node: _Node) -> None:
        self._node = node
        self._secret = os.urandom(32)
        self.kept: LruTtl[tuple[int, bytes], object] = LruTtl("http_server_auth", 128)

    async def identify(self, request: Request, *, trusted: bool) -> AuthInfo:
        """Raises Refusal: 400 for what is no credentials, 401 for wrong ones, 500 when the policy fails."""
        auth: AuthInfo = {"peer_address": request.peer_ip, "identities": [], "groups": []}
        if trusted:
            auth["groups"].append(TRUSTED_GROUP)
        header = request.header(b"authorization")
        if header is None:
            return auth
        event, args = _credentials(header)
        basic = event == "http_server_validate_auth_basic"
        context = "HttpBasicAuth" if basic else "BearerToken"
        name = args[0] or "" if basic else ""
        attempted: Identity = {"identity": name, "context": context}
        answer = await self._ask(header, event, args)
        if answer is True:
            auth["identities"].append(attempted)
        elif isinstance(answer, dict):
            auth["identities"] += answer["identities"]
            auth["groups"] += answer["groups"]
            if not name and auth["identities"]:  # a token does not say whose it is
                attempted = auth["identities"][0]
        audit = self._node.log.audit
        if audit is not None:
            await audit.authenticated(attempted, auth, success=bool(answer))
        if not answer:
            raise Refusal(401, f"{context} Authentication Failed for {name}", CHALLENGE)
        return auth

    async def _ask(self, header: bytes, event: str, args: tuple[str | None, ...]) -> object:
        policy = self._node.policy
        key = policy.epoch, blake2b(header, key=self._secret, digest_size=32).digest()
        answer = self.kept.get(key, trio.current_time())
        if answer is None:
            try:
                answer = await policy.ask(event, *args) or False
            except (PolicyError, Rejection) as err:
                log.error(f"{event} failed: {err}")
                raise Refusal(500, "try again later") from None
            self.kept.put(key, answer, trio.current_time() + KEPT)
        return answer


def _credentials(header: bytes) -> tuple[str, tuple[str | None, ...]]:
    """The event to ask and its arguments (RFC 7617, RFC 6750). Raises Refusal."""
    scheme, _, rest = header.partition(b" ")
    rest = rest.strip()
    match scheme.lower():
        case b"basic":
            try:
                text = base64.b64decode(rest, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise Refusal(400, "Malformed Authorization header: not base64 of user:password") from None
            user, colon, password = text.partition(":")
            return "http_server_validate_auth_basic", (user, password if colon else None)
        case b"bearer":
            try:
                return "http_server_validate_auth_bearer", (rest.decode("ascii"),)
            except UnicodeDecodeError:
                raise Refusal(400, "Malformed Authorization header: the token is not ASCII") from None
    raise Refusal(400, "Malformed or unsupported Authorization header: use Basic or Bearer")


async def authorize(node: _Node, auth: AuthInfo, method: str, resource: Resource) -> None:
    """Raises Refusal, in KumoMTA's words: 401 for who may not, 500 when the policy fails."""
    try:
        decision = await node.policy.access.check(resource, auth, method)
    except (PolicyError, Rejection) as err:
        log.error(f"get_acl_definition failed: {err}")
        raise Refusal(500, "try again later") from None
    if decision.allows:
        return
    who = "<Unauthenticated>"
    if auth["identities"]:
        who = f"id=[{', '.join(one['identity'] for one in auth['identities'])}]"
    verdict = "not permitted" if decision.rule is None else "denied"
    raise Refusal(401, f"{who}@ ip={auth['peer_address']} {verdict} {method} on {resource.name}", CHALLENGE)
