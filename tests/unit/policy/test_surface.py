"""The registry has everything that KumoMTA's policies can name, and a test uses everything that the registry has.

`surface/*.tsv` list KumoMTA's names as of its commit 3ebc1e85 with their tiers: 1 is what nearly every policy needs,
3 what few do. Names that the registry cannot know, such as the fields of a log record, are looked for where they are.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from kumo_py.core.key_source import KeySource
from kumo_py.core.options import OptionError, convert
from kumo_py.core.policy import Rejection
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.dns import parse_resolver
from kumo_py.logs import LogContext, Peer, RecordType, SourceAddress, Tls
from kumo_py.logs.record import RecordEncoder
from kumo_py.message.arf import parse_arf
from kumo_py.message.authentication_results import AuthenticationResult
from kumo_py.message.message import Message
from kumo_py.policy.inventory import take_inventory
from kumo_py.policy.modules.cache_capacity import BUILT_IN_CACHES
from kumo_py.policy.params import AuthInfo
from kumo_py.policy.surface import build_registry
from kumo_py.proto.reply import EnhancedCode, Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec
    from policy_host import MakePolicy

HERE = Path(__file__).parent
TESTS = HERE.parent.parent
INVENTORY = take_inventory(build_registry())

ELSEWHERE = {
    "kumo.xfer": "transfer between nodes comes with the HTTP side",
    "tsa": "the traffic shaping daemon is a program of its own",
    "proxy": "the proxy server is a program of its own",
}
"""Areas that are not the policy runtime's."""

EXCEPTIONS = {
    "tsa_init": ELSEWHERE["tsa"],
    "tsa_load_shaping_data": ELSEWHERE["tsa"],
    "proxy_init": ELSEWHERE["proxy"],
    "proxy_server_auth_rfc1929": ELSEWHERE["proxy"],
    "kumo.tsa.config.monitor": "a name that the shaping helper, a Lua file, gives to an event of its own",
    "kumo.tsa.suspension.subscriber": "a name that the shaping helper, a Lua file, gives to an event of its own",
}
"""Names that are missing on purpose."""

NAMED_BY_USERS = {
    "log_disposition_NAME",
    "log filter_event (user-named)",
    "custom_lua constructor (user-named)",
    "kumo.spawn_task event (user-named)",
    "keysource event (user-named)",
}
"""Events that have no names of their own: the tests of what fires them fire them."""

SHAPES: dict[str, type[msgspec.Struct]] = {
    "authenticationresult": AuthenticationResult,
    "authinfo": AuthInfo,
    "keysource": KeySource,
}
"""Areas that are tables."""

CHECKED_HERE = {"globals", "lua_delivery", "template", "log_record"}
"""Areas with tests of their own below."""

KINDS = {
    "address": "EnvelopeAddress",
    "addressheader": "AddressHeader",
    "connectionmeta": "connection",
    "header": "header",
    "headermap": "headermap",
    "message": "message",
    "mimepart": "mimepart",
    "throttle": "throttle",
    "kumo.aaa disposition": "acl_disposition",
    "kumo.aaa load_acl_map(result)": "acl_map",
    "kumo.amqp client": "amqp_client",
    "kumo.amqp confirm": "amqp_confirm",
    "kumo.counter_series series": "series",
    "kumo.digest Digest": "digest",
    "kumo.fs file": "async_file",
    "kumo.fs metadata": "fs_metadata",
    "kumo.http client": "http_client",
    "kumo.http request": "http_request",
    "kumo.http response": "http_response",
    "kumo.http stream": "websocket",
    "kumo.jsonl batch": "jsonl_batch",
    "kumo.jsonl tailer": "jsonl_tailer",
    "kumo.jsonl writer": "jsonl_writer",
    "kumo.kafka producer": "kafka_producer",
    "kumo.mimepart builder": "builder",
    "kumo.mpsc queue": "queue",
    "kumo.nats client": "nats_client",
    "kumo.regex regex": "regex",
    "kumo.shaping Shaping": "Shaping",
    "kumo.time Time": "Time",
    "kumo.time TimeDelta": "TimeDelta",
    "kumo.time timer": "timer",
    "kumo.uuid Uuid": "uuid",
    "redis connection": "RedisConnection",
    "sqlite connection": "sqlite_connection",
}
"""Our kinds by KumoMTA's areas, and by the variables that its documentation uses for objects."""

CONSTRUCTORS = {
    "kumo.shaping.load options": "kumo.shaping.load",
    "msg:check_fix_conformance": "message:check_fix_conformance",
    "msg:import_headers spec": "message:import_headers",
    "msg:set_scheduling": "message:set_scheduling",
    "memoize": "kumo.memoize",
    "resolver options": "kumo.dns.configure_resolver.options",
    "configure_resolver": "kumo.dns.configure_resolver",
}


def rows(name: str) -> Iterator[dict[str, str]]:
    with (HERE / "surface" / f"{name}.tsv").open() as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def shown(names: list[str]) -> str:
    return "\n" + "\n".join(names)


# -- the registry has what KumoMTA has ---------------------------------------------------------------------
def registered(area: str, name: str) -> bool:
    if area in SHAPES:
        return name in SHAPES[area].__struct_fields__
    variable, colon, member = name.replace(":", ".").partition(".")
    owner = KINDS.get(area) or KINDS.get(f"{area} {variable}" if colon else "")
    if owner is None:
        module, _, last = f"{area}.{name}".rpartition(".")
        return (module, last) in MEMBERS
    return (owner, name if area in KINDS else member) in MEMBERS


MEMBERS = {(one.owner, one.name) for one in INVENTORY.functions}


def test_every_function_method_and_field_exists() -> None:
    missing = [
        f"{row['area']} {row['name']} (tier {row['tier']})"
        for row in rows("functions")
        if row["area"] not in ELSEWHERE and row["area"] not in CHECKED_HERE
        if row["name"] not in EXCEPTIONS and not registered(row["area"], row["name"])
    ]
    assert not missing, shown(missing)


def test_every_event_exists() -> None:
    known = {event.name for event in INVENTORY.events} | NAMED_BY_USERS | set(EXCEPTIONS)
    missing = [row["name"] for row in rows("events") if row["name"] not in known]
    assert not missing, shown(missing)


def test_every_option_exists() -> None:
    known = {
        f"{one.constructor}.{one.option}".replace("[]", "").replace(".*", "") for one in INVENTORY.options
    }
    missing = []
    for row in rows("options"):
        constructor, name = row["constructor"], row["name"]
        if constructor.startswith(("ACL", "proxy")):
            continue
        if constructor == "set_lruttl_cache_capacity":
            if name not in BUILT_IN_CACHES:
                missing.append(f"cache {name}")
            continue
        if name in ("flags", "Hickory / Unbound / HickorySystemConfig / Test / Aggregate"):
            continue  # see the two tests that follow
        label = CONSTRUCTORS.get(constructor, constructor)
        if f"{label}.{name}" not in known and f"kumo.{label}.{name}" not in known:
            missing.append(f"{constructor} {name} (tier {row['tier']})")
    assert not missing, shown(missing)


@pytest.mark.parametrize(
    "config",
    [
        "HickorySystemConfig",
        {"Hickory": {"name_servers": ["192.0.2.1:53"]}},
        {"Unbound": {"name_servers": ["127.0.0.1:53"]}},
        {"Test": {"zones": []}},
        {"Aggregate": ["HickorySystemConfig"]},
    ],
)
def test_every_form_of_a_resolver_is_taken(config: object) -> None:
    parse_resolver(config, "test")


async def test_every_conformance_flag_is_taken(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('mine', function(msg)
          msg:check_fix_conformance(
            'MISSING_COLON_VALUE|NON_CANONICAL_LINE_ENDINGS|NAME_ENDS_WITH_SPACE|LINE_TOO_LONG|NEEDS_TRANSFER_ENCODING',
            'MISSING_DATE_HEADER|MISSING_MESSAGE_ID_HEADER|MISSING_MIME_VERSION'
          )
        end)
    """)
    await lua.load()
    await lua.ask("mine", msg)
    assert b"Mime-Version: 1.0\r\n" in msg.data
    assert b"Message-ID: " in msg.data


# -- names that are not the registry's -----------------------------------------------------------------------
async def test_globals(policy: MakePolicy) -> None:
    lua = policy("""
        assert(_KUMO_CURRENT_EVENT == nil)
        assert(_VALIDATING_CONFIG == nil)
        assert(package.path:find('/opt/kumomta/share/?.lua', 1, true) == 1)
        assert(package.path:find('/opt/kumomta/etc/policy/?/init.lua', 1, true))
        for _, name in ipairs { 'kumo', 'redis', 'sqlite' } do
          assert(require(name))
        end
        assert(not pcall(require, 'kumo.regex'))
        kumo.on('init', function() assert(_KUMO_CURRENT_EVENT == 'init') end)
    """)
    await lua.load()
    await lua.ask("init")
    lua = policy("assert(_VALIDATING_CONFIG == true)", validating=True)
    await lua.load()


async def test_delivery_by_lua(policy: MakePolicy, msg: Message) -> None:
    lua = policy("""
        kumo.on('make.connection', function(domain, tenant, campaign)
          local connection = {}
          function connection:send(msg) return domain .. ' ' .. msg:recipient().email end
          function connection:send_batch(msgs) return #msgs .. ' ' .. tostring(tenant) end
          function connection:close() kumo.reject(500, 'closed') end
          return connection
        end)
    """)
    await lua.load()
    made = await lua.construct("make.connection", "example.org", "acme", None)
    assert await made.call("send", msg) == "example.org user@example.org"
    assert await made.call("send_batch", [msg, msg]) == "2 acme"
    with pytest.raises(Rejection):
        await made.call("close")


TEMPLATES = {
    "cycler": ("{% set c = cycler(['a', 'b']) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "aba"),
    "joiner": ("{% set j = joiner('-') %}{{ j() }}a{{ j() }}b", "a-b"),
    "now": ("{{ now()|dateformat(format='iso') }}", "2027-01-15"),
    "dateformat": ("{{ 0|dateformat(format='iso') }}", "1970-01-01"),
    "datetimeformat": ("{{ 0|datetimeformat(format='unix') }}", "0"),
    "timeformat": ("{{ 3600|timeformat }}", "01:00"),
    "filesizeformat": ("{{ 2048|filesizeformat(true) }}", "2.0 KiB"),
    "pluralize": ("{{ 2|pluralize('y', 'ies') }}", "ies"),
    "normalize_smtp_response": ("{{ 'at 192.0.2.1'|normalize_smtp_response }}", "at {ipaddr}"),
    "log_record": ("{{ log_record.id }}", "x"),
}


def test_all_template_names_are_checked() -> None:
    assert set(TEMPLATES) == {row["name"] for row in rows("functions") if row["area"] == "template"}


@pytest.mark.parametrize("name", TEMPLATES)
async def test_templates(policy: MakePolicy, name: str) -> None:
    template, expected = TEMPLATES[name]
    lua = policy(f"""
        kumo.on('mine', function()
          local log_record = {{ id = 'x' }}
          return kumo.string.eval_template('t', [[{template}]], {{ log_record = log_record }})
        end)
    """)
    await lua.load()
    assert await lua.ask("mine") == expected


REPORT = b"""\
From: reports@isp.example\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=feedback-report; boundary=b\r
\r
--b\r
Content-Type: text/plain\r
\r
A complaint.\r
--b\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: abuse\r
User-Agent: Isp/1\r
Version: 1\r
\r
--b\r
Content-Type: message/rfc822\r
\r
Subject: bought\r
\r
Buy!\r
--b--\r
"""


def test_every_field_of_log_records() -> None:
    response = Response(550, EnhancedCode(5, 7, 1), "no", "RCPT")
    context = LogContext(
        site="mx.example",
        peer=Peer("mx.example", "192.0.2.1", is_secure=True),
        egress_pool="pool",
        egress_source="source",
        source_address=SourceAddress("10.0.0.1:53210", "192.0.2.1:5000", "socks5"),
        tls=Tls("cipher", "TLSv1.3", ["CN=mx"]),
        provider_name="provider",
        session_id="9bcd689e-23d9-41b7-a015-63a1382f8b57",
    )
    report = parse_arf(REPORT)
    assert report is not None
    line = RecordEncoder("557f3ad4-2c8c-11ee-976e-782d7e12e173").message(
        RecordType.Delivery,
        Message(SpoolIdSource(b'policy', 0).next(0), "a@b.example", ("c@d.example",), {}, b"\r\n"),
        response, context, ("c@d.example",), None, 0.0, b"{}", b"{}", report.to_table(),
    )  # fmt: skip
    record = orjson.loads(line)
    for row in rows("functions"):
        if row["area"] == "log_record":
            where = record
            for part in row["name"].split("."):
                assert part in where, row["name"]
                where = where[part]


# -- every name is used by a test --------------------------------------------------------------------------
TEXTS = "\n".join(
    path.read_text(errors="replace")
    for pattern in ("test_*.py", "*.lua")
    for path in TESTS.rglob(pattern)
    if path.name not in ("test_surface.py",)
)


def test_every_function_method_and_field_is_used_by_a_test() -> None:
    called = set(re.findall(r"[A-Za-z_][\w.]*(?=\s*[({'\"\[,)}])", TEXTS))
    methods = set(re.findall(r":(\w+)(?=\s*[({'\"\[])", TEXTS))
    fields = set(re.findall(r"\.(\w+)", TEXTS))
    unused = []
    for one in INVENTORY.functions:
        match one.kind:
            case "function":
                used = one.label in called or any(name.endswith(f".{one.label}") for name in called)
            case "method":
                used = one.name in methods
            case "field" | "constant":
                used = one.name in fields
            case _:
                used = True  # operators have no name to look for
        if not used:
            unused.append(one.label)
    assert not unused, shown(unused)


def test_every_event_is_used_by_a_test() -> None:
    handled = set(re.findall(r"kumo\.on\(\s*['\"]([\w.]+)", TEXTS))
    asked = set(re.findall(r"\bon\s*\(?['\"]([\w.]+)['\"]", TEXTS))
    unused = [event.name for event in INVENTORY.events if event.name not in handled | asked]
    assert not unused, shown(unused)


def test_misspelt_shapes_are_refused() -> None:
    """That SHAPES are what conversions go by."""
    with pytest.raises(OptionError, match=r"unknown option 'identity' .did you mean 'identities'"):
        convert({"identity": []}, AuthInfo, "test")
