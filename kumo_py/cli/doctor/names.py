"""Name servers and the host's own name. The DNS is asked only about a name that was given."""

from __future__ import annotations

from ipaddress import ip_address
from statistics import median
from typing import TYPE_CHECKING

from kumo_py.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.cli.doctor.finding import Mark
    from kumo_py.cli.doctor.host import Host

_QUESTIONS = 5
_SLOW, _TOO_SLOW = 0.020, 0.500
"""Seconds of the median of a name that was asked for before."""
_STUB = "127.0.0.53"
_INSTALL = "sudo apt install unbound (dnf install unbound), and 'nameserver 127.0.0.1' in /etc/resolv.conf"


def check_resolvers(host: Host) -> Iterator[Finding]:
    """Whether a caching resolver runs on this host."""
    lines = (line.split() for line in (host.text("/etc/resolv.conf") or "").splitlines())
    servers = [fields[1] for fields in lines if len(fields) > 1 and fields[0] == "nameserver"] or [
        "127.0.0.1"
    ]
    found = ", ".join(servers)
    if servers[0] == _STUB:
        why = "systemd-resolved is made for desktops: it caches little and asks one server at a time"
        yield Finding("network", "name servers", "warn", found, "a caching resolver here", why, _INSTALL)
    elif _is_loopback(servers[0]):
        yield Finding("network", "name servers", "ok", found)
    else:
        why = "each message needs several lookups: a resolver here answers most of them from memory"
        yield Finding(
            "network", "name servers", "warn", found, "a caching resolver here, first", why, _INSTALL
        )


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def check_hostname(host: Host) -> Iterator[Finding]:
    """What the node says of itself in EHLO and Received, unless its policy says otherwise."""
    name = host.hostname()
    if "." in name.strip("."):
        yield Finding("network", "host name", "ok", name)
        return
    why = "others refuse mail of hosts whose EHLO has no domain; sources may set ehlo_domain instead"
    mend = "sudo hostnamectl set-hostname mail.example.com"
    yield Finding("network", "host name", "warn", name, "with a domain", why, mend)


def ask_name_servers(host: Host, name: str) -> Iterator[Finding]:
    """How fast they are, and whether the host's name and its addresses belong together."""
    answers = [host.ask_dns(name, "MX") for _ in range(_QUESTIONS)]
    problem = next((one.problem for one in answers if one.problem is not None), None)
    what = f"MX of {name}"
    if problem is not None:
        mend = f"dig MX {name}; then look at the resolver's log"
        yield Finding("network", what, "bad", problem, "an answer", "without the DNS no mail goes out", mend)
    else:
        first, *later = (one.seconds for one in answers)
        found = f"{1000 * first:.1f} ms, then {1000 * median(later):.1f} ms"
        if median(later) <= _SLOW:
            yield Finding("network", what, "ok", found)
        else:
            mark: Mark = "bad" if median(later) > _TOO_SLOW else "warn"
            wanted = f"at most {1000 * _SLOW:.0f} ms once it is known"
            why = "messages wait for it before they are queued"
            yield Finding("network", what, mark, found, wanted, why, _INSTALL)
    yield from _own_name(host)


def _own_name(host: Host) -> Iterator[Finding]:
    name = host.hostname()
    asked = [host.ask_dns(name, kind) for kind in ("A", "AAAA")]
    addresses = [value for answer in asked for value in answer.values]
    why = "many refuse mail of hosts whose name and address do not belong together"
    if not addresses:
        mend = f"add an A record for {name}, or set ehlo_domain of the sources"
        yield Finding("network", f"address of {name}", "warn", "none", "one", why, mend)
    for address in addresses:
        back = [value.rstrip(".") for value in host.ask_dns(address, "PTR").values]
        what = f"name of {address}"
        if name in back:
            yield Finding("network", what, "ok", name)
        else:
            mend = f"ask who gave you the address to set its PTR record to {name}"
            yield Finding("network", what, "warn", ", ".join(back) or "none", name, why, mend)
