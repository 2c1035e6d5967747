"""Whether a directory has enough space and inodes left (KumoMTA `min_free_space`, `min_free_inodes`)."""

from __future__ import annotations

import os
from typing import Self


class MinFree:
    """A least amount, in percent of the whole (`"10%"`) or as a number (bytes, or inodes)."""

    option_type = "integer|string"

    __slots__ = ("amount", "is_percent")

    def __init__(self, amount: int, is_percent: bool = False) -> None:
        self.amount = amount
        self.is_percent = is_percent

    @classmethod
    def from_option(cls, value: object) -> Self:
        if isinstance(value, str):
            digits = value.removesuffix("%")
            if digits.isascii() and digits.isdigit():
                is_percent = digits != value
                if not is_percent or int(digits) <= 100:
                    return cls(int(digits), is_percent)
        elif isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value % 1 == 0:
            return cls(int(value))
        raise ValueError(f"{value!r} is no least amount: write a share such as '10%', or a whole number")

    def to_option(self) -> str | int:
        return f"{self.amount}%" if self.is_percent else self.amount

    def lacking(self, available: int, total: int, what: str) -> str | None:
        """Say what lacks, or None. Where the file system counts nothing (total 0), nothing lacks."""
        if total == 0:
            return None
        if self.is_percent:
            available = available * 100 // total
        if available >= self.amount:
            return None
        unit = f"% of {what}" if self.is_percent else f" {what}"
        return f"{available}{unit} free, at least {self.to_option()} wanted"


def lacking_on(directory: str, min_free_space: MinFree, min_free_inodes: MinFree) -> str | None:
    """Say what lacks on the directory's file system, or None. Raises OSError."""
    info = os.statvfs(directory)
    return min_free_space.lacking(
        info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize, "bytes"
    ) or min_free_inodes.lacking(info.f_favail, info.f_files, "inodes")
