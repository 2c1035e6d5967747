"""The web console in a real browser, with a real node that has mail to deliver."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from browser import chromium
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from smtp_client import SmtpClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import StartNode
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement
    from smtp_sink import SmtpSink

pytestmark = [pytest.mark.time_limit(120), pytest.mark.slow]

POLICY = """
local kumo = require 'kumo'
kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = '@DIR@/' .. name, min_free_space = 0, min_free_inodes = 0 }
  end
  kumo.configure_local_logs { log_dir = '@DIR@/logs', min_free_space = 0, min_free_inodes = 0 }
  kumo.start_http_listener { listen = '127.0.0.1:@READING@' }
  kumo.start_http_listener { listen = '127.0.0.1:@ACTING@', console = 'actions' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = { '127.0.0.0/8' } }
end)
kumo.on('smtp_server_message_received', function(msg)
  if msg:recipient().user == 'acme' then msg:set_meta('tenant', 'acme') end
end)
kumo.on('get_queue_config', function(domain)
  local to = domain == 'good.example' and '@SINK@' or '@FULL@'
  return kumo.make_queue_config { protocol = { smtp = { mx_list = { to } } }, retry_interval = '1h' }
end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path { enable_tls = 'Disabled', prohibited_hosts = {} }
end)
"""
SCRIPT = "<script>window.run = true</script><img src=x onerror='window.run = true'>"


class FullServer(socketserver.ThreadingTCPServer):
    """A mail server that is always full, and answers with a script."""

    daemon_threads = True

    class _Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 full\r\n")
            for line in self.rfile:
                full = line.upper().startswith(b"RCPT")
                self.wfile.write(f"452 4.2.2 full {SCRIPT}\r\n".encode() if full else b"250 ok\r\n")

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self._Session)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


class Site:
    """The node, and the page in the browser."""

    def __init__(self, driver: Chrome, start_node: StartNode, directory: Path, sink: str, full: str) -> None:
        self.driver = driver
        self.ports = {"READING": str(free_port()), "ACTING": str(free_port())}
        parts = self.ports | {"DIR": str(directory), "SINK": sink, "FULL": full}
        self.policy = re.sub("@([A-Z]+)@", lambda found: parts[found[1]], POLICY)
        self._start_node = start_node
        self.start()

    def start(self) -> None:
        self.node = self._start_node(self.policy)

    def open(self, listener: str) -> Self:
        self.url = f"http://127.0.0.1:{self.ports[listener]}"
        self.severe()
        self.driver.get(self.url)
        self.until(lambda: self.text("#state") == "Live")
        return self

    def send(self, recipient: str, count: int, subject: str = "hello") -> None:
        with SmtpClient(self.node.address) as client:
            client.greet()
            for _ in range(count):
                assert client.envelope("from@a.example", recipient).code == 354
                client.send(f"Subject: {subject}\r\n\r\nThe body {SCRIPT}\r\n.\r\n".encode())
                assert client.reply().code == 250

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def rows(self, table: str) -> list[list[str]]:
        """What its rows say, cell by cell."""
        found: list[list[str]] = self.driver.execute_script(
            "return [...document.querySelectorAll(`#${arguments[0]} > tbody > tr`)]"
            ".map((row) => [...row.cells].map((cell) => cell.innerText))",
            table,
        )
        return found

    def until(self, condition: Callable[[], Any]) -> None:
        def holds(_: object) -> bool:
            return bool(condition())

        wait = WebDriverWait(
            self.driver, 15, poll_frequency=0.05, ignored_exceptions=(StaleElementReferenceException,)
        )
        wait.until(holds)

    def press(self, name: str, within: str = "body") -> None:
        """The button of this name that can be seen."""
        [one] = [
            found for found in self.all(f"{within} button") if found.is_displayed() and found.text == name
        ]
        one.click()

    def api(self, path: str) -> Any:
        return httpx.get(self.url + path).raise_for_status().json()

    def severe(self) -> list[str]:
        """What the browser's console has of errors since it was asked last."""
        entries: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


@pytest.fixture
def site(driver: Chrome, start_node: StartNode, tmp_path: Path, sink: SmtpSink) -> Iterator[Site]:
    with FullServer() as full:
        yield Site(driver, start_node, tmp_path, sink.address, full.address)
        assert driver.execute_script("return window.run") is None
        driver.get("about:blank")
        full.shutdown()


def test_numbers_follow_traffic(site: Site) -> None:
    site.send("one@full.example", 1)
    site.send("acme@full.example", 3)
    site.send("to@good.example", 5)
    site.open("READING")
    site.until(lambda: site.text("#total-delivered") == "5 in all")
    assert site.text("#total-received") == "9 in all"
    assert site.text("#total-transfailed") == "4 in all"
    site.until(lambda: site.text("#total-scheduled") == "4")
    assert site.text("h1") == site.api("/api/kumo-py/overview/v1")["node"]["hostname"]
    rows = site.rows("scheduled")
    assert [row[0].split("\n") for row in rows[:2]] == [["full.example", "acme"], ["full.example"]]
    assert [row[1] for row in rows] == ["3", "1", "0"]
    assert f"452 4.2.2 full {SCRIPT}" in rows[0][3]
    assert rows[0][4] == "waiting"
    assert site.rows("tenants") == [["acme", "3"]]
    paths = site.rows("ready")
    assert len(paths) == len(site.rows("sites")) == 2
    assert {row[2].partition(" / ")[2] for row in paths} == {"32"}

    site.send("to@good.example", 40)
    site.until(lambda: site.text("#total-delivered") == "45 in all")
    site.until(lambda: float(site.text("#chart-delivered output")) > 5)
    site.until(lambda: "L" in (site.find("#chart-delivered .line").get_attribute("d") or ""))
    site.until(lambda: any(row[3] not in ("0", "–") for row in site.rows("ready")))

    # what comes first is the reader's choice, and the server's answer
    assert site.find("#scheduled th[aria-sort]").text == "Messages"
    site.press("Oldest", "#scheduled")
    site.until(lambda: site.rows("scheduled")[0][1] == "1")
    assert site.find("#scheduled th[aria-sort]").text == "Oldest"
    site.press("Messages", "#scheduled")
    site.until(lambda: site.rows("scheduled")[0][1] == "3")

    site.find("#filter").send_keys("GOOD")
    site.until(lambda: [row[0] for row in site.rows("scheduled")] == ["good.example"])
    assert site.text("#scheduled-count") == "1 with “GOOD”"
    site.until(lambda: site.text("#ready-title").endswith("0 with “GOOD”"))
    assert "No ready queue" in site.find("#ready-title").find_element(By.XPATH, "../div").text
    site.find("#filter").send_keys(Keys.BACKSPACE * 4)
    site.until(lambda: len(site.rows("scheduled")) == 3)
    site.press("acme", "#tenants")
    site.until(lambda: [row[0].split("\n")[-1] for row in site.rows("scheduled")] == ["acme"])
    assert site.severe() == []


def test_messages_are_shown_as_text(site: Site) -> None:
    site.send("to@full.example", 2, subject=SCRIPT)
    site.open("READING")
    site.until(lambda: site.rows("scheduled"))
    site.find("#scheduled tbody button").click()
    site.until(lambda: len(site.all("#detail .messages tbody tr")) == 4)
    assert site.text("#detail h2") == "full.example"
    row = site.all("#detail .messages tbody tr")[0]
    assert row.text.startswith("from@a.example → to@full.example\n")
    age, attempts, due = (cell.text for cell in row.find_elements(By.TAG_NAME, "td"))
    assert re.fullmatch(r"\d+s", age)
    assert attempts == "1"
    assert re.match(r"in (59m|1h|6\dm)", due), due
    row.find_element(By.TAG_NAME, "button").click()
    site.until(lambda: len(site.all("#detail pre")) == 3)
    headers, body, metadata = (found.text for found in site.all("#detail pre"))
    assert f"Subject: {SCRIPT}" in headers
    assert body == f"The body {SCRIPT}"
    assert '"reception_protocol": "ESMTP"' in metadata
    assert site.all("#detail img") == []
    site.press("✕", "#detail")
    assert not site.find("#detail").is_displayed()
    assert site.severe() == []


def test_actions(site: Site) -> None:
    site.send("to@full.example", 3)
    site.open("ACTING")
    site.until(lambda: [row[1] for row in site.rows("scheduled")] == ["3"])
    site.find("#scheduled tbody button").click()
    site.press("Suspend…", "#detail")
    assert site.text("#confirm h2") == "Suspend full.example?"
    assert "3 messages" in site.text("#confirm-text")
    go = site.find("#confirm .go")
    assert not go.is_enabled()
    site.press("Cancel", "#confirm")
    assert site.api("/api/admin/suspend/v1") == []
    site.press("Suspend…", "#detail")
    site.find("#confirm [name=reason]").send_keys("list <b>under</b> review")
    go.click()
    site.until(lambda: not site.find("#confirm").is_displayed())
    [rule] = site.api("/api/admin/suspend/v1")
    assert rule["reason"] == "list <b>under</b> review"
    site.until(lambda: site.rows("scheduled")[0][4] == "suspended\nlist <b>under</b> review")
    [[what, reason, left, _]] = site.rows("rules")
    assert (what, reason) == ("Suspended full.example", "list <b>under</b> review")
    assert re.fullmatch(r"4m \d+s|5m", left)
    site.press("End", "#rules")
    assert "full.example" in site.text("#confirm-text")
    site.press("Resume", "#confirm")
    site.until(lambda: site.rows("rules") == [])
    assert site.api("/api/admin/suspend/v1") == []

    site.find("#scheduled tbody button").click()
    site.press("Bounce…", "#detail")
    site.find("#confirm [name=reason]").send_keys("no longer wanted")
    for typed in ("full.exampl", "e"):
        assert not go.is_enabled()
        site.find("#confirm [name=queue]").send_keys(typed)
    go.click()
    site.until(lambda: site.text("#total-failed") == "3 in all")
    site.until(lambda: site.text("#total-scheduled") == "0")
    assert site.severe() == []


def test_hold_release_and_try_now(site: Site) -> None:
    def choose(label: str, then: str, reason: str = "") -> None:
        site.find("#scheduled tbody button").click()
        site.press(label, "#detail")
        if reason:
            site.find("#confirm [name=reason]").send_keys(reason)
        site.press(then, "#confirm")
        site.until(lambda: not site.find("#confirm").is_displayed())

    site.send("to@full.example", 2)
    site.open("ACTING")
    site.until(lambda: [row[1] for row in site.rows("scheduled")] == ["2"])
    choose("Hold…", "Hold", "under review")
    site.until(lambda: site.text("#notices") == "full.example: 2 messages held.")
    site.until(lambda: site.rows("scheduled")[0][4] == "held")
    site.send("to@full.example", 1)
    site.until(lambda: site.rows("scheduled")[0][4] == "waiting\n2 held")
    site.find("#scheduled tbody button").click()
    site.until(lambda: len(site.all("#detail .messages tbody tr")) == 6)
    last = [row.find_elements(By.TAG_NAME, "td")[-1].text for row in site.all("#detail .messages tbody tr")]
    assert last[0::2][:2] == ["held: under review"] * 2
    site.press("✕", "#detail")
    choose("Try now…", "Try now")
    site.until(lambda: site.text("#total-transfailed") == "4 in all")
    site.until(lambda: site.rows("scheduled")[0][1] == "3")
    choose("Release…", "Release")
    site.until(lambda: site.text("#total-transfailed") == "6 in all")
    site.until(lambda: site.rows("scheduled")[0][4] == "waiting")
    assert site.severe() == []


def test_an_action_that_fails_says_so(site: Site) -> None:
    site.send("to@full.example", 1)
    site.open("ACTING")
    site.until(lambda: site.rows("scheduled"))
    httpx.post(f"{site.url}/api/admin/suspend/v1", json={"reason": "x"}).raise_for_status()
    site.until(lambda: len(site.rows("rules")) == 1)
    site.press("End", "#rules")
    [rule] = site.api("/api/admin/suspend/v1")
    httpx.request("DELETE", f"{site.url}/api/admin/suspend/v1", json={"id": rule["id"]}).raise_for_status()
    site.press("Resume", "#confirm")
    site.until(lambda: site.text("#confirm-error") == f"suspend entry {rule['id']} not found")
    assert len(site.severe()) == 1  # the browser notes the 404


def test_reading_only(site: Site) -> None:
    site.send("to@full.example", 1)
    site.open("READING")
    httpx.post(f"{site.url}/api/admin/suspend/v1", json={"reason": "x"}).raise_for_status()
    site.until(lambda: len(site.rows("rules")) == 1)
    site.until(lambda: site.rows("scheduled"))
    site.find("#scheduled tbody button").click()
    site.until(lambda: site.all("#detail .messages tbody tr"))
    words = [found.get_attribute("textContent") or "" for found in site.all("button") if found.is_displayed()]
    assert not [word for word in words if re.match("suspend|resume|bounce|end|try|hold|release", word, re.I)]


def test_a_refused_policy_is_shown(site: Site) -> None:
    site.open("READING")
    assert site.all("#notices .notice") == []
    policy = site.node.directory / "policy.lua"
    policy.write_text(site.policy + "\nlocal x = = 1\n")
    site.until(lambda: "was refused" in site.text("#notices"))
    line = site.policy.count("\n") + 2
    assert f"policy.lua:{line}: unexpected symbol near '='" in site.text("#notices pre")
    assert f"policy.lua:{line}" in site.text("#policy")
    policy.write_text(site.policy + "\n-- well\n")
    site.until(lambda: site.all("#notices .notice") == [])
    site.until(lambda: "policy epoch 2" in site.text("#facts"))
    assert site.severe() == []


def test_a_node_that_goes_and_comes_back(site: Site) -> None:
    site.open("READING")
    site.node.stop()
    site.until(lambda: site.text("#state") == "Away")
    assert "The node does not answer. What you see is of " in site.text("#notices")
    site.start()
    site.until(lambda: site.text("#state") == "Live")
    assert site.all("#notices .notice") == []
    assert all("ERR_CONNECTION_REFUSED" in message for message in site.severe())
