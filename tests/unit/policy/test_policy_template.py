"""`kumo.string.eval_template`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    from policy_host import MakePolicy


async def test_eval_template(policy: MakePolicy) -> None:
    lua = policy(
        """
        kumo.on('evaluate', function(dialect)
          local context = { name = 'A&B', list = { { n = 1 }, { n = 2 } } }
          return {
            kumo.string.eval_template('a.txt', '{{ name }}{% for i in list %}{{ i.n }}{% endfor %}', context),
            kumo.string.eval_template('a.html', '{{ name }}', context, 'Jinja'),
            kumo.string.eval_template('a.json', '{{ name }}', context),
            kumo.string.eval_template('a.html', '{{ name }}{{#each list}}{{n}}{{/each}}', context, 'Handlebars'),
            kumo.string.eval_template('a', '{{ name }}', context, 'Static'),
          }
        end)
        """
    )
    await lua.load()
    assert await lua.ask("evaluate") == ["A&B12", "A&amp;B", '"A&B"', "A&amp;B12", "{{ name }}"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("'a', '{{ x', {}", "kumo.string.eval_template: template 'a' line 1: syntax error"),
        ("'a', 'x', {}, 'Handlebar'", "there is no dialect 'Handlebar'; did you mean Handlebars?"),
        ("'a', 'x', {}, 'Mustache'", "there are Jinja, Static, Handlebars"),
        ("'a'", "argument 'template' must be a string, got nil"),
    ],
)
async def test_errors_name_the_place(policy: MakePolicy, call: str, said: str) -> None:
    lua = policy(f"kumo.on('evaluate', function()\nreturn kumo.string.eval_template({call}) end)")
    await lua.load()
    with pytest.raises(PolicyError) as caught:
        await lua.ask("evaluate")
    assert said in str(caught.value)
    assert "policy.lua:" in str(caught.value)
