"""Policies that together use all that KumoMTA's documentation shows are fit to serve, and their handlers run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kumo_py.core.policy import Rejection
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.daemon import Node
from kumo_py.message.connection import ConnectionMeta
from kumo_py.message.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

POLICIES = Path(__file__).parent.parent / "policies"

CONTENT = b"""\
From: "Me" <me@example.com>\r
To: you@example.org\r
Subject: hello\r
Date: Fri, 15 Jan 2027 08:00:00 +0000\r
Message-ID: <1@example.com>\r
MIME-Version: 1.0\r
Content-Type: text/plain\r
\r
hello\r
"""

META: dict[str, object] = {
    "received_from": "192.0.2.1:1025",
    "received_via": "192.0.2.2:25",
    "ehlo_domain": "client.example",
    "authn_id": "me",
}


@pytest.fixture(scope="module")
def keys() -> dict[str, bytes]:
    def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    return {
        "rsa.key": pem(rsa.generate_private_key(65537, 1024)),
        "ed25519.key": pem(ed25519.Ed25519PrivateKey.generate()),
    }


@pytest.fixture
def directory(tmp_path: Path, keys: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the policies look for their data."""
    shutil.copytree(POLICIES / "data", tmp_path / "data")
    for name, key in keys.items():
        (tmp_path / "data" / name).write_bytes(key)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(pattern: str = "") -> list[str]:
    return sorted(path.stem for path in POLICIES.glob("*.lua") if pattern in path.read_text())


def msg() -> Message:
    id = SpoolIdSource(b"policy", 0).next(1_800_000_000_000_000_000)
    return Message(id, "me@example.com", ("you@example.org",), dict(META), CONTENT)


def conn() -> ConnectionMeta:
    return ConnectionMeta(dict(META))


def test_there_are_many() -> None:
    assert len(names()) >= 60


@pytest.mark.parametrize("name", names())
async def test_validates(name: str, directory: Path) -> None:
    assert await Node(POLICIES / f"{name}.lua").validate()


QUESTIONS: dict[str, Callable[[], tuple[object, ...]]] = {
    "get_acl_definition": lambda: ("http_listener/*/metrics",),
    "get_egress_path_config": lambda: ("example.org", "source", "mx.example.org"),
    "get_egress_pool": lambda: ("pool",),
    "get_egress_source": lambda: ("warm",),
    "get_listener_domain": lambda: ("example.com", "127.0.0.1:25", conn()),
    "get_queue_config": lambda: ("example.org", "bank", None, None),
    "http_message_generated": lambda: (msg(), {}),
    "http_server_validate_auth_basic": lambda: ("user", "password"),
    "http_server_validate_auth_bearer": lambda: ("robot-token",),
    "rebind_message": lambda: (msg(), {"tenant": "other"}),
    "requeue_message": lambda: (msg(), "450 later", ["TransientFailure"], True, 60.0),
    "should_enqueue_log_record": lambda: (msg(), "webhook"),
    "shutdown_logging": lambda: (),
    "smtp_client_rewrite_delivery_status": lambda: ("450 mailbox full", "slow.example", None, None, None),
    "smtp_server_auth_plain": lambda: ("shared", "alice", "wonder", conn()),
    "smtp_server_connection_accepted": lambda: (conn(),),
    "smtp_server_data": lambda: (msg(), conn()),
    "smtp_server_ehlo": lambda: ("client.example", conn(), ["PIPELINING"]),
    "smtp_server_get_dynamic_parameters": lambda: ("127.0.0.1:25", conn()),
    "smtp_server_mail_from": lambda: ("me@example.com", conn()),
    "smtp_server_message_deferred_inject": lambda: (msg(), conn()),
    "smtp_server_message_received": lambda: (msg(), conn()),
    "smtp_server_rcpt_to": lambda: ("you@example.org", conn()),
    "smtp_server_rewrite_response": lambda: (451, "4.3.0 broken", None, conn()),
    "smtp_server_split_transaction": lambda: (msg(), conn()),
    "spool_message_enumerated": lambda: (msg(),),
    "throttle_insert_ready_queue": lambda: (msg(),),
}


@pytest.mark.parametrize(
    ("name", "event"), [(name, event) for event in QUESTIONS for name in names(f"kumo.on('{event}'")]
)
async def test_handlers_run(name: str, event: str, directory: Path) -> None:
    node = Node(POLICIES / f"{name}.lua")
    assert await node.validate()
    with suppress(Rejection):
        await node.policy.ask(event, *QUESTIONS[event]())


def test_validate_says_what_will_never_be_called(tmp_path: Path) -> None:
    (tmp_path / "policy.lua").write_text(
        "local kumo = require 'kumo'\nkumo.on('get_queue_confg', function() end)\n"
    )
    command = [sys.executable, "-m", "kumo_py", "serve", "--validate", "--policy", "policy.lua"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert "policy.lua:2: kumo.on('get_queue_confg'): there is no such event; did you mean" in result.stderr
