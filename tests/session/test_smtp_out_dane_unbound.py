"""DANE with a validating resolver: an unbound on loopback that serves signed zones, and knows their keys.

It is skipped where unbound is not installed (Debian: apt-get install unbound).
"""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import dns.dnssec
import dns.exception
import dns.message
import dns.query
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from programs import require_program
from smtp_out_harness import Server, egress, start_delivery
from smtp_out_tls_harness import Identity, found, offering, plain, trusted_by_the_system

from kumo_py.dns import ResolverConfig, ResolverOptions
from kumo_py.queue.config import QueueConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio
    from trio.testing import MockClock

SOA = "@ 60 SOA ns root 1 3600 600 86400 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n"
STARTS_WITHIN = 10.0
"""Seconds."""
TRIES = 5


class Names(NamedTuple):
    """Where the servers are that the records speak of, and the resolver."""

    server: Server
    resolver: str


@pytest.fixture(scope="module")
def ours() -> Identity:
    return Identity()


@pytest.fixture(autouse=True)
def _trusted(tmp_path: Path) -> Iterator[None]:
    with trusted_by_the_system(trustme.CA(), tmp_path):
        yield


def signed(origin: str, text: str) -> tuple[dns.zone.Zone, str]:
    """The zone with its signatures, and its key as a trust anchor."""
    zone = dns.zone.from_text(f"$ORIGIN {origin}.\n{SOA}{text}", relativize=False, check_origin=True)
    key = ec.generate_private_key(ec.SECP256R1())
    dnskey = dns.dnssec.make_dnskey(key.public_key(), dns.dnssec.Algorithm.ECDSAP256SHA256, flags=257)
    dns.dnssec.sign_zone(zone, keys=[(key, dnskey)], lifetime=86400, dnskey_ttl=60)
    return zone, f"{origin}. DNSKEY {dnskey}"


def spoilt(zone: dns.zone.Zone, name: str) -> None:
    """The record is changed behind its signature."""
    rdataset = zone.get_rdataset(f"{name}.{zone.origin}", "TLSA")
    assert rdataset is not None
    first = rdataset.pop()
    rdataset.add(first.replace(cert=bytes(32)))


@pytest.fixture
def names(ours: Identity, tmp_path: Path) -> Iterator[Names]:
    server = Server()
    tlsa = f"_{server.port}._tcp.mx 60 TLSA {ours.record(3)}\n"
    host = "@ 60 MX 10 mx\nmx 60 A 127.0.0.1\n"
    with_records, anchor = signed("b.test", host + tlsa)
    without, anchor_2 = signed("none.test", host)
    bogus, anchor_3 = signed("bogus.test", host + tlsa)
    spoilt(bogus, f"_{server.port}._tcp.mx")
    plain_zone = dns.zone.from_text(f"$ORIGIN unsigned.test.\n{SOA}{host}{tlsa}", relativize=False)
    zones = {"b.test": with_records, "none.test": without, "bogus.test": bogus, "unsigned.test": plain_zone}
    # Nothing may leave the machine: all other zones are asked for at a port where nobody listens.
    lines = [
        f'server:\n  directory: "{tmp_path}"\n  username: ""\n  chroot: ""\n  pidfile: ""',
        "  outgoing-interface: 127.0.0.1\n  do-not-query-localhost: no",
        '  do-daemonize: no\n  use-syslog: no\n  num-threads: 1\n  module-config: "validator iterator"',
        '  local-zone: "test." nodefault',
        *(f'  trust-anchor: "{item}"' for item in (anchor, anchor_2, anchor_3)),
        'remote-control:\n  control-enable: no\nstub-zone:\n  name: "."\n  stub-addr: 127.0.0.1@1',
    ]
    for origin, zone in zones.items():
        zone.to_file(str(tmp_path / origin), relativize=False, want_origin=True)
        lines.append(f'auth-zone:\n  name: "{origin}."\n  zonefile: "{origin}"\n  for-downstream: no')
        lines.append("  for-upstream: yes\n  fallback-enabled: no")
    process: subprocess.Popen[bytes] | None = None
    try:
        for _ in range(TRIES):
            port = random.randint(20_000, 30_000)  # below those that the kernel gives away
            text = "\n".join([lines[0], f"  interface: 127.0.0.1@{port}", *lines[1:]])
            (tmp_path / "unbound.conf").write_text(f"{text}\n")
            with (tmp_path / "log").open("w") as log:
                command = [require_program("unbound"), "-d", "-c", str(tmp_path / "unbound.conf")]
                process = subprocess.Popen(command, stdout=log, stderr=log)
            if _answers(port, process):
                yield Names(server, f"127.0.0.1:{port}")
                return
            process.kill()
        pytest.fail(f"unbound does not answer: {(tmp_path / 'log').read_text()}")
    finally:
        server._socket.close()
        if process is not None:
            process.terminate()
            process.wait(10)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until it does; False if it ends, as it does when the port is taken."""
    question = dns.message.make_query("b.test", "MX")
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            dns.query.udp(question, "127.0.0.1", port=port, timeout=0.2)
        except (OSError, dns.exception.Timeout):
            time.sleep(0.05)
        else:
            return True
    return False


@pytest.mark.parametrize(
    ("domain", "tls", "kind", "result"),
    [
        ("b.test", True, "Delivery", "ok"),
        ("b.test", False, "TransientFailure", "ok"),
        ("none.test", False, "Delivery", "not_applicable"),
        ("unsigned.test", False, "Delivery", "insecure_chain"),
        ("bogus.test", True, "TransientFailure", "tempfail"),
        ("bogus.test", False, "TransientFailure", "tempfail"),
    ],
)
async def test_enable_dane_with_unbound(
    mock_clock: MockClock,
    nursery: trio.Nursery,
    names: Names,
    ours: Identity,
    domain: str,
    tls: bool,
    kind: str,
    result: str,
) -> None:
    server = names.server
    server.scripts = (offering(ours.context) if tls else plain,)
    path = egress(enable_dane=True, smtp_port=server.port)
    node = await start_delivery(mock_clock, nursery, server, queue=QueueConfig(), path=path)
    mock_clock.autojump_threshold = 1.0  # lookups take real time
    resolve(node, names.resolver)
    await node.send(f"to@{domain}")
    await node.log.reach(1)
    assert (node.log.kinds, found(node)) == ([kind], {result: 1})
    assert len(server.messages) == (kind == "Delivery")
    mock_clock.autojump_threshold = 0.005
    await node.stop()


def resolve(node: Any, resolver: str) -> None:
    node.resolver.reconfigure(ResolverConfig(name_servers=[resolver], options=ResolverOptions(validate=True)))
