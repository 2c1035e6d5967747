"""swaks in each of its forms: TLS both ways, AUTH, PIPELINING, XCLIENT, PROXY, IPv6, attachments, LMTP.

What swaks shows in its transcript as the message's content must come out of the relay, byte for byte.
"""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme
from real_node import RealNode, relay_policy
from smtp_client import SmtpClient, split_address
from smtp_sink import SmtpSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

_MORE = """
kumo.on('smtp_server_auth_plain', function(authz, authc, password)
  return authc == 'scott' and password == 'tiger %'
end)
kumo.on('smtp_server_mail_from', function(sender, conn)
  if sender.user == 'members' and not conn:get_meta 'authn_id' then
    kumo.reject(530, '5.7.0 authentication required')
  end
end)
kumo.on('smtp_server_message_received', function(msg, conn)
  msg:append_header('X-Test', string.format('%s %s',
    tostring(conn:get_meta 'received_from'), tostring(conn:get_meta 'authn_id')))
end)
"""
_MORE_LISTENERS = """
  }
  local function listen(options)
    options.listen = options.listen or '127.0.0.1:0'
    options.tls_certificate, options.tls_private_key = '@DIR@/cert.pem', '@DIR@/key.pem'
    kumo.start_esmtp_listener(options)
  end
  listen { }
  listen { implicit_tls = true }
  listen { allow_xclient = true, relay_hosts = { '127.0.0.1', '192.0.2.0/24', '2001:db8::/32' } }
  listen { require_proxy_protocol = true, relay_hosts = { '192.0.2.0/24', '2001:db8::/32' } }
  if @IPV6@ then listen { listen = '[::1]:0' } end
  kumo.start_esmtp_listener { listen = '127.0.0.1:0'
"""


@dataclass
class Node:
    """A relay with a listener of each kind, and the sink behind it."""

    swaks: str
    relay: RealNode
    sink: SmtpSink
    ca: Path
    plain: str
    implicit_tls: str
    xclient: str
    proxy: str
    ipv6: str
    """Empty where there is no IPv6."""

    def send(
        self, *options: str, to: str | None = None, sender: str = "a@client.example", status: int = 0
    ) -> Message:
        """Run swaks, which must end with this status; for 0, the message as it reached the sink."""
        host, port = split_address(to or self.plain)
        command = [self.swaks, "--server", host, "--port", str(port), "--timeout", "10", "--from", sender]
        command += ["--to", "b@far.example", "--helo", "client.example", *options]
        before = len(self.sink.deliveries)
        done = subprocess.run(command, capture_output=True, timeout=20)
        transcript = done.stdout.decode("latin-1")
        assert done.returncode == status, transcript + done.stderr.decode()
        if status:
            assert len(self.sink.deliveries) == before
            return Message(transcript, b"", b"")
        self.sink.wait_for(before + 1, 10)
        assert len(self.sink.deliveries) == before + 1
        return received(transcript, self.sink.deliveries[-1].content)


@dataclass
class Message:
    """What swaks said, and what came out."""

    transcript: str
    header: bytes
    """What was added on the way."""
    content: bytes

    @property
    def protocol(self) -> str:
        found = re.search(rb"\r\n  with (\w+)", self.header)
        assert found, self.header
        return found[1].decode()

    @property
    def peer(self) -> str:
        """Address and authenticated user, as the policy saw them."""
        found = re.search(rb"X-Test: (.*)\r\n", self.header + self.content)
        assert found, self.header
        return found[1].decode()


def received(transcript: str, arrived: bytes) -> Message:
    """Split what arrived, and check that it ends with what swaks sent after the 354."""
    lines = []
    for line in transcript[transcript.index(" 354 ") :].split("\n")[1:]:
        text = line[4:].removesuffix("\r")
        if text == ".":
            break
        lines.append(text)
    content = "".join(f"{line[1:] if line.startswith('.') else line}\r\n" for line in lines).encode("latin-1")
    with_header = re.sub(rb"X-Test: .*\r\n", b"", arrived)
    assert with_header.endswith(content), (with_header, content)
    header = arrived[: len(with_header) - len(content)]
    return Message(transcript, header, arrived[len(header) :])


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("swaks")
    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1", "localhost")
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    ca.cert_pem.write_to_path(directory / "ca.pem")
    ipv6 = has_ipv6()
    listeners = _MORE_LISTENERS.replace("@DIR@", str(directory)).replace("@IPV6@", str(ipv6).lower())
    swaks = require_program("swaks")
    with SmtpSink() as sink:
        relay = RealNode(relay_policy(directory, sink.address, listener=listeners, more=_MORE), directory)
        try:
            relay.wait_ready()
            _, plain, implicit_tls, xclient, proxy, *more = relay.addresses
            yield Node(
                swaks,
                relay,
                sink,
                directory / "ca.pem",
                plain,
                implicit_tls,
                xclient,
                proxy,
                more[0] if ipv6 else "",
            )
            relay.stop()
        finally:
            relay.kill()


# -- protocols ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ([], "ESMTP"),
        (["--pipeline"], "ESMTP"),
        (["--protocol", "SMTP"], "SMTP"),
        (["--protocol", "ESMTP"], "ESMTP"),
        (["-tls"], "ESMTPS"),
        (["-tls", "--pipeline"], "ESMTPS"),
        (["--tls-optional"], "ESMTPS"),
        (["--protocol", "ESMTPS"], "ESMTPS"),
    ],
    ids=" ".join,
)
def test_protocols(node: Node, options: list[str], protocol: str) -> None:
    assert node.send(*options).protocol == protocol


@pytest.mark.parametrize("version", ["tlsv1_2", "tlsv1_3"])
def test_tls_versions_and_certificate(node: Node, version: str) -> None:
    message = node.send("-tls", "--tls-protocol", version, "--tls-verify", "--tls-ca-path", str(node.ca))
    assert f"TLSv1.{version[-1]}:".encode() in message.header


@pytest.mark.parametrize("version", ["tlsv1", "tlsv1_1"])
def test_outdated_tls_is_refused(node: Node, version: str) -> None:
    node.send("-tls", "--tls-protocol", version, status=29)


def test_implicit_tls(node: Node) -> None:
    options = ["--tls-on-connect", "--tls-verify", "--tls-ca-path", str(node.ca)]
    assert node.send(*options, to=node.implicit_tls).protocol == "ESMTPS"
    assert node.send("--protocol", "SSMTP", to=node.implicit_tls).protocol == "ESMTPS"
    assert node.send("--protocol", "SMTPS", to=node.implicit_tls).protocol == "SMTP"
    node.send("--tls-on-connect", status=29)


@pytest.mark.parametrize("protocol", ["LMTP", "LMTPS"])
def test_lmtp_is_refused(node: Node, protocol: str) -> None:
    node.send("--protocol", protocol, status=22)


def test_ipv6(node: Node) -> None:
    if not node.ipv6:
        pytest.skip("this machine has no IPv6")
    assert node.send("-6", to=node.ipv6).peer.startswith("[::1]:")


# -- AUTH --------------------------------------------------------------------------------------------
_LOGIN = ["--auth", "PLAIN", "--auth-user", "scott", "--auth-password"]


@pytest.mark.parametrize(
    "options", [["-tls"], ["-tls", "--pipeline"], ["--protocol", "ESMTPSA"]], ids=" ".join
)
def test_auth(node: Node, options: list[str]) -> None:
    message = node.send(*options, *_LOGIN, "tiger %", sender="members@client.example")
    assert message.protocol == "ESMTPSA"
    assert message.peer.endswith(" scott")
    assert b"tiger" not in message.header


def test_auth_with_implicit_tls(node: Node) -> None:
    message = node.send("--tls-on-connect", *_LOGIN, "tiger %", to=node.implicit_tls)
    assert message.protocol == "ESMTPSA"


@pytest.mark.parametrize("password", ["tiger", "tiger %%", "TIGER %"])
def test_auth_with_a_wrong_password(node: Node, password: str) -> None:
    message = node.send("-tls", *_LOGIN, password, status=28)
    assert " 535 5.7.8 " in message.transcript


def test_auth_is_not_offered_in_clear_text(node: Node) -> None:
    assert "AUTH PLAIN" not in node.send(*_LOGIN, "tiger %", status=28).transcript


def test_members_only(node: Node) -> None:
    assert " 530 5.7.0 authentication required" in node.send(sender="members@x.example", status=23).transcript


# -- XCLIENT and PROXY -------------------------------------------------------------------------------
@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_xclient(node: Node, address: str) -> None:
    xclient = f"IPV6:{address}" if ":" in address else address
    message = node.send("--xclient-addr", xclient, "--xclient-port", "4242", to=node.xclient)
    shown = f"[{address}]" if ":" in address else address
    assert message.peer == f"{shown}:4242 nil"
    assert address.encode() in message.header


def test_xclient_after_starttls(node: Node) -> None:
    message = node.send("-tls", "--xclient-addr", "192.0.2.9", to=node.xclient)
    assert message.peer.startswith("192.0.2.9:")
    assert message.protocol == "ESMTPS"


def test_xclient_for_one_who_may_not_relay(node: Node) -> None:
    message = node.send("--xclient-addr", "198.51.100.1", to=node.xclient, status=24)
    assert " 550 5.7.1 relaying not permitted" in message.transcript


def test_xclient_where_it_is_not_allowed(node: Node) -> None:
    node.send("--xclient", "ADDR=192.0.2.7", status=33)  # it is not offered
    with SmtpClient(node.plain) as client:
        client.greet()
        assert client.command("XCLIENT ADDR=192.0.2.7").code == 550


def proxy_options(version: int, source: str) -> list[str]:
    family = "6" if ":" in source else "4"
    destination = "2001:db8::1" if ":" in source else "203.0.113.1"
    options = ["--proxy-version", str(version), "--proxy-source", source, "--proxy-source-port", "4242"]
    options += ["--proxy-dest", destination, "--proxy-dest-port", "25"]
    return [
        *options,
        "--proxy-family",
        f"TCP{family}" if version == 1 else f"AF_INET{'6' if family == '6' else ''}",
    ]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_proxy(node: Node, version: int, address: str) -> None:
    message = node.send(*proxy_options(version, address), to=node.proxy)
    shown = f"[{address}]" if ":" in address else address
    assert message.peer == f"{shown}:4242 nil"
    assert address.encode() in message.header


@pytest.mark.parametrize("version", [1, 2])
def test_proxy_for_one_who_may_not_relay(node: Node, version: int) -> None:
    message = node.send(*proxy_options(version, "198.51.100.1"), to=node.proxy, status=24)
    assert " 550 5.7.1 relaying not permitted" in message.transcript


def test_proxy_header_that_is_none(node: Node) -> None:
    node.send("--proxy-version", "1", "--proxy", "TCP4 nonsense", to=node.proxy, status=6)


# -- contents ----------------------------------------------------------------------------------------
def test_attachments(node: Node, tmp_path: Path) -> None:
    binary = tmp_path / "picture.bin"
    binary.write_bytes(bytes(range(256)) * 2000)
    message = node.send("--attach-type", "image/png", "--attach", f"@{binary}", "--body", "see picture")
    assert len(message.content) > 512_000 * 4 / 3


@pytest.mark.parametrize("options", [[], ["-tls"], ["--pipeline"]], ids=" ".join)
def test_eight_bit_contents_with_dots(node: Node, tmp_path: Path, options: list[str]) -> None:
    """swaks shows a data file's lines as they are, and sends them with CR LF and doubled dots."""
    lines = ["Subject: äöü €", "", ".", "..", ".x", "", "zwölf €", "x" * 998, "end"]
    data = tmp_path / "data"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    message = node.send("--data", f"@{data}", *options)
    arrived = re.sub(rb"X-Test: .*\r\n", b"", message.content)
    assert arrived.removesuffix(b"\r\n") == "\r\n".join([*lines, ""]).encode()


def test_many_recipients(node: Node) -> None:
    recipients = [f"r{number}@far.example" for number in range(10)]
    host, port = split_address(node.plain)
    before = len(node.sink.deliveries)
    command = [node.swaks, "--server", host, "--port", str(port), "--timeout", "10", "--pipeline"]
    done = subprocess.run(
        [*command, "--to", ",".join(recipients), "--from", "<>"], capture_output=True, timeout=20
    )
    assert done.returncode == 0, done.stdout
    node.sink.wait_for(before + 10, 10)
    deliveries = node.sink.deliveries[before:]
    assert sorted(recipient for delivery in deliveries for recipient in delivery.recipients) == recipients
    assert {delivery.sender for delivery in deliveries} == {""}
