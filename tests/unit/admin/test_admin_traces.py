"""What a tracer gets of the events of sessions: KumoMTA's JSON, filtered, shortened, never more than it can take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kumo_py.admin.traces import QUEUE_SIZE, ClientRequest, ServerRequest, Tracer
from kumo_py.logs.trace import Trace

WHEN = 1_767_225_600.25
SERVER_META = {"received_from": "10.1.1.1:1000", "received_via": "10.1.1.2:25"}
CLIENT_META = {
    "egress_pool": "pool",
    "egress_source": "source",
    "ready_queue_name": "source->b.test@smtp_client",
    "id": "1",
    "source_address": "10.0.0.1:4000",
    "mx_host": "mx.b.test",
    "mx_address": "192.0.2.1:25",
    "sender": "from@a.test",
    "recipient": ["to@b.test", "cc@b.test"],
    "campaign": "spring",
    "tenant": "acme",
    "domain": "b.test",
    "routing_domain": "route.test",
}


def make(kind: type[Any], **request: Any) -> tuple[Trace, Tracer]:
    trace = Trace(lambda: WHEN)
    tracer = Tracer(trace, kind)
    tracer.begin(json.dumps(request).encode())
    return trace, tracer


def got(tracer: Tracer) -> list[Any]:
    events = []
    while texts := tracer.take():
        events += [json.loads(text) for text in texts]
    return events


def payloads(tracer: Tracer) -> list[Any]:
    return [event["payload"] for event in got(tracer)]


def test_json() -> None:
    trace, tracer = make(ServerRequest)
    with tracer.open():
        trace.tell(trace.event(SERVER_META, "Connected"))
        trace.tell(trace.event(SERVER_META, "Read", b"caf\xc3\xa9 \xff\r\n"))
        trace.tell(trace.event({"odd": "\ud800"}, "Callback", {"name": "x", "result": {1, 2}, "error": None}))
    trace.tell(trace.event(SERVER_META, "Closed"))
    assert got(tracer) == [
        {"conn_meta": SERVER_META, "payload": "Connected", "when": "2026-01-01T00:00:00.250000Z"},
        {
            "conn_meta": SERVER_META,
            "payload": {"Read": "café \ufffd\r\n"},
            "when": "2026-01-01T00:00:00.250000Z",
        },
        {
            "conn_meta": {"odd": "\ufffd"},
            "payload": {"Callback": {"name": "x", "result": "<set>", "error": None}},
            "when": "2026-01-01T00:00:00.250000Z",
        },
    ]


@pytest.mark.parametrize(
    ("request_", "passes"),
    [
        ({}, True),
        ({"source_addr": None}, True),
        ({"source_addr": ["10.0.0.0/8"]}, True),
        ({"source_addr": ["10.1.1.1"]}, True),
        ({"source_addr": ["10.1.1.2", "192.0.2.0/24"]}, False),
    ],
)
def test_filters_of_the_server(request_: dict[str, Any], passes: bool) -> None:
    trace, tracer = make(ServerRequest, **request_)
    with tracer.open():
        trace.tell(trace.event(SERVER_META, "Connected"))
        assert len(got(tracer)) == passes
        trace.tell(trace.event({"received_from": 7}, "Connected"))
        assert len(got(tracer)) == 1, "what is not known does not exclude"
        trace.tell(trace.event({"received_from": "[2001:db8::1]:25"}, "Connected"))
        assert len(got(tracer)) == (not request_.get("source_addr"))


@pytest.mark.parametrize(
    ("option", "right", "key"),
    [
        ("campaign", "spring", "campaign"),
        ("tenant", "acme", "tenant"),
        ("domain", "b.test", "domain"),
        ("routing_domain", "route.test", "routing_domain"),
        ("egress_pool", "pool", "egress_pool"),
        ("egress_source", "source", "egress_source"),
        ("mail_from", "from@a.test", "sender"),
        ("rcpt_to", "cc@b.test", "recipient"),
        ("mx_host", "mx.b.test", "mx_host"),
        ("ready_queue", "source->b.test@smtp_client", "ready_queue_name"),
        ("source_addr", "10.0.0.0/24", "source_address"),
        ("mx_addr", "192.0.2.1", "mx_address"),
    ],
)
def test_filters_of_the_client(option: str, right: str, key: str) -> None:
    wrong = "198.51.100.0/24" if option.endswith("addr") else "other"
    unknown = {name: value for name, value in CLIENT_META.items() if name != key}
    for allowed, passes in (
        ([right], True),
        ([wrong], False),
        ([wrong, right], True),
        ([], option != "source_addr"),
    ):
        if not allowed and option.endswith("addr"):
            continue
        trace, tracer = make(ClientRequest, **{option: allowed})
        with tracer.open():
            trace.tell(trace.event(CLIENT_META, "Connected"))
            assert len(got(tracer)) == passes, allowed
            trace.tell(trace.event(unknown, "Connected"))
            assert len(got(tracer)) == 1, "what is not known yet does not exclude"


def test_several_filters_must_all_agree() -> None:
    trace, tracer = make(ClientRequest, domain=["b.test"], tenant=["other"])
    with tracer.open():
        trace.tell(trace.event(CLIENT_META, "Connected"))
        assert got(tracer) == []


def test_terse() -> None:
    trace, tracer = make(ServerRequest, terse=True)
    with tracer.open():
        for data in (b"NOOP\r\n", b"a: b\r\n\r\nhello\r\n.\r\n", b"x" * 5000 + b"\r\ny\r\n"):
            trace.tell(trace.event(SERVER_META, "Read", data))
        trace.tell(trace.event(SERVER_META, "Write", b"250 ok\r\n"))
    assert payloads(tracer) == [
        {"Read": "NOOP\r\n"},
        {"AbbreviatedRead": {"snippet": "a: b", "len": 18}},
        {"AbbreviatedRead": {"snippet": "x" * 1024, "len": 5005}},
        {"Write": "250 ok\r\n"},
    ]
    trace, tracer = make(ClientRequest, terse=True)
    with tracer.open():
        for data in (b"NOOP\r\n", b"a: b\r\n\r\nhello\r\n", b"no end", b"x" * 5000 + b"\ny"):
            trace.tell(trace.event(CLIENT_META, "Write", data))
        trace.tell(trace.event(CLIENT_META, "Read", b"250-a\r\n250 b\r\n"))
    assert payloads(tracer) == [
        {"Write": "NOOP\r\n"},
        {"AbbreviatedWrite": {"snippet": "a: b", "len": 15}},
        {"Write": "no end"},
        {"AbbreviatedWrite": {"snippet": "x" * 1024, "len": 5002}},
        {"Read": "250-a\r\n250 b\r\n"},
    ]


def test_long_contents_come_in_pieces() -> None:
    trace, tracer = make(ClientRequest)
    content = b"".join(b"line %d\r\n" % number for number in range(30_000)) + b"z" * 200_000
    with tracer.open():
        trace.tell(trace.event(CLIENT_META, "Write", content))
    pieces = [payload["Write"] for payload in payloads(tracer)]
    assert "".join(pieces).encode() == content
    assert max(map(len, pieces)) <= 65536
    assert all(piece.endswith("\n") for piece in pieces[:4]), "lines stay whole where they can"


def test_nothing_is_missed_before_the_request_is_there() -> None:
    trace = Trace(lambda: WHEN)
    tracer = Tracer(trace, ServerRequest)
    with tracer.open():
        trace.tell(trace.event(SERVER_META, "Connected"))
        trace.tell(trace.event(SERVER_META | {"received_from": "192.0.2.1:1"}, "Connected"))
        trace.tell(trace.event(SERVER_META, "Read", b"a\r\nb\r\n"))
        tracer.begin(b'{"source_addr": ["10.0.0.0/8"], "terse": true}')
        trace.tell(trace.event(SERVER_META, "Closed"))
    assert payloads(tracer) == ["Connected", {"AbbreviatedRead": {"snippet": "a", "len": 6}}, "Closed"]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (b"", "not a request for a trace"),
        (b"[]", "not a request for a trace"),
        (b'{"source_addr": ["10.0.0.300"]}', "'10.0.0.300' is not a network"),
        (b'{"source": ["10.0.0.3"]}', "source"),
        (b'{"terse": 7}', "terse"),
    ],
)
def test_requests_that_make_no_sense(request_: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Tracer(Trace(), ServerRequest).begin(request_)


@pytest.mark.parametrize("asked", [True, False])
def test_a_tracer_that_does_not_keep_up(asked: bool) -> None:
    """It loses events, is told how many, and what is kept for it is bounded."""
    trace = Trace(lambda: WHEN)
    tracer = Tracer(trace, ServerRequest)
    if asked:
        tracer.begin(b"{}")
    with tracer.open():
        for number in range(1000):
            trace.tell(trace.event(SERVER_META, "Read", b"%4d" % number * 5000))
        assert tracer._size <= QUEUE_SIZE
        if not asked:
            tracer.begin(b"{}")
        events = payloads(tracer)
        kept = [int(event["Read"][:4]) for event in events[:-1]]
        assert kept == list(range(len(kept)))
        assert QUEUE_SIZE // 25_000 < len(kept) <= QUEUE_SIZE // 20_000
        [(kind, loss)] = events[-1].items()
        assert (kind, loss["level"]) == ("Diagnostic", "ERROR")
        assert loss["message"] == f"Tracer Lagged behind and missed {1000 - len(kept)} events"
        trace.tell(trace.event(SERVER_META, "Closed"))
        assert payloads(tracer) == ["Closed"]


def test_losses_are_told_where_they_were() -> None:
    trace, tracer = make(ServerRequest)
    with tracer.open():
        for _ in range(QUEUE_SIZE // 50_000 + 10):
            trace.tell(trace.event(SERVER_META, "Read", b"x" * 50_000))
        before = 0
        while before < 50:
            before += len(tracer.take())
        trace.tell(trace.event(SERVER_META, "Closed"))
    last = [event for event in got(tracer) if "Read" not in event["payload"]]
    assert last[0]["conn_meta"] is None
    assert "missed" in last[0]["payload"]["Diagnostic"]["message"]
    assert last[1]["payload"] == "Closed"


def test_losses_are_told_seldom() -> None:
    """A reader that is a little too slow loses stretches, not every second event."""
    trace, tracer = make(ServerRequest)
    texts: list[bytes] = []
    with tracer.open():
        for number in range(QUEUE_SIZE // 50_000 * 4):
            trace.tell(trace.event(SERVER_META, "Read", b"x" * 50_000))
            if number % 3 == 0:
                texts += tracer.take()  # two of three
        while more := tracer.take():
            texts += more
    losses = sum(b"Lagged" in text for text in texts)
    assert 1 <= losses <= 4


def test_a_content_larger_than_all_that_is_kept() -> None:
    trace, tracer = make(ClientRequest)
    with tracer.open():
        trace.tell(trace.event(CLIENT_META, "Write", b"x" * (3 * QUEUE_SIZE)))
        assert tracer._size <= QUEUE_SIZE
        *pieces, loss = payloads(tracer)
    assert len(pieces) > 50
    assert "missed 2 events" in loss["Diagnostic"]["message"]
