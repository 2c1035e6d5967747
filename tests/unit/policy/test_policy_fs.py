"""kumo.fs: directories, patterns, metadata, files."""

from __future__ import annotations

import gc
import os
import re
from typing import TYPE_CHECKING

import pytest
from policy_host import run

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy


async def failure(policy: MakePolicy, code: str, *args: object) -> str:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code, *args)
    return str(caught.value)


# -- Directories -------------------------------------------------------------------------------------------------
@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("b.lua", "a.lua", "x.toml", "sub/deep/c.lua", "sub/d.lua"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "sub/loop").symlink_to(root)
    (root / "linked").symlink_to(root / "sub/deep")
    return root


async def test_read_dir(policy: MakePolicy, tree: Path) -> None:
    expected = [f"{tree}/{name}" for name in ("a.lua", "b.lua", "linked", "sub", "x.toml")]
    assert await run(policy, "return kumo.fs.read_dir(...)", str(tree)) == expected
    assert await run(policy, "return kumo.read_dir(...)", str(tree)) == expected
    text = await failure(policy, "kumo.fs.read_dir(...)", f"{tree}/none")
    assert f"policy.lua:3: kumo.fs.read_dir: {tree}/none: No such file or directory" in text
    (tree / os.fsdecode(b"\xff")).touch()
    assert "is not UTF-8" in await failure(policy, "kumo.fs.read_dir(...)", str(tree))


@pytest.mark.parametrize(
    ("pattern", "relative_to", "found"),
    [
        ("*.lua", "{tree}", ["a.lua", "b.lua"]),
        ("**/*.lua", "{tree}", ["a.lua", "b.lua", "linked/c.lua", "sub/d.lua", "sub/deep/c.lua"]),
        ("{tree}/*.{{lua,toml}}", None, ["{tree}/a.lua", "{tree}/b.lua", "{tree}/x.toml"]),
        ("tree/s*", None, ["tree/sub"]),
        ("*/*.lua", "tree", ["linked/c.lua", "sub/d.lua"]),
        ("none/*", None, []),
        ("*", "/nowhere/at/all", []),
    ],
)
async def test_patterns(
    policy: MakePolicy, tree: Path, pattern: str, relative_to: str | None, found: list[str]
) -> None:
    args = [pattern.format(tree=tree)] + ([relative_to.format(tree=tree)] if relative_to else [])
    expected = [path.format(tree=tree) for path in found]
    for function in ("kumo.fs.uncached_glob", "kumo.uncached_glob", "kumo.fs.glob", "kumo.glob"):
        assert await run(policy, f"return {function}(...)", *args) == expected


async def test_a_glob_is_remembered(policy: MakePolicy, tree: Path) -> None:
    lua = policy("kumo.on('count', function(...) return #kumo.fs.glob(...) end)")
    await lua.load()
    count = await lua.ask("count", "*.lua", "tree")
    assert count == 2
    assert await lua.ask("count", "*.toml", "tree", 0) == 1
    (tree / "new.lua").touch()
    (tree / "new.toml").touch()
    assert await lua.ask("count", "*.lua", "tree") == 2
    assert await lua.ask("count", "*.toml", "tree", 0) == 2
    lua.close()


async def test_a_bad_pattern(policy: MakePolicy) -> None:
    assert "the pattern 'a{b'" in await failure(policy, "kumo.fs.glob 'a{b'")


# -- Metadata ----------------------------------------------------------------------------------------------------
async def test_metadata(policy: MakePolicy, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello world")
    path.chmod(0o440)
    result = await run(
        policy,
        """
        local m = kumo.fs.metadata_for_path(...)
        return {
          m.path, m.is_file, m.is_dir, m.is_symlink, m.readonly, m.len, m.size, m.dev, m.ino, m.mode, m.nlink,
          m.uid, m.gid, m.rdev, m.blksize, m.blocks,
        }
        """,
        str(path),
    )
    s = path.stat()
    assert result[:7] == [str(path), True, False, False, True, 11, 11]
    assert result[7:11] == [s.st_dev, s.st_ino, s.st_mode, s.st_nlink]
    assert result[11:] == [s.st_uid, s.st_gid, s.st_rdev, s.st_blksize, s.st_blocks]


async def test_times_of_metadata(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", ns=(1_000_000_000_500_000_000, 1_700_000_000_000_000_000))
    result = await run(
        policy,
        """
        local m = kumo.fs.metadata_for_path 'file'
        return { m.atime.unix_timestamp, m.mtime.unix_timestamp, m.ctime.unix_timestamp > 1700000000 }
        """,
    )
    assert result == [1_000_000_000, 1_700_000_000, True]


async def test_metadata_of_links_and_directories(policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    result = await run(
        policy,
        """
        local there, link = kumo.fs.metadata_for_path 'link', kumo.fs.symlink_metadata_for_path 'link'
        return { there.is_dir, there.is_symlink, link.is_dir, link.is_symlink, link.readonly }
        """,
    )
    assert result == [True, False, False, True, False]


async def test_metadata_of_nothing(policy: MakePolicy) -> None:
    text = await failure(policy, "kumo.fs.metadata_for_path 'no/such'")
    assert "policy.lua:3: kumo.fs.metadata_for_path: no/such: No such file or directory" in text
    assert "has no method or field 'sze'; did you mean size?" in await failure(
        policy, "return kumo.fs.metadata_for_path('.').sze"
    )


# -- Files -------------------------------------------------------------------------------------------------------
async def test_files(policy: MakePolicy) -> None:
    result = await run(
        policy,
        r"""
        local writer = kumo.fs.open('file', 'w+')
        local reader = kumo.fs.open 'file'
        local seen = {}
        local function see(value) seen[#seen + 1] = value end
        writer:write 'hello'
        see(reader:read()) -- nothing, before it is flushed
        writer:write ' wor\0ld'
        writer:flush()
        see(reader:read() == 'hello wor\0ld')
        see(writer:seek 'set')
        writer:write 'woot'
        see(writer:seek 'end') -- a seek flushes
        see(reader:seek('set', 0))
        see(reader:read(4))
        see(reader:seek(2))
        see(reader:read(3))
        see(reader:seek('cur', -3))
        see(reader:seek(-2, 'end'))
        see(reader:read(100))
        see(reader:read())
        reader:close()
        reader:close()
        writer:close()
        return seen
        """,
    )
    assert result == ["", True, 0, 12, 0, "woot", 6, "wor", 6, 10, "ld", ""]


@pytest.mark.parametrize(
    ("mode", "content"),
    [
        ("w", b"new content"),
        ("wb", b"new content"),
        ("a", b"old and longernew"),
        ("r+", b"new and longer"),
        ("r+b", b"new and longer"),
        ("w+", b"new"),
        ("a+", b"old and longernew"),
    ],
)
async def test_modes(policy: MakePolicy, tmp_path: Path, mode: str, content: bytes) -> None:
    path = tmp_path / "file"
    if mode.startswith("w") and mode != "w+":
        path.write_bytes(b"old content")  # kept, as far as nothing is written over it
    else:
        path.write_bytes(b"old and longer")
    await run(policy, "local f = kumo.fs.open('file', ...)\nf:write 'new'\nf:close()", mode)
    assert path.read_bytes() == content
    path.unlink()
    await run(policy, "kumo.fs.open('file', ...):write 'new'", mode)
    gc.collect()
    assert path.read_bytes() == b"new"  # written out when it is garbage, too


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("kumo.fs.open('none')", "kumo.fs.open: none: No such file or directory"),
        ("kumo.fs.open('x', 'rw')", "unsupported file mode 'rw'; the modes are r, w, a, r+, w+, a+"),
        ("kumo.fs.open()", "kumo.fs.open: argument 'path' must be a string, got nil"),
        (
            "local f = kumo.fs.open('x', 'w+')\nf:close() f:read()",
            "async_file:read: cannot read a file that was",
        ),
        ("local f = kumo.fs.open('x', 'w+')\nf:close() f:write ''", "cannot write a file that was closed"),
        ("local f = kumo.fs.open('x', 'w+')\nf:close() f:flush()", "cannot flush a file that was closed"),
        ("local f = kumo.fs.open('x', 'w+')\nf:close() f:seek()", "cannot seek in a file that was closed"),
        ("kumo.fs.open('x', 'w+'):seek 'bogus'", "takes one of 'set', 'cur' and 'end', and a number"),
        ("kumo.fs.open('x', 'w+'):seek(1, 2)", "takes one of 'set', 'cur' and 'end', and a number"),
        ("kumo.fs.open('x', 'w+'):seek('set', -1)", "Invalid argument"),
        ("kumo.fs.open('x', 'w+'):read(-1)", "must not be negative, got -1"),
        ("kumo.fs.open('x', 'w'):read()", "read"),
        ("kumo.fs.open('.', 'r')", "directory"),
    ],
)
async def test_what_files_refuse(policy: MakePolicy, code: str, words: str) -> None:
    text = await failure(policy, code)
    assert re.match(r"mine: policy\.lua:[34]: ", text)
    assert words in text


async def test_nothing_is_written_while_validating(policy: MakePolicy, tmp_path: Path) -> None:
    lua = policy("kumo.on('mine', function(mode) kumo.fs.open('file', mode) end)", validating=True)
    await lua.load()
    with pytest.raises(PolicyError, match="only validated"):
        await lua.ask("mine", "w")
    assert not (tmp_path / "file").exists()
    (tmp_path / "file").touch()
    await lua.ask("mine", "r")
    lua.close()
