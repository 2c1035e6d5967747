"""Adding a set to an Authenticated Received Chain (RFC 8617 §5.1)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from kumo_py.auth.arc_verify import MAX_SETS, ArcVerdict
from kumo_py.auth.dkim_sign import Draft, packed, relaxed_line
from kumo_py.message.headers import header_line

if TYPE_CHECKING:
    from kumo_py.auth.arc_verify import ArcCheck
    from kumo_py.auth.dkim_sign import Signer


def arc_set(check: ArcCheck, verdict: ArcVerdict, signer: Signer, results: bytes, now: int) -> bytes:
    """The three fields to put on top, each with CRLF at its end; none if the chain is broken or full.

    `results` is the value of an Authentication-Results field, `now` is in Unix seconds. Raises HeaderError.
    """
    instance = len(check.sets) + 1
    if verdict.status == "fail" or instance > MAX_SETS:
        return b""
    results_field = header_line(b"ARC-Authentication-Results", b"i=%d; %s" % (instance, results))
    draft = signer.draft(check.fields, now, instance)
    signature_field = draft.signed(signer.key.sign(draft.digest))

    first = [
        b"i=%d;" % instance,
        b"a=%s;" % signer.key.algorithm.encode(),
        b"t=%d;" % now,
        b"cv=%s;" % verdict.status.encode(),
    ]
    head = b"\r\n".join([*packed(b"ARC-Seal:", [*first, *signer.identity]), b"\tb="])
    hashed = [
        check.fields.canonical(field, relaxed=True)
        for one in check.sets
        for field in (one.results, one.signature.field, one.seal.field)
    ]
    hashed += (relaxed_line(results_field), relaxed_line(signature_field), relaxed_line(head)[:-2])
    seal = Draft(hashlib.sha256(b"".join(hashed)).digest(), head)
    return seal.signed(signer.key.sign(seal.digest)) + signature_field + results_field
