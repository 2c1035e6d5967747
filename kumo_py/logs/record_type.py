"""The kinds of delivery log records, by KumoMTA's names."""

from __future__ import annotations

import enum


class RecordType(enum.StrEnum):
    """What happened to a message; the value is a record's `type`."""

    Reception = "Reception"
    Delivery = "Delivery"
    Bounce = "Bounce"
    TransientFailure = "TransientFailure"
    Expiration = "Expiration"
    AdminBounce = "AdminBounce"
    OOB = "OOB"
    Feedback = "Feedback"
    Rejection = "Rejection"
    AdminRebind = "AdminRebind"
    DeferredInjectionRebind = "DeferredInjectionRebind"
    Delayed = "Delayed"
    XferOut = "XferOut"
    XferIn = "XferIn"
