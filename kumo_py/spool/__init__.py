"""The spool: messages on disk between reception and disposition.

A node has two, `data` and `meta`, each a `Spool` made by `open_spool` from what the policy gave to
`kumo.define_spool`. What `wait_durable` has confirmed survives a crash of the process, and with `flush` of the
machine, until `remove`; what it has refused leaves nothing behind.
"""

from __future__ import annotations

from kumo_py.spool.config import RocksParams, SpoolConfig
from kumo_py.spool.errors import SpoolError
from kumo_py.spool.file_ops import FileOps
from kumo_py.spool.open import open_spool
from kumo_py.spool.store import Spool

__all__ = ["FileOps", "RocksParams", "Spool", "SpoolConfig", "SpoolError", "open_spool"]
