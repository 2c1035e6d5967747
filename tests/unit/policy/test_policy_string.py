"""What `kumo.string` knows of mail: wrapping, and responses made alike. The rest is in test_policy_modules.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from policy_host import run

from kumo_py.core.policy import PolicyError
from kumo_py.core.wrap import wrap

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def test_wrapping(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local w = kumo.string.wrap
        return { w 'hello ', w(('A'):rep(200), 75, 100), w(('hello there '):rep(10), 75, 100), w(('x '):rep(50)) }
        """,
    )
    a, words = "A" * 100, " ".join(["hello there"] * 6)
    first, second = " ".join(["x"] * 38), " ".join(["x"] * 12)
    assert result[:2] == ["hello", f"{a}\r\n\t{a}"]
    assert result[2] == f"{words}\r\n\t{' '.join(['hello there'] * 4)}"
    assert result[3] == f"{first}\r\n\t{second}"


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        ("", ""),
        ("foo", "foo"),
        ("hi there", "hi there"),
        ("hello world ", "hello\r\n\tworld"),
        ("hello world foo bar", "hello\r\n\tworld foo\r\n\tbar"),
        ("hi there breakmepleaseIamtoolong", "hi there\r\n\tbreakmepleaseIa\r\n\tmtoolong"),
        ("x" * 30 + " y", "x" * 15 + "\r\n\t" + "x" * 15 + "\r\n\ty"),
        (" \ta \r\n b\v", "a b"),
    ],
)
def test_lines_are_filled_and_long_words_cut(text: str, wrapped: str) -> None:
    assert wrap(text.encode(), 10, 15) == wrapped.encode()


async def test_responses(policy: MakePolicy) -> None:
    code = "return kumo.string.normalize_smtp_response '550 5.1.1  10.0.0.1 <x> a@b.example (no) id=aGVsbG8uCg=='"
    assert await run(policy, code) == "550 5.1.1 {ipaddr} <x> {email} no id={base64}"


async def test_pieces_are_split_off_from_the_right(policy: MakePolicy) -> None:
    assert await run(policy, "return kumo.string.rsplit('aaa', 'aa')") == ["", "a"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("wrap('x', 10, 0)", "policy.lua:3: kumo.string.wrap: the hard limit must be at least 1, got 0"),
        ("wrap(nil)", "kumo.string.wrap: argument 's' must be a string, got nil"),
        ("normalize_smtp_response '\\xff'", "argument 'response' must be UTF-8 text"),
        ("split('a', '')", "kumo.string.split: empty separator"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, f"kumo.string.{code}")
    assert problem in str(caught.value)
