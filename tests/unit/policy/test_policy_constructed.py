"""Objects that a handler made and others call: what `custom_lua` holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.policy.context import Limits

if TYPE_CHECKING:
    from policy_host import MakePolicy

    from kumo_py.message.message import Message

MAKE = "kumo.on('make', function(a, b)\nlocal object = {{ n = 0, a = a, b = b }}\n{}\nreturn object\nend)"


async def test_an_object_keeps_its_state_and_its_context(policy: MakePolicy, msg: Message) -> None:
    lua = policy(
        MAKE.format(
            """
            function object:send(msg, more)
              self.n = self.n + 1
              count = (count or 0) + 1
              return table.concat({ self.n, count, self.a, tostring(self.b), msg:get_meta('k'), #more }, ' ')
            end
            """
        )
    )
    await lua.load()
    msg.set_meta("k", "v")
    first = await lua.construct("make", "x", None)
    second = await lua.construct("make", "y")
    assert await first.call("send", msg, [msg, msg]) == "1 1 x nil v 2"
    assert await second.call("send", msg, []) == "1 1 y nil v 0"  # a global of its own
    assert await first.call("send", msg, []) == "2 2 x nil v 0"
    assert await first.call("close", optional=True) == ""
    first.discard()
    second.discard()


async def test_methods_may_wait_and_reject(policy: MakePolicy, msg: Message) -> None:
    lua = policy(
        MAKE.format(
            """
            function object:send(msg) return msg:get_data():match('^[^\\r]*') end
            function object:close() kumo.reject(451, 'not yet') end
            """
        )
    )
    await lua.load()
    msg.data_saved = True
    msg.shrink_data()
    made = await lua.construct("make")
    assert await made.call("send", msg) == "Subject: from the spool"
    with pytest.raises(Rejection, match="451 not yet"):
        await made.call("close", optional=True)
    assert await made.call("send", msg) == "Subject: from the spool"
    made.discard()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "function object:sned() end",
            "make:send: the object has no method 'send': define `function object:send",
        ),
        ("object.send = 'x'", "has no method 'send'"),
        (
            "function object:send() end",
            r"make:send: the method at .*policy.lua:\d+ must return a string, got nothing",
        ),
        ("function object:send() return nil end", r"policy.lua:\d+ must be a string, got nil"),
        ("function object:send() error('oops') end", r"make:send: .*policy.lua:\d+: oops"),
        (
            "function object:send() kumo.on('x', function() end) end",
            "is called in the handler of 'make:send'",
        ),
    ],
)
async def test_errors_name_the_method_and_its_place(policy: MakePolicy, method: str, said: str) -> None:
    lua = policy(MAKE.format(method))
    await lua.load()
    made = await lua.construct("make")
    with pytest.raises(PolicyError, match=said):
        await made.call("send")
    made.discard()


async def test_a_method_that_spins_is_stopped_and_the_object_is_gone(policy: MakePolicy) -> None:
    lua = policy(MAKE.format("function object:send() while true do end end"), limits=Limits(cpu_seconds=0.05))
    await lua.load()
    made = await lua.construct("make")
    with pytest.raises(PolicyError, match=r"stopped after 0\.05 s of CPU time"):
        await made.call("send")
    with pytest.raises(PolicyError, match="the object is gone"):
        await made.call("send")
    assert await made.call("close", optional=True) == ""
    made.discard()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"there is no handler for 'make': register one with kumo.on\('make'"),
        ("kumo.on('make', function() end)", r"policy.lua:\d+ must return a table with methods, got nil"),
        ("kumo.on('make', function() return 7 end)", "must return a table with methods, got number 7"),
        ("kumo.on('make', function() error('oops') end)", r"make: .*policy.lua:\d+: oops"),
    ],
)
async def test_constructors_that_make_nothing(policy: MakePolicy, text: str, said: str) -> None:
    lua = policy(text)
    await lua.load()
    with pytest.raises(PolicyError, match=said):
        await lua.construct("make")
