"""kumo.jsonl: segments are followed, filtered, committed, and written."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
import zstandard

from kumo_py.core.policy import PolicyError
from kumo_py.logs.reader import SegmentReader, segments
from kumo_py.logs.segment import SegmentWriter

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

    from kumo_py.policy import LuaPolicy


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def segment(directory: Path, name: str, *records: object, complete: bool = True) -> Path:
    """A segment with these records; numbers become {n = …}."""
    lines = [
        record if isinstance(record, bytes) else orjson.dumps(record) + b"\n"
        for record in map(_full, records)
    ]
    path = directory / name
    path.write_bytes(zstandard.ZstdCompressor().compress(b"".join(lines)))
    if complete:
        path.chmod(0o444)
    return path


def _full(record: object) -> object:
    return {"n": record} if isinstance(record, int) else record


async def loaded(policy: MakePolicy, text: str) -> LuaPolicy:
    lua = policy(text)
    await lua.load()
    return lua


async def run(policy: MakePolicy, code: str, *args: object) -> Any:
    lua = await loaded(policy, f"kumo.on('mine', function(...)\n{code}\nend)")
    try:
        with trio.fail_after(5):
            return await lua.ask("mine", *args)
    finally:
        lua.close()


async def failure(policy: MakePolicy, code: str) -> str:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    return str(caught.value)


# What is there, batch by batch, until `count` records have come.
READ = """
    local count, options, filter, commit = ...
    options.directory, options.poll_watcher = 'logs', 0.01
    local tailer <close> = kumo.jsonl.new_tailer(options, filter and load('local r = ...; return ' .. filter))
    local seen = {}
    for batch in tailer:batches() do
      local numbers = {}
      for record in batch:iter_records() do
        numbers[#numbers + 1] = record.n
        count = count - 1
      end
      seen[#seen + 1] = numbers
      if commit then batch:commit() end
      if count <= 0 then tailer:close() end
    end
    return seen
"""


# -- One consumer ------------------------------------------------------------------------------------------------
async def test_segments_are_read_in_order(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "2", 4, 5)
    segment(logs, "1", 1, 2, 3)
    segment(logs, "3", 6)
    segment(logs, ".hidden", 100)
    (logs / "directory").mkdir()
    assert await run(policy, READ, 6, {"max_batch_size": 4}) == [[1, 2, 3, 4], [5, 6]]
    assert await run(policy, READ, 3, {"pattern": "[13]", "max_batch_size": 3}) == [[1, 2, 3]]
    assert await run(policy, READ, 1, {"tail": True}) == [[6]]


async def test_a_batch(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", {"type": {"list": []}}, "text")
    result = await run(
        policy,
        """
        local tailer = kumo.jsonl.new_tailer { directory = 'logs' }
        local batch = tailer:batches()()
        local records, name = batch:records(), batch:consumer_name()
        local before = { kumo.json_encode(records), name, #records[1].type.list }
        batch:commit()
        batch:commit()
        local none = 0
        for _ in batch:iter_records() do none = none + 1 end
        return { before, batch:consumer_name(), #batch:records(), none }
        """,
    )
    assert result == [['[{"type":{"list":[]}},"text"]', "default", 0], "", 0, 0]


async def test_a_filter(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", *range(250))
    even = await run(policy, READ, 125, {"max_batch_size": 100}, "r.n % 2 == 0")
    assert even == [list(range(0, 200, 2)), list(range(200, 250, 2))]
    assert await run(policy, READ, 250, {"max_batch_size": 250}, "r.n") == [list(range(250))]


async def test_an_error_in_a_filter_reaches_the_loop(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1, 2)
    text = await failure(
        policy,
        """
        local tailer = kumo.jsonl.new_tailer({ directory = 'logs' }, function(record)
          return record.n.nothing.there
        end)
        for batch in tailer:batches() do end
        """,
    )
    assert "policy.lua:5: attempt to index a number value (field 'n')" in text


async def until_committed(checkpoint: Path, line: int) -> None:
    with trio.fail_after(5):
        while _committed(checkpoint) < line:  # noqa: ASYNC110 - it is a file
            await trio.sleep(0.005)


def _committed(checkpoint: Path) -> int:
    return orjson.loads(checkpoint.read_bytes())["line"] if checkpoint.exists() else 0


async def test_a_live_segment_is_followed(policy: MakePolicy, logs: Path) -> None:
    lua = await loaded(policy, f"kumo.on('mine', function(...)\n{READ}\nend)")
    writer = SegmentWriter(
        str(logs),
        "",
        compression_level=1,
        max_size=10**9,
        max_duration=None,
        clock=lambda: 1e9,
        wake=lambda: None,
    )
    seen: list[Any] = []

    async def read() -> None:
        seen.extend(
            await lua.ask("mine", 4, {"max_batch_latency": "1ms", "checkpoint_name": "c"}, None, True)
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for n in (1, 2, 3):
            writer.append(b'{"n":%d}\n' % n)
            writer.tend()
            await until_committed(logs / ".c", n)
        assert writer.finish()
        segment(logs, "9", 4)
    assert seen == [[1], [2], [3], [4]]
    lua.close()


async def test_latency_makes_a_batch_of_what_is_there(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1, 2, complete=False)
    with trio.fail_after(2):
        assert await run(policy, READ, 2, {"max_batch_latency": "20ms"}) == [[1, 2]]


async def test_close_wakes_who_waits(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1, complete=False)
    lua = await loaded(
        policy,
        """
        local tailer
        kumo.on('read', function()
          tailer = kumo.jsonl.new_tailer { directory = 'logs', poll_watcher = '1 minute', max_batch_latency = 0 }
          local seen = 0
          for batch in tailer:batches() do seen = seen + #batch:records() end
          return seen
        end)
        kumo.on('first', function()
          for batch in kumo.jsonl.new_tailer({ directory = 'logs' }):batches() do return #batch:records() end
        end)
        """,
    )
    assert await lua.ask("first") == 1  # left open: its file is closed when it is garbage
    with trio.move_on_after(0.1) as scope:
        await lua.ask("read")
    assert scope.cancelled_caught
    lua.close()
    gc.collect()


async def test_what_is_no_segment_and_no_record(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1, b"# a header\n", 2, b"null\n", 3, b'{"n": 4')
    (logs / "2").write_bytes(b"this is no zstd")
    (logs / "2").chmod(0o444)
    torn = segment(logs, "3", *range(5, 8))
    torn.chmod(0o644)
    torn.write_bytes(torn.read_bytes() + b"garbage")
    segment(logs, "4", 9)
    assert await run(policy, READ, 7, {}) == [[1, 2, 3, 5, 6, 7, 9]]


# -- Checkpoints ---------------------------------------------------------------------------------------------------
async def test_what_was_committed_does_not_come_again(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1, 2, 3)
    segment(logs, "2", 4, 5)
    options = {"checkpoint_name": "mine", "max_batch_size": 2}
    assert await run(policy, READ, 2, options, None, True) == [[1, 2]]
    assert orjson.loads((logs / ".mine").read_bytes()) == {"file": "logs/1", "line": 2}
    assert sorted(os.listdir(logs)) == [".mine", "1", "2"]
    assert await run(policy, READ, 2, options, None, False) == [[3, 4]]
    assert await run(policy, READ, 2, options, None, True) == [[3, 4]]
    assert await run(policy, READ, 1, options, None, True) == [[5]]
    segment(logs, "3", 6)
    assert await run(policy, READ, 1, options, "r.n > 1", True) == [[6]]
    assert await run(policy, READ, 1, {**options, "tail": True}, None, False) == [[6]]


async def test_a_checkpoint_of_a_segment_that_is_gone(policy: MakePolicy, logs: Path) -> None:
    (logs / ".mine").write_bytes(b'{"file": "logs/2", "line": 7}')
    segment(logs, "1", 1)
    segment(logs, "3", *range(10))
    assert await run(policy, READ, 10, {"checkpoint_name": "mine"}) == [list(range(10))]


async def test_an_older_batch_does_not_take_a_checkpoint_back(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1, 2, 3, complete=False)
    await run(
        policy,
        """
        local tailer <close> = kumo.jsonl.new_tailer { directory = 'logs', checkpoint_name = 'c', max_batch_size = 1 }
        local next_batch = tailer:batches()
        local one, two = next_batch(), next_batch()
        two:commit()
        one:commit()
        """,
    )
    assert orjson.loads((logs / ".c").read_bytes()) == {"file": "logs/1", "line": 2}


async def test_a_checkpoint_that_cannot_be_written(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1)
    (logs / ".c").mkdir()
    assert "logs/.c: Is a directory" in await failure(
        policy, "kumo.jsonl.new_tailer { directory = 'logs', checkpoint_name = 'c' }"
    )
    (logs / ".c").rmdir()
    (logs / ".c").write_bytes(b"{")
    assert "logs/.c is no checkpoint" in await failure(
        policy, "kumo.jsonl.new_tailer { directory = 'logs', checkpoint_name = 'c' }"
    )


# -- Several consumers -------------------------------------------------------------------------------------------
MULTI = """
    local count = ...
    local seen = {}
    local tailer <close> = kumo.jsonl.new_multi_tailer {
      directory = 'logs',
      poll_watcher = '10ms',
      consumers = {
        { name = 'even', checkpoint_name = 'e', max_batch_size = 2, filter = function(r) return r.n % 2 == 0 end },
        { name = 'all', checkpoint_name = 'a', max_batch_size = 5, max_batch_latency = '1ms' },
        { name = 'none', filter = function(r) return false end },
      },
    }
    for batches in tailer:batches() do
      for _, batch in ipairs(batches) do
        local name = batch:consumer_name()
        seen[name] = seen[name] or {}
        local numbers = {}
        for _, record in ipairs(batch:records()) do numbers[#numbers + 1] = record.n end
        table.insert(seen[name], numbers)
        count = count - #numbers
        if name == 'all' or count > 3 then batch:commit() end
      end
      if count <= 0 then tailer:close() end
    end
    return seen
"""


async def test_consumers_have_their_own_batches_and_checkpoints(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", *range(1, 8))
    assert await run(policy, MULTI, 10) == {"even": [[2, 4], [6]], "all": [[1, 2, 3, 4, 5], [6, 7]]}
    assert orjson.loads((logs / ".a").read_bytes()) == {"file": "logs/1", "line": 7}
    assert orjson.loads((logs / ".e").read_bytes()) == {"file": "logs/1", "line": 4}
    segment(logs, "2", 8)
    assert await run(policy, MULTI, 3) == {"even": [[6, 8]], "all": [[8]]}


async def test_a_consumer_without_a_checkpoint_gets_all(policy: MakePolicy, logs: Path) -> None:
    segment(logs, "1", 1, 2)
    segment(logs, "2", 3)
    (logs / ".a").write_bytes(b'{"file":"logs/2","line":0}')
    assert await run(policy, MULTI, 2) == {"even": [[2]], "all": [[3]]}


# -- Wrong arguments ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("new_tailer {}", "kumo.jsonl.new_tailer: option 'directory' is required"),
        ("new_tailer()", "kumo.jsonl.new_tailer: argument 'options' must be a table of options, got nil"),
        ("new_tailer { directory = 'none' }", "none: No such file or directory"),
        (
            "new_tailer { directory = 'logs', patern = '*' }",
            "unknown option 'patern' (did you mean 'pattern'?)",
        ),
        ("new_tailer { directory = 'logs', pattern = '{' }", "the pattern '{'"),
        ("new_tailer { directory = 'logs', max_batch_size = 0 }", "max_batch_size must be at least 1, got 0"),
        (
            "new_tailer { directory = 'logs', checkpoint_name = '../x' }",
            "must be a file name of its own, got '../x'",
        ),
        ("new_tailer({ directory = 'logs' }, true)", "argument 'filter' must be a function, got boolean"),
        ("new_multi_tailer { directory = 'logs' }", "option 'consumers' is required"),
        (
            "new_multi_tailer { directory = 'logs', consumers = {} }",
            "option 'consumers' must have at least one",
        ),
        (
            "new_multi_tailer { directory = 'logs', consumers = { { name = 'a', filter = 1 } } }",
            "option 'consumers[1].filter' must be a function, got number",
        ),
        (
            "new_multi_tailer { directory = 'logs', consumers = { { filter = print } } }",
            "kumo.jsonl.new_multi_tailer: option 'consumers[1].name' is required",
        ),
        ("new_writer {}", "kumo.jsonl.new_writer: option 'log_dir' is required"),
        (
            "new_writer { log_dir = 'w', tz = 'Mars/City' }",
            "must be the name of a time zone, got 'Mars/City'",
        ),
        (
            "new_writer { log_dir = 'w', compression_level = 30 }",
            "option 'compression_level' must be 0 to 22, got 30",
        ),
        (
            "new_writer { log_dir = 'w', max_file_size = 0 }",
            "option 'max_file_size' must be at least 1, got 0",
        ),
    ],
)
async def test_wrong_arguments(policy: MakePolicy, logs: Path, code: str, words: str) -> None:
    text = await failure(policy, f"kumo.jsonl.{code}")
    assert "policy.lua:3: " in text
    assert words in text


# -- Writers -----------------------------------------------------------------------------------------------------
def written(directory: Path) -> list[list[bytes]]:
    found = []
    for path in segments(directory):
        with SegmentReader(path) as reader:
            found.append(list(reader.lines()))
            assert reader.is_complete
    return found


async def test_a_writer(policy: MakePolicy, host: RecordingHost, tmp_path: Path) -> None:
    await run(
        policy,
        """
        local writer <close> = kumo.jsonl.new_writer { log_dir = 'new/dir', suffix = '.zst', tz = 'Asia/Tokyo' }
        writer:write_line '{"n":1}'
        writer:write_line '{"n":2}\\n'
        writer:write_record { list = { 'ü', 3 } }
        """,
    )
    assert written(tmp_path / "new/dir") == [[b'{"n":1}', b'{"n":2}', '{"list":["ü",3]}'.encode()]]
    [name] = os.listdir(tmp_path / "new/dir")
    assert name.startswith("20270115-17")  # in Tokyo, when it is 08:00 UTC for the host
    assert name.endswith(".zst")


async def test_segments_of_a_writer_are_bounded(policy: MakePolicy, tmp_path: Path) -> None:
    text = await failure(
        policy,
        """
        local writer = kumo.jsonl.new_writer { log_dir = 'w', max_file_size = 10, compression_level = 1 }
        for n = 1, 3 do writer:write_line('line ' .. n .. ' is long') end
        writer:close()
        writer:close()
        writer:write_line 'more'
        """,
    )
    assert "policy.lua:8: jsonl_writer:write_line: the writer has been closed" in text
    assert written(tmp_path / "w") == [[b"line %d is long" % n] for n in (1, 2, 3)]


async def test_a_writer_that_nobody_closes_is_closed(policy: MakePolicy, tmp_path: Path) -> None:
    await run(policy, "kumo.jsonl.new_writer({ log_dir = 'w' }):write_line 'last'")
    gc.collect()
    assert written(tmp_path / "w") == [[b"last"]]


async def test_a_writer_tells_that_the_disk_fails(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"a file, not a directory")
    code = """
        local writer = kumo.jsonl.new_writer { log_dir = 'w', max_file_size = 1 }
        writer:write_line 'waits in memory'
        local ok, problem = pcall(writer.write_line, writer, 'refused')
        local closed, lost = pcall(writer.close, writer)
        return { ok, problem, closed, lost }
    """
    ok, problem, closed, lost = await run(policy, code)
    assert not ok
    assert not closed
    assert "cannot write to w" in problem
    assert "not all that was written could be stored in w" in lost


async def test_nothing_is_written_while_validating(policy: MakePolicy) -> None:
    lua = policy("kumo.on('mine', function() kumo.jsonl.new_writer { log_dir = 'w' } end)", validating=True)
    await lua.load()
    with pytest.raises(PolicyError, match="only validated"):
        await lua.ask("mine")
    lua.close()
