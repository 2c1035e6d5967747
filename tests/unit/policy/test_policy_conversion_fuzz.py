"""Values between Lua and Python, of any kind: they arrive as they are, or the policy gets an error that it can read."""

from __future__ import annotations

import gc
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from kumo_py.core.options import is_option_value
from kumo_py.core.policy import PolicyError
from kumo_py.message.connection import ConnectionMeta
from kumo_py.policy.surface import build_registry
from kumo_py.policy.types import OptionTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from policy_host import MakePolicy

    from kumo_py.message.message import Message
    from kumo_py.policy.registry import Function

pytestmark = pytest.mark.time_limit(60)

SECONDS = 1.0
"""CPU time that one piece of Lua code may take."""

POLICY = """
function endless() local t = {} t.t = t return t end
function deep(n) local t = {} for _ = 1, n do t = { t } end return t end
function wide(n) local t = {} for i = 1, n do t['k' .. i] = i end return t end
memoized = kumo.memoize(function(x) return { x, { a = x } } end, { name = 'm', ttl = '1s', capacity = 5 })
kumo.on('mine', function(msg, conn, code)
  return assert(load('local kumo, msg, conn = ... ' .. code))(kumo, msg, conn)
end)
"""


# -- Lua text -----------------------------------------------------------------------------------------------------
def quoted(text: str | bytes) -> str:
    """A string literal."""
    octets = text if isinstance(text, bytes) else text.encode()
    plain = (chr(n) if chr(n).isalnum() and n < 128 else f"\\{n:03}" for n in octets)
    return f"'{''.join(plain)}'"


def literal(value: object) -> str:
    """Plain data as Lua writes it."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return "math.mininteger" if value == -(2**63) else str(value)
        case float():
            return f"{value!r}"
        case str():
            return quoted(value)
        case list():
            return f"{{ {', '.join(map(literal, value))} }}"
        case dict():
            return f"{{ {', '.join(f'[{literal(key)}] = {literal(item)}' for key, item in value.items())} }}"
    raise TypeError(value)


def table(items: list[tuple[str | None, str]]) -> str:
    """A table of Lua texts; those without a key are list items."""
    return f"{{ {', '.join(item if key is None else f'[{key}] = {item}' for key, item in items)} }}"


# -- what may be in it --------------------------------------------------------------------------------------------
PLAIN = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)

STRINGS = st.sampled_from(
    ["", "a", "5m", "-1", "10/s", "1e999", "null", "true", "/", "*", "x@y.example", "a.example", "10.0.0.0/8",
     "127.0.0.1:25", "2026-01-01T00:00:00Z", "a\r\nb", "é", "%s", "{{x}}", "(a", "9" * 400, "x" * 3000,
     b"\xff\xfe", b"\0"]
).map(quoted) | st.binary(max_size=8).map(quoted)  # fmt: skip
NUMBERS = st.sampled_from(
    ["0", "1", "-1", "5", "255", "65536", "0.5", "3.0", "2^53", "2^63", "1e19", "1e308", "-1e308", "1e-320", "1/0",
     "-1/0", "0/0", "math.maxinteger", "math.mininteger"]
)  # fmt: skip
OBJECTS = st.sampled_from(
    ["nil", "true", "false", "msg", "conn", "kumo", "print", "function() end", "coroutine.create(print)",
     "kumo.make_queue_config {}", "kumo.regex.compile 'a'", "kumo.time.now()", "kumo.time.parse_duration '5m'",
     "msg:recipient()", "msg:from_header()", "msg:parse_mime()", "kumo.digest.sha1 'a'", "memoized 'x'",
     "kumo.serde.json_parse '[]'", "endless()", "deep(99)", "deep(101)", "deep(3000)", "wide(500)",
     "{ 1, nil, 3, [10] = 2, [-1] = 5, [2.5] = 1 }", "setmetatable({}, { __index = error, __len = error })",
     "setmetatable({ 1, 2 }, { __len = function() return 1e9 end })", "setmetatable({}, { __pairs = error })"]
)  # fmt: skip
KEYS = (
    st.none()
    | STRINGS
    | NUMBERS.filter(lambda number: number != "0/0")
    | OBJECTS.filter(lambda o: o != "nil")
)
JUNK = st.recursive(
    STRINGS | NUMBERS | OBJECTS,
    lambda inner: st.lists(st.tuples(KEYS, inner), max_size=4).map(table),
    max_leaves=10,
)


@cache
def options(struct: type) -> st.SearchStrategy[str]:
    """Tables that resemble what the struct takes."""
    fields = inspect.type_info(struct).fields  # type: ignore[attr-defined]
    known = [st.tuples(st.just(quoted(field.encode_name)), fitting(field.type)) for field in fields]
    strange = st.tuples(KEYS, JUNK)
    required = [one for one, field in zip(known, fields, strict=True) if field.required]
    return st.builds(
        lambda given, more: table([*given, *more]),
        st.tuples(*required),
        st.lists(st.one_of(*known, *known, strange), max_size=4),
    )


def fitting(type_: inspect.Type) -> st.SearchStrategy[str]:
    """What the type takes, or might."""
    match type_:
        case inspect.UnionType():
            right = st.one_of(*map(fitting, type_.types))
        case inspect.LiteralType():
            right = st.sampled_from([literal(value) for value in type_.values])
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            item = fitting(type_.item_type)
            right = st.lists(item, max_size=2).map(lambda items: table([(None, one) for one in items]))
        case inspect.DictType():
            pairs = st.tuples(STRINGS, fitting(type_.value_type))
            right = st.lists(pairs, max_size=2).map(lambda items: table([*items]))
        case inspect.StructType() if not is_option_value(type_):
            right = st.deferred(lambda: options(type_.cls))
        case inspect.StrType():
            right = STRINGS
        case inspect.IntType() | inspect.FloatType():
            right = NUMBERS
        case inspect.BoolType():
            right = st.sampled_from(["true", "false"])
        case _:
            right = STRINGS | NUMBERS
    return right | right | right | JUNK


EFFECTS = {
    "kumo.spawn_task",
    "kumo.amqp.basic_publish",
    "kumo.kafka.build_producer",
    "kumo.nats.connect",
    "redis.open",
    "kumo.configure_redis_throttles",
}
"""They need a node, or a server."""


def constructors() -> list[Function]:
    registry = build_registry()
    functions = [one for module in registry.modules.values() for one in module.functions]
    return [
        one
        for one in functions
        if one.is_public and any(isinstance(param.type, OptionTable) for param in one.params)
        and one.label not in EFFECTS
    ]  # fmt: skip


def calls() -> st.SearchStrategy[str]:
    """A call of any function that takes a table of options."""

    def call(function: Function) -> st.SearchStrategy[str]:
        arguments = [
            options(param.type.struct) | JUNK if isinstance(param.type, OptionTable) else JUNK
            for param in function.params
        ]
        place = function.owner if function.owner.startswith("kumo") else f"require '{function.owner}'"
        return st.tuples(*arguments).map(lambda texts: f"{place}.{function.name}({', '.join(texts)})")

    return st.one_of(*map(call, constructors()))


def examples(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """The same ones each time."""
    found: list[Any] = []

    @settings(max_examples=count)
    @given(strategy)
    def collect(value: object) -> None:
        found.append(value)

    collect()
    return found


# -- running it ---------------------------------------------------------------------------------------------------
@pytest.fixture
def run(policy: MakePolicy, msg: Message) -> Callable[..., Any]:
    """Run Lua code that sees `msg` and `conn`."""
    lua = policy(POLICY)

    async def run(code: str) -> Any:
        if not lua.epoch:
            await lua.load()
        msg.meta.clear()
        return await lua.ask("mine", msg, ConnectionMeta(), code)

    return run


async def checked(run: Callable[..., Any], code: str) -> bool:
    """Whether the code ran; if it did not, the policy's author can read why."""
    started = time.process_time()
    problem = ""
    try:
        await run(code)
    except PolicyError as err:
        problem = str(err)
    assert time.process_time() - started < SECONDS, code
    assert "internal error" not in problem, code
    assert "outside of the policy" not in problem, code
    return not problem


async def test_plain_values_are_kept(run: Callable[..., Any], msg: Message) -> None:
    for value in examples(PLAIN, 150):
        assert await run(f"msg:set_meta('kept', {literal(value)}) return msg:get_meta 'kept'") == value
        assert msg.meta == {"kept": value}


async def test_plain_values_survive_json_yaml_and_toml(run: Callable[..., Any]) -> None:
    for value in examples(PLAIN, 100):
        text = literal(value)
        for kind in ("json", "yaml"):
            code = f"return kumo.serde.{kind}_parse(kumo.serde.{kind}_encode({text}))"
            assert await run(code) == value
        for how in ("toml_encode", "toml_encode_pretty", "toml_encode_pretty_compact"):
            assert await run(f"return kumo.serde.toml_parse(kumo.serde.{how} {{ v = {text} }}).v") == value


async def test_any_value_is_kept_or_refused(run: Callable[..., Any], msg: Message) -> None:
    kept = 0
    for junk in examples(JUNK, 300):
        kept += await checked(run, f"msg:set_meta('a', {junk}) conn:set_meta('a', {junk}) return {junk}")
        kept += await checked(run, f"local q = kumo.mpsc.define 'q' q:try_send({junk}) return q:try_recv()")
        await checked(run, f"return msg:get_meta({junk})")
        await checked(run, f"local m = kumo.cidr.make_map {{ ['::1'] = {junk} }} return m['::1']")
    assert kept > 100


async def test_any_value_is_encoded_or_refused(run: Callable[..., Any]) -> None:
    functions = [
        "json_encode",
        "json_encode_pretty",
        "yaml_encode",
        "toml_encode",
        "toml_encode_pretty_compact",
    ]
    encoded = 0
    for junk in examples(JUNK, 150):
        for name in functions:
            encoded += await checked(run, f"return kumo.serde.{name}({junk})")
    assert encoded > 100


async def test_any_options_are_taken_or_explained(run: Callable[..., Any]) -> None:
    assert len(constructors()) > 30
    taken = 0
    for call in examples(calls(), 800):
        taken += await checked(run, call)
    assert taken > 10  # about 50 as a rule: the examples are not all junk


# -- what was found -----------------------------------------------------------------------------------------------
async def test_errors_hold_no_lua_object_longer_than_its_coroutine(run: Callable[..., Any]) -> None:
    """Each error ends a coroutine. What lupa gave to a function in it crashed the process when it was let go of."""
    codes = [
        "kumo.make_queue_config { protocol = { smtp = { mx_list = { 1 } } } }",
        "kumo.make_egress_path({ connection_limit = {} }, {}, print)",
        "kumo.json_encode { print }",
        "msg:set_meta({}, { print })",
        "kumo.string.replace('a', {}, {}, {})",
        "return { print }",
    ]
    collect = "collectgarbage() collectgarbage() local t = {} for i = 1, 20000 do t[i] = { i, 'x' .. i } end"
    kept = []
    gc.disable()
    try:
        for _ in range(20):
            for code in codes:
                with pytest.raises(PolicyError) as caught:
                    await run(code)
                kept.append(caught.value)
        await run(collect)
        kept.clear()
    finally:
        gc.enable()
    gc.collect()
    await run(collect)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kumo.string.splitn('a', 1e19, 'b')", "argument 'limit' must be an integer, got number 1e+19"),
        ("kumo.mpsc.define('q'):try_send { [{}] = 1 }", "cannot have a table as a key"),
        (
            "kumo.mpsc.define('q'):try_send { [kumo.make_queue_config {}] = 1 }",
            "cannot have a table as a key",
        ),
        ("kumo.serde.toml_encode { a = { { 1, nil, 3 } } }", "TOML has no nil, but item 2 of a list is nil"),
        (
            "kumo.make_egress_path { max_ready = 1e19 }",
            "option 'max_ready' must be an integer, got number 1e+19",
        ),
        ("kumo.traceback(2^53)", "'level' must be an integer from 0 to 1000000, got 9.007"),
        ("kumo.traceback {}", "'level' must be an integer from 0 to 1000000, got table"),
    ],
)
async def test_what_was_an_internal_error(run: Callable[..., Any], code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(code)
    assert problem in str(caught.value)


async def test_options_that_are_not_set_are_left_out_of_toml(run: Callable[..., Any]) -> None:
    code = """
      local text = kumo.serde.toml_encode { config = kumo.make_queue_config { retry_interval = '1m' } }
      return kumo.make_queue_config(kumo.serde.toml_parse(text).config).retry_interval
    """
    assert await run(code) == "1m"


async def test_a_suspension_may_last_for_ages(run: Callable[..., Any]) -> None:
    code = """
      kumo.api.admin.suspend_ready_q.suspend { name = 'x', reason = 'y', duration = 1e18 }
      return kumo.api.admin.suspend_ready_q.list()[1].expires
    """
    assert await run(code) == "9999-12-31T23:59:59Z"
