"""Lua code, compiled once for all contexts: loading bytecode costs a quarter of parsing (measured)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import resources
from pathlib import Path

from lupa import lua54

from kumo_py.core.policy import PolicyError

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


class PolicySource:
    """The policy as it was read: all contexts of an epoch run the same code on the same data.

    The main file is read first; a required module, and a data file that is loaded at the top level, when a context
    first asks for it. So an edit, good or bad, is seen by no context until the next epoch.
    """

    def __init__(self, path: str) -> None:
        """Raises PolicyError if the file cannot be read, or is no Lua."""
        self.modules: dict[str, Module] = {}
        """By the name that `require` was given."""
        self.digests: dict[str, bytes] = {}
        """Of all files that were read, by path."""
        self._data: dict[str, bytes] = {}
        self.code = self._compiled_file(path)

    def module(self, name: str, path: str) -> Module:
        """A module, read unless it was read before. Raises PolicyError."""
        module = self.modules.get(name)
        if module is None:
            module = self.modules[name] = Module(path, self._compiled_file(path))
        return module

    def data(self, path: str) -> bytes:
        """A file's content, read unless it was read before. Raises OSError."""
        content = self._data.get(path)
        if content is None:
            content = self._data[path] = self._read(path)
        return content

    def _compiled_file(self, path: str) -> bytes:
        try:
            text = self._read(path)
        except OSError as err:
            raise PolicyError(f"cannot read the policy file {path}: {err.strerror}") from None
        if text.startswith(b"#"):
            text = b"--" + text  # a script's first line, as Lua's own loader has it
        return compiled(text, f"@{path}")

    def _read(self, path: str) -> bytes:
        self.digests[path] = NO_DIGEST
        content = Path(path).read_bytes()
        self.digests[path] = digest(content)
        return content


EXTRAS = Path(__file__).parent / "extras"
"""Our `policy-extras`."""


def our_module(name: bytes) -> bytes | None:
    """The file of `policy-extras.NAME`, if there is one of ours."""
    return _our_modules().get(name)


@cache
def _our_modules() -> dict[bytes, bytes]:
    return {f"policy-extras.{file.stem}".encode(): str(file).encode() for file in EXTRAS.glob("*.lua")}


NO_DIGEST = b""
"""Of a file that cannot be read."""


def digest(content: bytes) -> bytes:
    """What tells contents apart."""
    return blake2b(content).digest()


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
