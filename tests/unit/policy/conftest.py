"""A policy from text, its host, and a message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from policy_host import RecordingHost

from kumo_py.message.message import Message
from kumo_py.policy import LuaPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policy_host import MakePolicy

    from kumo_py.policy.context import Limits


@pytest.fixture
def host() -> Iterator[RecordingHost]:
    made = RecordingHost()
    yield made
    made.policy = None  # compiled templates hold the host where no garbage collector looks


@pytest.fixture
def policy(tmp_path: Path, host: RecordingHost, monkeypatch: pytest.MonkeyPatch) -> MakePolicy:
    """Make a policy of Lua text; it is called policy.lua in errors. Line 1 is `local kumo = …`."""
    monkeypatch.chdir(tmp_path)

    def make(text: str | bytes, *, limits: Limits | None = None, validating: bool = False) -> LuaPolicy:
        head = b"local kumo = require 'kumo'\n"
        path = Path("policy.lua")
        path.write_bytes(head + (text if isinstance(text, bytes) else text.encode()))
        host.policy = LuaPolicy(path, host, trio.current_time, limits=limits, validating=validating)
        return host.policy

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
