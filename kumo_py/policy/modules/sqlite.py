"""The `sqlite` module: databases in files, queried in threads.

Any number of contexts may hold a connection: its statements run one after the other, each in a thread.
"""

from __future__ import annotations

import os
import re
import sqlite3
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote
from weakref import finalize

import trio

from kumo_py.policy.conversion import LuaTable, LuaValue, shown
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import INTEGER, TEXT, VALUE

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

Value: TypeAlias = str | bytes | int | float | None
Rows: TypeAlias = list[Any]
"""Values of the one column, or a dict for each row."""

sqlite = Owner("sqlite")

BUSY_TIMEOUT = 500
"""Milliseconds that a statement waits for a lock that somebody else has."""
MAX_RESULT = 64 * 1024 * 1024
"""Octets of a query's values, and 64 for each value: more would not fit into a Lua context."""

_MAX_PARAMETERS = 32766  # SQLite's own limit
_TOO_FEW = re.compile(r"uses (\d+), and there (?:are|is) (\d+) supplied")


class _Named(dict[str, Value]):
    """Values of named parameters; what is not given is NULL, as in KumoMTA."""

    def __missing__(self, key: str) -> None:
        return None


class _Parameter:
    """A value for a parameter, or a table of them: a list of values, or values by name."""

    name = "string|number|table"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> Value | _Named | list[Value]:
        if type(raw) is not LuaTable:
            return _value(raw)
        items = dict(raw.items())
        if all(type(key) is bytes for key in items):
            return _Named({key.decode(): _value(value) for key, value in items.items()})
        if all(type(key) is int and 0 < key <= _MAX_PARAMETERS for key in items):
            return [_value(items.get(n)) for n in range(1, max(items) + 1)]
        raise ValueError("must be a list of values, or a table of values by name")

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        raise NotImplementedError


def _value(raw: LuaValue) -> Value:
    if isinstance(raw, bytes):
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw
    if raw is None or type(raw) in (int, float):
        return raw  # type: ignore[no-any-return]
    raise ValueError(f"must be a string, a number or nil, got {shown(raw)}")


class Database:
    """One connection, which it owns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = bytes
        self._connection = connection
        self._turn = trio.Lock()
        self._close = finalize(self, connection.close)

    async def execute(self, sql: str, parameters: list[Value] | _Named) -> Rows | int:
        """The rows, or how many were changed by a statement that has none. Raises ValueError."""
        async with self._turn:
            if not self._close.alive:
                raise ValueError("the connection was closed")
            return await trio.to_thread.run_sync(_execute, self._connection, sql, parameters)

    async def close(self) -> None:
        async with self._turn:
            self._close()


def _execute(connection: sqlite3.Connection, sql: str, parameters: list[Value] | _Named) -> Rows | int:
    try:
        try:
            cursor = connection.execute(sql, parameters)
        except sqlite3.ProgrammingError as err:
            cursor = connection.execute(sql, _filled(err, parameters))
        columns = cursor.description
        if columns is None:
            return max(cursor.rowcount, 0)
        rows = _bounded(cursor, sql)
    except sqlite3.Error as err:
        raise ValueError(f"{err}, in {sql!r}") from None
    if len(columns) == 1:
        return [value for (value,) in rows]
    names = [column[0] for column in columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _bounded(cursor: sqlite3.Cursor, sql: str) -> list[tuple[Value, ...]]:
    """All rows. Raises ValueError for too many of them."""
    rows: list[tuple[Value, ...]] = []
    size = 0
    while some := cursor.fetchmany(1000):
        size += sum(64 + (len(value) if isinstance(value, bytes) else 0) for row in some for value in row)
        if size > MAX_RESULT:
            cursor.close()
            raise ValueError(f"the result is larger than {MAX_RESULT} octets, in {sql!r}")
        rows += some
    return rows


def _filled(err: sqlite3.ProgrammingError, parameters: list[Value] | _Named) -> list[Value]:
    """Too few parameters, filled up with NULL as in KumoMTA. Raises the error again if it is another one."""
    found = _TOO_FEW.search(str(err))
    if found is None or isinstance(parameters, dict):
        raise err
    missing = int(found[1]) - int(found[2])
    if missing < 0:
        raise err
    return parameters + [None] * missing


def _connect(path: str, busy_timeout: int) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=busy_timeout / 1000, isolation_level=None, check_same_thread=False)


def _copy(path: str) -> sqlite3.Connection:
    """A database in memory with what is in the file, if there is one."""
    copy = _connect(":memory:", 0)
    if os.path.exists(path):
        original = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
        try:
            original.backup(copy)
        finally:
            original.close()
    return copy


connection = Kind("sqlite_connection", Database)


@sqlite.function(
    "open", Param("path", TEXT), Param("busy_timeout", INTEGER, optional=True), result=connection.type
)
def open_(ctx: LuaContext, path: str, busy_timeout: int | None) -> Database:
    """Open a database, to wait up to `busy_timeout` milliseconds (500 unless given) for locks of others.

    While a configuration is only validated, it is a copy in memory.
    """
    try:
        if ctx.env.validating:
            return Database(_copy(path))
        return Database(_connect(path, BUSY_TIMEOUT if busy_timeout is None else busy_timeout))
    except sqlite3.Error as err:
        raise ValueError(f"{path}: {err}") from None


@connection.function(
    "execute", Param("sql", TEXT), Param("parameters", _Parameter(), rest=True), result=VALUE
)
async def execute(
    ctx: LuaContext, database: Database, sql: str, *given: Value | _Named | list[Value]
) -> Rows | int:
    """Run a statement with values for its `?`, or a table with values for its `:name`.

    Gives the values of a single column, a table for each row of several columns, or the number of changed rows.
    """
    if len(given) == 1 and isinstance(given[0], list | _Named):
        return await database.execute(sql, given[0])
    values: list[Value] = []
    for n, value in enumerate(given, 1):
        if isinstance(value, list | _Named):
            raise ValueError(f"parameter {n} is a table: give either one table or values")
        values.append(value)
    return await database.execute(sql, values)


@connection.function("close", since="2024.09.02-c5476b89")
async def close(ctx: LuaContext, database: Database) -> None:
    """Close the connection, once what it is doing is done."""
    await database.close()
