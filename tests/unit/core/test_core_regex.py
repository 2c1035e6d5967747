"""Regular expressions in Rust's syntax: what RE2 takes, what backtracks, and what comes out."""

from __future__ import annotations

import contextlib
import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kumo_py.core import char_class
from kumo_py.core.regex import Regex, RegexSet, escape
from kumo_py.core.rust_regex import NotRegular, to_python, to_re2


def found(pattern: str, text: str) -> list[str]:
    return [match.decode() for match in Regex(pattern).find_all(text.encode())]


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a*", "baac", ["", "aa", ""]),
        ("", "né", ["", "", ""]),
        (r"\d+", "12 ٣", ["12", "٣"]),
        (r"\w+", "wörld über_1", ["wörld", "über_1"]),
        (r"\W+", "a, b", [", "]),
        (r"a\sb", "a\u2003b", ["a\u2003b"]),
        (r"\S+", "a b", ["a", "b"]),
        (r"(?-u:\w+)", "wörld", ["w", "rld"]),
        (r"(?-u)[\W]", "ö", ["ö"]),
        (r"[^\W_]+", "foo_bar", ["foo", "bar"]),
        (r"[\w&&[^aeiou]]+", "hello", ["h", "ll"]),
        ("[a-f--[bd]]+", "abcdef", ["a", "c", "ef"]),
        ("[a-c~~b-d]", "abcd", ["a", "d"]),
        ("[a[b-c]]+", "abcd", ["abc"]),
        ("[[^a-y]]", "xyz", ["z"]),
        ("[[:alpha:]][[:^digit:]]", "a1bb", ["bb"]),
        ("[]a]+", "]a[", ["]a"]),
        (r"[\]\-\\^]+", r"]-\^", [r"]-\^"]),
        ("[a-]+", "a-b", ["a-"]),
        (r"[\x41-\u{43}]+", "ABCD", ["ABC"]),
        (r"\x41\x{42}\u0043\U00000044", "ABCD", ["ABCD"]),
        (r"\p{Greek}+", "abγδ", ["γδ"]),
        (r"\p{Lu}\p{Lowercase_Letter}\PL", "Ab1", ["Ab1"]),
        (r"\p{^L}", "a1", ["1"]),
        (r"[\p{Lu}\d]+", "AB1c", ["AB1"]),
        (r"\p{White_Space}\p{Any}", "a b", [" b"]),
        ("(?i)straSSe", "STRASSE", ["STRASSE"]),
        ("a(?i)b|c", "aB C b", ["aB", "C"]),
        ("(?x) a b # no\n [ c d ] \\ e", "abd e", ["abd e"]),
        ("(?x: a )b c", "ab c", ["ab c"]),
        ("^a$", "a\n", []),
        ("(?m)^a$", "x\na\ny", ["a"]),
        (r"\Aa\z", "a", ["a"]),
        ("(?s)a.b", "a\nb", ["a\nb"]),
        (".", "\n", []),
        ("(?U)a+", "aa", ["a", "a"]),
        ("a+?", "aa", ["a", "a"]),
        ("a{,2}b", "aaab", ["aab"]),
        ("x{a", "x{a", ["x{a"]),
        (r"\h+", "xyAF09", ["AF09"]),
        (r"\t\n\r\f\v\a\e", "\t\n\r\f\v\a\x1b", ["\t\n\r\f\v\a\x1b"]),
        ("\x00", "\x00", ["\x00"]),
        ("(?#nothing)a()", "a", ["a"]),
        (r"[^\s\S]", "a", []),
        (r"[[a]&&[b]]", "ab", []),
        (r"[^[a]&&[b]]", "a\n", ["a", "\n"]),
    ],
)
def test_what_is_regular_is_left_to_re2(pattern: str, text: str, matches: list[str]) -> None:
    assert Regex(pattern).is_linear
    assert found(pattern, text) == matches


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a(?=b)", "ab ac", ["a"]),
        ("a(?!b).", "ab ac", ["ac"]),
        ("(?<=a|bc)x", "ax bcx cx", ["x", "x"]),
        ("(?<!a|bc)x.", "ax bcx cx1", ["x1"]),
        ("(?<=a+)b", "aab", ["b"]),
        ("a??(?=.|)", "aa", ["", "", ""]),
        ("a*(?=.|)", "baac", ["", "aa", ""]),
        (r"(\w)\1", "hello", ["ll"]),
        (r"(?<c>\w)\k<c>", "hello", ["ll"]),
        ("(?>a*)a|b", "aab", ["b"]),
        ("a++b", "aab", ["aab"]),
        (r"(a)?(?(1)b|c)", "ab c", ["ab", "c"]),
        (r"\b{start}\w|\w\b{end}", "one", ["o", "e"]),
        (r"\<t\w+\>", "a two", ["two"]),
        (r"\b{start-half}b\b{end-half}", "b", ["b"]),
        (r"a\Z", "a\n", ["a"]),
        ("^a$(?!x)", "a\n", []),
        (r"\Aa\z(?!x)", "a", ["a"]),
        (r"(?=x)x(?i)b|c", "xB C", ["xB", "C"]),
        (r"(?=x)x(?i)b|c(?-i)D", "xB CD Cd", ["xB", "CD"]),
        (r"(?=.)[^\W_]+", "foo_bar", ["foo", "bar"]),
        (r"(?=.)[\p{Lu}\d&&[A-C1]]+", "ABCD12", ["ABC", "1"]),
        (r"(?=.)\p{Lu}\pN\PL", "A1!", ["A1!"]),
        (r"(?=.)[[:alpha:]]+\h\x41\x{e9}\.", "xyzFAé.", ["xyzFAé."]),
        (r"(?=.)[^\s\S]|(?=a)[a--b]", "a", ["a"]),
        (r"(?=.)\d\s\S\D\w", "1 aä1", ["1 aä1"]),
        ("a{1001}", "a" * 1001, ["a" * 1001]),
        (r"(?s)(?=.).", "\n", ["\n"]),
        ("(?=x)x", "\ufeffx", ["x"]),
    ],
)
def test_what_is_not_regular_backtracks(pattern: str, text: str, matches: list[str]) -> None:
    assert not Regex(pattern).is_linear
    assert found(pattern, text) == matches


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a", "has a ( without its )"),
        ("a)", "character 2, ')': there is no ( for this )"),
        ("x[a", "character 2, '[a': this [ has no ]"),
        (r"a\y", r"character 2, '\y': there is no such escape"),
        ("a\\", "nothing follows the backslash"),
        ("[\\", "nothing follows the backslash"),
        ("[a-\\", "nothing follows the backslash"),
        ("[z-a]", "a range cannot go from 'z' to 'a'"),
        ("a{3,2}", "a repetition cannot go from 3 to 2"),
        ("*a", "no argument for repetition operator"),
        ("a**", "bad repetition operator"),
        ("(?<n", "there is no such group"),
        ("(?P<a>x)(?P<a>y)", "another group has that name"),
        (r"\x{110000}", "there is no such character"),
        (r"\x{d800}", "there is no such character"),
        (r"\p{Klingon}", "invalid character class range"),
        (r"\p{a b}", "there is no such property"),
        ("[[:nope:]]", "there is no such class"),
        (r"[\p{Greek}&&a]", "cannot be combined like this"),
        (r"[a[^\p{Greek}]]", "cannot be combined like this"),
        (r"(?=a)\p{Greek}", "together with look-around"),
        ("(?U)(?=a)a", "together with look-around"),
        ("(?R)a", "the flag R is not supported"),
        (r"\K", "there is no such escape"),
        (r"(a)\2", "invalid group reference"),
        ("(" * 300, "more than 200 groups are nested"),
        ("[" * 300, "more than 200 classes are nested"),
        ("a" * (1 << 20) + "b", "longer than 1048576 characters"),
        ("(((a{100}){100}){100}){100}", "the pattern is wrong: invalid repetition size"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_said(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        Regex(pattern)


def test_groups() -> None:
    assert Regex(r"(?<year>\d{4})-(?P<month>\d\d)(x)?").captures(b"on 2026-08!") == {
        0: b"2026-08", 1: b"2026", 2: b"08", b"year": b"2026", b"month": b"08",
    }  # fmt: skip
    assert Regex(r"(?<a>x)(?=y)(z)?").captures(b"xy") == {0: b"x", 1: b"x", b"a": b"x"}
    assert Regex("a").captures(b"b") is None


def test_replacement_templates() -> None:
    names = Regex(r"(?P<last>[^,\s]+),\s+(?P<first>\S+)")
    assert names.replace(b"Springsteen, Bruce", "$first $last") == b"Bruce Springsteen"
    assert (
        names.replace(b"A, B", "$2$1 ${1}a$1a $$1 $nope $9 $99999999 $ $- ${ é")
        == b"BA Aa $1    $ $- ${ \xc3\xa9"
    )
    assert Regex("a*").replace(b"baac", "-") == b"-b-c-"
    assert Regex("x").replace(b"xxx", "y", 2) == b"yyx"
    assert Regex("(x)|(y)(?!z)").replace(b"xy", "<$1$2>") == b"<x><y>"


def test_splitting() -> None:
    assert Regex("[ \t]+").split(b"a b \t  c\td    e") == [b"a", b"b", b"c", b"d", b"e"]
    assert Regex(",").split(b",a,") == [b"", b"a", b""]
    assert Regex("").split("né".encode()) == [b"", b"n", "é".encode(), b""]


def test_bytes_that_are_not_utf_8_do_no_harm() -> None:
    assert Regex("foo").find(b"\xff\xfefoo\xff") == b"foo"
    assert Regex("(?=f)foo.").find(b"\xff\xfefoo\xff") == b"foo\xff"
    assert Regex("o").replace(b"\xffo\xff", "é") == b"\xff\xc3\xa9\xff"
    assert not Regex("é").is_match(b"\xe9")


def test_a_set_finds_all_of_its_patterns_at_once() -> None:
    patterns = RegexSet([r"4\.2\.2 over", "h[^\\W]llo", "l+o", "^b"])
    assert patterns.matches("say hällo".encode()) == [1, 2]
    assert patterns.matches(b"x 4.2.2 over") == [0]
    assert patterns.matches(b"\xff") == []
    assert RegexSet([]).matches(b"x") == []


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a(?=b)", "'a(?=b)': the pattern has look-around, which takes more than linear time"),
        (r"(a)\1", "a back-reference"),
        ("a{1001}", "a repetition of more than 1000"),
        ("(", "'(': the pattern has a ( without its )"),
        ("a**", "bad repetition operator"),
    ],
)
def test_a_set_says_which_pattern_it_cannot_have(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        RegexSet(["fine", pattern])


def test_a_set_that_is_too_large_says_so() -> None:
    with pytest.raises(ValueError, match="too large"):
        RegexSet([rf"(?:\w{{100}}\pL){{5}}{n}" for n in range(40)])


def test_catastrophic_patterns_take_linear_time() -> None:
    assert not Regex("(a*)*(a|aa)+b$").is_match(b"a" * 20_000)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(?=a)(a|aa)+$", b"a" * 60 + b"b"),
        (r"(?=\s)\s+$", b" " * 200_000 + b"x"),
        (r"(\w+)\s\1", b"ab" * 100_000),
        ("(?=a)(?:a{1,1000}){1,1000}b", b"a" * 100_000),
        ("(?=.*x).", b"ab" * 100_000),
        # No match takes long, all of them do.
        ("(?:(?:a|aa)+(?=$)|b)", (b"a" * 20 + b"b") * 400),
    ],
)
def test_backtracking_ends(pattern: str, text: bytes) -> None:
    compiled = Regex(pattern)
    for use in (compiled.find_all, compiled.split, lambda text: compiled.replace(text, "")):
        started = time.process_time()
        with pytest.raises(ValueError, match=r"more than 0\.1 s on this text: patterns with look-around"):
            use(text)
        assert time.process_time() - started < 0.5
    if compiled.pattern.endswith("|b)"):
        assert compiled.is_match(text)
        return
    for search in (compiled.is_match, compiled.find, compiled.captures):
        with pytest.raises(ValueError, match=r"more than 0\.1 s"):
            search(text)


@given(st.text(max_size=20))
def test_an_escaped_text_matches_itself(text: str) -> None:
    assert Regex(f"^(?:{escape(text)})$").is_match(text.encode())
    assert RegexSet([escape(text)]).matches(text.encode()) == [0]
    assert re.fullmatch(to_python(escape(text)), text)


PIECES = st.lists(
    st.sampled_from(
        ["a", "é", ".", "*", "+", "?", "{2}", "{", "|", "(", ")", "(?:", "(?=", "(?<!", "(?i)", "(?x)", "[", "]", "[^",
         "-", "&&", "--", r"\w", r"\W", r"\d", r"\b", r"\1", "^", "$", " ", "#", "\\", r"\p{L}", "(?<n>", "(?>", "\x00"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(PIECES | st.text(max_size=12), st.binary(max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_pattern_or_a_value_error(pattern: str, text: bytes) -> None:
    with contextlib.suppress(ValueError):
        compiled = Regex(pattern)
        assert compiled.is_match(text) == (compiled.find(text) is not None)
        compiled.replace(text, "$0")
        compiled.split(text)


@given(PIECES, st.text(alphabet="aAé1_ -", max_size=8))
@settings(max_examples=300, deadline=None)
def test_both_translations_mean_the_same(pattern: str, text: str) -> None:
    if r"\b" in pattern:  # ASCII's to RE2
        return
    try:
        regular, python = Regex(pattern), re.compile(to_python(pattern))
        to_re2(pattern)
    except (NotRegular, ValueError, re.error):
        return
    first = python.search(text)
    assert regular.find(text.encode()) == (None if first is None else first[0].encode())


def test_categories_are_those_of_unicode() -> None:
    for name in ("L", "Lu", "Nd", "Cn", "C", "Co"):
        expected = {n for n in range(0x110000) if unicodedata.category(chr(n)).startswith(name)}
        assert {n for low, high in char_class.categories(name) for n in range(low, high + 1)} == expected, (
            name
        )
