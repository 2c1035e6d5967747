"""The fields of delivery log records (KumoMTA's log record), and what people write to choose among records.

A filter is a field, a sign and a value, such as `type=Bounce`, `recipient~@gmail` or `response.code>=500`.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

from kumo_py.core.regex import Regex
from kumo_py.core.suggest import any_of, nearest
from kumo_py.logs.record_type import RecordType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Record = dict[str, Any]

_ADDRESS = "name addr is_secure"
_PARTS = {
    "response": "code enhanced_code content command",
    "response.enhanced_code": "class subject detail",
    "peer_address": _ADDRESS,
    "source_address": "address server protocol",
    "feedback_report": "feedback_type user_agent version arrival_date incidents original_envelope_id "
    "original_mail_from reporting_mta source_ip authentication_results original_rcpto_to reported_domain "
    "reported_uri extensions original_message supplemental_trace",
}
_PLAIN = (
    "type id sender recipient queue site size timestamp event_time created created_time num_attempts "
    "bounce_classification egress_pool egress_source delivery_protocol reception_protocol nodeid tls_cipher "
    "tls_protocol_version tls_peer_subject_name provider_name session_id"
)
FIELDS = (*_PLAIN.split(), *(f"{name}.{part}" for name, parts in _PARTS.items() for part in parts.split()))
"""All that have one value; `meta.NAME` and `headers.NAME` come to that."""
_OPEN = ("meta.", "headers.", "feedback_report.extensions.", "feedback_report.supplemental_trace.")
_EXAMPLE = "write such as type=Bounce, recipient~@gmail, response.code>=500 or meta.tenant!=acme"
_FILTER = re.compile(r"\s*([\w.-]+?)\s*(!=|!~|>=|<=|=|~|>|<)\s*(.*?)\s*", re.DOTALL)
_IN_FORMAT = re.compile(r"\{([^{}]*)\}")


def check_field(name: str) -> None:
    """Raises ValueError for what no record has."""
    if name in FIELDS or (name.startswith(_OPEN) and name not in _OPEN):
        return
    if name.rstrip(".") in ("meta", "headers"):
        raise ValueError(f"'{name}' has a name of its own for each value: write {name.rstrip('.')}.NAME")
    if name in _PARTS:
        raise ValueError(f"'{name}' has parts: {any_of([f'{name}.{part}' for part in _PARTS[name].split()])}")
    near = nearest(name, FIELDS)
    hint = f"did you mean '{near}'?" if near else f"there are {', '.join(FIELDS)}, meta.NAME and headers.NAME"
    raise ValueError(f"records have no field '{name}'; {hint}")


def value_of(record: Record, name: str) -> Any:  # noqa: ANN401  JSON
    """What a record has there; None if it has nothing. A header's name is without case."""
    value: Any = record
    while name:
        if not isinstance(value, dict):
            return None
        if name in value:
            value, name = value[name], ""
        else:
            key, _, name = name.partition(".")
            if key == "headers" and (headers := value.get(key)):
                value = {header.lower(): text for header, text in headers.items()}
                name = name.lower()
            elif name:
                value = value.get(key)
            else:
                return None
    if isinstance(value, dict) and value.keys() == {"class", "subject", "detail"}:
        return "{class}.{subject}.{detail}".format_map(value)
    return value


def as_text(value: object) -> str:
    """A value for people: nothing for null, several with commas."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(map(as_text, value))
        case dict():
            return ", ".join(f"{key}={as_text(one)}" for key, one in value.items())
    return str(value)


# -- filters -----------------------------------------------------------------------------------------------------
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class Filter:
    """Whether a record is wanted. Raises ValueError for a text that is no filter."""

    __slots__ = ("_field", "_holds", "_is_negative")

    def __init__(self, text: str) -> None:
        found = _FILTER.fullmatch(text)
        if found is None:
            raise ValueError(f"'{text}' is no filter: {_EXAMPLE}")
        self._field, sign, wanted = found.groups()
        check_field(self._field)
        self._is_negative = sign.startswith("!")
        self._holds = _comparison(self._field, sign.lstrip("!"), wanted)

    def __call__(self, record: Record) -> bool:
        """Of several values, one is enough; for != and !~, there must be none."""
        return any(map(self._holds, _values(value_of(record, self._field)))) is not self._is_negative


def _values(value: object) -> Iterator[object]:
    if isinstance(value, list) and value:
        yield from value
    else:
        yield value


def _comparison(field: str, sign: str, wanted: str) -> Callable[[object], bool]:
    if sign == "~":
        try:
            regex = Regex(f"(?i){wanted}")
        except ValueError as err:
            raise ValueError(f"'{wanted}' is no regular expression: {err}") from None
        if not regex.is_linear:
            raise ValueError(f"'{wanted}': look-around and back-references cannot be used in filters")
        return lambda value: regex.is_match(as_text(value).encode(errors="replace"))
    number = _number(wanted)
    if sign == "=":
        if field == "type" and wanted not in RecordType.__members__:
            near = nearest(wanted, RecordType.__members__)
            known = f"did you mean '{near}'?" if near else f"there are {', '.join(RecordType)}"
            raise ValueError(f"there are no records of type '{wanted}'; {known}")
        return lambda value: as_text(value) == wanted or (number is not None and _number(value) == number)
    compare = _ORDER[sign]
    if number is None:
        return lambda value: isinstance(value, str) and compare(value, wanted)
    return lambda value: (given := _number(value)) is not None and compare(given, number)


def _number(value: object) -> float | None:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    return None


# -- formats -----------------------------------------------------------------------------------------------------
class Format:
    """A text with fields in braces, such as `{event_time} {recipient} {response.code}`. Raises ValueError."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        for name in _IN_FORMAT.findall(text):
            check_field(name)
        self._text = text

    def __call__(self, record: Record) -> str:
        return _IN_FORMAT.sub(lambda found: as_text(value_of(record, found[1])), self._text)
