"""kumo.nats: options, results and errors; what it says to servers, and what it makes of what they say."""

from __future__ import annotations

import base64
import binascii
import gc
import hashlib
import json
import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from nats_server import NatsServer
from policy_host import run

from kumo_py.core.policy import PolicyError
from kumo_py.policy.modules.nats import NatsClients
from kumo_py.proto.nats import (
    Delivery,
    Info,
    NatsKey,
    NatsProtocolError,
    Parser,
    Refusal,
    Word,
    header_block,
    parse_credentials,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

pytestmark = pytest.mark.time_limit(30)


@pytest.fixture
async def background(host: RecordingHost, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What the policy starts in the background runs, as in a node."""
    monkeypatch.setattr("kumo_py.policy.shared_clients.LINGER", 0.1)
    async with trio.open_nursery() as nursery:
        host.spawn = lambda what, task: nursery.start_soon(task)  # type: ignore[method-assign]
        yield
        nursery.cancel_scope.cancel()


async def failure(policy: MakePolicy, code: str) -> str:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    return str(caught.value).partition("\nstack traceback")[0]


# -- options --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("{}", "option 'servers' is required"),
        ("{ servers = '127.0.0.1' }", "option 'servers' must be a list, got string '127.0.0.1'"),
        ("{ servers = {} }", "servers must name at least one"),
        ("{ servers = { 'http://x' } }", "'http://x' is not the address of a NATS server"),
        ("{ servers = { 'x:y' } }", "'x:y' is not the address of a NATS server"),
        ("{ servers = { 'nats://me:secret@x:y' } }", "'nats://…@x:y' is not the address of a NATS server"),
        ("{ servers = { 'x' }, max_reconect = 1 }", "did you mean 'max_reconnects'"),
        (
            "{ servers = { 'x' }, auth = { username = { key_data = 'u' } } }",
            "username and password or neither",
        ),
        ("{ servers = { 'x' }, auth = { token = 'a', nkey = 'b' } }", "give one of: username and password"),
        ("{ servers = { 'x' }, client_cert = 'a' }", "either specify both of client_cert and client_key"),
        ("{ servers = { 'x' }, inbox_prefix = 'a\\r\\nb' }", "is not a subject"),
        ("{ servers = { 'x' }, client_capacity = 0 }", "option 'client_capacity' must be an integer >= 1"),
        ("{ servers = { 'x' }, ping_interval = 0 }", "ping_interval must be more than 0"),
        ("{ servers = { 'x' }, request_timeout = 'soon' }", "option 'request_timeout'"),
    ],
)
async def test_wrong_options(policy: MakePolicy, options: str, problem: str) -> None:
    text = await failure(policy, f"kumo.nats.connect {options}")
    assert text.startswith("mine: policy.lua:3: kumo.nats.connect: ")
    assert problem in text


async def test_validation_connects_to_nothing(policy: MakePolicy) -> None:
    lua = policy(
        """
        local client = kumo.nats.connect { servers = { '127.0.0.1:1' } }
        kumo.on('mine', function() client:publish { subject = 'a', payload = 'b' } end)
        """,
        validating=True,
    )
    await lua.load()
    with pytest.raises(PolicyError, match=r"policy\.lua:4: nats_client:publish: nothing is sent while"):
        await lua.ask("mine")
    lua.close()


# -- a server that says what the test wants ----------------------------------------------------------------------
INFO = {"server_id": "x", "version": "2", "headers": True, "max_payload": 100}


@asynccontextmanager
async def listening(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def fake_server(
    answer: Callable[[trio.abc.Stream, str, bytes, bytes], Awaitable[None]],
    info: dict[str, Any] = INFO,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Greets, and calls `answer` with the reply subject, headers and payload of what is published."""
    hellos: list[dict[str, Any]] = []

    async def serve(stream: trio.abc.Stream) -> None:
        if tls is not None:
            stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        await stream.send_all(b"INFO %b\r\n" % json.dumps(info).encode())
        buffer = b""
        async for data in stream:
            buffer += data
            while b"\r\n" in buffer:
                line, _, rest = buffer.partition(b"\r\n")
                word, *fields = line.split()
                if word in (b"PUB", b"HPUB"):
                    size = int(fields[-1])
                    if len(rest) < size + 2:
                        break
                    head = int(fields[-2]) if word == b"HPUB" else 0
                    content, rest = rest[:size], rest[size + 2 :]
                    names = fields[:-2] if word == b"HPUB" else fields[:-1]
                    reply = names[1].decode() if len(names) == 2 else ""
                    await answer(stream, reply, content[:head], content[head:])
                elif word == b"CONNECT":
                    hellos.append(json.loads(line.partition(b" ")[2]))
                elif word == b"PING":
                    await stream.send_all(b"PONG\r\n")
                buffer = rest

    async with listening(serve) as address:
        yield address, hellos


def message(subject: str, payload: bytes) -> bytes:
    return b"MSG %b 1 %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)


CONNECT = "local client = kumo.nats.connect {{ servers = {{ '{0}' }}, request_timeout = '500ms', {1} }}\n"


async def test_what_a_server_gets(policy: MakePolicy, background: None) -> None:
    got = []

    async def answer(stream: trio.abc.Stream, reply: str, head: bytes, payload: bytes) -> None:
        got.append((bool(reply), head, payload))
        if reply:
            ack = b'{"stream":"S","seq":7,"domain":"d","duplicate":true,"val":"3"}'
            await stream.send_all(b"PING\r\n" + message(reply, ack))

    async with fake_server(answer) as (address, hellos):
        code = CONNECT.format(address, "name = 'kumo', no_echo = true, auth = { token = { key_data = 'T' } }")
        code += """
        local ack = client:publish { subject = 'a.b', payload = '\\xff\\0', headers = { ['X-Y'] = 'z' } }
        local none = client:publish { subject = 'a.b', payload = 'p', await_ack = false }
        assert(next(none) == nil)
        return ack
        """
        ack = await run(policy, code)
        with trio.fail_after(5):
            while len(got) < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert ack == {"stream": "S", "sequence": 7, "domain": "d", "duplicate": True, "value": "3"}
    assert got == [(True, b"NATS/1.0\r\nX-Y: z\r\n\r\n", b"\xff\0"), (False, b"", b"p")]
    (hello,) = hellos
    assert (hello["name"], hello["auth_token"], hello["echo"], hello["verbose"]) == (
        "kumo",
        "T",
        False,
        False,
    )
    assert hello["headers"]
    assert hello["no_responders"]


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"HMSG {} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "no stream found for the subject 'a'"),
        (b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"}}',
         "JetStream refuses the message: wrong last sequence: 4 (code 10071)"),
        (b"hello", "'a' is not stored by JetStream; it answers b'hello'"),
        (b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n", "Permissions Violation for Publish to \"a\""),
        (b"-ERR 'Permissions Violation for Publish to \"b\"'\r\n", "a: no acknowledgement within 500ms"),
        (b"QUATSCH\r\n", "b'QUATSCH' is nothing that a server says before the message was acknowledged"),
        (b"-ERR 'Stale Connection'\r\n<close>",
         "the server closed the connection (Stale Connection) before the message was acknowledged"),
    ],
)  # fmt: skip
async def test_refusals(policy: MakePolicy, background: None, reply: bytes, problem: str) -> None:
    async def answer(stream: trio.abc.Stream, to: str, head: bytes, payload: bytes) -> None:
        if reply.endswith(b"<close>"):
            await stream.send_all(reply.removesuffix(b"<close>"))
            await stream.aclose()
        elif reply.endswith(b"\r\n"):
            await stream.send_all(reply.replace(b"{}", to.encode()))
        else:
            await stream.send_all(message(to, reply))

    async with fake_server(answer) as (address, _):
        code = CONNECT.format(address, "") + "client:publish { subject = 'a', payload = 'x' }"
        text = await failure(policy, code)
    assert text.startswith("mine: policy.lua:4: nats_client:publish: ")
    assert problem in text


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("subject = 'a'", "option 'payload' is required"),
        ("payload = 'a'", "option 'subject' is required"),
        ("subject = 'a', payload = {}", "option 'payload' must be a string, got a table"),
        ("subject = 'a', payload = 'x', header = {}", "did you mean 'headers'"),
        ("subject = 'a b', payload = 'x'", "'a b' is not a subject"),
        ("subject = 'a..b', payload = 'x'", "'a..b' is not a subject"),
        ("subject = 'a\\r\\nPUB', payload = 'x'", "is not a subject"),
        ("subject = 'a.*', payload = 'x'", "'a.*' is a pattern of subjects"),
        ("subject = 'a', payload = 'x', headers = { ['A B'] = 'x' }", "'A B' is not the name of a header"),
        ("subject = 'a', payload = 'x', headers = { A = 'x\\r\\nB: y' }", "header 'A' has a line break"),
        ("subject = 'a', payload = ('x'):rep(101)", "has 101 octets, and the server takes at most 100"),
    ],
)
async def test_wrong_messages_are_not_sent(
    policy: MakePolicy, background: None, what: str, problem: str
) -> None:
    got: list[bytes] = []

    async def answer(stream: trio.abc.Stream, to: str, head: bytes, payload: bytes) -> None:
        got.append(payload)

    async with fake_server(answer) as (address, _):
        text = await failure(policy, CONNECT.format(address, "") + f"client:publish {{ {what} }}")
    assert problem in text
    assert not got


async def test_tls_that_a_server_does_not_offer(policy: MakePolicy, background: None) -> None:
    async def answer(*args: object) -> None: ...

    async with fake_server(answer) as (address, hellos):
        text = await failure(policy, CONNECT.format(address, "tls_required = true"))
    assert f"kumo.nats.connect: {address}: TLS is required, and the server does not offer it" in text
    assert not hellos


async def test_a_password_is_not_said_before_tls(policy: MakePolicy, background: None) -> None:
    """A server that goes on in the clear after it announced TLS is not believed."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b'INFO {"tls_required":true}\r\nPONG\r\n')
        got.append(await stream.receive_some())

    got: list[bytes] = []
    async with listening(serve) as address:
        text = await failure(policy, CONNECT.format(address, ""))
    assert "went on in the clear" in text
    assert got in ([], [b""])


async def test_a_server_that_says_nothing(policy: MakePolicy, background: None) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with listening(serve) as address:
        text = await failure(policy, CONNECT.format(address, "connection_timeout = '100ms'"))
    assert f"{address}: no connection within 100ms" in text


async def test_silence_ends_a_connection(policy: MakePolicy, background: None) -> None:
    """Two PINGs without an answer; then the client connects anew."""
    hellos = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal hellos
        await stream.send_all(b"INFO {}\r\n")
        async for data in stream:
            if b"CONNECT" in data:
                hellos += 1
                await stream.send_all(b"PONG\r\n")

    async with listening(serve) as address:
        lua = policy(
            CONNECT.format(address, "ping_interval = '50ms'")
            + "kumo.on('mine', function() return client end)"
        )
        await lua.load()
        with trio.fail_after(5):
            while hellos < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
        lua.close()


# -- real servers ------------------------------------------------------------------------------------------------
async def test_clients_share_a_connection(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        server.make_stream("S", "s.>")
        address = server.address
        code = f"""
        local client = kumo.nats.connect {{ servers = {{ '{address}' }} }}
        local other = kumo.nats.connect {{ servers = {{ '{address}' }} }}
        local sequences = {{}}
        for n = 1, 3 do
          table.insert(sequences, client:publish {{ subject = 's.' .. n, payload = n }}.sequence)
        end
        local again = {{ subject = 's.x', payload = 'x', headers = {{ ['Nats-Msg-Id'] = 'one' }} }}
        local first, second = other:publish(again), other:publish(again)
        assert(not first.duplicate and second.duplicate and first.sequence == second.sequence)
        client:close()
        client:close()
        other:publish {{ subject = 's.last', payload = '' }}
        local ok, problem = pcall(client.publish, client, again)
        return {{ sequences, tostring(problem) }}
        """
        sequences, problem = await run(policy, code)
        assert sequences == [1, 2, 3]
        assert problem.endswith("nats_client:publish: client was closed")
        assert [subject for subject, _, _ in server.messages("S")] == ["s.1", "s.2", "s.3", "s.x", "s.last"]
        assert server.messages("S")[3] == ("s.x", b"x", {"Nats-Msg-Id": "one"})


async def test_a_client_outlives_its_context(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    """One that is memoized belongs to the node; one that nobody holds any more is closed."""
    with NatsServer(tmp_path) as server:
        server.make_stream("S", "s")
        lua = policy(f"""
            local function connect()
              return kumo.nats.connect {{ servers = {{ '{server.address}' }}, name = 'kept' }}
            end
            local kept = kumo.memoize(connect, {{ name = 'nats', ttl = '1 hour', capacity = 1 }})
            kumo.on('keep', function() return kept():publish {{ subject = 's', payload = 'x' }}.sequence end)
            kumo.on('drop', function()
              kumo.nats.connect {{ servers = {{ '{server.address}' }}, name = 'dropped' }}
            end)
        """)
        await lua.load()
        clients = lua.env.state(NatsClients)
        lua.env.pool_limits.max_uses = 1  # each event has a context of its own
        assert [await lua.ask("keep") for _ in range(3)] == [1, 2, 3]
        await lua.ask("drop")
        assert len(clients) == 2
        assert await lua.ask("keep") == 4  # in a context of its own: the one before is let go
        with trio.fail_after(10):
            while len(clients) == 2:
                gc.collect()
                await trio.sleep(0.05)
        assert await lua.ask("keep") == 5
        lua.close()


async def test_passwords_and_tokens(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    login = "auth = { username = { key_data = 'me' }, password = { key_data = '%s' } }"
    config = "authorization { user: me, password: secret }"
    with NatsServer(tmp_path, config, {"user": "me", "pass": "secret"}) as server:
        server.make_stream("S", "s")
        send = "return client:publish { subject = 's', payload = 'x' }.stream"
        assert await run(policy, CONNECT.format(server.address, login % "secret") + send) == "S"
        assert await run(policy, CONNECT.format(f"nats://me:secret@{server.address}", "") + send) == "S"
        for options in (login % "wrong", "auth = { token = { key_data = 'secret' } }", ""):
            text = await failure(policy, CONNECT.format(server.address, options))
            problem = "the server refuses the connection: Authorization Violation"
            assert text == f"mine: policy.lua:3: kumo.nats.connect: {server.address}: {problem}"


def _seed(kind: str, key: Ed25519PrivateKey) -> str:
    prefix = {"U": 20 << 3, "A": 0, "O": 14 << 3}[kind]
    raw = bytes((18 << 3 | prefix >> 5, (prefix & 31) << 3))
    raw += key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return _base32(raw)


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _public(kind: str, key: Ed25519PrivateKey) -> str:
    return _base32(bytes(({"U": 20 << 3, "A": 0, "O": 14 << 3}[kind],)) + key.public_key().public_bytes_raw())


async def test_an_nkey(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    seed = _seed("U", key)
    assert seed.startswith("SU")
    assert NatsKey(seed).public == _public("U", key)
    config = f"authorization {{ users: [ {{ nkey: {NatsKey(seed).public} }} ] }}"
    with NatsServer(tmp_path, config) as server:
        code = CONNECT.format(server.address, f"auth = {{ nkey = {{ key_data = '{seed}' }} }}")
        code += "return client:publish { subject = 's', payload = 'x', await_ack = false }"
        assert await run(policy, code) == {}
        other = _seed("U", Ed25519PrivateKey.generate())
        text = await failure(
            policy, CONNECT.format(server.address, f"auth = {{ nkey = {{ key_data = '{other}' }} }}")
        )
        assert "Authorization Violation" in text
        text = await failure(
            policy, CONNECT.format(server.address, "auth = { nkey = { key_data = 'SUNONE' } }")
        )
        assert "this is not the seed of a user's NKEY" in text


def _jwt(issuer: tuple[str, Ed25519PrivateKey], subject: str, claims: dict[str, Any]) -> str:
    """As NATS writes them: signed by Ed25519, `nats` has what is its own."""

    def part(value: object) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    kind, key = issuer
    body = {"iat": 1_700_000_000, "iss": _public(kind, key), "name": "test", "sub": subject, "nats": claims}
    body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
    text = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(body)}"
    return f"{text}.{part(key.sign(text.encode()))}"


async def test_a_credentials_file(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    operator, account, user = (Ed25519PrivateKey.generate() for _ in range(3))
    of_operator = _jwt(("O", operator), _public("O", operator), {"type": "operator", "version": 2})
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    of_account = _jwt(
        ("O", operator), _public("A", account), {"type": "account", "version": 2, "limits": limits}
    )
    limits = dict.fromkeys(("subs", "data", "payload"), -1)
    of_user = _jwt(
        ("A", account), _public("U", user), {"type": "user", "version": 2, "pub": {}, "sub": {}} | limits
    )
    (tmp_path / "me.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{_seed('U', user)}\n------END USER NKEY SEED------\n"
    )
    config = f"""
    operator: {of_operator}
    resolver: MEMORY
    resolver_preload: {{ {_public("A", account)}: {of_account} }}
    """
    with NatsServer(tmp_path, config, jetstream=False) as server:
        code = CONNECT.format(server.address, "auth = { credentials_file = 'me.creds' }")
        code += "return client:publish { subject = 's', payload = 'x', await_ack = false }"
        assert await run(policy, code) == {}, server.log
    assert parse_credentials((tmp_path / "me.creds").read_text())[0] == of_user
    with pytest.raises(ValueError, match="no part 'USER NKEY SEED'"):
        parse_credentials("-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------")


async def test_tls(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, identity in (("server", "localhost"), ("client", "me@example.com")):
        made = authority.issue_cert(identity)
        made.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    config = f"""tls {{
      cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key", ca_file: "{tmp_path}/ca.pem", verify: true
    }}"""
    with NatsServer(tmp_path, config) as server:
        keys = "client_cert = 'client.pem', client_key = 'client.key'"
        send = "return client:publish { subject = 's', payload = 'x', await_ack = false }"
        address = f"tls://localhost:{server.port}"
        assert await run(policy, CONNECT.format(address, f"certificate = 'ca.pem', {keys}") + send) == {}
        text = await failure(policy, CONNECT.format(address, keys))
        assert f"localhost:{server.port}: TLS: " in text
        assert "certificate" in text
        text = await failure(policy, CONNECT.format(address, "certificate = 'no.pem'"))
        assert "no.pem: No such file or directory" in text


async def test_tls_comes_first(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def answer(*args: object) -> None: ...

    async with fake_server(answer, tls=context) as (address, hellos):
        options = "tls_first = true, certificate = 'ca.pem', auth = { token = { key_data = 'T' } }"
        await run(policy, CONNECT.format(address, options))
    assert [(hello["auth_token"], hello["tls_required"]) for hello in hellos] == [("T", True)]


@pytest.mark.parametrize("ignored", [False, True])
async def test_servers_that_another_one_tells_of(policy: MakePolicy, background: None, ignored: bool) -> None:
    async def keep(stream: trio.abc.Stream, to: str, *args: object) -> None:
        await stream.send_all(message(to, b'{"stream":"S","seq":1}'))

    async with fake_server(keep) as (second, _), trio.open_nursery() as nursery:
        first = await nursery.start(_serve_once, INFO | {"connect_urls": [second]})
        options = f"retain_servers_order = true, ignore_discovered_servers = {str(ignored).lower()}"
        code = (
            CONNECT.format(first, options)
            + """
        kumo.sleep(0.1)
        return client:publish { subject = 's', payload = 'x' }.stream
        """
        )
        if ignored:
            assert "there is no connection" in await failure(policy, code)
        else:
            assert await run(policy, code) == "S"


async def _serve_once(info: dict[str, Any], *, task_status: trio.TaskStatus[str]) -> None:
    """One connection, closed at once after it was made; then there is no server any more."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"127.0.0.1:{listener.socket.getsockname()[1]}")
    async with listener:
        stream = await listener.accept()
    await stream.send_all(b"INFO %b\r\n" % json.dumps(info).encode())
    await stream.receive_some()
    await stream.send_all(b"PONG\r\n")
    await stream.receive_some()
    await stream.aclose()


async def test_the_next_server_takes_over(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    """And a server that comes back is found again, without an error for what can wait that long."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with NatsServer(tmp_path / "a") as a, NatsServer(tmp_path / "b") as b:
        for server in (a, b):
            server.make_stream("S", "s")
        lua = policy(f"""
            local client = kumo.nats.connect {{
              servers = {{ '{a.address}', '{b.address}' }}, retain_servers_order = true, request_timeout = '5s',
            }}
            kumo.on('mine', function(text) return client:publish {{ subject = 's', payload = text }}.sequence end)
        """)
        await lua.load()
        assert await lua.ask("mine", "first") == 1
        a.stop()
        await trio.sleep(0.05)
        assert await lua.ask("mine", "second") == 1
        b.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, b.start)
            assert await lua.ask("mine", "third") == 2
        assert [payload for _, payload, _ in b.messages("S")] == [b"second", b"third"]
        lua.close()


async def test_giving_up(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        lua = policy(f"""
            kumo.on('mine', function()
              local client = kumo.nats.connect {{
                servers = {{ '{server.address}' }}, max_reconnects = 2, request_timeout = '2s',
              }}
              kumo.sleep(0.2)
              client:publish {{ subject = 's', payload = 'x', await_ack = false }}
            end)
        """)
        await lua.load()
        await lua.ask("mine")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.stop)
            with pytest.raises(PolicyError, match=r"Connection refused \(given up after 3 attempts\)"):
                await lua.ask("mine")
        server.start()
        await lua.ask("mine")  # connects anew
        lua.close()


async def test_connecting_in_the_background(policy: MakePolicy, background: None, tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    code = f"""
    local client = kumo.nats.connect {{
      servers = {{ '{server.address}' }}, retry_on_initial_connect = true, request_timeout = '%s',
    }}
    client:publish {{ subject = 's', payload = 'x', await_ack = false }}
    return true
    """
    text = await failure(policy, code % "100ms")
    assert "s: no acknowledgement within 100ms; there is no connection: " in text
    assert "Connection refused" in text
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.start)
            assert await run(policy, code % "5s")
    finally:
        server.stop()


# -- grammar -----------------------------------------------------------------------------------------------------
SAID = (
    b'INFO {"server_id":"x","headers":true,"unknown":[1]}\r\n'
    b"PING\r\nPONG\r\n+OK\r\n-ERR 'No'\r\n"
    b"MSG a.b 1 2\r\nhi\r\n"
    b"MSG a.b 1 reply 0\r\n\r\n"
    b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
)
UNDERSTOOD = [
    Info(server_id="x", headers=True), Word("PING"), Word("PONG"), Word("+OK"), Refusal("No"),
    Delivery("a.b", b"hi"), Delivery("a.b", b""), Delivery("a", b"hi"), Delivery("a", b"", 503),
]  # fmt: skip


def operations(pieces: list[bytes]) -> list[object]:
    parser = Parser()
    found = []
    for piece in pieces:
        parser.feed(piece)
        while (operation := parser.next()) is not None:
            found.append(operation)
    return found


def test_operations_whole_and_byte_by_byte() -> None:
    assert operations([SAID]) == UNDERSTOOD
    assert operations([SAID[n : n + 1] for n in range(len(SAID))]) == UNDERSTOOD


@pytest.mark.parametrize(
    "said",
    [
        b"HELLO\r\n",
        b"INFO {\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 2\r\nhix\r\n",
        b"MSG a 1 -2\r\n",
        b"MSG a 1 99999999\r\n",
        b"HMSG a 1 3 2\r\n",
        b"x" * (2 << 20),
    ],
)
def test_what_is_no_operation(said: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        operations([said])


@given(st.lists(st.binary(max_size=60) | st.sampled_from([SAID, SAID[:40], b"MSG a 1 5\r\n", b"\r\n"])))
def test_any_input_gives_operations_or_an_error(pieces: list[bytes]) -> None:
    try:
        whole = operations([b"".join(pieces)])
    except NatsProtocolError:
        with pytest.raises(NatsProtocolError):
            operations(pieces)
    else:
        assert operations(pieces) == whole


def test_headers() -> None:
    assert header_block({}) == b""
    assert header_block({"A": "x", "B": ""}) == b"NATS/1.0\r\nA: x\r\nB: \r\n\r\n"
