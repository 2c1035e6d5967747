"""Lua code, compiled once for all contexts: loading bytecode costs a tenth of parsing."""

from __future__ import annotations

from dataclasses import dataclass, field
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
class Module:
    """A required file."""

    path: str
    code: bytes


@dataclass(frozen=True, slots=True)
class PolicySource:
    """The policy as it was read: all contexts of an epoch run the same code on the same data.

    The main file is read first; a required module, and a data file that is loaded at the top level, when a context
    first asks for it. So an edit, good or bad, is seen by no context until the next epoch.
    """

    path: str
    code: bytes
    modules: dict[str, Module] = field(default_factory=dict)
    """By the name that `require` was given."""
    data: dict[str, bytes] = field(default_factory=dict)
    """By path."""

    @classmethod
    def read(cls, path: Path) -> PolicySource:
        """Raises PolicyError if the file cannot be read, or is no Lua."""
        return cls(str(path), _compiled_file(str(path)))

    def add_module(self, name: str, path: str) -> Module:
        """Read a module, unless it was read before. Raises PolicyError."""
        module = self.modules.get(name)
        if module is None:
            module = self.modules[name] = Module(path, _compiled_file(path))
        return module

    def files(self) -> set[str]:
        """The paths of all that was read."""
        return {self.path, *(module.path for module in self.modules.values()), *self.data}


def _compiled_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as err:
        raise PolicyError(f"cannot read the policy file {path}: {err.strerror}") from None
    if text.startswith(b"#"):
        text = b"--" + text  # a script's first line, as Lua's own loader has it
    return compiled(text, f"@{path}")


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
