"""The node's HTTP listener: injection, administration, metrics. KumoMTA's paths, fields and access rules."""

from kumo_py.admin.listeners import HttpListeners

__all__ = ["HttpListeners"]
