"""The programs and libraries that a node is made of, as this interpreter has them."""

from __future__ import annotations

import importlib.util
import locale
import ssl
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from kumo_py.cli.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXTRAS = {"amqp": "pamqp", "kafka": "confluent_kafka", "rocksdb": "rocksdict"}


def check_software() -> Iterator[Finding]:
    """Of this process."""
    yield Finding("software", "Python", "ok", sys.version.split()[0])
    yield _lua()
    yield from check_tls(
        ssl.OPENSSL_VERSION_INFO[:2], ssl.OPENSSL_VERSION, ssl.create_default_context().security_level
    )
    for extra, module in _EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        text = (
            "installed" if there else f"not installed; pip install 'kumo-py[{extra}]' if the policy needs it"
        )
        yield Finding("software", f"extra {extra}", "ok", text)
    yield check_encoding(locale.getpreferredencoding(False))


def _lua() -> Finding:
    try:
        release = version("lupa")
    except PackageNotFoundError:
        release = "none"
    if release != "none" and importlib.util.find_spec("lupa.lua54") is not None:
        return Finding("software", "Lua", "ok", f"5.4, lupa {release}")
    why, mend = "policies are Lua 5.4", "pip install --force-reinstall lupa"
    return Finding("software", "Lua", "bad", f"lupa {release}", "lupa with Lua 5.4", why, mend)


def check_tls(release: tuple[int, ...], text: str, level: int) -> Iterator[Finding]:
    if release >= (3, 0):
        yield Finding("software", "TLS library", "ok", text)
    else:
        why = "it gets no more security fixes"
        yield Finding(
            "software", "TLS library", "warn", text, "OpenSSL 3", why, "use a newer release of the system"
        )
    name = "TLS security level"
    mend = "CipherString in /etc/ssl/openssl.cnf: DEFAULT:@SECLEVEL=2"
    if level < 1:
        yield Finding(
            "software", name, "warn", str(level), "1 or 2", "broken ciphers and short keys are taken", mend
        )
    elif level > 2:
        why = "hosts with 2048 bit keys are refused: opportunistic TLS to them falls back to none"
        yield Finding("software", name, "warn", str(level), "1 or 2", why, mend)
    else:
        yield Finding("software", name, "ok", str(level))


def check_encoding(encoding: str) -> Finding:
    """By what name the locale's encoding goes."""
    if encoding.lower().replace("-", "") == "utf8":
        return Finding("software", "encoding of the locale", "ok", encoding)
    why = "names of files and output with other characters go wrong"
    mend = "LANG=C.UTF-8 in the environment of the service"
    return Finding("software", "encoding of the locale", "warn", encoding, "UTF-8", why, mend)
