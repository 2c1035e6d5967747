"""The API's description says what the API does: every route is in it, and a real node's answers are what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import inspect as shapes
from test_http_listener import STRANGER, api, policy, ready
from test_node_in_process import running

from kumo_py.admin.access import Access
from kumo_py.admin.call import Call
from kumo_py.admin.endpoint import Endpoint, Parameter, endpoint
from kumo_py.admin.openapi import describe, tag_of
from kumo_py.admin.routes import ROUTES, Route
from kumo_py.core.options import OptionError, convert
from kumo_py.policy.type_names import field_docs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.time_limit(30)

DOCUMENT = describe(ROUTES)


def endpoint_of(route: Route) -> Endpoint:
    assert isinstance(route.endpoint, Endpoint), (
        f"{route.method} {route.path} is not described: use @endpoint"
    )
    return route.endpoint


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


# -- the document --------------------------------------------------------------------------------------------------
def test_every_route_is_described() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        found = operation(route)
        assert len(found["summary"]) > 8, route
        assert not found["summary"].startswith(route.method), route
        assert found["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
        assert len(found["security"]) == (1 if route.access is Access.ANYBODY else 3)
    names = [operation(route)["operationId"] for route in ROUTES]
    assert len(set(names)) == len(names)
    assert tag_of("/api/kumo-py/flush/v1") == "queues"


def test_a_route_that_is_not_described_is_refused() -> None:
    async def nameless(call: Call) -> Any: ...

    with pytest.raises(TypeError, match=r"GET /x: declare what it takes and gives with @endpoint"):
        describe([Route("GET", "/x", Access.TRUSTED, nameless)])


def test_a_description_has_no_method_and_path() -> None:
    @endpoint()
    async def one(call: Call) -> Any:
        """POST /api/x/v1: do something.

        More of it.
        """

    assert one.doc == "Do something.\n\nMore of it."


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    used = set()
    for node in nodes(DOCUMENT):
        if "$ref" in node:
            prefix, _, name = node["$ref"].rpartition("/")
            assert prefix == "#/components/schemas"
            assert name in schemas
            used.add(name)
    assert used == set(schemas)
    for requirement in (one for route in ROUTES for one in operation(route)["security"]):
        assert set(requirement) <= set(DOCUMENT["components"]["securitySchemes"])


def test_it_has_the_form_of_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    for path, methods in DOCUMENT["paths"].items():
        assert path.startswith("/")
        for found in methods.values():
            for parameter in found.get("parameters", ()):
                assert {"name", "in", "schema", "required", "description"} <= set(parameter)
            for status, response in found["responses"].items():
                assert 100 <= int(status) < 600
                assert response["description"]
    for schema in DOCUMENT["components"]["schemas"].values():
        assert set(schema["required"]) <= set(schema["properties"])
        assert schema["description"]


def test_our_own_types_are_told_in_words() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    duration = schemas["SuspendRequest"]["properties"]["duration"]["anyOf"][0]
    assert "1h 30m" in duration["description"]
    left = schemas["Suspension"]["properties"]["duration"]["description"]
    assert left.startswith("What is left of it. A span of time")
    assert schemas["SuspendRequest"]["properties"]["expires"]["anyOf"][0]["format"] == "date-time"
    assert schemas["Recipient"]["properties"]["metadata"]["description"].startswith("Stored as")
    assert schemas["InjectRequest"]["properties"]["template_dialect"]["enum"] == [
        "Handlebars",
        "Jinja",
        "Static",
    ]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_examples_are_what_is_taken(route: Route) -> None:
    one = endpoint_of(route)
    if one.example is not None:
        convert(one.example, one.takes, "example")
    if one.gives.example is not None:
        msgspec.convert(one.gives.example, one.gives.type)


def test_fields_of_requests_keep_their_order_and_their_words() -> None:
    """That a description is found by its field's name, not by the name on the wire."""
    content = DOCUMENT["components"]["schemas"]["Content"]
    assert "from" in content["properties"]
    for struct in (one for route in ROUTES if (one := endpoint_of(route).takes) is not None):
        info = shapes.type_info(struct)
        assert isinstance(info, shapes.StructType)
        shown = DOCUMENT["components"]["schemas"][struct.__name__]["properties"]
        assert list(shown) == [field.encode_name for field in info.fields]
        docs = field_docs(struct)
        for field in info.fields:
            text = " ".join(docs.get(field.name, "").split())
            assert shown[field.encode_name].get("description", text).startswith(text)


# -- the API -------------------------------------------------------------------------------------------------------
def example_of(parameter: Parameter) -> str:
    if parameter.example is not None:
        return parameter.example
    return {"string": "x", "integer": "5", "boolean": "true"}[parameter.type]


async def test_endpoints_do_what_they_declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they ask a request for is declared, and what they answer is of the type that they declare."""
    taken: list[Any] = []
    asked: set[str] = set()
    json_of_call = Call.json

    class Query(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            asked.add(name)
            return super().__getitem__(name)

        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return super().get(name, default)

    async def recording(call: Call, type_: Any) -> Any:
        taken.append(type_)
        return await json_of_call(call, type_)

    monkeypatch.setattr(Call, "json", recording)
    monkeypatch.setattr("kumo_py.admin.routes.dict", Query, raising=False)
    reached = set()
    async with running(policy(tmp_path)) as node, api(node) as client:
        await ready(node)
        made = (await client.post("/api/admin/suspend/v1", json={"reason": "x"})).json()
        await client.post("/api/admin/bounce/v1", json={"reason": "x", "domain": "nowhere.example"})
        await client.post("/api/admin/suspend-ready-q/v1", json={"reason": "x", "name": "x"})
        for route in sorted(ROUTES, key=lambda route: route.method != "GET"):
            one = endpoint_of(route)
            taken.clear()
            asked.clear()
            body = one.example if one.example is not None else {"id": made["id"], "reason": "x", "name": "x"}
            if one.takes is not None and one.example is None:
                fields = one.takes.__struct_fields__
                body = {name: value for name, value in body.items() if name in fields}
            query = {parameter.name: example_of(parameter) for parameter in one.query}
            response = await client.request(route.method, route.path, params=query, json=body)
            assert taken in ([], [one.takes]), route
            assert (taken == []) == (one.takes is None), route
            declared = {parameter.name for parameter in one.query}
            assert asked <= declared, (route, asked)
            assert declared == asked or response.status_code != 200, (route, asked)
            found = operation(route)["responses"]
            assert str(response.status_code) in found, (route, response.status_code, response.text)
            if response.status_code == 200:
                kind = response.headers["content-type"].partition(";")[0]
                assert kind in found["200"]["content"], (route, kind)
                reached.add(route.path)
                if one.gives.type is not None:
                    try:
                        convert(response.json(), one.gives.type, route.path)
                    except OptionError as err:
                        raise AssertionError(f"{route.method} {route.path}: {err}") from None
    assert len(reached) > len({route.path for route in ROUTES}) // 2


async def test_anybody_may_read_it(tmp_path: Path) -> None:
    async with running(policy(tmp_path)) as node, api(node, STRANGER) as client:
        response = await client.get("/api-docs/openapi.json")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.json() == DOCUMENT
        page = await client.get("/rapidoc")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for name in ("/rapidoc/explorer.css", "/rapidoc/explorer.js", "/api-docs/openapi.json"):
            assert name in page.text
            assert (await client.get(name)).status_code == 200
        script = (await client.get("/rapidoc/explorer.js")).text
        assert "innerHTML" not in script
        assert "://" not in script + page.text


def test_it_can_be_printed() -> None:
    command = [sys.executable, "-m", "kumo_py", "serve", "--dump-openapi-spec"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(result.stdout) == DOCUMENT
