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
    """The end of the segments' names."""
    log_dir: str | None = None
    """Another directory for these records."""
    enable: bool = True
    """Whether they are logged."""
    template: str | None = None
    """Jinja that makes the line; JSON without it."""
    segment_header: str = ""
    """The first text of each segment."""

    def __post_init__(self) -> None:
        if self.template is not None:
            Templates(lambda: 0.0).compile("template", self.template)


class LocalLogsConfig(Options, frozen=True):
    """`kumo.configure_local_logs`.

    Sizes in uncompressed bytes; compression_level 0 is zstd's default; back_pressure in records.
    """

    log_dir: str
    """Where segments are written; made if it is not there."""
    max_file_size: PositiveInt = 1_000_000_000
    """Bytes of a segment before compression."""
    max_segment_duration: Duration | None = None
    """How long a segment is written to."""
    back_pressure: PositiveInt = 128_000
    """Records that wait to be written before whoever logs has to wait."""
    compression_level: Annotated[int, msgspec.Meta(ge=0, le=21)] = 0
    """Of zstd; 0 is its default."""
    meta: list[str] = []
    """Metadata to log, by name; a * at the end stands for anything."""
    headers: list[str] = []
    """Headers to log, by name; a * at the end stands for anything."""
    per_record: dict[RecordKey, PerRecord] = {}
    """Options by type of record; Any is all types that are not named."""
    filter_event: str | None = None
    """An event that returns whether a record is logged."""
    min_free_space: MinFree = MinFree(10, is_percent=True)
    """With less free space mail is refused."""
    min_free_inodes: MinFree = MinFree(10, is_percent=True)
    """With fewer free inodes mail is refused."""


class LogHookConfig(Options, frozen=True):
    """`kumo.configure_log_hook`. back_pressure in records; deferred_spool: the message need not be saved at once."""

    name: str
    """What should_enqueue_log_record calls it."""
    back_pressure: PositiveInt = 128_000
    """Records that wait for the hook before whoever logs has to wait."""
    meta: list[str] = []
    """As in kumo.configure_local_logs."""
    headers: list[str] = []
    """As in kumo.configure_local_logs."""
    per_record: dict[RecordKey, PerRecord] = {}
    """As in kumo.configure_local_logs, without files."""
    deferred_spool: bool = False
    """The message of a record need not be saved at once."""


class DispositionHookConfig(Options, frozen=True):
    """`kumo.configure_log_disposition_hook`."""

    name: str
    """The event is log_disposition_ and this name."""
    per_record: dict[RecordKey, PerRecord] = {}
    """Which types of records."""


class ClassifierConfig(Options, frozen=True):
    """`kumo.configure_bounce_classifier`.

    Responses are classified at once, on the thread that logs: pool_size and back_pressure have nothing to do.
    """

    files: list[str]
    """TOML or JSON files, whose [rules] give each class its regular expressions."""
    back_pressure: PositiveInt = 128 * 1024
    """Has no effect: responses are classified at once."""
    pool_size: PositiveInt | None = None
    """Has no effect: responses are classified at once."""
    cache_size: PositiveInt = 1024
    """Classified responses that are remembered."""
    uncategorized_cache_size: PositiveInt = 1024
    """Responses without a class that are remembered."""

    def __post_init__(self) -> None:
        for path in self.files:
            if not path.endswith((".toml", ".json")):
                raise ValueError(f"{path}: the name of a rule file must end in .toml or .json")


def per_record(options: dict[RecordKey, PerRecord], kind: str) -> PerRecord:
    """What holds for a type: its own table, else that of Any, never both."""
    return options.get(kind) or options.get("Any") or PerRecord()  # type: ignore[call-overload]
