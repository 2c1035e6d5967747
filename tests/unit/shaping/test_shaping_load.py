"""What goes wrong with shaping files, and how it is told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from kumo_py.shaping import LoadOptions, ShapingError, load_shaping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from conftest import Load

    from kumo_py.dns import Resolver

A_TEST = '["a.test"]\nmx_rollup = false\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            A_TEST + "conection_limit = 5",
            "1.toml: [\"a.test\"]: unknown option 'conection_limit' (did you mean 'connection_limit'?)",
        ),
        (
            A_TEST + '["a.test".sources."ip 1"]\nmax_message_rate = "5 per hour"',
            '1.toml: ["a.test".sources."ip 1"]: option \'max_message_rate\': '
            "'5 per hour' is not a throttle: write QUANTITY/PERIOD",
        ),
        (
            '["default"]\nenable_tls = "Oportunistic"',
            "1.toml: [\"default\"]: option 'enable_tls' must be one of 'Disabled', 'Opportunistic',",
        ),
        (
            '["default"]\nadditional_connection_limits = {all = "x"}',
            "option 'additional_connection_limits.all'",
        ),
        ('["default"]\nadditional_connection_limits = 5', "'additional_connection_limits' must be a table"),
        (
            "[provider.p]\nmatch = [{MXSufix = '.x'}]",
            "1.toml: [provider.\"p\"]: unknown option 'match[1].MXSufix' (did you mean 'MXSuffix'?)",
        ),
        ("[provider.p]\nmatch = [{}]", "each entry has one of MXSuffix, DomainSuffix and HostName"),
        ("[provider.p]\nprovider_connection_limit = 0", "option 'provider_connection_limit'"),
        (
            "[provider.p.sources.s]\nprovider_source_selection_rate = 'often'",
            "[provider.\"p\".sources.\"s\"]: option 'provider_source_selection_rate': 'often' is not a throttle",
        ),
        ("[provider]\np = 5", '1.toml: [provider."p"] must be a table'),
        ('["a.test"]\nmx_rollup = "no"', "1.toml: [\"a.test\"]: option 'mx_rollup' must be true or false"),
        ("connection_limit = 5", "1.toml: 'connection_limit' is not inside of a block"),
        ('["a.test"', "1.toml: not TOML"),
        (
            '[["a.test".automation]]\nregex = "("\naction = "Suspend"\nduration = "1h"',
            "1.toml: [\"a.test\"]: automation[1]: option 'regex': '(' is not a regular expression",
        ),
        (
            '[["a.test".automation]]\nregex = "x"\naction = "Suspnd"\nduration = "1h"',
            "automation[1]: option 'action' must be one of",
        ),
        (
            '[["a.test".automation]]\nregex = "x"\nduration = "1h"\n'
            'action = {SetConfig = {name = "conection_limit", value = 1}}',
            "unknown option 'conection_limit' (did you mean 'connection_limit'?)",
        ),
        ('[["a.test".automation]]\nregex = "x"\naction = "Suspend"', "option 'duration' is required"),
        (
            '[["a.test".automation]]\nregex = "x"\naction = "Suspend"\nduration = 1\ntrigger = {Threshold = "5"}',
            "option 'trigger.Threshold': '5' is not a throttle",
        ),
    ],
)
async def test_an_error_names_file_block_and_option(text: str, problem: str, load: Load) -> None:
    with pytest.raises(ShapingError) as raised:
        await load(text)
    assert problem in str(raised.value)


async def test_all_wrong_options_are_told_at_once(load: Load) -> None:
    with pytest.raises(ShapingError) as raised:
        await load(A_TEST + "max_redy = 1\nsmtp_prt = 5", '["default"]\nmax_ready = "x"')
    assert [line.partition(": ")[0] for line in str(raised.value).splitlines()] == [
        "1.toml",
        "1.toml",
        "2.toml",
    ]


async def test_what_was_replaced_may_be_wrong(load: Load) -> None:
    shaping = await load(A_TEST + "max_redy = 1", A_TEST + "replace_base = true\nmax_ready = 1")
    assert await shaping.egress_path_options("a.test", "s", "x") == {"max_ready": 1}


async def test_an_unknown_option_of_a_rule_is_only_warned_of(load: Load) -> None:
    shaping = await load(
        '[["default".automation]]\nregex = "x"\naction = "Suspend"\nduration = 1\nmatch_internl = true'
    )
    assert shaping.warnings == [
        "1.toml: [\"default\"]: automation[1]: option 'match_internl' has no effect; "
        "did you mean 'match_internal'?"
    ]


async def test_a_name_with_a_single_label_was_probably_not_quoted(load: Load) -> None:
    with pytest.raises(ShapingError, match="unknown option 'test'"):
        await load("[a.test]\nmx_rollup = false\n[a]\nmx_rollup = false")
    (warning,) = (await load("[a]\nmx_rollup = false")).warnings
    assert "'a' has a single label" in warning


CHECKED = '["broken.test"]\n["null.test"]\n["big.test"]\nmax_ready = 1\n["hosted.test"]\nsmtp_port = 26\n'


async def test_what_dns_says_is_ignored_unless_asked_for(load: Load) -> None:
    shaping = await load(CHECKED)
    assert (shaping.warnings, shaping.errors) == ([], [])
    (site,) = shaping.sites
    assert await shaping.egress_path_options("x", "s", site) == {"max_ready": 1, "smtp_port": 26}


async def test_what_dns_says_at_the_levels_asked_for(load: Load) -> None:
    text = CHECKED + '[provider.p]\nmatch = [{DomainSuffix = "hosted.test"}]'
    options = LoadOptions(dns_fail="Error", null_mx="Warn", aliased_site="Warn", provider_overlap="Error")
    shaping = await load(text, text, options=options)
    assert [error.partition(" failed")[0] for error in shaping.errors] == [
        '1.toml: ["broken.test"]: MX lookup for broken.test',
        '2.toml: ["broken.test"]: MX lookup for broken.test',
        "domain hosted.test is also matched by provider(s): p",
    ]
    assert [warning[:8] for warning in shaping.warnings[:2]] == ["1.toml: ", "2.toml: "]
    assert shaping.warnings[2].endswith(": big.test, hosted.test")
    assert len(shaping.warnings) == 3


async def test_a_file_that_is_not_there(resolver: Resolver) -> None:
    shaping = await load_shaping(["/nowhere/x.toml"], resolver)
    assert shaping.errors == ["local shaping source /nowhere/x.toml error: No such file or directory"]
    shaping = await load_shaping(["/nowhere/x.toml"], resolver, LoadOptions(local_load="Warn"))
    assert shaping.errors == []
    assert len(shaping.warnings) == 1
    assert (await load_shaping(["/nowhere/x.toml"], resolver, LoadOptions())).warnings == []


async def test_json_and_files_whose_names_say_nothing(tmp_path: Path, resolver: Resolver) -> None:
    json = tmp_path / "a.json"
    json.write_text('{"default": {"max_ready": 5}}')
    plain = tmp_path / "plain"
    plain.write_text('{"default": {"smtp_port": 26}}')
    toml = tmp_path / "other"
    toml.write_text('["default"]\nconnection_limit = 1')
    shaping = await load_shaping([str(json), str(plain), str(toml)], resolver)
    assert await shaping.egress_path_options("x", "s", "x") == {
        "max_ready": 5,
        "smtp_port": 26,
        "connection_limit": 1,
    }
    plain.write_text("neither")
    (error,) = (await load_shaping([str(plain)], resolver)).errors
    assert error.startswith(f"parsing {plain}: as toml: not TOML")
    assert "as json: not JSON" in error
    for wrong in ("[]", "x", '{"default": {"max_ready": "x"}}'):
        json.write_text(wrong)
        with pytest.raises(ShapingError, match="json"):
            await load_shaping([str(json)], resolver)


@asynccontextmanager
async def web_server(answer: Callable[[str], bytes]) -> AsyncIterator[str]:
    """Answers each request for a path with these bytes, and closes."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = await stream.receive_some(65536)
            await stream.send_all(answer(request.split()[1].decode()))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


def ok(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def test_data_from_a_server(resolver: Resolver) -> None:
    def answer(path: str) -> bytes:
        if path == "/moved.toml":
            return b"HTTP/1.1 302 Found\r\nLocation: /shaping.toml\r\nContent-Length: 0\r\n\r\n"
        return (
            ok('["default"]\nmax_ready = 5')
            if path == "/shaping.toml"
            else b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
        )

    async with web_server(answer) as url:
        shaping = await load_shaping([f"{url}/moved.toml"], resolver)
        assert await shaping.egress_path_options("x", "s", "x") == {"max_ready": 5}
        shaping = await load_shaping([f"{url}/broken.toml"], resolver, LoadOptions(remote_load="Error"))
        assert shaping.errors == [f"remote shaping source {url}/broken.toml error: the server answered 500"]
        shaping = await load_shaping([f"{url}/shaping.toml"], resolver, LoadOptions(skip_remote=True))
        assert await shaping.egress_path_options("x", "s", "x") == {}
        assert shaping.warnings == [f"Ignoring {url}/shaping.toml because skip_remote is set to true"]


async def test_a_server_that_does_not_answer_is_waited_for_a_while(resolver: Resolver) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, silent, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/x.toml"
        options = LoadOptions(remote_load="Warn", http_timeout=0.05)  # type: ignore[arg-type]
        shaping = await load_shaping([url], resolver, options)
        nursery.cancel_scope.cancel()
    assert shaping.warnings == [f"remote shaping source {url} error: no complete answer within 0.05s"]
