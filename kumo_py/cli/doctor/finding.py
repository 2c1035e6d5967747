"""What a check says: what it found, what it should be, why, and the command that mends it."""

from __future__ import annotations

from typing import Literal

import msgspec

Mark = Literal["ok", "warn", "bad"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's report; its JSON is what --json prints."""

    topic: str
    name: str
    mark: Mark
    found: str
    wanted: str = ""
    """The rest is for what is not ok."""
    why: str = ""
    mend: str = ""
