"""What the HTTP listeners of a node share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.admin.access import Authentication
from kumo_py.admin.metrics.residents import Residents
from kumo_py.admin.survey import Survey

if TYPE_CHECKING:
    from kumo_py.admin.node import Node
    from kumo_py.queue.operations import Operation


class Shared:
    """One per node."""

    def __init__(self, node: Node) -> None:
        self.authentication = Authentication(node)
        node.capacities.adopt_cache(self.authentication.kept)
        self.survey = Survey()
        self.residents = Residents()
        self.operations: dict[str, Operation] = {}
        """The last requests to flush, hold, release or delete messages, by id."""
        self.injected = 0
        """Messages that were taken over HTTP."""
