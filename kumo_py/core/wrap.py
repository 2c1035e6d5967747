"""Wrapping of long header text, as KumoMTA does it (`kumo.string.wrap`)."""

from __future__ import annotations

SOFT_WIDTH = 75
HARD_WIDTH = 900


def wrap(text: bytes, soft_width: int = SOFT_WIDTH, hard_width: int = HARD_WIDTH) -> bytes:
    """The words of `text` in lines that a tab continues, of at most `soft_width` bytes where words allow it.

    Only a word longer than `hard_width` is cut. Raises ValueError if `hard_width` is not positive.
    """
    if hard_width < 1:
        raise ValueError(f"the hard limit must be at least 1, got {hard_width}")
    lines: list[bytes] = []
    words: list[bytes] = []
    length = 0  # of the words and the spaces between them
    for word in text.split():
        if length + len(word) < soft_width:
            length += len(word) + bool(words)
            words.append(word)
            continue
        if words:
            lines.append(b" ".join(words))
        if len(word) > hard_width:
            whole = len(word) // hard_width * hard_width
            lines += (word[at : at + hard_width] for at in range(0, whole, hard_width))
            word = word[whole:]
        words = [word] if word else []
        length = len(word)
    if words:
        lines.append(b" ".join(words))
    return b"\r\n\t".join(lines)
