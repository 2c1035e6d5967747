"""Chains: ours, dkimpy's, broken ones (RFC 8617)."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import dkim
import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from signing_keys import NAME, NOW, ed25519_key, ed25519_record, pem, records, rsa_key, rsa_record, signer

from kumo_py.auth.arc_seal import arc_set
from kumo_py.auth.arc_verify import ArcCheck, ArcVerdict
from kumo_py.auth.dkim_keys import KeyRecords
from kumo_py.message.authentication_results import ARCAuthenticationResults

if TYPE_CHECKING:
    from kumo_py.auth.dkim_sign import Signer

MESSAGE = b"From: Me <me@example.com>\r\nTo: list@example.org\r\nSubject: hello\r\n\r\nthe body\r\n"
RESULTS = b"mx.example.org;\r\n\tdkim=pass\r\n\theader.d=example.com"


def verdict(data: bytes, *texts: str, now: float = NOW) -> ArcVerdict:
    check = ArcCheck(data, now)
    return check.verdict(records(*texts))


def sealed(data: bytes, made: Signer | None = None, *texts: str) -> bytes:
    """The message with a set more; as it is if its chain is broken."""
    check = ArcCheck(data, NOW)
    return arc_set(check, check.verdict(records(*texts)), made or signer(), RESULTS, NOW) + data


def chain(length: int) -> bytes:
    data = MESSAGE
    for _ in range(length):
        data = sealed(data)
    return data


CHAIN = chain(3)


def changed(old: str, new: str, data: bytes = CHAIN) -> bytes:
    """With one header field changed: the text is a pattern that must occur."""
    result, count = re.subn(old.encode(), new.encode(), data, count=1)
    assert count == 1, old
    return result


def test_no_chain() -> None:
    found = verdict(MESSAGE)
    assert (found.status, found.reason, found.result.props) == ("none", None, {})
    assert found.result.method == "arc"
    assert ArcCheck(MESSAGE, NOW).key_names == set()


@pytest.mark.parametrize("key", [rsa_key(), ed25519_key()], ids=["rsa", "ed25519"])
@pytest.mark.parametrize("relaxed", [True, False])
def test_what_we_seal_passes(relaxed: bool, key: Any) -> None:
    made = signer("From", "To", key=key, relaxed_header=relaxed, relaxed_body=relaxed, over_sign=True)
    text = rsa_record() if key is rsa_key() else ed25519_record()
    data = MESSAGE
    for count in range(1, 6):
        data = sealed(data, made, text)
        found = verdict(data, text)
        assert (found.status, found.reason, found.sets) == ("pass", None, count)
        assert found.result.props == {"header.oldest-pass": "0"}


def test_the_fields_of_a_set() -> None:
    fields = sealed(MESSAGE, signer(expiration=60)).removesuffix(MESSAGE).split(b"\r\n")
    assert fields.pop() == b""
    assert all(len(line) < 78 for line in fields)
    text = b"\r\n".join(fields).decode()
    seal, signature, results = re.split(r"\r\n(?=ARC)", text)
    assert seal.startswith("ARC-Seal: i=1; a=rsa-sha256; t=1700000000; cv=none; d=example.com; s=s1;\r\n\tb=")
    assert signature.startswith(
        "ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com;\r\n\ts=s1;\r\n"
        "\tt=1700000000; x=1700000060; bh="
    )
    assert "\r\n\th=from:to:subject;\r\n" in signature
    assert results == "ARC-Authentication-Results: i=1; " + RESULTS.decode()
    parsed = ARCAuthenticationResults.parse(results.partition(":")[2].encode())
    assert (parsed.instance, parsed.serv_id, parsed.results[0].method) == (1, "mx.example.org", "dkim")
    assert b"ARC-Seal: i=2; a=rsa-sha256; t=1700000000; cv=pass;" in chain(2)


def test_what_the_chain_is_made_of_is_not_signed_by_the_message_signature() -> None:
    data = sealed(MESSAGE, signer("From", "ARC-Seal", "ARC-Message-Signature"))
    assert b"h=from;\r\n" in data
    assert verdict(data).status == "pass"


@pytest.mark.parametrize("made", [signer("From", "ARC-Seal"), signer()], ids=["listed", "plain"])
def test_dkimpy_verifies_what_we_seal(made: Signer) -> None:
    text = rsa_record().encode()
    data = MESSAGE
    for _ in range(3):
        data = sealed(data, made)
        cv, _details, reason = dkim.arc_verify(data, dnsfunc=lambda name, timeout=5: text)
        assert cv == dkim.CV_Pass, reason


class Finding(NamedTuple):
    method: str
    result: str

    def __str__(self) -> str:
        return f"{self.method}={self.result}"


class ResultsHeader:
    """What dkimpy needs of the package `authres`."""

    def __init__(self, text: str) -> None:
        self.authserv_id, *results = (part.strip() for part in text.partition(":")[2].split(";"))
        self.results = [Finding(*one.split("=")) for one in results]

    parse = classmethod(lambda cls, text: cls(text))


AUTHRES = SimpleNamespace(
    AuthenticationResultsHeader=ResultsHeader, core=SimpleNamespace(SyntaxError=ValueError)
)


def sealed_by_dkimpy(data: bytes) -> bytes:
    cv = verdict(data).status
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dkim, "authres", AUTHRES, raising=False)
        fields = dkim.arc_sign(
            f"Authentication-Results: mx.example.org; spf=pass; arc={cv}\r\n".encode() + data,
            b"s1",
            b"example.com",
            pem(rsa_key(), PrivateFormat.TraditionalOpenSSL),
            b"mx.example.org",
            include_headers=[b"from", b"to", b"subject"],
        )
    assert len(fields) == 3
    return b"".join(fields) + data


def test_we_verify_what_dkimpy_seals() -> None:
    data = MESSAGE
    for count in range(1, 4):
        data = sealed_by_dkimpy(data)
        found = verdict(data)
        assert (found.status, found.reason, found.sets) == ("pass", None, count)
    data = sealed_by_dkimpy(sealed(data))
    assert (verdict(data).status, verdict(data).sets) == ("pass", 5)


# -- what breaks a chain, and what does not ----------------------------------------------------------------------
def test_a_list_that_changes_the_message_starts_anew() -> None:
    """Only the newest message signature has to match; the oldest from which on all do is told."""
    data = changed("Subject: hello", "Subject: [list] hello")
    assert verdict(data).status == "fail"
    assert verdict(data).reason == (
        "the ARC-Message-Signature of instance 3: the signature does not match the header"
    )

    data = chain(2).replace(b"Subject: hello", b"Subject: [list] hello")
    check = ArcCheck(data, NOW)
    forced = arc_set(check, ArcVerdict("pass", sets=2), signer(), RESULTS, NOW) + data
    found = verdict(sealed(forced))
    assert (found.status, found.oldest_pass) == ("pass", 3)
    assert found.result.props == {"header.oldest-pass": "3"}


def test_a_broken_chain_is_not_sealed() -> None:
    data = changed("the body", "another body")
    assert sealed(data) == data


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("the body", "the bodY", "the ARC-Message-Signature of instance 3: the body is not what was signed"),
        (
            "From: Me",
            "From: You",
            "the ARC-Message-Signature of instance 3: the signature does not match the header",
        ),
        (
            r"(?s)(Results: i=2.*?)dkim=pass",
            r"\1dkim=fail",
            "the ARC-Seal of instance 2: the signature does not match the header",
        ),
        (
            r"(?s)(Results: i=1.*?)dkim=pass",
            r"\1dkim=fail",
            "the ARC-Seal of instance 1: the signature does not match the header",
        ),
        (r"(ARC-Seal: i=3.*?)cv=pass", r"\1cv=fail", "instance 3 says that the chain was broken already"),
        (r"(ARC-Seal: i=3.*?)cv=pass", r"\1cv=none", "the ARC-Seal of instance 3 cannot have cv='none'"),
        (r"(ARC-Seal: i=1.*?)cv=none", r"\1cv=pass", "the ARC-Seal of instance 1 cannot have cv='pass'"),
        (r"(ARC-Seal: i=2.*?)cv=pass", r"\1cv=maybe", "the ARC-Seal of instance 2 cannot have cv='maybe'"),
        (r"(ARC-Seal: i=2.*?)cv=pass; ", r"\1", "the ARC-Seal of instance 2: the tag cv= is missing"),
        (r"(ARC-Seal: i=2.*?)cv=", r"\1h=from; cv=", "the ARC-Seal of instance 2 has a tag h="),
        (r"(ARC-Seal: i=2; a=)rsa-sha256", r"\1rsa-sha1", "rsa-sha1 proves nothing any more"),
        (r"(ARC-Seal: )i=2; ", r"\1", "an ARC-Seal header has no instance from 1 to 50"),
        (r"(ARC-Seal: )i=2", r"\1i=0", "an ARC-Seal header has no instance from 1 to 50"),
        (r"(ARC-Seal: )i=2", r"\1i=51", "an ARC-Seal header has no instance from 1 to 50"),
        (r"(ARC-Seal: )i=2", r"\1i=x", "an ARC-Seal header: the tag i= is not a number of up to 3 digits"),
        (r"(ARC-Seal: )i=2", r"\1i=1", "there are two ARC-Seal headers of instance 1"),
        (r"(ARC-Seal: )i=3", r"\1i=4", "instance 3 has no ARC-Seal"),
        (r"ARC-Seal: i=2", "X-Seal: i=2", "instance 2 has no ARC-Seal"),
        (r"ARC-Message-Signature: i=1", "X: i=1", "instance 1 has no ARC-Message-Signature"),
        (r"ARC-Authentication-Results: i=3", "X: i=3", "instance 3 has no ARC-Authentication-Results"),
        (r"(Results: )i=3", r"\1j=3", "an ARC-Authentication-Results header has no instance"),
        (r"(Signature: i=2; a=)rsa-sha256", r"\1rsa-sha512", "the algorithm 'rsa-sha512' is not known"),
        (r"(?s)(Signature: i=2.*?h=)from:", r"\1", "instance 2: the From header is not signed"),
        (r"(?s)(Signature: i=3.*?h=)from:", r"\1from:arc-seal:", "instance 3 signs ARC-Seal"),
        (r"(?s)(Signature: i=2.*?)bh=", r"\1xx=", "instance 2: the tag bh= is missing"),
        (
            r"To: list@example.org\r\n",
            "To: list@example.org\n",
            "a header line of the message ends with LF alone",
        ),
    ],
)
def test_what_breaks_a_chain(old: str, new: str, problem: str) -> None:
    found = verdict(changed(old, new))
    assert found.status == "fail"
    assert problem in str(found.reason)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("To: list", "X-Unsigned: 1\r\nTo: list"),
        (r"(ARC-Seal: i=2[^\r]*)", r"\1  "),
        ("ARC-Seal: i=2", "arc-seal:   i=2"),
        ("(?s)(Results: i=2;)", "Results:  i=2;"),
        (r"(?s)\A(ARC-Seal: i=3;.*)(From: Me)", r"X-Top: 1\r\n\1\2"),
    ],
)
def test_what_does_not_break_a_chain(old: str, new: str) -> None:
    assert verdict(changed(old, new)).status == "pass"


def test_order_means_nothing() -> None:
    *fields, rest = re.split(rb"(?<=\r\n)(?=ARC|From)", CHAIN)
    assert len(fields) == 9
    assert verdict(b"".join(reversed(fields)) + rest).status == "pass"


def test_keys() -> None:
    assert "instance 3: the key is revoked" in str(verdict(CHAIN, "v=DKIM1; p=").reason)
    check = ArcCheck(CHAIN, NOW)
    assert check.key_names == {NAME}
    failed = check.verdict({NAME: KeyRecords(problem="SERVFAIL")})
    assert (failed.status, failed.reason) == (
        "fail",
        "the ARC-Message-Signature of instance 3: the key cannot be looked up: SERVFAIL",
    )
    assert failed.result.props == {"header.oldest-pass": "0"}


def test_expiration() -> None:
    data = sealed(MESSAGE, signer(expiration=60))
    assert verdict(data, now=NOW + 60).status == "pass"
    assert "has expired" in str(verdict(data, now=NOW + 3600).reason)
    assert verdict(sealed(data), now=NOW + 3600).status == "pass"  # an older one may have


# -- bounds ----------------------------------------------------------------------------------------------------
def test_fifty_sets_and_no_more() -> None:
    data = chain(50)
    assert (verdict(data).status, verdict(data).sets) == ("pass", 50)
    assert sealed(data) == data
    field = data[: data.index(b"ARC-Message-Signature")]
    assert verdict(field + data).reason == "the chain has more than 50 sets"


def test_time_is_linear() -> None:
    """Each seal signs all sets before it."""
    padded = MESSAGE
    results = b"mx;\r\n" + b"\tx=y\r\n" * 4000 + b"\tz=1"
    for _ in range(20):
        check = ArcCheck(padded, NOW)
        padded = arc_set(check, ArcVerdict("pass" if check.sets else "none"), signer(), results, NOW) + padded
    began = time.process_time()
    assert verdict(padded).status == "pass"
    assert verdict(b"ARC-Seal: i=1\r\n" * 100_000 + MESSAGE).status == "fail"
    assert time.process_time() - began < 2


@given(st.data())
@settings(database=None, deadline=None, max_examples=150)
def test_nothing_but_verdicts_comes_of_junk(data: Any) -> None:
    at = data.draw(st.integers(0, len(CHAIN)))
    junk = data.draw(st.binary(max_size=5) | st.sampled_from([b"\r\n", b";", b"i=1;", b"=", b" "]))
    drop = data.draw(st.integers(0, 40))
    text = CHAIN[:at] + junk + CHAIN[at + drop :]
    made = ArcCheck(text, NOW)
    keys = {name: records()[NAME] for name in made.key_names}
    assert made.verdict(keys).status in ("pass", "fail", "none")
