from __future__ import annotations

import pytest

from kumo_py.dns import mx_list_site_name, site_name


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        ([], ""),
        (["mx.example.com"], "mx.example.com"),
        (["mx.Example.com."], "mx.example.com"),
        (["m5.a.example", "m6.a.example", "m7.a.example"], "(m5|m6|m7).a.example"),
        (["M5.A.example", "m6.a.Example"], "(m5|m6).a.example"),
        (["m5.a.example", "m5.a.example"], "m5.a.example"),
        # Where some host is shorter, the column is optional.
        (["in.l.example", "alt1.in.l.example", "alt2.in.l.example"], "(alt1|alt2)?.in.l.example"),
        (["alt1.in.l.example", "in.l.example"], "alt1?.in.l.example"),
        (["a.b.c", "c"], "a?.b?.c"),
        # Labels are listed as they are met, so another order is another site.
        (["x.mail.one.com", "y.mail.two.net"], "(x|y).mail.(one|two).(com|net)"),
        (["y.mail.two.net", "x.mail.one.com"], "(y|x).mail.(two|one).(net|com)"),
        # A port belongs to the last label.
        (["m5.example:25", "m6.example:25"], "(m5|m6).example:25"),
        (["m5.example:25", "m6.example:26"], "(m5|m6).(example:25|example:26)"),
    ],
)
def test_site_name(hosts: list[str], name: str) -> None:
    assert site_name({10: hosts}) == name


def test_hosts_count_in_preference_order() -> None:
    assert site_name({20: ["a.example"], 10: ["b.example"]}) == "(b|a).example"


def test_an_mx_list_is_its_own_site() -> None:
    assert mx_list_site_name(["b.example", "[192.0.2.1]:25"]) == "mx_list:b.example,[192.0.2.1]:25"
