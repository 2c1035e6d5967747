"""Faults under a running node: disks that are full or broken, files that may not grow, no descriptors left.

What cannot be stored is answered with 421, 451 or 452 and leaves nothing behind, the node lives on, and takes mail
again as soon as the fault is gone.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from checked_load import make_content, sequence_of
from real_node import Preloaded, RealNode, relay_policy
from smtp_client import SmtpClient
from spool_contents import spooled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import NoReturn

    from smtp_sink import SmtpSink

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(60)]

TEMPORARY = {421, 451, 452}


class Mailer:
    """Sends numbered messages to a node, and knows which were accepted."""

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self._sent = 0
        self._chance = random.Random(7)

    def send(self, node: RealNode, *, size: int = 2000) -> int:
        """One message on a connection of its own; the reply's code, 250 or a temporary refusal."""
        with SmtpClient(node.address) as client:
            answer = client.greet()
            return self.send_on(client, size=size) if answer.code == 250 else self._checked(answer.code)

    def send_on(self, client: SmtpClient, *, size: int = 2000) -> int:
        self._sent += 1
        content = make_content(self._sent, size, self._chance)
        code = client.message("s@client.example", "r@far.example", content).code
        if code == 250:
            self.accepted.append(self._sent)
        return self._checked(code)

    def _checked(self, code: int) -> int:
        assert code == 250 or code in TEMPORARY, code
        return code

    def send_until_accepted(self, node: RealNode, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.send(node) != 250:
            assert time.monotonic() < deadline, (
                f"no mail is accepted {timeout:g}s after the fault:\n{node.text}"
            )
            time.sleep(0.05)


def check_end(node: RealNode, mailer: Mailer, sink: SmtpSink) -> None:
    """What was accepted has come once and nothing else, also after a restart; the spool is empty."""
    sink.wait_for(len(mailer.accepted), 15)
    node.stop()
    assert spooled(node.directory) == set()
    delivered = [sequence_of(delivery.content) for delivery in sink.deliveries]
    assert sorted(delivered) == mailer.accepted


def restarted(node: RealNode, start: Callable[..., RealNode]) -> RealNode:
    """After kill -9."""
    node.kill()
    return start(node.directory / "policy.lua")


@pytest.fixture
def start(start_node: Callable[..., RealNode], preloaded: Preloaded) -> Callable[..., RealNode]:
    return partial(start_node, preloaded=preloaded)


# -- files that may not grow -------------------------------------------------------------------------
@pytest.mark.parametrize("crash", [False, True], ids=["", "then a crash"])
def test_files_may_not_grow(
    start: Callable[..., RealNode], tmp_path: Path, sink: SmtpSink, *, crash: bool
) -> None:
    """RLIMIT_FSIZE (EFBIG)."""
    node = start(relay_policy(tmp_path, sink.address))
    sink.close()
    mailer = Mailer()
    assert [mailer.send(node) for _ in range(5)] == [250] * 5
    largest = max(file.stat().st_size for file in tmp_path.glob("*/*.seg"))
    limit = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (largest + 10_000, limit[1]))
    refusals = {mailer.send(node, size=40_000) for _ in range(5)}
    assert refusals <= TEMPORARY
    assert node.alive
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, limit)
    mailer.send_until_accepted(node, 5)
    if crash:
        node = restarted(node, start)
    sink.open()
    assert mailer.send(node, size=40_000) == 250
    check_end(node, mailer, sink)


# -- a disk that is full -----------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path, absent: Callable[[str], NoReturn]) -> Iterator[Path]:
    """A file system of 2 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as err:
        pytest.skip(f"a file system cannot be mounted here: {getattr(err, 'stderr', err)}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=10)


def test_full_disk(start: Callable[..., RealNode], tmp_path: Path, small_disk: Path, sink: SmtpSink) -> None:
    """ENOSPC: 452, while the sessions go on."""
    node = start(relay_policy(small_disk, sink.address, log_dir=tmp_path / "logs"), small_disk)
    sink.close()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    mailer = Mailer()
    with SmtpClient(node.address) as client:
        assert client.greet().code == 250
        codes = [mailer.send_on(client, size=50_000) for _ in range(60)]
        assert set(codes) == {250, 452}
        assert codes[-1] == 452
        assert 452 in {mailer.send(node, size=50_000) for _ in range(3)}
        ballast.unlink()
        assert mailer.send_on(client, size=50_000) == 250
    sink.open()
    check_end(node, mailer, sink)


def test_disk_below_its_minimum(
    start: Callable[..., RealNode], tmp_path: Path, small_disk: Path, sink: SmtpSink
) -> None:
    """min_free_space, 10% by default: 421 for new connections before anything fails."""
    node = start(relay_policy(small_disk, sink.address, log_dir=tmp_path / "logs", spool=""), small_disk)
    mailer = Mailer()
    assert mailer.send(node) == 250
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_900_000))
    time.sleep(1.1)  # it looks once a second
    assert mailer.send(node) == 421
    with SmtpClient(node.address) as client:
        assert client.greet().text.endswith("disk is too full. Try later")
    ballast.unlink()
    mailer.send_until_accepted(node, 5)
    check_end(node, mailer, sink)


def test_a_full_disk_empties_itself(
    start: Callable[..., RealNode], tmp_path: Path, small_disk: Path, sink: SmtpSink
) -> None:
    """When the queue has drained there is room again, without a restart."""
    node = start(relay_policy(small_disk, sink.address, log_dir=tmp_path / "logs"), small_disk)
    sink.close()
    mailer = Mailer()
    while mailer.send(node, size=50_000) == 250:
        pass
    sink.open()
    sink.wait_for(len(mailer.accepted), 15)
    mailer.send_until_accepted(node, 10)
    assert [mailer.send(node, size=50_000) for _ in range(10)] == [250] * 10
    check_end(node, mailer, sink)


# -- a disk that fails -------------------------------------------------------------------------------
@contextlib.contextmanager
def faults(node: RealNode, strace: str, *injections: str) -> Iterator[None]:
    """Makes system calls of a running node fail, until the end of the block."""
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    options = [option for injection in injections for option in ("-e", f"inject={injection}")]
    command = [strace, "-f", "-qqq", "-o", os.devnull, "-e", f"trace={calls}", *options, "-p", str(node.pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _wait_for_tracer(node, tracer, traced=True)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            _, problems = tracer.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.communicate()
            raise
        _wait_for_tracer(node, tracer, traced=False)
    assert not problems, problems


def _wait_for_tracer(node: RealNode, tracer: subprocess.Popen[bytes], *, traced: bool) -> None:
    deadline = time.monotonic() + 10
    tasks = f"/proc/{node.pid}/task"
    while True:
        states = []
        for task in os.listdir(tasks):
            with contextlib.suppress(OSError), open(f"{tasks}/{task}/status") as file:
                states.append("TracerPid:\t0\n" not in file.read())
        if all(state is traced for state in states):
            return
        assert not traced or tracer.poll() is None, tracer.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def strace(require_program: Callable[[str], str], absent: Callable[[str], NoReturn]) -> str:
    path = require_program("strace")
    tried = subprocess.run([path, "-qq", "-o", os.devnull, "true"], capture_output=True, timeout=10)
    if tried.returncode:
        absent(f"strace cannot trace here: {tried.stderr.decode().strip()}")
    return path


@pytest.mark.parametrize(
    ("injections", "codes"),
    [
        pytest.param(["fdatasync:error=EIO"], {421}, id="sync fails"),
        pytest.param(["writev:error=EIO"], {421}, id="write fails"),
        pytest.param(["writev:error=ENOSPC"], {452}, id="no room"),
        pytest.param(["fdatasync:error=EIO", "ftruncate:error=EIO"], {421}, id="neither sync nor truncation"),
        pytest.param(
            ["fdatasync:error=EIO", "ftruncate:error=EIO", "?rename,?renameat,?renameat2:error=EROFS"],
            {421},
            id="nothing works",
        ),
    ],
)
def test_failing_disk(
    start: Callable[..., RealNode],
    tmp_path: Path,
    sink: SmtpSink,
    strace: str,
    injections: list[str],
    codes: set[int],
) -> None:
    node = start(relay_policy(tmp_path, sink.address))
    mailer = Mailer()
    assert mailer.send(node) == 250
    with faults(node, strace, *injections):
        assert {mailer.send(node) for _ in range(4)} == codes
    assert node.alive
    mailer.send_until_accepted(node, 5)
    assert [mailer.send(node) for _ in range(3)] == [250] * 3
    sink.wait_for(len(mailer.accepted), 10)
    time.sleep(0.2)  # the deliveries are noted, so that the crash makes no duplicates
    node = restarted(node, start)
    assert mailer.send(node) == 250
    check_end(node, mailer, sink)


@pytest.mark.parametrize("every", [2, 3, 5])
def test_disk_that_fails_now_and_then(
    start: Callable[..., RealNode], tmp_path: Path, sink: SmtpSink, strace: str, every: int
) -> None:
    """One sync or write of several fails: of a message's two records now this, now that, now both."""
    node = start(relay_policy(tmp_path, sink.address))
    sink.close()
    mailer = Mailer()
    injections = [f"fdatasync:error=EIO:when=1+{every}", f"writev:error=ENOSPC:when=2+{every + 2}"]
    with faults(node, strace, *injections):
        codes = [mailer.send(node) for _ in range(25)]
    assert {250, 421} <= set(codes) <= {250, 421, 452}
    node = restarted(node, start)
    sink.open()
    mailer.send_until_accepted(node, 5)
    check_end(node, mailer, sink)


# -- no descriptors left -----------------------------------------------------------------------------
def test_no_descriptors_left(start: Callable[..., RealNode], tmp_path: Path, sink: SmtpSink) -> None:
    """RLIMIT_NOFILE: who is connected is served, who comes waits, and is served when there is room."""
    node = start(relay_policy(tmp_path, sink.address))
    mailer = Mailer()
    clients = [SmtpClient(node.address)]
    assert clients[0].greet().code == 250
    assert mailer.send_on(clients[0]) == 250  # the spool's files are open now
    sink.close()
    in_use = len(os.listdir(f"/proc/{node.pid}/fd"))
    limit = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (in_use + 5, limit[1]))
    clients += [SmtpClient(node.address, timeout=1) for _ in range(30)]
    greeted = 0
    with contextlib.suppress(TimeoutError):
        for client in clients[1:]:
            client.greet()
            greeted += 1
    assert 0 < greeted < 10
    assert mailer.send_on(clients[0]) == 250
    assert node.alive
    sink.open()
    for client in clients:
        client.close()
    mailer.send_until_accepted(node, 5)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, limit)
    mailer.send_until_accepted(node, 5)
    assert "no new connections are accepted for now" in node.text
    assert "connections are accepted again" in node.text
    assert "Traceback" not in node.text
    check_end(node, mailer, sink)
