"""URLs: made regular, joined, extended; what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.url import form_encode, parse_url


@pytest.mark.parametrize(
    ("text", "regular"),
    [
        ("http://example.com", "http://example.com/"),
        (" HTTPS://Example.COM:443/A?b#c", "https://example.com/A?b"),
        ("http://example.com:8080/a b/é?x=ü y", "http://example.com:8080/a%20b/%C3%A9?x=%C3%BC%20y"),
        ("http://example.com/%41%zz", "http://example.com/%41%zz"),
        ("http://münchen.example/", "http://xn--mnchen-3ya.example/"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("http://[2001:DB8::1]:81/", "http://[2001:db8::1]:81/"),
        ("http://h/a/./b/../c/..", "http://h/a/"),
        ("http://h/../../x", "http://h/x"),
        ("http://h/.well-known/x", "http://h/.well-known/x"),
        ("http://us%40er:p%3Aw@h/", "http://us%40er:p%3Aw@h/"),
        ("http://h/\r\nX: y", "http://h/X:%20y"),
        ("http://h/a?", "http://h/a"),
    ],
)
def test_regular_form(text: str, regular: str) -> None:
    assert str(parse_url(text)) == regular
    assert str(parse_url(regular)) == regular


@pytest.mark.parametrize(
    "text",
    ["", "example.com/x", "/x", "http://", "http://a b/", "http://[::zz]/", "http://h:99999/", "ftp://h/"],
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        parse_url(text)


def test_parts() -> None:
    url = parse_url("https://user:pass@h.example:8443/p?a=1&b=x%20y&c")
    assert (url.host, url.port, url.authority, url.target) == (
        "h.example",
        8443,
        "h.example:8443",
        "/p?a=1&b=x%20y&c",
    )
    assert (url.username, url.password, url.is_secure) == ("user", "pass", True)
    assert url.params() == [("a", "1"), ("b", "x y"), ("c", "")]


@pytest.mark.parametrize(
    ("reference", "result"),
    [
        ("/y", "http://h/y"),
        ("z?q", "http://h/a/z?q"),
        ("//other/x", "http://other/x"),
        ("https://h/", "https://h/"),
    ],
)
def test_join(reference: str, result: str) -> None:
    assert str(parse_url("http://u:p@h/a/b").join(reference)) == result


def test_params_are_added() -> None:
    url = parse_url("https://example.com/?existing=value")
    assert str(url.with_params([("a", "1 &"), ("ü", "~*")])) == (
        "https://example.com/?existing=value&a=1+%26&%C3%BC=%7E*"
    )
    assert url.with_params([]) == url
    assert form_encode([("a", "b"), ("c", "")]) == "a=b&c="


@given(st.text())
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for candidate in (text, "http://" + text, "http://h/" + text):
        try:
            url = parse_url(candidate)
        except ValueError:
            continue
        written = f"{url.authority} {url.target}"
        assert written.isascii()
        assert written.isprintable()
        assert written.count(" ") == 1
