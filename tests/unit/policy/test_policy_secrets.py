"""Where keys come from: kumo.secrets.load, for every kind of source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
from web_server import Answer, web_server

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy


async def load(policy: MakePolicy, source: str, before: str = "") -> object:
    lua = policy(
        f"{before}\nkumo.on('mine', function()\nlocal key = kumo.secrets.load({source})\nreturn key\nend)"
    )
    await lua.load()
    try:
        return await lua.ask("mine")
    finally:
        lua.close()


async def failure(policy: MakePolicy, source: str, before: str = "") -> str:
    with pytest.raises(PolicyError) as caught:
        await load(policy, source, before)
    assert "kumo.secrets.load: " in str(caught.value)
    return str(caught.value)


async def test_a_file(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"secret\n\xff")
    assert await load(policy, "'key.pem'") == list(b"secret\n\xff")
    assert "policy.lua:4: kumo.secrets.load: none.pem: No such file" in await failure(policy, "'none.pem'")


async def test_data(policy: MakePolicy) -> None:
    assert await load(policy, "{ key_data = 'c2VjcmV0' }") == "c2VjcmV0"
    assert await load(policy, r"{ key_data = '\xff\0' }") == [255, 0]


async def test_an_event(policy: MakePolicy) -> None:
    before = """
        kumo.on('my.key', function(domain, n) return domain .. n end)
        kumo.on('my.binary', function() return '\\xff' end)
        kumo.on('my.broken', function() error 'no such key' end)
        kumo.on('my.number', function() return { 1000 } end)
        kumo.on('my.nothing', function() end)
    """
    source = "{ event_name = 'my.key', event_args = { 'example.com', 7 } }"
    assert await load(policy, source, before) == "example.com7"
    assert await load(policy, "{ event_name = 'my.binary', event_args = {} }", before) == [255]
    assert "no such key" in await failure(policy, "{ event_name = 'my.broken' }", before)
    for name in ("number", "nothing"):
        text = await failure(policy, f"{{ event_name = 'my.{name}' }}", before)
        assert f"the handler of 'my.{name}' must return the key as a string" in text
    text = await failure(policy, "{ event_name = 'my.kee' }", before)
    assert "from the event 'my.kee', which has no handler" in text


def secret(data: object) -> Answer:
    return Answer(body=orjson.dumps({"data": {"data": data, "metadata": {"version": 1}}}))


async def test_vault(policy: MakePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web_server() as server:
        server.answers["/v1/secret/data/dkim/example.com"] = secret({"key": "PEM", "other": "ü"})
        where = f"vault_address = '{server.url}/', vault_token = 'hvs.1'"
        what = "vault_mount = 'secret', vault_path = 'dkim/example.com'"
        assert await load(policy, f"{{ {where}, {what} }}") == "PEM"
        assert await load(policy, f"{{ {where}, {what}, vault_key = 'other' }}") == "ü"
        monkeypatch.setenv("VAULT_ADDR", server.url)
        monkeypatch.setenv("VAULT_TOKEN", "hvs.2")
        assert await load(policy, f"{{ {what} }}") == "PEM"
        assert [one.header("x-vault-token") for one in server.asked] == ["hvs.1", "hvs.1", "hvs.2"]
        text = await failure(policy, f"{{ {what}, vault_key = 'none' }}")
        assert "the vault secret at 'dkim/example.com' has no text under the key 'none'" in text
        assert "hvs.2" not in text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(403, body=b'{"errors":["permission denied"]}'), "/v1/m/data/a%20b: 403, permission denied"),
        (Answer(404, body=b'{"errors":[]}'), "/v1/m/data/a%20b: 404"),
        (Answer(502, body=b"<html>"), "/v1/m/data/a%20b: 502"),
        (Answer(200, body=b"{}"), "the answer is none of a KV store of version 2"),
        (Answer(200, body=b"[1]"), "the answer is none of a KV store of version 2"),
        (Answer(200, body=b"x" * 2_000_000), "larger than"),
        (secret({"key": 17}), "has no text under the key 'key'"),
        (b"", "closed the connection before it answered"),
    ],
)
async def test_what_vault_may_say(policy: MakePolicy, answer: Answer | bytes, words: str) -> None:
    async with web_server() as server:
        server.answers["/v1/m/data/a%20b"] = answer
        source = (
            f"{{ vault_address = '{server.url}', vault_token = 't', vault_mount = 'm', vault_path = 'a b' }}"
        )
        assert words in await failure(policy, source)


async def test_vault_needs_an_address_and_a_token(
    policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    source = "{ vault_mount = 'm', vault_path = 'p' }"
    assert "vault_address is not given, and $VAULT_ADDR is not set" in await failure(policy, source)
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    assert "vault_token is not given, and $VAULT_TOKEN is not set" in await failure(policy, source)


@pytest.mark.parametrize("source", ["nil", "{}", "17", "{ key_dat = 'x' }", "{ vault_path = 'x' }"])
async def test_what_is_no_source(policy: MakePolicy, source: str) -> None:
    assert "policy.lua:4: " in await failure(policy, source)
