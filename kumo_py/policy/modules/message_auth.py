"""The methods of a message that sign it, verify signatures, and record what was found."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import trio

from kumo_py.auth.arc_seal import arc_set
from kumo_py.auth.arc_verify import ArcCheck, ArcVerdict
from kumo_py.auth.dkim_keys import KeyRecords
from kumo_py.auth.dkim_sign import fields_to_sign
from kumo_py.auth.dkim_verify import DkimCheck
from kumo_py.dns import DnsError
from kumo_py.message.authentication_results import AuthenticationResult, AuthenticationResults
from kumo_py.message.headers import header_line
from kumo_py.policy.modules.dkim import SIGNER, SignerCaches
from kumo_py.policy.modules.dns import RESOLVER, resolver_for, txt_records
from kumo_py.policy.modules.message import message
from kumo_py.policy.registry import Param
from kumo_py.policy.signing import SigningThreads
from kumo_py.policy.types import TEXT, ListOf, OptionTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.auth.dkim_sign import Signer
    from kumo_py.dns import Resolver
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext

T = TypeVar("T")

INLINE = 1 << 16
"""Octets to be hashed at most without a thread, and what costs as much. So many take 65 µs in usual mail, 1.3 ms in
the worst body, and 7 in the worst header, which has a field every six octets (measured).
"""

RESULT = OptionTable(AuthenticationResult)
_RESULTS = Param("results", ListOf(RESULT))


@message.function("dkim_sign", Param("signer", SIGNER))
async def dkim_sign(ctx: LuaContext, msg: Message, signer: Signer) -> None:
    """Put a DKIM-Signature on top of the message. Whatever changes the message has to come before."""
    data = await _content(ctx, msg)
    now = int(ctx.env.host.wall())
    times = ctx.env.state(SignerCaches)
    started = perf_counter()
    if len(data) > INLINE:
        field = await _in_thread(ctx, partial(signer.sign, data, now))
    else:
        fields = fields_to_sign(data)
        times.parse_time.observe(perf_counter() - started)
        draft = signer.draft(fields, now)
        sign = partial(signer.key.sign, draft.digest)
        field = draft.signed(await _in_thread(ctx, sign) if signer.key.is_slow else sign())
    times.sign_time.observe(perf_counter() - started)
    msg.prepend(field)


@message.function("dkim_verify", RESOLVER, result=ListOf(RESULT), since="2023.11.28-b5252a41")
async def dkim_verify(ctx: LuaContext, msg: Message, resolver: str | None) -> list[AuthenticationResult]:
    """Verify the first ten DKIM signatures: a result for each, from the top of the message."""
    found = resolver_for(ctx, resolver)
    data = await _content(ctx, msg)
    check = await _hashing(ctx, len(data), partial(DkimCheck, data, ctx.env.host.wall()))
    keys = await _key_records(found, check.key_names)
    return await _hashing(ctx, check.work(keys), partial(check.results, keys))


@message.function("arc_verify", RESOLVER, result=RESULT, since="2025.12.02-67ee9e96")
async def arc_verify(ctx: LuaContext, msg: Message, resolver: str | None) -> AuthenticationResult:
    """Validate the message's Authenticated Received Chain: the result is none, pass or fail."""
    found = resolver_for(ctx, resolver)
    return (await _arc(ctx, found, await _content(ctx, msg)))[1].result


@message.function(
    "arc_seal",
    Param("signer", SIGNER),
    Param("server_id", TEXT),
    _RESULTS,
    RESOLVER,
    since="2025.12.02-67ee9e96",
)
async def arc_seal(
    ctx: LuaContext,
    msg: Message,
    signer: Signer,
    server_id: str,
    results: list[AuthenticationResult],
    resolver: str | None,
) -> None:
    """Validate the chain and add a set to it, with these results. A message with a broken chain stays as it is."""
    found = resolver_for(ctx, resolver)
    value = AuthenticationResults(serv_id=server_id, results=results).encode()
    check, verdict = await _arc(ctx, found, await _content(ctx, msg))
    now = int(ctx.env.host.wall())
    added = await _in_thread(ctx, partial(arc_set, check, verdict, signer, value, now))
    if added:
        msg.prepend(added)


@message.function(
    "add_authentication_results", Param("server_id", TEXT), _RESULTS, since="2023.11.28-b5252a41"
)
async def add_authentication_results(
    ctx: LuaContext, msg: Message, server_id: str, results: list[AuthenticationResult]
) -> None:
    """Put an Authentication-Results header with these results on top of the message."""
    value = AuthenticationResults(serv_id=server_id, results=results).encode()
    await _content(ctx, msg)
    msg.prepend(header_line(b"Authentication-Results", value))


async def _arc(ctx: LuaContext, resolver: Resolver, data: bytes) -> tuple[ArcCheck, ArcVerdict]:
    check = await _hashing(ctx, len(data), partial(ArcCheck, data, ctx.env.host.wall()))
    keys = await _key_records(resolver, check.key_names)
    return check, await _hashing(ctx, check.work(keys), partial(check.verdict, keys))


async def _content(ctx: LuaContext, msg: Message) -> bytes:
    """The content, from the spool if need be. Raises KeyError or OSError."""
    if not msg.data_loaded:
        await ctx.env.host.load_message(msg)
    return msg.data


async def _key_records(resolver: Resolver, names: set[str]) -> dict[str, KeyRecords]:
    """What the DNS says of all of them, asked at the same time."""
    found: dict[str, KeyRecords] = {}

    async def ask(name: str) -> None:
        try:
            found[name] = KeyRecords(await txt_records(resolver, name))
        except DnsError as err:
            found[name] = KeyRecords(problem=str(err))

    if len(names) == 1:
        await ask(*names)
    elif names:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(ask, name)
    return found


async def _hashing(ctx: LuaContext, octets: int, work: Callable[[], T]) -> T:
    return work() if octets <= INLINE else await _in_thread(ctx, work)


async def _in_thread(ctx: LuaContext, work: Callable[[], T]) -> T:
    return await ctx.env.state(SigningThreads).run(work)
