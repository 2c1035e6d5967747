"""What strangers control: names in envelopes, octets from the network, records in their zones."""

from __future__ import annotations

import re

import dns.message
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from kumo_py.dns import Answer, DnsError, MxRecord, NoSuchDomain
from kumo_py.dns.exchanger import MAX_HOSTS, from_answer
from kumo_py.dns.names import absolute_name, parse_literal, split_port
from kumo_py.dns.upstream import _parsed, _ServerError

QUESTION = dns.message.make_query("h.example", "MX", id=1)


def reply() -> bytes:
    message = dns.message.make_response(QUESTION)
    message.answer.append(dns.rrset.from_text("h.example.", 60, "IN", "CNAME", "w.example."))
    message.answer.append(dns.rrset.from_text("w.example.", 60, "IN", "MX", "1 a.example.", "2 b.example."))
    message.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", "ns. who. 1 2 3 4 5"))
    return message.to_wire()


REPLY = reply()


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=300))
def test_any_text_is_a_name_or_no_domain(text: str) -> None:
    try:
        name = absolute_name(text, "MX")
    except NoSuchDomain:
        return
    assert name.isascii()
    assert name == name.lower()
    assert all(0 < len(label) < 64 for label in name.split("."))
    assert absolute_name(name, "MX") == name


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="[]:.0123456789abcdefIPv%", max_size=40))
def test_any_literal_parses_or_is_refused(text: str) -> None:
    host, port = split_port(text)
    assert port is None or 0 <= port <= 65535
    try:
        address = parse_literal(host)
    except ValueError:
        return
    assert re.fullmatch(r"[0-9a-f.:]+", address)


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_any_octets_are_a_reply_or_a_servers_error(data: st.DataObject) -> None:
    wire = bytearray(REPLY)
    for _ in range(data.draw(st.integers(0, 8))):
        wire[data.draw(st.integers(2, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(2, len(wire)))
    try:
        message = _parsed(bytes(wire[:cut]), QUESTION, is_truncated=data.draw(st.booleans()))
    except _ServerError:
        return
    assert message is None or QUESTION.is_response(message)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 3), st.text(alphabet="ab1.|?()->@:\\_-", max_size=12)), max_size=60))
def test_any_mx_records_make_a_harmless_site_name(records: list[tuple[int, str]]) -> None:
    answer = Answer(tuple(MxRecord(*record) for record in records))
    try:
        mx = from_answer("example.com", None, answer, 0.0)
    except DnsError:
        return
    assert len(mx.hosts) <= MAX_HOSTS
    assert [host for hosts in mx.by_pref.values() for host in hosts] == list(mx.hosts)
    if not mx.is_null:
        assert all(re.fullmatch(r"[a-z0-9_.-]+", host) for host in mx.hosts)
        assert re.fullmatch(r"[a-z0-9_.()|?-]+", mx.site_name)
        assert "->" not in mx.site_name
