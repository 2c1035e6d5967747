"""The `redis` module, and `kumo.configure_redis_throttles`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from kumo_py.core.options import to_builtins
from kumo_py.net.redis import RedisClient, RedisError, RedisOptions
from kumo_py.policy.conversion import number_text
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import SHARED, OptionTable
from kumo_py.proto.resp import ServerError, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue
    from kumo_py.proto.resp import Reply

redis = Owner("redis")
connection = Kind("RedisConnection", RedisClient)

_OPTIONS = Param("params", OptionTable(RedisOptions))
_NO_EFFECT = ("read_from_replicas", "recycle_timeout")


class RedisClients:
    """A node's clients by their options: whoever opens the same servers shares the connections."""

    def __init__(self) -> None:
        self.by_options: dict[bytes, RedisClient] = {}


@redis.function("open", _OPTIONS, result=connection.type)
def open_(ctx: LuaContext, params: RedisOptions) -> RedisClient:
    """A server, or a cluster of them; connections to it are made when they are needed."""
    _warn(ctx, params)
    clients = ctx.env.state(RedisClients).by_options
    key = orjson.dumps(to_builtins(params))
    client = clients.get(key)
    if client is None:
        client = clients[key] = RedisClient(params)
    return client


@connection.function("query", Param("command", SHARED), Param("args", SHARED, rest=True), result=SHARED)
async def query(ctx: LuaContext, this: RedisClient, *args: LuaValue) -> LuaValue:
    """Send a command and return the reply. Tables among the arguments stand for all that is in them."""
    return _to_lua(await this.command(*_flat(args)))


@kumo.function("configure_redis_throttles", _OPTIONS)
async def configure_redis_throttles(ctx: LuaContext, params: RedisOptions) -> None:
    """Count throttles and connections in Redis, together with other nodes: all but those that begin with `local:`."""
    _warn(ctx, params)
    if not ctx.env.validating:
        await ctx.env.host.share_limits(params)


def _warn(ctx: LuaContext, params: RedisOptions) -> None:
    for name in _NO_EFFECT:
        if getattr(params, name):
            ctx.env.host.diagnostic("warn", f"redis: the option '{name}' has no effect in kumo-py")


def _flat(args: LuaValue) -> Iterator[bytes]:
    """Arguments of a command, as KumoMTA writes them."""
    for arg in args:
        match arg:
            case bytes():
                yield arg
            case bool():
                yield b"1" if arg else b"0"
            case int() | float():
                yield number_text(arg).encode()
            case list():
                yield from _flat(arg)
            case dict():
                for key, value in arg.items():
                    yield from _flat((key, value))
            case None:
                pass
            case _:
                raise ValueError(f"cannot send a {type(arg).__name__}")


def _to_lua(reply: Reply) -> LuaValue:
    """Raises RedisError for an error within a reply."""
    match reply:
        case ServerError():
            raise RedisError(str(reply))
        case Status():
            return True if reply == b"OK" else bytes(reply)
        case list():
            return [_to_lua(item) for item in reply]
    return reply
