"""The functions of `kumo` about log hooks, the bounce classifier and accounting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from kumo_py.core.policy import PolicyError
from kumo_py.logs import DeliveryLog, RecordType

if TYPE_CHECKING:
    from pathlib import Path

    from policy_host import MakePolicy, RecordingHost

INIT = "kumo.on('init', function()\n{}\nend)"


async def test_loggers_are_set_up(policy: MakePolicy, host: RecordingHost, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[rules]\n")
    log = DeliveryLog("557f3ad4-2c8c-11ee-976e-782d7e12e173", host.wall)
    host.node = SimpleNamespace(log=log, queues=None)
    lua = policy(
        INIT.format(
            f"""
            kumo.configure_log_hook {{
              name = 'web', back_pressure = 10, meta = {{ 'a' }}, headers = {{ 'Subject' }}, deferred_spool = true,
              per_record = {{ Any = {{ enable = false }}, Bounce = {{ template = '{{{{ id }}}}' }} }},
            }}
            kumo.configure_log_disposition_hook {{ name = 'see', per_record = {{ Any = {{ enable = false }} }} }}
            kumo.configure_bounce_classifier {{
              files = {{ '{tmp_path}/rules.toml' }}, pool_size = 2, cache_size = 5, uncategorized_cache_size = 6,
            }}
            kumo.configure_accounting_db_path '{tmp_path}/accounting.db'
            """
        )
    )
    await lua.load()
    await lua.ask("init")
    wanted = [kind for kind in RecordType if log.wants(kind)]
    assert wanted == [RecordType.Reception, RecordType.Delivery, RecordType.Bounce]
    assert log.needs_headers
    await log.aclose()
    assert (tmp_path / "accounting.db").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("kumo.configure_log_hook { nam = 'x' }", "unknown option 'nam' (did you mean 'name'?)"),
        (
            "kumo.configure_log_hook { name = 'x', per_record = { Bounce = { template = '{{' } } }",
            "option 'per_record.Bounce': template 'template' line 1",
        ),
        ("kumo.configure_log_disposition_hook {}", "option 'name' is required"),
        ("kumo.configure_bounce_classifier { files = { 'a.txt' } }", "must end in .toml or .json"),
        (
            "kumo.configure_bounce_classifier { files = { '/nowhere/a.toml' } }",
            "/nowhere/a.toml: No such file",
        ),
        ("kumo.configure_accounting_db_path {}", "argument 'path' must be a string, got a table"),
    ],
)
async def test_mistakes_name_the_line(policy: MakePolicy, host: RecordingHost, call: str, said: str) -> None:
    log = DeliveryLog("557f3ad4-2c8c-11ee-976e-782d7e12e173", host.wall)
    host.node = SimpleNamespace(log=log, queues=None)
    lua = policy(INIT.format(call))
    await lua.load()
    with pytest.raises(PolicyError) as caught:
        await lua.ask("init")
    assert said in str(caught.value)
    assert "policy.lua:" in str(caught.value)


async def test_hooks_belong_in_init(policy: MakePolicy) -> None:
    lua = policy("kumo.configure_log_hook { name = 'x' }")
    with pytest.raises(PolicyError, match="belongs in the init event"):
        await lua.load()
