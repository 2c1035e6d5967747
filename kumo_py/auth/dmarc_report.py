"""What KumoMTA notes of a DMARC failure for a later report: one JSON object each (its `ErrorRecord`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.auth.dmarc import DmarcRequest, Failure
    from kumo_py.message.authentication_results import AuthenticationResult


class ReportingInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who reports: the last argument of `kumo.dmarc.check_msg`."""

    org_name: str
    email: str
    extra_contact_info: str | None = None


def error_record(
    request: DmarcRequest,
    failure: Failure,
    reporter: ReportingInfo,
    *,
    recipient_domains: Sequence[str],
    source_ip: str,
    now: float,
) -> dict[str, object]:
    """The object; `now` in Unix seconds."""
    record = failure.record
    return {
        "version": "1.0",
        "org_name": reporter.org_name,
        "email": reporter.email,
        "extra_contact_info": reporter.extra_contact_info,
        "when": datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z"),
        "error": failure.reason,
        "domain": failure.record_name,
        "align_dkim": record.dkim_alignment.capitalize(),
        "align_spf": record.spf_alignment.capitalize(),
        "policy": record.policy.capitalize(),
        "subdomain_policy": (record.subdomain_policy or record.policy).capitalize(),
        "rate": record.percent,
        "report_failure": {
            "all_pass": "0" in record.failure_options,
            "any_pass": "1" in record.failure_options,
            "dkim": "d" in record.failure_options,
            "spf": "s" in record.failure_options,
        },
        "source_ip": source_ip,
        "policy_evaluated": {
            "disposition": failure.policy.capitalize(),
            "dkim": "Fail",
            "spf": "Fail",
            "reason": [],
        },
        "identifier": {
            "envelope_to": list(recipient_domains),
            "envelope_from": [request.mail_from_domain] if request.mail_from_domain else [],
            "header_from": request.from_domain,
        },
        "auth_results": {
            "dkim": [_dkim(result) for result in request.dkim],
            "spf": [
                {
                    "domain": request.spf.props.get("header.d", ""),
                    "scope": "Mfrom",
                    "result": request.spf.result.lower(),
                }
            ],
        },
    }


_DKIM_RESULTS = {
    name.lower(): name for name in ("None", "Pass", "Fail", "Policy", "Neutral", "TempError", "PermError")
}


def _dkim(result: AuthenticationResult) -> dict[str, object]:
    return {
        "domain": result.props.get("header.d", ""),
        "selector": result.props.get("header.s"),
        "result": _DKIM_RESULTS.get(result.result.lower(), "None"),
        "human_result": result.result,
    }
