"""The site name: one label for all domains that are served by the same hosts.

Ready queues are kept per source and site, so the name must be a function of the
host list alone. The hosts are compared column by column from the right; what a
column has in common is written once, differing labels become `(a|b)` in the order
they are met, and `?` follows a column that the shorter names lack.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from kumo_py.dns.names import split_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def site_name(by_pref: Mapping[int, Iterable[str]]) -> str:
    """The site name of MX hosts by preference (KumoMTA's rule); "" for none.

    A host may be `name:port`; the port stays with the last label.
    """
    rows = [_labels(host) for pref in sorted(by_pref) for host in by_pref[pref]]
    columns = []
    for column in zip_longest(*rows):
        labels = dict.fromkeys(column)
        optional = None in labels
        labels.pop(None, None)
        text = "|".join(labels)
        if len(labels) > 1:
            text = f"({text})"
        columns.append(text + "?" if optional else text)
    columns.reverse()
    return ".".join(columns)


def mx_list_site_name(hosts: Iterable[str]) -> str:
    """The site name of a queue whose `mx_list` gives the hosts: they stay as written."""
    return "mx_list:" + ",".join(hosts)


def _labels(host: str) -> list[str]:
    """The labels from the right."""
    name, port = split_port(host.lower()) if ":" in host else (host.lower(), None)
    labels = name.rstrip(".").split(".")
    if port is not None:
        labels[-1] += f":{port}"
    labels.reverse()
    return labels
