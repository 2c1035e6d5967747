"""The receive side of the MTA: listeners and their ESMTP sessions."""

from kumo_py.smtp_in.listener import Listener
from kumo_py.smtp_in.services import Queues, Reports, Services

__all__ = ["Listener", "Queues", "Reports", "Services"]
