"""What a policy's tables become, and what is said of those that are wrong."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.options import OptionError, convert, to_builtins


class Colour(enum.Enum):
    RED = "Red"
    DARK_BLUE = "DarkBlue"


class Celsius(float):
    """A value type: a number, or text ending in C."""

    __slots__ = ()

    @classmethod
    def from_option(cls, value: object) -> Celsius:
        if isinstance(value, str) and value.endswith("C"):
            return cls(float(value[:-1]))
        if isinstance(value, int | float):
            return cls(value)
        raise ValueError(f"{value!r} is not a temperature; write 20 or '20C'")

    def to_option(self) -> str:
        return f"{float(self)!r}C"


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A struct that may also be written as a string."""

    path: str

    @classmethod
    def from_option(cls, value: object) -> Secret:
        if isinstance(value, str):
            return cls(value)
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None

    def to_option(self) -> object:
        return self.path


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 25

    def __post_init__(self) -> None:
        if self.name == "localhost":
            raise ValueError("mail to oneself would loop")


class Path(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    connection_limit: int = 32
    ratio: float = 1.0
    enabled: bool = True
    colour: Colour = Colour.RED
    strategy: Literal["Ttl", "Epoch"] = "Ttl"
    log: Literal["Ignore", "Relay"] | bool = "Ignore"
    warmth: Celsius = Celsius(20)
    cold: Celsius | None = None
    secret: Secret | None = None
    names: list[str] = []
    tags: set[str] = set()
    hosts: list[str | Host] = []
    meta: dict[str, object] = {}
    peer: dict[str, Path] = {}
    from_: str | None = msgspec.field(default=None, name="from")


class Loose(msgspec.Struct):
    a: int = 1


def path(**options: object) -> Path:
    return convert(options, Path, "kumo.make_path")


def complaint(table: object, type_: type = Path) -> str:
    with pytest.raises(OptionError) as caught:
        convert(table, type_, "kumo.make_path")
    prefix, _, text = str(caught.value).partition(": ")
    assert prefix == "kumo.make_path"
    return text


def test_an_empty_table_gives_the_defaults() -> None:
    assert path() == Path()


def test_everything_at_once() -> None:
    made = path(
        connection_limit=5,
        ratio=2,
        colour="DarkBlue",
        strategy="Epoch",
        log=True,
        warmth="25C",
        cold=-3,
        secret="/etc/key",
        names=["a", "b"],
        tags=["x", "x"],
        hosts=["mx", {"name": "mx2", "port": 2525}],
        meta={"k": [1, {}]},
        peer={"10.0.0.0/8": {"connection_limit": 6, "secret": {"path": "/k"}}},
        **{"from": "me"},
    )
    assert made == Path(
        connection_limit=5,
        ratio=2.0,
        colour=Colour.DARK_BLUE,
        strategy="Epoch",
        log=True,
        warmth=Celsius(25),
        cold=Celsius(-3),
        secret=Secret("/etc/key"),
        names=["a", "b"],
        tags={"x"},
        hosts=["mx", Host(name="mx2", port=2525)],
        meta={"k": [1, {}]},
        peer={"10.0.0.0/8": Path(connection_limit=6, secret=Secret("/k"))},
        from_="me",
    )
    assert type(made.warmth) is Celsius
    assert type(made.peer["10.0.0.0/8"]) is Path


@pytest.mark.parametrize("field", ["names", "tags", "hosts"])
def test_an_empty_lua_table_is_an_empty_list_too(field: str) -> None:
    assert path(**{field: {}}) == path(**{field: []}) == Path()
    assert path(peer={"a": {field: {}}}) == path(peer={"a": {}})


@pytest.mark.parametrize("value", [7.0, 7])
def test_a_float_without_a_fraction_is_an_integer(value: float) -> None:
    made = path(connection_limit=value, hosts=[{"name": "a", "port": value}])
    assert (made.connection_limit, type(made.connection_limit)) == (7, int)
    assert made.hosts == [Host(name="a", port=7)]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"conection_limit": 1}, "unknown option 'conection_limit' (did you mean 'connection_limit'?)"),
        (
            {"peer": {"10.0.0.0/8": {"Ratio": 1}}},
            "unknown option 'peer.10.0.0.0/8.Ratio' (did you mean 'ratio'?)",
        ),
        ({"hosts": [{"name": "a", "qqq": 1}]}, "unknown option 'hosts[1].qqq'; the options are name, port"),
        ({1: "x"}, "unknown option '1'"),
        ({"connection_limit": "x"}, "option 'connection_limit' must be an integer, got string 'x'"),
        ({"connection_limit": 1.5}, "option 'connection_limit' must be an integer, got number 1.5"),
        ({"connection_limit": float("nan")}, "option 'connection_limit' must be an integer, got number nan"),
        ({"connection_limit": True}, "option 'connection_limit' must be an integer, got boolean true"),
        ({"connection_limit": None}, "option 'connection_limit' must be an integer, got nil"),
        ({"ratio": "1"}, "option 'ratio' must be a number, got string '1'"),
        ({"enabled": 1}, "option 'enabled' must be true or false, got integer 1"),
        ({"names": "a"}, "option 'names' must be a list, got string 'a'"),
        ({"names": ["a", 2]}, "option 'names[2]' must be a string, got integer 2"),
        ({"names": {"a": 1}}, "option 'names' must be a list, got a table"),
        ({"meta": ["a"]}, "option 'meta' must be a table, got a list"),
        ({"meta": {1: "a"}}, "option 'meta.1' must be a string, got integer 1"),
        ({"from": 1}, "option 'from' must be a string, got integer 1"),
        (
            {"colour": "red"},
            "option 'colour' must be one of 'Red', 'DarkBlue', got string 'red' (did you mean 'Red'?)",
        ),
        ({"strategy": "zzz"}, "option 'strategy' must be one of 'Epoch', 'Ttl', got string 'zzz'"),
        ({"log": 3}, "option 'log' must be one of 'Ignore', 'Relay' or true or false, got integer 3"),
        (
            {"log": "ignore"},
            "option 'log' must be one of 'Ignore', 'Relay', got string 'ignore' (did you mean 'Ignore'?)",
        ),
        (
            {"hosts": [{"name": "a", "port": 0}]},
            "option 'hosts[1].port' must be an integer >= 1 and <= 65535, got integer 0",
        ),
        ({"hosts": ["a", {}]}, "option 'hosts[2].name' is required"),
        ({"hosts": [{"name": "localhost"}]}, "option 'hosts[1]': mail to oneself would loop"),
        ({"warmth": "hot"}, "option 'warmth': 'hot' is not a temperature; write 20 or '20C'"),
        ({"cold": "ice"}, "option 'cold': 'ice' is not a temperature; write 20 or '20C'"),
        (
            {"peer": {"x": {"secret": {"pth": "k"}}}},
            "option 'peer.x.secret': Object contains unknown field `pth`",
        ),
        ({"names": [0], "ratio": 1}, "option 'names[1]' must be a string, got integer 0"),
        ("x", "the argument must be a table, got string 'x'"),
        (["x"], "options have names, such as { connection_limit = … }"),
        ({"ratio": "y" * 99}, f"option 'ratio' must be a number, got string '{'y' * 57}...'"),
    ],
)
def test_an_error_names_the_option_what_is_allowed_and_what_was_given(table: object, text: str) -> None:
    assert complaint(table).startswith(text)


def test_other_types_than_structs_convert_too() -> None:
    assert convert([{"name": "a", "port": 1.0}], list[Host], "f") == [Host(name="a", port=1)]
    assert convert({}, list[Host], "f") == []
    assert complaint([{"name": 1}], list[Host]) == "option '[1].name' must be a string, got integer 1"
    assert complaint({"name": "localhost"}, Host) == "mail to oneself would loop"


def test_a_struct_may_choose_to_ignore_unknown_fields() -> None:
    assert convert({"a": 2.0, "b": 1}, Loose, "f") == Loose(2)


def test_to_builtins_writes_what_lua_sees() -> None:
    made = path(
        secret="/etc/key",
        colour="DarkBlue",
        hosts=["a", {"name": "b"}],
        peer={"x": {"warmth": 3}},
        tags=["t"],
    )
    plain = to_builtins(made)
    assert plain["secret"] == "/etc/key"
    assert plain["colour"] == "DarkBlue"
    assert plain["warmth"] == "20.0C"
    assert plain["hosts"] == ["a", {"name": "b", "port": 25}]
    assert plain["tags"] == ["t"]
    assert plain["from"] is None
    assert isinstance(plain["peer"], dict)
    assert plain["peer"]["x"]["warmth"] == "3.0C"
    assert convert(plain, Path, "f") == made


keys = st.sampled_from([*Path.__struct_encode_fields__, "name", "port", "zz"])
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8)
tables = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(tables)
def test_any_table_gives_a_struct_or_an_option_error(table: object) -> None:
    try:
        made = convert(table, Path, "f")
    except OptionError:
        return
    assert convert(to_builtins(made), Path, "f") == made
