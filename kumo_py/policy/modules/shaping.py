"""The `kumo.shaping` module: traffic shaping data from files and servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.source import EXTRAS
from kumo_py.policy.types import TEXT, VALUE, ListOf, OptionTable
from kumo_py.shaping import LoadOptions, Shaping, load_shaping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.policy.context import LuaContext

shaping = Owner("kumo.shaping")
data = Kind("Shaping", Shaping)

_TEXTS = ListOf(TEXT)

KUMOMTA_FILE = "/opt/kumomta/share/policy-extras/shaping.toml"
"""What policies name that were written for KumoMTA; where it is not installed, OUR_FILE takes its place."""
OUR_FILE = EXTRAS / "data" / "shaping.toml"
COMMUNITY_FILE = "/opt/kumomta/share/community/shaping.toml"
"""KumoMTA's too, and named by many policies; where it is not installed, they do without."""


async def available(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files to load, where some of KumoMTA's are named that are not installed; and what to say of that."""
    found, notices = list(files), []
    if KUMOMTA_FILE in found and not await trio.Path(KUMOMTA_FILE).exists():
        found = [str(OUR_FILE) if file == KUMOMTA_FILE else file for file in found]
    if COMMUNITY_FILE in found and not await trio.Path(COMMUNITY_FILE).exists():
        found = [file for file in found if file != COMMUNITY_FILE]
        notices.append(f"{COMMUNITY_FILE} is left out: KumoMTA is not installed here")
    return found, notices


class LastAsked:
    """Which shaping data was asked last, and for which path: for `kumo-py explain`."""

    def __init__(self) -> None:
        self.what: tuple[Shaping, str, str, str] | None = None

    def forget(self) -> None:
        self.what = None


@shaping.function(
    "load",
    Param("files", _TEXTS),
    Param("options", OptionTable(LoadOptions), optional=True),
    result=data.type,
    since="2023.08.22-4d895015",
)
async def load(ctx: LuaContext, files: list[str], options: LoadOptions | None) -> Shaping:
    """Load shaping data from TOML and JSON files or http(s) URLs, each laid over the ones before it.

    The options say what is only worth a warning, or nothing at all; what is wrong in the data itself is an error.
    """
    resolver = ctx.env.host.resolver
    files, notices = await available(files)
    for notice in notices:
        ctx.env.host.diagnostic("warn", notice)
    return await (
        load_shaping(files, resolver) if options is None else load_shaping(files, resolver, options)
    )


@data.function(
    "get_egress_path_config",
    Param("domain", TEXT),
    Param("egress_source", TEXT),
    Param("site_name", TEXT),
    result=VALUE,
)
async def get_egress_path_config(
    ctx: LuaContext, this: Shaping, domain: str, egress_source: str, site_name: str
) -> dict[str, object]:
    """The options for a path, merged from all blocks that apply: parameters for kumo.make_egress_path."""
    ctx.env.state(LastAsked).what = this, domain, egress_source, site_name
    return await this.egress_path_options(domain, egress_source, site_name)


@data.function("get_errors", result=_TEXTS)
def get_errors(ctx: LuaContext, this: Shaping) -> list[str]:
    """What went wrong while loading, as far as the options call it an error."""
    return this.errors


@data.function("get_warnings", result=_TEXTS)
def get_warnings(ctx: LuaContext, this: Shaping) -> list[str]:
    """What went wrong while loading, as far as the options call it a warning."""
    return this.warnings


@data.function("get_referenced_sources", result=VALUE)
def get_referenced_sources(ctx: LuaContext, this: Shaping) -> dict[str, list[str]]:
    """The sources that blocks name, each with a list of such blocks: "site:NAME" or "domain:NAME"."""
    return this.referenced_sources()


@data.function("match_rules", Param("record", VALUE), result=VALUE)
async def match_rules(ctx: LuaContext, this: Shaping, record: object) -> list[dict[str, object]]:
    """The automation rules that a delivery log record matches."""
    if not isinstance(record, dict):
        raise ValueError("the record must be a table: a delivery log record")
    return [match.rule.to_table() for match in await this.match_rules(record)]


@data.function("hash", result=TEXT)
def hash_(ctx: LuaContext, this: Shaping) -> str:
    """A hash of all the data, to see whether it has changed."""
    return this.hash
