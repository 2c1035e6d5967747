"""No endpoint without the right: every route of the table, asked by everybody who may not, in every way there is.

The routes are taken from the table, so an endpoint that is added is asked too.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from http_wire import STRANGER, TRUSTED, USER, Wire, address_of, http_node

from kumo_py.admin.access import Access
from kumo_py.admin.connection import Connection
from kumo_py.admin.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kumo_py.daemon import Node

pytestmark = pytest.mark.time_limit(60)

REFUSED = (401, 403, 404, 405)
BODY = "Content-Type: application/json\r\nContent-Length: 100000\r\n"
"""Of a request whose body never comes: who waits for it does not answer."""
METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "Post", "MKCOL", "GETX",
)  # fmt: skip


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with http_node(tmp_path) as node:
        yield node
        # Nobody has changed anything.
        assert node.admin.list_suspensions() == node.admin.list_bounces() == []
        assert node.admin.list_ready_suspensions() == []
        assert node.reloader is not None
        assert (node.reloader.status.epoch, node.reloader.status.reloads) == (1, 0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of which bodies something was read."""
    found: list[str] = []
    read = Connection._read_body

    async def recording(connection: Connection) -> bytes:
        found.append("a body")
        return await read(connection)

    monkeypatch.setattr(Connection, "_read_body", recording)
    return found


def for_others(who: str) -> tuple[Access, ...]:
    """Whose routes somebody may use besides those that are nobody's business."""
    return (Access.ANYBODY, Access.AUTHENTICATED) if who == "user" else (Access.ANYBODY,)


FORGED = "".join(
    f"{name}: {value}\r\n"
    for name in (
        "X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Originating-IP",
        "X-Remote-Addr", "X-Cluster-Client-IP", "X-ProxyUser-Ip", "Client-IP", "Forwarded-For", "Via",
    )
    for value in ("127.0.0.1",)
)  # fmt: skip

CLIENTS = {
    "a stranger": "",
    "by X-Forwarded-For and the like": FORGED,
    "by Forwarded": "Forwarded: for=127.0.0.1;by=127.0.0.1;host=127.0.0.1;proto=https\r\n",
    "by a group in a header": "X-Groups: kumomta:http-listener-trusted-ip\r\nX-User: user\r\nRemote-User: user\r\n",
    "by a cookie": "Cookie: session=kumomta; user=user\r\n",
    "by credentials for a proxy": "Proxy-Authorization: Basic dXNlcjpzZXNhbWU=\r\n",
    "by the name in the URL's host": "X-Original-URL: /api/check-liveness/v1\r\nX-Rewrite-URL: /rapidoc\r\n",
    "wrong password": "Authorization: Basic dXNlcjp3cm9uZw==\r\n",
    "nobody's name": "Authorization: Basic Og==\r\n",
    "no password": "Authorization: Basic dXNlcg==\r\n",
    "wrong token": "Authorization: Bearer let-me-inn\r\n",
}
MALFORMED = {
    "no scheme": "Authorization: dXNlcjpzZXNhbWU=\r\n",
    "empty": "Authorization:\r\n",
    "another scheme": 'Authorization: Digest username="user", response="x"\r\n',
    "no base64": "Authorization: Basic user:sesame\r\n",
    "no UTF-8": "Authorization: Basic /////w==\r\n",
    "two": USER + "Authorization: Bearer let-me-in\r\n",
    "twice the same": USER + USER,
    "bytes": "Authorization: Bearer l\u00ebt\r\n",
}


@pytest.mark.parametrize("who", CLIENTS)
async def test_nobody_gets_in(node: Node, reads: list[str], who: str) -> None:
    logs_in = "Authorization:" in CLIENTS[who] and "Proxy" not in CLIENTS[who]
    async with Wire(address_of(node), STRANGER) as wire:
        for route in ROUTES:
            if route.access is Access.ANYBODY and not logs_in:
                continue
            answer = await wire.ask(route.method, route.path, CLIENTS[who] + BODY)
            # A cookie is what browsers send, and a browser's request must be of the node's own page.
            assert answer.status in ((401, 403) if who == "by a cookie" else (401,)), (route, answer)
            assert b"www-authenticate" in answer.headers or answer.status == 403
            assert len(answer.body) < 1000
    assert reads == []


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("peer", [STRANGER, TRUSTED])
async def test_malformed_credentials_are_refused_whoever_sends_them(
    node: Node, reads: list[str], what: str, peer: str
) -> None:
    async with Wire(address_of(node), peer) as wire:
        for route in ROUTES:
            answer = await wire.ask(route.method, route.path, MALFORMED[what] + BODY)
            assert answer.status == 400, (route, answer)
    assert reads == []


@pytest.mark.parametrize("login", [USER, "Authorization: Bearer let-me-in\r\n"])
async def test_who_has_logged_in_may_inject_and_no_more(node: Node, reads: list[str], login: str) -> None:
    async with Wire(address_of(node), STRANGER) as wire:
        for route in ROUTES:
            if route.access in for_others("user"):
                answer = await wire.ask(route.method, route.path, login + "Content-Length: 0\r\n")
                assert answer.status not in REFUSED, route
            else:
                answer = await wire.ask(route.method, route.path, login + BODY)
                assert answer.status == 401, route
    assert reads == []


NO_BODY = ("/api/admin/bump-config-epoch", "/api/kumo-py/policy/v1/reload")
"""What does something without being told more."""


async def test_trusted_hosts_may(tmp_path: Path) -> None:
    """What the others are refused is there: the tests above would pass too if nothing was."""
    async with http_node(tmp_path) as node, Wire(address_of(node), TRUSTED) as wire:
        for route in ROUTES:
            if route.method == "GET":
                answer = await wire.ask("GET", route.path)
                assert answer.status not in REFUSED, (route, answer)
            else:
                answer = await wire.ask(
                    route.method, route.path, "Content-Type: x/y\r\nContent-Length: 0\r\n"
                )
                assert answer.status == (200 if route.path in NO_BODY else 415), (route, answer)


async def test_other_methods(node: Node, reads: list[str]) -> None:
    """405 says which methods there are to anybody, as it does for paths that are everybody's."""
    overrides = "".join(
        f"{name}: GET\r\n"
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method")
    )
    methods = {
        path: {route.method for route in ROUTES if route.path == path} for path in {r.path for r in ROUTES}
    }
    anybodys = {route.path for route in ROUTES if route.access is Access.ANYBODY}
    async with Wire(address_of(node), STRANGER) as wire:
        for path, known in methods.items():
            for method in METHODS:
                if path in anybodys and method in ("GET", "HEAD"):
                    continue
                answer = await wire.ask(method, path, overrides + BODY)
                there = method in known or (method == "HEAD" and "GET" in known)
                assert answer.status == (401 if there else 405), (method, path, answer)
    async with Wire(address_of(node), TRUSTED) as wire:
        for path, known in methods.items():
            for method in set(METHODS) - known - {"HEAD"}:
                answer = await wire.ask(method, path, overrides + BODY)
                assert answer.status == 405, (method, path, answer)
    assert reads == []


def tricks(path: str) -> list[str]:
    """Other ways to write a path, which some servers take for the same."""
    first, _, rest = path[1:].partition("/")
    letter = next(n for n, char in enumerate(path) if char.isalpha()) if any(map(str.isalpha, path)) else 0
    found = [
        f"/{path}",
        f"//{path}",
        f"/.{path}",
        f"/x/..{path}",
        f"/api/check-liveness/v1/../../..{path}",
        f"/rapidoc/..{path}",
        f"/rapidoc/%2e%2e{path}",
        f"/rapidoc/..%2f{path[1:]}",
        f"/rapidoc{path}",
        f"/%2e{path}",
        f"{path}/.",
        f"{path}%20",
        f"{path}%00",
        f"{path}%0d%0a",
        f"{path};x=y",
        f"{path};",
        f"{path}.json",
        f"{path}%3f",
        f"{path}%23",
        f"{path}//",
        path.replace("/", "\\", 1),
        path.replace("/", "%2f"),
        path.replace("/", "%252f"),
        path.replace("/", "/;/", 1),
        f"{path[:letter]}%{ord(path[letter]):02x}{path[letter + 1 :]}" if letter else f"{path}%61",
        f"{path[:letter]}%u00{ord(path[letter]):02x}{path[letter + 1 :]}" if letter else f"{path}%u0061",
        quote(f"{path[:letter]}\uff41{path[letter + 1 :]}"),
        f"/{first}//{rest}",
        f"/{first}/./{rest}",
    ]
    if path.upper() != path:
        found += [path.upper(), path.title()]
    if path != "/":
        found += [f"{path}/", path[1:], f"*{path}"]
    return [trick for trick in found if trick not in {route.path for route in ROUTES}]


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
async def test_tricks_with_paths(node: Node, reads: list[str], path: str) -> None:
    method = next(route.method for route in ROUTES if route.path == path)
    async with Wire(address_of(node), STRANGER) as wire:
        for trick in tricks(path):
            answer = await wire.ask(method, trick, BODY)
            assert answer.status == 404, (trick, answer)
            assert path not in answer.text or path == "/"
    assert reads == []


TARGETS = (
    "http://127.0.0.1{path}",
    "HTTP://127.0.0.1:80{path}",
    "https://trusted.example{path}",
    "http://user:sesame@127.0.0.1{path}",
    "http://{path}",
    "http:/{path}",
    "//127.0.0.1{path}",
    "ftp://127.0.0.1{path}",
    "http://127.0.0.1/x@{path}",
    "http://127.0.0.1#{path}",
    "127.0.0.1:80",
    "*",
    "{path}?x=http://127.0.0.1/rapidoc",
    "{path}#/rapidoc",
    "{path}?/../../rapidoc",
)


async def test_absolute_and_other_targets(node: Node, reads: list[str]) -> None:
    async with Wire(address_of(node), STRANGER) as wire:
        for route in ROUTES:
            if route.access is Access.ANYBODY:
                continue
            for target in TARGETS:
                answer = await wire.ask(route.method, target.format(path=route.path), BODY)
                # "http://" with nothing after it leaves the path's first part for a host
                assert answer.status in REFUSED, (target, route, answer)
    assert reads == []


@pytest.mark.parametrize(
    ("trusted", "peer", "may"),
    [
        ("'127.0.0.1'", "127.0.0.1", True),
        ("'127.0.0.1'", "127.0.0.2", False),
        ("'::ffff:127.0.0.0/120'", "127.0.0.1", True),
        ("'::1'", "127.0.0.1", False),
        ("'10.0.0.0/8'", "127.0.0.1", False),
    ],
)
async def test_ipv4_clients_of_an_ipv6_listener(
    tmp_path: Path, reads: list[str], trusted: str, peer: str, may: bool
) -> None:
    """They come as ::ffff:127.0.0.1, and are who they are."""
    async with http_node(tmp_path, f"trusted_hosts = {{ {trusted} }}", listen="[::]:0") as node:
        port = address_of(node).rpartition(":")[2]
        async with Wire(f"127.0.0.1:{port}", peer) as wire:
            for route in ROUTES:
                if route.access is not Access.ANYBODY and route.method == "GET":
                    answer = await wire.ask(route.method, route.path)
                    assert (answer.status != 401) == may, (route, answer)


async def test_what_a_refusal_says_is_harmless(node: Node) -> None:
    """A name that a client gives comes back as text, in one line of its own."""
    async with Wire(address_of(node), STRANGER) as wire:
        for user in ("a\r\nSet-Cookie: x=y", "<script>", "\0", "\u2028", "a\tb"):
            encoded = base64.b64encode(f"{user}:x".encode()).decode()
            answer = await wire.ask("GET", "/metrics", f"Authorization: Basic {encoded}\r\n")
            assert answer.status == 401
            assert answer.headers[b"content-type"] == b"text/plain; charset=utf-8"
            assert answer.headers[b"x-content-type-options"] == b"nosniff"
            assert b"set-cookie" not in answer.headers
