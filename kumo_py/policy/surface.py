"""The whole of what a policy can name, put together from the modules."""

from __future__ import annotations

from kumo_py.policy.events import EVENTS
from kumo_py.policy.modules.connection import connection
from kumo_py.policy.modules.dns import dns
from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.modules.message import message
from kumo_py.policy.modules.serde import serde
from kumo_py.policy.modules.shaping import data as shaping_data
from kumo_py.policy.modules.shaping import shaping
from kumo_py.policy.modules.template import string
from kumo_py.policy.modules.time import time
from kumo_py.policy.registry import Registry


def build_registry() -> Registry:
    """All declarations; parents before their sub-modules."""
    return Registry([kumo, dns, serde, string, time, shaping], [message, connection, shaping_data], EVENTS)
