"""msg:set_due, msg:set_scheduling and msg:import_scheduling_header."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError
from kumo_py.message.connection import ConnectionMeta

if TYPE_CHECKING:
    from policy_host import MakePolicy
    from trio.testing import MockClock

    from kumo_py.message.message import Message

# The host's time is 2027-01-15T08:00:00Z, a Friday.


async def run(policy: MakePolicy, msg: Message, body: str) -> None:
    lua = policy(f"kumo.on('smtp_server_message_received', function(msg)\n{body}\nend)")
    await lua.load()
    await lua.ask("smtp_server_message_received", msg, ConnectionMeta({}))


def due(msg: Message) -> str:
    return datetime.fromtimestamp(msg.due, UTC).isoformat()


async def test_set_due_answers_what_is_in_force(
    policy: MakePolicy, autojump_clock: MockClock, msg: Message
) -> None:
    await run(
        policy,
        msg,
        """
        assert(msg:set_due('2027-03-08T18:51:42.5+01:00') == '2027-03-08T17:51:42.500000Z')
        msg:set_scheduling { first_attempt = '2027-04-01T00:00:00Z' }
        assert(msg:set_due('2027-03-08T18:51:42Z') == '2027-04-01T00:00:00Z')
        assert(msg:set_due(nil) == '2027-04-01T00:00:00Z')
        msg:set_scheduling(nil)
        assert(msg:set_due(nil) == nil)
        """,
    )
    assert msg.due == 0.0
    with pytest.raises(
        PolicyError, match=r"policy.lua:3: message:set_due: 'tomorrow' is not an RFC 3339 time"
    ):
        await run(policy, msg, "msg:set_due('tomorrow')")


async def test_set_scheduling_moves_the_due_time(
    policy: MakePolicy, autojump_clock: MockClock, msg: Message
) -> None:
    await run(
        policy,
        msg,
        """
        local s = msg:set_scheduling {
          dow = 'Monday,wed', tz = 'America/Phoenix', start = '09:00', ['end'] = '17:00:00',
          expires = '2027-02-01T00:00:00Z',
        }
        assert(s.dow == 'Mon,Wed' and s.tz == 'America/Phoenix' and s.start == '09:00:00')
        assert(s['end'] == '17:00:00' and s.expires == '2027-02-01T00:00:00Z' and s.first_attempt == nil)
        """,
    )
    assert due(msg) == "2027-01-18T16:00:00+00:00"
    assert msg.schedule is not None
    assert not msg.meta_saved
    await run(policy, msg, "assert(msg:set_scheduling(nil) == nil)")
    assert msg.schedule is None
    assert (
        due(msg) == "2027-01-18T16:00:00+00:00"
    )  # as in KumoMTA, clearing it does not move the due time back


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ("{ dow = 'Mon' }", "a delivery window needs dow, tz, start and end: tz, start, end are missing"),
        ("{ first_atempt = 'x' }", "unknown option 'first_atempt' (did you mean 'first_attempt'?)"),
        ("{ first_attempt = '2027-01-01' }", "option 'first_attempt': '2027-01-01' is not an RFC 3339 time"),
        ("'Mon'", "argument 'schedule' must be a table of options, got string 'Mon'"),
    ],
)
async def test_a_wrong_schedule_is_explained(
    policy: MakePolicy, msg: Message, table: str, error: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, msg, f"msg:set_scheduling({table})")
    assert f"policy.lua:3: message:set_scheduling: {error}" in str(caught.value)
    assert msg.schedule is None


async def test_a_header_may_hold_the_schedule(
    policy: MakePolicy, autojump_clock: MockClock, msg: Message
) -> None:
    header = b'X-Schedule: {"first_attempt":\r\n "2027-02-01T12:00:00Z"}\r\n'
    msg.set_data(header + b"Subject: x\r\n\r\nbody")
    await run(
        policy,
        msg,
        """
        assert(msg:import_scheduling_header('X-Other', true) == nil)
        assert(msg:import_scheduling_header('x-schedule').first_attempt == '2027-02-01T12:00:00Z')
        """,
    )
    assert due(msg) == "2027-02-01T12:00:00+00:00"
    assert msg.data.startswith(header)
    await run(policy, msg, "msg:import_scheduling_header('X-Schedule', true)")
    assert msg.data == b"Subject: x\r\n\r\nbody"


async def test_a_header_that_holds_no_schedule_is_an_error(policy: MakePolicy, msg: Message) -> None:
    msg.set_data(b'A: {"dow"\r\nB: {"dow":"Mon"}\r\n\r\n')
    for name, error in (
        ("A", "the header A: not JSON: "),
        ("B", "the header B: a delivery window needs dow, tz"),
    ):
        with pytest.raises(PolicyError) as caught:
            await run(policy, msg, f"msg:import_scheduling_header('{name}', true)")
        assert f"policy.lua:3: message:import_scheduling_header: {error}" in str(caught.value)
    assert msg.data.startswith(b"A:")
