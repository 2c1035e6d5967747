"""The bounce classifier: a label for a remote server's answer, by rules that are regular expressions.

Rule files are TOML or JSON: `[rules]`, a label to a list of expressions in Rust's syntax, looked for anywhere in
`550 5.1.1 the text`. Of those that match the first rule of the first file wins. Labels are the policy's own; KumoMTA's
are `InvalidRecipient`, `QuotaIssues` and so on.

RE2 looks for all rules at once, in time linear to the answer; answers are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import orjson
import re2
import tomli

from kumo_py.core.rust_regex import to_re2
from kumo_py.logs.json_text import to_json
from kumo_py.logs.record import UNCATEGORIZED
from kumo_py.logs.record_type import RecordType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.logs.config import ClassifierConfig
    from kumo_py.proto.reply import Response

CLASSIFIED = frozenset(
    (
        RecordType.Bounce,
        RecordType.TransientFailure,
        RecordType.Expiration,
        RecordType.AdminBounce,
        RecordType.OOB,
        RecordType.Feedback,
        RecordType.Rejection,
    )
)
"""The types of records that get a label."""
MAX_LENGTH = 8192
"""Characters of an answer that are looked at."""
_DATA = Path(__file__).parent / "data"
OUR_RULES = {
    "/opt/kumomta/share/bounce_classifier/iana.toml": _DATA / "iana.toml",
    "/opt/kumomta/share/community/bounces.toml": _DATA / "providers.toml",
}
"""Rules by enhanced status codes, and by what providers write: by the names that policies have which were written for
KumoMTA. They take the place of its files where it is not installed."""
_MEMORY = 64 * 1024 * 1024
"""Bytes that RE2 may use for all rules."""


class _RuleFile(msgspec.Struct):
    rules: dict[str, list[str]]


class Rule(NamedTuple):
    """place: of the expression, for errors."""

    label: str
    expression: str
    place: str


class BounceClassifier:
    """Rules, compiled, and the answers that were seen last: those with a label and those without apart."""

    __slots__ = ("_labelled", "_labels", "_limits", "_set", "_unlabelled")

    def __init__(self, rules: Sequence[Rule], *, cache_size: int, uncategorized_cache_size: int) -> None:
        """Raises ValueError for an expression that is wrong."""
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _MEMORY
        self._set = re2.Set.SearchSet(options)
        for rule in rules:
            try:
                self._set.Add(to_re2(rule.expression))
            except (ValueError, re2.error) as err:
                raise ValueError(f"{rule.place}: '{rule.expression}': {err}") from None
        self._set.Compile()
        self._labels = [to_json(rule.label) for rule in rules]
        self._limits = cache_size, uncategorized_cache_size
        self._labelled: OrderedDict[str, bytes] = OrderedDict()
        self._unlabelled: OrderedDict[str, bytes] = OrderedDict()

    @classmethod
    def load(cls, config: ClassifierConfig) -> BounceClassifier:
        """Read the rule files; blocks. Raises OSError, and ValueError that names the file."""
        rules = [rule for path in config.files for rule in read_rules(path)]
        return cls(
            rules,
            cache_size=config.cache_size,
            uncategorized_cache_size=config.uncategorized_cache_size,
        )

    def label(self, response: Response) -> bytes:
        """The label of an answer, as JSON."""
        line = response.to_single_line()[:MAX_LENGTH]
        for seen in (self._labelled, self._unlabelled):
            found = seen.get(line)
            if found is not None:
                seen.move_to_end(line)
                return found
        matches = self._set.Match(line) if self._labels else None
        found = self._labels[min(matches)] if matches else UNCATEGORIZED
        is_labelled = found != UNCATEGORIZED
        seen = self._labelled if is_labelled else self._unlabelled
        seen[line] = found
        if len(seen) > self._limits[not is_labelled]:
            seen.popitem(last=False)
        return found


def read_rules(path: str) -> list[Rule]:
    """The rules of a file, in its order; blocks. Raises OSError, and ValueError that names the file."""
    file_path = Path(path)
    if path in OUR_RULES and not file_path.exists():
        file_path = OUR_RULES[path]
    text = file_path.read_bytes()
    try:
        content: object = tomli.loads(text.decode()) if path.endswith(".toml") else orjson.loads(text)
        file = msgspec.convert(content, _RuleFile)
    except ValueError as err:
        raise ValueError(f"{path} is no rule file: {err}") from None
    return [
        Rule(label, expression, f"{path}: rules.{label}[{n}]")
        for label, expressions in file.rules.items()
        for n, expression in enumerate(expressions, 1)
    ]
