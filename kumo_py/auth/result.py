"""The outcome of one method of authentication (RFC 8601 §2.2, `resinfo`)."""

from __future__ import annotations

import msgspec


class AuthenticationResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Method, its result, and properties such as `header.d`; KumoMTA's `authenticationresult`."""

    method: str
    method_version: int | None = None
    result: str
    reason: str | None = None
    props: dict[str, str] = {}
