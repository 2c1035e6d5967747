"""kumo.http: requests, responses, what goes wrong, and what becomes of connections."""

from __future__ import annotations

import gc
import re
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme
from web_server import Answer, Asked, web_server

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy

    from kumo_py.policy import LuaPolicy


async def run(policy: MakePolicy, code: str, *args: object) -> object:
    """The result of Lua code, with `client` and what it was called with as `…`."""
    lua = policy(f"local client = kumo.http.build_client {{}}\nkumo.on('mine', function(...)\n{code}\nend)")
    await lua.load()
    try:
        return await lua.ask("mine", *args)
    finally:
        lua.close()


async def failure(policy: MakePolicy, code: str, *args: object) -> str:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code, *args)
    return str(caught.value)


# -- What is sent ----------------------------------------------------------------------------------------------
async def test_a_request_as_it_goes_out(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/api?x=1"] = Answer(body=b"done")
        result = await run(
            policy,
            """
            local client = kumo.http.build_client { user_agent = 'tester/1' }
            local response = client:post((...) .. '/api?x=1')
              :header('X-One', 'first')
              :headers { ['X-Two'] = 'second', ['x-three'] = 3 }
              :body('{"a":1}\\255')
              :send()
            return { response:status_code(), response:text() }
            """,
            server.url,
        )
        [asked] = server.asked
    assert result == [200, "done"]
    assert (asked.method, asked.target, asked.body) == ("POST", "/api?x=1", b'{"a":1}\xff')
    assert dict(asked.headers) == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "tester/1",
        "x-one": "first",
        "x-two": "second",
        "x-three": "3",
        "accept": "*/*",
        "content-length": "8",
    }


async def test_methods_and_credentials(policy: MakePolicy) -> None:
    async with web_server() as server:
        await run(
            policy,
            """
            local url = ...
            client:get(url .. '/1'):basic_auth('me', 'pä:ss'):send()
            client:put(url .. '/2'):basic_auth('me'):send()
            client:post(url .. '/3'):bearer_auth('token'):send()
            client:get((url .. '/4'):gsub('//', '//user:pw@')):send()
            """,
            server.url,
        )
        asked = server.asked
    assert [one.method for one in asked] == ["GET", "PUT", "POST", "GET"]
    assert [one.header("authorization") for one in asked] == [
        "Basic bWU6cMOkOnNz",
        "Basic bWU6",
        "Bearer token",
        "Basic dXNlcjpwdw==",
    ]
    assert [one.header("content-length") for one in asked] == [None, "0", "0", None]


async def test_forms(policy: MakePolicy) -> None:
    async with web_server() as server:
        await run(
            policy,
            r"""
            local url = ...
            client:post(url):form_url_encoded { key = 'a value&', b = 'ü' }:send()
            client:post(url):form_multipart_data {
              text = 'plain ü',
              ['quo"ted'] = '\xff',
              z = { data = 'content', file_name = 'a"b.txt' },
            }:send()
            """,
            server.url,
        )
        form, multipart = server.asked
    assert form.header("content-type") == "application/x-www-form-urlencoded"
    assert form.body == b"b=%C3%BC&key=a+value%26"
    found = re.fullmatch(r"multipart/form-data; boundary=(\w{32})", multipart.header("content-type") or "")
    assert found is not None
    assert multipart.body.replace(found[1].encode(), b"BOUNDARY").split(b"\r\n") == [
        b"--BOUNDARY",
        b'Content-Disposition: form-data; name="quo%22ted"',
        b"Content-Type: application/octet-stream",
        b"",
        b"\xff",
        b"--BOUNDARY",
        b'Content-Disposition: form-data; name="text"',
        b"",
        "plain ü".encode(),
        b"--BOUNDARY",
        b'Content-Disposition: form-data; name="z"; filename="a%22b.txt"',
        b"Content-Type: application/octet-stream",
        b"",
        b"content",
        b"--BOUNDARY--",
        b"",
    ]


async def test_aws_signature_of_a_request(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.port = server.port
        await run(
            policy,
            """
            client:post((...) .. '/a%20b?x=1&a=2'):body('payload'):aws_sign_v4 {
              access_key = { key_data = 'AKIDEXAMPLE' },
              secret_key = { key_data = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' },
              region = 'us-east-1',
              service = 's3',
              payload = 'payload',
              timestamp = '2015-08-30T12:36:00Z',
              session_token = 'temporary',
            }:send()
            """,
            server.url,
        )
        [asked] = server.asked
    assert asked.header("x-amz-date") == "20150830T123600Z"
    assert asked.header("x-amz-security-token") == "temporary"
    assert asked.header("x-amz-content-sha256") == (
        "239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5"
    )
    authorization = asked.header("authorization") or ""
    assert authorization.startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature="
    )


@pytest.mark.parametrize(
    ("url", "params", "result"),
    [
        (
            "https://example.com/?existing=value",
            "{ a = 1, b = 2 }",
            "https://example.com/?existing=value&a=1&b=2",
        ),
        ("https://Example.com", "{ ['a b'] = '&ü' }", "https://example.com/?a+b=%26%C3%BC"),
        ("https://example.com/x", "{}", "https://example.com/x"),
    ],
)
async def test_build_url(policy: MakePolicy, url: str, params: str, result: str) -> None:
    assert await run(policy, f"return kumo.http.build_url(..., {params})", url) == result


# -- What comes back -------------------------------------------------------------------------------------------
async def test_a_response(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/"] = Answer(
            201, [("X-Thing", "one"), ("X-Thing", "two"), ("Content-Type", "text/plain")], b"\xc3\xbc\0\xff"
        )
        result = await run(
            policy,
            """
            local r = client:get(...):send()
            local headers, seen = r:headers(), {}
            for name, value in pairs(headers) do seen[#seen + 1] = name .. '=' .. value end
            return {
              r:status_code(), r:status_reason(), r:content_length(), headers['x-thing'], headers['X-THING'],
              tostring(headers.nothing), seen, r:bytes() == '\\xc3\\xbc\\0\\xff', r:text() == 'ü\\0\\u{fffd}',
              { r:status_is_informational(), r:status_is_success(), r:status_is_redirection(),
                r:status_is_client_error(), r:status_is_server_error() },
            }
            """,
            server.url,
        )
    assert result == [
        201,
        "Created",
        4,
        "one",
        "one",
        "nil",
        ["x-thing=one", "x-thing=two", "content-type=text/plain", "content-length=4"],
        True,
        True,
        [False, True, False, False, False],
    ]


@pytest.mark.parametrize(
    ("status", "reason", "test"),
    [
        (304, "Not Modified", "redirection"),
        (413, "Payload Too Large", "client_error"),
        (599, "nil", "server_error"),
    ],
)
async def test_statuses(policy: MakePolicy, status: int, reason: str, test: str) -> None:
    async with web_server() as server:
        server.answers["/"] = Answer(status)
        code = f"local r = client:get(...):send()\nreturn {{ tostring(r:status_reason()), r:status_is_{test}() }}"
        assert await run(policy, code, server.url) == [reason, True]


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("text/plain; charset=utf-8", "ü".encode(), "ü"),
        ("text/plain", "ü".encode(), "ü"),
        ('text/plain; charset="ISO-8859-1"', b"\xfc\x80", "ü€"),
        ("text/plain; charset=windows-1251", b"\xff", "я"),
        ("text/plain; charset=shift_jis", "日本".encode("shift_jis"), "日本"),
        ("text/plain; charset=iso-8859-1", b"\xef\xbb\xbf\xc3\xbc", "ü"),
        ("text/plain", b"\xff\xfea\0", "a"),
        ("text/plain; charset=punycode", b"abc-", "abc-"),
        ("text/plain; charset=no-such", b"abc", "abc"),
        ("text/plain; charset=zip", b"abc", "abc"),
    ],
)
async def test_text_has_a_charset(policy: MakePolicy, content_type: str, content: bytes, text: str) -> None:
    async with web_server() as server:
        server.answers["/"] = Answer(200, [("Content-Type", content_type)], content)
        assert await run(policy, "return client:get(...):send():text()", server.url) == text


async def test_a_body_of_unknown_length(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/chunked"] = Answer(200, [("Transfer-Encoding", "chunked")], b"in chunks")
        server.answers["/close"] = Answer(200, [("Connection", "close")], b"until the end")
        result = await run(
            policy,
            """
            local a, b = client:get((...) .. '/chunked'):send(), client:get((...) .. '/close'):send()
            return { a:text(), tostring(a:content_length()), b:text() }
            """,
            server.url,
        )
    assert result == ["in chunks", "nil", "until the end"]


# -- Redirects ---------------------------------------------------------------------------------------------------
async def test_redirects_are_followed(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/see"] = Answer(303, [("Location", "/found?a b")])
        server.answers["/temporary"] = Answer(
            307, [("Location", f"http://localhost:{server.port}/found?a%20b")]
        )
        server.answers["/found?a%20b"] = Answer(body=b"here")
        code = """
            local see = client:post((...) .. '/see'):bearer_auth('secret'):body('content'):send()
            local moved = client:post((...) .. '/temporary'):bearer_auth('secret'):body('content'):send()
            return { see:text(), moved:text() }
        """
        assert await run(policy, code, server.url) == ["here", "here"]
        _, seen, _, moved = server.asked
    assert (seen.method, seen.body, seen.header("authorization")) == ("GET", b"", "Bearer secret")
    assert (moved.method, moved.body) == ("POST", b"content")
    assert moved.header("authorization") is None
    assert moved.header("host") == f"localhost:{server.port}"


async def test_redirects_end(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/loop"] = Answer(302, [("Location", "/loop")])
        server.answers["/nowhere"] = Answer(302, [("Location", "mailto:me@example.com")])
        text = await failure(policy, "client:get((...) .. '/loop'):send()", server.url)
        assert "more than 10 redirects" in text
        assert len(server.asked) == 11
        code = "return client:get((...) .. '/nowhere'):send():status_code()"
        assert await run(policy, code, server.url) == 302


# -- What goes wrong -------------------------------------------------------------------------------------------
async def test_refused(policy: MakePolicy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/x"
    text = await failure(policy, "client:get(...):send()", url)
    assert f"policy.lua:4: http_request:send: GET {url}: Connection refused" in text


@pytest.mark.parametrize("how", ["client:get(...):timeout(0.05)", "client:get(...):timeout('50ms')"])
async def test_timeout(policy: MakePolicy, how: str) -> None:
    async with web_server() as server:

        async def never(asked: Asked) -> Answer:
            await trio.sleep_forever()
            raise AssertionError

        server.answers["/"] = never
        text = await failure(policy, f"{how}:send()", server.url)
        assert "no complete response within 50ms" in text
        await server.until_open(0)


async def test_timeout_of_a_client_covers_the_body(policy: MakePolicy) -> None:
    async with web_server() as server:

        async def slow(asked: Asked) -> Answer:
            await trio.sleep(5)
            return Answer()

        server.answers["/"] = slow
        code = "kumo.http.build_client { timeout = '50ms' }:get(...):send()"
        assert "within 50ms" in await failure(policy, code, server.url)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "closed the connection before it answered"),
        (b"220 smtp.example ESMTP\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!", "peer closed connection"),
        (
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "without a pending proposal",
        ),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", "too"),
    ],
)
async def test_nonsense(policy: MakePolicy, raw: bytes, words: str) -> None:
    async with web_server() as server:
        server.answers["/"] = raw
        assert words in await failure(policy, "client:get(...):send()", server.url)


async def test_a_huge_body(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/"] = Answer(body=b"x" * 100_000)
        code = """
            local client = kumo.http.build_client { max_response_size = 99999 }
            return client:get(...):send()
        """
        assert "the response is larger than 99999 octets" in await failure(policy, code, server.url)
        await server.until_open(0)
        assert await run(policy, "return #client:get(...):send():bytes()", server.url) == 100_000


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("client:get('ftp://h/')", "'ftp://h/' is not a URL that begins with http:// or https://"),
        ("client:get(nil)", "http_client:get: argument 'url' must be a string, got nil"),
        ("client:get('http://h'):header('a b', 'c')", "'a b' is not the name of a header"),
        ("client:get('http://h'):header('a', 'b\\r\\nc: d')", "has a line break"),
        ("client:get('http://h'):timeout('soon')", "must be a duration"),
        (
            "client:get('http://h'):form_multipart_data { a = {} }",
            "['a'] must be a string or a table with data",
        ),
        ("client:get('http://h'):form_url_encoded 'a=b'", "must be a table, got string 'a=b'"),
        ("client:get('http://h'):sent()", "a http_request has no method 'sent'; did you mean send?"),
        ("kumo.http.build_client { timeut = 1 }", "unknown option 'timeut' (did you mean 'timeout'?)"),
        (
            "kumo.http.build_client { max_response_size = 1e12 }",
            "option 'max_response_size' must be 0 to 268435456",
        ),
        ("client:close()\nclient:get('http://h')", "the client was closed"),
        ("kumo.http.build_url('nowhere', {})", "'nowhere' is not a URL"),
    ],
)
async def test_wrong_arguments(policy: MakePolicy, code: str, words: str) -> None:
    text = await failure(policy, code)
    assert re.search(r"policy\.lua:[45]: ", text)
    assert words in text


async def test_nothing_is_posted_while_validating(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/"] = Answer(body=b"ok")
        lua = policy(
            f"kumo.on('get', function() return kumo.http.build_client({{}}):get('{server.url}'):send():text() end)\n"
            f"kumo.on('post', function() kumo.http.build_client({{}}):post('{server.url}'):send() end)",
            validating=True,
        )
        await lua.load()
        assert await lua.ask("get") == "ok"
        with pytest.raises(PolicyError, match="only validated"):
            await lua.ask("post")
        lua.close()


# -- Connections -------------------------------------------------------------------------------------------------
async def load_counting(policy: MakePolicy, options: str = "{}") -> LuaPolicy:
    lua = policy(
        f"local client = kumo.http.build_client {options}\n"
        "kumo.on('fetch', function(url) return client:get(url):send():text() end)\n"
        "kumo.on('close', function() client:close() end)\n"
    )
    await lua.load()
    return lua


async def test_a_connection_serves_all_contexts(policy: MakePolicy) -> None:
    async with web_server() as server:
        waiting = trio.Event()

        async def wait(asked: Asked) -> Answer:
            await waiting.wait()
            return Answer(body=b"late")

        server.answers["/wait"] = wait
        server.answers["/now"] = Answer(body=b"now")
        lua = await load_counting(policy)
        for _ in range(3):
            assert await lua.ask("fetch", f"{server.url}/now") == "now"
        assert server.connections == 1
        async with trio.open_nursery() as nursery:
            for _ in range(
                3
            ):  # at once: each in a context of its own, one of them on the connection there is
                nursery.start_soon(lua.ask, "fetch", f"{server.url}/wait")
            await server.until_open(3)
            waiting.set()
        assert await lua.ask("fetch", f"{server.url}/now") == "now"
        assert server.connections == 3
        lua.close()
        gc.collect()
        await server.until_open(0)


async def test_close_closes_what_nobody_else_has(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/now"] = Answer(body=b"now")
        code = """
            local url, one, two = ..., kumo.http.build_client { timeout = 1 }, kumo.http.build_client { timeout = 2 }
            client:close()
            one:get(url):send()
            one:close()
            one:close()
            two:get(url):send()
            return two:close()
        """
        await run(policy, code, f"{server.url}/now")
        assert server.connections == 1
        await server.until_open(0)


async def test_a_closed_idle_connection_is_replaced(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/now"] = Answer(body=b"now")
        server.answers["/close"] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        lua = await load_counting(policy)
        assert await lua.ask("fetch", f"{server.url}/close") == "ok"
        await server.until_open(0)
        assert await lua.ask("fetch", f"{server.url}/now") == "now"
        assert server.connections == 2
        lua.close()


async def test_an_old_idle_connection_is_closed(policy: MakePolicy) -> None:
    async with web_server() as server:
        server.answers["/now"] = Answer(body=b"now")
        lua = await load_counting(policy, "{ pool_idle_timeout = 0, connection_verbose = true }")
        for _ in range(2):
            await lua.ask("fetch", f"{server.url}/now")
        assert server.connections == 2
        lua.close()


async def test_a_cancelled_request_leaves_the_client_usable(policy: MakePolicy) -> None:
    async with web_server() as server:
        arrived = trio.Event()

        async def never(asked: Asked) -> Answer:
            arrived.set()
            await trio.sleep_forever()
            raise AssertionError

        server.answers["/wait"] = never
        server.answers["/now"] = Answer(body=b"now")
        lua = await load_counting(policy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lua.ask, "fetch", f"{server.url}/wait")
            await arrived.wait()
            nursery.cancel_scope.cancel()
        await server.until_open(0)
        assert await lua.ask("fetch", f"{server.url}/now") == "now"
        lua.close()


async def test_an_early_refusal_of_a_large_body_is_seen(policy: MakePolicy) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await stream.send_eof()
        async for _ in stream:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, refuse, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        code = "return client:post(...):body(('x'):rep(3000000)):send():status_code()"
        assert await run(policy, code, url) == 413
        nursery.cancel_scope.cancel()


# -- TLS ---------------------------------------------------------------------------------------------------------
async def test_tls(policy: MakePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    async with web_server(tls) as server:
        server.answers["/"] = Answer(body=b"private")
        url = f"https://127.0.0.1:{server.port}"
        text = await failure(policy, "client:get(...):send()", url)
        assert f"GET {url}/: TLS: unable to get local issuer certificate" in text
        for option in ("accept_invalid_certs", "danger_accept_invalid_certs"):
            code = f"return kumo.http.build_client {{ {option} = true }}:get(...):send():text()"
            assert await run(policy, code, url) == "private"
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert await run(policy, "return client:get(...):send():text()", url) == "private"
        other = url.replace("127.0.0.1", "localhost")
        assert "Hostname mismatch" in await failure(policy, "client:get(...):send()", other)


async def test_no_tls_where_tls_is_wanted(policy: MakePolicy) -> None:
    async with web_server() as server:
        text = await failure(policy, "client:get(...):send()", f"https://127.0.0.1:{server.port}")
        assert "/: TLS: " in text
