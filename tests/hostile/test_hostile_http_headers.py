"""Line ends and the like in every text of an injection request: refused, or harmless on the wire.

Fields are taken from the request's type, so that one that is added is attacked too. What is harmless is told by
what the next host gets: exactly the headers of the same request without the attack, and one message each.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
import zstandard
from http_wire import LOGIN, Wire, address_of, http_node
from msgspec import inspect as shapes
from smtp_sink import SmtpSink

from kumo_py.inject import InjectRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from smtp_sink import Delivery

    from kumo_py.daemon import Node

pytestmark = pytest.mark.time_limit(120)

EVIL = "X-Evil: 1"
BREAKS = [
    "\r\n", "\n", "\r", "\r\n\r\n", "\r\n ", "\n\t", " \r\n", "\r\n.\r\n",
    "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\u560a\u560d", "\x7f", "\x1b[2K",
    "%0d%0a", "=0D=0A", "\\r\\n", "&#13;&#10;", "=?utf-8?q?=0D=0A?=", "=?utf-8?b?DQo=?=",
    "{{ '\\r\\n' }}", "{{ line_end }}", "{{{ line_end }}}", '"\r\n', ">\r\n",
]  # fmt: skip
"""What might end a line; `line_end` is a substitution."""

REQUEST: dict[str, Any] = {
    "envelope_sender": "from@a.example",
    "recipients": [
        {
            "email": "to@b.example",
            "name": "Jo",
            "substitutions": {"own": "x"},
            "metadata": {"extra_meta": "x"},
        }
    ],
    "content": {
        "text_body": "text {{ own }} {{ shared }}",
        "html_body": "<p>html {{ own }}</p>",
        "amp_html_body": "<html amp4email>{{ own }}</html>",
        "headers": {
            "X-Own": "{{ own }}",
            "X-Shared": "{{ shared }}",
            "X-Plain": "x",
            "List-Unsubscribe": "<http://x/>",
        },
        "from": {"email": "from@a.example", "name": "From"},
        "subject": "{{ own }} {{ shared }} {{ name }}",
        "reply_to": {"email": "reply@a.example", "name": "Reply"},
        "attachments": [
            {"data": "one", "content_type": "text/plain", "content_id": "one", "file_name": "one.txt"},
            {"data": "two", "content_type": "application/pdf", "content_id": "two", "file_name": "two.pdf"},
        ],
    },
    "substitutions": {"shared": "x", "line_end": "\r\n"},
    "trace_headers": {"received_header": True, "header_name": "X-Trace", "include_meta_names": ["extra"]},
}
WHOLE: dict[str, Any] = REQUEST | {
    "content": "From: <from@a.example>\r\nX-Own: {{ own }}\r\nX-Shared: {{ shared }}\r\nTo: {{ to_header }}\r\n"
    "Subject: {{ own }}\r\n\r\n{{ own }} body\r\n",
}


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all texts, keys included: a place whose last part is None is the key before it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if path[-1:] in (("headers",), ("metadata",), ("substitutions",)):
                yield (*path, key, None)
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from texts(item, (*path, n))
    elif isinstance(value, str):
        yield path


def attacked(request: Any, path: tuple[Any, ...], break_: str) -> Any:
    changed = orjson.loads(orjson.dumps(request))
    holder = changed
    is_key = path[-1] is None
    if is_key:
        path = path[:-1]
    for step in path[:-1]:
        holder = holder[step]
    if is_key:
        holder[f"{path[-1]}{break_}{EVIL}"] = holder.pop(path[-1])
    else:
        holder[path[-1]] = f"{holder[path[-1]]}{break_}{EVIL}"
    return changed


def with_mark(request: Any, number: int) -> Any:
    """So that a delivery is known: by its recipient's domain, which no template fills in."""
    changed = orjson.loads(orjson.dumps(request))
    changed["recipients"].append({"email": f"n{number}@marked.example", "substitutions": {"own": "x"}})
    return changed


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@pytest.fixture
async def node(tmp_path: Path, sink: SmtpSink) -> AsyncIterator[Node]:
    async with http_node(tmp_path, more=LOGIN, to=sink.address) as node:
        yield node


def shape(content: bytes) -> list[tuple[str, ...]]:
    """The names of all headers of the message and of its parts, read as a naive receiver may: any line end counts.

    A continuation line is none of its own. How a part is encoded depends on what is in it.
    """
    found: list[tuple[str, ...]] = []
    head, _, body = content.partition(b"\r\n\r\n")
    found.append(names(head))
    boundaries = re.findall(rb'boundary="?([^";\r\n]+)', content)
    for boundary in boundaries:
        parts = body.split(b"--" + boundary + b"\r\n")[1:]
        found += [names(part.partition(b"\r\n\r\n")[0]) for part in parts]
    return found


def names(head: bytes) -> tuple[str, ...]:
    lines = [line for line in re.split(rb"\r\n|\r|\n|\0", head) if line[:1] not in (b" ", b"\t", b"")]
    found = [re.split(rb"[:\s]", line)[0].decode("latin-1").lower() for line in lines]
    return tuple(name for name in found if name != "content-transfer-encoding")


def test_all_texts_of_the_type_are_attacked() -> None:
    """REQUEST has every field that holds text."""

    def fields(type_: shapes.Type) -> Iterator[str]:
        if isinstance(type_, shapes.StructType):
            for field in type_.fields:
                inner = list(fields(field.type))
                yield from (f"{field.encode_name}.{one}" if one else field.encode_name for one in inner)
        elif isinstance(type_, shapes.UnionType):
            for one in type_.types:
                yield from fields(one)
        elif isinstance(type_, shapes.ListType):
            yield from fields(type_.item_type)
        elif isinstance(type_, shapes.DictType | shapes.StrType):
            yield ""

    attacked = {".".join(str(step) for step in path if isinstance(step, str)) for path in texts(REQUEST)}
    attacked |= {".".join(str(step) for step in path if isinstance(step, str)) for path in texts(WHOLE)}
    for field in fields(shapes.type_info(InjectRequest)):
        assert any(one == field or one.startswith(f"{field}.") for one in attacked), field


PLACES = [(kind, path) for kind, request in (("built", REQUEST), ("whole", WHOLE)) for path in texts(request)]


@pytest.mark.parametrize("dialect", ["Jinja", "Handlebars", "Static"])
async def test_every_text_with_every_line_end(node: Node, sink: SmtpSink, dialect: str) -> None:
    """A message that goes out has the headers that it would have without the attack, none more and none less."""
    expected: dict[int, tuple[Any, ...]] = {}
    taken = 0
    shapes_: dict[tuple[Any, ...], list[tuple[str, ...]]] = {}
    async with Wire(address_of(node)) as wire:

        async def inject(request: Any, case: tuple[Any, ...]) -> None:
            nonlocal taken
            number = len(expected)
            marked = with_mark(request | {"template_dialect": dialect}, number)
            answer = await wire.post("/api/inject/v1", marked)
            assert answer.status in (200, 422), (case, answer)
            expected[number] = case
            if answer.status == 200:
                said = orjson.loads(answer.body)
                assert said["success_count"] + said["fail_count"] == 2, (case, said)
                taken += said["success_count"]

        for kind, path in PLACES:
            request = REQUEST if kind == "built" else WHOLE
            # The same place with something harmless there: a header's name or a file's may look otherwise for it.
            await inject(attacked(request, path, "-x-"), (kind, path, None))
            for break_ in BREAKS if dialect == "Jinja" else BREAKS[::5]:
                await inject(attacked(request, path, break_), (kind, path, break_))
    with trio.fail_after(60):
        while len(sink.deliveries) < taken:  # noqa: ASYNC110
            await trio.sleep(0.02)
    await trio.sleep(0.1)
    assert len(sink.deliveries) == taken  # none is two
    marked: dict[int, Delivery] = {}
    for delivery in sink.deliveries:
        for recipient in delivery.recipients:
            assert re.fullmatch(r"[^\s\x00-\x1f<>]+@[^\s\x00-\x1f<>]+", recipient), recipient
            assert re.fullmatch(r"[^\s\x00-\x1f<>]*", delivery.sender), delivery.sender
        head = delivery.content.partition(b"\r\n\r\n")[0]
        # Whoever it is for: no line of the header says what the attack wanted to.
        for line in re.split(rb"\r\n|\r|\n", head):
            assert not line.lower().startswith(EVIL.lower().encode()), (delivery.recipients, head)
        assert b"\0" not in head
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", delivery.content), delivery.content
        if delivery.recipients[0].endswith("@marked.example"):
            number = int(delivery.recipients[0][1:].partition("@")[0])
            assert number not in marked, "one request made two messages"
            marked[number] = delivery
            if expected[number][2] is None:
                shapes_[expected[number][:2]] = shape(delivery.content)
    assert len(marked) > len(PLACES)
    for number, delivery in marked.items():
        kind, path, break_ = expected[number]
        if (
            break_ is not None
            and (kind, path) in shapes_
            and path[-1] is not None
            and "header_name" not in path
        ):
            if kind == "whole" and path == ("content",):
                continue  # is the message itself
            was, found = list(shapes_[kind, path]), shape(delivery.content)
            if kind == "whole":  # a header that cannot be read, such as for an encoded line end, is left out
                was[0] = tuple(name for name in was[0] if name in found[0])
            assert found[0] == was[0], (kind, path, break_, delivery.content[:2000])
            assert sorted(found) == sorted(was), (kind, path, break_)


async def test_a_substitution_cannot_end_the_header_of_a_whole_message(node: Node, sink: SmtpSink) -> None:
    """Not even the last header, after which only the body would be another one."""
    request = {
        "envelope_sender": "from@a.example",
        "recipients": [{"email": "to@b.example", "substitutions": {"x": "a\r\n\r\nanother body"}}],
        "content": "From: <from@a.example>\r\nSubject: {{ x }}\r\n\r\nbody\r\n",
    }
    async with Wire(address_of(node)) as wire:
        answer = await wire.post("/api/inject/v1", request)
        said = orjson.loads(answer.body)
        assert (said["success_count"], said["fail_count"]) == (0, 1)
        assert "line break" in said["errors"][0]


# -- what operators say --------------------------------------------------------------------------------------------
async def test_reasons_of_operators_stay_in_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reason is logged and becomes part of records: none of it begins a line of its own."""
    evil = 'why\r\n2026-01-01 forged {"type":"Delivery"}\x1b[2K\u2028\0end'
    async with http_node(tmp_path) as node, Wire(address_of(node)) as wire:
        for path, more in (
            ("/api/admin/suspend/v1", {"domain": "b.example"}),
            ("/api/admin/bounce/v1", {"domain": "b.example"}),
            ("/api/admin/suspend-ready-q/v1", {"name": evil}),
            ("/api/admin/rebind/v1", {"data": {"queue": "x"}, "domain": evil}),
        ):
            answer = await wire.post(path, {"reason": evil, **more})
            assert answer.status == 200, answer
            if path != "/api/admin/rebind/v1":
                listed = await wire.ask("GET", path)
                assert orjson.loads(listed.body)[0]["reason"] == evil
                assert b"\r" not in listed.body
        request = REQUEST | {"trace_headers": {}}
        answer = await wire.post("/api/inject/v1", request)
        assert answer.status == 200
        await wire.post("/api/admin/set_diagnostic_log_filter/v1", {"filter": f"kumod=info,{evil}"})
        await wire.ask("GET", f"/nowhere/%0d%0a{'x' * 100}")
        await wire.post("/api/admin/spool-compact/v1", {"name": evil})
        await trio.sleep(0.2)
    said = capsys.readouterr()
    for line in (said.out + said.err).split("\n"):
        assert not line.startswith("2026-01-01 forged"), line
    records = []
    for file in (tmp_path / "logs").iterdir():
        text = zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()
        records += [orjson.loads(line) for line in text.splitlines()]
    [bounced] = [record for record in records if record["type"] == "AdminBounce"]
    assert "why" in bounced["response"]["content"]
