"""What comes in, over SMTP and HTTP."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kumo_py.admin.metrics.metric import counter, seconds
from kumo_py.core.histogram import together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.admin.exposition import Family
    from kumo_py.admin.node import Node
    from kumo_py.admin.shared import Shared

_IN_16 = "; one in 16 is timed"

DENIED = counter("total_connections_denied", "Connections refused for load or limits", "service", pruned=True)
RECEIVED = counter("total_messages_received", "Messages received", "service")
REJECTIONS = counter(
    "smtp_server_rejections", "Commands and messages refused, by listener and in total", "service"
)
WHOLE = seconds("smtpsrv_transaction_duration", f"Seconds from MAIL to the end of a transaction{_IN_16}")
READING = seconds("smtpsrv_read_data_duration", f"Seconds to receive a content{_IN_16}")
PROCESSING = seconds(
    "smtpsrv_process_data_duration", f"Seconds from the end of a content to the answer{_IN_16}"
)

METRICS = (DENIED, RECEIVED, REJECTIONS, WHOLE, READING, PROCESSING)


def collect(node: Node, shared: Shared) -> Iterator[Family]:
    endpoints = [listener.endpoint for listener in node.smtp_listeners if listener.endpoint is not None]
    received, rejected = Counter[str](), Counter[str]()
    for endpoint in endpoints:
        listen, counters = endpoint.params.listen, endpoint.counters
        for service in ("esmtp_listener", f"esmtp_listener:{listen}"):
            received[service] += counters.receptions
        for service in ("total", listen):
            rejected[service] += counters.rejections
    received["http_listener"] = shared.injected
    yield DENIED.each({"esmtp_listener": sum(endpoint.counters.denied for endpoint in endpoints)})
    yield RECEIVED.each(received)
    yield REJECTIONS.each(rejected)
    times = [endpoint.times for endpoint in endpoints]
    yield WHOLE.value(together(time.whole for time in times))
    yield READING.value(together(time.reading for time in times))
    yield PROCESSING.value(together(time.processing for time in times))
