"""Options of an egress path in layers, each with the place that it was written in.

Layers are merged by plain `dict.update`: an option is known by its path, which has two parts where KumoMTA
merges the tables of two layers (the named limits that are shared by several paths) and one everywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kumo_py.core.options import OptionError, convert
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.queue.config import EgressPath

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SELECTION_RATE = "provider_source_selection_rate"
"""An option of a provider's source that is none of a path: it becomes a rate named after both."""

_MERGED = frozenset(
    (
        "additional_connection_limits",
        "additional_message_rate_throttles",
        "additional_source_selection_rates",
    )
)


class Origin(NamedTuple):
    """Where an option was written."""

    file: str
    """A path or URL, as the policy gave it."""
    block: str
    """The block's header, as TOML has it: `["gmail.com"]`."""

    def __str__(self) -> str:
        return f"{self.file}: {self.block}"


class Setting(NamedTuple):
    value: object
    origin: Origin


Path: TypeAlias = tuple[str, ...]
Settings: TypeAlias = dict[Path, Setting]


def settings_of(table: Mapping[str, object], origin: Origin) -> Settings:
    """A block's options by their paths."""
    settings: Settings = {}
    for name, value in table.items():
        if name in _MERGED and isinstance(value, dict):
            for inner, item in value.items():
                settings[name, inner] = Setting(item, origin)
        else:
            settings[name,] = Setting(value, origin)
    return settings


def options_of(settings: Settings) -> dict[str, object]:
    """The parameters of `kumo.make_egress_path`."""
    options: dict[str, object] = {}
    for path, setting in settings.items():
        if len(path) == 1:
            options[path[0]] = setting.value
        else:
            inner = options.setdefault(path[0], {})
            if isinstance(inner, dict):  # else a lower layer had something wrong there
                inner[path[1]] = setting.value
    return options


def problems(settings: Settings, *, of_provider_source: bool = False) -> Iterable[str]:
    """What `make_egress_path` would refuse, each with its file and block."""
    if of_provider_source and (rate := settings.get((SELECTION_RATE,))) is not None:
        settings = {path: setting for path, setting in settings.items() if path != (SELECTION_RATE,)}
        try:
            ThrottleSpec.from_option(rate.value)
        except ValueError as err:
            yield f"{rate.origin}: option '{SELECTION_RATE}': {err}"
    try:
        convert(options_of(settings), EgressPath, "shaping")
    except OptionError:
        for path, setting in settings.items():
            try:
                convert(options_of({path: setting}), EgressPath, str(setting.origin))
            except OptionError as err:
                yield str(err)
