"""The mail servers that are measured, one program per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aiosmtpd import Aiosmtpd
from .exim import Exim
from .haraka import Haraka
from .kumo_py import KumoPy
from .postfix import Postfix
from .smtp_server import SmtpServer
from .smtp_sink import SmtpSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..peer import Peer

PEERS: tuple[type[Peer], ...] = (KumoPy, Postfix, Haraka, Exim, Aiosmtpd, SmtpServer, SmtpSink)


def choose(names: str) -> list[Peer]:
    """The peers of a comma-separated list, or `all`; kumo-py is always one. Raises ValueError."""
    known = {peer.name: peer for peer in PEERS}
    wanted = list(known) if names == "all" else [name for name in names.split(",") if name]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no peer is named {', '.join(unknown)}; there are {', '.join(known)}, or all")
    return [known[name]() for name in dict.fromkeys([KumoPy.name, *wanted])]


def with_workload(peers: Sequence[Peer], workload: str) -> list[Peer]:
    return [peer for peer in peers if workload in peer.workloads]
