"""kumo.prometheus_metrics; what is in it, tests/daemon/test_http_listener.py says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def test_metrics(policy: MakePolicy) -> None:
    lua = policy("kumo.on('get_it', function() return kumo.prometheus_metrics() end)")
    await lua.load()
    assert await lua.ask("get_it") == {"lua_count": {"help": "contexts", "type": "gauge", "value": 1}}
