"""The node: what owns everything else, in which order it starts and stops, as whom it runs."""

from kumo_py.daemon.node import Node, StartupError

__all__ = ["Node", "StartupError"]
