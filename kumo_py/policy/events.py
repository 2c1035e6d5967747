"""The events that a node fires, with their arguments and results (KumoMTA's events, ../compat: events).

An event that is not listed may be handled and asked too: hooks, filters, constructors and tasks are named by
their user. Its arguments are passed as what they are, its result is plain data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.options import to_builtins
from kumo_py.policy.params import AuthInfo
from kumo_py.policy.registry import Event, Param
from kumo_py.policy.types import (
    ACL,
    ADDRESS,
    BOOLEAN,
    CONNECTION,
    INTEGER,
    MESSAGE,
    TEXT,
    TIME_DELTA,
    VALUE,
    ConfigObject,
    ListOf,
    LuaType,
    OneOf,
    OptionTable,
    Values,
)
from kumo_py.queue.config import EgressPath, EgressPool, EgressSource, QueueConfig
from kumo_py.smtp_in.params import ListenerDomain, ListenerOverrides

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue

_MSG = Param("msg", MESSAGE)
_CONN = Param("conn_meta", CONNECTION)


class _AuthInfo(OptionTable):
    """Checked as the struct, handed on as plain data."""

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        return to_builtins(super().from_lua(ctx, raw, what))


_AUTH_RESULT = OneOf(BOOLEAN, _AuthInfo(AuthInfo))

QUEUE_CONFIG = ConfigObject(QueueConfig, "kumo.make_queue_config")
EGRESS_PATH = ConfigObject(EgressPath, "kumo.make_egress_path")
EGRESS_POOL = ConfigObject(EgressPool, "kumo.make_egress_pool")
EGRESS_SOURCE = ConfigObject(EgressSource, "kumo.make_egress_source")
LISTENER_DOMAIN = ConfigObject(ListenerDomain, "kumo.make_listener_domain")


def _event(
    name: str,
    doc: str,
    *params: Param,
    result: LuaType | None = None,
    since: str = "-",
    **rules: bool,
) -> Event:
    return Event(name, params, result, doc, since, **rules)


def _text(name: str) -> Param:
    return Param(name, TEXT)


def _optional_text(name: str) -> Param:
    return Param(name, TEXT, optional=True)


EVENTS = (
    _event(
        "pre_init", "After the policy has loaded, before init.", since="2023.11.28-b5252a41", multiple=True
    ),
    _event("init", "Once at start: define spools, logs and listeners."),
    _event("validate_config", "With --validate, after init.", multiple=True),
    _event(
        "main",
        "The entry point of a script; its arguments are the script's.",
        Param("args", TEXT, rest=True),
    ),
    _event("shutdown_logging", "At shutdown, before the loggers stop.", since="2025.10.06-5ec871ab"),
    _event(
        "get_listener_domain",
        "What a listener may do for a domain: asked for the sender's and the recipient's at RCPT and after DATA.",
        _text("domain"),
        _text("listener"),
        _CONN,
        result=LISTENER_DOMAIN,
    ),
    _event(
        "smtp_server_get_dynamic_parameters",
        "Listener options for one session: before the banner, and after XCLIENT or a PROXY header.",
        _text("listener"),
        _CONN,
        result=OptionTable(ListenerOverrides),
        since="2025.05.06-b29689af",
    ),
    _event("smtp_server_connection_accepted", "Before the 220.", _CONN, since="2025.05.06-b29689af"),
    _event(
        "smtp_server_ehlo",
        "On EHLO (with the list of extensions, which the result replaces) and HELO, before the reply.",
        _text("domain"),
        _CONN,
        Param("extensions", ListOf(TEXT), optional=True),
        result=ListOf(TEXT),
    ),
    _event("smtp_server_mail_from", "On MAIL FROM.", Param("sender", ADDRESS), _CONN),
    _event(
        "smtp_server_rcpt_to", "On RCPT TO, after relay and limit checks.", Param("recipient", ADDRESS), _CONN
    ),
    _event(
        "smtp_server_data",
        "Once per DATA with all recipients, before trace headers and splitting.",
        _MSG,
        _CONN,
        since="2025.12.02-67ee9e96",
    ),
    _event(
        "smtp_server_split_transaction",
        "After smtp_server_data: the recipients of each batch, or nil for the listener's batch_handling.",
        _MSG,
        _CONN,
        result=ListOf(ListOf(ADDRESS)),
        since="2025.12.02-67ee9e96",
    ),
    _event("smtp_server_message_received", "For each batch, after Received: was added.", _MSG, _CONN),
    _event(
        "smtp_server_message_deferred_inject",
        "For each message of a listener with deferred_queue, after the client was answered.",
        _MSG,
        _CONN,
        since="2025.01.23-7273d2bc",
    ),
    _event(
        "smtp_server_auth_plain",
        "AUTH PLAIN over TLS: true, false, or whom the login speaks for.",
        _text("authz"),
        _text("authc"),
        _text("password"),
        _CONN,
        result=_AUTH_RESULT,
    ),
    _event(
        "smtp_server_rewrite_response",
        "Before every SMTP reply: another status, another text, or nil for either.",
        Param("status", INTEGER),
        _text("response"),
        _optional_text("command"),
        _CONN,
        result=Values(INTEGER, TEXT),
        since="2025.12.02-67ee9e96",
    ),
    _event(
        "get_queue_config",
        "When a scheduled queue is made or refreshed; without a result it has the defaults.",
        _text("domain"),
        _optional_text("tenant"),
        _optional_text("campaign"),
        _optional_text("routing_domain"),
        result=QUEUE_CONFIG,
        not_nil=True,
        multiple=True,
    ),
    _event(
        "get_egress_path_config",
        "When a ready queue is made or refreshed; without a handler it has the defaults.",
        _text("routing_domain"),
        _text("egress_source"),
        _text("site_name"),
        result=EGRESS_PATH,
        not_nil=True,
    ),
    _event(
        "get_egress_pool",
        "When a pool is not cached.",
        _text("pool_name"),
        result=EGRESS_POOL,
        not_nil=True,
        required=True,
    ),
    _event(
        "get_egress_source",
        "When a source is not cached.",
        _text("source_name"),
        result=EGRESS_SOURCE,
        not_nil=True,
        required=True,
    ),
    _event(
        "throttle_insert_ready_queue",
        "Before a message enters a ready queue; a later due time delays it.",
        _MSG,
        since="2024.11.08-d383b033",
        multiple=True,
    ),
    _event(
        "requeue_message",
        "Before a message goes back after a transient failure; a change of its queue makes it due now.",
        _MSG,
        _text("response"),
        Param("insert_context", ListOf(TEXT)),
        Param("increment_attempts", BOOLEAN),
        Param("delay", TIME_DELTA, optional=True),
        since="2024.11.08-d383b033",
        multiple=True,
    ),
    _event(
        "rebind_message",
        "An administrator's rebind that asks for the event.",
        _MSG,
        Param("data", VALUE),
        since="2024.09.02-c5476b89",
    ),
    _event("spool_message_enumerated", "For each spooled message at start.", _MSG),
    _event(
        "http_message_generated",
        "For each recipient of an HTTP injection, before it is queued.",
        _MSG,
        Param("auth_info", VALUE),
    ),
    _event(
        "http_server_validate_auth_basic",
        "A basic authorization header: true, false, or whom the login speaks for.",
        _text("user"),
        _optional_text("password"),
        result=_AUTH_RESULT,
    ),
    _event(
        "http_server_validate_auth_bearer",
        "A bearer authorization header: true, false, or whom the token speaks for.",
        _text("token"),
        result=_AUTH_RESULT,
    ),
    _event(
        "xfer_message_received",
        "A message from another node, before it is queued.",
        _MSG,
        Param("auth_info", VALUE),
        since="2025.12.02-67ee9e96",
    ),
    _event(
        "get_acl_definition",
        "The access control list of a resource, or nil for kumo-py's own rules.",
        _text("resource"),
        result=ACL,
        since="2026.03.04-bb93ecb1",
        multiple=True,
    ),
    _event(
        "should_enqueue_log_record",
        "Whether a log hook takes the record that is the message.",
        _MSG,
        _text("hook_name"),
        result=BOOLEAN,
        multiple=True,
    ),
    _event(
        "smtp_client_rewrite_delivery_status",
        "After a remote rejection: another code, or nil.",
        _text("response"),
        _text("domain"),
        _optional_text("tenant"),
        _optional_text("campaign"),
        _optional_text("routing_domain"),
        result=INTEGER,
        since="2023.11.28-b5252a41",
    ),
)
