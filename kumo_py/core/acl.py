"""Access control lists: who may do what with a resource, as KumoMTA's `kumo.aaa` has it. Pure evaluation.

A resource is named by a path of its own and by those of all that it is part of, most specific first. Each name may have
a list of rules. The first rule whose criteria and privilege fit decides; a list without such a rule leaves it to the
next name, and when none is left, access is denied.

Rules come from tables of a policy (`AccessControlList.from_option`) or from TOML (`AclMap.from_toml`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

import tomli

from kumo_py.core.cidr import CidrSet
from kumo_py.core.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Access: TypeAlias = Literal["Allow", "Deny"]

TRUSTED_GROUP = "kumomta:http-listener-trusted-ip"
"""The peers that a listener's `trusted_hosts` names are in it; a policy may put others there."""

MAX_PATH = 256
"""Octets of a URL's path that take part in the name of its resource."""
MAX_PATH_PARTS = 10
"""Parts of it between slashes that do."""
_MAX_DEPTH = 32
"""Levels of AllOf, AnyOf and Not."""


class Identity(TypedDict):
    """Somebody, and how we know."""

    identity: str
    context: str


class AuthInfo(TypedDict):
    """Who a client is: KumoMTA's `auth_info`. `peer_address` is an IP address or None."""

    peer_address: str | None
    identities: list[Identity]
    groups: list[str]


@dataclass(frozen=True, slots=True)
class Subject:
    """What of an AuthInfo decides; it can be the key of a cache."""

    identities: frozenset[str]
    groups: frozenset[str]
    peer: str | None

    @classmethod
    def of(cls, auth: AuthInfo) -> Subject:
        return cls(
            frozenset([one["identity"] for one in auth["identities"]]),
            frozenset(auth["groups"]),
            auth["peer_address"],
        )


# -- criteria --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class IsAnybody:
    """Any, Authenticated or Unauthenticated."""

    name: Literal["Any", "Authenticated", "Unauthenticated"]

    def fits(self, who: Subject) -> bool:
        return self.name == "Any" or bool(who.identities) == (self.name == "Authenticated")

    def to_option(self) -> object:
        return {"Identity": self.name}


@dataclass(frozen=True, slots=True)
class IsIndividual:
    """Somebody by name, however that was shown."""

    name: str

    def fits(self, who: Subject) -> bool:
        return self.name in who.identities

    def to_option(self) -> object:
        return {"Identity": {"Individual": self.name}}


@dataclass(frozen=True, slots=True)
class IsInGroup:
    """A member of a group."""

    name: str

    def fits(self, who: Subject) -> bool:
        return self.name in who.groups

    def to_option(self) -> object:
        return {"Identity": {"Group": self.name}}


@dataclass(frozen=True, slots=True)
class IsMachine:
    """A client by its address, or by the networks that it is in; IPv4 inside of IPv6 is IPv4."""

    kind: Literal["Machine", "MachineSet"]
    networks: CidrSet

    def fits(self, who: Subject) -> bool:
        return who.peer is not None and who.peer in self.networks

    def to_option(self) -> object:
        networks = self.networks.to_option()
        return {"Identity": {self.kind: networks[0] if self.kind == "Machine" else networks}}


@dataclass(frozen=True, slots=True)
class AllOf:
    """Fits if all do; also if there are none."""

    terms: tuple[Term, ...]

    def fits(self, who: Subject) -> bool:
        return all(term.fits(who) for term in self.terms)

    def to_option(self) -> object:
        return {"AllOf": [term.to_option() for term in self.terms]}


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Fits if one does."""

    terms: tuple[Term, ...]

    def fits(self, who: Subject) -> bool:
        return any(term.fits(who) for term in self.terms)

    def to_option(self) -> object:
        return {"AnyOf": [term.to_option() for term in self.terms]}


@dataclass(frozen=True, slots=True)
class Not:
    """Fits if the other does not."""

    term: Term

    def fits(self, who: Subject) -> bool:
        return not self.term.fits(who)

    def to_option(self) -> object:
        return {"Not": self.term.to_option()}


Term: TypeAlias = IsAnybody | IsIndividual | IsInGroup | IsMachine | AllOf | AnyOf | Not


# -- rules -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Rule:
    """Whoever fits the criteria gets, or is denied, a privilege: for URLs that is the method of the request."""

    criteria: Term
    privilege: str
    access: Access

    def to_option(self) -> dict[str, object]:
        """As tables of a policy have it."""
        return {"criteria": self.criteria.to_option(), "privilege": self.privilege, "access": self.access}


@dataclass(frozen=True, slots=True)
class AccessControlList:
    """The rules of one resource, in their order."""

    rules: tuple[Rule, ...]

    @classmethod
    def from_option(cls, value: object) -> AccessControlList:
        """From a list of tables `{ criteria, privilege, access }`. Raises ValueError, naming what is wrong where."""
        items = _list(value, "the rules")
        return cls(tuple([_rule(item, f"[{n}]") for n, item in enumerate(items, 1)]))

    def find(self, who: Subject, privilege: str) -> Rule | None:
        """The rule that decides, or None."""
        for rule in self.rules:
            if rule.privilege == privilege and rule.criteria.fits(who):
                return rule
        return None


class AclMap:
    """Lists by the name of their resource, as a TOML file defines them."""

    __slots__ = ("_lists",)

    def __init__(self, lists: Mapping[str, AccessControlList]) -> None:
        self._lists = lists

    @classmethod
    def from_toml(cls, text: str) -> AclMap:
        """Raises ValueError."""
        try:
            content = tomli.loads(text)
        except (tomli.TOMLDecodeError, RecursionError) as err:
            raise ValueError(f"not TOML: {err}") from None
        _only(content, ("acl",), "the file")
        if "acl" not in content:
            raise ValueError('it has no access control list: write [[acl."http_listener/*/path"]]')
        lists = {}
        for resource, entries in _table(content["acl"], "acl").items():
            where = f'acl."{resource}"'
            rules: list[Rule] = []
            for n, entry in enumerate(_list(entries, where), 1):
                rules += _entry(entry, f"{where}[{n}]")
            lists[resource] = AccessControlList(tuple(rules))
        return cls(lists)

    def get(self, resource: str) -> AccessControlList | None:
        return self._lists.get(resource)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)


# -- resources -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Resource:
    """Something that has an access control list, or is part of what has one."""

    names: tuple[str, ...]
    """Its own name, then those of all that it is part of."""

    @property
    def name(self) -> str:
        return self.names[0]


def http_resource(address: str, path: str) -> Resource:
    """A URL of the listener at `address`, which is written ip:port.

    What lies behind MAX_PATH octets or MAX_PATH_PARTS parts of the path has no rules of its own.
    """
    parts = path[:MAX_PATH].removeprefix("/").split("/")[:MAX_PATH_PARTS]
    below = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    here = f"http_listener/{address}"
    return Resource(
        (
            *(f"{here}/{part}" for part in below),
            here,
            *(f"http_listener/*/{part}" for part in below),
            "http_listener",
        )
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a question. Without a rule access is denied, and nothing was said about it."""

    rule: Rule | None = None
    resource: str | None = None
    """The name whose list has the rule."""
    considered: tuple[str, ...] = ()
    """The names that came before it and decided nothing."""

    @property
    def allows(self) -> bool:
        return self.rule is not None and self.rule.access == "Allow"


# -- reading them ----------------------------------------------------------------------------------------------
def _rule(value: object, where: str) -> Rule:
    table = _table(value, where)
    _only(table, ("criteria", "privilege", "access"), where)
    for name in ("criteria", "privilege", "access"):
        if name not in table:
            raise ValueError(f"{where}: '{name}' is required")
    access = table["access"]
    if access not in ("Allow", "Deny"):
        raise ValueError(f"{where}.access must be 'Allow' or 'Deny', got {access!r}")
    privilege = _text(table["privilege"], f"{where}.privilege")
    return Rule(_term(table["criteria"], f"{where}.criteria"), privilege, access)


def _entry(value: object, where: str) -> Iterator[Rule]:
    """The rules that one entry of a file stands for."""
    table = _table(value, where)
    _only(table, ("allow", "privileges", "identity", "criteria"), where)
    allow = table.get("allow")
    if not isinstance(allow, bool):
        raise ValueError(f"{where}: 'allow' must be true or false")
    if "privileges" not in table:
        raise ValueError(f"{where}: 'privileges' is required")
    if ("identity" in table) == ("criteria" in table):
        raise ValueError(f"{where}: either 'identity' or 'criteria' is required")
    if "identity" in table:
        criteria = _identity(table["identity"], f"{where}.identity")
    else:
        criteria = _term(table["criteria"], f"{where}.criteria")
    for n, privilege in enumerate(_list(table["privileges"], f"{where}.privileges"), 1):
        text = _text(privilege, f"{where}.privileges[{n}]")
        yield Rule(criteria, text, "Allow" if allow else "Deny")


_TERMS = ("Identity", "AnyOf", "AllOf", "Not")
_ANYBODY = ("Any", "Authenticated", "Unauthenticated")
_IDENTITIES = ("Individual", "Group", "Machine", "MachineSet", *_ANYBODY)


def _term(value: object, where: str, depth: int = 0) -> Term:
    if depth >= _MAX_DEPTH:
        raise ValueError(f"{where} is nested more than {_MAX_DEPTH} deep")
    name, inner = _variant(value, _TERMS, where)
    where = f"{where}.{name}"
    match name:
        case "Identity":
            return _identity(inner, where)
        case "Not":
            return Not(_term(inner, where, depth + 1))
    items = enumerate(_list(inner, where), 1)
    terms = tuple([_term(item, f"{where}[{n}]", depth + 1) for n, item in items])
    return AllOf(terms) if name == "AllOf" else AnyOf(terms)


def _identity(value: object, where: str) -> Term:
    name, inner = _variant(value, _IDENTITIES, where)
    where = f"{where}.{name}"
    match name:
        case "Any" | "Authenticated" | "Unauthenticated":
            if inner not in (None, {}, []):  # Lua has one empty table
                raise ValueError(f"{where} takes nothing: write {{ {name} = {{}} }}")
            return IsAnybody(name)
        case "Individual":
            return IsIndividual(_text(inner, where))
        case "Group":
            return IsInGroup(_text(inner, where))
        case "Machine":
            address = _text(inner, where)
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ValueError(f"{where} must be an IP address, got '{address}'") from None
            return IsMachine("Machine", CidrSet([address]))
    try:
        return IsMachine("MachineSet", CidrSet.from_option(inner))
    except ValueError as err:
        raise ValueError(f"{where}: {err}") from None


def _variant(value: object, names: tuple[str, ...], where: str) -> tuple[str, Any]:
    """One of several alternatives: { Name = what belongs to it }, or the name alone."""
    if isinstance(value, str):
        found: Sequence[tuple[str, object]] = [(value, None)]
    else:
        found = list(_table(value, where).items())
    if len(found) != 1:
        raise ValueError(f"{where} must have exactly one of {', '.join(names)}")
    name, inner = found[0]
    if name not in names:
        hint = f": write Identity = {{ {name} = … }}" if name in _IDENTITIES else _hint(name, names)
        raise ValueError(f"{where}: there is no '{name}'{hint}")
    return name, inner


def _only(table: Mapping[str, object], names: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in names:
            raise ValueError(f"{where}: unknown option '{name}'{_hint(name, names)}")


def _hint(name: str, names: tuple[str, ...]) -> str:
    near = nearest(name, names)
    return f" (did you mean '{near}'?)" if near else f"; there are {', '.join(names)}"


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a table")
    return value


def _list(value: object, where: str) -> list[Any]:
    if value == {}:  # Lua has one empty table
        return []
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} must be a string")
    return value
