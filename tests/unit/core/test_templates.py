"""Named templates: what is filled in, how it is escaped, and what a template cannot do."""

from __future__ import annotations

import pytest

from kumo_py.core.template_dates import formatted
from kumo_py.core.templates import MAX_OUTPUT, TemplateError, Templates

NOW = 1_700_000_000.5  # 2023-11-14 22:13:20.5 UTC
SATURDAY = 1_687_624_642  # 2023-06-24 16:37:22 UTC


@pytest.fixture
def templates() -> Templates:
    return Templates(lambda: NOW)


def test_jinja_fills_in_values_as_minijinja_shows_them(templates: Templates) -> None:
    context = {"s": "x<y", "yes": True, "nothing": None, "d": {"k": [1, "a", None]}, "self": 3}
    assert templates.render("plain", "{{ s }} {{ yes }} {{ nothing }} {{ missing }}|{{ d }}", context) == (
        'x<y true  |{"k": [1, "a", none]}'
    )


def test_names_choose_the_escaping(templates: Templates) -> None:
    context = {"s": '<"é', "n": None, "d": {"k": 1}}
    assert templates.render("a.html", "{{ s }}{{ s|safe }}", context) == '&lt;&quot;é<"é'
    assert templates.render("a.json", "[{{ s }},{{ n }},{{ d }}]", context) == '["<\\"é",null,{"k":1}]'
    assert templates.render("a.txt", "{{ s }}", context) == '<"é'


def test_static_is_left_alone(templates: Templates) -> None:
    assert templates.render("a", "{{ s }} {%", {"s": 1}, "Static") == "{{ s }} {%"


def test_handlebars_escapes_for_html_only(templates: Templates) -> None:
    assert templates.render("a.html", "{{ s }}{{{ s }}}", {"s": "A&B"}, "Handlebars") == "A&amp;BA&B"
    assert templates.render("a.txt", "{{ s }}", {"s": "A&B"}, "Handlebars") == "A&B"


def test_a_template_is_compiled_once(templates: Templates) -> None:
    compiled = templates.compile("a", "{{ s }}")
    assert templates.compile("a", "{{ s }}") is compiled
    assert templates.compile("b", "{{ s }}") is not compiled
    assert templates.compile("a", "{{ s }}", "Handlebars") is not compiled


def test_a_context_that_is_no_table_defines_nothing(templates: Templates) -> None:
    assert templates.render("a", "[{{ s }}]", ["x"]) == "[]"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% set c = cycler(['odd','even']) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "oddevenodd"),
        ("{% set j = joiner('|') %}{{ j() }}a{{ j() }}b", "a|b"),
        ("{{ now() }}", "1700000000.5"),
        ("{{ 2|pluralize }}{{ 1|pluralize('y', 'ies') }}", "sy"),
        ("{{ 13000|filesizeformat }}", "13.0 kB"),
        ("{{ 'a b  c'|wordcount }}", "3"),
        ("{{ 'b'.upper() }}", "B"),
        ("{{ '250 OK ids=8a5475ccbbc611eda12250ebf67f93bd'|normalize_smtp_response }}", "250 OK ids={uuid}"),
        ("{{ now()|datetimeformat }}", "Nov 14 2023 22:13"),
        ("{{ now()|dateformat(format='short') }}", "2023-11-14"),
        ("{{ now()|timeformat(tz='Europe/Vienna') }}", "23:13"),
        ("{% set TIMEZONE = 'Asia/Tokyo' %}{% set TIME_FORMAT = 'long' %}{{ now()|timeformat }}", "07:13:20"),
    ],
)
def test_jinja_extras(templates: Templates, source: str, text: str) -> None:
    assert templates.render("a", source, {}) == text


@pytest.mark.parametrize(
    ("source", "dialect", "line", "said"),
    [
        ("a\n{{ s", "Jinja", 2, "syntax error"),
        ("a\n\n{{ s|nope }}", "Jinja", 3, "unknown filter: filter nope is unknown"),
        ("{% include 'other' %}", "Jinja", 1, "template not found"),
        ("{{ '%9s'|format('x') }}", "Jinja", 1, "unknown filter"),
        ("{{ 'soon'|dateformat }}", "Jinja", 0, "'soon' is not a date in ISO 8601"),
        ("{{ 1|dateformat(tz='Mars') }}", "Jinja", 0, "there is no time zone 'Mars'"),
        ("a\n{{ s", "Handlebars", 2, "has no end"),
        ("a\n{{ lookup s }}", "Handlebars", 2, "lookup: takes two values, got 1"),
    ],
)
def test_errors_name_the_template_and_the_line(
    templates: Templates, source: str, dialect: str, line: int, said: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        templates.render("greeting", source, {"s": {}}, dialect)  # type: ignore[arg-type]
    assert caught.value.line == line
    assert str(caught.value).startswith(
        f"template 'greeting' line {line}:" if line else "template 'greeting':"
    )
    assert said in str(caught.value)


def test_templates_cannot_reach_each_other(templates: Templates) -> None:
    templates.compile("secret", "password")
    with pytest.raises(TemplateError, match="not found"):
        templates.render("a", "{% include 'secret' %}", {})


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(9999) %}" + "y" * 100_000 + "{% endfor %}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(9999) %}{{ x }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    ],
)
def test_work_is_bounded(templates: Templates, source: str) -> None:
    with pytest.raises(TemplateError):
        templates.render("a", source, {})


def test_a_long_text_outside_of_loops_costs_no_fuel(templates: Templates) -> None:
    source = "y" * 3_000_000 + "{% for i in range(3000) %}{{ i }},{% endfor %}" + "z" * 3_000_000
    assert len(templates.render("a", source, {})) > 6_000_000
    assert MAX_OUTPUT > 6_000_000


@pytest.mark.parametrize(
    ("filter_name", "wanted", "text"),
    [
        ("dateformat", "short", "2023-06-24"),
        ("dateformat", "medium", "Jun 24 2023"),
        ("dateformat", "long", "June 24 2023"),
        ("dateformat", "full", "Saturday, June 24 2023"),
        ("datetimeformat", "short", "2023-06-24 16:37"),
        ("datetimeformat", "medium", "Jun 24 2023 16:37"),
        ("datetimeformat", "long", "June 24 2023 16:37:22"),
        ("datetimeformat", "full", "Saturday, June 24 2023 16:37:22"),
        ("datetimeformat", "unix", "1687624642"),
        ("datetimeformat", "iso", "2023-06-24T16:37:22+00:00"),
        ("timeformat", "short", "16:37"),
        ("timeformat", "long", "16:37:22"),
        ("timeformat", "full", "16:37:22.0"),
        ("datetimeformat", "[hour repr:12 padding:none] [period case:lower] [[x", "4 pm [x"),
        ("datetimeformat", r"\[[year repr:last_two]\] [ordinal] [week_number]", "[23] 175 25"),
        ("datetimeformat", "[weekday repr:short] [weekday repr:sunday] [month]", "Sat 7 06"),
        (
            "datetimeformat",
            "[subsecond digits:3] [unix_timestamp precision:millisecond]",
            "000 1687624642000",
        ),
        ("datetimeformat", "[offset_hour sign:mandatory]:[offset_minute]:[offset_second]", "+00:00:00"),
        ("datetimeformat", "[day padding:space] [minute] [second]", "24 37 22"),
    ],
)
def test_dates(filter_name: str, wanted: str, text: str) -> None:
    assert formatted(filter_name, SATURDAY, wanted, None) == text


def test_dates_from_text() -> None:
    assert formatted("datetimeformat", "2023-06-24T16:37:22", "iso", None) == "2023-06-24T16:37:22+00:00"
    assert formatted("datetimeformat", "2023-06-24T16:37:22-05:30", "iso", "original").endswith("22-05:30")
    assert formatted("datetimeformat", "2023-06-24T16:37:22Z", "iso", "Asia/Tokyo").endswith(
        "T01:37:22+09:00"
    )
    # A date without a time does not move with the zone.
    assert formatted("dateformat", "2023-06-24", "short", "Asia/Tokyo") == "2023-06-24"


@pytest.mark.parametrize(
    ("value", "wanted", "said"),
    [
        (1e300, "short", "not a Unix time"),
        (True, "short", "must be Unix seconds"),
        ("2023-06-24", "short", "without a time"),
        (0, "[yeer]", "there are year, month"),
    ],
)
def test_wrong_dates(value: object, wanted: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        formatted("timeformat", value, wanted, None)
