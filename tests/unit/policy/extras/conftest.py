"""Helpers from policy-extras, used in policies; what they print goes to the host's log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from policy_host import MakePolicy, RecordingHost


class Run(Protocol):
    """Load a policy, run `code` as its event `mine`, and return the result. `top` is at the top level."""

    async def __call__(self, code: str, *, top: str = "") -> Any: ...


class Validate(Protocol):
    """What a policy prints when it is validated, line by line; "" alone if it calls it unfit without a word."""

    async def __call__(self, top: str) -> list[str]: ...


class Write(Protocol):
    """Write a file into the policy's directory."""

    def __call__(self, name: str, text: str) -> None: ...


@pytest.fixture
def write(policy: MakePolicy) -> Write:
    def written(name: str, text: str) -> None:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)

    return written


@pytest.fixture
def run(policy: MakePolicy) -> Run:
    async def asked(code: str, *, top: str = "") -> Any:
        lua = policy(f"{top}\nkumo.on('mine', function(...)\n{code}\nend)")
        await lua.load()
        return await lua.ask("mine")

    return asked


@pytest.fixture
def validate(policy: MakePolicy, host: RecordingHost) -> Validate:
    async def printed(top: str) -> list[str]:
        lua = policy(f"function print(...) kumo.log_info(...) end\n{top}", validating=True)
        await lua.load()
        await lua.ask("init")
        await lua.ask("validate_config")
        text = "\n".join(line.partition(": ")[2] for line in host.named("info"))
        failed = bool(host.named("validation_failed"))
        assert failed == ("ERROR: " in text)
        return [
            line.removeprefix("ERROR: ")
            for line in text.splitlines()
            if line.startswith(("ERROR", "WARN", " "))
        ]

    return printed
