"""Reads what a KeySource describes: a file, the policy's own data, an event's answer, a secret in HashiCorp Vault."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson
import trio

from kumo_py.core.duration import format_duration
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.url import parse_url
from kumo_py.net.http import HttpPool, HttpRequest
from kumo_py.policy.http_clients import HttpPools

if TYPE_CHECKING:
    from kumo_py.core.key_source import KeySource
    from kumo_py.policy.context import Environment

VAULT_TIMEOUT = 60.0
"""Seconds to read a secret in HashiCorp Vault."""
_MAX_SECRET = 1024 * 1024  # octets of Vault's answer


async def load_key(env: Environment, source: KeySource) -> bytes:
    """The bytes that a key source describes. Raises OSError, ValueError or KeyError. Nothing is cached."""
    inline = source.inline_bytes()
    if inline is not None:
        return inline
    if source.path is not None:
        return await trio.to_thread.run_sync(Path(source.path).read_bytes)
    if source.event_name is not None:
        return await _from_event(env, source.event_name, source.event_args or [])
    return await _from_vault(env, source)


async def _from_event(env: Environment, event: str, args: list[object]) -> bytes:
    policy = env.policy
    if not policy.handles(event):
        raise ValueError(f"the key is to come from the event '{event}', which has no handler: use kumo.on")
    try:
        answer = await policy.ask(event, *args)
    except (PolicyError, Rejection) as err:
        raise ValueError(str(err)) from None
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, list):  # how text that is not UTF-8 arrives
        try:
            return bytes(answer)
        except (TypeError, ValueError):
            pass
    raise ValueError(f"the handler of '{event}' must return the key as a string")


async def _from_vault(env: Environment, source: KeySource) -> bytes:
    """Read from a KV store of version 2: GET /v1/MOUNT/data/PATH."""
    address = _given(source.vault_address, "vault_address", "VAULT_ADDR")
    token = _given(source.vault_token, "vault_token", "VAULT_TOKEN")
    mount, path, name = source.vault_mount or "", source.vault_path or "", source.vault_key or "key"
    base = parse_url(address)
    url = parse_url(f"{str(base).rstrip('/')}/v1/{quote(mount)}/data/{quote(path)}")
    headers = [
        (b"x-vault-token", token.encode()),
        (b"x-vault-request", b"true"),
        (b"accept", b"application/json"),
    ]
    pool = HttpPool(env.state(HttpPools).tls.when_needed(verify=True))
    try:
        with trio.fail_after(VAULT_TIMEOUT):
            answer = await pool.fetch(HttpRequest("GET", url, headers), max_body=_MAX_SECRET)
    except trio.TooSlowError:
        raise ValueError(f"{url}: no answer within {format_duration(VAULT_TIMEOUT)}") from None
    finally:
        pool.close()
    if answer.status != 200:
        raise ValueError(f"{url}: {answer.status}{_vault_errors(answer.body)}")
    try:
        secret = orjson.loads(answer.body)["data"]["data"]
        value = secret.get(name)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{url}: the answer is none of a KV store of version 2") from None
    if not isinstance(value, str):
        raise ValueError(f"the vault secret at '{path}' has no text under the key '{name}'")
    return value.encode()


def _given(value: str | None, option: str, variable: str) -> str:
    found = value or os.environ.get(variable)
    if not found:
        raise ValueError(f"{option} is not given, and ${variable} is not set")
    return found


def _vault_errors(body: bytes) -> str:
    try:
        errors = orjson.loads(body)["errors"]
        return "".join(f", {error}" for error in errors if isinstance(error, str))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
