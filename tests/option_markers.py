"""Which test shows the effect of which option: what `@pytest.mark.option(...)` says, read without running anything.

`python tests/option_markers.py` writes docs/egress-options.md from it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import inspect

from kumo_py.core.options import is_option_value
from kumo_py.queue import config

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "egress-options.md"

FUNCTIONS: dict[str, type[msgspec.Struct]] = {
    "make_egress_path": config.EgressPath,
    "make_egress_source": config.EgressSource,
    "make_egress_pool": config.EgressPool,
    "make_queue_config": config.QueueConfig,
}
WHOLE = frozenset(("suspend_when_unplumbed", "suspend_when_proxy_unhealthy", "shrink_policy", "mx_list"))
"""Options whose table is shown by one test as a whole."""
REFUSED = {
    "make_queue_config.protocol.xfer.target": "a queue that has it cannot be set up: there is no xfer yet"
}


def options() -> Iterator[str]:
    """All options of the functions, tables by their entries: `make_egress_pool.entries.weight`."""
    for function, struct in FUNCTIONS.items():
        yield from _options(struct, function)


def _options(struct: type[msgspec.Struct], path: str) -> Iterator[str]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        name = f"{path}.{field.encode_name}"
        inner = None if field.encode_name in WHOLE else _struct(field.type)
        if inner is None:
            yield name
        else:
            yield from _options(inner, name)


def _struct(type_: inspect.Type) -> type[msgspec.Struct] | None:
    """The table that an option is, or a list of."""
    match type_:
        case inspect.StructType() if not is_option_value(type_):
            return type_.cls
        case inspect.ListType():
            return _struct(type_.item_type)
        case inspect.UnionType():
            return next((found for member in type_.types if (found := _struct(member))), None)
    return None


def meaningless(option: str) -> str | None:
    """Why an option has no effect here; None if it has one."""
    return config.NO_MEANING.get(option.rpartition(".")[2]) or REFUSED.get(option)


def marked() -> dict[str, list[str]]:
    """The tests of each option that is marked, as `path::name`."""
    found: dict[str, list[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text()
        if "mark.option(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for option in _marks(node):
                    name = f"{file.relative_to(TESTS.parent)}::{node.name}"
                    found.setdefault(option, []).append(name)
    return found


def _marks(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for item in test.decorator_list:
        if isinstance(item, ast.Call) and ast.unparse(item.func) == "pytest.mark.option":
            (path,) = item.args
            assert isinstance(path, ast.Constant), f"{test.name}: an option's path must be a plain text"
            yield path.value


def page() -> str:
    """The table, for people."""
    tests = marked()
    lines = [
        "<!-- Made from the tests by `python tests/option_markers.py`: mark a test instead of changing this page. -->",
        "",
        "# Options of queues and of the ways out, and the tests that show their effect",
        "",
        "A test that is named here fails when its option is ignored.",
    ]
    apart = []
    for function in FUNCTIONS:
        lines += ["", f"## kumo.{function}", "", "| option | shown by |", "|---|---|"]
        for option in options():
            if not option.startswith(f"{function}."):
                continue
            if (why := meaningless(option)) is not None:
                apart.append(f"| `{option}` | {why} |")
            else:
                names = "<br>".join(f"`{name}`" for name in tests.get(option, []))
                lines.append(f"| `{option.partition('.')[2]}` | {names} |")
    lines += ["", "## Without effect", "", "| option | why |", "|---|---|", *apart]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
