"""The outcome of one method of authentication: its old place; use kumo_py.message.authentication_results."""

from __future__ import annotations

from kumo_py.message.authentication_results import AuthenticationResult

__all__ = ("AuthenticationResult",)
