"""Traffic shaping data: what a policy's shaping files say of each egress path, and which rules automate it."""

from kumo_py.shaping.errors import ShapingError
from kumo_py.shaping.load import LoadOptions, load_shaping
from kumo_py.shaping.rule import Rule
from kumo_py.shaping.settings import Origin, Setting, Settings, options_of
from kumo_py.shaping.shaping import MatchedRule, Shaping

__all__ = [
    "LoadOptions",
    "MatchedRule",
    "Origin",
    "Rule",
    "Setting",
    "Settings",
    "Shaping",
    "ShapingError",
    "load_shaping",
    "options_of",
]
