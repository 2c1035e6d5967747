"""A node whose policy is made of helpers and their files: it signs, relays, tells its webhooks, and notices edits."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from smtp_client import SmtpClient

from kumo_py.daemon import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from smtp_sink import SmtpSink

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "unit" / "policy"))
from web_server import Answer, WebServer, web_server  # noqa: E402

pytestmark = pytest.mark.time_limit(30)

ANSWERS = {"/log": Answer(body=b"kept"), "/publish_log_v1": Answer(body=b"kept")}


def copied(directory: Path, **ports: int | str) -> Path:
    """The policy and its files, in a directory of the test's."""
    for source in (TESTS / "policies" / "extras").iterdir():
        text = source.read_text()
        for name, port in ports.items():
            text = text.replace(f"@{name}@", str(port))
        (directory / source.name).write_text(text)
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    (directory / "dkim.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return directory / "init.lua"


def edit(name: str, old: str, new: str) -> None:
    path = Path(name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@asynccontextmanager
async def running(directory: Path, sink: SmtpSink) -> AsyncIterator[tuple[Node, WebServer]]:
    async with web_server() as web, trio.open_nursery() as nursery:
        web.answers.update(ANSWERS)
        node = Node(copied(directory, WEB=web.port, SINK=sink.address.rpartition(":")[2]))
        await nursery.start(node.serve)
        yield node, web
        node.stop()


async def submit(
    node: Node, headers: str = "", sender: str = "me@sender.test", to: str = "you@receiver.test"
) -> str:
    """The reply to the message, or to what was refused before."""

    def run() -> str:
        with SmtpClient(node.addresses["smtp"][0]) as client:
            client.greet()
            reply = client.envelope(sender, to)
            if reply.code == 354:
                client.send(
                    f"From: <{sender}>\r\nTo: <{to}>\r\n{headers}Subject: hello\r\n\r\nbody\r\n.\r\n".encode()
                )
                reply = client.reply()
            return f"{reply.code} {reply.text}"

    return await trio.to_thread.run_sync(run)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(15):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


def posted(web: WebServer, target: str) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in web.asked if asked.target == target]


async def test_it_signs_relays_and_tells(directory: Path, sink: SmtpSink) -> None:
    async with running(directory, sink) as (node, web):
        reply = await submit(node, "X-Tenant: gold\r\nX-Campaign: welcome\r\n")
        assert reply.startswith("250 "), reply
        await until(lambda: len(posted(web, "/log")) == 2)
    (delivery,) = sink.deliveries
    head = delivery.content.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").decode()
    assert "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=sender.test; s=s2;" in head
    assert "provider.test" not in head  # a signature for others
    assert "X-Tenant" not in head
    reception, relayed = sorted(posted(web, "/log"), key=lambda record: str(record["type"]), reverse=True)
    assert (reception["type"], relayed["type"]) == ("Reception", "Delivery")
    assert reception["headers"] == {"Subject": "hello"}
    assert relayed["queue"] == "welcome:gold@receiver.test"
    assert relayed["egress_pool"] == "pool-2"
    assert relayed["egress_source"] in ("ip-2", "ip-3")
    assert relayed["site"] == f"{relayed['egress_source']}->mx1.receiver.test@smtp_client"
    assert relayed["provider_name"] == "receiver"
    assert posted(web, "/publish_log_v1") == []  # no rule matches


async def test_who_may_do_what(directory: Path, sink: SmtpSink) -> None:
    async with running(directory, sink) as (node, _):
        assert (await submit(node, sender="me@elsewhere.test")).startswith("550 ")
        assert (await submit(node, "X-Tenant: nobody\r\n")).startswith(
            "500 tenant 'nobody', from header 'X-Tenant'"
        )
        assert (await submit(node, "X-Tenant: members\r\n")).startswith(
            "500 tenant 'members' is only for those who"
        )


async def test_edits_take_effect_and_bad_ones_do_not(directory: Path, sink: SmtpSink) -> None:
    async with running(directory, sink) as (node, _):
        assert node.reloader is not None
        status = node.reloader.status
        await until(
            lambda: str(directory / "queues.toml") in node._monitor._expected
        )  # edits are news from now on
        assert (await submit(node, "X-Tenant: silver\r\n")).startswith("500 ")
        edit("queues.toml", "[tenant.'gold']", "[tenant.'silver']\negress_pool = 'pool-1'\n[tenant.'gold']")
        await until(lambda: status.reloads == 1)
        assert (await submit(node, "X-Tenant: silver\r\n")).startswith("250 ")
        edit("queues.toml", "egress_pool = 'pool-1'", "egres_pool = 'pool-9'")
        await until(lambda: status.failures == 1)
        assert (await submit(node, "X-Tenant: silver\r\n")).startswith("250 ")


async def test_it_is_fit_to_serve(directory: Path) -> None:
    assert await Node(copied(directory, WEB=1, SINK=25)).validate()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sources.toml", '[pool."pool-1"."ip-1"]', '[pool."pool-1"."ip-9"]'),
        ("queues.toml", "egress_pool = 'pool-2'", "egress_pool = 'pool-3'"),
        ("queues.toml", "egress_pool = 'pool-2'", "egress_pol = 'pool-2'"),
        ("listener_domains.toml", "relay_to = true", "relay_to = 'yes'"),
        ("dkim_data.toml", 'filename = "dkim.key"', 'filename = "absent.key"'),
        ("shaping.toml", 'sources."ip-1"', 'sources."ip-7"'),
        ("shaping.toml", "connection_limit = 3", "connection_limit = 'three'"),
    ],
)
async def test_mistakes_are_found_before_they_serve(directory: Path, file: str, old: str, new: str) -> None:
    policy = copied(directory, WEB=1, SINK=25)
    edit(file, old, new)
    assert not await Node(policy).validate()
