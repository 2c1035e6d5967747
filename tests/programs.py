"""Programs that tests talk to: a test skips where one is missing, or fails with KUMO_PY_REQUIRE_PEERS=1."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def absent(reason: str) -> NoReturn:
    """Ends a test whose surroundings lack something: skipped, or failed where all must be there."""
    if os.environ.get("KUMO_PY_REQUIRE_PEERS") == "1":
        pytest.fail(f"{reason}, and KUMO_PY_REQUIRE_PEERS=1 says that it must be", pytrace=False)
    pytest.skip(reason)


def require_program(name: str) -> str:
    """The program's path."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    return path or absent(f"{name} is not installed")
