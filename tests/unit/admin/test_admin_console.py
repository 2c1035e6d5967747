"""The console's files as they are served, and what a browser may be made to send by other pages."""

from __future__ import annotations

import re
from importlib.resources import files
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from kumo_py.admin.browser import refuse_foreign
from kumo_py.admin.exchange import Refusal, Request
from kumo_py.admin.pages import NAMES, file, page
from kumo_py.policy.params import HttpListenerParams

if TYPE_CHECKING:
    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Headers, Response

CONSOLE = files("kumo_py.admin").joinpath("console")
NODE = {"mta1.example.com", "mail.example.com"}


def request(**headers: str) -> Request:
    """`sec_fetch_site="none"` is a header."""

    async def read() -> bytes:
        raise AssertionError

    sent = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request("GET", "/", sent, "127.0.0.1", "127.0.0.1", read)


async def get(name: str | None, console: str = "read_only", **headers: str) -> Response:
    params = HttpListenerParams(console=cast("Any", console))
    call = cast("Call", SimpleNamespace(params=params, request=request(**headers)))
    return await (page if name is None else file(name))(call)


async def content(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([piece async for piece in response.body])


def header(headers: Headers, name: bytes) -> bytes:
    [value] = [value for known, value in headers if known == name]
    return value


# -- files -------------------------------------------------------------------------------------------------------
async def test_all_files_are_served_and_no_others_are_there() -> None:
    assert {entry.name for entry in CONSOLE.iterdir()} == {*NAMES, "index.html"}
    for name in (None, *NAMES):
        response = await get(name)
        assert response.status == 200
        assert await content(response) == CONSOLE.joinpath(name or "index.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, b"text/html; charset=utf-8"),
        ("console.css", b"text/css; charset=utf-8"),
        ("console.js", b"text/javascript; charset=utf-8"),
        ("icon.svg", b"image/svg+xml"),
    ],
)
async def test_content_types(name: str | None, expected: bytes) -> None:
    assert (await get(name)).content_type == expected


async def test_headers_that_keep_others_out() -> None:
    for name in (None, *NAMES):
        headers = (await get(name)).headers
        policy = dict(
            part.split(b" ", 1) for part in header(headers, b"content-security-policy").split(b"; ")
        )
        assert policy[b"default-src"] == b"'none'"
        assert policy[b"script-src"] == policy[b"style-src"] == policy[b"connect-src"] == b"'self'"
        assert policy[b"frame-ancestors"] == policy[b"form-action"] == policy[b"base-uri"] == b"'none'"
        assert policy[b"require-trusted-types-for"] == b"'script'"
        assert header(headers, b"x-frame-options") == b"DENY"
        assert header(headers, b"referrer-policy") == b"no-referrer"
        assert header(headers, b"cross-origin-resource-policy") == b"same-origin"
        assert header(headers, b"cache-control") == b"no-cache"


def test_the_page_keeps_to_its_policy() -> None:
    """Nothing inline, nothing from elsewhere, no text that is parsed."""
    markup = CONSOLE.joinpath("index.html").read_text()
    assert re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", markup) is None
    for link in re.findall(r'(?:src|href)="([^"]*)"', markup):
        assert link.startswith(("/console/", "/metrics", "/api/", "#")), link
    for name in NAMES:
        code = CONSOLE.joinpath(name).read_text()
        assert (
            re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", code)
            is None
        )
        elsewhere = set(re.findall(r"https?://[^\s\"']+", code)) - {"http://www.w3.org/2000/svg"}
        assert not elsewhere, name
        for module in re.findall(r'from "\./([^"]+)"', code):
            assert module in NAMES


async def test_what_is_known_is_not_sent_again() -> None:
    tag = header((await get("console.js")).headers, b"etag").decode()
    assert re.fullmatch('"[0-9a-f]{24}"', tag)
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = await get("console.js", if_none_match=known)
        assert response.status == 304
        assert await content(response) == b""
        assert header(response.headers, b"etag").decode() == tag
    for other in ('"other"', tag.strip('"'), header((await get(None)).headers, b"etag").decode()):
        assert (await get("console.js", if_none_match=other)).status == 200


async def test_the_console_can_be_taken_away() -> None:
    for name in (None, *NAMES):
        with pytest.raises(Refusal) as caught:
            await get(name, console="off")
        assert caught.value.status == 404
        assert (await get(name, console="actions")).status == 200


# -- browsers ----------------------------------------------------------------------------------------------------
BROWSER = {"accept_language": "en"}


@pytest.mark.parametrize(
    "headers",
    [
        # clients that are no browsers may use any name
        {"host": "inject.lb.example"},
        {"host": "inject.lb.example", "user_agent": "curl/8"},
        {"host": "inject.lb.example", "sec_fetch_mode": "cors", "accept_language": "*"},  # fetch() of Node.js
        # a browser with the address typed in
        {"host": "127.0.0.1:8000", "sec_fetch_site": "none", "sec_fetch_mode": "navigate", **BROWSER},
        {"host": "[::1]:8000", "sec_fetch_site": "none", **BROWSER},
        {"host": "localhost:8000", **BROWSER},
        {"host": "10.1.2.3:8000", **BROWSER},
        {"host": "MTA1.example.com:8000", **BROWSER},
        {"host": "mail.example.com.", **BROWSER},
        # the console's own requests
        {
            "host": "127.0.0.1:8000",
            "sec_fetch_site": "same-origin",
            "origin": "http://127.0.0.1:8000",
            **BROWSER,
        },
        {"host": "mail.example.com", "origin": "https://mail.example.com", **BROWSER},
        {"host": "mail.example.com:443", "origin": "https://mail.example.com", **BROWSER},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000", **BROWSER},
    ],
)
def test_who_is_answered(headers: dict[str, str]) -> None:
    refuse_foreign(request(**headers), NODE)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"host": "127.0.0.1:8000", "sec_fetch_site": "cross-site"}, "other web sites"),
        ({"host": "127.0.0.1:8000", "sec_fetch_site": "same-site"}, "other web sites"),  # another port
        ({"host": "127.0.0.1:8000", "sec_fetch_site": "Same-Origin"}, "other web sites"),
        ({"host": "127.0.0.1:8000", "origin": "http://evil.example"}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:3000"}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1"}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": "null"}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": ""}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": "http://"}, "another origin"),
        ({"host": "", "origin": "http://"}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": "chrome-extension://127.0.0.1:8000"}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": "http://[::1"}, "another origin"),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000@evil.example"}, "another origin"),
        ({"host": "evil.example:8000", "origin": "http://evil.example:8000"}, "not known as a name"),
        ({"host": "evil.example:8000", "sec_fetch_site": "same-origin"}, "not known as a name"),
        ({"host": "evil.example:8000", **BROWSER}, "not known as a name"),
        ({"host": "evil.example:8000", "cookie": "a=b"}, "not known as a name"),
        ({"host": "evil.example:8000", "referer": "http://evil.example:8000/"}, "not known as a name"),
        ({"host": "mta1.example.com.evil.example", **BROWSER}, "not known as a name"),
        ({"host": "xlocalhost", **BROWSER}, "not known as a name"),
        ({"host": "127.0.0.1.evil.example", **BROWSER}, "not known as a name"),
        ({"host": "127.0.0.1:x", **BROWSER}, "not known as a name"),
        ({"host": "", **BROWSER}, "not known as a name"),
        ({**BROWSER}, "not known as a name"),
    ],
)
def test_who_is_refused(headers: dict[str, str], text: str) -> None:
    with pytest.raises(Refusal, match=text) as caught:
        refuse_foreign(request(**headers), NODE)
    assert caught.value.status == 403


def test_a_refusal_names_what_would_do() -> None:
    with pytest.raises(Refusal) as caught:
        refuse_foreign(request(host="alias.example.com", **BROWSER), NODE)
    assert "localhost or mail.example.com or mta1.example.com" in caught.value.text
    assert "hostname in kumo.start_http_listener" in caught.value.text
