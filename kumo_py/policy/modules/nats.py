"""The `kumo.nats` module: messages to NATS, kept by JetStream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import orjson

from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource
from kumo_py.core.options import to_builtins
from kumo_py.net.nats import (
    CAPACITY,
    CONNECTION_TIMEOUT,
    PING_INTERVAL,
    REQUEST_TIMEOUT,
    Login,
    NatsClient,
    NatsSettings,
    parse_server,
)
from kumo_py.policy.key_sources import load_key
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.shared_clients import Handle, Payload, RecordTable, SharedClients
from kumo_py.policy.types import OptionTable
from kumo_py.proto.nats import NatsKey, check_subject, parse_credentials

if TYPE_CHECKING:
    from kumo_py.policy.context import Environment, LuaContext

_SINCE = "2026.03.04-bb93ecb1"

nats = Owner("kumo.nats")

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Capacity = Annotated[int, msgspec.Meta(ge=1)]


class _NatsAuth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    username: KeySource | None = None
    """Goes with password."""
    password: KeySource | None = None
    token: KeySource | None = None
    nkey: KeySource | None = None
    """The seed of a user's key, which begins with SU (kumo-py)."""
    credentials_file: KeySource | None = None
    """A user's JWT and seed, as `nsc` writes them (kumo-py)."""

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("either specify both of username and password or neither")
        ways = (self.username, self.token, self.nkey, self.credentials_file)
        if sum(way is not None for way in ways) > 1:
            raise ValueError(
                "give one of: username and password, token, nkey (the seed), or credentials_file"
            )


class NatsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kumo.nats.connect`."""

    servers: list[str]
    """Each as HOST:PORT, nats://HOST:PORT, or tls://HOST:PORT for TLS."""
    auth: _NatsAuth | None = None
    name: str | None = None
    """What the server calls the connection."""
    no_echo: bool = False
    """Do not get what was published over the same connection; a client that only publishes gets nothing anyway."""
    max_reconnects: _Count = 0
    """Attempts in a row until the client gives up; 0 is without end."""
    connection_timeout: Duration = Duration(CONNECTION_TIMEOUT)
    """To connect to one server, authentication included."""
    tls_required: bool = False
    tls_first: bool = False
    """The TLS handshake comes before anything else, as `handshake_first` of the server wants it."""
    certificate: str | None = None
    """The path of the authorities' certificates (PEM); the system's unless set."""
    client_cert: str | None = None
    """A path (PEM); goes with client_key."""
    client_key: str | None = None
    """A path (PEM)."""
    ping_interval: Duration = Duration(PING_INTERVAL)
    """How often the server is asked whether it is there."""
    client_capacity: _Capacity = CAPACITY
    """Messages that may be on their way at once; more wait."""
    sender_capacity: _Capacity | None = None
    """The name that KumoMTA's documentation has for client_capacity."""
    inbox_prefix: str = "_INBOX"
    request_timeout: Duration = Duration(REQUEST_TIMEOUT)
    """How long `publish` may take."""
    retry_on_initial_connect: bool = False
    """Do not wait for the first connection; it is an error then only of what is published."""
    ignore_discovered_servers: bool = False
    """Do not connect to servers of the cluster that only a server told of."""
    retain_servers_order: bool = False
    """Try the servers in their order instead of a random one."""

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError("servers must name at least one")
        for url in self.servers:
            parse_server(url)
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("either specify both of client_cert and client_key or neither")
        check_subject(self.inbox_prefix)
        if self.ping_interval <= 0:
            raise ValueError("ping_interval must be more than 0")

    def settings(self) -> NatsSettings:
        return NatsSettings(
            servers=tuple(parse_server(url) for url in self.servers),
            capacity=self.sender_capacity or self.client_capacity,
            **{
                name: getattr(self, name)
                for name in NatsSettings.__struct_fields__
                if name not in ("servers", "capacity")
            },
        )


class NatsMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`client:publish` of NATS."""

    subject: str
    payload: Payload
    headers: dict[str, str] = {}
    """A message with a `Nats-Msg-Id` that the stream has had within the last minutes is not stored again."""
    await_ack: bool = True
    """Wait until a stream has stored it."""


class NatsAck(msgspec.Struct, frozen=True, kw_only=True):
    """Where JetStream stored a message; nothing with `await_ack = false`."""

    stream: str | None = None
    value: str | None = None
    """Of a stream with counters."""
    duplicate: bool | None = None
    """Whether the stream had a message with this Nats-Msg-Id already."""
    sequence: int | None = None
    domain: str | None = None


class NatsHandle(Handle[NatsClient]):
    """A policy's hold on a connection."""


class NatsClients(SharedClients[NatsClient]):
    """The node's, by their options."""


client = Kind("nats_client", NatsHandle)


@nats.function("connect", Param("config", OptionTable(NatsConfig)), result=client.type, since=_SINCE)
async def connect(ctx: LuaContext, config: NatsConfig) -> NatsHandle:
    """Connect to a NATS server, or one of several; whoever gives the same options shares the connection.

    A connection that ends is made anew, with the next server.
    """
    if ctx.env.validating:
        return NatsHandle()
    env = ctx.env
    shared, leave = env.state(NatsClients).join(
        ctx,
        orjson.dumps(to_builtins(config)),
        "the NATS client",
        lambda: NatsClient(config.settings(), lambda: _login(env, config.auth)),
    )
    handle = NatsHandle(shared, leave)
    if not config.retry_on_initial_connect:
        try:
            await shared.connected()
        except BaseException:
            handle.close()
            raise
    return handle


async def _login(env: Environment, auth: _NatsAuth | None) -> Login:
    """Raises ValueError, KeyError or OSError."""

    async def text(source: KeySource) -> str:
        return (await load_key(env, source)).decode()

    match auth:
        case _NatsAuth(username=KeySource() as username, password=KeySource() as password):
            return Login(await text(username), await text(password))
        case _NatsAuth(token=KeySource() as token):
            return Login(token=await text(token))
        case _NatsAuth(nkey=KeySource() as nkey):
            return Login(key=NatsKey((await text(nkey)).strip()))
        case _NatsAuth(credentials_file=KeySource() as credentials):
            jwt, seed = parse_credentials(await text(credentials))
            return Login(key=NatsKey(seed), jwt=jwt)
    return Login()


@client.function(
    "publish", Param("message", RecordTable(NatsMessage)), result=OptionTable(NatsAck), since=_SINCE
)
async def publish(ctx: LuaContext, handle: NatsHandle, message: NatsMessage) -> NatsAck:
    """Publish a message, and wait until JetStream has stored it; an error if no stream has."""
    stored = await handle.client.publish(
        message.subject, message.payload, message.headers, acknowledged=message.await_ack
    )
    if stored is None:
        return NatsAck()
    return NatsAck(
        stream=stored.stream,
        value=stored.val,
        duplicate=stored.duplicate,
        sequence=stored.seq,
        domain=stored.domain,
    )


@client.function("close", since=_SINCE)
async def close(ctx: LuaContext, handle: NatsHandle) -> None:
    """Give the client up. Its connection is closed unless another client shares it."""
    handle.close()
