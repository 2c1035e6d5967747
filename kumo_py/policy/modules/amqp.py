"""The `kumo.amqp` module: messages to RabbitMQ and other brokers that speak AMQP 0-9-1. Needs the extra `amqp`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import trio

from kumo_py.core.duration import Duration, format_duration
from kumo_py.core.suggest import nearest
from kumo_py.net.client_tls import without_login
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.shared_clients import (
    NOT_NOW,
    Handle,
    Payload,
    RecordTable,
    SharedClients,
    require_package,
)
from kumo_py.policy.types import INTEGER, TEXT, OptionTable

if TYPE_CHECKING:
    from kumo_py.net.amqp import (  # noqa: F401 (in quotes below)
        AmqpClient,
        AmqpPool,
        Broker,
        Confirmation,
        Outcome,
        Properties,
        Publication,
    )
    from kumo_py.policy.context import LuaContext

amqp = Owner("kumo.amqp")

CONNECT_TIMEOUT = 20.0
WAIT_TIMEOUT = 60.0
PUBLISH_TIMEOUT = 60.0
"""Seconds, unless the options say otherwise."""
POOL_LINGER = 300.0
"""Seconds that connections which nobody uses are kept."""
_LAPIN_VALUES = frozenset(
    (
        "Boolean",
        "ShortShortInt",
        "ShortShortUInt",
        "ShortInt",
        "ShortUInt",
        "LongInt",
        "LongUInt",
        "LongLongInt",
        "Float",
        "Double",
        "ShortString",
        "LongString",
    )
)
"""How KumoMTA's client names the type of a header's value: `{ LongString = 'text' }`."""

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Octet = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Size = Annotated[int, msgspec.Meta(ge=1)]


class _AmqpTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AmqpConnection(_AmqpTable, frozen=True):
    """The broker of `kumo.amqp.basic_publish`."""

    host: str
    port: _Port = 5672
    """Brokers have TLS on another port, mostly 5671."""
    username: str = "guest"
    password: str = "guest"
    vhost: str = "/"
    connection_name: str | None = None
    """What the broker calls the connection."""
    heartbeat: _Seconds = 60
    """Seconds; the broker may want fewer. 0 is none."""
    enable_tls: bool = False
    root_ca_cert: str | None = None
    """The path of the authorities' certificates (PEM); the system's unless set."""
    client_cert: str | None = None
    """A path (PEM); goes with client_private_key."""
    client_private_key: str | None = None
    """A path (PEM)."""
    confirm_select: bool = True
    """Wait until the broker has confirmed that it took the message over."""
    pool_size: _Size | None = None
    """Connections at most; four for each CPU unless set."""
    connect_timeout: Duration = Duration(CONNECT_TIMEOUT)
    recycle_timeout: Duration | None = None
    """Has no meaning here: a connection is known to be alive."""
    wait_timeout: Duration = Duration(WAIT_TIMEOUT)
    """How long to wait for one of the connections."""
    publish_timeout: Duration = Duration(PUBLISH_TIMEOUT)
    """How long to wait until the message is sent and confirmed."""

    def __post_init__(self) -> None:
        if (self.client_cert is None) != (self.client_private_key is None):
            raise ValueError("Either both client_cert and client_private_key must be specified, or neither")


class AmqpPublish(_AmqpTable, frozen=True):
    """`kumo.amqp.basic_publish`."""

    routing_key: str
    """With the default exchange, the name of a queue."""
    payload: Payload
    connection: AmqpConnection
    exchange: str = ""
    """The default exchange unless set."""
    mandatory: bool = False
    """An error if the message is routed to no queue."""
    immediate: bool = False
    """An error if no consumer takes it at once; RabbitMQ does not know this."""
    app_id: str | None = None
    cluster_id: str | None = None
    content_encoding: str | None = None
    content_type: str | None = None
    correlation_id: str | None = None
    delivery_mode: _Octet | None = None
    """1 is transient, 2 persistent."""
    expiration: str | None = None
    """Milliseconds, as text."""
    headers: dict[str, Any] | None = None
    message_id: str | None = None
    message_type: str | None = None
    priority: _Octet | None = None
    reply_to: str | None = None
    timestamp: int | None = None
    """Unix time in seconds."""
    user_id: str | None = None


class AmqpFlags(_AmqpTable, frozen=True):
    """`options` of `client:publish`."""

    mandatory: bool = False
    immediate: bool = False


class AmqpProperties(_AmqpTable, frozen=True):
    """`properties` of `client:publish`."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: _Octet | None = None
    priority: _Octet | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    kind: str | None = None
    """The type of the message."""
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


class AmqpMessage(_AmqpTable, frozen=True):
    """`client:publish`."""

    routing_key: str
    """With the default exchange, the name of a queue."""
    payload: Payload
    exchange: str = ""
    """The default exchange unless set."""
    options: AmqpFlags = AmqpFlags()
    properties: AmqpProperties = AmqpProperties()


class AmqpClientOptions(_AmqpTable, frozen=True):
    """The second argument of `kumo.amqp.build_client` (kumo-py)."""

    confirm_select: bool = False
    """Let the broker confirm what it has taken over; `wait` then gives Ack or Nack."""


class AmqpConfirmation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message."""

    status: Literal["Ack", "Nack", "NotRequested"]
    reply_code: int | None = None
    """Of a mandatory message that came back."""
    reply_text: str | None = None


class AmqpHandle(Handle["AmqpClient"]):
    """A policy's hold on a connection."""


class AmqpConfirm:
    """Of one message; can be waited for once."""

    def __init__(self, confirmation: Confirmation) -> None:
        self.confirmation: Confirmation | None = confirmation


class AmqpPools(SharedClients["AmqpPool"]):
    """The node's, by their options."""


class AmqpClients(SharedClients["AmqpClient"]):
    """The node's, by their URIs."""


client = Kind("amqp_client", AmqpHandle)
confirm = Kind("amqp_confirm", AmqpConfirm)

_MESSAGE = Param("params", RecordTable(AmqpMessage))
_CONFIRMATION = OptionTable(AmqpConfirmation)


# -- a pool ------------------------------------------------------------------------------------------------------
@amqp.function("basic_publish", Param("params", RecordTable(AmqpPublish)), since="2024.09.02-c5476b89")
async def basic_publish(ctx: LuaContext, params: AmqpPublish) -> None:
    """Publish a message over one of the connections that are kept to this broker, and wait until it is confirmed."""
    require_package("kumo.amqp", "pamqp", "amqp")
    from kumo_py.net.amqp import AmqpPool

    if ctx.env.validating:
        raise ValueError(NOT_NOW)
    connection = params.connection
    publication = _publication(params, params, params, message_type=params.message_type)
    pool, leave = ctx.env.state(AmqpPools).join(
        ctx,
        connection,
        "the AMQP connections",
        lambda: AmqpPool(
            _broker(connection),
            size=connection.pool_size or 4 * (os.cpu_count() or 1),
            wait_timeout=connection.wait_timeout,
            publish_timeout=connection.publish_timeout,
        ),
        linger=POOL_LINGER,
    )
    try:
        await pool.publish(publication)
    finally:
        leave()


def _broker(options: AmqpConnection) -> Broker:
    from kumo_py.net.amqp import Broker

    return Broker(
        host=options.host,
        port=options.port,
        username=options.username,
        password=options.password,
        vhost=options.vhost,
        connection_name=options.connection_name,
        heartbeat=options.heartbeat,
        tls=options.enable_tls,
        authority=options.root_ca_cert,
        certificate=options.client_cert,
        key=options.client_private_key,
        confirms=options.confirm_select,
        connect_timeout=options.connect_timeout,
    )


def _publication(
    params: AmqpPublish | AmqpMessage,
    properties: AmqpPublish | AmqpProperties,
    flags: AmqpPublish | AmqpFlags,
    *,
    message_type: str | None,
) -> Publication:
    """Raises ValueError."""
    from kumo_py.net.amqp import Publication

    return Publication(
        params.exchange,
        params.routing_key,
        params.payload,
        _properties(properties, message_type),
        flags.mandatory,
        flags.immediate,
    )


def _properties(options: AmqpPublish | AmqpProperties, message_type: str | None) -> Properties:
    from kumo_py.net.amqp import Properties

    properties = Properties(
        content_type=options.content_type,
        content_encoding=options.content_encoding,
        headers=None if options.headers is None else _plain_values(options.headers),
        delivery_mode=options.delivery_mode,
        priority=options.priority,
        correlation_id=options.correlation_id,
        reply_to=options.reply_to,
        expiration=options.expiration,
        message_id=options.message_id,
        message_type=message_type,
        user_id=options.user_id,
        app_id=options.app_id,
    )
    properties.cluster_id = options.cluster_id or ""
    if options.timestamp is not None:
        try:
            properties.timestamp = datetime.fromtimestamp(options.timestamp, UTC)
        except (OverflowError, ValueError, OSError):
            raise ValueError(f"option 'timestamp': {options.timestamp} is not a time in seconds") from None
    return properties


def _plain_values(value: Any) -> Any:  # noqa: ANN401 (what Lua has, and what AMQP can)
    """Headers without what tells the types of their values."""
    match value:
        case dict():
            if len(value) == 1 and (name := next(iter(value))) in _LAPIN_VALUES:
                return _plain_values(value[name])
            return {key: _plain_values(item) for key, item in value.items()}
        case list():
            return [_plain_values(item) for item in value]
    return value


# -- a client ----------------------------------------------------------------------------------------------------
@amqp.function(
    "build_client",
    Param("uri", TEXT),
    Param("options", OptionTable(AmqpClientOptions), optional=True),
    result=client.type,
)
async def build_client(ctx: LuaContext, uri: str, options: AmqpClientOptions | None) -> AmqpHandle:
    """Connect to amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS.

    Clients with the same URI share a connection. The URI may have `heartbeat` in seconds, `connection_timeout` in
    milliseconds, `auth_mechanism` (plain or external), `frame_max`, and for TLS the paths `cacertfile`, `certfile` and
    `keyfile`.
    """
    require_package("kumo.amqp", "pamqp", "amqp")
    from kumo_py.net.amqp import AmqpClient

    confirms = options is not None and options.confirm_select
    broker = parse_amqp_uri(uri, confirms=confirms)
    if ctx.env.validating:
        return AmqpHandle()
    shared, leave = ctx.env.state(AmqpClients).join(
        ctx, (uri, confirms), "the AMQP client", lambda: AmqpClient(broker)
    )
    handle = AmqpHandle(shared, leave)
    try:
        await shared.connected()
    except BaseException:
        handle.close()
        raise
    return handle


_PARAMETERS = (
    "auth_mechanism",
    "cacertfile",
    "certfile",
    "channel_max",
    "connection_timeout",
    "frame_max",
    "heartbeat",
    "keyfile",
)


def parse_amqp_uri(uri: str, *, confirms: bool = False) -> Broker:
    """See https://www.rabbitmq.com/docs/uri-spec and uri-query-parameters. Raises ValueError."""
    from kumo_py.net.amqp import Broker

    shown = without_login(uri)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as err:
        raise ValueError(f"'{shown}' is not an AMQP URI: {err}") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError(
            f"'{shown}' is not an AMQP URI: write amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS"
        )
    query = dict(parse_qsl(parts.query))
    for name in query:
        if name not in _PARAMETERS:
            near = nearest(name, _PARAMETERS)
            hint = f"did you mean '{near}'?" if near else f"it may have {', '.join(_PARAMETERS)}"
            raise ValueError(f"'{shown}' has the parameter '{name}', which is unknown; {hint}")
    mechanism = query.get("auth_mechanism", "plain").lower()
    if mechanism not in ("plain", "external"):
        raise ValueError(f"'{shown}': auth_mechanism must be plain or external")
    tls = parts.scheme == "amqps"
    return Broker(
        host=parts.hostname,
        port=port or (5671 if tls else 5672),
        username=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        vhost=unquote(parts.path[1:]) or "/",
        heartbeat=_number(shown, query, "heartbeat", 60, 0, 65535),
        tls=tls,
        authority=query.get("cacertfile"),
        certificate=query.get("certfile"),
        key=query.get("keyfile"),
        external=mechanism == "external",
        confirms=confirms,
        frame_max=_number(shown, query, "frame_max", 131072, 4096, 1 << 31),
        connect_timeout=_number(shown, query, "connection_timeout", int(1000 * CONNECT_TIMEOUT), 1, 1 << 31)
        / 1000,
    )


def _number(shown: str, query: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 11 and least <= int(text) <= most):
        raise ValueError(f"'{shown}': {name} must be {least} to {most}, got '{text}'")
    return int(text)


@client.function("publish", _MESSAGE, result=confirm.type)
async def publish(ctx: LuaContext, handle: AmqpHandle, params: AmqpMessage) -> AmqpConfirm:
    """Send a message, and return what can be waited for: the broker's confirmation."""
    return AmqpConfirm(await _publish(handle, params))


@client.function("publish_with_timeout", _MESSAGE, Param("milliseconds", INTEGER), result=_CONFIRMATION)
async def publish_with_timeout(
    ctx: LuaContext, handle: AmqpHandle, params: AmqpMessage, milliseconds: int
) -> AmqpConfirmation:
    """Send a message and wait for its confirmation; an error if that takes longer."""
    if milliseconds < 0:
        raise ValueError(f"cannot wait for {milliseconds} milliseconds")
    try:
        with trio.fail_after(milliseconds / 1000):
            return _confirmation(await (await _publish(handle, params)).wait())
    except trio.TooSlowError:
        raise ValueError(f"not confirmed within {format_duration(milliseconds / 1000)}") from None


async def _publish(handle: AmqpHandle, params: AmqpMessage) -> Confirmation:
    publication = _publication(params, params.properties, params.options, message_type=params.properties.kind)
    shared = handle.client
    try:
        with trio.fail_after(PUBLISH_TIMEOUT):
            return await shared.publish(publication)
    except trio.TooSlowError:
        limit = format_duration(PUBLISH_TIMEOUT)
        raise ValueError(f"{shared.broker}: the broker took no message for {limit}") from None


@client.function("close", since="2024.09.02-c5476b89")
async def close(ctx: LuaContext, handle: AmqpHandle) -> None:
    """Give the client up, once. Its connection is closed unless another client shares it."""
    if handle.is_closed:
        raise ValueError("client was closed")
    handle.close()


@confirm.function("wait", result=_CONFIRMATION)
async def wait(ctx: LuaContext, this: AmqpConfirm) -> AmqpConfirmation:
    """Wait for the confirmation, once. The status is NotRequested unless the client was made with `confirm_select`."""
    confirmation, this.confirmation = this.confirmation, None
    if confirmation is None:
        raise ValueError("confirmation already taken!?")
    try:
        with trio.fail_after(PUBLISH_TIMEOUT):
            return _confirmation(await confirmation.wait())
    except trio.TooSlowError:
        raise ValueError(f"not confirmed within {format_duration(PUBLISH_TIMEOUT)}") from None


def _confirmation(outcome: Outcome) -> AmqpConfirmation:
    return AmqpConfirmation(status=outcome.status, reply_code=outcome.code, reply_text=outcome.text)
