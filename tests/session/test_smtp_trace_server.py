"""What an incoming session tells those who watch: KumoMTA's events, whole commands, and never a password."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
import trustme
from smtp_in_harness import HOST, WALL, Client, MakeNode, Node

from kumo_py.core.cidr import CidrSet
from kumo_py.core.key_source import KeySource
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.smtp_in.params import ListenerDomain, ListenerOverrides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.logs.trace import Event

PASSWORD = "open sesame"
SECRET = base64.b64encode(f"\0user\0{PASSWORD}".encode()).decode()


class Watcher:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, event: Event) -> None:
        self.events.append(event)

    @property
    def shown(self) -> list[tuple[str, Any]]:
        return [(event.kind, event.data) for event in self.events]

    def of(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.kind == kind]

    @property
    def everything(self) -> str:
        return repr([(event.meta, event.data) for event in self.events])


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def watched(smtp_node: MakeNode, watcher: Watcher) -> Iterator[MakeNode]:
    with_watcher: list[Any] = []

    def make(*args: Any, **options: Any) -> Node:
        node = smtp_node(*args, **options)
        context = node.services.trace.watching(watcher)
        context.__enter__()
        with_watcher.append(context)
        return node

    yield make
    for context in with_watcher:
        context.__exit__(None, None, None)


def lines(*texts: str) -> list[bytes]:
    return [f"{text}\r\n".encode() for text in texts]


async def finished(client: Client) -> None:
    await client.stream.aclose()
    await client.ended.wait()


async def test_a_whole_session(watched: MakeNode, watcher: Watcher) -> None:
    node = watched({"smtp_server_mail_from": lambda _sender, _meta: None})
    client = node.connect()
    await client.deliver(b"Subject: x\r\n\r\nhello\r\n")
    assert (await client.command("QUIT")).startswith("221")
    await client.ended.wait()
    [disposition] = watcher.of("MessageDisposition")
    ehlo = watcher.of("Write")[1:9]
    assert watcher.shown == [
        ("Connected", None),
        ("Write", f"220 {HOST} KumoMTA\r\n".encode()),
        ("Read", b"EHLO client.test\r\n"),
        *(("Write", line) for line in ehlo),
        ("Read", b"MAIL FROM:<from@a.test>\r\n"),
        ("Callback", {"name": "smtp_server_mail_from", "result": None, "error": None}),
        ("Write", b"250 2.1.0 OK\r\n"),
        ("Read", b"RCPT TO:<to@b.test>\r\n"),
        ("Write", b"250 2.1.5 OK\r\n"),
        ("Read", b"DATA\r\n"),
        ("Write", b"354 Send body; end with CRLF.CRLF\r\n"),
        ("Read", b"Subject: x\r\n\r\nhello\r\n.\r\n"),
        ("MessageDisposition", disposition),
        ("Write", f"250 OK ids={node.message.id.hex()}\r\n".encode()),
        ("Read", b"QUIT\r\n"),
        ("Write", b"221 So long, and thanks for all the fish!\r\n"),
        ("Closed", None),
    ]
    assert [line[:4] for line in ehlo] == [b"250-"] * 7 + [b"250 "]
    assert disposition == {
        "relay": True,
        "log_arf": "Ignore",
        "log_oob": "Ignore",
        "queue": "b.test",
        "meta": node.message.meta,
        "sender": "from@a.test",
        "recipient": "to@b.test",
        "id": node.message.id.hex(),
        "was_arf_or_oob": False,
        "will_enqueue": True,
    }
    metas = [event.meta for event in watcher.events]
    assert metas[0] == {
        "reception_protocol": "ESMTP",
        "received_via": "192.0.2.1:25",
        "received_from": "127.0.0.1:40000",
        "hostname": HOST,
    }
    assert metas[-1] == {**metas[0], "ehlo_domain": "client.test"}, "an event keeps what was known then"


async def test_nobody_watches(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect()
    await client.deliver()
    [session] = node.endpoint.sessions
    assert session._traced is None


async def test_who_comes_late_sees_the_rest(smtp_node: MakeNode, watcher: Watcher) -> None:
    node = smtp_node()
    client = node.connect()
    await client.greet()
    with node.services.trace.watching(watcher):
        await client.command("NOOP")
    await client.command("RSET")
    assert watcher.shown == [("Read", b"NOOP\r\n"), ("Write", b"250 the goggles do nothing\r\n")]


async def test_pipelined_commands_and_bytes_that_drip(watched: MakeNode, watcher: Watcher) -> None:
    node = watched()
    client = node.connect()
    await client.greet()
    watcher.events.clear()
    await client.send(b"NOOP\r\nMAIL FROM:<a@b.test>\r\nRC")
    await client.replies(2)
    await client.send(b"PT TO:<c@d.test>\r\n")
    await client.reply()
    for octet in b"RSET\r\n":
        await client.send(bytes([octet]))
    await client.reply()
    assert watcher.of("Read") == lines("NOOP", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "RSET")


async def test_contents_as_they_come(watched: MakeNode, watcher: Watcher) -> None:
    node = watched()
    client = node.connect()
    await client.start_data()
    watcher.events.clear()
    await client.send(b"a: b\r\n\r\n..dot\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await client.send(b"end\r\n.\r\nNOOP\r\n")
    await client.replies(2)
    assert watcher.of("Read") == [b"a: b\r\n\r\n..dot\r\n", b"end\r\n.\r\n", b"NOOP\r\n"]
    await client.commands("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")
    await client.send(b"BDAT 6 LAST\r\nx: y\r\nNOOP\r\n")
    await client.replies(2)
    assert watcher.of("Read")[-2:] == [b"BDAT 6 LAST\r\nx: y\r\n", b"NOOP\r\n"]


async def test_callbacks(watched: MakeNode, watcher: Watcher) -> None:
    def mail_from(sender: str, _meta: object) -> None:
        if sender == "bad@a.test":
            raise Rejection(550, "5.7.1 go away")
        raise PolicyError("policy.lua:3: no database")

    domain = ListenerDomain(relay_to=True, relay_from=CidrSet(["10.0.0.0/8"]))
    overrides = ListenerOverrides(banner="hi", tls_private_key=KeySource(key_data=b"TOP SECRET"))
    node = watched(
        {
            "smtp_server_get_dynamic_parameters": lambda *_: overrides,
            "smtp_server_mail_from": mail_from,
            "get_listener_domain": lambda name, *_: domain if name == "b.test" else None,
            "smtp_server_ehlo": lambda *_: ["SIZE 7"],
        }
    )
    client = node.connect()
    await client.greet()
    assert (await client.command("MAIL FROM:<bad@a.test>")).startswith("550")
    assert watcher.of("Callback") == [
        {
            "name": "smtp_server_get_dynamic_parameters",
            "result": {"banner": "hi", "tls_private_key": "[hidden]"},
            "error": None,
        },
        {"name": "smtp_server_ehlo", "result": ["SIZE 7"], "error": None},
        {"name": "smtp_server_mail_from", "result": None, "error": "550 5.7.1 go away"},
    ]
    node.policy.handlers["smtp_server_mail_from"] = lambda *_: None
    await client.commands("MAIL FROM:<x@a.test>", "RCPT TO:<x@b.test>")
    [ours] = [made for made in watcher.of("Callback") if made["name"] == "get_listener_domain domain=b.test"]
    assert ours["result"]["relay_to"] is True
    assert ours["result"]["relay_from"] == ["10.0.0.0/8"]
    node.policy.handlers["smtp_server_mail_from"] = mail_from
    await client.command("RSET")
    await client.command("MAIL FROM:<good@a.test>")
    assert "no database" in watcher.of("Callback")[-1]["error"]
    assert "SECRET" not in watcher.everything


async def test_the_received_event_when_it_is_answered_at_once(watched: MakeNode, watcher: Watcher) -> None:
    """The null queue, which needs no waiting when nobody watches."""
    node = watched({"smtp_server_message_received": lambda msg, _meta: msg.set_meta("queue", "null")})
    node.log.wanted = False
    handler = node.policy.handlers["smtp_server_message_received"]
    node.policy.start = lambda _event, *args: handler(*args)  # type: ignore[method-assign,func-returns-value]
    client = node.connect()
    assert (await client.deliver()).startswith("250")
    kinds = [event.kind for event in watcher.events]
    assert kinds[-4:] == ["Read", "Callback", "MessageDisposition", "Write"]
    assert watcher.of("MessageDisposition")[0]["queue"] == "null"


async def test_several_recipients(watched: MakeNode, watcher: Watcher) -> None:
    node = watched(batch_handling="BatchByDomain")
    client = node.connect()
    await client.deliver(b"x: y\r\n\r\n", "a@b.test", "c@b.test", "d@e.test")
    assert [made["recipient"] for made in watcher.of("MessageDisposition")] == [
        ["a@b.test", "c@b.test"],
        "d@e.test",
    ]


@pytest.mark.parametrize(
    ("content", "reply", "message"),
    [
        (b"x: y\nz: y\r\n.\r\n", "552", "Invalid line endings in DATA"),
        (b"x" * 2000 + b"\r\n.\r\n", "500", "Line too long"),
        (b"x\r\n" * 1000 + b".\r\n", "552", "Data too big"),
    ],
)
async def test_refused_contents(
    watched: MakeNode, watcher: Watcher, content: bytes, reply: str, message: str
) -> None:
    client = watched(max_message_size=2500).connect()
    await client.start_data()
    await client.send(content)
    assert (await client.reply()).startswith(reply)
    assert watcher.of("Diagnostic") == [{"level": "ERROR", "message": message}]


async def test_the_client_goes_in_the_middle_of_a_command(watched: MakeNode, watcher: Watcher) -> None:
    client = watched().connect()
    await client.greet()
    await client.send(b"MAIL FR")
    await finished(client)
    assert watcher.shown[-3:] == [
        ("Read", b"MAIL FR"),
        ("Diagnostic", {"level": "ERROR", "message": "Peer Disconnected"}),
        ("Closed", None),
    ]


async def test_the_client_is_too_slow(
    autojump_clock: trio.testing.MockClock, watched: MakeNode, watcher: Watcher
) -> None:
    client = watched().connect()
    await client.greet()
    await client.send(b"MAIL FR")
    assert (await client.reply()).startswith("421")
    await client.ended.wait()
    assert watcher.shown[-3:] == [
        ("Read", b"MAIL FR"),
        ("Write", f"421 4.3.2 {HOST} idle too long\r\n".encode()),
        ("Closed", None),
    ]


async def test_proxies(watched: MakeNode, watcher: Watcher) -> None:
    client = watched(require_proxy_protocol=True, allow_xclient=True, relay_hosts=["any"]).connect()
    await client.send(b"PROXY TCP4 10.1.1.1 10.1.1.2 1000 25\r\n")
    await client.reply()
    await client.command("XCLIENT ADDR=10.2.2.2 PORT=7")
    assert [made["message"] for made in watcher.of("Diagnostic")] == [
        "Proxy protocol changed received_from from 127.0.0.1:40000 -> 10.1.1.1:1000",
        "Proxy protocol changed received_via from 192.0.2.1:25 -> 10.1.1.2:25",
        "XCLIENT changed received_from from 10.1.1.1:1000 -> 10.2.2.2:7",
    ]
    assert watcher.of("Read")[0].startswith(b"PROXY TCP4")
    last = watcher.events[-1].meta
    assert last is not None
    assert (last["received_from"], last["orig_received_from"]) == ("10.2.2.2:7", "127.0.0.1:40000")


async def test_a_message_that_no_queue_takes(watched: MakeNode, watcher: Watcher) -> None:
    node = watched()
    node.queues.insert_errors["b.test"] = RuntimeError("full")
    client = node.connect()
    await client.deliver()
    assert watcher.of("Diagnostic")[0]["message"].endswith(": full")


async def test_when_it_happened(watched: MakeNode, watcher: Watcher) -> None:
    node = watched()
    node.services.trace._wall = node.services.wall
    await node.connect().greet()
    assert {event.when for event in watcher.events} == {WALL}


# -- passwords -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def secured(node: Node, authority: trustme.CA) -> Client:
    """A client with TLS."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(server)
    node.server_context = server
    context = ssl.create_default_context()
    authority.configure_trust(context)
    client = node.connect()
    await client.greet()
    await client.command("STARTTLS")
    client.stream = trio.SSLStream(client.stream, context, server_hostname=HOST, https_compatible=True)
    await client.stream.do_handshake()
    return client


AUTH = {"smtp_server_auth_plain": lambda _authz, _authc, password, _meta: password == PASSWORD}


@pytest.mark.parametrize("drip", [False, True])
async def test_auth_with_an_initial_response(
    watched: MakeNode, watcher: Watcher, authority: trustme.CA, drip: bool
) -> None:
    client = await secured(watched(AUTH), authority)
    for piece in (
        [bytes([octet]) for octet in f"AUTH PLAIN {SECRET}\r\n".encode()]
        if drip
        else lines(f"AUTH PLAIN {SECRET}")
    ):
        await client.send(piece)
    assert (await client.reply()).startswith("235")
    assert watcher.of("Read")[-1] == b"AUTH PLAIN [hidden]\r\n"
    assert watcher.of("Callback") == [{"name": "smtp_server_auth_plain", "result": True, "error": None}]
    await client.command("NOOP")
    assert watcher.of("Read")[-1] == b"NOOP\r\n"
    assert SECRET not in watcher.everything


@pytest.mark.parametrize("at_once", [False, True])
async def test_auth_in_two_steps(
    watched: MakeNode, watcher: Watcher, authority: trustme.CA, at_once: bool
) -> None:
    client = await secured(watched(AUTH), authority)
    if at_once:
        await client.send(f"AUTH PLAIN\r\n{SECRET}\r\n".encode())
        assert (await client.reply()).startswith("334")
    else:
        assert (await client.command("AUTH PLAIN")).startswith("334")
        await client.send(f"{SECRET}\r\n".encode())
    assert (await client.reply()).startswith("235")
    assert watcher.of("Read")[-2:] == lines("AUTH PLAIN", "[hidden]")
    assert SECRET not in watcher.everything


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (f"AUTH PLAIN {SECRET}", ["AUTH PLAIN [hidden]"]),  # not inside TLS
        (f"auth\tplain\t{SECRET}", ["auth plain [hidden]"]),
        (f" AUTH PLAIN {SECRET}", ["AUTH PLAIN [hidden]"]),
        (f"AUTH=PLAIN {SECRET}", ["AUTH [hidden]"]),
        (f"AUTHPLAIN {SECRET}", ["AUTH [hidden]"]),
        (f"AUTH PLAIN {SECRET} {SECRET}", ["AUTH PLAIN [hidden]"]),
        (f"AUTH LOGIN\r\nuser\r\n{SECRET}\r\nRSET", ["AUTH LOGIN", "[hidden]", "[hidden]", "RSET"]),
        (f"AUTH PLAIN {'x' * 5000}{SECRET}", None),
        (f"AUTH PLAIN\r\n{'x' * 50000}{SECRET}", None),
        (f"AUTH LOGIN\r\n{'x' * 5000}{SECRET}", None),
    ],
)
async def test_auth_that_is_refused(
    watched: MakeNode, watcher: Watcher, sent: str, shown: list[str] | None
) -> None:
    client = watched(AUTH).connect()
    await client.greet()
    watcher.events.clear()
    octets = sent.encode() + b"\r\n"
    for start in range(0, len(octets), 700):
        await client.send(octets[start : start + 700])
        await trio.testing.wait_all_tasks_blocked()
    for _ in range(sent.count("\n") + 1):
        assert (await client.reply())[0] in "2345"
    if shown is not None:
        assert watcher.of("Read") == lines(*shown)
    assert b"[hidden]" in b"".join(watcher.of("Read"))
    assert SECRET[-8:] not in watcher.everything


async def test_a_password_in_the_middle_of_a_line_that_is_too_long(
    watched: MakeNode, watcher: Watcher
) -> None:
    """What is left of such a line looks like a command, but is none."""
    client = watched(AUTH).connect()
    await client.greet()
    await client.send(b"AUTH PLAIN " + b"x" * 2000)
    await trio.testing.wait_all_tasks_blocked()
    await client.send(f"RSET {SECRET}\r\n".encode())
    assert (await client.reply()).startswith("500")
    assert watcher.of("Read")[-2:] == [b"AUTH PLAIN [hidden]", b"[hidden]\r\n"]


async def test_auth_that_is_cut_off(watched: MakeNode, watcher: Watcher, authority: trustme.CA) -> None:
    client = watched(AUTH).connect()
    await client.greet()
    await client.send(f"AUTH PLAIN {SECRET}".encode())
    await finished(client)
    client = await secured(watched(AUTH), authority)
    await client.command("AUTH PLAIN")
    await client.send(SECRET.encode())
    await finished(client)
    assert SECRET not in watcher.everything
