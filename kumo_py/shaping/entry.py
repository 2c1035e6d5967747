"""The blocks of shaping files: what one file says of a domain or a provider, and how a later file adds to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kumo_py.core.options import OptionError, convert
from kumo_py.core.suggest import nearest
from kumo_py.limits.spec import LimitSpec, ThrottleSpec
from kumo_py.shaping.errors import ShapingError
from kumo_py.shaping.rule import Rule
from kumo_py.shaping.settings import SELECTION_RATE, Origin, Setting, Settings, problems, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T", bound=msgspec.Struct)

_LIMIT = "provider_connection_limit"
_RATE = "provider_max_message_rate"


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way for a destination to belong to a provider."""

    MXSuffix: str | None = None
    DomainSuffix: str | None = None
    HostName: str | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.MXSuffix, self.DomainSuffix, self.HostName)) != 1:
            raise ValueError("each entry has one of MXSuffix, DomainSuffix and HostName")

    def takes_host(self, host: str) -> bool:
        return host == self.HostName or (self.MXSuffix is not None and host.endswith(self.MXSuffix))


class _BlockOwn(msgspec.Struct, frozen=True):
    """What a block has besides options of a path."""

    replace_base: bool = False
    sources: dict[str, dict[str, Any]] = {}
    automation: list[dict[str, Any]] = []


class _DomainOwn(msgspec.Struct, frozen=True):
    """What a domain's block has besides."""

    mx_rollup: bool = True


class _ProviderOwn(msgspec.Struct, frozen=True):
    """What a provider's block has besides."""

    match: list[Match] = []
    provider_connection_limit: LimitSpec | None = None
    provider_max_message_rate: ThrottleSpec | None = None


class Block:
    """Options, sources and rules of one file; of several when merged."""

    def __init__(self, name: str, table: dict[str, object], origin: Origin, warnings: list[str]) -> None:
        """Take a file's table apart, which is used up. Raises ShapingError."""
        self.name = name
        self.origin = origin
        own = _split(table, _BlockOwn, origin)
        self.replace_base = own.replace_base
        self.sources = {
            source: settings_of(options, _below(origin, f'sources."{source}"'))
            for source, options in own.sources.items()
        }
        self.automation = [
            _rule(rule, f"{origin}: automation[{n}]", warnings) for n, rule in enumerate(own.automation, 1)
        ]
        self._take_own(table)
        self.settings = settings_of(table, origin)

    def _take_own(self, table: dict[str, object]) -> None:
        """Take what only this kind of block has."""

    def merge(self, later: Block) -> None:
        """Lay a later block over this one; with `replace_base` it takes this one's place."""
        if later.replace_base:
            self.settings, self.sources, self.automation = later.settings, later.sources, later.automation
            return
        self.settings.update(later.settings)
        for source, settings in later.sources.items():
            self.sources.setdefault(source, {}).update(settings)
        self.automation += later.automation

    def problems(self) -> Iterator[str]:
        """What `make_egress_path` would refuse."""
        yield from problems(self.settings)
        for settings in self.sources.values():
            yield from problems(settings)

    def to_table(self) -> dict[str, object]:
        """All of it as plain data, for the hash."""
        return {
            "options": _values(self.settings),
            "sources": {source: _values(settings) for source, settings in self.sources.items()},
            "automation": [rule.to_table() for rule in self.automation],
        }


class Domain(Block):
    """A block for a domain, or for all that share its mail hosts."""

    def _take_own(self, table: dict[str, object]) -> None:
        self.mx_rollup = _split(table, _DomainOwn, self.origin).mx_rollup


class Provider(Block):
    """A block for all destinations that match, whatever their site."""

    def _take_own(self, table: dict[str, object]) -> None:
        own = _split(table, _ProviderOwn, self.origin)
        self.matches = [*own.match]
        self.own: Settings = {
            (name,): Setting(str(spec), self.origin)
            for name in (_LIMIT, _RATE)
            if (spec := getattr(own, name)) is not None
        }

    def merge(self, later: Block) -> None:
        assert isinstance(later, Provider)
        super().merge(later)
        if later.replace_base:
            self.matches, self.own = later.matches, later.own
        else:
            self.matches += later.matches
            self.own.update(later.own)

    def apply(self, source: str, target: Settings) -> None:
        """Add what belonging to the provider implies for a path of this source."""
        prefix = f"shaping-provider-{self.name}-{source}"
        target["provider_name",] = Setting(self.name, self.origin)
        if (limit := self.own.get((_LIMIT,))) is not None:
            target["additional_connection_limits", f"{prefix}-limit"] = limit
        if (rate := self.own.get((_RATE,))) is not None:
            target["additional_message_rate_throttles", f"{prefix}-rate"] = rate
        if (selection := target.pop((SELECTION_RATE,), None)) is not None:
            target["additional_source_selection_rates", f"{prefix}-selection-rate"] = selection

    def problems(self) -> Iterator[str]:
        yield from problems(self.settings)
        for settings in self.sources.values():
            yield from problems(settings, of_provider_source=True)

    def to_table(self) -> dict[str, object]:
        match = [msgspec.structs.asdict(one) for one in self.matches]
        return {**super().to_table(), "own": _values(self.own), "match": match}


class ShapingFile:
    """What one file says."""

    def __init__(self, name: str, data: dict[str, object]) -> None:
        """Raises ShapingError, which names the block and the option."""
        self.warnings: list[str] = []
        self.default: Domain | None = None
        self.domains: dict[str, Domain] = {}
        self.providers: dict[str, Provider] = {}
        for key, value in data.items():
            if not isinstance(value, dict):
                raise ShapingError(
                    f"{name}: '{key}' is not inside of a block: put it below a header such as "
                    f'["default"] or ["example.com"]'
                )
            if key == "default":
                self.default = Domain(key, value, Origin(name, '["default"]'), self.warnings)
            elif key == "provider":
                for provider, table in value.items():
                    origin = Origin(name, f'[provider."{provider}"]')
                    if not isinstance(table, dict):
                        raise ShapingError(f"{origin} must be a table: [provider.NAME]")
                    self.providers[provider] = Provider(provider, table, origin, self.warnings)
            else:
                self.domains[key] = Domain(key, value, Origin(name, f'["{key}"]'), self.warnings)


def _below(origin: Origin, part: str) -> Origin:
    return Origin(origin.file, f"{origin.block[:-1]}.{part}]")


def _split(table: dict[str, object], own: type[T], origin: Origin) -> T:
    """Take out of a table what is no option of a path. Raises ShapingError."""
    found = {name: table.pop(name) for name in own.__struct_fields__ if name in table}
    try:
        return convert(found, own, str(origin))
    except OptionError as err:
        raise ShapingError(str(err)) from None


def _rule(table: dict[str, object], what: str, warnings: list[str]) -> Rule:
    names = Rule.__struct_fields__
    for key in table.keys() - set(names):
        near = nearest(key, names)
        hint = f"did you mean '{near}'?" if near else f"a rule has {', '.join(names)}"
        warnings.append(f"{what}: option '{key}' has no effect; {hint}")
    try:
        return convert(table, Rule, what)
    except OptionError as err:
        raise ShapingError(str(err)) from None


def _values(settings: Settings) -> dict[str, object]:
    return {".".join(path): setting.value for path, setting in settings.items()}
