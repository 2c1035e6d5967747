"""Loading shaping data from files and URLs, and merging it (KumoMTA `kumo.shaping.load`).

What is wrong in the data itself is an error of `load_shaping`. What depends on the day, such as a server that
does not answer, is a warning, an error in the result's list, or nothing but a line in the node's log, as the
options say.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
import orjson
import structlog
import tomli
import trio

from kumo_py.core.duration import Duration
from kumo_py.core.url import parse_url
from kumo_py.dns import DnsError
from kumo_py.net.http import HttpPool, HttpRequest
from kumo_py.shaping.entry import Block, ShapingFile
from kumo_py.shaping.errors import ShapingError
from kumo_py.shaping.shaping import Shaping, matching_providers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kumo_py.dns import MailExchanger, Resolver
    from kumo_py.shaping.entry import Domain, Provider

log = structlog.get_logger("kumo_py.shaping")

B = TypeVar("B", bound=Block)
CheckLevel = Literal["Ignore", "Warn", "Error"]

DEFAULT_HTTP_TIMEOUT = 5.0
"""Seconds for all of a request."""
MAX_REMOTE_SIZE = 64 << 20
"""Bytes that a server may send."""
_LOOKUPS_AT_ONCE = 64
_MOST_PROBLEMS = 20


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `kumo.shaping.load`: how grave is what."""

    provider_overlap: CheckLevel = "Ignore"
    """A domain's block whose domain some provider matches too."""
    dns_fail: CheckLevel = "Ignore"
    null_mx: CheckLevel = "Ignore"
    aliased_site: CheckLevel = "Ignore"
    """Several domains' blocks that lead to one site."""
    remote_load: CheckLevel = "Ignore"
    local_load: CheckLevel = "Ignore"
    """As KumoMTA's code has it; without any options it is Error."""
    skip_remote: bool = False
    http_timeout: Duration | None = None


WITHOUT_OPTIONS = LoadOptions(local_load="Error")


class _Findings:
    """What is to be told of the loading."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def add(self, level: CheckLevel, text: str) -> None:
        if level == "Warn":
            self.warnings.append(text)
        elif level == "Error":
            self.errors.append(text)


async def load_shaping(
    files: Iterable[str], resolver: Resolver, options: LoadOptions = WITHOUT_OPTIONS
) -> Shaping:
    """Load and merge the files, later ones over earlier ones. Raises ShapingError."""
    findings = _Findings()
    loaded = []
    for name in files:
        text = await _read(name, options, findings)
        if text is None:
            continue
        level = options.remote_load if _is_remote(name) else options.local_load
        found = await trio.to_thread.run_sync(_parse, name, text)
        if isinstance(found, ShapingFile):
            findings.warnings += found.warnings
            loaded.append(found)
        else:
            findings.add(level, found)
    return await _Merge(resolver, options, findings).merge(loaded)


# -- one file ----------------------------------------------------------------------------------------------
def _is_remote(name: str) -> bool:
    return name.startswith(("http://", "https://"))


async def _read(name: str, options: LoadOptions, findings: _Findings) -> bytes | None:
    """A file's content; None if it could not be had, which has been noted."""
    if not _is_remote(name):
        try:
            return await trio.Path(name).read_bytes()
        except OSError as err:
            text = f"local shaping source {name} error: {err.strerror or err}"
            log.warning(text)
            findings.add(options.local_load, text)
            return None
    if options.skip_remote:
        findings.add("Warn", f"Ignoring {name} because skip_remote is set to true")
        return None
    timeout = DEFAULT_HTTP_TIMEOUT if options.http_timeout is None else float(options.http_timeout)
    try:
        with trio.fail_after(timeout):
            return await _get(name)
    except (trio.TooSlowError, ValueError, OSError) as err:
        why = f"no complete answer within {timeout:g}s" if isinstance(err, trio.TooSlowError) else str(err)
        text = f"remote shaping source {name} error: {why or type(err).__name__}"
        log.error(text)
        findings.add(options.remote_load, text)
        return None


async def _get(url: str) -> bytes:
    """Raises HttpError or ValueError."""
    pool = HttpPool(lambda: trio.to_thread.run_sync(ssl.create_default_context))
    try:
        response = await pool.fetch(HttpRequest("GET", parse_url(url), []), max_body=MAX_REMOTE_SIZE)
    finally:
        pool.close()
    if not 200 <= response.status < 300:
        raise ValueError(f"the server answered {response.status}")
    return response.body


def _parse(name: str, data: bytes) -> ShapingFile | str:
    """The file; or what is wrong with one of whose kind its name says nothing. Raises ShapingError."""
    if name.endswith(".toml"):
        return _as_toml(name, data)
    if name.endswith(".json"):
        return _as_json(name, data)
    problems = []
    for kind, parse in (("toml", _as_toml), ("json", _as_json)):
        try:
            return parse(name, data)
        except ShapingError as err:
            problems.append(f"as {kind}: {str(err).removeprefix(f'{name}: ')}")
    return f"parsing {name}: {', '.join(problems)}"


def _as_toml(name: str, data: bytes) -> ShapingFile:
    try:
        return ShapingFile(name, tomli.loads(data.decode()))
    except UnicodeDecodeError as err:
        raise ShapingError(f"{name}: byte {err.start + 1} is not UTF-8") from None
    except (tomli.TOMLDecodeError, RecursionError) as err:
        raise ShapingError(f"{name}: not TOML: {err}") from None


def _as_json(name: str, data: bytes) -> ShapingFile:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as err:
        raise ShapingError(f"{name}: not JSON: {err}") from None
    if not isinstance(found, dict):
        raise ShapingError(f"{name}: must be an object whose keys are domains")
    return ShapingFile(name, found)


# -- all of them -------------------------------------------------------------------------------------------
class _Merge:
    """One merging of several files."""

    def __init__(self, resolver: Resolver, options: LoadOptions, findings: _Findings) -> None:
        self._resolver = resolver
        self._options = options
        self._findings = findings
        self._mx: dict[str, MailExchanger | DnsError] = {}
        self._aliases: dict[str, list[str]] = {}
        self.sites: dict[str, Domain] = {}
        self.domains: dict[str, Domain] = {}
        self.providers: dict[str, Provider] = {}

    async def merge(self, files: list[ShapingFile]) -> Shaping:
        """Raises ShapingError."""
        await self._look_up(
            {name for file in files for name, block in file.domains.items() if block.mx_rollup}
        )
        for file in files:
            if file.default is not None:
                _lay(self.domains, "default", file.default)
            for name, block in file.domains.items():
                self._lay_domain(name, block)
            for name, provider in file.providers.items():
                _lay(self.providers, name, provider)
        problems = [
            problem
            for blocks in (self.sites, self.domains, self.providers)
            for block in blocks.values()
            for problem in block.problems()
        ]
        if problems:
            raise ShapingError("\n".join(problems[:_MOST_PROBLEMS]))
        await self._check_overlaps()
        findings = self._findings
        return Shaping(
            self._resolver,
            sites=self.sites,
            domains=self.domains,
            providers=self.providers,
            warnings=findings.warnings,
            errors=findings.errors,
        )

    async def _look_up(self, names: set[str]) -> None:
        """Find the mail hosts of all domains first, so that the order of merging is that of the files."""
        limit = trio.CapacityLimiter(_LOOKUPS_AT_ONCE)

        async def look_up(name: str) -> None:
            async with limit:
                try:
                    self._mx[name] = await self._resolver.lookup_mx(name)
                except DnsError as err:
                    self._mx[name] = err

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(look_up, name)

    def _lay_domain(self, name: str, block: Domain) -> None:
        findings, options = self._findings, self._options
        if "." not in name.rstrip("."):
            findings.add(
                "Warn",
                f"{block.origin}: '{name}' has a single label. Quote the names of domains in headers, as in "
                f'["{name}.com"]: without quotes a dot makes a nested table',
            )
        if not block.mx_rollup:
            _lay(self.domains, name, block)
            return
        mx = self._mx[name]
        if isinstance(mx, DnsError):
            findings.add(options.dns_fail, f"{block.origin}: {mx}. The block is ignored")
        elif mx.is_null:
            findings.add(
                options.null_mx,
                f"{block.origin}: {name} has a null MX and cannot be used with mx_rollup = true. "
                "The block is ignored",
            )
        else:
            self._aliases.setdefault(mx.site_name, []).append(name)
            _lay(self.sites, mx.site_name, block)

    async def _check_overlaps(self) -> None:
        findings, options = self._findings, self._options
        for site, names in self._aliases.items():
            if len(different := list(dict.fromkeys(names))) > 1:
                findings.add(
                    options.aliased_site,
                    f"multiple domain blocks alias to the same site: {site}: {', '.join(different)}",
                )
        if options.provider_overlap == "Ignore":
            return
        for name in sorted(self._mx):
            found = await matching_providers(self.providers.values(), name, self._resolver)
            if found:
                findings.add(
                    options.provider_overlap,
                    f"domain {name} is also matched by provider(s): "
                    + ", ".join(provider.name for provider in found),
                )


def _lay(blocks: dict[str, B], name: str, block: B) -> None:
    if name in blocks:
        blocks[name].merge(block)
    else:
        blocks[name] = block
