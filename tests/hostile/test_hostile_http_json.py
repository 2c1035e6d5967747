"""Hostile JSON to every endpoint that takes any: refused in words, at once, and the node goes on.

Requests are made from the types that the endpoints declare: a field that is added is attacked too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
from http_wire import TRUSTED, Wire, address_of, http_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect as shapes

from kumo_py.admin.endpoint import Endpoint
from kumo_py.admin.routes import ROUTES
from kumo_py.core.options import is_option_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from http_wire import Answer

    from kumo_py.admin.routes import Route
    from kumo_py.daemon import Node

pytestmark = pytest.mark.time_limit(120)

LIMIT = 64 * 1024 * 1024
QUICK = 1.0
"""Seconds that the answer to a small request may take, on a machine that does other things too."""
SLOW = 5.0
"""Seconds for one of tens of megabytes."""


def endpoint_of(route: Route) -> Endpoint:
    assert isinstance(route.endpoint, Endpoint)
    return route.endpoint


TAKING = [route for route in ROUTES if endpoint_of(route).takes is not None]
EACH = pytest.mark.parametrize("route", TAKING, ids=lambda route: f"{route.method} {route.path}")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with http_node(tmp_path, f"request_body_limit = {LIMIT}") as node:
        yield node
        async with Wire(address_of(node)) as wire:  # it still answers
            answer = await wire.ask("GET", "/api/check-liveness/v1")
            assert (answer.status, answer.took < QUICK) == (200, True)


async def send(wire: Wire, route: Route, body: bytes, head: str = "") -> Answer:
    head = f"Content-Type: application/json\r\n{head}"
    return await wire.ask(route.method, route.path, head, body)


def is_sound(route: Route, answer: Answer, within: float = QUICK) -> bool:
    """No failure of ours: what an endpoint says it fails with (KumoMTA has 500 for some) is none."""
    fine = answer.status < 500 or answer.status in endpoint_of(route).fails
    said = "internal" not in answer.text and "should not happen" not in answer.text
    # A refusal quotes what was sent, but not all of it.
    return fine and said and answer.took < within and (answer.status == 200 or len(answer.body) < 10_000)


# -- a request that is right, and its fields -----------------------------------------------------------------------
def sample(type_: shapes.Type) -> Any:
    """A value of the type."""
    match type_:
        case shapes.UnionType():
            return sample(next(one for one in type_.types if not isinstance(one, shapes.NoneType)))
        case shapes.StructType() if not is_option_value(type_):
            return {field.encode_name: sample(field.type) for field in type_.fields}
        case shapes.ListType() | shapes.VarTupleType():
            return [sample(type_.item_type)]
        case shapes.DictType():
            return {"x": sample(type_.value_type)}
        case shapes.BoolType():
            return False
        case shapes.IntType():
            return 1
        case shapes.FloatType():
            return 1.5
        case shapes.LiteralType():
            return type_.values[0]
        case shapes.EnumType():
            return next(iter(type_.cls)).value
        case shapes.UUIDType():
            return "00000000-0000-4000-8000-000000000000"
        case shapes.CustomType() | shapes.StructType():
            return "2027-01-15T18:00:00Z" if type_.cls.__name__ == "Timestamp" else "5m"
    return "x@y.example"


def alternatives(type_: shapes.Type) -> Iterator[tuple[dict[str, Any], Any]]:
    """Right requests, each with the part that is new in it: the whole, then other members of the unions in it."""
    assert isinstance(type_, shapes.StructType)
    base = sample(type_)
    yield base, base
    for field in type_.fields:
        if isinstance(field.type, shapes.UnionType):
            members = [one for one in field.type.types if not isinstance(one, shapes.NoneType)]
            for one in members[1:]:
                other = sample(one)
                yield base | {field.encode_name: other}, other


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers inside, and the keys of what is in them."""
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from places(value[key])
    elif isinstance(value, list):
        for n in range(len(value)):
            yield value, n
            yield from places(value[n])


WRONG: list[bytes] = [
    b"null", b"true", b"false", b"0", b"-1", b"0.5", b"-0", b"1e308", b"1e400", b"-1e400", b"9" * 400,
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"1" + b"0" * 5000, b"1e-400",
    b'""', b'" "', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u2028"', b'"\\r\\nBcc: x@y.example"',
    b'"' + b"x" * 100_000 + b'"', b'"%s%n{{ }}{% %}"', b'"\xf0\x9f\x92\xa9"', b'"../../etc/passwd"', b'"{{"',
    b"[]", b"{}", b"[[]]", b'[{"a": 1}]', b'{"a": {}}', b'{"": null}', b'{"__class__": "x"}', b"[null]",
    b'{"$ref": "#"}', b"[" * 200 + b"]" * 200, b'{"a":' * 200 + b"1" + b"}" * 200, b'"\\u202e@\\u202e"',
    b'["x", 1, null, {}, []]', b'"9999-99-99T99:99:99Z"', b'"9999999999999999999999 years"', b'"-5m"', b'"5"',
]  # fmt: skip
"""JSON that is something else, or means something bad, in most places."""
MARK = b'"\xf3\xb0\x80\x80"'
"""Stands for one of these until the rest is written."""


@EACH
async def test_each_field_with_each_wrong_value(node: Node, route: Route) -> None:
    refused = 0
    info = shapes.type_info(endpoint_of(route).takes)
    async with Wire(address_of(node)) as wire:
        for request, part in alternatives(info):
            for holder, key in list(places(part)):
                before = holder[key]
                holder[key] = MARK[1:-1].decode()
                template = orjson.dumps(request)
                holder[key] = before
                assert MARK in template
                for wrong in WRONG:
                    answer = await send(wire, route, template.replace(MARK, wrong))
                    assert is_sound(route, answer), (key, wrong[:100], answer)
                    refused += answer.status in (400, 422)
    assert refused > len(WRONG) // 2


@EACH
async def test_unknown_keys_at_every_level(node: Node, route: Route) -> None:
    """Refused by name wherever a struct is; where anything goes, taken."""
    info = shapes.type_info(endpoint_of(route).takes)
    free = {"substitutions", "metadata", "headers", "data"}
    async with Wire(address_of(node)) as wire:
        for request, _ in alternatives(info):
            for path, holder in levels(request):
                if free & set(path):
                    continue
                holder["no_such_option"] = 1
                answer = await send(wire, route, orjson.dumps(request))
                del holder["no_such_option"]
                assert answer.status == 422, (path, answer)
                assert "no_such_option" in answer.text


def levels(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in list(value.items()):
            yield from levels(item, (*path, key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from levels(item, (*path, n))


@EACH
async def test_each_field_missing(node: Node, route: Route) -> None:
    info = shapes.type_info(endpoint_of(route).takes)
    assert isinstance(info, shapes.StructType)
    async with Wire(address_of(node)) as wire:
        for field in info.fields:
            request = {name: value for name, value in sample(info).items() if name != field.encode_name}
            answer = await send(wire, route, orjson.dumps(request))
            assert is_sound(route, answer)
            if field.required:
                assert answer.status == 422
                assert f"'{field.encode_name}'" in answer.text


# -- whole bodies --------------------------------------------------------------------------------------------------
WHOLE: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n",
    "no JSON": b"reason=x",
    "XML": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    "a string": b'"x"',
    "a number": b"1",
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "two values": b"{} {}",
    "something behind": b'{"reason": "x"} x',
    "a trailing comma": b'{"reason": "x",}',
    "comments": b'{"reason": "x" /* c */}',
    "single quotes": b"{'reason': 'x'}",
    "NaN": b'{"duration": NaN, "reason": "x"}',
    "infinity": b'{"duration": Infinity, "reason": "x"}',
    "a byte order mark": b'\xef\xbb\xbf{"reason": "x"}',
    "UTF-16": '{"reason": "x"}'.encode("utf-16"),
    "UTF-32": '{"reason": "x"}'.encode("utf-32"),
    "no UTF-8": b'{"reason": "\xff\xfe"}',
    "overlong UTF-8": b'{"reason": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"reason": "\xed\xa0\x80"}',
    "NUL": b'{"reason": "a\0b"}',
    "NUL alone": b"\0",
    "a line end in a string": b'{"reason": "a\r\nb"}',
    "cut off": b'{"reason": "x',
    "an escape cut off": b'{"reason": "\\u12',
    "deep lists": b"[" * 100_000,
    "deep lists, closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep in a field": b'{"reason":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge number": b'{"duration": ' + b"9" * 1_000_000 + b"}",
    "a huge exponent": b'{"duration": 1e' + b"9" * 100_000 + b"}",
    "many keys": b"{" + b",".join(b'"k%d":0' % n for n in range(100_000)) + b"}",
    "many equal keys": b"{" + b",".join([b'"reason":"x"'] * 100_000) + b',"no_such_option":1}',
    "a long key": b'{"' + b"k" * 1_000_000 + b'": 1}',
    "a long string": b'{"reason": 5, "x": "' + b"x" * 10_000_000 + b'"}',
    "escapes": b'{"reason": 5, "x": "' + b"\\u0041" * 1_000_000 + b'"}',
    "a long list": b'{"reason": [' + b"0," * 1_000_000 + b"0]}",
    "a long list of objects": b'{"reason": [' + b"{}," * 1_000_000 + b"{}]}",
    "a long list of lists": b"[" + b"[]," * 1_000_000 + b"[]]",
}


@pytest.mark.parametrize("what", WHOLE)
async def test_bodies_that_are_not_what_is_wanted(node: Node, what: str) -> None:
    body = WHOLE[what]
    async with Wire(address_of(node)) as wire:
        for route in TAKING if len(body) < 500_000 else TAKING[:2]:
            answer = await send(wire, route, body)
            assert answer.status in (400, 422), (route, answer.status, answer.text[:300])
            assert is_sound(route, answer, SLOW if len(body) > 1_000_000 else QUICK), (route, answer.took)


async def test_a_key_twice(node: Node) -> None:
    """The last one counts, everywhere in the same way: nothing that looks at a request could see another value."""
    body = b'{"name": "first", "reason": "x", "name": "second"}'
    async with Wire(address_of(node)) as wire:
        answer = await wire.post("/api/admin/suspend-ready-q/v1", body)
        assert answer.status == 200
    assert list(node.admin.ready) == ["second"]


async def test_lua_has_one_empty_table_and_json_two(node: Node) -> None:
    """What a policy may write is not what a request may: this would bounce everything."""
    async with Wire(address_of(node)) as wire:
        for names in (b"{}", b'{"x": "y"}'):
            body = b'{"reason": "x", "queue_names": %b}' % names
            assert (await wire.post("/api/admin/bounce/v1", body)).status == 422
    assert node.admin.list_bounces() == []


REQUEST = {
    "envelope_sender": "from@a.example",
    "recipients": [{"email": "to@b.example"}],
    "content": {"subject": "x", "from": {"email": "from@a.example"}, "text_body": "x"},
}


async def test_many_recipients_of_which_the_last_is_wrong(node: Node) -> None:
    """What is wrong is found in one pass, and not at the node's expense."""
    good = b'{"email":"to@b.example","name":"x","substitutions":{"a":{"b":["c"]}},"metadata":{"x":[1,2,3]}},'
    head = b'{"envelope_sender":"f@a.example","content":"x","recipients":['
    body = head + good * 100_000 + b'{"email":5}]}'
    async with Wire(address_of(node)) as wire:
        answer = await wire.post("/api/inject/v1", body)
        assert answer.status == 422
        assert answer.took < SLOW
        assert "100001" in answer.text or "100000" in answer.text


async def test_the_node_goes_on_while_it_reads(node: Node) -> None:
    """A large body that is wrong at its end keeps nobody else waiting for long."""
    good = b'{"email":"to@b.example","name":"x"},'
    head = b'{"envelope_sender":"f@a.example","content":"x","recipients":['
    body = (
        head + good * 50_000 + b'{"email":5}]}'
    )  # 1.8 MB: less than a listener takes unless it is told otherwise
    worst = 0.0
    async with (
        Wire(address_of(node)) as wire,
        Wire(address_of(node)) as other,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            nonlocal worst
            while True:
                answer = await other.ask("GET", "/api/check-liveness/v1")
                worst = max(worst, answer.took)
                await trio.sleep(0.005)

        nursery.start_soon(ask)
        for _ in range(3):
            answer = await wire.post("/api/inject/v1", body)
            assert answer.status == 422
        nursery.cancel_scope.cancel()
    assert worst < 0.5


@pytest.mark.parametrize("depth", [20, 100, 250, 600, 1000])
@pytest.mark.parametrize("place", ["substitutions", "metadata", "own", "headers"])
async def test_deep_values_where_anything_goes(node: Node, depth: int, place: str) -> None:
    request = orjson.loads(orjson.dumps(REQUEST))
    here = MARK[1:-1].decode()
    if place == "substitutions":
        request["substitutions"] = {"x": here}
        request["content"]["subject"] = "{{ x }}"
    elif place == "headers":
        request["content"]["headers"] = {"X-Deep": here}
    else:
        request["recipients"][0]["metadata" if place == "metadata" else "substitutions"] = {"x": here}
    async with Wire(address_of(node)) as wire:
        for opening, closing in ((b'{"a":', b"}"), (b"[", b"]")):
            for deferred in (False, True):
                body = orjson.dumps(request | {"deferred_generation": deferred})
                deep = opening * depth + b"1" + closing * depth
                answer = await wire.post("/api/inject/v1", body.replace(MARK, deep))
                assert answer.status in (200, 400, 422), answer
                assert answer.took < QUICK
                assert "internal error" not in answer.text


# -- anything ------------------------------------------------------------------------------------------------------
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("route", TAKING, ids=lambda route: f"{route.method} {route.path}")
def test_anything(route: Route, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Random bodies, of the fields that there are and of others."""
    info = shapes.type_info(endpoint_of(route).takes)
    assert isinstance(info, shapes.StructType)
    right = sample(info)
    fields = st.fixed_dictionaries(
        {}, optional={name: st.just(value) | JSON for name, value in right.items()}
    )
    bodies: list[bytes] = []

    @settings(
        max_examples=60,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(st.binary(max_size=200) | (JSON | fields).map(_json))
    def collect(body: bytes) -> None:
        bodies.append(body)

    collect()

    async def run() -> None:
        async with (
            http_node(tmp_path_factory.mktemp("node")) as node,
            Wire(address_of(node), TRUSTED) as wire,
        ):
            for body in bodies:
                answer = await send(wire, route, body)
                assert is_sound(route, answer), (body, answer)

    trio.run(run)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):
        return str(value).encode("utf-8", "replace")
