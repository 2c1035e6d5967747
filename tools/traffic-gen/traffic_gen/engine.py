"""A run from start to end: in this process, or in several that share it.

    summary = run(Options(target=Target("127.0.0.1", 2025), message_count=1000))

Each worker is a process with its own reactor, its share of the connections, of the messages and of
the throttle.  Raises ValueError for what cannot be done as asked and OSError for a body file that
cannot be read; whatever the peer does is told by the Summary.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import resource
import signal
import time
import uuid
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .http import HttpSession
from .ledger import Ledger
from .payload import HttpPayload, SmtpPayload
from .reactor import Reactor, StopRequest
from .smtp import SmtpSession
from .summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    from .connection import Connection as Session
    from .options import Options

Progress: TypeAlias = "Callable[[Summary], None]"

_SPARE_FILES = 32  # descriptors for other things than connections


def run(options: Options, progress: Progress | None = None, stop: StopRequest | None = None) -> Summary:
    """Do what the options ask.

    progress: called about once a second with the figures so far.
    stop: asked from a signal handler or another thread, it ends the run early.
    """
    concurrency = min(options.concurrency, options.message_count or options.concurrency)
    options = replace(options, concurrency=concurrency, workers=min(options.workers, concurrency))
    raise_file_limit(-(-options.concurrency // options.workers), options.workers)
    run_id = uuid.uuid4().hex[:16]
    payload = HttpPayload(options, run_id) if options.http else SmtpPayload(options, run_id)
    stop = stop or StopRequest()
    report = progress or (lambda _summary: None)
    opened = mmap.mmap(-1, options.workers)
    shares = [
        _Share(_divide(options, index), run_id, payload, index, opened) for index in range(options.workers)
    ]
    if len(shares) == 1:
        return _work(shares[0], report, stop)
    return _run_workers(options, shares, report, stop)


def raise_file_limit(connections: int, workers: int) -> None:
    """Allow this process so many connections; ValueError if the system does not."""
    needed = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"{connections} connections in a process need {needed} open files, but its hard limit is "
            f"{hard}: raise it (ulimit -Hn {needed}), ask for less --concurrency, or for more than "
            f"{workers} --workers"
        )


@dataclass(frozen=True, slots=True)
class _Share:
    """What one worker has to do; its options hold its share of connections and messages."""

    options: Options
    run: str
    payload: SmtpPayload | HttpPayload
    index: int
    opened: mmap.mmap  # shared by the workers: a byte for each, 1 when its connections are open

    def all_open(self) -> bool:
        """This worker's connections are open; are everybody's?"""
        self.opened[self.index] = 1
        return self.opened.find(b"\0") < 0

    def summary(self, options: Options) -> Summary:
        """Figures yet without content, for the part of the run that `options` describe."""
        return Summary(
            run=self.run,
            target=str(options.target),
            protocol="http" if options.http else "smtp+starttls" if options.starttls else "smtp",
            workers=options.workers,
            concurrency=options.concurrency,
            message_bytes=self.payload.message_bytes,
            keep_going=options.keep_going,
            started=time.time(),
        )


def _divide(options: Options, index: int) -> Options:
    """The share of worker `index`; sequences then leave no gap, as those of worker i are i, i + n ..."""

    def part(whole: int) -> int:
        return (whole - index - 1) // options.workers + 1

    count = options.message_count
    return replace(
        options,
        concurrency=part(options.concurrency),
        message_count=None if count is None else part(count),
    )


def _work(share: _Share, report: Progress, stop: StopRequest) -> Summary:
    """Do one share in this process."""
    options, payload = share.options, share.payload
    summary = share.summary(options)
    ledger = Ledger(options, summary, share.index, options.workers)
    start, cpu_start = time.monotonic(), time.process_time()

    def take_stock(now: float) -> None:
        summary.elapsed = now - start
        summary.cpu = time.process_time() - cpu_start
        summary.max_rss = _max_rss()

    def on_tick(now: float) -> None:
        take_stock(now)
        report(summary)

    reactor = Reactor(options, ledger, stop, share.all_open, on_tick)
    sessions: list[Session]
    if isinstance(payload, HttpPayload):
        sessions = [HttpSession(reactor, ledger, options, payload) for _ in range(options.concurrency)]
    else:
        sessions = [SmtpSession(reactor, ledger, options, payload) for _ in range(options.concurrency)]
    reactor.run(sessions)
    take_stock(ledger.replied or time.monotonic())
    if ledger.unclaimed and not summary.stopped_by:
        last = next(reversed(summary.refusals), "")
        ledger.stop("error", f"gave up connecting with {ledger.unclaimed} messages unsent; {last}")
    ledger.stop("count")
    return summary


def _max_rss() -> int:
    """The most memory this process has held, in bytes (proc(5); getrusage's figure outlives an exec)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _run_workers(options: Options, shares: list[_Share], report: Progress, stop: StopRequest) -> Summary:
    """Fork the workers, add up what they report, pass requests to stop on."""
    fork = multiprocessing.get_context("fork")
    running: dict[Pipe, BaseProcess] = {}
    parts: dict[Pipe, Summary] = {}
    for share in shares:
        ours, theirs = fork.Pipe(duplex=False)
        process: BaseProcess = fork.Process(target=_worker, args=(theirs, share), daemon=True)
        process.start()
        theirs.close()
        running[ours] = process
    start = shares[0].summary(options)

    def total() -> Summary:
        whole = shares[0].summary(options)
        whole.started = start.started
        for part in parts.values():
            whole.add(part)
        return whole

    reported_at = time.monotonic()
    level = 0
    while running:
        for pipe in wait(list(running), 0.2):
            assert isinstance(pipe, Pipe)
            finished = True
            try:
                finished, parts[pipe] = pipe.recv()
            except EOFError:
                parts[pipe] = replace(start, stopped_by="error", error="a worker process died")
            if finished:
                running.pop(pipe).join()
                pipe.close()
                if parts[pipe].stopped_by == "error":
                    stop.break_off()
        if stop.level > level:
            level = stop.level
            for process in running.values():
                if process.pid is not None:
                    os.kill(process.pid, signal.SIGTERM if level > 1 else signal.SIGINT)
        if time.monotonic() - reported_at >= 1:
            reported_at = time.monotonic()
            report(total())
    return total()


def _worker(pipe: Pipe, share: _Share) -> None:
    """The body of a worker process: sends (finished, figures so far)."""
    os.setpgid(0, 0)  # the terminal's Ctrl-C goes to the parent, which passes it on
    stop = StopRequest()
    signal.signal(signal.SIGINT, lambda *_: stop.ask())
    signal.signal(signal.SIGTERM, lambda *_: stop.break_off())
    pipe.send((True, _work(share, lambda summary: pipe.send((False, summary)), stop)))
