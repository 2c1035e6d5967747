#!/usr/bin/env python3
"""Takes the picture of the web console for docs/console.md: a relay with traffic for several tenants, in a browser.

    tools/demo/console_screenshot.py docs/console.png

Starts a sink that answers as mailbox providers do, a relay before it, and a headless Chromium; all on the loopback, and
all ended again. Needs chromium, chromedriver, and selenium from the dev dependencies. For another host name in the
picture: unshare --uts sh -c 'hostname mta1.example.com && tools/demo/console_screenshot.py docs/console.png'
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from browser import chromium  # noqa: E402
from real_node import RealNode  # noqa: E402
from smtp_client import SmtpClient  # noqa: E402

POLICY = """
local kumo = require 'kumo'
kumo.dns.configure_test_resolver {
  [[
$ORIGIN gmail.com.
@ 300 MX 5 gmail-smtp-in.l.google.com.
  ]], [[
$ORIGIN l.google.com.
gmail-smtp-in 300 A 127.0.0.11
  ]], [[
$ORIGIN yahoo.com.
@ 300 MX 1 mta5.am0.yahoodns.net.
  ]], [[
$ORIGIN am0.yahoodns.net.
mta5 300 A 127.0.0.12
  ]], [[
$ORIGIN outlook.com.
@ 300 MX 5 outlook-com.olc.protection.outlook.com.
outlook-com.olc.protection 300 A 127.0.0.13
  ]], [[
$ORIGIN strict.example.
@ 300 MX 1 mx.strict.example.
mx 300 A 127.0.0.14
  ]], [[
$ORIGIN away.example.
@ 300 MX 1 mx.away.example.
mx 300 A 127.0.0.15
  ]], [[
$ORIGIN small-shop.example.
@ 300 MX 1 mail.small-shop.example.
mail 300 A 127.0.0.16
  ]],
}
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_http_listener { listen = '127.0.0.1:0', console = 'actions' }
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' }, max_messages_per_connection = 1000000,
  }
end)
kumo.on('smtp_server_message_received', function(msg)
  msg:import_x_headers()
  msg:set_meta('tenant', msg:get_meta 'x_tenant')
  msg:set_meta('campaign', msg:get_meta 'x_campaign')
end)
kumo.on('get_egress_source', function(name) return kumo.make_egress_source { name = name } end)
kumo.on('get_egress_pool', function(name)
  return kumo.make_egress_pool { name = name, entries = { { name = 'ip-1' }, { name = 'ip-2' } } }
end)
kumo.on('get_queue_config', function(domain)
  return kumo.make_queue_config { egress_pool = 'shared', retry_interval = '10m' }
end)
kumo.on('get_egress_path_config', function(domain)
  local rates = { ['gmail.com'] = '70/s', ['yahoo.com'] = '8/s' }
  return kumo.make_egress_path {
    smtp_port = domain == 'away.example' and 9 or @PORT@, enable_tls = 'Disabled', enable_mta_sts = false,
    prohibited_hosts = {}, connection_limit = 10, max_message_rate = rates[domain],
  }
end)
"""
DOMAINS = (
    ["gmail.com"] * 9
    + ["yahoo.com"] * 4
    + ["outlook.com"] * 4
    + ["strict.example", "away.example", "small-shop.example"]
)
TENANTS = ["acme"] * 5 + ["globex"] * 3 + ["initech", None]
CAMPAIGNS: dict[str | None, list[str | None]] = {
    "acme": ["spring-sale", "receipts"],
    "globex": ["newsletter"],
    "initech": [None],
    None: [None],
}


def send(address: str, rate: Callable[[], float], stop: threading.Event) -> None:
    chance = random.Random(4)
    with SmtpClient(address) as client:
        client.greet()
        while not stop.is_set():
            tenant = chance.choice(TENANTS)
            campaign = chance.choice(CAMPAIGNS[tenant])
            recipient = f"user{chance.randrange(9999)}@{chance.choice(DOMAINS)}"
            headers = [f"Subject: Your order {chance.randrange(10**6)}", f"To: <{recipient}>"]
            headers += [f"X-Tenant: {tenant}"] if tenant else []
            headers += [f"X-Campaign: {campaign}"] if campaign else []
            client.envelope(f"news@{tenant or 'example'}.example", recipient)
            client.send("\r\n".join([*headers, "", "Hello", ".", ""]).encode())
            client.reply()
            stop.wait(chance.expovariate(rate()))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("file", type=Path)
    options.add_argument(
        "--seconds", type=float, default=310.0, help="of traffic before the picture is taken"
    )
    options.add_argument("--dark", action="store_true")
    options.add_argument("--size", default="1360x1500", help="of the window")
    options.add_argument("--broken-policy", action="store_true", help="edit the policy for the worse before")
    options.add_argument("--open", metavar="QUEUE", help="open a queue's messages before")
    chosen = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kumo-py-console-"))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, directory)
        environment = {"KUMO_SINK_LISTEN": "0.0.0.0:0", "KUMO_SINK_DIR": str(directory / "sink")}
        environment["KUMO_SINK_RULES"] = str(ROOT / "policies/smart_sink.toml")
        sink = RealNode(ROOT / "policies/smart_sink.lua", directory / "sink", environment=environment)
        ending.callback(sink.kill)
        sink.wait_ready()
        parts = {"DIR": str(directory), "PORT": sink.address.rpartition(":")[2]}
        policy = re.sub("@([A-Z]+)@", lambda found: parts[found[1]], POLICY)
        relay = RealNode(policy, directory / "relay")
        ending.callback(relay.kill)
        relay.wait_ready()
        url = "http://" + re.findall(r"http listener on (\S+)", relay.text)[0]
        driver = ending.enter_context(chromium(directory / "browser", dark=chosen.dark, size=chosen.size))
        driver.get(url)
        stop = threading.Event()
        began = time.monotonic()
        sender = threading.Thread(
            target=send,
            args=(relay.address, lambda: 40 + 25 * math.sin((time.monotonic() - began) / 17), stop),
        )
        sender.start()
        ending.callback(sender.join)
        ending.callback(stop.set)
        time.sleep(chosen.seconds / 2)
        ready = "ip-2->gmail-smtp-in.l.google.com@smtp_client"
        rules = (
            ("suspend", {"tenant": "initech", "reason": "list under review", "duration": "2h"}),
            ("suspend-ready-q", {"name": ready, "reason": "ticket 4711: warm-up", "duration": "40m"}),
        )
        for kind, body in rules:
            httpx.post(f"{url}/api/admin/{kind}/v1", json=body).raise_for_status()
        if chosen.broken_policy:
            (directory / "relay/policy.lua").write_text(f"{policy}\nlocal x = \n")
        time.sleep(chosen.seconds / 2)
        if chosen.open:
            driver.find_element(
                "xpath", f"//table[@id='scheduled']//button[contains(., '{chosen.open}')]"
            ).click()
            time.sleep(1.5)
        driver.save_screenshot(str(chosen.file))
        print(f"{chosen.file}: {os.path.getsize(chosen.file)} bytes")


if __name__ == "__main__":
    main()
