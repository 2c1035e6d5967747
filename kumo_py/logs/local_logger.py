"""One `kumo.configure_local_logs`: which writer takes a record of which type, and how it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kumo_py.core.histogram import Histogram
from kumo_py.logs.config import per_record
from kumo_py.logs.hooks import compiled_templates
from kumo_py.logs.segment import SegmentWriter
from kumo_py.logs.selection import HeaderSelection, MetaSelection

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.core.templates import Template, Templates
    from kumo_py.logs.config import LocalLogsConfig
    from kumo_py.logs.record_type import RecordType


class Route(NamedTuple):
    """Where records of a type go. template: None is JSON."""

    writer: SegmentWriter
    segment_header: str
    template: Template | None


class LocalLogger:
    """See the module. routes: of each type that is enabled."""

    __slots__ = (
        "_back_pressure",
        "directories",
        "filter_event",
        "headers",
        "latency",
        "meta",
        "min_free_inodes",
        "min_free_space",
        "name",
        "routes",
        "waits",
        "writers",
    )

    def __init__(
        self,
        config: LocalLogsConfig,
        clock: Callable[[], float],
        wake: Callable[[], None],
        templates: Templates,
    ) -> None:
        self.name = f"dir-{config.log_dir}"
        self.latency = Histogram()
        """Of taking records."""
        self.waits = 0
        """How often a record had to wait for room."""
        writers: dict[tuple[str, str], SegmentWriter] = {}
        self.routes: dict[RecordType, Route] = {}
        for kind, template in compiled_templates(config.per_record, templates).items():
            own = per_record(config.per_record, kind)
            place = (own.log_dir or config.log_dir, own.suffix or "")
            if place not in writers:
                writers[place] = SegmentWriter(
                    *place,
                    compression_level=config.compression_level,
                    max_size=config.max_file_size,
                    max_duration=config.max_segment_duration,
                    clock=clock,
                    wake=wake,
                )
            self.routes[kind] = Route(writers[place], own.segment_header, template)
        self.writers = tuple(writers.values())
        self.directories = tuple(dict.fromkeys([config.log_dir, *(place[0] for place in writers)]))
        self.meta = MetaSelection(config.meta)
        self.headers = HeaderSelection(config.headers)
        self.filter_event = config.filter_event
        self.min_free_space = config.min_free_space
        self.min_free_inodes = config.min_free_inodes
        self._back_pressure = config.back_pressure

    @property
    def is_full(self) -> bool:
        """Whether the disk fails and as many lines wait as may."""
        failing = False
        for writer in self.writers:
            failing = failing or writer.failing
        return failing and sum(writer.waiting for writer in self.writers) >= self._back_pressure
