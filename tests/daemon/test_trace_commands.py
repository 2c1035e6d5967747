"""Live traces of a real node: what the commands show of real sessions, who may watch, and that nobody holds mail up."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trustme
from click.testing import CliRunner
from smtp_client import SmtpClient
from test_http_listener import policy, ready
from test_node_in_process import running, submit, until

from kumo_py.admin import traces
from kumo_py.admin.traces import QUEUE_SIZE
from kumo_py.cli import main
from kumo_py.core.url import parse_url
from kumo_py.net.websocket import UpgradeRefused, WebSocket, open_websocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from smtp_sink import SmtpSink

    from kumo_py.daemon import Node

pytestmark = pytest.mark.time_limit(60)

ALLOW = """
kumo.on('http_server_validate_auth_basic', function(user, password)
  if user == 'operator' and password == 'open sesame' then
    return {
      identities = { { identity = user, context = 'HttpBasicAuth' } },
      groups = { 'kumomta:http-listener-trusted-ip' },
    }
  end
  return false
end)
"""


@asynccontextmanager
async def serving(
    directory: Path, options: str = "", more: str = "", to: str = "127.0.0.1:9"
) -> AsyncIterator[Node]:
    async with running(policy(directory, options, more, to=to, path="idle_timeout = '100ms'")) as node:
        await ready(node)
        yield node


def url(node: Node, side: str = "server") -> str:
    [address] = node.addresses["http"]
    return f"ws://{address}/api/admin/trace-smtp-{side}/v1"


async def connect(node: Node, side: str = "server", headers: Any = None, **request: Any) -> WebSocket:
    websocket, _ = await open_websocket(parse_url(url(node, side), ("ws",)), None, headers)
    await websocket.send_texts([json.dumps(request).encode()])
    return websocket


async def payload(websocket: WebSocket) -> Any:
    message = await websocket.receive()
    assert message is not None
    return json.loads(message)["payload"]


class Command:
    """A command that runs; `outcome` is its exit status, output and messages."""

    def __init__(self, *args: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kumo_py", *args],
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def outcome(self) -> tuple[int, str, str]:
        try:
            out, err = await trio.to_thread.run_sync(partial(self.process.communicate, timeout=20))
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, err


def trace(side: str, node: Node, *args: str, scheme: str = "http", **options: Any) -> Command:
    [address] = node.addresses["http"]
    return Command(f"trace-smtp-{side}", "--endpoint", f"{scheme}://{address}", *args, **options)


async def failure(*args: str) -> str:
    """What a command says that cannot begin."""
    result = await trio.to_thread.run_sync(CliRunner().invoke, main, args)
    assert result.exit_code in (1, 2), result.output
    return result.stderr


async def watched(node: Node, count: int = 1) -> None:
    await until(lambda: node.traces.watchers == count)


# -- what is shown -------------------------------------------------------------------------------------------------
def simplified(text: str) -> str:
    """Output without what differs from run to run."""
    text = re.sub(r"\d+\.\d+\.\d+\.\d+:\d+", "ADDRESS", text)
    text = re.sub(r"\[[-0-9a-f]{36}\]", "[ID]", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "MESSAGE", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} UTC", "TIME", text)
    text = re.sub(
        r"^(\S+) ( *\d+(?:ns|µs|ms|s)|     ) ", lambda found: f"{found[1]} {len(found[2])} ", text, flags=re.M
    )
    return re.sub(r"(=| )vm\b", r"\1HOST", text.replace(socket.gethostname(), "HOST"))


SERVER = """\
[ADDRESS->ADDRESS] 5 === Connected TIME
[ADDRESS->ADDRESS] 5 === conn_meta hostname="HOST"
[ADDRESS->ADDRESS] 5 === conn_meta received_from="ADDRESS"
[ADDRESS->ADDRESS] 5 === conn_meta received_via="ADDRESS"
[ADDRESS->ADDRESS] 5 === conn_meta reception_protocol="ESMTP"
[ADDRESS->ADDRESS] 5 <-  220 HOST KumoMTA
[ADDRESS->ADDRESS] 5  -> EHLO client.example
[ADDRESS->ADDRESS] 5 === conn_meta ehlo_domain="client.example"
[ADDRESS->ADDRESS] 5 <-  250-HOST Aloha client.example
"""
MESSAGE = """\
[ADDRESS->ADDRESS] 5  -> MAIL FROM:<from@a.example>
[ADDRESS->ADDRESS] 5  -> RCPT TO:<to@b.example>
[ADDRESS->ADDRESS] 5  -> DATA
[ADDRESS->ADDRESS] 5 <-  250 2.1.0 OK
[ADDRESS->ADDRESS] 5 <-  250 2.1.5 OK
[ADDRESS->ADDRESS] 5 <-  354 Send body; end with CRLF.CRLF
[ADDRESS->ADDRESS] 5  -> Subject: 0
[ADDRESS->ADDRESS] 5  -> \n\
[ADDRESS->ADDRESS] 5  -> ..hello
[ADDRESS->ADDRESS] 5  -> .
[ADDRESS->ADDRESS] 5 === smtp_server_message_received: Ok
[ADDRESS->ADDRESS] 5 === Message from=<from@a.example> to=<to@b.example> id=MESSAGE
[ADDRESS->ADDRESS] 5 === Message queue=acme@b.example relay=true log_arf=Ignore log_oob=Ignore \
was_arf_or_oob=false will_enqueue=true
[ADDRESS->ADDRESS] 5 === Message meta: ehlo_domain="client.example"
[ADDRESS->ADDRESS] 5 === Message meta: hostname="HOST"
[ADDRESS->ADDRESS] 5 === Message meta: received_from="ADDRESS"
[ADDRESS->ADDRESS] 5 === Message meta: received_via="ADDRESS"
[ADDRESS->ADDRESS] 5 === Message meta: reception_protocol="ESMTP"
[ADDRESS->ADDRESS] 5 === Message meta: tenant="acme"
[ADDRESS->ADDRESS] 5 <-  250 OK ids=MESSAGE
[ADDRESS->ADDRESS] 5  -> QUIT
[ADDRESS->ADDRESS] 5 <-  221 So long, and thanks for all the fish!
[ADDRESS->ADDRESS] 5 === Closed
"""
CLIENT = """\
[ID] 5 === BeginSession TIME
[ID] 5 === conn_meta egress_pool="unspecified"
[ID] 5 === conn_meta egress_source="unspecified"
[ID] 5 === conn_meta id="ID"
[ID] 5 === conn_meta mx_plan={"Addresses":[{"name":"127.0.0.1","addr":"ADDRESS","is_secure":false}]}
[ID] 5 === conn_meta ready_queue_name="unspecified->mx_list:ADDRESS@smtp_client"
[ID] 5 === INFO: Attempting connection to ADDRESS
[ID] 5 === Connected
[ID] 5 === conn_meta mx_address="ADDRESS"
[ID] 5 === conn_meta mx_host="127.0.0.1"
[ID] 5 === conn_meta source_address="ADDRESS"
"""
SENT = """\
[ID] 5 === MessageObtained
[ID] 5 === conn_meta domain="b.example"
[ID] 5 === conn_meta message_id="MESSAGE"
[ID] 5 === conn_meta queue_name="acme@b.example"
[ID] 5 === conn_meta recipient=["to@b.example"]
[ID] 5 === conn_meta routing_domain=null
[ID] 5 === conn_meta sender="from@a.example"
[ID] 5 === conn_meta tenant="acme"
[ID] 5 ->  MAIL FROM:<from@a.example>
[ID] 5 ->  RCPT TO:<to@b.example>
[ID] 5 ->  DATA
"""
TENANT = "kumo.on('smtp_server_message_received', function(msg) msg:set_meta('tenant', 'acme') end)\n"


async def test_the_commands(tmp_path: Path, sink: SmtpSink) -> None:
    """--only-one: each ends with its session."""
    async with serving(tmp_path, more=TENANT, to=sink.address) as node:
        server = trace("server", node, "--only-one", "--only-new", "--source", "127.0.0.0/8", "--color", "no")
        client = trace("client", node, "--only-one", "--terse", "--color", "yes", "--tenant", "acme")
        await watched(node, 2)
        await submit(node.addresses["smtp"][0])
        status, out, err = await server.outcome()
        assert (status, err) == (0, "")
        shown = simplified(out)
        assert shown.startswith(SERVER)
        assert shown.endswith(MESSAGE)
        status, out, err = await client.outcome()
        assert (status, err) == (0, "")
    plain = re.sub(r"\x1b\[\d+m", "", out)
    shown = re.sub(r'id="[-0-9a-f]{36}"', 'id="ID"', simplified(plain))
    assert shown.startswith(CLIENT)
    assert SENT in shown
    size = len(sink.deliveries[0].content) + 1  # a line begins with a dot
    assert re.search(rf"->  X-KumoRef: \S+\n\S+ 5 === bytes written={size}\n\[ID\] 5 ->  \.\n", shown)
    assert shown.endswith("[ID] 5 ->  QUIT\n[ID] 5  <- 221 bye\n[ID] 5 === Closed\n")
    assert "\x1b[32m->  DATA\x1b[0m" in out
    assert "\x1b[36m <- 221 bye\x1b[0m" in out


async def test_until_the_node_goes(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        command = trace("server", node)
        await watched(node)
    assert await command.outcome() == (
        1,
        "",
        "Error: the node has closed the connection: the node is shutting down\n",
    )


async def test_until_it_is_interrupted(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        command = trace("client", node)
        await watched(node)
        command.process.send_signal(signal.SIGINT)
        assert await command.outcome() == (130, "", "")
        await watched(node, 0)


async def test_https_and_a_password(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    options = (
        f"use_tls = true, tls_certificate = '{tmp_path}/cert.pem', tls_private_key = '{tmp_path}/key.pem', "
        "trusted_hosts = {}"
    )
    async with serving(tmp_path, options, ALLOW) as node:
        [address] = node.addresses["http"]
        environment = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        endpoint = f"https://operator:open%20sesame@{address}"
        command = Command("trace-smtp-server", "--endpoint", endpoint, "--only-one", environment=environment)
        await watched(node)
        with SmtpClient(node.addresses["smtp"][0]) as client:
            await trio.to_thread.run_sync(client.greet)
        status, out, err = await command.outcome()
        assert (status, err) == (0, "")
        assert "EHLO client.example" in out
        failed = await failure("trace-smtp-server", "--endpoint", f"https://{address}")
        assert "certificate verify failed" in failed


# -- who may not, and what is not there ----------------------------------------------------------------------------
async def test_errors_of_the_command(tmp_path: Path) -> None:
    async with serving(tmp_path, "trusted_hosts = { '127.0.0.2' }", ALLOW) as node:
        [address] = node.addresses["http"]
        nobody = socket.create_server(("127.0.0.1", 0))
        closed = f"127.0.0.1:{nobody.getsockname()[1]}"
        nobody.close()
        path = "/api/admin/trace-smtp-server/v1"
        server = f"http://{address}"
        for args, text in (
            (
                ("trace-smtp-server", "--endpoint", server),
                f"GET {server}{path}: 401 <Unauthenticated>@ ip=127.0.0.1 not permitted GET on "
                f"http_listener/{address}{path}; the listener's trusted_hosts say who may",
            ),
            (
                ("trace-smtp-server", "--endpoint", f"http://operator:wrong@{address}"),
                f"GET {server}{path}: 401 HttpBasicAuth Authentication Failed for operator",
            ),
            (
                ("trace-smtp-server", "--endpoint", f"{server}/other"),
                f"GET {server}/other{path}: 404 there is no such endpoint",
            ),
            (
                ("trace-smtp-client", "--endpoint", f"http://{closed}"),
                "Does the node run, with kumo.start_http_listener in its init event?",
            ),
            (("trace-smtp-client", "--endpoint", "localhost"), "'localhost' is no URL of a node"),
            (("trace-smtp-server", "--source", "10.0.0.300"), "'10.0.0.300' is not a network"),
            (("trace-smtp-client", "--mx-addr", "mx.b.test"), "'mx.b.test' is not a network"),
        ):
            assert text in await failure(*args)
        assert node.traces.watchers == 0


async def test_pages_of_another_origin(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        [address] = node.addresses["http"]
        for origin in (b"http://evil.test", b"null", b"http://127.0.0.1:1"):
            with pytest.raises(UpgradeRefused) as caught:
                await connect(node, headers=[(b"origin", origin)])
            assert caught.value.status == 403
        websocket = await connect(node, headers=[(b"origin", f"http://{address}".encode())])
        assert node.traces.watchers == 1
        sock = websocket._transport._sock  # type: ignore[attr-defined]
        assert (
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        )  # a node whose host is gone is noticed
        websocket.close()


async def test_too_many_tracers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_TRACERS", 2)
    async with serving(tmp_path) as node:
        first, second = await connect(node), await connect(node, "client")
        with pytest.raises(UpgradeRefused) as caught:
            await connect(node)
        assert (caught.value.status, caught.value.text) == (503, "2 traces are going on already")
        first.close()
        await watched(node, 1)
        third = await connect(node)
        await watched(node, 2)
        for websocket in (second, third):
            websocket.close()


async def test_a_plain_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, httpx.AsyncClient() as client:
        response = await client.get(url(node).replace("ws:", "http:"))
        assert response.status_code == 400
        assert "this endpoint is a WebSocket" in response.text


# -- readers -------------------------------------------------------------------------------------------------------
async def test_a_reader_that_sleeps(tmp_path: Path, sink: SmtpSink) -> None:
    """Mail flows on; the reader is told what it has lost, and goes on from there."""
    count, size = 12, 2_000_000
    async with serving(tmp_path, to=sink.address) as node:
        readers = [await connect(node), await connect(node, "client")]
        await watched(node, 2)
        content = b"Subject: x\r\n\r\n" + (b"0123456789abcdef" * 4 + b"\r\n") * (size // 66)

        def send() -> None:
            with SmtpClient(node.addresses["smtp"][0]) as client:
                client.greet()
                for _ in range(count):
                    assert client.message("from@a.example", "to@b.example", content).code == 250

        await trio.to_thread.run_sync(send)
        await until(lambda: len(sink.deliveries) == count)
        for side in (node.traces.server, node.traces.client):
            [tracer] = side.watchers
            assert tracer._size <= QUEUE_SIZE  # type: ignore[attr-defined]
        for reader in readers:
            received = 0
            with trio.fail_after(10):
                while "Diagnostic" not in (event := await payload(reader)) or "missed" not in str(event):
                    received += len(str(event))
            assert event["Diagnostic"]["level"] == "ERROR"
            assert received < count * size
        await submit(node.addresses["smtp"][0], recipient="last@b.example")
        command = "RCPT TO:<last@b.example>\r\n"
        for reader, last in zip(readers, ({"Read": command}, {"Write": command}), strict=True):
            with trio.fail_after(10):
                while await payload(reader) != last:
                    pass
            reader.close()


async def test_readers_that_break_off(tmp_path: Path, sink: SmtpSink) -> None:
    async with serving(tmp_path, to=sink.address) as node:
        for side in ("server", "client"):
            for _ in range(3):
                reader = await connect(node, side)
                await until(lambda: node.traces.watchers > 0)
                sock = reader._transport._sock  # type: ignore[attr-defined]
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                reader.close()
                await submit(node.addresses["smtp"][0])
        await watched(node, 0)
        await until(lambda: len(sink.deliveries) == 6)


async def test_filters_hold_on_a_node(tmp_path: Path, sink: SmtpSink) -> None:
    async with serving(tmp_path, to=sink.address) as node:
        other = await connect(node, "server", source_addr=["192.0.2.0/24"])
        ours = await connect(node, "server", source_addr=["127.0.0.1"])
        await watched(node, 2)
        await submit(node.addresses["smtp"][0])
        assert await payload(ours) == "Connected"
        with trio.move_on_after(0.1):
            raise AssertionError(await payload(other))
        for websocket in (other, ours):
            websocket.close()


async def test_nobody_reads_the_output(tmp_path: Path) -> None:
    """As with `| head -1`."""
    async with serving(tmp_path) as node:
        command = trace("server", node)
        await watched(node)
        assert command.process.stdout is not None
        command.process.stdout.close()
        command.process.stdout = None
        with SmtpClient(node.addresses["smtp"][0]) as client:
            await trio.to_thread.run_sync(client.greet)
        status, _, err = await command.outcome()
        assert (status, err) == (1, "")
        await watched(node, 0)
