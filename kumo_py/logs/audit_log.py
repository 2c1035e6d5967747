"""The audit log: who logged in or tried to, and who was allowed what (KumoMTA `kumo.aaa.configure_acct_log`).

Segments as those of the delivery log, with names that begin with `acct-`; each line is a JSON object with KumoMTA's
fields. The delivery log owns it: it tends the writer, and closes it last.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import structlog

from kumo_py.core.duration import Duration  # noqa: TC001  (msgspec reads it)
from kumo_py.logs.config import Options, PositiveInt
from kumo_py.logs.disk_space import MinFree
from kumo_py.logs.json_text import to_json
from kumo_py.logs.segment import SegmentWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from kumo_py.core.acl import AuthInfo, Decision, Identity

log = structlog.get_logger("kumo_py.logs.audit_log")


class AuditLogConfig(Options, frozen=True):
    """`kumo.aaa.configure_acct_log`. Sizes in uncompressed bytes; back_pressure in records."""

    log_dir: str
    """Where segments are written; made if it is not there."""
    max_file_size: PositiveInt = 1_000_000_000
    """Bytes of a segment before compression."""
    max_segment_duration: Duration | None = None
    """How long a segment is written to."""
    back_pressure: PositiveInt = 128_000
    """Records that wait while the disk fails before whoever asks for access has to wait."""
    compression_level: Annotated[int, msgspec.Meta(ge=0, le=21)] = 0
    """Of zstd; 0 is its default."""
    min_free_space: MinFree = MinFree(10, is_percent=True)
    """With less free space mail is refused."""
    min_free_inodes: MinFree = MinFree(10, is_percent=True)
    """With fewer free inodes mail is refused."""
    log_authz_allow: bool = True
    """Whether it is logged that access was allowed."""
    log_authz_deny: bool = True
    """Whether it is logged that access was denied."""
    log_authn_ok: bool = True
    """Whether logins are logged."""
    log_authn_fail: bool = True
    """Whether attempts to log in that failed are logged."""


class AuditLog:
    """One per node. clock: Unix seconds; drained: where whoever has to wait waits."""

    def __init__(
        self,
        config: AuditLogConfig,
        clock: Callable[[], float],
        wake: Callable[[], None],
        drained: trio.lowlevel.ParkingLot,
    ) -> None:
        self._config = config
        self._clock = clock
        self._drained = drained
        self._is_closed = False
        self.writer = SegmentWriter(
            config.log_dir,
            "",
            prefix="acct-",
            compression_level=config.compression_level,
            max_size=config.max_file_size,
            max_duration=config.max_segment_duration,
            clock=clock,
            wake=wake,
        )
        self.directory = config.log_dir
        self.min_free_space = config.min_free_space
        self.min_free_inodes = config.min_free_inodes

    async def authenticated(self, attempted: Identity, auth: AuthInfo, *, success: bool) -> None:
        """Somebody said who they are. auth: what is known of them now."""
        if self._config.log_authn_ok if success else self._config.log_authn_fail:
            await self._append(
                {
                    "type": "Authentication",
                    "timestamp": self._now(),
                    "attempted_identity": attempted,
                    "success": success,
                    "auth_info": auth,
                }
            )

    async def authorized(self, resource: str, privilege: str, auth: AuthInfo, decision: Decision) -> None:
        """Somebody asked for access to a resource."""
        if self._config.log_authz_allow if decision.allows else self._config.log_authz_deny:
            rule = decision.rule
            await self._append(
                {
                    "type": "Authorization",
                    "timestamp": self._now(),
                    "target_resource": resource,
                    "privilege": privilege,
                    "access": "Allow" if decision.allows else "Deny",
                    "matching_resource": decision.resource,
                    "rule": None if rule is None else rule.to_option(),
                    "auth_info": auth,
                    "considered_resources": decision.considered,
                }
            )

    def close(self) -> None:
        """Write everything and end the segment."""
        self._is_closed = True
        self.writer.finish()

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat().replace("+00:00", "Z")

    async def _append(self, record: dict[str, object]) -> None:
        writer, limit = self.writer, self._config.back_pressure
        while not self._is_closed and writer.failing and writer.waiting >= limit:
            await self._drained.park()
        if self._is_closed:
            log.error("an audit record is lost: the log is closed")
            return
        writer.append(to_json(record) + b"\n")
