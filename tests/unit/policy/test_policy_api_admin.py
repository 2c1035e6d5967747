"""kumo.api.admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from policy_host import run

from kumo_py.core.policy import PolicyError
from kumo_py.message.queue_name import QueueName

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost
    from trio.testing import MockClock


async def test_suspending_scheduled_queues(
    policy: MakePolicy, host: RecordingHost, autojump_clock: MockClock
) -> None:
    id, listed = await run(
        policy,
        """
        local id = kumo.api.admin.suspend.suspend {
          campaign = 'c', tenant = 't', domain = 'd.test', reason = 'why', duration = '1 hour',
        }
        return { id, kumo.api.admin.suspend.list() }
        """,
    )
    assert listed == [
        {
            "id": id,
            "campaign": "c",
            "tenant": "t",
            "domain": "d.test",
            "queue_names": [],
            "reason": "why",
            "duration": "1h",
        }
    ]
    assert host.admin.suspension_of("c:t@d.test", QueueName.parse("c:t@d.test")) is not None
    assert host.admin.suspension_of("t@d.test", QueueName.parse("t@d.test")) is None
    code = f"return {{ kumo.api.admin.suspend.delete '{id}', kumo.api.admin.suspend.delete '{id}' }}"
    assert await run(policy, code) == [True, False]
    assert not host.admin


async def test_suspending_a_ready_queue(
    policy: MakePolicy, host: RecordingHost, autojump_clock: MockClock
) -> None:
    id, listed = await run(
        policy,
        """
        local q = kumo.api.admin.suspend_ready_q
        local id = q.suspend { name = 's->mx.test@smtp_client', reason = 'why', expires = '2027-01-15T08:00:10Z' }
        return { id, q.list() }
        """,
    )
    assert [(entry["id"], entry["name"], entry["duration"], entry["expires"]) for entry in listed] == [
        (id, "s->mx.test@smtp_client", "10s", "2027-01-15T08:00:10Z")
    ]
    assert host.admin.ready_suspended("s->mx.test@smtp_client")
    await trio.sleep(10)
    assert not host.admin.ready_suspended("s->mx.test@smtp_client")
    assert await run(policy, "return kumo.api.admin.suspend_ready_q.list()") == []
    assert await run(policy, f"return kumo.api.admin.suspend_ready_q.delete '{id}'") is False


async def test_bouncing(policy: MakePolicy, host: RecordingHost, autojump_clock: MockClock) -> None:
    id, listed = await run(
        policy,
        """
        local id = kumo.api.admin.bounce.bounce { routing_domain = 'r.test', queue_names = {}, reason = 'why' }
        return { id, kumo.api.admin.bounce.list() }
        """,
    )
    (entry,) = listed
    assert not entry.pop("bounced")
    assert entry == {
        "id": id,
        "routing_domain": "r.test",
        "queue_names": [],
        "reason": "why",
        "duration": "5m",
        "total_bounced": 0,
    }
    assert host.admin.bounce_of("d.test!r.test", QueueName.parse("d.test!r.test")) is not None
    assert await run(policy, f"return kumo.api.admin.bounce.delete '{id}'") is True


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.api.admin.suspend.suspend { domian = 'x', reason = 'y' }", "(did you mean 'domain'?)"),
        ("kumo.api.admin.bounce.bounce {}", "option 'reason' is required"),
        ("kumo.api.admin.suspend_ready_q.suspend { reason = 'y' }", "option 'name' is required"),
        (
            "kumo.api.admin.bounce.delete 'x'",
            "'x' is not an id: it must be one that suspend or bounce returned",
        ),
        ("kumo.api.admin.suspnd.list()", "did you mean kumo.api.admin.suspend?"),
    ],
)
async def test_mistakes(code: str, problem: str, policy: MakePolicy) -> None:
    with pytest.raises(PolicyError) as raised:
        await run(policy, code)
    assert problem in str(raised.value)
    assert "policy.lua:3: " in str(raised.value)
