"""kumo-py explain path: what a policy makes of a destination, and where each option was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kumo_py.cli import main

FILES = Path(__file__).parents[2] / "policies" / "extras"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example policy of the helpers."""
    monkeypatch.chdir(tmp_path)
    for source in FILES.iterdir():
        (tmp_path / source.name).write_text(
            source.read_text().replace("@WEB@", "1").replace("@SINK@", "2525")
        )
    return tmp_path


def explain(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["explain", "path", "--policy", "init.lua", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def explained(*arguments: str) -> Any:
    output = explain(*arguments, "--json")
    return json.loads(output[output.index("{\n") :])


def options(path: dict[str, Any]) -> dict[str, tuple[object, str | None, str | None]]:
    """Value, file and block of each."""
    return {one["option"]: (one["value"], one["file"], one["block"]) for one in path["options"]}


def test_the_whole_way_of_a_message() -> None:
    found = explained("--domain", "Receiver.test", "--tenant", "gold", "--campaign", "welcome")
    assert found["queue"] == "welcome:gold@receiver.test"
    queue = {one["option"]: (one["value"], one["default"]) for one in found["queue_options"]}
    assert queue["retry_interval"] == ("15m", "20m")
    assert queue["max_age"] == ("10h", "7days")
    assert queue["provider_name"] == ("receiver", None)
    assert found["pool"] == "pool-2"
    first, second = found["paths"]
    assert (first["source"], first["weight"]) == ("ip-2", 2)
    assert (second["source"], second["weight"]) == ("ip-3", 1)
    assert first["ready_queue"] == "ip-2->mx1.receiver.test@smtp_client"
    source = {one["option"]: one["value"] for one in first["source_options"]}
    assert source == {"source_address": "127.0.0.2", "ehlo_domain": "mta2.sender.test"}


def test_each_option_of_a_path_has_its_origin() -> None:
    (path,) = explained("--domain", "rolled.test", "--source", "ip-1")["paths"]
    found = options(path)
    mine, ours = "shaping.toml", found["idle_timeout"][1]
    assert str(ours).endswith("extras/data/shaping.toml")
    assert found["max_deliveries_per_connection"] == (5, mine, '["rolled.test".sources."ip-1"]')
    assert found["connection_limit"] == ("3", mine, '["rolled.test"]')
    assert found["provider_name"] == ("receiver", mine, '[provider."receiver"]')
    assert found["additional_connection_limits.shaping-provider-receiver-ip-1-limit"] == (
        "7",
        mine,
        '[provider."receiver"]',
    )
    assert found["smtp_port"] == (2525, mine, '["default"]')
    assert found["idle_timeout"] == ("1m", ours, '["default"]')
    assert found["refresh_strategy"] == ("Epoch", None, None)
    assert "max_ready" not in found  # at its default


def test_a_site_that_the_dns_need_not_know() -> None:
    (path,) = explained("--domain", "nowhere.test", "--site", "mx1.receiver.test", "--source", "ip-3")[
        "paths"
    ]
    assert path["ready_queue"] == "ip-3->mx1.receiver.test@smtp_client"
    assert path["weight"] is None  # the default pool does not have it
    assert options(path)["max_deliveries_per_connection"][2] == '["receiver.test"]'


def test_another_route() -> None:
    found = explained("--domain", "nowhere.test", "--routing-domain", "rolled.test")
    assert found["queue"] == "nowhere.test!rolled.test"
    assert options(found["paths"][0])["connection_limit"][2] == '["rolled.test"]'


def test_for_people() -> None:
    lines = explain("--domain", "rolled.test", "--tenant", "standard").splitlines()
    assert "queue standard@rolled.test" in lines
    assert "pool pool-1" in lines
    assert "source ip-1, weight 1" in lines
    assert "ready queue ip-1->mx1.receiver.test@smtp_client" in lines
    (line,) = [line for line in lines if line.startswith("  max_deliveries_per_connection ")]
    assert line.split(maxsplit=2)[1:] == ["5", 'shaping.toml: ["rolled.test".sources."ip-1"]']
    assert any(line.endswith("the policy's handler") for line in lines)


def test_a_policy_without_helpers(directory: Path) -> None:
    (directory / "init.lua").write_text("""
      local kumo = require 'kumo'
      kumo.on('get_queue_config', function() return kumo.make_queue_config {
        protocol = { smtp = { mx_list = { '192.0.2.1' } } } } end)
      kumo.on('get_egress_path_config', function() return kumo.make_egress_path { max_ready = 5 } end)
    """)
    found = explained("--domain", "any.test")
    (path,) = found["paths"]
    assert (found["pool"], path["source"]) == ("unspecified", "unspecified")
    assert path["site_name"] == "mx_list:192.0.2.1"
    assert options(path) == {"max_ready": (5, None, None)}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--domain", "absent.test"), "absent.test"),
        (("--domain", "receiver.test", "--source", "ip-9"), "egress source 'ip-9' is not defined"),
        (("--domain", "receiver.test", "--policy", "absent.lua"), "cannot read the policy file absent.lua"),
    ],
)
def test_what_cannot_be_explained(arguments: tuple[str, ...], text: str) -> None:
    assert text in explain(*arguments, code=1)
