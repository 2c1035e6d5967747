"""What a policy may write where a key is wanted."""

from __future__ import annotations

import msgspec
import pytest

from kumo_py.core.key_source import KeySource
from kumo_py.core.options import OptionError, convert, to_builtins


class Options(msgspec.Struct):
    key: KeySource


def source(value: object) -> KeySource:
    return convert({"key": value}, Options, "f").key


def test_a_string_is_a_path() -> None:
    assert source("/etc/key.pem") == KeySource(path="/etc/key.pem")
    assert source("/etc/key.pem").inline_bytes() is None


@pytest.mark.parametrize(
    ("given", "octets"),
    [
        ("-----BEGIN X-----", b"-----BEGIN X-----"),
        ("c2VjcmV0", b"c2VjcmV0"),
        ([0, 255], b"\0\xff"),
        ("", b""),
    ],
)
def test_key_data_is_taken_as_it_is(given: object, octets: bytes) -> None:
    assert source({"key_data": given}).inline_bytes() == octets


@pytest.mark.parametrize(
    "value",
    [
        "/a/path",
        {"key_data": "text"},
        {"key_data": [200, 1]},
        {"event_name": "my.key", "event_args": ["a", 1]},
        {"event_name": "my.key", "event_args": {}},
        {"vault_mount": "secret", "vault_path": "dkim/example.com", "vault_key": "private"},
    ],
)
def test_what_lua_sees_makes_the_same_source(value: object) -> None:
    options = Options(key=source(value))
    assert convert(to_builtins(options), Options, "f") == options


def test_an_empty_table_is_an_empty_list_of_arguments() -> None:
    assert source({"event_name": "my.key", "event_args": {}}).event_args == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "one of key_data, event_name or vault_path"),
        ({"key_data": "x", "event_name": "y"}, "one of key_data, event_name or vault_path"),
        ({"vault_path": "x"}, "needs vault_mount"),
        ({"key_data": [256]}, "key_data"),
        ({"key_dat": "x"}, "key_dat"),
        (17, "a key source is"),
    ],
)
def test_what_is_no_key_source(value: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        source(value)
