"""A node's HTTP API, as the commands of an operator reach it; and the option that says where it is."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx

F = TypeVar("F", bound="Callable[..., Any]")

DEFAULT = "http://127.0.0.1:8000"
TIMEOUT = 60.0
"""Seconds that a node has to answer."""


class Endpoint:
    """Raises click.ClickException for whatever goes wrong; its text is for the operator."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._client: httpx.Client | None = None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Requests in the `with` block share a connection: each costs a millisecond instead of seventeen."""
        import httpx

        with httpx.Client() as self._client:
            try:
                yield
            finally:
                self._client = None

    def get(self, path: str) -> Any:  # noqa: ANN401  JSON
        return self._json(self.request("GET", path))

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401  JSON
        return self._json(self.request("POST", path, body))

    def text(self, method: str, path: str, body: object = None) -> str:
        """What the node says, or OK if it has nothing to say."""
        return self.request(method, path, body).text or "OK"

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        accept: tuple[int, ...] = (),
        timeout: float = TIMEOUT,
    ) -> httpx.Response:
        """The response, if it is of status 200 or of one to `accept`."""
        import httpx  # takes a tenth of a second, which `serve` needs not spend

        url = self.url + path
        try:
            request = httpx.request if self._client is None else self._client.request
            response = request(method, url, json=body, timeout=timeout)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as err:
            raise no_url(self.url, err) from None
        except httpx.TimeoutException:
            raise click.ClickException(f"{method} {url}: no answer within {timeout:g}s") from None
        except httpx.HTTPError as err:
            raise unreachable(f"{method} {url}", err) from None
        if response.status_code == 200 or response.status_code in accept:
            return response
        raise refused(f"{method} {url}", response.status_code, response.text)

    def lines(self, method: str, path: str, query: Mapping[str, str]) -> Iterator[str]:
        """The lines of a response, as they come."""
        import httpx

        url = self.url + path
        try:
            with httpx.stream(method, url, params=query, timeout=TIMEOUT) as response:
                if response.status_code != 200:
                    raise refused(
                        f"{method} {url}", response.status_code, response.read().decode(errors="replace")
                    )
                yield from response.iter_lines()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as err:
            raise no_url(self.url, err) from None
        except httpx.HTTPError as err:
            raise unreachable(f"{method} {url}", err) from None

    def _json(self, response: httpx.Response) -> Any:  # noqa: ANN401
        try:
            return response.json()
        except ValueError:
            url = response.request.url
            raise click.ClickException(
                f"{url}: this is no answer of a node: {printable(response.text[:200])}"
            ) from None


def no_url(url: str, err: Exception) -> click.ClickException:
    """For what is no URL of a node."""
    return click.ClickException(f"'{url}' is no URL of a node, such as {DEFAULT}: {err}")


def unreachable(request: str, err: Exception) -> click.ClickException:
    """Where nobody answers."""
    return click.ClickException(
        f"{request}: {err}. Does the node run, with kumo.start_http_listener in its init event? "
        "--endpoint or KUMO_KCLI_ENDPOINT say where"
    )


def refused(request: str, status: int, text: str) -> click.ClickException:
    """Where the node says no."""
    hint = "; the listener's trusted_hosts say who may" if status == 401 else ""
    return click.ClickException(f"{request}: {status} {printable(text)}{hint}")


def endpoint_option(command: F, envvar: str | None = None) -> F:
    """Gives a command the argument `endpoint`: as given with it, or before its name as for kcli, or the default."""

    def choose(ctx: click.Context, _: click.Parameter, url: str | None) -> Endpoint:
        if url is not None:
            ctx.obj = Endpoint(url)
        return ctx.find_object(Endpoint) or Endpoint(DEFAULT)

    return click.option(
        "--endpoint",
        metavar="URL",
        callback=choose,
        envvar=envvar,
        expose_value=envvar is None,
        help=f"Where the node's HTTP listener is: $KUMO_KCLI_ENDPOINT, or else {DEFAULT}.",
    )(command)


def global_endpoint_option(command: F) -> F:
    """For the command that has all others, and no argument for it. So the environment never wins over an option."""
    return endpoint_option(command, "KUMO_KCLI_ENDPOINT")


def printable(text: str) -> str:
    """What others have chosen, for a terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
