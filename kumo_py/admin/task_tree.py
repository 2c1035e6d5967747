"""The tree of a node's tasks, and where each of them is: text for people.

Tasks of one nursery that are alike, all the sessions that wait for a command for instance, are shown once, with their
number. The look goes in slices: a task that ends meanwhile is left out, one that begins may be.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import Task, current_root_task

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLICE = 64
"""Tasks looked at in one go before other tasks get a turn."""
_MOST_TASKS = 100_000
_MOST_FRAMES = 12
"""Of a task's own; the outer ones are left out."""
_TRIO = str(PurePath(trio.__file__).parent)


async def task_tree() -> list[str]:
    """All tasks, each below the one whose nursery it runs in, as lines."""
    root = current_root_task()
    if root is None:
        return []
    look = _Look()
    lines = await look.at(root)
    total = f"{look.seen} tasks" + (", and more" if look.seen >= _MOST_TASKS else "")
    return [total, "", *lines]


class _Look:
    def __init__(self) -> None:
        self.seen = 0

    async def at(self, task: Task) -> list[str]:
        """A task and those below it."""
        self.seen += 1
        if self.seen % _SLICE == 0:
            await trio.lowlevel.checkpoint()
        lines = [task.name, *(f"    at {frame}" for frame in _frames(task))]
        alike: Counter[tuple[str, ...]] = Counter()
        for nursery in list(task.child_nurseries):
            for child in list(nursery.child_tasks):
                if self.seen < _MOST_TASKS:
                    alike[tuple(await self.at(child))] += 1
        for (name, *rest), number in alike.items():
            lines.append(f"  {name}" + (f"  ({number} times)" if number > 1 else ""))
            lines += [f"  {line}" for line in rest]
        return lines


def _frames(task: Task) -> Iterator[str]:
    """Where it is, the innermost place last; without trio's own insides."""
    frames = []
    try:
        for frame, line in task.iter_await_frames():
            code = frame.f_code
            if not code.co_filename.startswith(_TRIO):
                frames.append(f"{code.co_qualname} ({_short(code.co_filename)}:{line})")
    except TypeError:  # something awaits what trio does not know
        frames.append("?")
    if len(frames) > _MOST_FRAMES:
        yield "…"
    yield from frames[-_MOST_FRAMES:]


def _short(path: str) -> str:
    """The end of a path, from the package on."""
    parts = PurePath(path).parts
    return "/".join(parts[parts.index("kumo_py") :] if "kumo_py" in parts else parts[-2:])
