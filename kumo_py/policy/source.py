"""Lua code, compiled once for all contexts: loading bytecode costs a tenth of parsing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from lupa import lua54

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

_COMPILE = b"""
local text, name = ...
local chunk, problem = load(text, name, 't')
return chunk and string.dump(chunk), problem
"""


@dataclass(frozen=True, slots=True)
class PolicySource:
    """The policy's main file as it was read: all contexts of an epoch run the same code."""

    path: str
    code: bytes

    @classmethod
    def read(cls, path: Path) -> PolicySource:
        """Raises PolicyError if the file cannot be read, or is no Lua."""
        try:
            text = path.read_bytes()
        except OSError as err:
            raise PolicyError(f"cannot read the policy file {path}: {err.strerror}") from None
        if text.startswith(b"#"):
            text = b"--" + text  # a script's first line, as Lua's own loader has it
        return cls(str(path), compiled(text, f"@{path}"))


def compiled(text: bytes, name: str) -> bytes:
    """Bytecode; `name` is how Lua calls the chunk ("@file", "=title"). Raises PolicyError on a syntax error."""
    compile_ = lua54.LuaRuntime(encoding=None).compile(_COMPILE)
    code, problem = compile_(text, name.encode())
    if code is None:
        raise PolicyError(problem.decode("utf-8", "replace"))
    return code  # type: ignore[no-any-return]


@cache
def prelude(name: str) -> bytes:
    """The bytecode of one of our own files."""
    text = resources.files("kumo_py.policy").joinpath("lua", name).read_bytes()
    return compiled(text, "=kumo")
