"""After the content: events, batches, queues, spool, log, and what is left behind when something fails."""

from __future__ import annotations

import base64
import errno
import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from smtp_in_harness import HOST, MakeNode, Node

from kumo_py.core.policy import Disconnect, PolicyError, Rejection
from kumo_py.message.scheduling import parse_schedule
from kumo_py.smtp_in.params import ListenerDomain
from kumo_py.spool.errors import SpoolError

if TYPE_CHECKING:
    from kumo_py.message.connection import ConnectionMeta
    from kumo_py.message.message import Message

TECHNICAL = f"421 4.3.0 {HOST} technical difficulties"
BODY = b"Subject: x\r\n\r\nhello\r\n"


def _fail(error: Exception) -> Any:
    def handler(*_args: Any) -> None:
        raise error

    return handler


def _nothing_left(node: Node) -> Any:
    return node.queues.inserted == [] and node.spool.stored == {} and node.log.records == []


# -- events ----------------------------------------------------------------------------------------------
async def test_a_schedule_is_that_of_all_batches(smtp_node: MakeNode) -> None:
    schedule = parse_schedule({"first_attempt": "2999-01-01T00:00:00Z"}, "test")
    node = smtp_node({"smtp_server_data": lambda msg, _: msg.set_schedule(schedule, 0.0)})
    assert (await node.connect().deliver(BODY, "a@b.test", "b@c.test")).startswith("250 OK")
    assert [(msg.schedule, msg.due) for msg in node.queues.messages] == [(schedule, 32472144000.0)] * 2


@pytest.mark.parametrize("event", ["smtp_server_data", "smtp_server_message_received"])
async def test_content_that_the_policy_shrank_comes_back(smtp_node: MakeNode, event: str) -> None:
    async def shrink(msg: Message, *_: Any) -> None:
        await node.spool.save(msg)
        msg.shrink_data()

    node = smtp_node({event: shrink})
    assert (await node.connect().deliver(BODY, "a@b.test", "b@c.test")).startswith("250 OK")
    for msg in node.queues.messages:
        assert msg.data.startswith(b"X-KumoRef: ")
        assert msg.data.endswith(BODY)
        assert node.spool.stored[msg.id] == msg.data


async def test_order_of_events(smtp_node: MakeNode) -> None:
    names = [
        "smtp_server_get_dynamic_parameters",
        "smtp_server_connection_accepted",
        "smtp_server_ehlo",
        "smtp_server_mail_from",
        "get_listener_domain",
        "smtp_server_rcpt_to",
        "smtp_server_data",
        "smtp_server_split_transaction",
        "smtp_server_message_received",
    ]
    node = smtp_node({name: lambda *args: None for name in names})
    assert (await node.connect().deliver(BODY)).startswith("250 OK")
    assert (
        node.policy.events
        == [
            *names[:4],
            "get_listener_domain",  # sender
            "get_listener_domain",  # recipient
            *names[5:],
        ]
    )


async def test_messages_get_a_copy_of_the_connection_metadata(smtp_node: MakeNode) -> None:
    node = smtp_node({"smtp_server_message_received": lambda msg, meta: meta.values.update(late=1)})
    client = node.connect()
    await client.deliver(BODY)
    assert node.message.meta == {
        "reception_protocol": "ESMTP",
        "received_via": "192.0.2.1:25",
        "received_from": "127.0.0.1:40000",
        "hostname": HOST,
        "ehlo_domain": "client.test",
    }


async def test_received_event_runs_between_the_trace_headers(smtp_node: MakeNode) -> None:
    starts = []
    node = smtp_node({"smtp_server_message_received": lambda msg, meta: starts.append(msg.data[:9])})
    await node.connect().deliver(BODY)
    assert starts == [b"Received:"]
    assert node.message.data.startswith(b"X-KumoRef: ")


async def test_supplemental_header(smtp_node: MakeNode) -> None:
    node = smtp_node(
        {"smtp_server_message_received": lambda msg, meta: msg.set_meta("customer", "x" * 100)},
        trace_headers={"header_name": "X-Ref", "include_meta_names": ["customer", "absent"]},
    )
    await node.connect().deliver(BODY)
    lines = node.message.data.split(b"\r\n")
    assert lines[0].startswith(b"X-Ref: ")
    assert lines[1].startswith(b"\t")
    assert len(lines[0]) == len(b"X-Ref: ") + 75
    end = next(index for index, line in enumerate(lines) if line.startswith(b"Received:"))
    encoded = lines[0].removeprefix(b"X-Ref: ") + b"".join(line.strip() for line in lines[1:end])
    assert json.loads(base64.b64decode(encoded)) == {
        "_@_": "\\_/",
        "customer": "x" * 100,
        "recipient": "to@b.test",
    }


async def test_data_event_sees_all_recipients_without_trace_headers(smtp_node: MakeNode) -> None:
    seen = []

    def on_data(msg: Message, meta: ConnectionMeta) -> None:
        seen.append((msg.recipients, msg.data))
        msg.set_meta("tenant", "t1")

    node = smtp_node({"smtp_server_data": on_data})
    await node.connect().deliver(BODY, "a@b.test", "c@d.test")
    assert seen == [(("a@b.test", "c@d.test"), BODY)]
    assert [queue for _, queue in node.queues.inserted] == ["t1@b.test", "t1@d.test"]


@pytest.mark.parametrize(
    "event", ["smtp_server_data", "smtp_server_split_transaction", "smtp_server_message_received"]
)
@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (Rejection(550, "5.7.1 no\nspam"), "550 5.7.1 no\nspam"),
        (Rejection(451, "4.7.1 later"), "451 4.7.1 later"),
        (PolicyError("policy.lua:1: oops"), TECHNICAL),
        (RuntimeError("ours"), TECHNICAL),
    ],
)
async def test_one_rejection_refuses_the_transaction(
    smtp_node: MakeNode, event: str, error: Any, reply: str
) -> None:
    count = 0

    def second_time(*args: Any) -> None:
        nonlocal count
        count += 1
        if event != "smtp_server_message_received" or count == 2:
            raise error

    node = smtp_node({event: second_time})
    client = node.connect()
    assert await client.deliver(BODY, "a@b.test", "c@d.test") == reply
    assert _nothing_left(node)
    assert node.rejections == [("from@a.test", "c@d.test", int(reply[:3]), "DATA")]
    if reply is TECHNICAL:
        assert await client.closed() == b""
    else:
        assert await client.command("MAIL FROM:<a@b.test>") == "250 2.1.0 OK"


async def test_disconnect_after_data(smtp_node: MakeNode) -> None:
    node = smtp_node(
        {"smtp_server_message_received": _fail(Rejection(550, "bye", Disconnect.FOLLOW_WITH_421))}
    )
    client = node.connect()
    assert await client.deliver(BODY) == "550 bye"
    assert await client.closed() == f"421 {HOST} disconnecting due to previous error\r\n".encode()


async def test_what_the_policy_saved_is_removed_when_it_rejects(smtp_node: MakeNode) -> None:
    async def save_and_reject(msg: Message, meta: ConnectionMeta) -> None:
        await node.spool.save(msg)
        raise Rejection(550, "no")

    node = smtp_node({"smtp_server_message_received": save_and_reject})
    assert await node.connect().deliver(BODY) == "550 no"
    assert _nothing_left(node)


async def test_what_the_policy_saved_is_removed_when_it_is_not_queued(smtp_node: MakeNode) -> None:
    async def save(msg: Message, meta: ConnectionMeta) -> None:
        await node.spool.save(msg)

    def drop(msg: Message, meta: ConnectionMeta) -> None:
        msg.set_meta("queue", "null")

    node = smtp_node({"smtp_server_data": save, "smtp_server_message_received": drop})
    assert (await node.connect().deliver(BODY, "a@b.test", "c@d.test")).startswith("250 OK")
    assert node.spool.stored == {}
    node = smtp_node({"smtp_server_data": save, "smtp_server_split_transaction": lambda msg, meta: []})
    assert (await node.connect().deliver(BODY)).startswith("550")
    assert node.spool.stored == {}


@pytest.mark.parametrize(("hops", "code"), [(50, "250"), (51, "554")])
async def test_mail_loop(smtp_node: MakeNode, hops: int, code: str) -> None:
    node = smtp_node()
    content = b"Received: from a by b; date\r\n" * hops + b"\r\nReceived: this is body\r\n" * 100
    assert (await node.connect().deliver(content))[:3] == code
    assert len(node.queues.inserted) == (code == "250")


# -- batches ---------------------------------------------------------------------------------------------
RECIPIENTS = ("a@x.test", "b@Y.test", "c@X.test", "a@x.test")


@pytest.mark.parametrize(
    ("handling", "batches"),
    [
        ("BifurcateAlways", [("a@x.test",), ("b@Y.test",), ("c@X.test",), ("a@x.test",)]),
        ("BatchByDomain", [("a@x.test", "c@X.test", "a@x.test"), ("b@Y.test",)]),
    ],
)
async def test_batch_handling(smtp_node: MakeNode, handling: str, batches: Any) -> None:
    node = smtp_node(batch_handling=handling)
    client = node.connect()
    reply = await client.deliver(BODY, *RECIPIENTS)
    messages = node.queues.messages
    assert [msg.recipients for msg in messages] == batches
    assert reply == "250 OK ids=" + " ".join(msg.id.hex() for msg in messages)
    assert len({msg.id for msg in messages}) == len(batches)
    for msg in messages:
        assert b"for <%b>;" % msg.recipients[0].encode() in msg.data
        assert msg.data.endswith(BODY)
    messages[0].set_meta("x", 1)
    assert messages[1].get_meta("x") is None
    assert node.log.kinds == ["Reception"] * len(batches)


async def test_policy_splits(smtp_node: MakeNode) -> None:
    node = smtp_node(
        {"smtp_server_split_transaction": lambda msg, meta: [["a@x.test", "b@Y.test"], ["c@X.test"]]}
    )
    await node.connect().deliver(BODY, *RECIPIENTS)
    assert [msg.recipients for msg in node.queues.messages] == [("a@x.test", "b@Y.test"), ("c@X.test",)]


@pytest.mark.parametrize(("batches", "reply"), [([], "550 5.7.1 relaying not permitted"), ([[]], TECHNICAL)])
async def test_policy_splits_into_nothing(smtp_node: MakeNode, batches: Any, reply: str) -> None:
    node = smtp_node({"smtp_server_split_transaction": lambda msg, meta: batches})
    assert await node.connect().deliver(BODY) == reply
    assert _nothing_left(node)


# -- queues ----------------------------------------------------------------------------------------------
async def test_queue_from_metadata(smtp_node: MakeNode) -> None:
    def route(msg: Message, meta: ConnectionMeta) -> None:
        msg.update_meta({"tenant": "t", "campaign": "c", "routing_domain": "r.test"})

    node = smtp_node({"smtp_server_message_received": route})
    await node.connect().deliver(BODY)
    assert [queue for _, queue in node.queues.inserted] == ["c:t@b.test!r.test"]


async def test_queue_metadata_must_be_text(smtp_node: MakeNode) -> None:
    node = smtp_node({"smtp_server_message_received": lambda msg, meta: msg.set_meta("queue", 5)})
    assert await node.connect().deliver(BODY) == TECHNICAL
    assert _nothing_left(node)


async def test_null_queue_is_logged_and_dropped(smtp_node: MakeNode) -> None:
    node = smtp_node({"smtp_server_message_received": lambda msg, meta: msg.set_meta("queue", "null")})
    assert (await node.connect().deliver(BODY)).startswith("250 OK ids=")
    assert node.queues.inserted == []
    assert node.spool.stored == {}
    assert node.log.kinds == ["Reception"]


@pytest.mark.parametrize("error", [Rejection(550, "no"), PolicyError("x"), OSError("dns")])
async def test_unresolvable_queue_is_421(smtp_node: MakeNode, error: Any) -> None:
    node = smtp_node()
    node.queues.resolve_errors["d.test"] = error
    assert await node.connect().deliver(BODY, "a@b.test", "c@d.test") == TECHNICAL
    assert _nothing_left(node)


async def test_failed_insertion_is_unwound(smtp_node: MakeNode) -> None:
    node = smtp_node()
    node.queues.insert_errors["d.test"] = PolicyError("oops")
    client = node.connect()
    reply = await client.deliver(BODY, "a@b.test", "c@d.test")
    assert reply.startswith("250 PARTIAL ids=")
    assert len(reply.split()) == 4
    assert [queue for _, queue in node.queues.inserted] == ["b.test"]
    assert list(node.spool.stored) == [node.message.id]
    assert node.log.kinds == ["Reception", "Reception", "Bounce"]
    node.queues.insert_errors["b.test"] = PolicyError("oops")
    await client.command("MAIL FROM:<a@b.test>")
    await client.command("RCPT TO:<a@b.test>")
    await client.command("DATA")
    await client.send(BODY + b".\r\n")
    assert await client.reply() == TECHNICAL
    assert len(node.spool.stored) == 1
    assert node.log.kinds[3:] == ["Reception", "Bounce"]


async def test_deferred_spool_does_not_save(smtp_node: MakeNode) -> None:
    node = smtp_node(deferred_spool=True)
    assert (await node.connect().deliver(BODY)).startswith("250 OK")
    assert node.spool.stored == {}
    assert node.message.data_saved is False


async def test_deferred_queue_skips_the_event(smtp_node: MakeNode) -> None:
    node = smtp_node({"smtp_server_message_received": _fail(Rejection(550, "no"))}, deferred_queue=True)
    assert (await node.connect().deliver(BODY)).startswith("250 OK")
    assert node.queues.inserted[0][1] == "deferred_smtp_inject.kumomta.internal"
    assert len(node.spool.stored) == 1


# -- spool -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (SpoolError("disk", errno.EIO), f"421 4.3.2 {HOST} the spool is not accepting writes. Try later"),
        (SpoolError("disk"), f"421 4.3.2 {HOST} the spool is not accepting writes. Try later"),
        (SpoolError("full", errno.ENOSPC), "452 4.3.1 insufficient system storage"),
        (SpoolError("quota", errno.EDQUOT), "452 4.3.1 insufficient system storage"),
        (OSError("strange"), TECHNICAL),
    ],
)
async def test_spool_failure_leaves_nothing(smtp_node: MakeNode, error: Any, reply: str) -> None:
    node = smtp_node()

    def second(msg: Message) -> None:
        if msg.recipients == ("c@d.test",):
            raise error

    node.spool.fail = second
    client = node.connect()
    assert await client.deliver(BODY, "a@b.test", "c@d.test") == reply
    assert _nothing_left(node)
    node.spool.fail = None
    if reply.startswith("452"):
        await client.command("MAIL FROM:<a@b.test>")
        await client.command("RCPT TO:<a@b.test>")
        await client.command("DATA")
        await client.send(BODY + b".\r\n")
        assert (await client.reply()).startswith("250 OK")
    else:
        assert await client.closed() == b""
        assert (await node.connect().deliver(BODY)).startswith("250 OK")


async def test_messages_of_a_transaction_are_saved_together(smtp_node: MakeNode) -> None:
    """They share one sync of the disk."""
    node = smtp_node()
    assert (await node.connect().deliver(BODY, "a@b.test", "b@b.test", "c@b.test")).startswith("250 OK")
    assert node.spool.saves == [3]


async def test_a_record_that_cannot_be_written_loses_no_message(smtp_node: MakeNode) -> None:
    node = smtp_node()

    async def fail(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("no")

    node.log.record = fail  # type: ignore[method-assign]
    assert (await node.connect().deliver(BODY)).startswith("250 OK")
    assert len(node.queues.inserted) == 1


async def test_nothing_is_logged_or_queued_before_it_is_saved(smtp_node: MakeNode) -> None:
    node = smtp_node()
    release = trio.Event()

    async def wait(msg: Message) -> None:
        await release.wait()

    node.spool.fail = wait
    client = node.connect()
    await client.start_data()
    await client.send(BODY + b".\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert _nothing_left(node)
    release.set()
    assert (await client.reply()).startswith("250 OK")


# -- relaying after DATA, reports ------------------------------------------------------------------------
class Reports:
    """Sees a report in what has the word in it."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def is_feedback(self, msg: Message) -> Any:
        return b"arf" in msg.data

    def is_bounce(self, msg: Message) -> Any:
        return b"dsn" in msg.data

    async def log_feedback(self, msg: Message, context: Any) -> None:
        self.log.records.append(("feedback", msg, None, context))

    async def log_bounces(self, msg: Message, context: Any) -> None:
        self.log.records.append(("oob", msg, None, context))


def _report_node(smtp_node: Any, **domain: Any) -> Any:
    domains = {"r.test": ListenerDomain(**domain), "in.test": ListenerDomain(relay_to=True)}
    node = smtp_node({"get_listener_domain": lambda name, *_: domains.get(name)}, relay_hosts=[])
    node.services.reports = Reports(node.log)
    return node


def _kinds(node: Node) -> Any:
    return [getattr(kind, "value", kind) for kind, *_ in node.log.records]


@pytest.mark.parametrize(
    ("domain", "content", "kinds", "queued"),
    [
        ({"log_arf": "LogThenDrop"}, b"arf", ["feedback"], 0),
        ({"log_arf": "LogThenRelay"}, b"arf", ["feedback"], 1),
        ({"log_arf": True}, b"arf", ["feedback"], 1),
        ({"log_oob": "LogThenDrop"}, b"dsn", ["Reception", "oob"], 0),
        ({"log_oob": "LogThenRelay"}, b"dsn", ["Reception", "oob"], 1),
        ({"log_oob": "LogThenDrop", "relay_to": True}, b"mail", ["Reception"], 1),
        ({"log_arf": "Ignore", "relay_to": True}, b"arf", ["Reception"], 1),
    ],
)
async def test_reports(smtp_node: MakeNode, domain: Any, content: bytes, kinds: Any, queued: int) -> None:
    node = _report_node(smtp_node, **domain)
    assert (await node.connect().deliver(content + b"\r\n", "x@r.test")).startswith("250 OK ids=")
    assert _kinds(node) == kinds
    assert len(node.queues.inserted) == len(node.spool.stored) == queued


async def test_mail_for_a_domain_that_only_takes_reports(smtp_node: MakeNode) -> None:
    node = _report_node(smtp_node, log_oob="LogThenRelay")
    assert await node.connect().deliver(b"mail\r\n", "x@r.test") == "550 5.7.1 relaying not permitted"
    assert _nothing_left(node)


async def test_the_part_that_may_not_be_relayed_bounces(smtp_node: MakeNode) -> None:
    node = _report_node(smtp_node, log_oob="LogThenRelay")
    assert (await node.connect().deliver(b"mail\r\n", "x@r.test", "y@in.test")).startswith("250 OK ids=")
    assert [queue for _, queue in node.queues.inserted] == ["in.test"]
    assert [(kind, msg.recipients) for kind, msg, *_ in node.log.records] == [
        ("Reception", ("x@r.test",)),
        ("Bounce", ("x@r.test",)),
        ("Reception", ("y@in.test",)),
    ]


async def test_relaying_is_judged_by_what_the_policy_made_of_the_envelope(smtp_node: MakeNode) -> None:
    def redirect(msg: Message, meta: ConnectionMeta) -> None:
        msg.set_envelope(msg.sender, ("x@far.test",))

    domains = {"in.test": ListenerDomain(relay_to=True)}
    node = smtp_node(
        {
            "get_listener_domain": lambda name, *_: domains.get(name),
            "smtp_server_message_received": redirect,
        },
        relay_hosts=[],
    )
    assert await node.connect().deliver(BODY, "y@in.test") == "550 5.7.1 relaying not permitted"
    assert _nothing_left(node)


# -- records ---------------------------------------------------------------------------------------------
async def test_reception_record(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect("203.0.113.9:77")
    node.policy.handlers["get_listener_domain"] = lambda *_: ListenerDomain(relay_to=True)
    await client.deliver(BODY)
    ((kind, message, response, context),) = node.log.records
    assert kind == "Reception"
    assert message is node.message
    assert response.to_record() == {"code": 250, "enhanced_code": None, "content": "", "command": None}
    assert (context.peer.name, context.peer.addr) == ("client.test", "203.0.113.9")
    assert context.tls is None
    assert context.site == ""
    assert len(context.session_id) == 36


async def test_records_of_a_session_share_its_id(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect()
    await client.deliver(BODY)
    await client.command("EHLO other.test")
    await client.command("WIZ")
    context = node.log.records[0][3]
    rejected = node.log.rejections[0][3]
    assert rejected.session_id == context.session_id
    assert rejected.peer.name == "other.test"
    await node.connect().deliver(BODY)
    assert node.log.records[1][3].session_id != context.session_id
