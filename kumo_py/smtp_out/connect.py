"""The way to a host: a TCP connection from the source's address, straight or through its proxy.

A proxy is told where to go by a header of the PROXY protocol (HAProxy), which it does not answer, or by SOCKS 5. Its
name is looked up for each connection, and its addresses are tried in turn. What shows that the source itself cannot
be used is reported to `SourceHealth`. `connect_timeout` covers all of it.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import trio

from kumo_py.dns import DnsError
from kumo_py.dns.names import parse_literal, split_port
from kumo_py.logs import SourceAddress
from kumo_py.net.transport import SocketTransport, format_address
from kumo_py.proto.proxy import build_v2
from kumo_py.proto.socks5 import BindRefused, Login, Socks5Error, negotiate
from kumo_py.queue.source_health import Ailment
from kumo_py.smtp_out.connection import ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kumo_py.dns import HostAddress
    from kumo_py.queue.config import EgressPath, EgressSource
    from kumo_py.queue.queues import Queues

Endpoint = tuple[str, int]


class Unplumbed(ConnectionFailed):
    """The source's address is not one of this machine."""

    advice = "every attempt failed because source_address is not an address of this machine: "


class ProxyUnreachable(ConnectionFailed):
    """The proxy refuses connections, or does not answer."""

    advice = "every attempt failed because the proxy cannot be reached: "


class ProxyUnplumbed(ConnectionFailed):
    """The proxy cannot use the address that it was asked to send from."""

    advice = "every attempt failed because the proxy cannot send from the source's address: "


async def connect(
    queues: Queues, host: HostAddress, source: EgressSource, path: EgressPath
) -> tuple[SocketTransport, SourceAddress]:
    """The connection, and where the host sees it come from. Raises ConnectionFailed."""
    destination = (host.addr, source.remote_port or host.port or path.smtp_port)
    where = f"connect to {host.name}/{host.addr}:{destination[1]}"
    if queues.source_health.rests_for(source.name) > 0.0:
        raise ConnectionFailed(f"{where}: source {source.name} is suspended")
    attempt = _Attempt(queues, source, destination)
    try:
        with trio.move_on_after(path.connect_timeout):
            return await attempt.run()
        text = f"{attempt.doing}timed out after {path.connect_timeout:g}s"
        raise ProxyUnreachable(text) if attempt.reaching_proxy else ConnectionFailed(text)
    except ConnectionFailed as err:
        if isinstance(err, ProxyUnreachable):
            queues.source_health.proxy_failures += 1
        if isinstance(err, Unplumbed):
            queues.source_health.report(source, Ailment.UNPLUMBED)
        elif isinstance(err, ProxyUnreachable | ProxyUnplumbed):
            queues.source_health.report(source, Ailment.PROXY_UNHEALTHY)
        raise type(err)(f"{where}: {err}") from err


class _Attempt:
    """One connection in the making."""

    def __init__(self, queues: Queues, source: EgressSource, destination: Endpoint) -> None:
        self._queues = queues
        self._source = source
        self._destination = destination
        self.doing = ""
        """What an error's text begins with: which proxy, which step."""
        self.reaching_proxy = False

    async def run(self) -> tuple[SocketTransport, SourceAddress]:
        """Raises ConnectionFailed."""
        source = self._source
        for protocol, server, address in (
            ("haproxy", source.ha_proxy_server, source.ha_proxy_source_address),
            ("socks5", source.socks5_proxy_server, source.socks5_proxy_source_address),
        ):
            if server is not None and address is not None:
                return await self._through(protocol, server, address)
        sock = await self._open(self._destination)
        transport = SocketTransport(sock)
        return transport, SourceAddress(transport.local)

    async def _open(self, address: Endpoint) -> socket.socket:
        """Raises ConnectionFailed."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as err:  # no descriptors left, or no such family here
            raise ConnectionFailed(f"{self.doing}{err.strerror}") from err
        try:
            sock.setblocking(False)
            self._bind(sock, family)
            self.reaching_proxy = bool(self.doing)
            try:
                sock.connect(address)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code)) from None
            self.reaching_proxy = False
            return sock
        except OSError as err:
            sock.close()
            failure = ProxyUnreachable if self.reaching_proxy else ConnectionFailed
            raise failure(f"{self.doing}{err.strerror}") from err
        except BaseException:
            sock.close()
            raise

    def _bind(self, sock: socket.socket, family: int) -> None:
        address = self._source.source_address
        if address is None:
            return
        if (":" in address) != (family == socket.AF_INET6):
            raise ConnectionFailed(f"{self.doing}source_address {address} is of the other IP version")
        try:
            sock.bind((address, 0))
        except OSError as err:
            self._queues.source_health.bind_failures += 1
            failure = Unplumbed if err.errno == errno.EADDRNOTAVAIL else ConnectionFailed
            raise failure(f"{self.doing}bind {address}: {err.strerror}") from err

    # -- proxies -----------------------------------------------------------------------------------
    async def _through(
        self, protocol: str, server: str, address: str
    ) -> tuple[SocketTransport, SourceAddress]:
        """Raises ConnectionFailed."""
        option = "ha_proxy" if protocol == "haproxy" else "socks5_proxy"
        if (":" in address) != (":" in self._destination[0]):
            raise ConnectionFailed(f"{option}_source_address {address} is of the other IP version")
        login = await self._login() if protocol == "socks5" else None
        failures: list[ConnectionFailed] = []
        for proxy in await self._proxies(server, f"{option}_server"):
            self.doing = f"via {protocol} {format_address(proxy)}: "
            try:
                sock = await self._open(proxy)
                try:
                    if protocol == "haproxy":
                        sock.send(build_v2((address, 0), self._destination))
                        seen_as = (address, 0)
                    else:
                        seen_as = await self._socks5(sock, address, login)
                    transport = SocketTransport(sock)
                except BaseException:
                    sock.close()
                    raise
                return transport, SourceAddress(format_address(seen_as), format_address(proxy), protocol)
            except ConnectionFailed as err:
                failures.append(err)
            except OSError as err:
                failures.append(ConnectionFailed(f"{self.doing}{err.strerror}"))
        raise _together(failures)

    async def _proxies(self, server: str, option: str) -> list[Endpoint]:
        """The proxy's addresses that can be reached from the source's. Raises ConnectionFailed."""
        name, port = split_port(server)
        if port is None:  # above 65535
            raise ConnectionFailed(f"{option} {server} has no valid port")
        self.doing = f"looking up {option} {server}: "
        try:
            addresses = [parse_literal(name)]
        except ValueError:
            try:
                addresses = [item.addr for item in await self._queues.resolver.lookup_addresses(name)]
            except DnsError as err:
                raise ConnectionFailed(f"{self.doing}{err}") from err
        bound = self._source.source_address
        usable = [item for item in addresses if bound is None or (":" in item) == (":" in bound)]
        if not usable:
            wanted = "" if bound is None else f" of the IP version of source_address {bound}"
            raise ConnectionFailed(f"{self.doing}it has no address{wanted}")
        return [(item, port) for item in usable]

    async def _login(self) -> Login | None:
        """Raises ConnectionFailed."""
        source = self._source
        if source.socks5_proxy_username is None or source.socks5_proxy_password is None:
            return None
        self.doing = "reading socks5_proxy_password: "
        try:
            password = await self._queues.policy.load_key(source.socks5_proxy_password)
        except (OSError, ValueError, KeyError) as err:
            raise ConnectionFailed(f"{self.doing}{err}") from err
        return Login(source.socks5_proxy_username.encode(), password)

    async def _socks5(self, sock: socket.socket, address: str, login: Login | None) -> Endpoint:
        """Where the connection comes from. Raises ConnectionFailed or OSError."""
        steps = negotiate(address, self._destination, login)
        try:
            request, count = next(steps)
            while True:
                if request:
                    sock.send(request)  # always fits into the empty buffer
                request, count = steps.send(await self._exactly(sock, count))
        except StopIteration as done:
            bound: Endpoint = done.value
            return bound
        except BindRefused as err:
            raise ProxyUnplumbed(f"{self.doing}{err}") from err
        except (Socks5Error, ValueError) as err:
            raise ConnectionFailed(f"{self.doing}{err}") from err

    async def _exactly(self, sock: socket.socket, count: int) -> bytes:
        """So many octets and no more: what follows them is the host's. Raises ConnectionFailed or OSError."""
        data = b""
        while len(data) < count:
            await trio.lowlevel.wait_readable(sock)
            try:
                chunk = sock.recv(count - len(data))
            except BlockingIOError:
                continue
            if not chunk:
                raise ConnectionFailed(f"{self.doing}the proxy closed the connection")
            data += chunk
        return data


def _together(failures: Sequence[ConnectionFailed]) -> ConnectionFailed:
    """One failure for those of all addresses of a proxy."""
    first = failures[0]
    text = "; ".join(map(str, failures))
    for kind in (Unplumbed, ProxyUnplumbed):
        if all(isinstance(failure, kind) for failure in failures):
            return kind(text)
    if any(isinstance(failure, ProxyUnreachable | ProxyUnplumbed) for failure in failures):
        return ProxyUnreachable(text)
    return first if len(failures) == 1 else ConnectionFailed(text)


def advice(failures: Sequence[ConnectionFailed]) -> str:
    """What to say first when no host could be reached: the cause that they have in common, or nothing."""
    kinds = {type(failure) for failure in failures}
    return kinds.pop().advice if len(kinds) == 1 else ""
