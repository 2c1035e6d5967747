"""The web console's files: one page, its style and its modules, which lie in `console/` beside this file. So do those
of the API's explorer, in `explorer/`.

Nothing comes from elsewhere: the Content-Security-Policy lets the page load, and talk to, nothing but the node, and
run no text as code, so that what mail and peers say is shown and never anything else. The listener's `console` option
takes the page away or lets it offer actions; the API is the same either way.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kumo_py.admin.endpoint import Answer, endpoint
from kumo_py.admin.exchange import Refusal, Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kumo_py.admin.call import Call
    from kumo_py.admin.endpoint import Endpoint
    from kumo_py.admin.exchange import Headers

NAMES = (
    "console.css",
    "console.js",
    "actions.js",
    "api.js",
    "charts.js",
    "dom.js",
    "format.js",
    "messages.js",
    "tables.js",
    "icon.svg",
)
"""What the page needs; it is there as /console/NAME."""
EXPLORER_NAMES = ("explorer.css", "explorer.js")
"""What the explorer of the API needs; it is there as /rapidoc/NAME."""

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_FAILS = {404: "The console is off."}
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),  # kept, and asked for by its tag each time: a new version is met at once
]


@endpoint(gives=Answer("text/html"), fails=_FAILS)
async def page(call: Call) -> Response:
    """GET /: the web console."""
    return _answer(call, "index.html")


def file(name: str) -> Endpoint:
    """GET /console/NAME"""

    @endpoint(gives=Answer(_media_type(name).decode().partition(";")[0]), fails=_FAILS)
    async def answer(call: Call) -> Response:
        """A file of the web console."""
        return _answer(call, name)

    return answer


def explorer(name: str) -> Endpoint:
    """GET /rapidoc, and what that page needs as /rapidoc/NAME"""

    @endpoint(gives=Answer(_media_type(name).decode().partition(";")[0]))
    async def answer(call: Call) -> Response:
        """The page that shows this description."""
        return _served(call, "explorer", name)

    return answer


def _answer(call: Call, name: str) -> Response:
    """Raises Refusal."""
    if call.params.console == "off":
        raise Refusal(404, "the console is off: see the console option of kumo.start_http_listener")
    return _served(call, "console", name)


def _served(call: Call, folder: str, name: str) -> Response:
    """A file, unless the browser has it already."""
    content, tag = _read(folder, name)
    headers: Headers = [*_HEADERS, (b"etag", tag)]
    type_ = _media_type(name)
    if _is_known(call.request.header(b"if-none-match") or b"", tag):
        return Response(_nothing(), 304, type_, headers)
    return Response(content, 200, type_, headers)


def _media_type(name: str) -> bytes:
    return _TYPES[PurePosixPath(name).suffix]


@cache
def _read(folder: str, name: str) -> tuple[bytes, bytes]:
    """A file and its tag."""
    content = files("kumo_py.admin").joinpath(folder, name).read_bytes()
    return content, b'"%b"' % blake2b(content, digest_size=12).hexdigest().encode()


def _is_known(tags: bytes, tag: bytes) -> bool:
    """RFC 9110 §13.1.2, with the weak comparison."""
    return any(one.strip().removeprefix(b"W/") in (tag, b"*") for one in tags.split(b","))


async def _nothing() -> AsyncGenerator[bytes, None]:
    """A body that is not there: with an empty one, the response would say that the file is empty."""
    for piece in list[bytes]():
        yield piece
