"""Options of what takes delivery log records: files, hooks, disposition hooks; and of the bounce classifier."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from kumo_py.core.duration import Duration
from kumo_py.core.templates import Templates
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


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all option tables: unknown keys are errors."""


class PerRecord(Options, frozen=True):
    """What differs for one type of record. log_dir: None is the logger's own. template: Jinja; None is JSON."""

    suffix: str | None = None
    log_dir: str | None = None
    enable: bool = True
    template: str | None = None
    segment_header: str = ""

    def __post_init__(self) -> None:
        if self.template is not None:
            Templates(lambda: 0.0).compile("template", self.template)


class LocalLogsConfig(Options, frozen=True):
    """`kumo.configure_local_logs`.

    Sizes in uncompressed bytes; compression_level 0 is zstd's default; back_pressure in records.
    """

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


class LogHookConfig(Options, frozen=True):
    """`kumo.configure_log_hook`. back_pressure in records; deferred_spool: the message need not be saved at once."""

    name: str
    back_pressure: PositiveInt = 128_000
    meta: list[str] = []
    headers: list[str] = []
    per_record: dict[RecordKey, PerRecord] = {}
    deferred_spool: bool = False


class DispositionHookConfig(Options, frozen=True):
    """`kumo.configure_log_disposition_hook`."""

    name: str
    per_record: dict[RecordKey, PerRecord] = {}


class ClassifierConfig(Options, frozen=True):
    """`kumo.configure_bounce_classifier`.

    Responses are classified at once, on the thread that logs: pool_size and back_pressure have nothing to do.
    """

    files: list[str]
    back_pressure: PositiveInt = 128 * 1024
    pool_size: PositiveInt | None = None
    cache_size: PositiveInt = 1024
    uncategorized_cache_size: PositiveInt = 1024

    def __post_init__(self) -> None:
        for path in self.files:
            if not path.endswith((".toml", ".json")):
                raise ValueError(f"{path}: the name of a rule file must end in .toml or .json")


def per_record(options: dict[RecordKey, PerRecord], kind: str) -> PerRecord:
    """What holds for a type: its own table, else that of Any, never both."""
    return options.get(kind) or options.get("Any") or PerRecord()  # type: ignore[call-overload]
