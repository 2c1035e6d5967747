"""Fixtures of the session tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from smtp_in_harness import MakeNode, Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def smtp_node() -> AsyncIterator[MakeNode]:
    """Makes nodes: `smtp_node(handlers, option=value, ...)`; they end with the test."""
    async with trio.open_nursery() as nursery:
        yield lambda *args, **options: Node(nursery, *args, **options)
        nursery.cancel_scope.cancel()
