"""Injection: requests that are expanded into messages, by templates, for many recipients (KumoMTA's inject API).

The policy (`kumo.api.inject`) and the HTTP API share it.
"""

from kumo_py.inject.generator import Generator
from kumo_py.inject.injector import Injector, InjectResult
from kumo_py.inject.origin import Origin, local_system
from kumo_py.inject.request import ContentError, InjectRequest

__all__ = [
    "ContentError",
    "Generator",
    "InjectRequest",
    "InjectResult",
    "Injector",
    "Origin",
    "local_system",
]
