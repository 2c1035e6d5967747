"""The sqlite module: parameters, results, several users of one file."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy


async def run(policy: MakePolicy, code: str, *args: object) -> object:
    lua = policy(f"local sqlite = require 'sqlite'\nkumo.on('mine', function(...)\n{code}\nend)")
    await lua.load()
    try:
        return await lua.ask("mine", *args)
    finally:
        lua.close()


PEOPLE = """
    local db = sqlite.open ':memory:'
    db:execute 'CREATE TABLE people (name, age)'
    db:execute('INSERT INTO people (name, age) values (?, ?)', 'john', 42)
    db:execute('INSERT INTO people (name, age) values (:name, :age)', { name = 'fred', age = 32.5 })
"""


async def test_shapes_of_results(policy: MakePolicy) -> None:
    result = await run(
        policy,
        PEOPLE
        + """
        return {
          db:execute 'select age from people order by age',
          db:execute 'select * from people order by age',
          db:execute 'select name from people where age > 100',
          db:execute 'select * from people where age > 100',
          db:execute 'update people set age = age + 1',
          db:execute 'create table other (x)',
          db:execute 'delete from people where age < 40',
          db:execute 'insert into people values (1, 2) returning name, age',
        }
        """,
    )
    assert result == [
        [32.5, 42],
        [{"name": "fred", "age": 32.5}, {"name": "john", "age": 42}],
        [],
        [],
        2,
        0,
        1,
        [{"name": 1, "age": 2}],
    ]


async def test_values(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local db = sqlite.open ':memory:'
        local function echo(...)
          local row = db:execute('select ?1 as a, typeof(?1) as t', ...)[1]
          return { tostring(row.a), row.t }
        end
        local binary = db:execute('select ?', 'a\0\xff')[1]
        return {
          echo 'ü', echo(7), echo(2.5), echo(nil), echo(), echo { 'in a list' }, binary == 'a\0\xff', #binary,
          db:execute('select ? as a, ? as b, ? as c', 1, nil, 3)[1],
          db:execute('select :a as a, :b as b', { a = 1 })[1],
          db:execute('select ? as a, ? as b', 'x')[1],
          db:execute("select x'00ff' as blob")[1] == '\0\xff',
          db:execute('select 9223372036854775807')[1],
        }
        """,
    )
    assert result == [
        ["ü", "text"],
        ["7", "integer"],
        ["2.5", "real"],
        ["nil", "null"],
        ["nil", "null"],
        ["in a list", "text"],
        True,
        3,
        {"a": 1, "c": 3},
        {"a": 1},
        {"a": "x"},
        True,
        2**63 - 1,
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sqlite.open '/no/such/file.db'", "sqlite.open: /no/such/file.db: unable to open database file"),
        ("sqlite.open(nil)", "sqlite.open: argument 'path' must be a string, got nil"),
        ("sqlite.opn 'x'", "sqlite.opn does not exist; did you mean sqlite.open?"),
        ("db:execute 'selct 1'", "sqlite_connection:execute: near \"selct\": syntax error, in 'selct 1'"),
        ("db:execute('select ?', 1, 2)", "uses 1, and there are 2 supplied"),
        (
            "db:execute 'select zeroblob(50000000) union all select zeroblob(20000000)'",
            "larger than 67108864 octets",
        ),
        ("db:execute('select 1; select 2')", "one statement at a time"),
        ("db:execute('select ?', true)", "must be a string, a number or nil, got boolean true"),
        ("db:execute('select ?', { {} })", "must be a string, a number or nil, got a table"),
        ("db:execute('select ?', { [1e9] = 1 })", "must be a list of values, or a table of values by name"),
        ("db:execute('select ?', 1, { 2 })", "parameter 2 is a table: give either one table or values"),
        ("db:close() db:close() db:execute 'select 1'", "the connection was closed"),
    ],
)
async def test_what_goes_wrong(policy: MakePolicy, code: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"local db = sqlite.open ':memory:'\n{code}")
    assert "policy.lua:5: " in str(caught.value)
    assert words in str(caught.value)


async def test_a_connection_is_shared_by_contexts_and_does_not_block(
    policy: MakePolicy, tmp_path: Path
) -> None:
    path = tmp_path / "shared.db"
    lua = policy(
        f"local db = require('sqlite').open('{path}', 5000)\n"
        "kumo.on('execute', function(...) return db:execute(...) end)"
    )
    await lua.load()
    await lua.ask("execute", "create table t (n)")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    threading.Timer(0.1, other.execute, ["commit"]).start()
    beats = 0
    async with trio.open_nursery() as nursery:  # two statements wait for a lock, and nothing else does
        nursery.start_soon(lua.ask, "execute", "insert into t values (?)", 1)
        nursery.start_soon(lua.ask, "execute", "insert into t values (:n)", {"n": 2})
        while len(nursery.child_tasks) > 0:
            await trio.sleep(0.005)
            beats += 1
    assert beats > 5
    assert await lua.ask("execute", "select n from t order by n") == [1, 2]
    other.close()
    lua.close()


async def test_a_lock_that_stays(policy: MakePolicy, tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(PolicyError, match="database is locked"):
        await run(policy, "sqlite.open(..., 10):execute 'create table t (n)'", str(path))
    other.close()


async def test_validation_changes_nothing(policy: MakePolicy, tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    with sqlite3.connect(path) as original:
        original.execute("create table t (n)")
    original.close()
    lua = policy(
        """
        local sqlite = require 'sqlite'
        kumo.on('mine', function(path)
          local db = sqlite.open(path)
          db:execute 'create table if not exists t (n)'
          db:execute 'insert into t values (1)'
          return db:execute 'select n from t'
        end)
        """,
        validating=True,
    )
    await lua.load()
    for name in ("kept.db", "new.db"):
        assert await lua.ask("mine", str(tmp_path / name)) == [1]
    lua.close()
    assert not (tmp_path / "new.db").exists()
    again = sqlite3.connect(path)
    assert again.execute("select count(*) from t").fetchone() == (0,)
    again.close()
