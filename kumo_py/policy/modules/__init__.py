"""What a policy can name: a file for each Lua module; several declare what belongs to `kumo`.

Whichever of them is asked for first, all are imported in the order of their names. So declarations have one order,
which is that of the reference, and of the hints in error messages.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
