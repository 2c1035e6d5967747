"""The policy: Lua that every decision of the node goes through."""

from kumo_py.policy.runtime import LuaPolicy

__all__ = ["LuaPolicy"]
