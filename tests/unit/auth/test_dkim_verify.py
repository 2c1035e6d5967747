"""What makes a signature worthless, and what is said of it."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signing_keys import NAME, NOW, ed25519_record, hand_signed, records, rsa_key, rsa_record, signer

from kumo_py.auth.dkim_keys import KeyRecords
from kumo_py.auth.dkim_verify import MAX_SIGNATURES, DkimCheck
from kumo_py.message.authentication_results import AuthenticationResult, AuthenticationResults

HEADER = b"Received: from a\r\n\tby b; date\r\nFrom: Me <me@example.com>\r\nTo: you\r\nSubject: hello\r\n\r\n"
MESSAGE = HEADER + b"the body\r\n"
SIGNATURE = signer("From", "To", "Subject", "Cc", over_sign=True).sign(MESSAGE, NOW)
TAGS = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s1; h=from; bh=@bh"


def check(data: bytes, *texts: str, now: float = NOW) -> list[AuthenticationResult]:
    return DkimCheck(data, now).results(records(*texts))


def reason(data: bytes, *texts: str, now: float = NOW) -> str:
    """Why the only signature is a permerror."""
    [result] = check(data, *texts, now=now)
    assert result.result == "permerror", result
    assert result.reason is not None
    return result.reason


def test_no_signature_no_result() -> None:
    assert check(MESSAGE) == []
    assert DkimCheck(MESSAGE, NOW).key_names == set()


def test_properties() -> None:
    made = signer(expiration=60)
    field = made.sign(MESSAGE, NOW)
    [result] = check(field + MESSAGE)
    signature = field.partition(b"\tb=")[2][:8].decode()
    assert result == AuthenticationResult(
        method="dkim",
        result="pass",
        props={
            "header.a": "rsa-sha256",
            "header.b": signature,
            "header.c": "relaxed/relaxed",
            "header.d": "example.com",
            "header.i": "@example.com",
            "header.s": "s1",
            "header.t": str(NOW),
            "header.x": str(NOW + 60),
        },
    )


@pytest.mark.parametrize("header", [b"From: ", b"To: ", b"Subject: "])
def test_a_change_of_a_signed_header_is_seen(header: bytes) -> None:
    at = MESSAGE.index(header) + len(header)
    changed = MESSAGE[:at] + b"x" + MESSAGE[at:]
    assert reason(SIGNATURE + changed) == "the signature does not match the header"


@pytest.mark.parametrize("header", [b"From", b"To", b"Subject", b"Cc"])
def test_another_signed_header_is_seen(header: bytes) -> None:
    assert "does not match" in reason(SIGNATURE + header + b": x\r\n" + MESSAGE)
    without = MESSAGE.replace(header + b": ", b"X-Other: ")
    if without != MESSAGE:
        assert "does not match" in reason(SIGNATURE + without)


def test_other_headers_may_change() -> None:
    changed = b"X-New: 1\r\n" + MESSAGE.replace(b"by b", b"by c")
    assert check(SIGNATURE + changed)[0].result == "pass"


@pytest.mark.parametrize("body", [b"", b"the bodY\r\n", b"the body\r\nmore\r\n", b"thebody\r\n"])
def test_a_change_of_the_body_is_seen(body: bytes) -> None:
    assert reason(SIGNATURE + HEADER + body) == "the body is not what was signed"


# The last digit of base64 has bits that mean nothing.
@given(st.integers(0, len(SIGNATURE) - 5), st.sampled_from(b"aB1;= /"))
@settings(database=None, deadline=None, max_examples=300)
def test_no_changed_signature_passes(at: int, octet: int) -> None:
    changed = SIGNATURE[:at] + bytes([octet]) + SIGNATURE[at + 1 :]
    results = check(changed + MESSAGE) if b"s1;" in changed and b"example.com" in changed else []
    same = b"".join(changed.split()).lower() == b"".join(SIGNATURE.split()).lower()
    assert same or not any(result.result == "pass" for result in results)


# -- tags ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        (TAGS.replace("v=1", "v=2"), "the signature is not of version 1"),
        (TAGS.replace("v=1; ", ""), "the tag v= is missing"),
        (TAGS.replace("a=rsa-sha256; ", ""), "the tag a= is missing"),
        (TAGS.replace("d=example.com; ", ""), "the tag d= is missing"),
        (TAGS.replace("s=s1; ", ""), "the tag s= is missing"),
        (TAGS.replace("h=from; ", ""), "the tag h= is missing"),
        (TAGS.replace("; bh=@bh", ""), "the tag bh= is missing"),
        (TAGS.replace("rsa-sha256", "rsa-sha1"), "rsa-sha1 proves nothing any more (RFC 8301)"),
        (TAGS.replace("rsa-sha256", "rsa-md5"), "the algorithm 'rsa-md5' is not known"),
        (TAGS.replace("h=from", "h=to:subject"), "the From header is not signed"),
        (TAGS.replace("relaxed/relaxed", "strict"), "the canonicalization 'strict' is not known"),
        (TAGS.replace("@bh", "!"), "the tag bh= is not base64"),
        (TAGS.replace("d=example.com", "d="), "the tag d= or s= is empty, or b= has no possible length"),
        (TAGS + "; i=me@other.example", "the domain of i= is not below that of d="),
        (TAGS + "; i=me@notexample.com", "the domain of i= is not below that of d="),
        (TAGS + "; q=http", "the tag q= has no dns/txt"),
        (TAGS + "; x=" + str(NOW - 901), "the signature has expired"),
        (TAGS + "; x=soon", "the tag x= is not a number of up to 12 digits"),
        (TAGS + "; t=20; x=19", "the signature expired before it was made"),
        (TAGS + "; l=-1", "the tag l= is not a number of up to 76 digits"),
        (TAGS + "; d=example.com", "the tag 'd' is there twice"),
        (TAGS + "; what is this", "the tag list is malformed"),
        (TAGS + "; z=\x07", "the tag list is malformed"),
    ],
)
def test_what_is_wrong_with_tags(tags: str, problem: str) -> None:
    assert reason(hand_signed(tags, MESSAGE)) == problem


@pytest.mark.parametrize(
    "tags",
    [
        TAGS,
        TAGS + "; i=joe+x@sub.Example.com",
        TAGS + "; q=dns/txt:other; z=a|b; unknown_9=x",
        TAGS + "; x=" + str(NOW - 899),
        TAGS.replace("d=example.com", "d=\r\n example\r\n\t.com"),
        TAGS.replace("h=from", "h=FROM :\r\n x-none"),
        TAGS.replace("; d=", ";; d="),
    ],
)
def test_what_is_right_with_tags(tags: str) -> None:
    assert check(hand_signed(tags, MESSAGE))[0].result == "pass"


def test_simple_is_what_is_meant_without_c() -> None:
    data = signer(relaxed_header=False, relaxed_body=False).sign(MESSAGE, NOW) + MESSAGE
    assert check(data)[0].result == "pass"
    assert reason(data.replace(b"Subject: ", b"Subject:  ")) == "the signature does not match the header"
    assert reason(hand_signed(TAGS.replace("c=relaxed/relaxed; ", ""), MESSAGE)) != ""


def test_properties_of_what_cannot_be_verified() -> None:
    [result] = check(hand_signed(TAGS.replace("v=1", "v=2"), MESSAGE))
    assert result.props == {
        "header.a": "rsa-sha256",
        "header.c": "relaxed/relaxed",
        "header.d": "example.com",
        "header.i": "@example.com",
        "header.s": "s1",
    }
    [result] = check(b"DKIM-Signature: ???\r\n" + MESSAGE)
    assert (result.reason, result.props) == ("the tag list is malformed", {})


def test_a_part_of_the_body() -> None:
    data = hand_signed(TAGS + "; l=10", MESSAGE)
    [result] = check(data + b"added\r\n")
    assert (result.result, result.reason) == ("pass", "only 10 octets of the body are signed")
    assert reason(hand_signed(TAGS + "; l=11", MESSAGE)) == "the body is shorter than what was signed"
    assert (
        reason(hand_signed(TAGS + "; l=" + "9" * 76, MESSAGE)) == "the body is shorter than what was signed"
    )
    assert reason(hand_signed(TAGS + "; l=9", MESSAGE)) == "the body is not what was signed"


def test_white_space_around_the_signature_is_not_signed() -> None:
    assert check(SIGNATURE.replace(b"\tb=", b"\tb= \r\n\t ") + MESSAGE)[0].result == "pass"
    signature = signer(relaxed_header=False).sign(MESSAGE, NOW)
    assert check(signature.replace(b"\tb=", b"\tb=\r\n ") + MESSAGE)[0].result == "pass"


def test_the_value_of_b_is_taken_out_once() -> None:
    """Some take out what looks like it wherever it stands."""
    data = hand_signed(TAGS + "; n=b=x", MESSAGE)
    assert check(data)[0].result == "pass"


# -- keys ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (("v=DKIM1; p=",), "the key is revoked"),
        (("v=DKIM1; k=rsa",), "the key record has no key"),
        (("v=DKIM1; p=!!",), "the key is not base64"),
        (("v=DKIM1; p=AAAA",), "the key is not a public key of type 'rsa'"),
        ((ed25519_record().replace("k=ed25519;", ""),), "the key is not a public key of type 'rsa'"),
        ((ed25519_record(),), "the key is of type 'ed25519', the signature rsa-sha256"),
        ((rsa_record(tags="v=DKIM2;"),), "the key record is not of version DKIM1"),
        ((rsa_record(tags="k=rsa; v=DKIM1;"),), "the key record is not of version DKIM1"),
        ((rsa_record(tags="h=sha1;"),), "the key record does not allow SHA-256"),
        ((rsa_record(tags="s=tlsrpt;"),), "the key is not for mail"),
        (("v=spf1 -all",), "the key record is not of version DKIM1"),
        (("google-site-verification=x",), "the key record is no such: the tag list is malformed"),
        (("\x00",), "the key record is no such: the tag list is malformed"),
        ((rsa_record(tags="t=y;").replace("A", "B", 1),), "the key is not a public key of type 'rsa'"),
    ],
)
def test_what_is_wrong_with_keys(texts: tuple[str, ...], problem: str) -> None:
    assert reason(SIGNATURE + MESSAGE, *texts) == problem


@pytest.mark.parametrize(
    "tags", ["", "v=DKIM1; k=rsa; h=sha1:sha256; s=email:x; t=y:s;", "s=*;", "g=me; n=a note;", "v = DKIM1 ;"]
)
def test_what_is_right_with_keys(tags: str) -> None:
    assert check(SIGNATURE + MESSAGE, rsa_record(tags=tags))[0].result == "pass"


def test_one_of_several_keys_is_enough() -> None:
    results = check(SIGNATURE + MESSAGE, "v=DKIM1; p=", "junk", rsa_record(rsa_key(1025)), rsa_record())
    assert [result.result for result in results] == ["pass"]
    texts = ["v=DKIM1; p="] * 10 + [rsa_record()]
    assert reason(SIGNATURE + MESSAGE, *texts) == "the key is revoked"


def test_a_key_in_test_mode() -> None:
    other = rsa_record(rsa_key(1025), tags="v=DKIM1; t=y;")
    assert reason(SIGNATURE + MESSAGE, other).endswith("(the key is in test mode)")


def test_a_key_for_the_domain_itself_only() -> None:
    strict = rsa_record(tags="v=DKIM1; t=s;")
    assert check(hand_signed(TAGS + "; i=@example.com", MESSAGE), strict)[0].result == "pass"
    sub = hand_signed(TAGS + "; i=@sub.example.com", MESSAGE)
    assert check(sub)[0].result == "pass"
    assert reason(sub, strict) == "the key is for an i= of its own domain only"


SHORT = (
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIK"
    "jbJTWit+CqvjWYzvQwECAwEAAQ=="
)


def test_short_keys_prove_nothing() -> None:
    found = reason(SIGNATURE + MESSAGE, f"v=DKIM1; p={SHORT}")
    assert found == "the key has 512 bits, not 1024 to 8192 (RFC 8301)"


def test_no_key_and_no_answer() -> None:
    [none] = DkimCheck(SIGNATURE + MESSAGE, NOW).results({NAME: KeyRecords()})
    assert (none.result, none.reason) == ("permerror", "there is no key in the DNS")
    [failed] = DkimCheck(SIGNATURE + MESSAGE, NOW).results({NAME: KeyRecords(problem="SERVFAIL")})
    assert (failed.result, failed.reason) == ("temperror", "the key cannot be looked up: SERVFAIL")


# -- bounds ----------------------------------------------------------------------------------------------------
def test_ten_signatures_are_looked_at() -> None:
    results = check(b"DKIM-Signature: x\r\n" * 3 + SIGNATURE * 10 + MESSAGE)
    assert len(results) == MAX_SIGNATURES == 10
    assert [result.result for result in results] == ["permerror"] * 3 + ["pass"] * 7


def test_header_b_tells_signatures_apart() -> None:
    first = base64.b64encode(bytes(128)).decode()
    second = first[:12] + "x" + first[13:]
    data = b"".join(f"DKIM-Signature: {TAGS}; b={b}\r\n".encode() for b in (first, second)).replace(
        b"@bh", b"AAAA"
    )
    assert [result.props["header.b"] for result in check(data + MESSAGE)] == [first[:14], second[:14]]


@given(st.text(st.characters(exclude_characters=";", exclude_categories=["Cs"]), min_size=1))
@settings(database=None, deadline=None, max_examples=100)
def test_whatever_is_said_can_be_written_into_a_header(text: str) -> None:
    for value in (text, text * 2000):
        tags = "; ".join(f"{name}={value}" for name in ("v", "a", "c", "d", "i", "s", "t", "x", "h"))
        results = check(f"DKIM-Signature: {tags}; bh=AAAA; b=AAAA\r\n".encode() + MESSAGE)
        encoded = AuthenticationResults(serv_id="mx", results=results).encode()
        assert all(len(line) < 998 for line in encoded.split(b"\r\n"))


def test_a_header_with_bare_lf() -> None:
    assert reason(SIGNATURE + MESSAGE.replace(b"To: you\r", b"To: you")) == (
        "a header line of the message ends with LF alone"
    )


def test_long_lists_take_linear_time() -> None:
    began = time.process_time()
    names = "from" + ":x" * 30000
    field = hand_signed(TAGS.replace("h=from", "h=" + names), MESSAGE).removesuffix(MESSAGE)
    results = check(field * 10 + b"x: 1\r\n" * 30000 + MESSAGE)
    assert [result.reason for result in results] == ["the signature does not match the header"] * 10
    assert reason(hand_signed(TAGS + "; z=" + "a" * 70000, MESSAGE)).startswith("the tag list has more than")
    assert time.process_time() - began < 2


@given(
    st.binary(max_size=300) | st.text("vabhdscqtixl=;:/ \r\n\t1@.").map(str.encode), st.binary(max_size=60)
)
@settings(database=None, deadline=None, max_examples=300)
def test_nothing_but_results_comes_of_junk(tags: bytes, record: bytes) -> None:
    data = b"DKIM-Signature: " + tags.replace(b"\n", b"\r\n ") + b"\r\nFrom: a@example.com\r\n\r\nbody\r\n"
    made = DkimCheck(data, NOW)
    keys = {name: KeyRecords((record.decode("latin-1"), rsa_record())) for name in made.key_names}
    assert {result.result for result in made.results(keys)} <= {"permerror", "temperror"}
    check(SIGNATURE + MESSAGE, record.decode("latin-1"))
