from __future__ import annotations

import pytest

from kumo_py.core.suggest import nearest

NAMES = ["connection_limit", "max_message_rate", "smtp_port", "Opportunistic"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conection_limit", "connection_limit"),
        ("connection-limit", "connection_limit"),
        ("SMTP_PORT", "smtp_port"),
        ("opportunistic", "Opportunistic"),
        ("max_msg_rate", "max_message_rate"),
        ("wholly different", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_offered(name: str, expected: str | None) -> None:
    assert nearest(name, NAMES) == expected


def test_of_names_that_differ_only_in_case_the_first_wins() -> None:
    assert nearest("foo", ["Foo", "FOO"]) == "Foo"


def test_no_candidates() -> None:
    assert nearest("a", []) is None
