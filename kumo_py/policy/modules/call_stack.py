"""Functions of `kumo` that look at calls; their code is lua/kumo.lua's."""

from __future__ import annotations

from kumo_py.policy.modules.kumo import kumo
from kumo_py.policy.registry import Param
from kumo_py.policy.types import INTEGER, TEXT, VALUE, ListOf

kumo.lua_function(
    "traceback",
    Param("level", INTEGER),
    doc="The functions that are being called, innermost first; level 1 begins with the one that asks. "
    "Each has event, name, name_what, source, short_src, line_defined, last_line_defined, what, curr_line "
    "and is_tail_call.",
    result=ListOf(VALUE),
)
kumo.lua_function(
    "get_event_registrars",
    Param("event", TEXT),
    doc="Who called kumo.on for an event: for each handler a list of `file:line`, innermost first; nil without any.",
    result=ListOf(ListOf(TEXT)),
)
