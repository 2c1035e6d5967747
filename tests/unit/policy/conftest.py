"""A policy from text, and a node that only remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kumo_py.message.message import Message
from kumo_py.policy.context import Limits
from kumo_py.policy.runtime import LuaPolicy

SPOOLED = b"Subject: from the spool\r\n\r\nbody\r\n"


class RecordingHost:
    """Every call as (name, argument)."""

    hostname = "mx.example.com"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def named(self, name: str) -> list[Any]:
        return [argument for called, argument in self.calls if called == name]

    async def start_esmtp_listener(self, params: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(("start_esmtp_listener", params))

    async def start_http_listener(self, params: Any) -> None:
        self.calls.append(("start_http_listener", params))

    async def define_spool(self, config: Any) -> None:
        self.calls.append(("define_spool", config))

    async def configure_local_logs(self, config: Any) -> None:
        self.calls.append(("configure_local_logs", config))

    def configure_resolver(self, config: Any) -> None:
        self.calls.append(("configure_resolver", config))

    async def load_message(self, msg: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(("load_message", msg.id))
        if not msg.meta_loaded:
            msg.sender, msg.recipients, msg.meta = "from@spool.example", ("to@spool.example",), {}
        msg.load_data(SPOOLED)

    def diagnostic(self, level: str, text: str) -> None:
        self.calls.append((level, text))

    def set_diagnostic_filter(self, directives: str) -> None:
        self.calls.append(("filter", directives))


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def policy(tmp_path: Path, host: RecordingHost, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LuaPolicy]:
    """Make a policy of Lua text; it is called policy.lua in errors. Line 1 is `local kumo = …`."""
    monkeypatch.chdir(tmp_path)

    def make(text: str | bytes, *, limits: Limits | None = None, validating: bool = False) -> LuaPolicy:
        head = b"local kumo = require 'kumo'\n"
        path = Path("policy.lua")
        path.write_bytes(head + (text if isinstance(text, bytes) else text.encode()))
        return LuaPolicy(path, host, trio.current_time, limits=limits, validating=validating)

    return make


@pytest.fixture
def msg() -> Message:
    return Message(
        bytes(range(16)),
        "sender@example.com",
        ("user@example.org",),
        {},
        b"From: Me <me@example.com>\r\nSubject: hello\r\n\r\nbody\r\n",
    )
