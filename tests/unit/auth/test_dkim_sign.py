"""What a signature looks like, what it covers, and which keys make one."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from signing_keys import NOW, ed25519_key, ed25519_record, pem, records, rsa_key, rsa_record, signer

from kumo_py.auth.dkim_keys import PrivateKey, load_private_key
from kumo_py.auth.dkim_sign import Signer
from kumo_py.auth.dkim_verify import DkimCheck

MESSAGE = b"From: Me <me@example.com>\r\nTo: you@example.org\r\nSubject: hello\r\n\r\nbody\r\n"


def verdict(data: bytes, *texts: str) -> str:
    """Of the first signature."""
    return DkimCheck(data, NOW).results(records(*texts))[0].result


def tag(field: bytes, name: str) -> str:
    """A tag's value without white space."""
    found = re.search(rf"[;:\s]{name}=([^;]*)".encode(), field.partition(b":")[2])
    assert found is not None, name
    return b"".join(found[1].split()).decode()


def dkimpy_verifies(data: bytes, record: str | None = None) -> bool:
    text = (record or rsa_record()).encode()
    return bool(dkim.verify(data, dnsfunc=lambda name, timeout=5: text))


def test_the_field() -> None:
    field = signer().sign(MESSAGE, NOW)
    body_hash = base64.b64encode(hashlib.sha256(b"body\r\n").digest()).decode()
    assert field.decode().startswith(
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=s1;\r\n"
        f"\tt=1700000000; bh={body_hash};\r\n"
        "\th=from:to:subject;\r\n"
        "\tb="
    )
    assert field.endswith(b"\r\n")
    assert len(base64.b64decode(tag(field, "b"))) == 128
    assert field == signer().sign(MESSAGE, NOW)


@pytest.mark.parametrize("expiration", [None, 3_000_000_000])
@pytest.mark.parametrize("relaxed", [True, False])
def test_lines_are_short_and_never_start_with_a_dot(expiration: int | None, relaxed: bool) -> None:
    names = ["From", "Subject", *(f"X-{'Name' * (n % 17)}-{n}" for n in range(60)), "X-" + "y" * 100]
    made = signer(*names, expiration=expiration, relaxed_header=relaxed, over_sign=True)
    field = made.sign(MESSAGE, NOW)
    lines = field.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) < 78 for line in lines if b"y" * 100 not in line)
    assert not any(line.startswith(b".") for line in lines)
    assert verdict(field + MESSAGE) == "pass"
    assert dkimpy_verifies(field + MESSAGE)


def test_a_long_domain_has_a_line_of_its_own() -> None:
    domain = ".".join(["a" * 60] * 4)
    made = Signer(PrivateKey(rsa_key()), domain=domain, selector="s1", headers=["From"])
    field = made.sign(MESSAGE, NOW)
    assert f"\r\n\td={domain};\r\n".encode() in field
    assert dkimpy_verifies(field + MESSAGE)


def test_expiration() -> None:
    field = signer(expiration=3600).sign(MESSAGE, NOW)
    assert (tag(field, "t"), tag(field, "x")) == (str(NOW), str(NOW + 3600))


@pytest.mark.parametrize(
    ("over_sign", "headers", "listed"),
    [
        (False, ("From", "To", "Subject"), "from:to:subject"),
        (False, ("FROM", "Cc", "from"), "from:cc:from"),
        (True, ("From", "To", "Subject"), "from:from:to:to:to:subject"),
        (True, ("Subject", "From", "subject", "FROM"), "subject:from:from"),
    ],
)
def test_listed_headers(over_sign: bool, headers: tuple[str, ...], listed: str) -> None:
    data = b"From: a@example.com\r\nTo: b\r\nTo: c\r\n\r\n"
    field = signer(*headers, over_sign=over_sign).sign(data, NOW)
    assert tag(field, "h") == listed
    assert verdict(field + data) == "pass"
    assert dkimpy_verifies(field + data)


def test_headers_that_are_missing_cannot_be_added() -> None:
    field = signer("From", "Subject").sign(b"From: a@example.com\r\n\r\n", NOW)
    assert verdict(field + b"Subject: x\r\nFrom: a@example.com\r\n\r\n") == "permerror"


def test_only_over_signing_hinders_another_header() -> None:
    forged = b"From: other@example.com\r\n" + MESSAGE
    assert verdict(signer().sign(MESSAGE, NOW) + forged) == "pass"
    assert verdict(signer(over_sign=True).sign(MESSAGE, NOW) + forged) == "permerror"


@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("key", [rsa_key(), ed25519_key()], ids=["rsa", "ed25519"])
@pytest.mark.parametrize(
    "data",
    [
        b"From: a@example.com\r\n\r\n",
        b"From: a@example.com\r\n",
        b"From: a@example.com",
        b"From: a@example.com\r\n\r\n\r\n\r\n",
        b"From: a@example.com\r\n\r\n.\r\n..\r\n.x  y \r\n\r\n\r\n",
        b"From: a@example.com\r\n\r\nno line end",
        b"From:  a@example.com,\r\n\t b@example.com \r\nSubject:x\r\nTO : y\r\n\r\n\xe9\xff \xc3\xa9\r\n",
        b"From: \xc3\xa9@example.com\r\nSubject: \xff\r\n\r\nbody\r\n",
    ],
)
def test_what_is_signed_is_verified(key: Any, data: bytes, relaxed: bool) -> None:
    field = signer(key=key, relaxed_header=relaxed, relaxed_body=relaxed).sign(data, NOW)
    record = ed25519_record() if key is ed25519_key() else rsa_record()
    assert verdict(field + data, record) == "pass"


# -- dkimpy as the judge ----------------------------------------------------------------------------------------
VALUES = st.lists(st.sampled_from(["a", "Bc", "  ", "\t", "\r\n ", "\r\n\t", "é", ";", "=", ":", "b="])).map(
    lambda parts: "x" + "".join(parts) + "y"
)
HEADERS = st.lists(st.tuples(st.sampled_from(["To", "Subject", "X-A", "to"]), VALUES), max_size=6)
BODIES = st.lists(st.sampled_from(["a", ".", "  ", "\t", "\r\n", "\r\n\r\n", "\r\n.", "é", "x\r\n"])).map(
    "".join
)
FORMS = st.booleans()


def message(headers: list[tuple[str, str]], body: str) -> bytes:
    lines = [("From", "me@example.com"), *headers]
    return ("".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n" + body).encode()


@given(HEADERS, BODIES, FORMS, FORMS, FORMS)
@settings(database=None, deadline=None, max_examples=150)
def test_dkimpy_verifies_what_we_sign(
    headers: list[tuple[str, str]], body: str, relaxed_header: bool, relaxed_body: bool, over_sign: bool
) -> None:
    data = message(headers, body + "x\r\n")
    made = signer(
        "From",
        "To",
        "To",
        "Subject",
        "X-A",
        relaxed_header=relaxed_header,
        relaxed_body=relaxed_body,
        over_sign=over_sign,
    )
    signed = made.sign(data, NOW) + data
    assert dkimpy_verifies(signed)
    assert verdict(signed) == "pass"


@given(HEADERS, BODIES, FORMS, FORMS)
@settings(database=None, deadline=None, max_examples=100)
def test_we_verify_what_dkimpy_signs(
    headers: list[tuple[str, str]], body: str, relaxed_header: bool, relaxed_body: bool
) -> None:
    data = message(headers, body + "x\r\n")
    forms = tuple(b"relaxed" if one else b"simple" for one in (relaxed_header, relaxed_body))
    field = dkim.sign(
        data,
        b"s1",
        b"example.com",
        pem(rsa_key(), PrivateFormat.TraditionalOpenSSL),
        canonicalize=forms,
        include_headers=[b"from", b"to", b"to", b"subject", b"x-a"],
    )
    assert verdict(field + data) == "pass"


# -- keys ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_rsa_keys(encoding: Encoding, form: PrivateFormat) -> None:
    key = load_private_key(rsa_key().private_bytes(encoding, form, NoEncryption()))
    assert (key.algorithm, key.is_slow) == ("rsa-sha256", False)
    assert load_private_key(pem(rsa_key(2048))).is_slow
    made = Signer(key, domain="example.com", selector="s1", headers=["From"])
    assert verdict(made.sign(MESSAGE, NOW) + MESSAGE) == "pass"


@pytest.mark.parametrize("as_pem", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_ed25519_keys(version: int, as_pem: bool) -> None:
    key = ed25519_key()
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if version == 2:  # RFC 5958: with the public key, as ring and others write it
        public = key.public_key().public_bytes_raw()
        der = b"\x30\x53\x02\x01\x01" + der[5:] + b"\xa1\x23\x03\x21\x00" + public
    if as_pem:
        der = b"-----BEGIN PRIVATE KEY-----\n%s-----END PRIVATE KEY-----\n" % base64.encodebytes(der)
    loaded = load_private_key(der)
    assert (loaded.algorithm, loaded.is_slow) == ("ed25519-sha256", False)
    made = Signer(loaded, domain="example.com", selector="s1", headers=["From"])
    assert verdict(made.sign(MESSAGE, NOW) + MESSAGE, ed25519_record()) == "pass"


def encrypted() -> bytes:
    return rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a private key in PEM or DER"),
        (b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", "not a private key in PEM or DER"),
        (rsa_record().encode(), "not a private key in PEM or DER"),
        (encrypted(), "it is encrypted"),
        (
            generate_private_key(SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "DKIM has RSA and Ed25519 keys",
        ),
    ],
)
def test_what_is_no_key(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load_private_key(data)


SHORT_KEY = """-----BEGIN RSA PRIVATE KEY-----
MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu
KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQJAIJLixBy2qpFoS4DSmoEm
o3qGy0t6z09AIJtH+5OeRV1be+N4cDYJKffGzDa88vQENZiRm0GRq6a+HPGQMd2k
TQIhAKMSvzIBnni7ot/OSie2TmJLY4SwTQAevXysE2RbFDYdAiEBCUEaRQnMnbp7
9mxDXDf6AU0cN/RPBjb9qSHDcWZHGzUCIG2Es59z8ugGrDY+pxLQnwfotadxd+Uy
v/Ow5T0q5gIJAiEAyS4RaI9YG8EWx/2w0T67ZUVAw8eOMB6BIUg0Xcu+3okCIBOs
/5OiPgoTdSy7bcF9IGpSE8ZgGKzgYQVZeN97YE00
-----END RSA PRIVATE KEY-----
"""


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"RSA key of 512 bits is refused by all receivers.*RFC 8301"):
        load_private_key(SHORT_KEY.encode())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"headers": ["To"]}, "headers must have From"),
        ({"headers": []}, "headers must have From"),
        ({"headers": ["From", "a:b"]}, "'a:b' in headers is not a header name"),
        ({"headers": ["From", "a\r\nb"]}, "is not a header name"),
        ({"domain": ""}, "the domain '' cannot be in a signature"),
        ({"domain": "a b"}, "the domain 'a b' cannot be in a signature"),
        ({"domain": "a;b=c"}, "cannot be in a signature"),
        ({"selector": "s\r\nX: y"}, "the selector"),
    ],
)
def test_what_cannot_be_a_signer(changes: dict[str, Any], problem: str) -> None:
    options: dict[str, Any] = {"domain": "example.com", "selector": "s1", "headers": ["From"], **changes}
    with pytest.raises(ValueError, match=problem):
        Signer(PrivateKey(rsa_key()), **options)


def test_a_header_with_bare_lf_is_not_signed() -> None:
    with pytest.raises(ValueError, match="a header line ends with LF alone"):
        signer().sign(b"From: a\nTo: b\r\n\r\n", NOW)
    assert signer().sign(b"From: a\r\n\r\nbo\ndy", NOW)
