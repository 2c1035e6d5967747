"""The parts of a message that matter most: its text, its HTML, and everything else as attachments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kumo_py.message.mime.part import Part

_BODIES = ("text/plain", "text/html", "text/x-amp-html")


@dataclass(slots=True)
class SimpleStructure:
    """What `simple_structure` found. `paths` has the place of each part, by its id()."""

    header_part: Part
    text_part: Part | None = None
    html_part: Part | None = None
    amp_html_part: Part | None = None
    attachments: list[Part] = field(default_factory=list)
    paths: dict[int, tuple[int, ...]] = field(default_factory=dict)


def simple_structure(root: Part) -> SimpleStructure:
    """The first text/plain, text/html and text/x-amp-html part; all others that have no parts are attachments.

    As in KumoMTA a part without a Content-Type is text, one with a file name or Content-ID is an attachment
    unless its disposition is inline, and what is not multipart/… is not descended into.
    """
    bodies: dict[str, Part] = {}
    attachments: list[Part] = []
    paths: dict[int, tuple[int, ...]] = {}
    pending: list[tuple[Part, tuple[int, ...]]] = [(root, ())]
    while pending:
        part, path = pending.pop()
        type_ = part.content_type
        if type_ is not None and type_.media_type.startswith("multipart/"):
            pending.extend((one, (*path, n)) for n, one in reversed(list(enumerate(part.parts))))
            continue
        paths[id(part)] = path
        name = "text/plain" if type_ is None else type_.media_type
        attachment = None if type_ is None else part.attachment
        if name in _BODIES and (attachment is None or attachment.inline) and name not in bodies:
            bodies[name] = part
        else:
            attachments.append(part)
    text, html, amp_html = (bodies.get(name) for name in _BODIES)
    return SimpleStructure(root, text, html, amp_html, attachments, paths)
