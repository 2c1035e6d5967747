"""Why a message is put into a queue: the reasons that a Delayed record lists and `requeue_message` sees."""

from __future__ import annotations

import enum


class InsertReason(enum.Enum):
    """KumoMTA's names."""

    RECEIVED = "Received"
    ENUMERATED = "Enumerated"
    SCHEDULED_FOR_LATER = "ScheduledForLater"
    READY_QUEUE_SUSPENDED = "ReadyQueueWasSuspended"
    MESSAGE_RATE_THROTTLE = "MessageRateThrottle"
    THROTTLED_BY_EVENT = "ThrottledByThrottleInsertReadyQueue"
    READY_QUEUE_FULL = "ReadyQueueWasFull"
    FAILED_TO_INSERT = "FailedToInsertIntoReadyQueue"
    DUE = "DueTimeWasReached"
    MAX_READY_REDUCED = "MaxReadyWasReducedByConfigUpdate"
    LOW_MEMORY = "ReadyQueueWasDelayedDueToLowMemory"
    ADMIN_REBIND = "AdminRebind"
    NO_QUEUE_NAME = "MessageGetQueueNameFailed"
    DISPATCHER_DROP = "DispatcherDrop"
    SOURCE_SUSPENDED = "SourceIsUnhealthyAndSuspended"
    NULL_MX = "FailedDueToNullMx"
    NO_HOSTS = "MxResolvedToZeroHosts"
    PROHIBITED_HOST = "MxWasProhibited"
    SKIPPED_HOSTS = "MxWasSkipped"
    CONNECTION_FAILURES = "TooManyConnectionFailures"
    TOO_MANY_RECIPIENTS = "TooManyRecipients"
    CONNECTION_RATE_THROTTLE = "ConnectionRateThrottle"
    LOGGED_TRANSIENT_FAILURE = "LoggedTransientFailure"
    PEER_CLOSED_CONNECTION = "PeerClosedConnection"
    PROTOCOL_CHANGED = "ProtocolChanged"
    SPOOL_UNHEALTHY = "SpoolUnhealthy"


Context = tuple[InsertReason, ...]
"""Reasons in the order they arose, without repeats in a row."""


def add(context: Context, reason: InsertReason) -> Context:
    return context if context and context[-1] is reason else (*context, reason)


def describe(context: Context) -> str:
    return ", ".join(reason.value for reason in context)
