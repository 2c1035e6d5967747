"""Connections that only say EHLO."""

from __future__ import annotations

import socket
import threading

from mailbench.idle import open_connections

CONNECTIONS = 3


def test_those_that_are_refused_do_not_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for number in range(CONNECTIONS):
                client, _ = listener.accept()
                with client:
                    if number == 1:
                        client.sendall(b"421 busy\r\n")
                        continue
                    client.sendall(b"220-two\r\n")
                    client.sendall(b"220 lines\r\n")
                    assert client.recv(100) == b"EHLO client.test\r\n"
                    client.sendall(b"250-bench.test\r\n250 PIPELINING\r\n")

        server = threading.Thread(target=serve)
        server.start()
        clients = open_connections(listener.getsockname()[1], CONNECTIONS)
        server.join()
    assert len(clients) == CONNECTIONS - 1
    for client in clients:
        client.close()
