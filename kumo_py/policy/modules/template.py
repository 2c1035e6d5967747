"""`kumo.string.eval_template`: templates that a policy fills in itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.options import OptionError
from kumo_py.core.suggest import nearest
from kumo_py.core.templates import DIALECTS
from kumo_py.policy.modules.string import string
from kumo_py.policy.registry import Param
from kumo_py.policy.types import TEXT, VALUE

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext


@string.function(
    "eval_template",
    Param("name", TEXT),
    Param("template", TEXT),
    Param("context", VALUE),
    Param("dialect", TEXT, optional=True),
    result=TEXT,
    since="2025.03.19-1d3f1f67",
)
def eval_template(ctx: LuaContext, name: str, source: str, context: object, dialect: str | None) -> str:
    """Fill in a template (Jinja, Handlebars or Static; Jinja unless said) with the values of a table.

    A name that ends in `.html` or `.json` has values escaped for that.
    """
    for known in DIALECTS:
        if known == (dialect or "Jinja"):
            return ctx.env.host.templates.render(name, source, context, known)
    near = nearest(str(dialect), DIALECTS)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(DIALECTS)}"
    raise OptionError(f"kumo.string.eval_template: there is no dialect '{dialect}'; {hint}")
