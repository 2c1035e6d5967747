"""The whole of what a policy can name: every Owner and Kind that stands in a file of `modules/`."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from kumo_py.policy import modules
from kumo_py.policy.events import EVENTS
from kumo_py.policy.registry import Kind, Owner, Registry


def build_registry() -> Registry:
    """All declarations, in the order of their names."""
    found: dict[str, Owner] = {}
    for info in pkgutil.iter_modules(modules.__path__):
        for value in vars(import_module(f"{modules.__name__}.{info.name}")).values():
            if isinstance(value, Owner):
                found[value.name] = value
    owners = [found[name] for name in sorted(found)]
    kinds = [owner for owner in owners if isinstance(owner, Kind)]
    return Registry([owner for owner in owners if owner not in kinds], kinds, EVENTS)
