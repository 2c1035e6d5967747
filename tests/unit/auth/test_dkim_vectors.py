"""The examples of RFC 6376 (appendix A) and RFC 8463 (appendix A)."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kumo_py.auth.dkim_keys import KeyRecords, PrivateKey
from kumo_py.auth.dkim_sign import Signer
from kumo_py.auth.dkim_verify import DkimCheck


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


DINNER = crlf("""\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""")

RFC_6376_SIGNATURE = crlf("""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
""")
RFC_6376_KEY = (
    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4j"
    "YfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)

RFC_8463_SIGNATURES = crlf("""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
""")
RFC_8463_KEYS = {
    "brisbane._domainkey.football.example.com": KeyRecords(
        ("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",)
    ),
    "test._domainkey.football.example.com": KeyRecords(
        (
            "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jL"
            "QiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip"
            "3G+2kryOTIKT+l/K4w3QIDAQAB",
        )
    ),
}


def test_rfc_6376_appendix_a() -> None:
    one_space = DINNER.replace(b"game.  Are", b"game. Are")  # unlike the message of RFC 8463
    check = DkimCheck(RFC_6376_SIGNATURE + one_space, 0)
    [result] = check.results({"brisbane._domainkey.example.com": KeyRecords((RFC_6376_KEY,))})
    assert (result.result, result.reason) == ("pass", None)
    assert result.props == {
        "header.a": "rsa-sha256",
        "header.b": "AuUoFEfD",
        "header.c": "simple/simple",
        "header.d": "example.com",
        "header.i": "joe@football.example.com",
        "header.s": "brisbane",
    }


def test_rfc_8463_appendix_a() -> None:
    check = DkimCheck(RFC_8463_SIGNATURES + DINNER, 1528637910)
    assert check.key_names == set(RFC_8463_KEYS)
    results = check.results(RFC_8463_KEYS)
    assert [(result.result, result.props["header.a"]) for result in results] == [
        ("pass", "ed25519-sha256"),
        ("pass", "rsa-sha256"),
    ]


@pytest.mark.parametrize("swapped", [b"Is dinner ready", b"lost the game"])
def test_rfc_8463_changed(swapped: bytes) -> None:
    message = (RFC_8463_SIGNATURES + DINNER).replace(swapped, swapped.upper())
    assert [result.result for result in DkimCheck(message, 0).results(RFC_8463_KEYS)] == ["permerror"] * 2


def test_we_sign_as_rfc_8463_does() -> None:
    secret = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    signer = Signer(
        PrivateKey(Ed25519PrivateKey.from_private_bytes(secret)),
        domain="football.example.com",
        selector="brisbane",
        headers=["From", "To", "Subject", "Date", "Message-ID", "From", "Subject", "Date"],
    )
    field = signer.sign(DINNER, 1528637909)
    assert b"bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;" in field
    [result] = DkimCheck(field + DINNER, 0).results(RFC_8463_KEYS)
    assert result.result == "pass"
