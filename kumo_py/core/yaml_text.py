"""YAML as plain data and back, with the scalars of YAML 1.2's core schema as Rust's serde_yaml reads them.

So `yes`, `no`, `on` and `off` are strings, as are dates and numbers with leading zeros. Keys of mappings are the
text that is written. Merge keys (`<<`) are keys like any other. What aliases stand for counts in full, each time.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MAX_DEPTH = 100
MAX_NODES = 1_000_000
"""Values, in maps and lists too, once all aliases are replaced by what they stand for."""

_TAG = "tag:yaml.org,2002:"
_PARSER = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(?:(0|[1-9][0-9]*)|0x([0-9a-fA-F]+)|0o([0-7]+)|0b([01]+))", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", re.ASCII)
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_INTEGER = 40
_ODD_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


class _Anchored:
    """A value that aliases may stand for."""

    __slots__ = ("nodes", "value")

    def __init__(self, value: Any, nodes: int) -> None:  # noqa: ANN401
        self.value = value
        self.nodes = nodes


class _Open:
    """A list or map that is not at its end."""

    __slots__ = ("anchor", "before", "key", "value")

    def __init__(self, value: list[Any] | dict[str, Any], anchor: str | None, before: int) -> None:
        self.value = value
        self.anchor = anchor
        self.before = before
        self.key: str | None = None


class _Builder:
    """Makes a value of a document's events."""

    def __init__(self) -> None:
        self.nodes = 0
        self.anchors: dict[str, _Anchored] = {}
        self.open: list[_Open] = []
        self.documents: list[Any] = []

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self.scalar(event)
            case yaml.AliasEvent():
                found = self.anchors.get(event.anchor or "")
                if found is None:
                    raise ValueError(f"the alias *{event.anchor} stands for nothing, or for what it is in")
                self.count(found.nodes)
                self.put(found.value)
            case yaml.SequenceStartEvent():
                self.begin([], event)
            case yaml.MappingStartEvent():
                self.begin({}, event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self.open.pop()
                if done.anchor is not None:
                    self.anchors[done.anchor] = _Anchored(done.value, self.nodes - done.before)
                self.put(done.value)
            case yaml.DocumentStartEvent() if self.documents:
                raise ValueError("there is more than one document")

    def scalar(self, event: yaml.ScalarEvent) -> None:
        self.count(1)
        inside = self.open[-1] if self.open else None
        if inside is not None and isinstance(inside.value, dict) and inside.key is None:
            inside.key = event.value
            if event.anchor is not None:
                self.anchors[event.anchor] = _Anchored(event.value, 1)
            return
        value = _resolved(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, 1)
        self.put(value)

    def begin(self, value: list[Any] | dict[str, Any], event: yaml.CollectionStartEvent) -> None:
        kind = "seq" if isinstance(value, list) else "map"
        if event.tag not in (None, "!", _TAG + kind):
            raise ValueError(f"the tag {event.tag} is not supported")
        if len(self.open) >= MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        self.open.append(_Open(value, event.anchor, self.nodes))
        self.count(1)

    def put(self, value: Any) -> None:  # noqa: ANN401
        if not self.open:
            self.documents.append(value)
            return
        inside = self.open[-1]
        if isinstance(inside.value, list):
            inside.value.append(value)
        elif inside.key is not None:
            inside.value[inside.key] = value
            inside.key = None
        elif isinstance(value, str):  # an alias
            inside.key = value
        else:
            raise ValueError("a list, a map or what an alias stands for cannot be a key")

    def count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise ValueError(f"it has more than {MAX_NODES} values, aliases counted in full")


def parse_yaml(text: bytes) -> Any:  # noqa: ANN401
    """The one document; None if there is none. Raises ValueError."""
    builder = _Builder()
    line = 0
    try:
        for event in yaml.parse(text.decode(), Loader=_PARSER):
            line = event.start_mark.line if event.start_mark else 0
            builder.take(event)
    except UnicodeDecodeError as err:
        raise ValueError(f"not YAML: byte {err.start + 1} is not UTF-8") from None
    except ValueError as err:
        raise ValueError(f"not YAML: {err} (line {line + 1})") from None
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line if err.problem_mark else line
        raise ValueError(f"not YAML: {err.problem} (line {line + 1})") from None
    except yaml.YAMLError as err:
        raise ValueError(f"not YAML: {' '.join(str(err).split())}") from None
    return builder.documents[0] if builder.documents else None


def _resolved(event: yaml.ScalarEvent) -> Any:  # noqa: ANN401
    """Raises ValueError."""
    text: str = event.value
    if event.tag is None:
        return _plain(text) if event.implicit[0] else text
    if event.tag in ("!", f"{_TAG}str"):
        return text
    value = _plain(text)
    fits = {
        f"{_TAG}null": value is None,
        f"{_TAG}bool": isinstance(value, bool),
        f"{_TAG}int": isinstance(value, int) and not isinstance(value, bool),
        f"{_TAG}float": isinstance(value, int | float) and not isinstance(value, bool),
    }.get(event.tag)
    if fits is None:
        raise ValueError(f"the tag {event.tag} is not supported")
    if not fits:
        raise ValueError(f"'{text[:40]}' is not what its tag {event.tag} says")
    return float(value) if event.tag == f"{_TAG}float" else value


def _plain(text: str) -> Any:  # noqa: ANN401
    """What a scalar without quotes and tag means."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if match := _INTEGER.fullmatch(text):
        base = (10, 16, 8, 2)[match.lastindex - 1]  # type: ignore[operator]
        if len(text) <= _LONGEST_INTEGER:
            number = int(match[match.lastindex], base)  # type: ignore[index]
            return -number if text[0] == "-" else number
        return float(text) if base == 10 else text
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITE.fullmatch(text):
        return math.nan if match[1] is None else -math.inf if match[1] == "-" else math.inf
    return text


class _Dumper(yaml.SafeDumper):
    """Writes every value out, and quotes what either version of YAML would not read as a string."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if _ODD_LINE_ENDS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _text_node)
_Dumper.add_implicit_resolver(f"{_TAG}int", re.compile(f"(?:{_INTEGER.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver(f"{_TAG}float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


def encode_yaml(value: object) -> str:
    """Plain data as a YAML document in block style, keys sorted."""
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=math.inf, sort_keys=True
    )
    return text.removesuffix("...\n")
