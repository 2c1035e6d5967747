"""DMARC by RFC 7489: which record counts, what is aligned, what becomes of the rest."""

from __future__ import annotations

import pytest
from auth_zone import AuthZone

from kumo_py.auth.dmarc import DmarcRequest, DmarcResult, check
from kumo_py.auth.dmarc_record import is_dmarc, parse_record
from kumo_py.auth.dmarc_report import ReportingInfo, error_record
from kumo_py.message.authentication_results import AuthenticationResult


def organizational(domain: str) -> str | None:
    """As if .com and .co.uk were the only public suffixes."""
    labels = domain.split(".")
    wanted = 3 if domain.endswith("co.uk") else 2
    return ".".join(labels[-wanted:]) if len(labels) >= wanted else None


def dkim(domain: str | None, result: str = "pass") -> AuthenticationResult:
    return AuthenticationResult(
        method="dkim", result=result, props={} if domain is None else {"header.d": domain, "header.s": "s1"}
    )


def spf(result: str = "none", **props: str) -> AuthenticationResult:
    return AuthenticationResult(
        method="spf", result=result, props={f"smtp.{name}": value for name, value in props.items()}
    )


def request(
    from_domain: str = "example.com",
    *,
    dkim_results: list[AuthenticationResult] | None = None,
    spf_result: AuthenticationResult | None = None,
    mail_from: str = "",
    sample: int = 0,
) -> DmarcRequest:
    return DmarcRequest(
        from_domain=from_domain,
        mail_from_domain=mail_from,
        dkim=dkim_results or [],
        spf=spf_result or spf(),
        sample=sample,
    )


async def evaluate(asked: DmarcRequest, *lines: str) -> DmarcResult:
    return await check(asked, AuthZone("\n".join(lines)), organizational)


REJECT = "_dmarc.example.com TXT v=DMARC1; p=reject; sp=quarantine"
NONE_FOUND = "no DMARC records found for"
UNRESOLVED = "DNS records could not be resolved for"


# -- discovery (section 6.6.3) ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("from_domain", "lines", "disposition", "reason"),
    [
        ("example.com", [REJECT], "Reject", "No aligned DKIM or SPF"),
        ("Example.COM.", [REJECT], "Reject", "No aligned DKIM or SPF"),
        ("a.b.example.com", [REJECT], "Quarantine", "No aligned DKIM or SPF"),
        ("b.example.com", ["_dmarc.example.com TXT v=DMARC1;p=reject"], "Reject", "No aligned DKIM or SPF"),
        (
            "b.example.com",
            [REJECT, "_dmarc.b.example.com TXT v=DMARC1; p=none"],
            "None",
            "No aligned DKIM or SPF",
        ),
        # Only the organizational domain is asked besides, nothing in between.
        (
            "a.b.example.com",
            ["_dmarc.b.example.com TXT v=DMARC1; p=none"],
            "PermError",
            f"{NONE_FOUND} _dmarc.example.com",
        ),
        ("example.com", [], "PermError", f"{NONE_FOUND} example.com"),
        ("com", [], "None", f"{NONE_FOUND} com"),
        ("example.com", ["_dmarc.example.com FAIL"], "TempError", f"{UNRESOLVED} _dmarc.example.com"),
        (
            "b.example.com",
            ["_dmarc.b.example.com FAIL", REJECT],
            "TempError",
            f"{UNRESOLVED} _dmarc.b.example.com",
        ),
        ("b.example.com", ["_dmarc.example.com FAIL"], "TempError", f"{UNRESOLVED} _dmarc.example.com"),
        ("example.com", [REJECT, REJECT], "PermError", f"{NONE_FOUND} example.com"),
        ("example.com", [REJECT, "_dmarc.example.com TXT v=spf1 -all"], "Reject", "No aligned DKIM or SPF"),
        (
            "example.com",
            ["_dmarc.example.com TXT v=DMARC1; p=nonsense"],
            "PermError",
            f"{NONE_FOUND} example.com",
        ),
    ],
)
async def test_discovery(from_domain: str, lines: list[str], disposition: str, reason: str) -> None:
    result = await evaluate(request(from_domain), *lines)
    assert (result.disposition, result.reason) == (disposition, reason)


# -- alignment (section 3.1) -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tags", "signers", "passes"),
    [
        ("", ["example.com"], True),
        ("", ["EXAMPLE.com."], True),
        ("", ["mail.example.com"], True),
        ("adkim=r", ["mail.example.com"], True),
        ("adkim=s", ["example.com"], True),
        ("adkim=s", ["mail.example.com"], False),
        ("adkim=x", ["mail.example.com"], True),
        ("", ["notexample.com"], False),
        ("", ["com"], False),
        ("", ["other.com", "example.com"], True),
        ("", [None, "example.com"], True),
        ("", [], False),
    ],
)
async def test_dkim_alignment(tags: str, signers: list[str | None], passes: bool) -> None:
    asked = request(dkim_results=[dkim(one) for one in signers])
    result = await evaluate(asked, f"_dmarc.example.com TXT v=DMARC1; p=reject; {tags}")
    assert result.disposition == ("Pass" if passes else "Reject")


@pytest.mark.parametrize(
    ("tags", "result", "passes"),
    [
        ("", spf("pass", mailfrom="user@example.com"), True),
        ("", spf("Pass", mailfrom="user@bounces.example.com"), True),
        ("aspf=s", spf("pass", mailfrom="user@bounces.example.com"), False),
        ("aspf=s", spf("pass", mailfrom="example.com"), True),
        ("", spf("softfail", mailfrom="user@example.com"), False),
        ("", spf("pass", mailfrom="user@other.com", helo="example.com"), False),
        ("", spf("pass", mailfrom="", helo="mx.example.com"), True),
        ("", spf("pass"), False),
    ],
)
async def test_spf_alignment(tags: str, result: AuthenticationResult, passes: bool) -> None:
    found = await evaluate(request(spf_result=result), f"_dmarc.example.com TXT v=DMARC1; p=reject; {tags}")
    assert found.disposition == ("Pass" if passes else "Reject")


async def test_the_envelope_sender_stands_in() -> None:
    asked = request(spf_result=spf("pass"), mail_from="bounces.example.com")
    assert (await evaluate(asked, REJECT)).disposition == "Pass"


async def test_registrable_domains_below_a_longer_suffix() -> None:
    record = "_dmarc.shop.co.uk TXT v=DMARC1; p=reject"
    aligned = request("www.shop.co.uk", dkim_results=[dkim("mail.shop.co.uk")])
    assert (await evaluate(aligned, record)).disposition == "Pass"
    other = request("shop.co.uk", dkim_results=[dkim("evil.co.uk")])
    assert (await evaluate(other, record)).disposition == "Reject"


async def test_only_signatures_that_pass_count() -> None:
    failing = request(dkim_results=[dkim("example.com", "fail"), dkim("example.com", "temperror")])
    assert (await evaluate(failing, REJECT)).reason == "No aligned DKIM or SPF"


@pytest.mark.parametrize(
    ("signer", "tags", "reason"),
    [
        ("other.com", "", "DMARC: DKIM relaxed check failed"),
        ("other.com", "adkim=s", "DMARC: DKIM strict check failed"),
        (None, "", "DMARC: DKIM signature missing 'd=' tag"),
    ],
)
async def test_why_a_signature_does_not_count(signer: str | None, tags: str, reason: str) -> None:
    record = f"_dmarc.example.com TXT v=DMARC1; p=reject; {tags}"
    assert (await evaluate(request(dkim_results=[dkim(signer)]), record)).reason == reason
    both = request(dkim_results=[dkim(signer)], spf_result=spf("pass", mailfrom="other.com"))
    assert (await evaluate(both, record)).reason == "DMARC: SPF relaxed check failed"


# -- what becomes of it (sections 6.3 and 6.6.4) -----------------------------------------------------------
@pytest.mark.parametrize(
    ("record", "sample", "disposition"),
    [
        ("p=none", 0, "None"),
        ("p=quarantine", 0, "Quarantine"),
        ("p=reject", 99, "Reject"),
        ("p=Reject", 0, "Reject"),
        ("p=reject; pct=30", 29, "Reject"),
        ("p=reject; pct=30", 30, "Quarantine"),
        ("p=quarantine; pct=30", 30, "None"),
        ("p=none; pct=30", 30, "None"),
        ("p=reject; pct=0", 0, "Quarantine"),
        ("p=reject; pct=101", 99, "Reject"),
        ("p=reject; pct=-1", 99, "Reject"),
    ],
)
async def test_policies(record: str, sample: int, disposition: str) -> None:
    result = await evaluate(request(sample=sample), f"_dmarc.example.com TXT v=DMARC1; {record}")
    assert result.disposition == disposition


async def test_a_sample_is_named() -> None:
    result = await evaluate(request(sample=99), "_dmarc.example.com TXT v=DMARC1; p=reject; pct=5")
    assert result.reason == "No aligned DKIM or SPF; sampled_out due to pct=5"
    assert result.policy == "reject"
    aligned = request(sample=99, dkim_results=[dkim("example.com")])
    result = await evaluate(aligned, "_dmarc.example.com TXT v=DMARC1; p=reject; pct=5")
    assert (result.disposition, result.reason) == ("Pass", "Success")


async def test_the_record_is_shown() -> None:
    line = "_dmarc.example.com TXT v=DMARC1; p=reject; sp=none; x=y; rua=mailto:a@example.com; ri=caf\u00e9"
    result = await evaluate(request(dkim_results=[dkim("example.com")]), line)
    assert result.props == {"policy.p": "reject", "policy.sp": "none", "policy.rua": "mailto:a@example.com"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DMARC1; p=reject", True),
        ("v = DMARC1 ; p=reject", True),
        ("v=DMARC1", True),
        ("v=DMARC10; p=reject", False),
        ("v=dmarc1; p=reject", False),
        ("p=reject; v=DMARC1", False),
        (" v=DMARC1; p=reject", False),
    ],
)
def test_what_is_a_record(text: str, expected: bool) -> None:
    assert is_dmarc(text) is expected


def test_reading_a_record() -> None:
    record = parse_record(
        "v=DMARC1; P = quarantine ;adkim=s; aspf=S;fo=1:d : s:x; pct=25; ;=;nonsense; p=reject; rf=afrf; ri=3600"
    )
    assert record is not None
    assert (record.policy, record.subdomain_policy) == ("quarantine", None)
    assert (record.dkim_alignment, record.spf_alignment, record.percent) == ("strict", "strict", 25)
    assert record.failure_options == {"1", "d", "s"}


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("v=DMARC1", None),
        ("v=DMARC1; p=discard", None),
        ("v=DMARC1; p=reject; sp=discard", None),
        ("v=DMARC1; rua=nonsense", None),
        ("v=DMARC1; rua=mailto:a@example.com", "none"),
        ("v=DMARC1; p=reject; sp=discard; rua=mailto:a@example.com!10m", "none"),
    ],
)
def test_a_record_without_a_policy(text: str, policy: str | None) -> None:
    record = parse_record(text)
    assert (None if record is None else record.policy) == policy


# -- notes for reports -----------------------------------------------------------------------------------
async def test_only_what_passed_elsewhere_is_a_failure_to_report() -> None:
    assert (await evaluate(request(), REJECT)).failure is None
    assert (await evaluate(request(dkim_results=[dkim("example.com")]), REJECT)).failure is None
    asked = request("b.example.com", dkim_results=[dkim("other.com")], mail_from="other.com")
    failure = (await evaluate(asked, REJECT)).failure
    assert failure is not None
    note = error_record(
        asked,
        failure,
        ReportingInfo(org_name="Receiver", email="dmarc@receiver.example"),
        recipient_domains=["receiver.example"],
        source_ip="192.0.2.1",
        now=1_800_000_000.5,
    )
    assert note == {
        "version": "1.0",
        "org_name": "Receiver",
        "email": "dmarc@receiver.example",
        "extra_contact_info": None,
        "when": "2027-01-15T08:00:00.500000Z",
        "error": "DMARC: DKIM relaxed check failed",
        "domain": "_dmarc.example.com",
        "align_dkim": "Relaxed",
        "align_spf": "Relaxed",
        "policy": "Reject",
        "subdomain_policy": "Quarantine",
        "rate": 100,
        "report_failure": {"all_pass": False, "any_pass": False, "dkim": False, "spf": False},
        "source_ip": "192.0.2.1",
        "policy_evaluated": {"disposition": "Quarantine", "dkim": "Fail", "spf": "Fail", "reason": []},
        "identifier": {
            "envelope_to": ["receiver.example"],
            "envelope_from": ["other.com"],
            "header_from": "b.example.com",
        },
        "auth_results": {
            "dkim": [{"domain": "other.com", "selector": "s1", "result": "Pass", "human_result": "pass"}],
            "spf": [{"domain": "", "scope": "Mfrom", "result": "none"}],
        },
    }
