"""`kumo-py lua`: what policies can name, for people, for programs and for editors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kumo_py.cli import main
from kumo_py.policy.inventory import take_inventory
from kumo_py.policy.luacats import field_name, stubs
from kumo_py.policy.reference import pages
from kumo_py.policy.surface import build_registry
from kumo_py.policy.type_names import all_structs, all_values

REPO = Path(__file__).parent.parent.parent.parent
REGISTRY = build_registry()
FILES = stubs(REGISTRY)
ALL = "\n".join(FILES.values())


def run(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["lua", *args])
    assert result.exit_code == code, result.output
    return result.output


# -- api -------------------------------------------------------------------------------------------------
def test_api_as_json() -> None:
    found = json.loads(run("api", "--json"))
    by_label = {one["label"]: one for one in found["functions"]}
    assert by_label["kumo.sleep"] == {
        "owner": "kumo",
        "name": "sleep",
        "label": "kumo.sleep",
        "kind": "function",
        "params": [{"name": "seconds", "type": "number", "optional": False, "rest": False}],
        "result": [],
        "writable": False,
        "async": True,
        "since": "-",
        "doc": "Wait; other events run meanwhile.",
    }
    assert by_label["message:get_meta"]["kind"] == "method"
    assert by_label["digest.hex"]["kind"] == "field"
    assert by_label["mimepart.body"]["writable"]
    assert by_label["kumo.version"]["kind"] == "constant"
    assert by_label["TimeDelta.__add"]["kind"] == "metamethod"
    assert by_label["kumo.log_info"]["params"][0]["rest"]
    assert {event["name"] for event in found["events"]} == set(REGISTRY.events)
    assert not any("._" in label and ".__" not in label for label in by_label)


def test_api_has_options_by_their_paths() -> None:
    options = {
        f"{one['constructor']}.{one['option']}": one for one in json.loads(run("api", "--json"))["options"]
    }
    host = options["kumo.make_queue_config.protocol.smtp.mx_list"]
    assert (host["type"], host["default"], host["required"]) == ("(string|NamedHost)[]", [], False)
    assert options["kumo.make_egress_pool.entries[].name"]["required"]
    assert options["kumo.configure_local_logs.per_record.*.suffix"]["type"] == "string"
    assert options["kumo.configure_local_logs.compression_level"]["bounds"] == ">= 0 and <= 21"
    assert options["kumo.start_esmtp_listener.max_message_size"]["default"] == 20 * 1024 * 1024
    assert options["kumo.start_esmtp_listener.implicit_tls"]["doc"].startswith("Ours, not KumoMTA's")
    assert options["kumo.start_esmtp_listener.peer"]["type"] == "table<string, ListenerOverrides>"
    assert options["kumo.dkim.ed25519_signer.key"]["type"] == "string|KeySource"
    assert options["message:import_headers.match"]["default"] == "last"
    assert not any(name.startswith("kumo.compute_queue_config_constraints") for name in options)


def test_api_for_people() -> None:
    text = run("api", "msg:set_m")
    assert "message:set_meta" in text
    assert "set_data" not in text
    assert "Options" not in text
    text = run("api", "mx_list")
    assert "Functions" not in text
    assert "get_queue_config" in run("api", "GET_QUEUE")
    assert "nothing has 'msg:set_mta' in its name; did you mean" in run("api", "msg:set_mta", code=1)


# -- stubs -----------------------------------------------------------------------------------------------
NAME = r"[A-Za-z_][\w.]*"
TYPES = re.compile(r"""[\s,:?|()\[\]{}<>]|\.\.\.|'[^']*'|fun\b|[A-Za-z_][\w.]*""")
LINES = [
    r"",
    rf"---@meta( {NAME})?",
    rf"---@class (\(exact\) )?{NAME}",
    rf"---@alias {NAME} (?P<type>.+)",
    r"---@field (?:[A-Za-z_]\w*|\['\w+'\]|\[string\])\?? (?P<type>\S+)(?P<about> .*)?",
    r"---@operator (?:add|sub|concat|len|call)(?:\(\S+\))?: (?P<type>\S+)",
    r"---@param (?:[A-Za-z_]\w*\??|\.\.\.) (?P<type>.+)",
    r"---@return (?P<type>.+)",
    r"---@overload (?P<type>fun\(.+\))",
    r"---@type (?P<type>.+)",
    r"---(?!@).*",
    rf"(local )?{NAME} = (\{{\}}|nil)",
    rf"function {NAME}(:[A-Za-z_]\w*)?\([\w, .]*\) end",
    rf"return {NAME}",
]
BASIC = {"any", "nil", "boolean", "integer", "number", "string", "table", "function", "fun"}
DECLARED = set(re.findall(r"^---@(?:class(?: \(exact\))?|alias) (\S+)", ALL, re.M))


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_luacats_and_every_type_is_declared(name: str) -> None:
    patterns = [re.compile(line) for line in LINES]
    for line in FILES[name].splitlines():
        match = next((found for one in patterns if (found := one.fullmatch(line))), None)
        assert match is not None, line
        if match.groupdict().get("type") is None:
            continue
        expression = match["type"]
        # `table<string, X>` holds the only space that a field's type may have.
        if line.startswith("---@field") and match["about"] and expression.count("<") > expression.count(">"):
            expression += match["about"].partition(">")[0] + ">"
        for opening, closing in ("()", "[]", "<>", "{}"):
            assert expression.count(opening) == expression.count(closing), line
        assert TYPES.sub("", expression) == "", line
        arguments = re.sub(r"'[^']*'|\b\w+\??:", "", expression)
        assert set(re.findall(NAME, arguments)) <= BASIC | DECLARED, line


def test_no_class_is_declared_twice() -> None:
    names = re.findall(r"^---@(?:class(?: \(exact\))?|alias) (\S+)", ALL, re.M)
    assert sorted(names) == sorted(set(names))
    structs = all_structs(REGISTRY)
    assert all(hasattr(value, "option_type") for value in all_values(structs))


def test_every_name_is_there() -> None:
    inventory = take_inventory(REGISTRY)
    for one in inventory.functions:
        if one.kind == "function":
            assert f"\nfunction {one.label}(" in ALL
        elif one.kind == "method":
            assert f":{one.name}(" in FILES["kinds.lua"]
        elif one.kind == "field":
            assert f"---@field {field_name(one.name)} " in FILES["kinds.lua"]
    for event in inventory.events:
        assert f"---@overload fun(event: '{event.name}', handler: " in FILES["kumo.lua"]
    for option in inventory.options:
        name = re.split(r"[.\[]", option.option.removesuffix("[]"))[-1]
        assert re.search(rf"---@field {re.escape(field_name(name))}\?? ", FILES["options.lua"]), option


def test_what_editors_are_told() -> None:
    for line in (
        "---@meta kumo",
        "---@field version string",
        "---@field connection_limit? LimitSpec Connections at once. Default: '32'.",
        "---@field ['end']? TimeOfDay",
        "---@alias Duration number|string",
        "---@operator add(TimeDelta): TimeDelta",
        "---@overload fun(event: 'init', handler: fun())",
        "---@overload fun(event: 'get_egress_pool', handler: (fun(pool_name: string): EgressPool))",
        "---@overload fun(event: 'main', handler: fun(...: string))",
        "---@return AddressHeader?",
        "function kumo.serde.json_parse(text) end",
        "function Message:set_meta(key, value) end",
        "return sqlite",
    ):
        assert f"\n{line}\n" in f"\n{ALL}"


# -- docs ------------------------------------------------------------------------------------------------
def test_the_reference_is_what_the_code_declares() -> None:
    committed = {
        str(path.relative_to(REPO / "docs" / "reference")): path.read_text()
        for path in (REPO / "docs" / "reference").rglob("*.md")
    }
    made = pages(REGISTRY)
    different = sorted(name for name in {*made, *committed} if made.get(name) != committed.get(name))
    assert not different, f"run `make docs` and commit docs/reference: {', '.join(different)}"


def test_every_link_of_the_reference_leads_somewhere() -> None:
    made = pages(REGISTRY)
    for name, text in made.items():
        for target in re.findall(r"\]\(([^)]+\.md)\)", text):
            if target == "../editors.md":
                continue
            path = (Path("/") / Path(name).parent / target).resolve()
            assert str(path).lstrip("/") in made, (name, target)


def test_pages_of_what_is_gone_are_removed(tmp_path: Path) -> None:
    run("docs", "--output", str(tmp_path))
    index = (tmp_path / "README.md").read_text()
    (tmp_path / "modules" / "kumo.gone.md").write_text(index)
    (tmp_path / "own.md").write_text("# Ours\n")
    run("docs", "--output", str(tmp_path))
    assert not (tmp_path / "modules" / "kumo.gone.md").exists()
    assert (tmp_path / "own.md").exists()
