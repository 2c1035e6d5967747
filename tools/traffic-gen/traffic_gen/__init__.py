"""traffic-gen: an SMTP and HTTP load generator for any mail server.

The package stands alone: nothing of kumo_py is imported.

    cli        the command line
    options    what a run may be asked for, checked
    engine     ``run(options) -> Summary``; worker processes
    reactor    one epoll loop; opens, paces and closes connections
    smtp       the SMTP session; http: the injection session; both on connection
    ledger     who may send which message next, and what became of it
    payload    the bytes of a message, built once
    throttle   the rate grammar and its GCRA
    histogram  latency percentiles in constant memory
    summary    the figures of a run, as text and JSON
    progress   bar, plain lines or nothing while it runs
"""
