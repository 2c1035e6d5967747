"""The diagnostic log: what the node says about itself, on stderr or in hourly files (KumoMTA --diag-log-dir).

Every room logs through `structlog.get_logger("<its module>")`; `configure_diagnostics`, called once by the
process before anything logs, decides where the lines go, how they look and which are shown. They look as
KumoMTA's do, so that what watches those works: `timestamp LEVEL thread target: message fields`; modules are
shown under its targets' names, so that its filters fit. A call that the filter drops costs under 1 µs.

No peer can forge a line: control characters are escaped, and a message's second and later lines indented.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Protocol

import structlog

from kumo_py.logs.diagnostic_filter import DEBUG, ERROR, INFO, TRACE, WARN, DiagnosticFilter
from kumo_py.logs.json_text import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

DiagnosticFormat = Literal["full", "compact", "pretty", "json"]

FILTER_VARIABLE = "KUMOD_LOG"
DEFAULT_FILTER = "kumod=info,config=info,spool=info,lua=info"

_TARGETS = (
    ("kumo_py.smtp_in", "kumod::smtp_server"),
    ("kumo_py.smtp_out", "kumod::smtp_dispatcher"),
    ("kumo_py.logs", "kumod::logging"),
    ("kumo_py.spool", "spool"),
    ("kumo_py.policy", "config"),
    ("kumo_py", "kumod"),
)
"""Modules and the targets that KumoMTA has in their place; what follows in a name is kept, with `::`."""

_LEVELS = {
    "trace": TRACE,
    "debug": DEBUG,
    "info": INFO,
    "warning": WARN,
    "warn": WARN,
    "error": ERROR,
    "exception": ERROR,
    "critical": ERROR,
}
_LEVEL_NAMES = {TRACE: "TRACE", DEBUG: "DEBUG", INFO: "INFO", WARN: "WARN", ERROR: "ERROR"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = re.compile(r"[\w.:/@+-]+")


class _Output(Protocol):
    def write(self, line: str) -> object: ...

    def flush(self) -> object: ...


class Diagnostics:
    """Where lines go, how they look, which are shown. clock: Unix seconds."""

    def __init__(
        self, output: _Output, format: DiagnosticFormat, filter: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Raises ValueError for a filter that is none."""
        self._output = output
        self._format = _FORMATS[format]
        self._clock = clock
        self._filter = DiagnosticFilter(filter)
        self._targets: dict[str, _Target] = {}

    def set_filter(self, text: str) -> None:
        """Replace the filter (KumoMTA `set_diagnostic_log_filter`). Raises ValueError and changes nothing."""
        self._filter = DiagnosticFilter(text)
        for target in self._targets.values():
            target.threshold = self._filter.threshold(target.name)

    def install(self) -> None:
        """Make this what structlog's loggers of the process write to."""
        structlog.configure(
            processors=[structlog.processors.format_exc_info, self._render],
            wrapper_class=DiagnosticLogger,
            logger_factory=self._target,
            cache_logger_on_first_use=True,
        )

    def _target(self, module: str = "kumo_py") -> _Target:
        name = _target_name(module)
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = _Target(name, self._filter.threshold(name), self._write)
        return target

    def _render(self, target: _Target, method: str, fields: EventDict) -> str:
        message = str(fields.pop("event", ""))
        level = _LEVEL_NAMES[_LEVELS[method]]
        return self._format(_timestamp(self._clock()), level, target.name, message, dict(fields))

    def _write(self, line: str) -> None:
        # A full disk or a closed stderr must not stop the node, and there is nowhere to say so.
        with suppress(OSError, ValueError):
            self._output.write(line)
            self._output.flush()


def configure_diagnostics(
    format: DiagnosticFormat = "full", directory: str | None = None, default_filter: str = DEFAULT_FILTER
) -> Diagnostics:
    """Set up the process's diagnostic log. directory: for hourly files; None is stderr.

    The environment's KUMOD_LOG goes before the default filter. Raises ValueError for a filter that is none,
    OSError if the directory cannot be made.
    """
    output: _Output = sys.stderr
    if directory is not None:
        os.makedirs(directory, exist_ok=True)
        output = HourlyFile(directory, time.time)
    diagnostics = Diagnostics(output, format, os.environ.get(FILTER_VARIABLE, default_filter))
    diagnostics.install()
    return diagnostics


class HourlyFile:
    """Appends to `log.YYYY-MM-DD-HH` (UTC) in a directory."""

    def __init__(self, directory: str, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._hour = -1
        self._fd: int | None = None

    def write(self, line: str) -> None:
        """Raises OSError."""
        hour = int(self._clock() // 3600)
        if hour != self._hour or self._fd is None:
            name = time.strftime("log.%Y-%m-%d-%H", time.gmtime(hour * 3600))
            path = os.path.join(self._directory, name)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self.close()
            self._fd, self._hour = fd, hour
        os.write(self._fd, line.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class _Target:
    """What structlog calls a logger: takes lines that passed the filter."""

    __slots__ = ("name", "threshold", "write")

    def __init__(self, name: str, threshold: int, write: Callable[[str], None]) -> None:
        self.name = name
        self.threshold = threshold
        self.write = write

    def __getattr__(self, method: str) -> Callable[[str], None]:
        if method in _LEVELS:
            return self.write
        raise AttributeError(method)


class DiagnosticLogger(structlog.BoundLoggerBase):
    """What rooms hold: a method per level, taking a message and fields."""

    _logger: _Target

    def trace(self, event: str, **fields: object) -> None:
        if self._logger.threshold <= TRACE:
            self._proxy_to_logger("trace", event, **fields)

    def debug(self, event: str, **fields: object) -> None:
        if self._logger.threshold <= DEBUG:
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: object) -> None:
        if self._logger.threshold <= INFO:
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        if self._logger.threshold <= WARN:
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: object) -> None:
        if self._logger.threshold <= ERROR:
            self._proxy_to_logger("error", event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error, with the traceback of the exception that is being handled."""
        if self._logger.threshold <= ERROR:
            self._proxy_to_logger("exception", event, exc_info=True, **fields)

    warn = warning
    critical = error


def _target_name(module: str) -> str:
    for prefix, target in _TARGETS:
        if module == prefix or module.startswith(prefix + "."):
            return target + module[len(prefix) :].replace(".", "::")
    return module


def _timestamp(now: float) -> str:
    second = int(now)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int((now - second) * 1e6):06d}Z"


def _thread_name() -> str:
    thread = threading.current_thread()
    return "main" if thread is threading.main_thread() else thread.name


def _full(timestamp: str, level: str, target: str, message: str, fields: dict[str, object]) -> str:
    exception = fields.pop("exception", None)
    parts = [_safe(message), *(f"{_safe(name)}={_value(value)}" for name, value in fields.items())]
    line = f"{timestamp} {level:>5} {_thread_name()} {target}: {' '.join(parts)}\n"
    return line if exception is None else f"{line}    {_safe(str(exception))}\n"


def _pretty(timestamp: str, level: str, target: str, message: str, fields: dict[str, object]) -> str:
    exception = fields.pop("exception", None)
    parts = [_safe(message), *(f"{_safe(name)}: {_value(value)}" for name, value in fields.items())]
    lines = [f"  {timestamp} {level:>5} {target}: {', '.join(parts)}", f"    on {_thread_name()}"]
    if exception is not None:
        lines.append(f"    {_safe(str(exception))}")
    return "\n".join([*lines, "", ""])


def _json(timestamp: str, level: str, target: str, message: str, fields: dict[str, object]) -> str:
    record = {
        "timestamp": timestamp,
        "level": level,
        "fields": {"message": message, **fields},
        "target": target,
        "threadName": _thread_name(),
    }
    return to_json(record).decode() + "\n"


_FORMATS: dict[DiagnosticFormat, Callable[[str, str, str, str, dict[str, object]], str]] = {
    "full": _full,
    "compact": _full,
    "pretty": _pretty,
    "json": _json,
}
"""compact differs from full only in how tracing shows spans, of which we have none."""


def _safe(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text).replace("\n", "\n    ")


def _value(value: object) -> str:
    """Text is quoted unless it is a plain word; a line break in it is escaped."""
    text = value if isinstance(value, str) else str(value)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{_safe(escaped)}"'
