"""A resolver over a small zone, and shaping files from text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from kumo_py.dns import Resolver, ZoneBackend
from kumo_py.shaping import LoadOptions, Shaping, load_shaping

if TYPE_CHECKING:
    from pathlib import Path

ZONE = """
$ORIGIN test.
big          MX 10 mx1.big
big          MX 20 mx2.big
hosted       MX 10 mx1.big
hosted       MX 20 mx2.big
mixed        MX 10 mx1.big
mixed        MX 20 mx.other
small        MX 10 mx.small
null         MX 0 .
mx1.big      A 192.0.2.1
"""


class Load(Protocol):
    """Write each text to a file of its own, `1.toml` and so on, and load them in order."""

    async def __call__(self, *texts: str, options: LoadOptions | None = None) -> Shaping: ...


@pytest.fixture
def resolver() -> Resolver:
    return Resolver(backend=ZoneBackend([ZONE], {"broken.test": "SERVFAIL"}))


@pytest.fixture
def load(tmp_path: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    async def load(*texts: str, options: LoadOptions | None = None) -> Shaping:
        names = []
        for n, text in enumerate(texts, 1):
            (tmp_path / f"{n}.toml").write_text(text)
            names.append(f"{n}.toml")
        return await load_shaping(names, resolver, *([] if options is None else [options]))

    return load
