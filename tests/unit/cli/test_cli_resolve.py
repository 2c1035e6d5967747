"""What KumoMTA's scripts for operators answer from a policy, and its checks of files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kumo_py.cli import main

if TYPE_CHECKING:
    from pathlib import Path


POLICY = """
local kumo = require 'kumo'
kumo.on('pre_init', function()
  kumo.dns.configure_test_resolver { '$ORIGIN b.test.\\n@ 600 MX 10 mx\\nmx A 127.0.0.1\\n' }
end)
kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  if domain == 'broken.test' then error 'no such customer' end
  if domain == 'nobody.test' then return end
  return kumo.make_queue_config {
    max_message_rate = '10/s', egress_pool = tenant,
    protocol = domain == 'lua.test' and { custom_lua = { constructor = 'make.x' } }
      or domain == 'dir.test' and { maildir_path = '/tmp/x' } or nil,
  }
end)
kumo.on('get_egress_path_config', function(domain, source, site)
  return kumo.make_egress_path { max_message_rate = '1000/s', provider_name = source .. ' ' .. site }
end)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.lua").write_text(POLICY)
    monkeypatch.setenv("POLICY_PATH", str(tmp_path / "policy.lua"))
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    """What it prints, or its error."""
    result = CliRunner().invoke(main, arguments, prog_name="kumo-py")
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


# -- queues --------------------------------------------------------------------------------------------------
def test_a_queue() -> None:
    found = json.loads(run("resolve-queue-config", "spring:gold@b.test"))
    assert found["egress_pool"] == "gold"
    assert found["max_message_rate"] == "10/s"
    assert found["retry_interval"] == "20m"
    assert found["protocol"] == {"smtp": {"mx_list": [], "treat_mx_list_as_secure": False}}
    assert json.loads(run("resolve-queue-config", "nobody.test"))["egress_pool"] is None


@pytest.mark.parametrize(
    ("queue", "protocol"),
    [
        (
            "lua.test",
            {
                "custom_lua": {
                    "constructor": "make.x",
                    "batch_size": 1,
                    "min_batch_size": 1,
                    "max_batch_latency": "0s",
                }
            },
        ),
        ("dir.test", {"maildir_path": "/tmp/x", "dir_mode": None, "file_mode": None}),
    ],
)
def test_only_the_protocol_that_is_used_is_shown(queue: str, protocol: object) -> None:
    assert json.loads(run("resolve-queue-config", queue))["protocol"] == protocol


def test_policies_that_cannot_say(directory: Path) -> None:
    assert "no such customer" in run("resolve-queue-config", "broken.test", code=1)
    (directory / "wrong.lua").write_text("kumo.nowhere()")
    assert "wrong.lua:1" in run("resolve-queue-config", "b.test", "--policy", "wrong.lua", code=1)
    assert "missing.lua" in run("resolve-shaping-domain", "b.test", "--policy", "missing.lua", code=1)
    assert "Missing argument 'DOMAIN'" in run("resolve-shaping-domain", code=2)
    assert "No such option" in run("resolve-shaping-domain", "--json", "b.test", code=2)


# -- paths ---------------------------------------------------------------------------------------------------
def test_a_domain_for_people() -> None:
    text = run("resolve-shaping-domain", "b.test")
    queue, path, ceilings = text.partition("--- scheduled queue config ---\n\n")[2].split("\n--- ")
    assert text.startswith("--- scheduled queue config ---\n\n")
    assert '\nmax_message_rate = "10/s"\n' in queue
    assert path.startswith("egress path config ---\n\nadditional_connection_limits = {}\n")
    assert '\nprovider_name = "unspecified mx.b.test"\n' in path
    assert ceilings == (
        "effective ceilings ---\n\n"
        "ceilings:\n"
        "  concurrent dispatchers: 32\n"
        "    source: connection_limit\n"
        "  message rate:           10/s\n"
        "    source: scheduled queue max_message_rate\n"
        "    declared: max_message_rate = 1000/s ← effectively unreachable\n"
    )


def test_a_domain_as_json() -> None:
    path = json.loads(run("resolve-shaping-domain", "--json-config", "b.test", "ip-1"))
    assert (path["provider_name"], path["max_message_rate"]) == ("ip-1 mx.b.test", "1000/s")
    text = run(
        "resolve-shaping-domain", "--json-constraints", "--json-queue-config", "--json-config", "b.test"
    )
    queue, path, constraints = map(json.loads, text.split("\n\n"))
    assert queue["max_message_rate"] == "10/s"
    assert path["connection_limit"] == "32"
    assert constraints["max_message_rate"]["source"] == {
        "kind": "other",
        "name": "scheduled queue max_message_rate",
    }
    assert constraints["max_concurrent_dispatchers"] == {
        "value": 32.0,
        "source": {"kind": "primary"},
        "display": "32",
    }


def test_a_domain_that_the_dns_does_not_know() -> None:
    path = json.loads(run("resolve-shaping-domain", "--json-config", "unknown.test"))
    assert path["provider_name"] == "unspecified unknown.test"


def test_site_names() -> None:
    """Literals, which need no DNS."""
    assert run("resolve-site-name", "[127.0.0.1]") == "127.0.0.1\n"
    assert run("resolve-site-name", "--unbound", "--dnssec", "[127.0.0.1]") == "127.0.0.1\n"
    assert run("resolve-site-name", "not a name") == "not a name\n"


# -- throttles -----------------------------------------------------------------------------------------------
def test_a_throttle() -> None:
    assert run("explain-throttle", "100/s,max_burst=2") == (
        "100/s,max_burst=2\n"
        "explicit burst rate 2 every 10ms, or: 200/s, 12,000/m, 720,000/h, 17,280,000/d in that period.\n"
        "overall rate 100/s, 6,000/m, 360,000/h, 8,640,000/d\n"
    )
    assert "'fast' is not a throttle" in run("explain-throttle", "fast", code=1)


# -- files ---------------------------------------------------------------------------------------------------
def test_shaping_files(directory: Path) -> None:
    good = directory / "good.toml"
    good.write_text('["default"]\nconnection_limit = 3\n["b.test"]\nmx_rollup = false\nmax_ready = 5\n')
    result = CliRunner().invoke(main, ["validate-shaping", str(good)])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "OK\n")
    wrong = directory / "wrong.toml"
    wrong.write_text('["default"]\nconection_limit = 3\n')
    assert "connection_limit" in run("validate-shaping", str(good), str(wrong), code=1)


def test_the_files_that_kumomta_brings() -> None:
    """Ours take their place, as they do in a policy."""
    names = [f"/opt/kumomta/share/{name}/shaping.toml" for name in ("policy-extras", "community")]
    result = CliRunner().invoke(main, ["validate-shaping", *names])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [
        f"WARNING: {names[1]} is left out: KumoMTA is not installed here",
        "OK",
    ]


def test_how_grave_a_missing_file_is() -> None:
    assert run("validate-shaping", "nowhere.toml", code=1).startswith(
        "ERROR: local shaping source nowhere.toml"
    )
    result = CliRunner().invoke(main, ["validate-shaping", "--local-load", "Warn", "nowhere.toml"])
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (0, "OK")
    assert result.stderr.startswith("WARNING: local shaping source nowhere.toml")
    url = "http://127.0.0.1:1/shaping.toml"
    assert "WARNING: remote shaping source" in CliRunner().invoke(main, ["validate-shaping", url]).stderr
    assert run("validate-shaping", "--remote-load", "Error", url, code=1).startswith("ERROR: ")
    result = CliRunner().invoke(main, ["validate-shaping", "--remote-load", "Error", "--skip-remote", url])
    assert result.exit_code == 0
    assert result.stderr.endswith("because skip_remote is set to true\nOK\n")
    assert "'warn' is not one of" in run("validate-shaping", "--null-mx", "warn", url, code=2)
    assert "Missing argument 'FILES...'" in run("validate-shaping", code=2)


def test_bounce_rules(directory: Path) -> None:
    good = directory / "good.toml"
    good.write_text('[rules]\nInvalidRecipient = ["no such user"]\n')
    assert run("validate-bounces", str(good)) == "OK\n"
    assert run("validate-bounces") == "OK\n"
    wrong = directory / "wrong.json"
    wrong.write_text('{"rules": {"Bad": ["(unclosed"]}}')
    assert "wrong.json: rules.Bad[" in run("validate-bounces", str(good), str(wrong), code=1)
    wrong.write_text('{"rules": 1}')
    assert "wrong.json is no rule file" in run("validate-bounces", str(wrong), code=1)
    assert "must end in .toml or .json" in run("validate-bounces", "rules.yaml", code=1)
    assert "nowhere.toml" in run("validate-bounces", "nowhere.toml", code=1)
