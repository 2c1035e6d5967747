"""The `kumo.spf` module (RFC 7208)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import trio

from kumo_py.auth.spf import SpfRequest, SpfResult
from kumo_py.auth.spf import check_host as evaluate
from kumo_py.core.options import to_builtins
from kumo_py.dns import split_port
from kumo_py.message.authentication_results import AuthenticationResult
from kumo_py.policy.dns_lookups import ResolverLookups
from kumo_py.policy.modules.dns import RESOLVER, resolver_for
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import CONNECTION, MESSAGE, TEXT, VALUE

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address, IPv6Address

    from kumo_py.message.connection import ConnectionMeta
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext

spf = Owner("kumo.spf")

PATIENCE = 20.0
"""Seconds that an evaluation may take (RFC 7208 section 4.6.4)."""


@spf.function(
    "check_host",
    Param("domain", TEXT),
    Param("conn_meta", CONNECTION),
    Param("sender", TEXT, optional=True),
    RESOLVER,
    result=VALUE,
    since="2024.11.08-d383b033",
)
async def check_host(
    ctx: LuaContext, domain: str, conn_meta: ConnectionMeta, sender: str | None, resolver: str | None
) -> dict[str, object]:
    """Whether the client may send for a domain: that of HELO, or with `sender` that of an envelope sender.

    The result has a `disposition` (pass, fail, softfail, neutral, none, temperror or permerror) and as `result` what
    msg:add_authentication_results takes.
    """
    helo = domain if sender is None else conn_meta.text("ehlo_domain")
    return await _check(ctx, resolver, domain, sender, helo, conn_meta.get)


@spf.function("check_msg", Param("msg", MESSAGE), RESOLVER, result=VALUE, since="2025.12.02-67ee9e96")
async def check_msg(ctx: LuaContext, msg: Message, resolver: str | None) -> dict[str, object]:
    """Whether the client that a message came from may send for its envelope sender's domain; see check_host.

    For the null sender, that is the domain of HELO.
    """
    if not msg.meta_loaded:
        await ctx.env.host.load_message(msg)
    helo = msg.get_meta("ehlo_domain")
    domain = msg.sender.rpartition("@")[2]
    return await _check(
        ctx, resolver, domain, msg.sender, helo if isinstance(helo, str) else "", msg.get_meta
    )


async def _check(
    ctx: LuaContext,
    resolver: str | None,
    domain: str,
    sender: str | None,
    helo: str,
    meta: Callable[[str], object],
) -> dict[str, object]:
    lookups = ResolverLookups(resolver_for(ctx, resolver))
    receiver = meta("hostname")
    request = SpfRequest(
        client=client_address(meta("received_from")),
        domain=domain or helo,
        sender=sender or "",
        helo=helo,
        receiver=receiver if isinstance(receiver, str) else "localhost",
        now=ctx.env.host.wall(),
    )
    result = SpfResult("temperror", f"the evaluation took longer than {PATIENCE:g} seconds")
    with trio.move_on_after(PATIENCE):
        result = await evaluate(request, lookups)
    props = {"smtp.mailfrom": sender, "smtp.helo": helo}
    return {
        "disposition": result.disposition,
        "result": to_builtins(
            AuthenticationResult(
                method="spf",
                result=result.disposition,
                reason=result.reason,
                props={name: value for name, value in props.items() if value},
            )
        ),
    }


def client_address(received_from: object) -> IPv4Address | IPv6Address:
    """The client of the metadata `received_from`, which is IP:PORT. Raises ValueError."""
    if not isinstance(received_from, str):
        raise ValueError("the metadata has no 'received_from' that says who the client is")
    try:
        return ip_address(split_port(received_from)[0].strip("[]"))
    except ValueError:
        raise ValueError(f"the metadata 'received_from' is '{received_from}', not IP:PORT") from None
