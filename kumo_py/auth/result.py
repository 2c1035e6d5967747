"""The outcome of one method of authentication (RFC 8601 §2.2, `resinfo`)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class AuthenticationResult:
    """Method, its result, and properties such as `header.d`; KumoMTA's `authenticationresult`."""

    method: str
    result: str
    method_version: int | None = None
    reason: str | None = None
    props: dict[str, str] = field(default_factory=dict)
