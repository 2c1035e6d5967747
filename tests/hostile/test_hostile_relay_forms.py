"""The sixteen address forms by which open relays are looked for (nmap's smtp-open-relay), on a real node.

Whoever is not in `relay_hosts` is refused in all of them. Where mail for a domain of ours is taken from everybody, a
form counts by its domain as RFC 5321 reads it, and its local part is nobody's business but that domain's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from real_node import RealNode, relay_policy
from smtp_client import SmtpClient
from smtp_sink import SmtpSink

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.time_limit(30)

FORMS = [
    ("", "u@far.example"),
    ("spam@far.example", "u@far.example"),
    ("spam@ours.example", "u@far.example"),
    ("spam@[127.0.0.1]", "u@far.example"),
    ("spam@[127.0.0.1]", "u%far.example@[127.0.0.1]"),
    ("spam@[127.0.0.1]", "u%far.example@ours.example"),
    ("spam@[127.0.0.1]", '"u@far.example"'),
    ("spam@[127.0.0.1]", '"u%far.example"'),
    ("spam@[127.0.0.1]", "u@far.example@[127.0.0.1]"),
    ("spam@[127.0.0.1]", '"u@far.example"@[127.0.0.1]'),
    ("spam@[127.0.0.1]", "u@far.example@ours.example"),
    ("spam@[127.0.0.1]", "@[127.0.0.1]:u@far.example"),
    ("spam@[127.0.0.1]", "@ours.example:u@far.example"),
    ("spam@[127.0.0.1]", "far.example!u"),
    ("spam@[127.0.0.1]", "far.example!u@[127.0.0.1]"),
    ("spam@[127.0.0.1]", "far.example!u@ours.example"),
]
OURS = {"u%far.example@ours.example", "far.example!u@ours.example"}
"""What is mail for our domain, as strange as it looks."""
_LISTENERS = """
  }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = {}, meta = { ours = 'yes' }
"""
_DOMAINS = """
kumo.on('get_listener_domain', function(domain, listener, conn)
  if domain == 'ours.example' and conn:get_meta 'ours' then
    return kumo.make_listener_domain { relay_to = true }
  end
end)
"""


@pytest.fixture(scope="module")
def sink_of_node() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, sink_of_node: SmtpSink) -> Iterator[RealNode]:
    """Two listeners: one for nobody, one that takes mail for ours.example."""
    directory = tmp_path_factory.mktemp("node")
    listener = "relay_hosts = {}" + _LISTENERS
    node = RealNode(
        relay_policy(directory, sink_of_node.address, listener=listener, more=_DOMAINS), directory
    )
    try:
        node.wait_ready()
        yield node
        node.stop()
    finally:
        node.kill()


@pytest.mark.parametrize(("sender", "recipient"), FORMS)
def test_nobody_relays_for_strangers(
    node: RealNode, sink_of_node: SmtpSink, sender: str, recipient: str
) -> None:
    with SmtpClient(node.addresses[0]) as client:
        client.greet()
        assert client.command(f"MAIL FROM:<{sender}>").code == 250
        assert 500 <= client.command(f"RCPT TO:<{recipient}>").code <= 559
        assert client.command("DATA").code == 503
    assert not [delivery for delivery in sink_of_node.deliveries if delivery.recipients == [recipient]]


@pytest.mark.parametrize(("sender", "recipient"), FORMS)
def test_our_domain_is_no_way_to_others(
    node: RealNode, sink_of_node: SmtpSink, sender: str, recipient: str
) -> None:
    before = len(sink_of_node.deliveries)
    with SmtpClient(node.addresses[1]) as client:
        client.greet()
        reply = client.message(sender, recipient, b"Subject: x\r\n\r\n")
        if recipient not in OURS:
            assert 500 <= reply.code <= 559, reply
            return
        assert reply.code == 250
    sink_of_node.wait_for(before + 1, 10)
    assert sink_of_node.deliveries[-1].recipients == [recipient]
