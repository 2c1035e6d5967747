"""The TLS options of an egress path, each by what it changes on the wire."""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from queue_harness import BODY
from smtp_out_harness import Server
from smtp_out_tls_harness import (
    MAIL,
    TRANSACTION,
    broken,
    context_for,
    later,
    offering,
    start,
    trusted_by_the_system,
)
from structlog.testing import capture_logs

from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource
from kumo_py.core.options import OptionError, convert
from kumo_py.queue.config import EgressPath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smtp_out_harness import Peer
    from trio.testing import MockClock

OPPORTUNISTIC = ["Opportunistic", "OpportunisticInsecure"]
HELLO = "EHLO me.test"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority: trustme.CA, tmp_path: Path) -> Iterator[None]:
    with trusted_by_the_system(authority, tmp_path):
        yield


# -- tls_certificate, tls_private_key ---------------------------------------------------------------------
class Certified:
    """A server that asks for a client certificate of an authority of its own."""

    def __init__(self, authority: trustme.CA, clients: trustme.CA, *, required: bool = True) -> None:
        context = context_for(authority)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # a handshake without one fails at once
        clients.configure_trust(context)
        self.subjects: list[object] = []
        self.server = Server(self._script)
        self._serve = offering(context)

    async def _script(self, peer: Peer) -> None:
        try:
            await self._serve(peer)
        finally:
            if isinstance(peer.stream, trio.SSLStream) and peer.stream.transport_stream:
                self.subjects.append(peer.stream._ssl_object.getpeercert(binary_form=True))


def as_source(blob: trustme.Blob, how: str, path: Path) -> KeySource:
    if how == "key_data":
        return KeySource(key_data=blob.bytes().decode())
    blob.write_to_path(path)
    return KeySource(path=str(path))


@pytest.mark.option("make_egress_path.tls_certificate")
@pytest.mark.option("make_egress_path.tls_private_key")
@pytest.mark.parametrize("how", ["key_data", "path"])
async def test_tls_certificate_and_tls_private_key(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, tmp_path: Path, how: str
) -> None:
    clients = trustme.CA()
    between = clients.create_child_ca()
    ours = between.issue_cert("me.test", common_name="me.test")
    peer = Certified(authority, clients)
    chain = trustme.Blob(b"".join(blob.bytes() for blob in ours.cert_chain_pems))
    node = await start(
        mock_clock,
        nursery,
        peer.server,
        tls_certificate=as_source(chain, how, tmp_path / "cert.pem"),
        tls_private_key=as_source(ours.private_key_pem, how, tmp_path / "key.pem"),
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert peer.subjects == [ssl.PEM_cert_to_DER_cert(ours.cert_chain_pems[0].bytes().decode())]


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_private_key"])
async def test_no_tls_certificate_without_tls_private_key(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, missing: str
) -> None:
    clients = trustme.CA()
    ours = clients.issue_cert("me.test")
    options = {
        "tls_certificate": KeySource(key_data=ours.cert_chain_pems[0].bytes().decode()),
        "tls_private_key": KeySource(key_data=ours.private_key_pem.bytes().decode()),
    }
    del options[missing]
    peer = Certified(authority, clients, required=False)
    node = await start(mock_clock, nursery, peer.server, **options)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert peer.subjects == [None]


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (KeySource(path="/nowhere/cert.pem"), "tls_certificate cannot be loaded: "),
        (KeySource(key_data="nonsense"), "tls_certificate and tls_private_key cannot be used: "),
    ],
)
async def test_a_tls_certificate_that_cannot_be_used(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, certificate: KeySource, text: str
) -> None:
    key = authority.issue_cert("me.test").private_key_pem.bytes().decode()
    server = Server(offering(context_for(authority)))
    node = await start(
        mock_clock, nursery, server, tls_certificate=certificate, tls_private_key=KeySource(key_data=key)
    )
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "TransientFailure"
    assert text in record.content
    assert node.in_spool(msg)
    assert server.commands == [[HELLO]]


async def test_a_tls_private_key_with_a_passphrase_is_refused_without_asking_for_it(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    ours = authority.issue_cert("me.test")
    key = load_pem_private_key(ours.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    server = Server(offering(context_for(authority)))
    node = await start(
        mock_clock,
        nursery,
        server,
        tls_certificate=KeySource(key_data=ours.cert_chain_pems[0].bytes().decode()),
        tls_private_key=KeySource(key_data=locked.decode()),
    )
    await node.send()
    await node.done(1)
    assert "tls_certificate and tls_private_key cannot be used: " in node.log.records[0].content


async def test_a_renewed_tls_certificate_is_taken_up(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, tmp_path: Path
) -> None:
    clients = trustme.CA()
    peer = Certified(authority, clients)
    file = tmp_path / "both.pem"
    first, second = clients.issue_cert("me.test"), clients.issue_cert("me.test")
    first.private_key_and_cert_chain_pem.write_to_path(file)
    both = KeySource(path=str(file))
    node = await start(
        mock_clock,
        nursery,
        peer.server,
        tls_certificate=both,
        tls_private_key=both,
        max_deliveries_per_connection=1,
    )
    await node.send()
    await node.log.reach(1)
    second.private_key_and_cert_chain_pem.write_to_path(file)
    await node.send()
    await node.log.reach(2)
    await later(mock_clock, 301)
    await node.send()
    await node.done(3)
    der = [ssl.PEM_cert_to_DER_cert(one.cert_chain_pems[0].bytes().decode()) for one in (first, second)]
    assert peer.subjects == [der[0], der[0], der[1]]


# -- ciphers and options ---------------------------------------------------------------------------------------
OPENSSL = {"tls_prefer_openssl": True}


@pytest.mark.option("make_egress_path.tls_prefer_openssl")
@pytest.mark.option("make_egress_path.openssl_cipher_list")
@pytest.mark.option("make_egress_path.rustls_cipher_suites")
@pytest.mark.parametrize(
    ("options", "cipher", "version"),
    [
        pytest.param(
            {"openssl_cipher_list": "ECDHE-ECDSA-AES128-GCM-SHA256", **OPENSSL},
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLSv1.2",
            id="openssl_cipher_list",
        ),
        pytest.param(
            {"openssl_cipher_list": "ECDHE-ECDSA-AES128-GCM-SHA256"},
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLSv1.2",
            id="tls_prefer_openssl decides on openssl_cipher_list",
        ),
        pytest.param(
            {"rustls_cipher_suites": ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]},
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLSv1.2",
            id="rustls_cipher_suites",
        ),
        pytest.param(
            {"rustls_cipher_suites": ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"], **OPENSSL},
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLSv1.2",
            id="tls_prefer_openssl decides on rustls_cipher_suites",
        ),
    ],
)
async def test_ciphers_before_tls13(
    mock_clock: MockClock,
    nursery: trio.Nursery,
    authority: trustme.CA,
    options: dict[str, Any],
    cipher: str,
    version: str,
) -> None:
    context = context_for(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    node = await start(mock_clock, nursery, Server(offering(context)), **options)
    await node.send()
    await node.done(1)
    tls = node.log.records[0].context.tls
    assert tls is not None
    assert (tls.cipher, tls.protocol_version) == (cipher, version)


@pytest.mark.option("make_egress_path.openssl_options")
@pytest.mark.parametrize(
    ("options", "version"),
    [
        pytest.param({"openssl_options": "NO_TLSV1_3", **OPENSSL}, "TLSv1.2", id="openssl_options"),
        pytest.param({"openssl_options": "NO_TLSV1_3"}, "TLSv1.3", id="openssl_options without OpenSSL"),
        pytest.param({"openssl_options": "ALL|NO_TICKET|NO_TLSV1_2", **OPENSSL}, "TLSv1.3", id="several"),
        pytest.param(
            {"rustls_cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]}, "TLSv1.2", id="rustls 1.2"
        ),
        pytest.param({"rustls_cipher_suites": ["TLS13_AES_256_GCM_SHA384"]}, "TLSv1.3", id="rustls 1.3"),
    ],
)
async def test_versions(
    mock_clock: MockClock,
    nursery: trio.Nursery,
    authority: trustme.CA,
    options: dict[str, Any],
    version: str,
) -> None:
    node = await start(mock_clock, nursery, Server(offering(context_for(authority))), **options)
    await node.send()
    await node.done(1)
    tls = node.log.records[0].context.tls
    assert tls is not None
    assert tls.protocol_version == version


async def test_rustls_cipher_suites_of_tls13_only(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    context = context_for(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    node = await start(
        mock_clock,
        nursery,
        Server(offering(context)),
        rustls_cipher_suites=["TLS13_AES_256_GCM_SHA384", "TLS13_AES_128_GCM_SHA256"],
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]


@pytest.mark.option("make_egress_path.openssl_cipher_suites")
async def test_openssl_cipher_suites_are_heeded_or_named(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    chosen = "TLS_CHACHA20_POLY1305_SHA256"
    with capture_logs() as logs:
        node = await start(
            mock_clock,
            nursery,
            Server(offering(context_for(authority))),
            openssl_cipher_suites=chosen,
            **OPENSSL,
        )
        await node.send()
        await node.done(1)
    tls = node.log.records[0].context.tls
    assert tls is not None
    named = [entry["event"] for entry in logs if "openssl_cipher_suites" in entry["event"]]
    if hasattr(ssl.SSLContext, "set_ciphersuites"):
        assert (tls.cipher, named) == (chosen, [])
    else:
        assert len(named) == 1


async def test_openssl_cipher_list_that_means_nothing(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = Server(offering(context_for(authority)))
    node = await start(mock_clock, nursery, server, openssl_cipher_list="NONSENSE", **OPENSSL)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]
    assert "openssl_cipher_list 'NONSENSE' cannot be used" in node.log.records[0].content


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"openssl_options": "no_tlsv1_3"}, "did you mean 'NO_TLSV1_3'"),
        ({"openssl_options": ""}, "write one of ALL"),
        ({"openssl_options": "ALL | NO_TICKET"}, "is none of OpenSSL's options"),
        ({"rustls_cipher_suites": ["TLS_AES_256_GCM_SHA384"]}, "did you mean 'TLS13_AES_256_GCM_SHA384'"),
    ],
)
def test_names_are_checked_when_they_are_given(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        convert(options, EgressPath, "kumo.make_egress_path")


def test_each_of_openssls_options_can_be_set() -> None:
    from kumo_py.core.tls_options import FLAGS
    from kumo_py.smtp_out.tls import Settings, make_context

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, flag in FLAGS.items():
            context = make_context(Settings(True, None, None, None, name, ()))
            assert context.options & flag == flag
    # What is not named is off.
    bare = make_context(Settings(True, None, None, None, "NO_TICKET", ()))
    assert not bare.options & FLAGS["ENABLE_MIDDLEBOX_COMPAT"]


# -- OpportunisticInsecure, remember_broken_tls, opportunistic_tls_reconnect_on_failed_handshake -----------------
async def test_OpportunisticInsecure_goes_on_in_the_clear(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(broken)
    node = await start(mock_clock, nursery, server, mode="OpportunisticInsecure")
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.context.tls, record.content) == ("Delivery", None, "ok")
    assert server.commands == [[HELLO, "STARTTLS", HELLO, *TRANSACTION, "QUIT"]]


@pytest.mark.parametrize("mode", ["Opportunistic", "Required", "RequiredInsecure"])
async def test_other_modes_do_not(mock_clock: MockClock, nursery: trio.Nursery, mode: str) -> None:
    server = Server(broken)
    node = await start(mock_clock, nursery, server, mode=mode)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]
    assert server.messages == []
    assert server.commands == [[HELLO, "STARTTLS"]]


async def test_OpportunisticInsecure_advises_if_all_hosts_are_lost_after_STARTTLS(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def closing(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.send("220 go")
        await peer.stream.receive_some()
        await peer.send("454 no")

    node = await start(mock_clock, nursery, Server(closing), mode="OpportunisticInsecure")
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "TransientFailure"
    assert "consider enable_tls = 'Disabled' for this site: " in record.content
    assert "after STARTTLS, which failed (TLS handshake with mx.b.test: " in record.content


@pytest.mark.option("make_egress_path.opportunistic_tls_reconnect_on_failed_handshake")
@pytest.mark.parametrize("mode", OPPORTUNISTIC)
async def test_opportunistic_tls_reconnect_on_failed_handshake(
    mock_clock: MockClock, nursery: trio.Nursery, mode: str
) -> None:
    server = Server(broken)
    node = await start(
        mock_clock,
        nursery,
        server,
        mode=mode,
        opportunistic_tls_reconnect_on_failed_handshake=True,
        max_deliveries_per_connection=1,
    )
    for _ in range(2):
        await node.send()
    await node.log.reach(2)
    await trio.sleep(1)
    assert node.log.kinds == ["Delivery"] * 2
    # The second connection already knows.
    clear = [HELLO, *TRANSACTION, "QUIT"]
    assert server.commands == [[HELLO, "STARTTLS"], clear, clear]
    # Without remember_broken_tls that lasts for a quarter of an hour.
    await later(mock_clock, 901)
    await node.send()
    await node.done(3)
    assert server.commands[3:] == [[HELLO, "STARTTLS"], clear]


async def test_no_reconnect_where_tls_is_required(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(broken)
    node = await start(mock_clock, nursery, server, opportunistic_tls_reconnect_on_failed_handshake=True)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]
    assert server.commands == [[HELLO, "STARTTLS"]]


async def test_a_bad_certificate_counts_as_a_failed_handshake(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(offering(context_for(trustme.CA())))
    node = await start(
        mock_clock,
        nursery,
        server,
        mode="Opportunistic",
        opportunistic_tls_reconnect_on_failed_handshake=True,
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert server.commands[1] == [HELLO, *TRANSACTION, "QUIT"]
    assert server.contents == [BODY + b".\r\n"]


@pytest.mark.parametrize("how", ["refused", "closed", "silent"])
async def test_reconnect_where_EHLO_fails_after_the_handshake(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, how: str
) -> None:
    context = context_for(authority)

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.send("220 go")
        await peer.start_tls(context)
        await peer.line()
        if how == "refused":
            await peer.send("550 no")
        elif how == "silent":
            await trio.sleep_forever()

    server = Server(script, offering(context))
    node = await start(
        mock_clock,
        nursery,
        server,
        mode="Opportunistic",
        opportunistic_tls_reconnect_on_failed_handshake=True,
        ehlo_timeout=Duration(4),
    )
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert server.commands[1] == [HELLO, *TRANSACTION, "QUIT"]


@pytest.mark.option("make_egress_path.remember_broken_tls")
@pytest.mark.parametrize("mode", OPPORTUNISTIC)
async def test_remember_broken_tls(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, mode: str
) -> None:
    server = Server(broken, offering(context_for(authority)))
    node = await start(
        mock_clock,
        nursery,
        server,
        mode=mode,
        remember_broken_tls=Duration(3600),
        max_deliveries_per_connection=1,
        idle_timeout=Duration(1),
    )
    await node.send()
    await node.log.reach(1)
    await later(mock_clock, 1500)
    before = len(node.log.records)
    await node.send()
    await node.log.reach(before + 1)
    assert all("STARTTLS" not in commands for commands in server.commands[1:])
    await later(mock_clock, 2400)
    before = len(node.log.records)
    await node.send()
    await node.done(before + 1)
    assert server.commands[-1][1] == "STARTTLS"


async def test_nothing_is_remembered_without_remember_broken_tls(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = Server(broken, offering(context_for(authority)))
    node = await start(mock_clock, nursery, server, mode="OpportunisticInsecure", idle_timeout=Duration(1))
    await node.send()
    await node.log.reach(1)
    await trio.sleep(5)
    await node.send()
    await node.done(2)
    assert [commands[1] for commands in server.commands] == ["STARTTLS", "STARTTLS"]


async def test_required_tls_is_tried_whatever_is_remembered(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(broken)
    node = await start(mock_clock, nursery, server, remember_broken_tls=Duration(3600))
    for _ in range(2):
        await node.send()
    await node.done(2)
    assert node.log.kinds == ["TransientFailure"] * 2
    assert server.commands == [[HELLO, "STARTTLS"]] * 2
    assert MAIL not in server.commands[0]


# -- log records -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["Required", "RequiredInsecure"])
async def test_tls_peer_subject_name_is_logged_whether_it_was_verified_or_not(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, mode: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(
        "mx.b.test", organization_name="B", organization_unit_name="Mail", common_name="mx.b.test"
    ).configure_cert(context)
    node = await start(mock_clock, nursery, Server(offering(context)), mode=mode)
    await node.send()
    await node.done(1)
    tls = node.log.records[0].context.tls
    assert tls is not None
    assert sorted(tls.subject_name) == ["CN=mx.b.test", "O=B", "OU=Mail"]
    assert tls.protocol_version == "TLSv1.3"
