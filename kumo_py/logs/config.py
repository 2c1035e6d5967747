"""Options of the delivery log in files (KumoMTA `kumo.configure_local_logs`)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from kumo_py.core.duration import Duration
from kumo_py.logs.disk_space import MinFree

RecordKey = Literal[
    "Reception",
    "Delivery",
    "Bounce",
    "TransientFailure",
    "Expiration",
    "AdminBounce",
    "OOB",
    "Feedback",
    "Rejection",
    "AdminRebind",
    "DeferredInjectionRebind",
    "Delayed",
    "XferOut",
    "XferIn",
    "Any",
]
"""A RecordType, or Any: every type that is not named itself."""

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]


class PerRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs for one type of record. log_dir: None is the logger's own."""

    suffix: str | None = None
    log_dir: str | None = None
    enable: bool = True
    template: str | None = None
    segment_header: str = ""

    def __post_init__(self) -> None:
        if self.template is not None:
            raise ValueError("'template' is not supported yet; without it the record is logged as JSON")


class LocalLogsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes in uncompressed bytes; compression_level 0 is zstd's default; back_pressure in records."""

    log_dir: str
    max_file_size: PositiveInt = 1_000_000_000
    max_segment_duration: Duration | None = None
    back_pressure: PositiveInt = 128_000
    compression_level: Annotated[int, msgspec.Meta(ge=0, le=21)] = 0
    meta: list[str] = []
    headers: list[str] = []
    per_record: dict[RecordKey, PerRecord] = {}
    filter_event: str | None = None
    min_free_space: MinFree = MinFree(10, is_percent=True)
    min_free_inodes: MinFree = MinFree(10, is_percent=True)
