"""What all tests share: hypothesis without chance or clock, time limits, and programs that may be absent.

- `@pytest.mark.time_limit(seconds)`: the test fails with a traceback where it hangs.
- `require_program("swaks")`: the program's path. Without it the test is skipped, and with
  KUMO_PY_REQUIRE_PEERS=1 it fails: where everything must be there, nothing may be left out in silence.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import structlog
from hypothesis import settings
from programs import absent, require_program
from real_node import Preloaded, RealNode
from smtp_sink import SmtpSink

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

RequireProgram = Callable[[str], str]
StartNode = Callable[..., RealNode]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "time_limit(seconds): fail where the test then is")


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("time_limit")
    if marker is None:
        yield
        return
    seconds = float(marker.args[0])

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"the test did not end within {seconds:g}s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _diagnostics_end_with_their_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that is called in this process sets up its own diagnostics, on a stderr that is gone afterwards."""
    configure = structlog.configure

    def without_cache(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", without_cache)
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(scope="session", name="absent")
def _absent() -> Callable[[str], NoReturn]:
    return absent


@pytest.fixture(scope="session", name="require_program")
def _require_program() -> RequireProgram:
    return require_program


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """Starts `kumo-py serve` as a process of its own; killed with the test. See RealNode."""
    nodes: list[RealNode] = []

    def start(policy: str | Path, directory: Path = tmp_path, **options: object) -> RealNode:
        node = RealNode(policy, directory, **options)  # type: ignore[arg-type]
        nodes.append(node)
        node.wait_ready()
        return node

    yield start
    for node in nodes:
        node.kill()


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    with Preloaded() as preloaded:
        yield preloaded
