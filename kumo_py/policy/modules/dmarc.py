"""The `kumo.dmarc` module (RFC 7489)."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import orjson
import structlog
import trio

from kumo_py.auth.dmarc import DmarcRequest, DmarcResult, check
from kumo_py.auth.dmarc_report import ReportingInfo, error_record
from kumo_py.core.options import to_builtins
from kumo_py.message import headers
from kumo_py.message.address_header import Mailbox, parse_address_list
from kumo_py.message.authentication_results import AuthenticationResult
from kumo_py.policy.dns_lookups import ResolverLookups
from kumo_py.policy.modules.dns import RESOLVER, resolver_for
from kumo_py.policy.modules.psl import PublicSuffixes
from kumo_py.policy.modules.spf import client_address
from kumo_py.policy.registry import Owner, Param
from kumo_py.policy.types import BOOLEAN, MESSAGE, VALUE, ListOf, OptionTable

if TYPE_CHECKING:
    from kumo_py.auth.dmarc import Disposition, Failure
    from kumo_py.message.message import Message
    from kumo_py.policy.context import LuaContext

log = structlog.get_logger("kumo_py.policy")

dmarc = Owner("kumo.dmarc")

_RESULT = OptionTable(AuthenticationResult)


class FailureNotes:
    """Where failures are noted for reports: a file that the operator has made, as for KumoMTA."""

    path = "/var/log/kumomta/dmarc.log"

    def __init__(self) -> None:
        self._warned = False

    async def append(self, record: dict[str, object]) -> None:
        """Add a line. That it cannot be done is logged, once."""
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        try:
            await trio.to_thread.run_sync(_append, self.path, line)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(f"DMARC failures are not noted: {self.path}: {error.strerror}")


def _append(path: str, line: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line)
    finally:
        os.close(file)


@dmarc.function(
    "check_msg",
    Param("msg", MESSAGE),
    Param("dkim_results", ListOf(_RESULT)),
    RESOLVER,
    Param("spf_result", _RESULT),
    Param("use_reporting", BOOLEAN),
    Param("reporting_info", OptionTable(ReportingInfo), optional=True),
    result=VALUE,
)
async def check_msg(
    ctx: LuaContext,
    msg: Message,
    dkim_results: list[AuthenticationResult],
    resolver: str | None,
    spf_result: AuthenticationResult,
    use_reporting: bool,
    reporting_info: ReportingInfo | None,
) -> dict[str, object]:
    """Whether DKIM or SPF speak for the domain in From, and what that domain wants done if not.

    The result has a `disposition` (Pass, None, Quarantine, Reject, TempError or PermError) and as `result` what
    msg:add_authentication_results takes. With `use_reporting`, a failure is added to /var/log/kumomta/dmarc.log if
    that file exists; `reporting_info` has org_name, email and perhaps extra_contact_info. Nothing is sent.
    """
    if not use_reporting:
        reporting_info = None
    elif reporting_info is None:
        raise ValueError("use_reporting needs reporting_info: a table with org_name and email")
    lookups = ResolverLookups(resolver_for(ctx, resolver))
    suffixes = ctx.env.state(PublicSuffixes)
    await suffixes.load()
    if not (msg.data_loaded and msg.meta_loaded):
        await ctx.env.host.load_message(msg)
    domain = _from_domain(msg)
    if domain is None:
        return _answer("None", "none", "the From header does not have a single address with a domain", {})
    request = DmarcRequest(
        from_domain=domain,
        mail_from_domain=msg.sender.rpartition("@")[2],
        dkim=dkim_results,
        spf=spf_result,
        sample=random.randrange(100),
    )
    result = await check(request, lookups, suffixes.domain)
    if reporting_info is not None and result.failure is not None and not ctx.env.validating:
        await _note(ctx, msg, request, result.failure, reporting_info)
    return _shown(result)


def _from_domain(msg: Message) -> str | None:
    for value in headers.values_named(msg.data, b"From"):
        try:
            found = parse_address_list(value)
        except headers.HeaderError:
            return None
        only = found[0] if len(found) == 1 else None
        return (only.domain or None) if isinstance(only, Mailbox) else None
    return None


async def _note(
    ctx: LuaContext, msg: Message, request: DmarcRequest, failure: Failure, reporter: ReportingInfo
) -> None:
    try:
        client = client_address(request.spf.props.get("received_from") or msg.get_meta("received_from"))
    except ValueError:
        return  # a message that came from nowhere concerns nobody
    record = error_record(
        request,
        failure,
        reporter,
        recipient_domains=list(dict.fromkeys(one.rpartition("@")[2] for one in msg.recipients)),
        source_ip=str(client),
        now=ctx.env.host.wall(),
    )
    await ctx.env.state(FailureNotes).append(record)


def _shown(result: DmarcResult) -> dict[str, object]:
    props = dict(result.props)
    method_result = result.disposition.lower()
    if result.disposition in ("Quarantine", "Reject"):
        props["policy.published-domain-policy"] = result.policy or ""
        method_result = "fail"
    return _answer(result.disposition, method_result, result.reason, props)


def _answer(disposition: Disposition, result: str, reason: str, props: dict[str, str]) -> dict[str, object]:
    shown = AuthenticationResult(method="dmarc", result=result, reason=reason, props=props)
    return {"disposition": disposition, "result": to_builtins(shown)}
