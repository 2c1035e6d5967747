"""The `kumo.http` module: an HTTP client, and WebSocket connections to read from."""

from __future__ import annotations

import base64
import codecs
import re
import secrets
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from kumo_py.core.duration import format_duration
from kumo_py.core.url import Url, form_encode, parse_url
from kumo_py.net.http import Headers, HttpRequest, HttpResponse
from kumo_py.net.websocket import MAX_MESSAGE, WebSocket, open_websocket
from kumo_py.policy.conversion import LuaTable, LuaValue, decoded, shown
from kumo_py.policy.http_clients import ClientOptions, HttpClient, HttpPools
from kumo_py.policy.modules.crypto import RequestSigning, sign_request
from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import (
    BOOLEAN,
    BYTES,
    INTEGER,
    TEXT,
    TIME_DELTA,
    ListOf,
    LuaType,
    OneOf,
    OptionTable,
    Values,
)

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

WEBSOCKET_TIMEOUT = 60.0
"""Seconds for connecting and the opening handshake."""

http = Owner("kumo.http")

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';]+)", re.IGNORECASE)
_LEGACY_CHARSETS = re.compile(
    r"cp\d+|iso8859-\d+|koi8-[rut]|mac-roman|big5|gb\w*|euc_\w+|shift_jis|iso2022_jp|utf-16(-[lb]e)?"
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_REASONS = {413: "Payload Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 418: "I'm a teapot"}


class _MapOf:
    """A table from text to values of one type, sorted by its keys: Lua's own order differs from run to run."""

    def __init__(self, item: LuaType) -> None:
        self.item = item
        self.name = f"table<string, {item.name}>"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> list[tuple[str, LuaValue]]:
        if type(raw) is not LuaTable:
            raise ValueError(f"must be a table, got {shown(raw)}")
        pairs = []
        for key, value in raw.items():
            name = TEXT.from_lua(ctx, key, what)
            try:
                pairs.append((name, self.item.from_lua(ctx, value, what)))
            except ValueError as err:
                raise ValueError(f"['{name}'] {err}") from None
        return sorted(pairs, key=lambda pair: pair[0])

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        raise NotImplementedError


class _FilePart:
    """A file of a form: `{data = …, file_name = …}`; Python sees a pair."""

    name = "{ data: string, file_name: string }"

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> tuple[bytes, str]:
        found = dict(raw.items()) if type(raw) is LuaTable else {}
        if set(found) != {b"data", b"file_name"}:
            raise ValueError("must be a table with data and file_name")
        return BYTES.from_lua(ctx, found[b"data"], what), decoded(found[b"file_name"])

    def to_lua(self, ctx: LuaContext, value: LuaValue) -> LuaValue:
        raise NotImplementedError


@dataclass(slots=True)
class Request:
    """A request that a policy puts together."""

    client: HttpClient
    method: str
    url: Url
    timeout: float
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def add(self, name: str, value: bytes) -> None:
        """Raises ValueError for what would not stay one header."""
        key = name.lower().encode()
        if not _TOKEN.fullmatch(key):
            raise ValueError(f"'{name}' is not the name of a header")
        if any(octet in value for octet in b"\r\n\0"):
            raise ValueError(f"the value of header '{name}' has a line break or NUL in it")
        self.headers.append((key, value.strip(b" \t")))

    def add_default(self, name: str, value: bytes) -> None:
        if not any(present == name.encode() for present, _ in self.headers):
            self.add(name, value)


@dataclass(frozen=True, slots=True)
class HeaderMap:
    """A response's headers, names in lower case."""

    headers: Headers

    def first(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


client = Kind("http_client", HttpClient)
request = Kind("http_request", Request)
response = Kind("http_response", HttpResponse)
header_map = Kind("http_headers", HeaderMap)
stream = Kind("websocket", WebSocket)

_URL = Param("url", TEXT)
_TEXTS = _MapOf(TEXT)


@http.function("build_client", Param("options", OptionTable(ClientOptions)), result=client.type)
def build_client(ctx: LuaContext, options: ClientOptions) -> HttpClient:
    """Make an HTTP client. Clients with the same options share their connections, those of other contexts included."""
    if not 0 <= options.max_response_size <= ctx.env.limits.memory:
        raise ValueError(f"option 'max_response_size' must be 0 to {ctx.env.limits.memory}")
    return HttpClient(ctx.env.state(HttpPools), options)


@http.function("build_url", _URL, Param("params", _TEXTS), result=TEXT)
def build_url(ctx: LuaContext, url: str, params: list[tuple[str, str]]) -> str:
    """The URL with parameters added to its query, sorted by their names."""
    return str(parse_url(url).with_params(params))


# -- Client ------------------------------------------------------------------------------------------------------
def _new_request(owner: HttpClient, method: str, text: str) -> Request:
    if not owner.is_open:
        raise ValueError("the client was closed")
    url = parse_url(text)
    made = Request(owner, method, url, owner.options.timeout)
    if owner.options.user_agent is not None:
        made.add("user-agent", owner.options.user_agent.encode())
    if url.username is not None:
        made.add("authorization", _basic(url.username, url.password))
    return made


@client.function("get", _URL, result=request.type)
def get(ctx: LuaContext, owner: HttpClient, url: str) -> Request:
    """Begin a GET request."""
    return _new_request(owner, "GET", url)


@client.function("post", _URL, result=request.type)
def post(ctx: LuaContext, owner: HttpClient, url: str) -> Request:
    """Begin a POST request."""
    return _new_request(owner, "POST", url)


@client.function("put", _URL, result=request.type)
def put(ctx: LuaContext, owner: HttpClient, url: str) -> Request:
    """Begin a PUT request."""
    return _new_request(owner, "PUT", url)


@client.function("close", since="2024.09.02-c5476b89")
def close(ctx: LuaContext, owner: HttpClient) -> None:
    """Give the client up; its idle connections are closed unless another client shares them."""
    owner.close()


# -- Request -----------------------------------------------------------------------------------------------------
@request.function("header", Param("name", TEXT), Param("value", BYTES), result=request.type)
def header(ctx: LuaContext, made: Request, name: str, value: bytes) -> Request:
    """Add a header."""
    made.add(name, value)
    return made


@request.function("headers", Param("headers", _MapOf(BYTES)), result=request.type)
def headers(ctx: LuaContext, made: Request, pairs: list[tuple[str, bytes]]) -> Request:
    """Add headers."""
    for name, value in pairs:
        made.add(name, value)
    return made


@request.function("timeout", Param("duration", TIME_DELTA), result=request.type, since="2024.06.10-84e84b89")
def timeout(ctx: LuaContext, made: Request, seconds: float) -> Request:
    """How long the whole request may take; as the client has it, 60 seconds, unless set."""
    made.timeout = seconds
    return made


@request.function(
    "basic_auth", Param("username", TEXT), Param("password", TEXT, optional=True), result=request.type
)
def basic_auth(ctx: LuaContext, made: Request, username: str, password: str | None) -> Request:
    """Authenticate by name and password (RFC 7617)."""
    made.add("authorization", _basic(username, password))
    return made


def _basic(username: str, password: str | None) -> bytes:
    return b"Basic " + base64.b64encode(f"{username}:{password or ''}".encode())


@request.function("bearer_auth", Param("token", TEXT), result=request.type)
def bearer_auth(ctx: LuaContext, made: Request, token: str) -> Request:
    """Authenticate by a token (RFC 6750)."""
    made.add("authorization", f"Bearer {token}".encode())
    return made


@request.function("body", Param("body", BYTES), result=request.type)
def body(ctx: LuaContext, made: Request, content: bytes) -> Request:
    """Set the content."""
    made.body = content
    return made


@request.function("form_url_encoded", Param("params", _TEXTS), result=request.type)
def form_url_encoded(ctx: LuaContext, made: Request, params: list[tuple[str, str]]) -> Request:
    """Set the content to a form, and the content type to application/x-www-form-urlencoded."""
    made.body = form_encode(params).encode()
    made.add_default("content-type", b"application/x-www-form-urlencoded")
    return made


@request.function(
    "form_multipart_data", Param("params", _MapOf(OneOf(BYTES, _FilePart()))), result=request.type
)
def form_multipart_data(
    ctx: LuaContext, made: Request, params: list[tuple[str, bytes | tuple[bytes, str]]]
) -> Request:
    """Set the content to a form that can hold files, and the content type to multipart/form-data."""
    boundary = secrets.token_hex(16).encode()
    parts = []
    for name, value in params:
        about = f'form-data; name="{_quoted(name)}"'
        content = value
        is_file = isinstance(value, tuple)
        if isinstance(value, tuple):
            content = value[0]
            about += f'; filename="{_quoted(value[1])}"'
        assert isinstance(content, bytes)
        head = f"Content-Disposition: {about}\r\n"
        if is_file or not _is_text(content):
            head += "Content-Type: application/octet-stream\r\n"
        parts.append(b"--%b\r\n%b\r\n%b\r\n" % (boundary, head.encode(), content))
    made.body = b"".join((*parts, b"--%b--\r\n" % boundary))
    made.add("content-type", b"multipart/form-data; boundary=" + boundary)
    return made


def _quoted(text: str) -> str:
    """As browsers write names in forms (RFC 7578 §4.2 leaves it open)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@request.function(
    "aws_sign_v4",
    Param("params", OptionTable(RequestSigning)),
    result=request.type,
    since="2026.03.04-bb93ecb1",
)
async def aws_sign_v4(ctx: LuaContext, made: Request, params: RequestSigning) -> Request:
    """Sign the request for an AWS service, as it is now: method, URL and what `headers` and `payload` say."""
    signed = await sign_request(ctx, params, made.method, made.url)
    made.add("authorization", signed.authorization.encode())
    made.add("x-amz-date", signed.timestamp.encode())
    if signed.content_sha256 is not None:
        made.add("x-amz-content-sha256", signed.content_sha256.encode())
    if params.session_token is not None:
        made.add("x-amz-security-token", params.session_token.encode())
    return made


@request.function("send", result=response.type)
async def send(ctx: LuaContext, made: Request) -> HttpResponse:
    """Send the request, follow redirects, and wait for the whole response."""
    if ctx.env.validating and made.method != "GET":
        raise ValueError("nothing is sent while a configuration is only validated: see _VALIDATING_CONFIG")
    made.add_default("accept", b"*/*")
    outgoing = HttpRequest(made.method, made.url, made.headers, made.body)
    try:
        with trio.fail_after(made.timeout):
            answer = await made.client.pool.fetch(outgoing, max_body=made.client.options.max_response_size)
    except trio.TooSlowError:
        limit = format_duration(made.timeout)
        raise ValueError(f"{made.method} {made.url}: no complete response within {limit}") from None
    ctx.holds(len(answer.body))
    return answer


# -- Response ----------------------------------------------------------------------------------------------------
@response.function("status_code", result=INTEGER)
def status_code(ctx: LuaContext, answer: HttpResponse) -> int:
    """The status, such as 200."""
    return answer.status


@response.function("status_reason", result=TEXT)
def status_reason(ctx: LuaContext, answer: HttpResponse) -> str | None:
    """What the status means in general; nil for one that is not registered."""
    if answer.status in _REASONS:
        return _REASONS[answer.status]
    try:
        return HTTPStatus(answer.status).phrase
    except ValueError:
        return None


def _status_class(name: str, first_digit: int) -> None:
    def is_in_class(ctx: LuaContext, answer: HttpResponse) -> bool:
        return answer.status // 100 == first_digit

    is_in_class.__doc__ = f"Whether the status is {first_digit}xx."
    response.function(f"status_is_{name}", result=BOOLEAN)(is_in_class)


for _digit, _name in enumerate(
    ("informational", "success", "redirection", "client_error", "server_error"), 1
):
    _status_class(_name, _digit)


@response.function("headers", result=header_map.type)
def response_headers(ctx: LuaContext, answer: HttpResponse) -> HeaderMap:
    """The headers: look one up whatever its case, or go through all with pairs."""
    return HeaderMap(answer.headers)


@response.function("content_length", result=INTEGER)
def content_length(ctx: LuaContext, answer: HttpResponse) -> int | None:
    """Octets of the content as the server declared it; nil if it did not."""
    declared = HeaderMap(answer.headers).first(b"content-length")
    return None if declared is None else len(answer.body)


@response.function("text", result=TEXT)
async def text(ctx: LuaContext, answer: HttpResponse) -> str:
    """The content as text: by its byte order mark, else by the charset of its Content-Type, else UTF-8."""
    declared = HeaderMap(answer.headers).first(b"content-type") or b""
    return _decoded_text(answer.body, declared.decode("latin-1"))


def _decoded_text(content: bytes, content_type: str) -> str:
    """What is wrong becomes U+FFFD."""
    for mark, codec in _BOMS:
        if content.startswith(mark):
            return content[len(mark) :].decode(codec, "replace")
    found = _CHARSET.search(content_type)
    codec = "utf-8"
    if found is not None:
        try:
            codec = codecs.lookup(found[1]).name
        except LookupError:
            codec = "utf-8"
    if codec in ("iso8859-1", "ascii"):
        codec = "cp1252"  # what the web means by them
    elif not _LEGACY_CHARSETS.fullmatch(codec):
        codec = "utf-8"  # some of Python's codecs take quadratic time
    return content.decode(codec, "replace")


@response.function("bytes", result=BYTES)
async def bytes_(ctx: LuaContext, answer: HttpResponse) -> bytes:
    """The content as it came."""
    return answer.body


@header_map.meta("index", Param("name", BYTES), result=BYTES)
def header_value(ctx: LuaContext, found: HeaderMap, name: bytes) -> bytes | None:
    """The first header of that name."""
    return found.first(name.lower())


@header_map.meta("pairs")
def header_pairs(ctx: LuaContext, found: HeaderMap) -> Headers:
    """All headers, in their order."""
    return found.headers


# -- WebSocket ---------------------------------------------------------------------------------------------------
@http.function(
    "connect_websocket", _URL, result=Values(stream.type, response.type), since="2024.06.10-84e84b89"
)
async def connect_websocket(ctx: LuaContext, url: str) -> tuple[WebSocket, HttpResponse]:
    """Connect to a ws:// or wss:// URL; gives the stream and the response that opened it."""
    where = parse_url(url, ("ws", "wss"))
    tls = await ctx.env.state(HttpPools).tls.context(verify=True) if where.is_secure else None
    try:
        with trio.fail_after(WEBSOCKET_TIMEOUT):
            return await open_websocket(where, tls)
    except trio.TooSlowError:
        raise ValueError(f"{where}: no connection within {format_duration(WEBSOCKET_TIMEOUT)}") from None


@stream.function("recv", result=BYTES, since="2024.06.10-84e84b89")
async def recv(ctx: LuaContext, connection: WebSocket) -> bytes | None:
    """Wait for the next message; nil once the connection is closed."""
    return await connection.receive()


@stream.function(
    "recv_batch", Param("duration", TIME_DELTA), result=ListOf(BYTES), since="2025.03.19-1d3f1f67"
)
async def recv_batch(ctx: LuaContext, connection: WebSocket, duration: float) -> list[bytes]:
    """The messages that come within a duration; an error if the connection is closed and there are none."""
    messages = []
    size = 0
    with trio.move_on_after(duration):
        while size < MAX_MESSAGE and (message := await connection.receive()) is not None:
            messages.append(message)
            size += len(message)
        if not messages:
            raise ValueError("the websocket is closed")
    return messages
