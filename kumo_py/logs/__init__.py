"""Logs: the delivery log (records, segments, their reader) and the diagnostic log."""

from kumo_py.logs.config import (
    ClassifierConfig,
    DispositionHookConfig,
    LocalLogsConfig,
    LogHookConfig,
    PerRecord,
)
from kumo_py.logs.context import LogContext, Peer, SourceAddress, Tls
from kumo_py.logs.counts import DeliveryCounts, LastError
from kumo_py.logs.delivery_log import DeliveryLog
from kumo_py.logs.diagnostics import Diagnostics, configure_diagnostics
from kumo_py.logs.record_type import RecordType

__all__ = [
    "ClassifierConfig",
    "DeliveryCounts",
    "DeliveryLog",
    "Diagnostics",
    "DispositionHookConfig",
    "LastError",
    "LocalLogsConfig",
    "LogContext",
    "LogHookConfig",
    "Peer",
    "PerRecord",
    "RecordType",
    "SourceAddress",
    "Tls",
    "configure_diagnostics",
]
