"""Handlebars: tags, paths, blocks, helpers, white space, and the bounds of a template."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kumo_py.core.handlebars import MAX_OUTPUT, Handlebars, HandlebarsError


def render(source: str, context: object = None, *, escape: bool = False) -> str:
    return Handlebars(source, escape=escape).render({} if context is None else context)


@pytest.mark.parametrize(
    ("source", "context", "text"),
    [
        ("Hi {{ name }}, {{missing}}!", {"name": "Jo"}, "Hi Jo, !"),
        (
            "{{a.b}} {{a/b}} {{a.[b c].0}} {{l.1}} {{l.9}}",
            {"a": {"b": 1, "b c": [2]}, "l": [3, 4]},
            "1 1 2 4 ",
        ),
        (
            "{{t}} {{n}} {{f}} {{l}} {{o}}",
            {"t": True, "n": None, "f": 1.5, "l": [1, "x"], "o": {}},
            "true  1.5 [1, x] [object]",
        ),
        ("{{this}} {{.}}", "me", "me me"),
        ("{{!x}}{{!-- }} --}}a{{!-- b --~}} c", {}, "ac"),
        (r"\{{a}} \\{{a}}", {"a": 1}, r"{{a}} \1"),
        ("{{{{raw}}}}{{x}} {{{{/raw}}}}|", {}, "{{x}} |"),
        ("a {{~b~}} c {{~{b}~}} d", {"b": 1}, "a1c1d"),
    ],
)
def test_texts_and_variables(source: str, context: object, text: str) -> None:
    assert render(source, context) == text


def test_escaping() -> None:
    assert render("{{a}}", {"a": "<&>\"'`="}, escape=True) == "&lt;&amp;&gt;&quot;&#x27;&#x60;&#x3D;"
    assert render("{{{a}}}{{&a}}", {"a": "<"}, escape=True) == "<<"


@pytest.mark.parametrize(
    ("context", "text"), [({"a": 1}, "A"), ({"b": "x"}, "B"), ({"a": 0, "b": ""}, "C"), ({"a": []}, "C")]
)
def test_else_chains(context: object, text: str) -> None:
    assert render("{{#if a}}A{{else if b}}B{{else}}C{{/if}}", context) == text
    assert render("{{#if a}}A{{^}}{{#if b}}B{{^}}C{{/if}}{{/if}}", context) == text


@pytest.mark.parametrize(
    ("source", "context", "text"),
    [
        ("{{#if n includeZero=true}}y{{/if}}{{#if n}}z{{/if}}", {"n": 0}, "y"),
        ("{{#unless a}}no{{else}}yes{{/unless}}", {"a": 1}, "yes"),
        ("{{#each l}}{{@index}}{{this}}{{#if @last}}.{{else}},{{/if}}{{/each}}", {"l": ["x", "y"]}, "0x,1y."),
        ("{{#each l}}{{#if @first}}>{{/if}}{{n}}{{../t}}{{t}}{{/each}}", {"l": [{"n": 1}], "t": "T"}, ">1TT"),
        ("{{#each o}}{{@key}}={{this}};{{/each}}", {"o": {"a": 1, "b": 2}}, "a=1;b=2;"),
        ("{{#each o as |v k|}}{{k}}{{v.n}}{{@root.t}}{{/each}}", {"o": {"a": {"n": 1}}, "t": 2}, "a12"),
        (
            "{{#each l}}x{{else}}empty{{/each}}{{#each s}}x{{else}}none{{/each}}",
            {"l": [], "s": 1},
            "emptynone",
        ),
        (
            "{{#each l}}{{#each this}}{{@../index}}{{@index}}{{../../t}} {{/each}}{{/each}}",
            {"l": [[0], [0]], "t": "t"},
            "00t 10t ",
        ),
        ("{{#with p as |q|}}{{q.n}}{{n}}{{this.n}}{{else}}no{{/with}}", {"p": {"n": 1}}, "111"),
        ("{{#with p}}x{{else}}no{{/with}}", {}, "no"),
        # Exact paths stay where they are; plain ones are looked for outside.
        ("{{#with p}}{{t}}{{this.t}}{{./t}}{{/with}}", {"p": {"n": 1}, "t": 2}, "2"),
    ],
)
def test_blocks(source: str, context: object, text: str) -> None:
    assert render(source, context) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{lookup l 1}}{{lookup o 'k'}}{{lookup l 9}}{{lookup n 1}}", "2v"),
        ("{{len l}}{{len o}}{{len 'abc'}}{{len n}}", "2130"),
        ("{{eq n 3}} {{eq 'a' 'b'}} {{eq true 1}} {{ne n 4}}", "true false false true"),
        ("{{lt n 4}} {{lte n 3}} {{gt 'b' 'a'}} {{gte n 3.5}} {{lt n 'x'}}", "true true true false false"),
        ("{{and n l}} {{or null ''}} {{not undefined}}", "true false true"),
        ("{{#if (and (gt n 2) (not (eq n 9)))}}yes{{/if}}", "yes"),
        ("{{titleCase 'fred o_brien'}}|{{trainCase w}}|{{lowerCamelCase w}}|{{upperCamelCase w}}",
         "Fred O Brien|Http-Server-Name|httpServerName|HttpServerName"),
        ("{{snakeCase w}} {{kebabCase w}} {{shoutySnakeCase w}} {{shoutyKebabCase w}}",
         "http_server_name http-server-name HTTP_SERVER_NAME HTTP-SERVER-NAME"),
    ],
)  # fmt: skip
def test_helpers(source: str, text: str) -> None:
    assert render(source, {"l": [1, 2], "o": {"k": "v"}, "n": 3, "w": "HTTPServer name"}) == text


def test_a_line_with_nothing_but_a_block_tag_goes() -> None:
    source = "list:\n{{#each l}}\n  - {{this}}\n{{/each}}\n  {{! note }}\nend {{#if l}}x{{/if}}\n"
    assert render(source, {"l": [1, 2]}) == "list:\n  - 1\n  - 2\nend x\n"


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("{{ name or 'Fred' }}", 1, "Helper not found name"),
        ("\n{{titlecase a}}", 2, "did you mean titleCase?"),
        ("{{#eahc a}}{{/eahc}}", 1, "did you mean #each?"),
        ("{{#if}}{{/if}}", 1, "has no value"),
        ("a\n{{#if a}}", 2, "{{#if}} has no end"),
        ("{{#if a}}{{/each}}", 1, "{{/each}} is not expected here, but {{/if}}"),
        ("{{/if}}", 1, "no block to be open"),
        ("{{else}}", 1, "belongs in a block, once"),
        ("{{#if a}}{{else}}{{else}}{{/if}}", 1, "belongs in a block, once"),
        ("{{> partial}}", 1, "partials and decorators are not supported"),
        ("{{#> layout}}{{/layout}}", 1, "partials and decorators are not supported"),
        ("{{", 1, "has no end"),
        ("\n\n{{{a}}", 3, "has no end"),
        ("{{!-- a", 1, "has no --}}"),
        ("{{}}", 1, "is empty"),
        ("{{{{other}}}}x{{{{/other}}}}", 1, "a raw block is"),
        ("{{#each a as |b}}{{/each}}", 1, "`as |name|`"),
        ("{{#if a nope=1}}{{/if}}", 1, "#if has no option nope"),
        ("{{len a b=c}}", 1, "has the option 'b'"),
        ("{{len (len a}}", 1, "has a '(' without ')'"),
        ("{{len a) }}", 1, "has ')' too much"),
        ("{{a ~ b}}", 1, "cannot be read at"),
        ("{{len}}", 1, "len: takes one value, got 0"),
    ],
)  # fmt: skip
def test_errors_name_the_line(source: str, line: int, said: str) -> None:
    with pytest.raises(HandlebarsError) as caught:
        render(source)
    assert said in str(caught.value)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{#if 1}}" * 60 + "{{/if}}" * 60, "more than 50 blocks"),
        ("{{len " + "(len " * 60 + "a" + ")" * 60 + "}}", "more than 50 expressions"),
        (
            "{{#each l}}{{#each @root.l}}{{#each @root.l}}x{{/each}}{{/each}}{{/each}}",
            "more than 200000 steps",
        ),
        ("{{#each l}}{{#each @root.l}}{{{@root.s}}}{{/each}}{{/each}}", f"more than {MAX_OUTPUT} characters"),
    ],
)
def test_work_is_bounded(source: str, said: str) -> None:
    with pytest.raises(HandlebarsError, match=said):
        render(source, {"l": [1] * 100, "s": "x" * 10_000})


_SCRAPS = (
    *"{}#/~!-()'\"\\[]=.^al@ \n",
    *("{{", "}}", "{{{", "}}}", "{{{{raw}}}}", "{{{{/raw}}}}", "!--", "--}}"),
    *("#if a", "/if", "#each l", "/each", "else", "as |x|", "len ", "@index"),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_SCRAPS), max_size=30).map("".join))
def test_any_source_renders_or_is_refused(source: str) -> None:
    try:
        line = len(render(source, {"a": 1, "l": [1, 2]})) and 1
    except HandlebarsError as err:
        line = err.line
    assert 0 <= line <= source.count("\n") + 1
