"""The kinds of objects that objects.lua makes itself: addresses and spans of time. Here they are only declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.policy.registry import Kind, Param
from kumo_py.policy.types import BOOLEAN, INTEGER, NUMBER, TEXT, TIME_DELTA, ListOf

if TYPE_CHECKING:
    from kumo_py.policy.types import LuaType

envelope_address = Kind("EnvelopeAddress")
header_address = Kind("HeaderAddress")
address_header = Kind("AddressHeader")
time_delta = Kind("TimeDelta")

_PARTS = {
    "user": "What stands before the @.",
    "domain": "What stands behind the @.",
    "email": "The whole address.",
}
_NAME = "The display name; nil without one."
_SPANS: dict[str, tuple[LuaType, str]] = {
    "seconds": (NUMBER, "Seconds, with their fraction."),
    "milliseconds": (INTEGER, "Whole milliseconds."),
    "microseconds": (INTEGER, "Whole microseconds."),
    "nanoseconds": (INTEGER, "Nanoseconds."),
    "human": (TEXT, "Text such as 1h 30m."),
}

for _name, _doc in _PARTS.items():
    envelope_address.lua_function(_name, doc=_doc, result=TEXT, role="field")
    header_address.lua_function(_name, doc=_doc, result=TEXT, role="field")
    address_header.lua_function(
        _name, doc=f"{_doc} An error unless there is a single one.", result=TEXT, role="field"
    )
header_address.lua_function("name", doc=_NAME, result=TEXT, role="field")
address_header.lua_function(
    "name", doc=f"{_NAME} An error unless there is a single address.", result=TEXT, role="field"
)
address_header.lua_function(
    "list", doc="All addresses, those of groups included.", result=ListOf(header_address.type), role="field"
)
envelope_address.lua_function("tostring", doc="The whole address.", result=TEXT, role="meta")
header_address.lua_function("tostring", doc="The address as JSON.", result=TEXT, role="meta")
address_header.lua_function("tostring", doc="The addresses as JSON.", result=TEXT, role="meta")

for _name, (_type, _doc) in _SPANS.items():
    time_delta.lua_function(_name, doc=_doc, result=_type, role="field")
_other = Param("other", time_delta.type)
time_delta.lua_function("add", _other, doc="The sum.", result=TIME_DELTA, role="meta")
time_delta.lua_function("sub", _other, doc="The difference.", result=TIME_DELTA, role="meta")
time_delta.lua_function("eq", _other, doc="Whether both are equally long.", result=BOOLEAN, role="meta")
time_delta.lua_function("tostring", doc="As `human`.", result=TEXT, role="meta")
