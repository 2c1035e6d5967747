"""The whole of what a policy can name, put together from the modules."""

from __future__ import annotations

from kumo_py.policy.events import EVENTS
from kumo_py.policy.modules import message_queueing  # noqa: F401 - it adds to the message
from kumo_py.policy.modules.connection import connection
from kumo_py.policy.modules.crypto import crypto
from kumo_py.policy.modules.dns import dns
from kumo_py.policy.modules.http import KINDS as HTTP_KINDS
from kumo_py.policy.modules.http import http
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.modules.memoize import memo_cache
from kumo_py.policy.modules.message import message
from kumo_py.policy.modules.secrets import secrets
from kumo_py.policy.modules.serde import serde
from kumo_py.policy.modules.shaping import data as shaping_data
from kumo_py.policy.modules.shaping import shaping
from kumo_py.policy.modules.template import string
from kumo_py.policy.modules.time import time
from kumo_py.policy.registry import Registry


def build_registry() -> Registry:
    """All declarations; parents before their sub-modules."""
    modules = [
        kumo,
        crypto,
        dns,
        http,
        secrets,
        serde,
        shaping,
        string,
        time,
    ]
    kinds = [
        connection,
        http_client,
        http_header_map,
        http_request,
        http_response,
        memo_cache,
        message,
        shaping_data,
        websocket,
    ]
    modules = [
        kumo,
        crypto,
        dns,
        http,
        secrets,
        serde,
        string,
        time,
        shaping,
        crypto,
        http,
        secrets,
    ]
    kinds = [
        message,
        connection,
        shaping_data,
        *HTTP_KINDS,
    ]
    return Registry(modules, kinds, EVENTS)
