"""What happens before and after every route: token, size limit, headers, time measurement."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable
from urllib.parse import unquote_to_bytes

import fastapi
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hrnn_jax.errors import InputError

from .error_responses import error_response
from .operation.prometheus import ServiceMetrics

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_POLICY = (
    "default-src 'self'; img-src 'self' data:{}; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def check_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """Return the names by which the service may be called, as requests are compared with them.

    Args:
        hosts: names or addresses, [::1] in brackets, with or without a port.

    Raises:
        InputError: one is no name of a host, so that no request could have it.
    """
    lower = [host.lower() for host in hosts]
    for host in lower:
        if not _HOST.fullmatch(host):
            raise InputError(
                f"--allowed_hosts={host!r}: give full names of hosts, without https:// and *, such "
                "as recommend.example.com or [::1]"
            )
    return frozenset(map(_without_port, lower))


class ServiceMiddleware:
    """ASGI middleware of the service."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: ServiceMetrics,
        token: bytes | None,
        open_paths: Collection[str],
        max_body_bytes: int,
        hosts: Collection[str] | None = None,
        image_hosts: Collection[str] = (),
    ):
        """Wrap an application.

        Args:
            app: the application.
            metrics: gets the time of each request.
            token: the bearer token that requests need; None if they need none.
            open_paths: the paths that need no token.
            max_body_bytes: the largest body, with or without a Content-Length.
            hosts: the names by which the service may be called, in lower case; None for any. A page
                of another host could otherwise have its own name lead here, and read and delete.
            image_hosts: from which the page may load pictures, as a content policy names them.
        """
        self._app = app
        self._metrics = metrics
        self._token = token
        self._open_paths = frozenset(open_paths)
        self._max_body_bytes = max_body_bytes
        self._hosts = hosts
        policy = _POLICY.format("".join(f" {host}" for host in image_hosts))
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; ASGI calls this."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, received = 500, 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise fastapi.HTTPException(
                    413, f"the body is larger than {self._max_body_bytes:,} bytes: send it in parts"
                )
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if scope["path"] not in self._open_paths:
                    headers["Cache-Control"] = "no-store"  # it may be about a person
            await send(message)

        app = self._app
        if not self._is_called_by_its_name(scope):
            reason = "the service does not answer under this host: see --allowed_hosts"
            app = error_response(421, reason)
        elif not self._is_allowed(scope):
            reason = "give the service's token, as in Authorization: Bearer TOKEN"
            app = error_response(401, reason, {"WWW-Authenticate": "Bearer"})
        elif not _is_utf8(scope):
            app = error_response(422, "the path or query is not percent-encoded UTF-8")
        with self._metrics.requests.time() as timer:
            try:
                await app(scope, receive_limited, send_with_headers)
            finally:
                # The route's pattern, never the path: clients could make up any number of those.
                route = getattr(scope.get("route"), "path", "none")
                timer.labels(scope["method"], route, status)

    def _is_called_by_its_name(self, scope: Scope) -> bool:
        if self._hosts is None:
            return True
        names = {_without_port(host) for host in Headers(scope=scope).getlist("host")}
        return len(names) == 1 and names <= {*self._hosts}

    def _is_allowed(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in self._open_paths:
            return True
        header = Headers(scope=scope).get("authorization", "")
        kind, _, token = header.partition(" ")
        # In constant time: the time must not show how much of a guess is right.
        is_token = hmac.compare_digest(token.encode("latin-1"), self._token)
        return is_token and kind.lower() == "bearer"


def _is_utf8(scope: Scope) -> bool:
    """Tell whether the path and query are UTF-8; else several ids would be read as one."""
    try:
        for part in scope.get("raw_path") or b"", scope["query_string"]:
            unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_port(host: str) -> str:
    """Return the name or address in a Host header, [::1] in brackets."""
    name, bracket, _ = host.partition("]")
    return (name + bracket if bracket else host.partition(":")[0]).lower().removesuffix(".")
