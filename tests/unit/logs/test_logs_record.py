"""A record's line: KumoMTA's fields in its order, one line of valid JSON whatever the values are."""

from __future__ import annotations

import math
import uuid

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.logs import LogContext, Peer, RecordType, SourceAddress, Tls
from kumo_py.logs.json_text import to_json
from kumo_py.logs.record import RecordEncoder
from kumo_py.message.message import Message
from kumo_py.proto.reply import EnhancedCode, Response

NODE = "557f3ad4-2c8c-11ee-976e-782d7e12e173"
SESSION = "9bcd689e-23d9-41b7-a015-63a1382f8b57"
BORN_NS = 1757675281_440526_000
NOW = 1757675290.25

ALWAYS = [
    "type", "id", "sender", "recipient", "queue", "site", "size", "response", "peer_address", "timestamp",
    "event_time", "created", "created_time", "num_attempts", "bounce_classification", "egress_pool",
    "egress_source", "source_address", "feedback_report", "meta", "headers", "delivery_protocol",
    "reception_protocol", "nodeid",
]  # fmt: skip
WHEN_SET = ["tls_cipher", "tls_protocol_version", "tls_peer_subject_name", "provider_name", "session_id"]


def message(**changes: object) -> Message:
    id = SpoolIdSource(b"\x01\x02\x03\x04\x05\x06", 7).next(BORN_NS)
    msg = Message(
        id, "from@sender.example", ("to@there.example",), {"reception_protocol": "ESMTP"}, b"x" * 1047
    )
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def encode(
    msg: Message,
    response: Response | None = None,
    context: LogContext | None = None,
    kind: RecordType = RecordType.Delivery,
    recipients: tuple[str, ...] | None = None,
    queue: str | None = "there.example",
    feedback_report: object = None,
) -> bytes:
    return RecordEncoder(NODE).message(
        kind,
        msg,
        response or Response(250),
        context or LogContext(),
        msg.recipients if recipients is None else recipients,
        queue,
        NOW,
        b"{}",
        b"{}",
        feedback_report,
    )


def test_delivery_over_tls_through_a_proxy_has_every_field() -> None:
    context = LogContext(
        site="source2->(alt1|alt2)?.mx.there.example@smtp_client",
        peer=Peer("mx.there.example.", "192.0.2.27", is_secure=True),
        tls=Tls("TLS_AES_256_GCM_SHA384", "TLSv1.3", ["C=US", "CN=mx.there.example"]),
        egress_pool="pool0",
        egress_source="source2",
        source_address=SourceAddress("10.0.0.1:53210", "192.0.2.1:5000", "socks5"),
        delivery_protocol="ESMTP",
        provider_name="There",
        session_id=SESSION,
    )
    response = Response(250, EnhancedCode(2, 0, 0), "OK ids=8a5475cc\nbye", ".")
    msg = message(attempts=3)
    line = encode(msg, response, context)

    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    record = orjson.loads(line)
    assert list(record) == ALWAYS + WHEN_SET
    assert record == {
        "type": "Delivery",
        "id": msg.id.hex(),
        "sender": "from@sender.example",
        "recipient": "to@there.example",
        "queue": "there.example",
        "site": "source2->(alt1|alt2)?.mx.there.example@smtp_client",
        "size": 1047,
        "response": {
            "code": 250,
            "enhanced_code": {"class": 2, "subject": 0, "detail": 0},
            "content": "OK ids=8a5475cc bye",
            "command": ".",
        },
        "peer_address": {"name": "mx.there.example.", "addr": "192.0.2.27", "is_secure": True},
        "timestamp": 1757675290,
        "event_time": "2025-09-12T11:08:10.250000Z",
        "created": 1757675281,
        "created_time": "2025-09-12T11:08:01.440526Z",
        "num_attempts": 3,
        "bounce_classification": "Uncategorized",
        "egress_pool": "pool0",
        "egress_source": "source2",
        "source_address": {"address": "10.0.0.1:53210", "server": "192.0.2.1:5000", "protocol": "socks5"},
        "feedback_report": None,
        "meta": {},
        "headers": {},
        "delivery_protocol": "ESMTP",
        "reception_protocol": "ESMTP",
        "nodeid": NODE,
        "tls_cipher": "TLS_AES_256_GCM_SHA384",
        "tls_protocol_version": "TLSv1.3",
        "tls_peer_subject_name": ["C=US", "CN=mx.there.example"],
        "provider_name": "There",
        "session_id": SESSION,
    }


def test_what_is_unset_is_null_or_left_out_as_kumomta_does() -> None:
    record = orjson.loads(encode(message(meta={}), kind=RecordType.AdminBounce))
    assert list(record) == ALWAYS
    nulls = {name for name, value in record.items() if value is None}
    assert nulls == {
        "peer_address", "egress_pool", "egress_source", "source_address", "feedback_report",
        "delivery_protocol", "reception_protocol",
    }  # fmt: skip
    assert record["site"] == ""
    assert record["response"] == {"code": 250, "enhanced_code": None, "content": "", "command": None}


def test_peer_and_source_address_leave_out_what_they_do_not_have() -> None:
    context = LogContext(peer=Peer("client", "10.0.0.2"), source_address=SourceAddress("10.0.0.1:1"))
    record = orjson.loads(encode(message(), context=context, kind=RecordType.Reception))
    assert record["peer_address"] == {"name": "client", "addr": "10.0.0.2"}
    assert record["source_address"] == {"address": "10.0.0.1:1"}


@pytest.mark.parametrize(
    ("recipients", "shown"),
    [(("a@b",), "a@b"), (("a@b", "c@d"), ["a@b", "c@d"]), ((), [])],
)
def test_one_recipient_is_a_string_and_several_are_an_array(
    recipients: tuple[str, ...], shown: object
) -> None:
    assert orjson.loads(encode(message(), recipients=recipients))["recipient"] == shown


def test_queue_name_is_made_when_not_given_and_its_fault_is_shown() -> None:
    msg = message(meta={"tenant": "t", "campaign": "c"})
    assert orjson.loads(encode(msg, queue=None))["queue"] == "c:t@there.example"
    assert "tenant" in orjson.loads(encode(message(meta={"tenant": 5}), queue=None))["queue"]


def test_a_message_of_which_only_the_id_is_in_memory() -> None:
    msg = Message.from_spool(message().id)
    record = orjson.loads(encode(msg, queue=None))
    assert list(record) == ALWAYS
    assert (record["sender"], record["recipient"], record["size"]) == ("", [], 0)
    assert record["reception_protocol"] is None


def test_feedback_carries_its_report() -> None:
    report = {"feedback_type": "abuse", "version": "1"}
    assert orjson.loads(encode(message(), feedback_report=report))["feedback_report"] == report


def test_rejection_names_only_the_peer_and_the_session() -> None:
    context = LogContext(
        site="ignored",
        peer=Peer("client.example", "10.0.0.2"),
        tls=Tls("c", "v", []),
        provider_name="ignored",
        session_id=SESSION,
    )
    line = RecordEncoder(NODE).rejection(
        "", "to@there.example", Response(550, EnhancedCode(5, 7, 1), "no", "RCPT"), context, NOW, b'{"a":1}'
    )
    assert line.endswith(b"}\n")
    record = orjson.loads(line)
    assert list(record) == [*ALWAYS, "session_id"]
    assert (record["type"], record["id"], record["queue"], record["site"]) == ("Rejection", "", "", "")
    assert record["recipient"] == "to@there.example"
    assert record["peer_address"] == {"name": "client.example", "addr": "10.0.0.2"}
    assert record["created"] == record["timestamp"] == 1757675290
    assert record["created_time"] == record["event_time"] == "2025-09-12T11:08:10.250000Z"
    assert record["meta"] == {"a": 1}
    assert record["reception_protocol"] is None


def test_two_connections_do_not_share_what_is_constant() -> None:
    first, second = LogContext(site="one"), LogContext(site="two")
    sites = [orjson.loads(encode(message(), context=context))["site"] for context in (first, second, first)]
    assert sites == ["one", "two", "one"]


@pytest.mark.parametrize(
    "hostile", ['a"b\\c', "a\r\nb", "\x00\x1b[31m", "\udc80\ud800", "\u2028é😀", "%s%d{}"]
)
def test_hostile_text_stays_one_line_of_json_in_every_field(hostile: str) -> None:
    context = LogContext(
        site=hostile,
        peer=Peer(hostile, hostile),
        tls=Tls(hostile, hostile, [hostile]),
        egress_pool=hostile,
        provider_name=hostile,
    )
    msg = message(sender=hostile, recipients=(hostile, hostile), meta={"reception_protocol": hostile})
    line = encode(msg, Response(550, None, hostile, hostile), context, queue=hostile)
    assert line.count(b"\n") == 1
    record = orjson.loads(line)
    assert list(record)[: len(ALWAYS)] == ALWAYS
    shown = hostile.replace("\udc80", "\ufffd").replace("\ud800", "\ufffd")
    for value in (record["sender"], record["queue"], record["site"], record["response"]["command"]):
        assert value == shown
    assert record["response"]["content"] == shown.replace("\r\n", " ")

    rejection = RecordEncoder(NODE).rejection(
        hostile, hostile, Response(500, None, hostile), context, NOW, b"{}"
    )
    assert rejection.count(b"\n") == 1
    assert orjson.loads(rejection)["sender"] == shown


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner),
    )
)
def test_any_value_becomes_one_line_of_json(value: object) -> None:
    text = to_json(value)
    assert b"\n" not in text
    orjson.loads(text)


def test_what_json_cannot_hold_is_replaced_alone() -> None:
    deep: list[object] = []
    deep.append(deep)
    value = {
        "big": 2**70,
        "bytes": b"\xffx",
        "nan": math.nan,
        "type": object(),
        "ok": [1, "é"],
        5: uuid.UUID(int=1),
    }
    assert orjson.loads(to_json(value)) == {
        "big": hex(2**70),
        "bytes": "\ufffdx",
        "nan": None,
        "type": "<object>",
        "ok": [1, "é"],
        "5": "<UUID>",
    }
    assert b"<list>" in to_json(deep)
