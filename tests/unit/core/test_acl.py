"""Access control lists: which rule decides, how resources are named, and what a list that is wrong is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kumo_py.core.acl import AccessControlList, AclMap, AuthInfo, Decision, Subject, http_resource

if TYPE_CHECKING:
    from kumo_py.core.acl import Rule


def who(*names: str, groups: tuple[str, ...] = (), peer: str | None = "192.0.2.1") -> Subject:
    identities: Any = [{"identity": name, "context": "HttpBasicAuth"} for name in names]
    auth: AuthInfo = {"peer_address": peer, "identities": identities, "groups": list(groups)}
    return Subject.of(auth)


def fits(criteria: object, subject: Subject) -> bool:
    rules = AccessControlList.from_option([{"criteria": criteria, "privilege": "GET", "access": "Allow"}])
    return rules.find(subject, "GET") is not None


def identity(value: object) -> dict[str, object]:
    return {"Identity": value}


ALICE, BOB, NOBODY = who("alice", groups=("ops",)), who("bob", peer="10.1.2.3"), who()


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (identity({"Any": {}}), (True, True, True)),
        (identity("Any"), (True, True, True)),
        (identity({"Authenticated": {}}), (True, True, False)),
        (identity({"Unauthenticated": []}), (False, False, True)),
        (identity({"Individual": "alice"}), (True, False, False)),
        (identity({"Individual": "ops"}), (False, False, False)),
        (identity({"Group": "ops"}), (True, False, False)),
        (identity({"Group": "alice"}), (False, False, False)),
        (identity({"Machine": "10.1.2.3"}), (False, True, False)),
        (identity({"MachineSet": ["10.0.0.0/8", "192.0.2.1"]}), (True, True, True)),
        (identity({"MachineSet": {"10.0.0.0/8": True}}), (False, True, False)),
        ({"Not": identity({"Group": "ops"})}, (False, True, True)),
        ({"AllOf": [identity("Authenticated"), identity({"Machine": "192.0.2.1"})]}, (True, False, False)),
        ({"AnyOf": [identity({"Group": "ops"}), identity({"Machine": "10.1.2.3"})]}, (True, True, False)),
        ({"AllOf": []}, (True, True, True)),
        ({"AnyOf": {}}, (False, False, False)),
        ({"Not": {"AnyOf": [identity({"Individual": "bob"})]}}, (True, False, True)),
    ],
)
def test_criteria(criteria: object, expected: tuple[bool, ...]) -> None:
    assert tuple(fits(criteria, one) for one in (ALICE, BOB, NOBODY)) == expected


def test_an_ipv4_address_inside_of_ipv6_is_the_same_machine() -> None:
    mapped = who(peer="::ffff:10.1.2.3")
    assert fits(identity({"Machine": "10.1.2.3"}), mapped)
    assert fits(identity({"MachineSet": ["10.0.0.0/8"]}), mapped)
    assert not fits(identity({"Machine": "10.1.2.4"}), mapped)
    assert not fits(identity({"Machine": "10.1.2.3"}), who(peer=None))


def rule(criteria: object, privilege: str, access: str) -> dict[str, object]:
    return {"criteria": criteria, "privilege": privilege, "access": access}


def test_the_first_rule_that_fits_decides() -> None:
    rules = AccessControlList.from_option(
        [
            rule(identity({"Group": "ops"}), "POST", "Allow"),
            rule(identity({"Individual": "alice"}), "GET", "Deny"),
            rule(identity("Any"), "GET", "Allow"),
        ]
    )

    def answer(subject: Subject, privilege: str) -> str | None:
        found: Rule | None = rules.find(subject, privilege)
        return None if found is None else found.access

    assert answer(ALICE, "GET") == "Deny"
    assert answer(BOB, "GET") == "Allow"
    assert answer(ALICE, "POST") == "Allow"
    assert answer(BOB, "POST") is None
    assert answer(ALICE, "get") is None
    assert AccessControlList.from_option({}).find(ALICE, "GET") is None


def test_only_a_rule_that_allows_gives_access() -> None:
    allow, deny = AccessControlList.from_option(
        [rule(identity("Any"), "GET", x) for x in ("Allow", "Deny")]
    ).rules
    assert [Decision(one).allows for one in (allow, deny, None)] == [True, False, False]


def test_a_rule_is_shown_as_it_was_given() -> None:
    criteria = {
        "AllOf": [
            {"AnyOf": [identity({"Individual": "a"}), identity("Any"), identity({"Machine": "::1"})]},
            {"Not": identity({"MachineSet": ["10.0.0.0/8", "192.0.2.1"]})},
            identity({"Group": "g"}),
        ]
    }
    given = rule(criteria, "GET", "Deny")
    assert AccessControlList.from_option([given]).rules[0].to_option() == given


# -- names of resources ----------------------------------------------------------------------------------------
def test_a_url_and_all_that_it_is_part_of() -> None:
    assert http_resource("127.0.0.1:8080", "/foo/bar/baz").names == (
        "http_listener/127.0.0.1:8080/foo/bar/baz",
        "http_listener/127.0.0.1:8080/foo/bar",
        "http_listener/127.0.0.1:8080/foo",
        "http_listener/127.0.0.1:8080",
        "http_listener/*/foo/bar/baz",
        "http_listener/*/foo/bar",
        "http_listener/*/foo",
        "http_listener",
    )
    assert http_resource("[::1]:80", "/").names == (
        "http_listener/[::1]:80/",
        "http_listener/[::1]:80",
        "http_listener/*/",
        "http_listener",
    )


def test_long_paths_are_cut() -> None:
    assert http_resource("a:1", "/" + "x/" * 100).name == "http_listener/a:1" + "/x" * 10
    assert len(http_resource("a:1", "/" + "x" * 1000).name) == len("http_listener/a:1/") + 255
    assert len(http_resource("a:1", "/" * 1000).names) == 22


# -- files -----------------------------------------------------------------------------------------------------
FILE = """
[[acl."http_listener"]]
allow = true
privileges = ["GET", "PUT"]
identity.Individual = "alice"

[[acl."http_listener"]]
allow = false
privileges = ["POST"]
identity.Unauthenticated = {}

[[acl."http_listener/*/api"]]
allow = true
privileges = ["GET"]
[[acl."http_listener/*/api".criteria.AllOf]]
Identity.Authenticated = {}
[[acl."http_listener/*/api".criteria.AllOf]]
Identity.Machine = "10.1.2.3"

[[acl."http_listener/*/other"]]
allow = true
privileges = []
criteria.AllOf = [{ Identity = { Individual = "bob" } }, { Identity = { Machine = "10.1.2.3" } }]
"""


def test_a_file() -> None:
    lists = AclMap.from_toml(FILE)
    assert list(lists) == ["http_listener", "http_listener/*/api", "http_listener/*/other"]
    everywhere, api = lists.get("http_listener"), lists.get("http_listener/*/api")
    assert everywhere is not None
    assert api is not None
    assert [(one.privilege, one.access) for one in everywhere.rules] == [
        ("GET", "Allow"),
        ("PUT", "Allow"),
        ("POST", "Deny"),
    ]
    assert everywhere.find(ALICE, "PUT")
    assert everywhere.find(NOBODY, "POST")
    assert everywhere.find(BOB, "GET") is None
    assert api.find(BOB, "GET")
    assert api.find(ALICE, "GET") is None
    assert lists.get("http_listener/*/api/more") is None


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("privileges = ['GET']\nidentity.Any = {}", r'acl."r"\[1\]: .allow. must be true or false'),
        ("allow = 1\nprivileges = ['GET']\nidentity.Any = {}", "'allow' must be true or false"),
        ("allow = true\nidentity.Any = {}", "'privileges' is required"),
        ("allow = true\nprivileges = 'GET'\nidentity.Any = {}", r"privileges must be a list"),
        ("allow = true\nprivileges = [1]\nidentity.Any = {}", r"privileges\[1\] must be a string"),
        ("allow = true\nprivileges = ['GET']", "either 'identity' or 'criteria' is required"),
        (
            "allow = true\nprivileges = []\nidentity.Any = {}\ncriteria.Identity.Any = {}",
            "either 'identity' or 'criteria'",
        ),
        ("allow = true\nprivilege = ['GET']\nidentity.Any = {}", "'privilege' .did you mean 'privileges'"),
        ("allow = true\nprivileges = []\nidentity.Grop = 'x'", "there is no 'Grop' .did you mean 'Group'"),
        ("allow = true\nprivileges = []\nidentity.Any = 5", "identity.Any takes nothing"),
        ("allow = true\nprivileges = []\nidentity.Machine = '10.0.0.0/8'", "must be an IP address"),
        ("allow = true\nprivileges = []\nidentity.MachineSet = ['x']", "'x' is not a network"),
        ("allow = true\nprivileges = []\nidentity = {}", "must have exactly one of"),
        ("allow = true\nprivileges = []\ncriteria.Group = 'x'", "write Identity = { Group = … }"),
        ("allow = true\nprivileges = []\ncriteria.AllOf = 3", "criteria.AllOf must be a list"),
        ("allow = true\nprivileges = []\ncriteria.Not = []", "criteria.Not must be a table"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(entry: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AclMap.from_toml(f"[[acl.r]]\n{entry}\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
        ("", "it has no access control list"),
        ("acl = 1", "acl must be a table"),
        ("[acl]\nr = 1", 'acl."r" must be a list'),
        ("[acl]\nr = [1]", r'acl."r"\[1\] must be a table'),
        ("rules = 1", "unknown option 'rules'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AclMap.from_toml(text)


def test_what_is_wrong_with_rules_is_said() -> None:
    any_ = identity("Any")
    for value, problem in (
        ("x", "the rules must be a list"),
        ([1], r"\[1\] must be a table"),
        ([rule(any_, "GET", "Allow"), {"criteria": any_}], r"\[2\]: 'privilege' is required"),
        ([rule(any_, "GET", "allow")], "access must be 'Allow' or 'Deny', got 'allow'"),
        (
            [rule(any_, "GET", "Allow") | {"x": 1}],
            "unknown option 'x'; there are criteria, privilege, access",
        ),
        ([rule("Nobody", "GET", "Allow")], "there is no 'Nobody'"),
    ):
        with pytest.raises(ValueError, match=problem):
            AccessControlList.from_option(value)


def test_nesting_has_an_end() -> None:
    criteria: object = identity("Any")
    for _ in range(31):
        criteria = {"Not": criteria}
    assert not fits(criteria, NOBODY)
    with pytest.raises(ValueError, match="nested more than 32 deep"):
        fits({"Not": criteria}, NOBODY)
