"""Handlebars templates: the subset that mail needs, as KumoMTA's engine (handlebars-rust) understands it.

Variables `{{a.b}}` (HTML-escaped if asked for) and `{{{a}}}`, `#if` `#unless` `#each` `#with` with `else` chains,
block parameters, `..`, `this`, `@root` `@index` `@key` `@first` `@last`, helpers and sub-expressions, raw blocks,
comments, white space control by `~` and of lines that hold nothing but a tag. A name that a scope lacks is looked
for in the outer ones, and what is nowhere is empty. Partials and decorators are refused.

A rendering does a bounded amount of work: MAX_STEPS nodes, MAX_OUTPUT characters, MAX_NESTING blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.core.handlebars_helpers import HELPERS, HelperError, rendered, truthy
from kumo_py.core.handlebars_tags import HandlebarsError, Tag, split_tags
from kumo_py.core.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Handlebars", "HandlebarsError"]

MAX_STEPS = 200_000
"""Nodes that one rendering may visit: about 0.2 s."""
MAX_OUTPUT = 64 * 1024 * 1024
"""Characters of one rendering."""
MAX_NESTING = 50
"""Blocks within blocks, and sub-expressions within sub-expressions."""

_BLOCKS = ("if", "unless", "each", "with")
_WORDS = {"true": True, "false": False, "null": None, "undefined": None}
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"[^"]*"|'[^']*')
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?=[\s)|]|\Z)
    | (?P<mark>[()|])
    | (?P<option>[\w-]+)=
    | (?P<path>(?:\[[^\]]*\]|[^\s()|="'\[\]{}~!#%&*+,;<>^`])+)
    )""",
    re.VERBOSE,
)
_SEGMENT = re.compile(r"\[([^\]]*)\]|([^./\[\]]+)")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;", "`": "&#x60;", "=": "&#x3D;"}
)


class _Path(NamedTuple):
    """`../a.b`: ups 1, names a and b. `@index` is local. An exact path is not looked for in outer scopes."""

    ups: int
    names: tuple[str, ...]
    is_local: bool
    is_exact: bool


class _Literal(NamedTuple):
    value: object


class _Call(NamedTuple):
    helper: str
    arguments: tuple[_Expression, ...]
    line: int


class _Output(NamedTuple):
    expression: _Expression
    escaped: bool
    line: int


@dataclass(slots=True)
class _Block:
    kind: str
    subject: _Expression
    names: tuple[str, ...]
    """Block parameters."""
    include_zero: bool
    line: int
    is_chained: bool
    """It stands in the `else` of the block before, and ends with it."""
    body: list[_Node] = field(default_factory=list)
    otherwise: list[_Node] | None = None


_Expression = _Path | _Literal | _Call
_Node = str | _Output | _Block


class Handlebars:
    """A compiled template."""

    __slots__ = ("_escape", "_nodes")

    def __init__(self, source: str, *, escape: bool) -> None:
        """escape: whether `{{a}}` escapes HTML. Raises HandlebarsError."""
        self._nodes = _parsed(source)
        self._escape = escape

    def render(self, context: object) -> str:
        """context: plain data, most often a dict. Raises HandlebarsError."""
        run = _Run(self._escape)
        run.nodes(self._nodes, _Scope(context, None, {"root": context}))
        return "".join(run.pieces)


# -- from source to tree -----------------------------------------------------------------------------------
def _parsed(source: str) -> list[_Node]:
    root: list[_Node] = []
    here = root
    open_: list[_Block] = []
    for piece in split_tags(source):
        if isinstance(piece, str):
            if piece:
                here.append(piece)
            continue
        text, line = piece.text, piece.line
        if text[:1] == "#":
            block = _block(text[1:], line, is_chained=False)
            here.append(block)
            open_.append(block)
            here = block.body
        elif text[:1] == "/":
            name = text[1:].strip()
            while open_ and open_[-1].is_chained:
                open_.pop()
            if not open_ or open_[-1].kind != name:
                wanted = f"{{{{/{open_[-1].kind}}}}}" if open_ else "no block to be open"
                raise HandlebarsError(f"{{{{/{name}}}}} is not expected here, but {wanted}", line)
            open_.pop()
            here = _end_of(open_[-1]) if open_ else root
        elif piece.is_else:
            if not open_ or open_[-1].otherwise is not None:
                raise HandlebarsError("{{else}} belongs in a block, once", line)
            here = open_[-1].otherwise = []
            chained = text.removeprefix("^").removeprefix("else").strip()
            if chained:
                block = _block(chained, line, is_chained=True)
                here.append(block)
                open_.append(block)
                here = block.body
        else:
            here.append(_output(piece))
        if len(open_) > MAX_NESTING:
            raise HandlebarsError(f"more than {MAX_NESTING} blocks within each other", line)
    if open_:
        raise HandlebarsError(f"{{{{#{open_[0].kind}}}}} has no end", open_[0].line)
    return root


def _end_of(block: _Block) -> list[_Node]:
    return block.body if block.otherwise is None else block.otherwise


def _output(tag: Tag) -> _Output:
    text, escaped = tag.text, not tag.is_triple
    if text[:1] in (">", "*"):
        raise HandlebarsError("partials and decorators are not supported", tag.line)
    if text[:1] == "&":
        text, escaped = text[1:], False
    words = _Words(text, tag.line)
    return _Output(words.call(), escaped, tag.line)


def _block(text: str, line: int, *, is_chained: bool) -> _Block:
    if text[:1] in (">", "*"):
        raise HandlebarsError("partials and decorators are not supported", line)
    kind, _, rest = text.strip().partition(" ")
    if kind not in _BLOCKS:
        near = nearest(kind, _BLOCKS)
        hint = f"did you mean #{near}?" if near else f"there are {', '.join(f'#{name}' for name in _BLOCKS)}"
        raise HandlebarsError(f"Helper not found {kind}; {hint}", line)
    words = _Words(rest, line)
    subject = words.expression(0)
    names, options = words.ending()
    include_zero = options.pop("includeZero", _Literal(False)) == _Literal(True)
    if options:
        raise HandlebarsError(f"#{kind} has no option {next(iter(options))}", line)
    return _Block(kind, subject, names, include_zero, line, is_chained)


class _Words:
    """Reads the inside of a tag."""

    __slots__ = ("_line", "_next", "_tokens")

    def __init__(self, text: str, line: int) -> None:
        self._line = line
        self._tokens: list[tuple[str, str]] = []
        self._next = 0
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._wrong(f"cannot be read at '{text[position : position + 20]}'")
            position = match.end()
            kind = match.lastgroup or ""
            self._tokens.append((kind, match[kind]))

    def call(self) -> _Expression:
        """All of it: a variable, or a helper with its arguments."""
        if len(self._tokens) == 1:
            return self.expression(0)
        call = self._call(0)
        if self._next < len(self._tokens):
            raise self._wrong(f"has '{self._tokens[self._next][1]}' too much")
        return call

    def expression(self, depth: int) -> _Expression:
        if depth > MAX_NESTING:
            raise self._wrong(f"has more than {MAX_NESTING} expressions within each other")
        kind, text = self._take()
        match kind:
            case "text":
                return _Literal(text[1:-1])
            case "number":
                return _Literal(int(text) if text.lstrip("-").isdigit() else float(text))
            case "path" if text in _WORDS:
                return _Literal(_WORDS[text])
            case "path" if text in HELPERS and depth == 0 and len(self._tokens) == 1:
                return _Call(text, (), self._line)
            case "path":
                return _path(text)
            case "mark" if text == "(":
                call = self._call(depth + 1)
                if self._take() != ("mark", ")"):
                    raise self._wrong("has a '(' without ')'")
                return call
        raise self._wrong(f"has '{text}' where a value is wanted" if text else "has no value")

    def ending(self) -> tuple[tuple[str, ...], dict[str, _Expression]]:
        """What may follow a block's subject: options, and `as |name name|`."""
        options: dict[str, _Expression] = {}
        while self._peek() == "option":
            _, option = self._take()
            options[option] = self.expression(0)
        names: list[str] = []
        if self._next < len(self._tokens):
            words = [text for _, text in self._tokens[self._next :]]
            names = words[2:-1]
            if words[:2] != ["as", "|"] or words[-1] != "|" or not 1 <= len(names) <= 2:
                raise self._wrong(f"has '{' '.join(words)}' where `as |name|` may stand")
        return tuple(names), options

    def _call(self, depth: int) -> _Call:
        kind, name = self._take()
        if kind != "path" or name not in HELPERS:
            near = nearest(name, HELPERS)
            hint = f"; did you mean {near}?" if near else ""
            raise HandlebarsError(f"Helper not found {name}{hint}", self._line)
        arguments: list[_Expression] = []
        while (kind := self._peek()) not in ("", "option") and self._tokens[self._next] != ("mark", ")"):
            arguments.append(self.expression(depth))
        if kind == "option":
            raise self._wrong(f"has the option '{self._tokens[self._next][1]}', but {name} has none")
        return _Call(name, tuple(arguments), self._line)

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _take(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            return "", ""
        self._next += 1
        return self._tokens[self._next - 1]

    def _wrong(self, what: str) -> HandlebarsError:
        return HandlebarsError(f"the tag {what}", self._line)


def _path(text: str) -> _Path:
    is_local = text[:1] == "@"
    rest = text[1:] if is_local else text
    ups, is_exact = 0, False
    while rest == ".." or rest.startswith("../"):
        ups, rest, is_exact = ups + 1, rest[3:], True
    if rest.startswith("./"):
        rest, is_exact = rest[2:], True
    if rest in ("this", ".", ""):
        return _Path(ups, (), is_local, True)
    if rest.startswith(("this.", "this/")):
        rest, is_exact = rest[5:], True
    names = tuple(bracketed or plain for bracketed, plain in _SEGMENT.findall(rest))
    return _Path(ups, names, is_local, is_exact)


# -- from tree to text -------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Scope:
    """locals: @index and its like; root's are its own. names: block parameters."""

    value: object
    outer: _Scope | None
    locals: Mapping[str, object]
    names: Mapping[str, object] = field(default_factory=dict)


_MISSING = object()


class _Run:
    __slots__ = ("_escape", "_room", "_steps", "pieces")

    def __init__(self, escape: bool) -> None:
        self._escape = escape
        self._steps = MAX_STEPS
        self._room = MAX_OUTPUT
        self.pieces: list[str] = []

    def nodes(self, nodes: list[_Node], scope: _Scope) -> None:
        for node in nodes:
            self._steps -= 1
            if isinstance(node, str):
                self._write(node, 0)
            elif isinstance(node, _Output):
                text = rendered(self._value(node.expression, scope))
                if self._escape and node.escaped:
                    text = text.translate(_ESCAPES)
                self._write(text, node.line)
            else:
                self._block(node, scope)

    def _write(self, text: str, line: int) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise HandlebarsError(f"the text has more than {MAX_OUTPUT} characters", line)
        self.pieces.append(text)

    def _block(self, block: _Block, scope: _Scope) -> None:
        if self._steps < 0:
            raise HandlebarsError(f"the template takes more than {MAX_STEPS} steps", block.line)
        value = self._value(block.subject, scope)
        otherwise = block.otherwise or []
        match block.kind:
            case "if":
                self.nodes(block.body if truthy(value, block.include_zero) else otherwise, scope)
            case "unless":
                self.nodes(otherwise if truthy(value, block.include_zero) else block.body, scope)
            case "with" if truthy(value):
                self.nodes(
                    block.body, _Scope(value, scope, {}, dict(zip(block.names, (value,), strict=False)))
                )
            case "each" if isinstance(value, list | dict) and value:
                for inner in _iterations(block, value, scope):
                    self._steps -= 1
                    if self._steps < 0:
                        raise HandlebarsError(f"the template takes more than {MAX_STEPS} steps", block.line)
                    self.nodes(block.body, inner)
            case _:
                self.nodes(otherwise, scope)

    def _value(self, expression: _Expression, scope: _Scope) -> object:
        if isinstance(expression, _Path):
            return _found(expression, scope)
        if isinstance(expression, _Literal):
            return expression.value
        arguments = [self._value(one, scope) for one in expression.arguments]
        try:
            return HELPERS[expression.helper](arguments)
        except HelperError as err:
            raise HandlebarsError(f"{expression.helper}: {err}", expression.line) from None


def _iterations(block: _Block, value: list[object] | dict[str, object], scope: _Scope) -> Iterator[_Scope]:
    is_object = isinstance(value, dict)
    last = len(value) - 1
    for n, (key, item) in enumerate(value.items() if isinstance(value, dict) else enumerate(value)):
        locals_: dict[str, object] = {"index": n, "first": n == 0, "last": n == last}
        if is_object:
            locals_["key"] = key
        yield _Scope(item, scope, locals_, dict(zip(block.names, (item, key), strict=False)))


def _found(path: _Path, scope: _Scope) -> object:
    ups = path.ups
    here: _Scope | None = scope
    while ups and here is not None:
        here, ups = here.outer, ups - 1
    if path.is_local:
        while here is not None:
            if path.names and path.names[0] in here.locals:
                found = _inside(here.locals[path.names[0]], path.names[1:])
                return None if found is _MISSING else found
            here = here.outer
        return None
    while here is not None:
        if not path.is_exact and path.names[0] in here.names:
            found = _inside(here.names[path.names[0]], path.names[1:])
        else:
            found = _inside(here.value, path.names)
        if found is not _MISSING:
            return found
        here = None if path.is_exact else here.outer
    return None


def _inside(value: object, names: tuple[str, ...]) -> object:
    for name in names:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and len(name) < 10 and int(name) < len(value):
            value = value[int(name)]
        else:
            return _MISSING
    return value
