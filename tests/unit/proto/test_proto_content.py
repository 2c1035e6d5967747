import pytest

from kumo_py.proto.content import (
    DataResult,
    Fault,
    any_leading_dot,
    check_content,
    has_bare_cr_or_lf,
    to_crlf,
    unstuff,
)


@pytest.mark.parametrize(
    ("data", "bare"),
    [
        (b"", False),
        (b"x", False),
        (b"\r\n", False),
        (b"a\r\n\r\nb\r\n", False),
        (b"\n", True),
        (b"\r", True),
        (b"a\r\nb\r", True),
        (b"a\r\nb\n", True),
        (b"\n\r", True),
        (b"a\r\r\nb\r\n", True),
        (b"a\r\n\nb\r\n", True),
        (b"\x85\xff\x0b\x0c\x1c", False),
    ],
)
def test_has_bare_cr_or_lf(data: bytes, bare: bool) -> None:
    assert has_bare_cr_or_lf(data) is bare
    assert not has_bare_cr_or_lf(to_crlf(data))


def test_to_crlf_keeps_the_number_of_line_ends() -> None:
    assert to_crlf(b"a\nb\rc\r\n\r\r\n\n\r") == b"a\r\nb\r\nc\r\n\r\n\r\n\r\n\r\n"


def test_unstuff_removes_one_dot_after_crlf_only() -> None:
    assert (
        unstuff(b"..a\r\n..\r\n.b\r\nc.\r\n\n.d\r.e\r\n...\r\n")
        == b".a\r\n.\r\nb\r\nc.\r\n\n.d\r.e\r\n..\r\n"
    )


def test_any_leading_dot() -> None:
    assert any_leading_dot(b".a")
    assert any_leading_dot(b"a\r\n.b")
    assert not any_leading_dot(b"a.b\r\nc.\r\n")


@pytest.mark.parametrize("policy", ["Deny", "Allow", "Fix"])
def test_clean_content_passes_unchanged(policy: str) -> None:
    data = b"a\r\n\0\xff\r\n"
    assert check_content(data, 10, policy) == DataResult(data, is_8bit=True)  # type: ignore[arg-type]
    assert check_content(data, 10, policy).content is data  # type: ignore[arg-type]


def test_bare_line_ends_by_policy() -> None:
    data = b"a\n.b\r.c\r\n"
    assert check_content(data, 10, "Deny") == DataResult(fault=Fault.BAD_LINE_ENDINGS)
    assert check_content(data, 10, "Allow") == DataResult(data, has_leading_dots=True)
    assert check_content(data, 10, "Fix") == DataResult(b"a\r\n.b\r\n.c\r\n", has_leading_dots=True)


def test_bare_line_ends_overrule_what_the_caller_knew_of_dots() -> None:
    assert check_content(b"a\n.b\r\n", 10, "Fix", may_have_leading_dots=False).has_leading_dots


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (b"", True),
        (b"1234567890", True),
        (b"1234567890\r\n", True),
        (b"12345678901", False),
        (b"12345678901\r\n", False),
        (b"1234567890\r\n1234567890\r\n1234567890", True),
        (b"1\r\n" * 50 + b"12345678901\r\n", False),
        (b"1\r\n" * 50 + b"12345678901", False),
        (b"12345678901\r\n" + b"1\r\n" * 50, False),
    ],
)
def test_line_length_is_measured_without_the_line_end(data: bytes, fits: bool) -> None:
    assert check_content(data, 10, "Deny").fault is (None if fits else Fault.LINE_TOO_LONG)


def test_a_bare_lf_ends_a_line_where_it_is_allowed() -> None:
    data = b"12345\n" * 10
    assert check_content(data, 10, "Allow").content == data
    assert check_content(data, 10, "Fix").content == b"12345\r\n" * 10
