"""What an endpoint gets: one request, and all that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kumo_py.admin.body import json_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kumo_py.admin.exchange import Request
    from kumo_py.admin.node import Node
    from kumo_py.admin.shared import Shared
    from kumo_py.policy.params import HttpListenerParams

T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """A request to an endpoint, by somebody who may use it."""

    request: Request
    query: Mapping[str, str]
    node: Node
    shared: Shared
    params: HttpListenerParams

    async def json(self, type_: type[T]) -> T:
        """The body as `type_`. Raises Refusal."""
        return await json_body(self.request, type_, self.params.request_body_limit)
