"""The `kumo.dkim` module: signers, and the caches of signers and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import orjson
import trio

from kumo_py.auth.dkim_keys import PrivateKey, load_private_key
from kumo_py.auth.dkim_sign import Signer
from kumo_py.core.duration import Duration
from kumo_py.core.histogram import Histogram
from kumo_py.core.key_source import KeySource
from kumo_py.core.lruttl import LruTtl
from kumo_py.core.options import convert
from kumo_py.policy.conversion import LuaTable, LuaValue, plain, shown
from kumo_py.policy.key_sources import load_key
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.signing import SigningThreads
from kumo_py.policy.types import INTEGER, OptionTable

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

Canonicalization = Literal["Relaxed", "Simple"]

_UNSUPPORTED = ("atps", "atpsh", "agent_user_identifier", "body_length", "reporting")
"""Options that KumoMTA knows and refuses."""


class SignerParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `kumo.dkim.rsa_sha256_signer` and `ed25519_signer`; durations in seconds."""

    domain: str
    """d= of the signature."""
    selector: str
    """s= of the signature."""
    headers: list[str]
    """Names of the headers to sign."""
    key: KeySource
    """PEM or DER of the private key."""
    header_canonicalization: Canonicalization = "Relaxed"
    """How much headers may change on their way."""
    body_canonicalization: Canonicalization = "Relaxed"
    """How much the body may change on its way."""
    expiration: Annotated[int, msgspec.Meta(ge=0, le=2**32)] | None = None
    """Seconds for which the signature holds."""
    over_sign: bool = False
    """Sign each header once more than it is there, so that none can be added."""
    ttl: Duration = Duration(300)
    """How long the key is remembered."""
    atps: str | None = None
    """Refused, as by KumoMTA."""
    atpsh: Literal["Sha1", "Sha256"] | None = None
    """Refused, as by KumoMTA."""
    agent_user_identifier: str | None = None
    """Refused, as by KumoMTA."""
    body_length: bool = False
    """Refused, as by KumoMTA."""
    reporting: bool = False
    """Refused, as by KumoMTA."""

    def __post_init__(self) -> None:
        for name in _UNSUPPORTED:
            if getattr(self, name):
                raise ValueError(f"{name} is not supported, neither here nor in KumoMTA: leave it out")


class _PlainTable(OptionTable):
    """The options as plain data, to be converted only if no signer was made of them before."""

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> LuaValue:
        if type(raw) is not LuaTable:
            raise ValueError(f"must be a table of options, got {shown(raw)}")
        return plain(ctx, raw) or {}


class SignerCaches:
    """A node's signers by their options, and private keys by their sources."""

    def __init__(self) -> None:
        self.signers: LruTtl[bytes, Signer] = LruTtl("dkim_signer_cache", 1024)
        self.keys: LruTtl[bytes, PrivateKey] = LruTtl("dkim_key_cache", 1024)
        self._loading: dict[bytes, trio.Event] = {}
        self.key_fetch_time, self.creation_time = Histogram(), Histogram()
        self.parse_time, self.sign_time = Histogram(), Histogram()

    async def signer(self, ctx: LuaContext, options: object, what: str) -> Signer:
        """Raises ValueError, OSError or KeyError."""
        spec = orjson.dumps(options, option=orjson.OPT_SORT_KEYS)
        signer = self.signers.get(spec, trio.current_time())
        if signer is None:
            started = trio.current_time()
            params = convert(options, SignerParams, what)
            signer = Signer(
                await self._key(ctx, params.key, params.ttl),
                domain=params.domain,
                selector=params.selector,
                headers=params.headers,
                relaxed_header=params.header_canonicalization == "Relaxed",
                relaxed_body=params.body_canonicalization == "Relaxed",
                expiration=params.expiration,
                over_sign=params.over_sign,
            )
            now = trio.current_time()
            self.creation_time.observe(now - started)
            self.signers.put(spec, signer, now + params.ttl)
        return signer

    async def _key(self, ctx: LuaContext, source: KeySource, ttl: float) -> PrivateKey:
        """One caller loads a key, the others that want it wait; if it fails each of them tries."""
        spec = orjson.dumps(source.to_option(), option=orjson.OPT_SORT_KEYS)
        while True:
            key = self.keys.get(spec, trio.current_time())
            if key is not None:
                return key
            loaded = self._loading.get(spec)
            if loaded is None:
                break
            await loaded.wait()
        loaded = self._loading[spec] = trio.Event()
        started = trio.current_time()
        try:
            data = await load_key(ctx.env, source)
            try:
                key = load_private_key(data)
            except ValueError as err:
                raise ValueError(f"the key of {_shown(source)}: {err}") from None
        finally:
            del self._loading[spec]
            loaded.set()
        now = trio.current_time()
        self.key_fetch_time.observe(now - started)
        self.keys.put(spec, key, now + ttl)
        return key


def _shown(source: KeySource) -> str:
    """Where a key comes from, without what is secret."""
    if source.key_data is not None:
        return "key_data"
    if source.event_name is not None:
        return f"event '{source.event_name}'"
    return f"'{source.path or source.vault_path}'"


dkim = Owner("kumo.dkim")
signer = Kind("signer", Signer)

SIGNER = signer.type
_PARAMS = Param("params", _PlainTable(SignerParams))


@dkim.function("rsa_sha256_signer", _PARAMS, result=SIGNER)
async def rsa_sha256_signer(ctx: LuaContext, params: object) -> Signer:
    """A signer for msg:dkim_sign and msg:arc_seal; the algorithm is that of the key.

    Signers with the same options are made once and kept for `ttl`, and so are keys.
    """
    return await ctx.env.state(SignerCaches).signer(ctx, params, "kumo.dkim.rsa_sha256_signer")


@dkim.function("ed25519_signer", _PARAMS, result=SIGNER)
async def ed25519_signer(ctx: LuaContext, params: object) -> Signer:
    """The same as rsa_sha256_signer, under the name of the other algorithm."""
    return await ctx.env.state(SignerCaches).signer(ctx, params, "kumo.dkim.ed25519_signer")


@dkim.function("set_signing_threads", Param("threads", INTEGER), since="2024.11.08-d383b033")
def set_signing_threads(ctx: LuaContext, threads: int) -> None:
    """Choose how many threads sign; without this there are as many as CPUs. It cannot be changed any more."""
    ctx.env.state(SigningThreads).choose(threads)
